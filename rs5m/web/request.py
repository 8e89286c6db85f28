"""One HTTP request to one checked address, under a cap of bytes and a deadline. `rs5m.web` builds
on it.

Chapter: pub11.
"""

import contextlib
import functools
import http.client
import ipaddress
import math
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
    redirects: int = 5
    allow_loopback: bool = False
    user_agent: str = "rs5m/0.1 (image-text dataset builder; honours X-Robots-Tag)"


LIMITS = Limits()


class _Response(http.client.HTTPResponse):
    """The answer behind interim ones: http.client passes over 100 alone, servers send 103 too."""

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
    url: str, limits: Limits, seconds: float, body: Callable | None = None
) -> tuple[int, Mapping, str, bytes | None]:
    """One request: HTTP status, headers, our status, content; raises one of FAULTS.

    body(reply, limits) may take the answer elsewhere than into memory: our status, content.
    """
    end, parts = time.monotonic() + seconds, urlsplit(url)
    headers = {"Host": parts.netloc, "User-Agent": limits.user_agent, "Accept": "image/*,*/*;q=0.5"}
    headers |= {"Accept-Encoding": "identity", "Connection": "close"}
    with (
        contextlib.closing(_connect(parts, limits, end)) as line,
        _cut_off(line.sock, end - time.monotonic()),
    ):
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        line.request("GET", target, headers=headers, preload_content=False)
        with contextlib.closing(line.getresponse()) as reply:
            if reply.status in (301, 302, 303, 307, 308) and "Location" in reply.headers:
                return reply.status, reply.headers, "redirect", None
            if not 200 <= reply.status < 300 or reply.status == http.HTTPStatus.PARTIAL_CONTENT:
                return reply.status, reply.headers, f"http_{reply.status}", None
            return (reply.status, reply.headers, *(body or _body)(reply, limits))


def _connect(parts: SplitResult, limits: Limits, end: float) -> HTTPConnection:
    """A connection to a checked address: the name is resolved once, and the peer checked before a
    request is sent.
    """
    port = parts.port or PORTS[parts.scheme]
    addresses = _resolve(parts.hostname, port, end - time.monotonic())
    if any(
        refused(address, limits.allow_loopback) for address in addresses
    ):  # a mixed answer is a trick
        raise Stop("refused_address")
    for address in addresses:
        wait = min(limits.connect, end - time.monotonic())
        if wait <= 0:
            break
        if parts.scheme == "https":
            line = HTTPSConnection(
                address, port, timeout=wait, server_hostname=parts.hostname, ssl_context=_tls()
            )
        else:
            line = HTTPConnection(address, port, timeout=wait)
        line.response_class = _Response
        try:
            line.connect()
        except FAULTS:
            line.close()
            if address == addresses[-1]:
                raise
            continue
        if refused(line.sock.getpeername()[0], limits.allow_loopback):
            line.close()
            raise Stop("refused_address")
        line.timeout = max(0.001, min(limits.stalled, end - time.monotonic()))
        return line
    raise TimeoutError


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _resolve(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host in the resolver's order, asked in a thread because getaddrinfo has no
    time-out.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    answer = Future()

    def ask():
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return list(dict.fromkeys(info[4][0] for info in answer.result(max(0.0, seconds))))


@contextlib.contextmanager
def _cut_off(sock: socket.socket, seconds: float):
    """Shut the socket down at the deadline: with a time-out per read, a server could drip bytes."""
    late = threading.Event()

    def cut():
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(
                sock, socket.SHUT_RDWR
            )  # SSLSocket's own drops its state under the reader

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except FAULTS as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


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
        raise Stop(
            "incomplete_body" if status == "connection_reset" else status, reply.status
        ) from error
    return ("ok", bytes(content)) if content else ("empty", None)
