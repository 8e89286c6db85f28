"""Fetch web images politely and safely: every URL ends with a status, and no URL reaches an address
it should not.

Chapter: pub11. The paper does not tell how the images were fetched. Environment proxies
(`HTTP_PROXY`, ...) are never used: a proxy resolves names itself, so nobody could check the
address. One connection a request, closed after it.
"""

import contextlib
import email.utils
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from rs5m.web.request import FAULTS, LIMITS, Limits, get, status_of
from rs5m.web.urls import normalise, opted_out, refused

__all__ = ["Fetched", "Limits", "fetch", "fetch_many", "normalise", "opted_out", "refused"]


@dataclass(frozen=True)
class Fetched:
    """How a URL ended: `status` is "ok" or a reason, `url` the last one asked, `content` None
    unless ok.
    """

    status: str
    content: bytes | None
    url: str
    http_status: int | None = None
    attempts: int = 0


def fetch(url: str, limits: Limits = LIMITS, body: Callable | None = None) -> Fetched:
    """Get one URL; whatever the network does comes back as a status, never as an exception.
    Chapter: pub11.

    ok, bad_url, bad_redirect, too_many_redirects, refused_address, dns_failure, connection_error,
    connection_reset, timeout, tls_error, http_<code>, opt_out, too_large, empty, incomplete_body,
    bad_encoding, bad_response. 429, 5xx and broken connections are tried again: exponential
    back-off, jitter from the URL (so the same each run), and Retry-After up to `max_wait`.
    `limits.timeout` covers one attempt with all its redirects. body: as in `request.get`.
    """
    return _fetch(url, limits, contextlib.nullcontext, body)


def fetch_many(
    urls: Iterable[str], limits: Limits = LIMITS, workers=32, window=256
) -> Iterator[Fetched]:
    """Fetch with threads, results in the order of `urls`; a host has at most `limits.per_host`
    requests open at a time.

    URLs of a busy host wait in its own queue, not in a thread. `urls` is read lazily: at most
    `window` results (so `window * max_bytes` bytes) are held. The bound counts redirects, and holds
    within one call.
    """
    gate, lock = _gate(limits.per_host), threading.Lock()
    waiting, active = defaultdict(deque), Counter()
    pool, order = ThreadPoolExecutor(max(1, workers)), deque()

    def start(host):
        while waiting[host] and active[host] < limits.per_host:
            active[host] += 1
            pool.submit(run, host, *waiting[host].popleft())
        if not active[host]:
            del active[host], waiting[host]

    def run(host, url, future):
        try:
            future.set_result(_fetch(url, limits, gate))
        except BaseException as error:  # a fault of ours: the reader must not wait for ever
            future.set_exception(error)
        with lock:
            active[host] -= 1
            start(host)

    def add(url):
        future, host = Future(), urlsplit(normalise(url) or "").hostname
        with lock:
            waiting[host].append((url, future))
            start(host)
        return future

    try:
        for url in urls:
            order.append(add(url))
            if len(order) >= window:
                yield order.popleft().result()
        while order:
            yield order.popleft().result()
    finally:
        with lock:
            waiting.clear()
        pool.shutdown(cancel_futures=True)


def _gate(width: int):
    busy, free = Counter(), threading.Condition()

    @contextlib.contextmanager
    def hold(host):
        with free:
            free.wait_for(lambda: busy[host] < width)
            busy[host] += 1
        try:
            yield
        finally:
            with free:
                busy[host] -= 1
                if not busy[host]:
                    del busy[host]
                free.notify_all()

    return hold


def _fetch(url: str, limits: Limits, gate, body: Callable | None = None) -> Fetched:
    start = normalise(url)
    if start is None:
        return Fetched("bad_url", None, url if isinstance(url, str) else "")
    for attempt in range(limits.retries + 1):
        result, asked = _follow(start, limits, gate, body)
        if attempt == limits.retries or not _worth_another(result.status):
            return replace(result, attempts=attempt + 1)
        jitter = 1 + random.Random(f"{start} {attempt}").random()
        time.sleep(min(max(limits.backoff * 2**attempt * jitter, asked), limits.max_wait))
    raise AssertionError("the last attempt returns")


def _worth_another(status: str) -> bool:
    return status in ("connection_reset", "incomplete_body", "http_429") or status.startswith(
        "http_5"
    )


def _follow(url: str, limits: Limits, gate, body: Callable | None) -> tuple[Fetched, float]:
    """One attempt with its redirects: the result, and the seconds that the server asks to wait."""
    left = (
        limits.timeout
    )  # waiting for a free place at a host is not the host's fault: only open connections count
    for _ in range(limits.redirects + 1):
        with gate(urlsplit(url).hostname):
            since = time.monotonic()
            try:
                code, headers, status, content = get(url, limits, left, body)
            except FAULTS as error:
                return Fetched(
                    status_of(error), None, url, getattr(error, "http_status", None)
                ), 0.0
            left -= time.monotonic() - since
        if status != "redirect":
            return Fetched(status, content, url, code), _retry_after(headers)
        there = normalise(urljoin(url, _text(headers["Location"])))
        if there is None:
            return Fetched("bad_redirect", None, url, code), 0.0
        url = there
    return Fetched("too_many_redirects", None, url, code), 0.0


def _text(header: str) -> str:
    with contextlib.suppress(UnicodeError):
        return header.encode("latin-1").decode()  # servers send UTF-8 where the standard says ASCII
    return header


def _retry_after(headers) -> float:
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
