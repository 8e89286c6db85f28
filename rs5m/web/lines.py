"""Connections to checked addresses, kept for the next request to the same scheme, host, port and
address. Chapter: pub11.
"""

import contextlib
import functools
import ipaddress
import math
import queue
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from urllib.parse import SplitResult

from urllib3.connection import HTTPConnection, HTTPSConnection

from rs5m.web.limits import FAULTS, Limits, Stop, seconds_left
from rs5m.web.urls import PORTS, refused

FRESH, KNOWN = 300.0, 10_000  # seconds that an address is taken for known; hosts
KEPT = 256  # idle connections
RESOLVERS = 64  # threads that ask for addresses


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
        allowed = limits.allow_loopback, limits.allow_private
        if any(refused(address, *allowed) for address in addresses):
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
        wait = seconds_left(end, limits.connect)
        if parts.scheme == "https":
            line = HTTPSConnection(
                address, port, timeout=wait, server_hostname=parts.hostname, ssl_context=_tls()
            )
        else:
            line = HTTPConnection(address, port, timeout=wait)
        try:
            line.connect()
            line.auto_open = 0  # never again by itself: nobody would check the peer
            peer = line.sock.getpeername()[0]
            if refused(peer, limits.allow_loopback, limits.allow_private):
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
