"""One HTTP request to one checked address, under a cap of bytes and a deadline. `rs5m.web` builds
on it. Chapter: pub11.

A connection is kept for the next request to the same scheme, host, port and checked address. Every
read has the time that is left until the deadline, so nothing needs to watch it.

aiohttp 3.14 was tried in the place of this module and of the threads, and not taken. Its pool knows
a host by name, not by checked address, and only its private methods let anybody look at the peer
before a request is sent. Seven of 31 faults of the tests ended otherwise: a body cut short and a
broken encoding look the same, and a reset connection is asked again unseen. It took as much
processor time (0.8 to 1.0 s for 1,536 URLs, against 0.9 s), and queues by host, limits and statuses
would have stayed ours.
"""

import contextlib
import functools
import http.client
import io
import ipaddress
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from urllib3 import exceptions as faults
from urllib3.connection import HTTPConnection, HTTPSConnection

from rs5m.web.urls import PORTS, opted_out, refused


@dataclass(frozen=True)
class Limits:
    """What one URL may cost, in bytes and seconds; `timeout` covers one attempt with all its
    redirects.
    """

    max_bytes: int = 20_000_000
    timeout: float = 10.0
    stalled: float = math.inf  # without a byte
    connect: float = 5.0
    retries: int = 2
    backoff: float = 0.5
    max_wait: float = 10.0
    per_host: int = 4
    silent: int = 3  # requests in a row without an answer in time: then a host is given up
    redirects: int = 5
    allow_loopback: bool = False
    user_agent: str = "rs5m/0.1 (image-text dataset builder; honours X-Robots-Tag)"

    def __post_init__(self):
        least = {"per_host": 1, "silent": 1, "max_bytes": 1, "retries": 0, "redirects": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}: name {bound} or more")
        if not self.timeout > 0:  # NaN, too
            raise ValueError(f"timeout is {self.timeout}: name a number of seconds above 0")


LIMITS = Limits()
FRESH, KNOWN = 300.0, 10_000  # seconds that an address is taken for known; hosts
KEPT, DRAINED = 256, 65536  # idle connections; bytes read from a refusal to keep its connection
RESOLVERS = 64  # threads that ask for addresses


class _Timed(io.RawIOBase):
    """Reads of a socket until the deadline, none longer than `stalled` without a byte: a server
    may drip.
    """

    def __init__(self, sock, end: float, stalled: float):
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._end, self._stalled = end, stalled

    def makefile(self, _mode: str):
        """What http.client asks a socket for."""
        return io.BufferedReader(self, 65536)

    def readable(self):
        return True

    def readinto(self, buffer):
        self._sock.settimeout(_left(self._end, self._stalled))
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


def _left(end: float, most: float) -> float:
    """Seconds until the deadline, at most `most`; TimeoutError when there are none."""
    left = min(end - time.monotonic(), most)
    if left <= 0:
        raise TimeoutError
    return left


class _Response(http.client.HTTPResponse):
    """The answer behind interim ones: http.client passes over 100 alone, servers send 103 too."""

    def __init__(self, sock, *args, end: float, stalled: float, **kwargs):
        super().__init__(_Timed(sock, end, stalled), *args, **kwargs)

    def _read_status(self):
        line = super()._read_status()
        while 100 <= line[1] < 200 and line[1] != http.HTTPStatus.SWITCHING_PROTOCOLS:
            http.client.parse_headers(self.fp)
            line = super()._read_status()
        return line


class Stop(Exception):
    """Ends an attempt with a status."""

    def __init__(self, status, http_status=None):
        super().__init__(status)
        self.status, self.http_status = status, http_status


class Silent(TimeoutError):
    """No answer in time, not even a status: of the resolver, of the address or of the server."""


FAULTS = (Stop, OSError, http.client.HTTPException, faults.HTTPError, ValueError)
STATUS_OF = (  # the first that fits
    (faults.NewConnectionError, "connection_error"),  # urllib3 makes it a kind of time-out
    ((TimeoutError, faults.TimeoutError), "timeout"),
    (socket.gaierror, "dns_failure"),
    ((ssl.SSLError, faults.SSLError), "tls_error"),
    (faults.DecodeError, "bad_encoding"),
    (
        (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, faults.ProtocolError),
        "connection_reset",
    ),
    (OSError, "connection_error"),
)


def status_of(error: Exception) -> str:
    """The status that stands for one of FAULTS."""
    if isinstance(error, Stop):
        return error.status
    return next((status for kinds, status in STATUS_OF if isinstance(error, kinds)), "bad_response")


def get(
    url: str, limits: Limits, seconds: float, lines: "Lines", body: Callable | None = None
) -> tuple[int, Mapping, str, bytes | None]:
    """One request: HTTP status, headers, our status, content; raises one of FAULTS.

    Args:
        url: as `normalise` spells it.
        limits: of bytes and seconds.
        seconds: that are left of the attempt.
        lines: where connections come from and go to.
        body: may take the answer elsewhere than into memory: (reply, limits) to our status and
            content.
    """
    end, parts = time.monotonic() + seconds, urlsplit(url)
    key, line, reply = _answer(parts, limits, end, lines)
    try:
        if reply.status in (301, 302, 303, 307, 308) and "Location" in reply.headers:
            got = "redirect", None
        elif not 200 <= reply.status < 300 or reply.status == http.HTTPStatus.PARTIAL_CONTENT:
            got = f"http_{reply.status}", None
        else:
            got = (body or _body)(reply, limits)
        rest = reply.length_remaining
        if line.sock and not reply.closed and rest is not None and rest <= DRAINED:
            with contextlib.suppress(*FAULTS):
                reply.drain_conn()
        if line.sock and reply.closed:
            lines.give(key, line)
            line = None
        return reply.status, reply.headers, *got
    finally:
        if line:
            reply.close()
            line.close()


def _answer(parts: SplitResult, limits: Limits, end: float, lines: "Lines") -> tuple:
    """Where a line belongs, the line, and its answer up to the body; Silent where none comes."""
    headers = {"Host": parts.netloc, "User-Agent": limits.user_agent, "Accept": "image/*,*/*;q=0.5"}
    headers |= {"Accept-Encoding": "identity"}
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    while True:
        line = None
        try:
            key, line, used = lines.take(parts, limits, end)
            line.timeout = _left(end, limits.stalled)
            line.sock.settimeout(line.timeout)
            line.response_class = functools.partial(_Response, end=end, stalled=limits.stalled)
            line.request("GET", target, headers=headers, preload_content=False)
            return key, line, line.getresponse()
        except FAULTS as error:
            if line:
                line.close()
                if used and isinstance(error, ConnectionError):
                    continue  # the server closed it while it lay idle
            if status_of(error) == "timeout":
                raise Silent from error
            raise


class Lines:
    """The connections of one crawl that wait for a next request, and the addresses of its hosts.

    Safe for threads. getaddrinfo has no time-out: it is asked in a few threads that die with the
    process, so that a resolver that hangs holds nobody else.
    """

    def __init__(self):
        self._lock, self._closed = threading.Lock(), False
        self._idle: dict[tuple, list] = {}
        self._names: dict[tuple, tuple[float, Future]] = {}
        self._questions, self._resolvers, self._free = queue.SimpleQueue(), 0, 0

    def close(self) -> None:
        """Hang up, and keep no connection from now on."""
        with self._lock:
            self._closed = True
            for line in sum(self._idle.values(), []):
                line.close()
            self._idle.clear()
            for _ in range(self._resolvers):
                self._questions.put(None)

    def take(self, parts: SplitResult, limits: Limits, end: float) -> tuple:
        """Where a connection to a checked address belongs, the connection, and whether it was used
        before; raises one of FAULTS.
        """
        port = parts.port or PORTS[parts.scheme]
        addresses = self._addresses(parts.hostname, port, end)
        if any(refused(address, limits.allow_loopback) for address in addresses):
            raise Stop("refused_address")  # one of several, too: a mixed answer is a trick
        for address in addresses:
            key = (parts.scheme, parts.hostname, port, address)
            while line := self._pop(key):
                if line.is_connected:  # still open, and nothing has come that nobody asked for
                    return key, line, True
                line.close()
        address, line = _connect(parts, port, addresses, limits, end)
        return (parts.scheme, parts.hostname, port, address), line, False

    def give(self, key: tuple, line: HTTPConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        with self._lock:
            if self._closed:
                line.close()
                return
            self._idle.setdefault(key, []).append(line)
            while sum(map(len, self._idle.values())) > KEPT:
                oldest = next(iter(self._idle))
                self._idle.pop(oldest).pop(0).close()

    def _pop(self, key: tuple) -> HTTPConnection | None:
        with self._lock:
            line = self._idle[key].pop() if key in self._idle else None
            if key in self._idle and not self._idle[key]:
                del self._idle[key]
            return line

    def _addresses(self, host: str, port: int, end: float) -> list[str]:
        """The addresses of a host in the resolver's order."""
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        answer = self._ask(host, port)
        found = answer.result(max(0.0, end - time.monotonic()))
        return list(dict.fromkeys(info[4][0] for info in found))

    def _ask(self, host: str, port: int) -> Future:
        """What is known of a host's addresses, else a question to the resolver."""
        with self._lock:
            since, answer = self._names.get((host, port), (-math.inf, None))
            failed = answer and answer.done() and answer.exception()
            if time.monotonic() - since < FRESH and not failed:
                return answer
            if len(self._names) >= KNOWN:
                self._names.clear()
            answer = Future()
            self._names[host, port] = time.monotonic(), answer
            self._questions.put((host, port, answer))
            self._free -= 1
            if self._free < 0 and self._resolvers < RESOLVERS:
                self._resolvers, self._free = self._resolvers + 1, self._free + 1
                threading.Thread(target=self._resolve, daemon=True).start()
            return answer

    def _resolve(self) -> None:
        while question := self._questions.get():
            host, port, answer = question
            try:
                answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:
                answer.set_exception(error)
            with self._lock:
                self._free += 1


def _connect(
    parts: SplitResult, port: int, addresses: list[str], limits: Limits, end: float
) -> tuple[str, HTTPConnection]:
    """The first address that answers and a connection to it, its peer checked before a request is
    sent.
    """
    for address in addresses:
        wait = _left(end, limits.connect)
        if parts.scheme == "https":
            line = HTTPSConnection(
                address, port, timeout=wait, server_hostname=parts.hostname, ssl_context=_tls()
            )
        else:
            line = HTTPConnection(address, port, timeout=wait)
        try:
            line.connect()
            line.auto_open = 0  # never again by itself: nobody would check the peer
            if refused(line.sock.getpeername()[0], limits.allow_loopback):
                raise Stop("refused_address")
            return address, line
        except FAULTS as error:
            line.close()
            if address == addresses[-1] or isinstance(error, Stop):
                raise
    raise TimeoutError


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _body(reply, limits: Limits) -> tuple[str, bytes | None]:
    """Our status and the content; never holds more than the cap and one chunk, compressed bodies
    included.
    """
    if opted_out(reply.headers.getlist("X-Robots-Tag"), limits.user_agent):
        return "opt_out", None
    if reply.headers.get("Content-Encoding", "").strip().lower() not in (
        "",
        "identity",
        "gzip",
        "x-gzip",
        "deflate",
    ):
        return "bad_encoding", None  # we asked for none; the others depend on what is installed
    if (reply.length_remaining or 0) > limits.max_bytes:
        return "too_large", None
    content = bytearray()
    try:
        for chunk in reply.stream(65536, decode_content=True):
            content += chunk
            if len(content) > limits.max_bytes:
                return "too_large", None
    except FAULTS as error:
        status = status_of(error)
        if status == "timeout":
            raise
        raise Stop(
            "incomplete_body" if status == "connection_reset" else status, reply.status
        ) from error
    return ("ok", bytes(content)) if content else ("empty", None)
