"""One URL on its way through requests, redirects and further attempts. Chapter: pub11."""

import contextlib
import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

from rs5m.web.limits import FAULTS, Limits, Silent, status_of
from rs5m.web.lines import Lines
from rs5m.web.request import get
from rs5m.web.urls import normalise


@dataclass(frozen=True)
class Fetched:
    """How a URL ended: `status` is "ok" or a reason, `url` the last one asked, `content` None
    unless ok, `seconds` those of its requests.
    """

    status: str
    content: bytes | None
    url: str
    http_status: int | None = None
    attempts: int = 0
    seconds: float = field(default=0.0, compare=False)


@dataclass
class Task:
    """A URL on its way: the one asked next, and what it has cost."""

    place: int
    start: str
    url: str
    left: float
    attempt: int = 0
    hops: int = 0
    seconds: float = 0.0
    silent: bool = False
    result: Fetched | None = None

    @property
    def host(self) -> str:
        """The host that is asked next, "" for none."""
        return urlsplit(self.url).hostname or ""

    def end(self, status: str) -> None:
        """Give it up: its result is `status`, without content."""
        self.result = Fetched(status, None, self.url, None, self.attempt, self.seconds)


def begin(place: int, url: str, limits: Limits) -> Task:
    """The task of a URL; one that is hopeless has its result."""
    start = normalise(url)
    task = Task(place, start, start or (url if isinstance(url, str) else ""), limits.timeout)
    if start is None:
        task.end("bad_url")
    return task


def step(task: Task, limits: Limits, lines: Lines, body: Callable | None = None) -> float:
    """One request: the task gets its result, or its next URL; the seconds to wait before that.

    Args:
        task: changed in place; one that has its result is left alone.
        limits: of a request.
        lines: the connections.
        body: as in `rs5m.web.request.get`.
    """
    if task.result:
        return 0.0
    since, asked, task.silent = time.monotonic(), 0.0, False
    try:
        code, headers, status, content = get(task.url, limits, task.left, lines, body)
    except FAULTS as error:
        task.silent = isinstance(error, Silent)
        http_status = getattr(error, "http_status", None)
        result = Fetched(status_of(error), None, task.url, http_status)
    else:
        result, asked = Fetched(status, content, task.url, code), _retry_after(headers)
    spent = time.monotonic() - since
    task.seconds, task.left = task.seconds + spent, task.left - spent
    if result.status == "redirect":
        result = _redirected(task, result, headers["Location"], limits)
        if result is None:
            return 0.0
    if task.attempt < limits.retries and _worth_another(result.status):
        jitter = 1 + random.Random(f"{task.start} {task.attempt}").random()
        wait = min(max(limits.backoff * 2**task.attempt * jitter, asked), limits.max_wait)
        task.url, task.left, task.hops = task.start, limits.timeout, 0
        task.attempt += 1
        return wait
    task.result = replace(result, attempts=task.attempt + 1, seconds=task.seconds)
    return 0.0


def _redirected(task: Task, result: Fetched, location: str, limits: Limits) -> Fetched | None:
    """Send a task to another URL, or say why not."""
    there = normalise(urljoin(task.url, _text(location)))
    if there is None:
        return replace(result, status="bad_redirect")
    task.hops += 1
    if task.hops > limits.redirects:
        return replace(result, status="too_many_redirects")
    task.url = there
    return None


def _worth_another(status: str) -> bool:
    return status in ("connection_reset", "incomplete_body", "http_429") or status.startswith(
        "http_5"
    )


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
