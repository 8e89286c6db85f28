"""Fetch web images politely and safely: every URL ends with a status, and no URL reaches an address
it should not.

Chapter: pub11. The paper does not tell how the images were fetched. Environment proxies
(`HTTP_PROXY`, ...) are never used: a proxy resolves names itself, so nobody could check the
address.
"""

import contextlib
import heapq
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue

from rs5m.web.limits import LIMITS, Limits
from rs5m.web.lines import Lines
from rs5m.web.task import Fetched, Task, begin, step

AHEAD = 20_000  # URLs that may wait for their hosts


def fetch(url: str, limits: Limits = LIMITS, body: Callable | None = None) -> Fetched:
    """Get one URL; whatever the network does comes back as a status, never as an exception.

    ok, bad_url, bad_redirect, too_many_redirects, refused_address, dns_failure, connection_error,
    connection_reset, timeout, tls_error, http_<code>, opt_out, too_large, empty, incomplete_body,
    bad_encoding, bad_response. 429, 5xx and broken connections are tried again: exponential
    back-off, jitter from the URL (so the same each run), and Retry-After up to `max_wait`.
    `limits.timeout` covers one attempt with all its redirects. body: as in `request.get`.
    """
    task = begin(0, url, limits)
    with contextlib.closing(Lines()) as lines:
        while not task.result:
            time.sleep(step(task, limits, lines, body))
    return task.result


def fetch_many(
    urls: Iterable[str], limits: Limits = LIMITS, workers: int = 64, window: int = 256
) -> Iterator[tuple[int, Fetched]]:
    """Fetch with threads: the place of a URL in `urls` and its result, in the order in which they
    come.

    A host has at most `limits.per_host` requests open at a time, redirects counted. Its other URLs,
    and those that wait to be tried again, hold no thread. A host that lets `limits.silent` requests
    in a row go without an answer in time, the last of them asked after the others had failed, is
    given up: its remaining URLs end as dead_host, unasked. A network that is down is no host's
    fault: a request does not count if no host answered while it was open, and another one that had
    answered before is silent, too.

    Args:
        urls: read lazily, at most `AHEAD` ahead of their results.
        limits: what one URL may cost, and one host bear.
        workers: threads, so requests open at a time.
        window: results that are held, read or being read: at most `window * max_bytes` bytes.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    crawl, source, more = _Crawl(limits, workers, window), enumerate(urls), True
    try:
        while more or crawl.outstanding:
            while more and crawl.outstanding < AHEAD and crawl.results.empty():
                more = crawl.add(next(source, None))
            if crawl.outstanding:
                yield crawl.read()
    finally:
        crawl.close()


@dataclass
class _Host:
    """The requests of one host: waiting, open; those in a row without an answer, and when the last
    of them failed.
    """

    waiting: deque = field(default_factory=deque)
    active: int = 0
    silent: int = 0
    failed: float = 0.0
    again: bool = False  # one of the silent ones began after another had failed
    rank: int = 0  # under which it is ready, 0 where it is not


class _Crawl:
    """What the threads of `fetch_many` share; all of it changes under `change`."""

    def __init__(self, limits: Limits, workers: int, window: int):
        self.limits, self.workers, self.window = limits, workers, window
        self.lines, self.change, self.closed = Lines(), threading.Condition(), False
        self.hosts, self.dead = defaultdict(_Host), set()
        self.ready, self.ticks = [], count()  # hosts to be asked, those with most URLs first
        self.later = []  # tasks to be tried again
        self.results, self.outstanding, self.held = SimpleQueue(), 0, 0
        self.threads = self.idle = 0
        # hosts that have answered, when the last one did, and when which of them did not
        self.heard, self.answered, self.doubt = set(), -math.inf, {}

    def add(self, item: tuple[int, str] | None) -> bool:
        """Let a URL in; False after the last."""
        if item is None:
            return False
        self.outstanding += 1
        task = begin(*item, self.limits)
        with self.change:
            self._queue(task)
            self._wake()
        return True

    def read(self) -> tuple[int, Fetched]:
        """The next result; raises what a thread met by a fault of ours."""
        task = self.results.get()
        if isinstance(task, BaseException):
            raise task
        self.outstanding -= 1
        with self.change:
            self.held -= 1
            self._wake()
        return task.place, task.result

    def close(self) -> None:
        """Let the threads end; requests that are open run out, and nobody waits for them."""
        with self.change:
            self.closed = True
            self.change.notify_all()
        self.lines.close()

    def _queue(self, task: Task) -> None:
        if not task.result and task.host in self.dead:
            task.end("dead_host")
        if task.result:
            self.held += 1
            self.results.put(task)
            return
        self.hosts[task.host].waiting.append(task)
        self._offer(task.host)

    def _wake(self) -> None:
        """Wake or start a thread where there is work for one; it wakes the next one."""
        if not self.ready or self.held >= self.window:
            return
        if self.idle:
            self.change.notify()
        elif self.threads < self.workers:
            self.threads += 1
            threading.Thread(target=self._work, daemon=True).start()

    def _offer(self, name: str) -> None:
        """A host that has a URL and a free place is ready; one under suspicion has one place.

        Hosts with twice as many URLs come first, since a host that is left over keeps only its own
        few places busy.
        """
        host = self.hosts[name]
        rank = len(host.waiting).bit_length()
        if self._free(host) and rank > host.rank:
            host.rank = rank
            heapq.heappush(self.ready, (-rank, next(self.ticks), name))
        if not host.waiting and not host.active and not host.silent:
            del self.hosts[name]

    def _free(self, host: _Host) -> bool:
        return bool(host.waiting) and host.active < (1 if host.silent else self.limits.per_host)

    def _take(self) -> tuple | None:
        """The next task, its host and the time, None at the end."""
        with self.change:
            while not self.closed:
                now = time.monotonic()
                while self.later and self.later[0][0] <= now:
                    self._queue(heapq.heappop(self.later)[2])
                if self.ready and self.held < self.window:
                    if taken := self._begin(heapq.heappop(self.ready), now):
                        self._wake()
                        return taken
                    continue
                self.idle += 1
                self.change.wait(self.later[0][0] - now if self.later else None)
                self.idle -= 1
        return None

    def _begin(self, entry: tuple[int, int, str], now: float) -> tuple | None:
        rank, _, name = entry
        host = self.hosts.get(name)
        if not host or host.rank != -rank:  # it has become ready under another rank since
            return None
        host.rank = 0
        if not self._free(host):  # it has come under suspicion, or was given up
            return self._offer(name)
        task = host.waiting.popleft()
        host.active += 1
        self.held += 1
        self._offer(name)
        return task, name, now

    def _work(self) -> None:
        while taken := self._take():
            task, name, since = taken
            try:
                wait = step(task, self.limits, self.lines)
                with self.change:
                    self._judge(name, task.silent, since)
                    self._done(task, name, wait)
            except BaseException as error:  # a fault of ours: the reader must not wait for ever
                self.results.put(error)
                return

    def _done(self, task: Task, name: str, wait: float) -> None:
        self.held -= 1
        self.hosts[name].active -= 1
        if wait > 0 and not task.result:
            heapq.heappush(self.later, (time.monotonic() + wait, task.place, task))
            self.change.notify()
        else:
            self._queue(task)
        if name in self.hosts:
            self._offer(name)

    def _judge(self, name: str, silent: bool, since: float) -> None:
        """Count an answer or its absence for a host, and give it up where that is due."""
        host, now = self.hosts[name], time.monotonic()
        if not silent:
            self.answered = now
            self.heard.add(name)
            self.doubt.pop(name, None)
            host.silent, host.again = 0, False
            return
        old = since - self.limits.timeout
        self.doubt = {other: when for other, when in self.doubt.items() if when > old}
        if name in self.heard:
            self.doubt[name] = now
        if self.answered < since and self.doubt.keys() - {name}:
            host.silent, host.again = 0, False
            return
        host.again = host.again or (host.silent > 0 and since >= host.failed)
        host.silent, host.failed = host.silent + 1, now
        if host.silent >= self.limits.silent and host.again:
            self.dead.add(name)
            while host.waiting:
                self._queue(host.waiting.popleft())
