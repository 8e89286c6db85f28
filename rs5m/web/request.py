"""One HTTP request to one checked address, under a cap of bytes and a deadline. `rs5m.web` builds
on it. Chapter: pub11.

Every read has the time that is left until the deadline, so nothing needs to watch it.

aiohttp 3.14 was tried in place of this module and the threads, and not taken. Its pool knows
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
import time
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from rs5m.web.limits import FAULTS, Limits, Silent, Stop, seconds_left, status_of
from rs5m.web.lines import Lines
from rs5m.web.urls import opted_out

DRAINED = 65536  # bytes read from a refusal to keep its connection


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
        self._sock.settimeout(seconds_left(self._end, self._stalled))
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


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


def get(
    url: str, limits: Limits, seconds: float, lines: Lines, body: Callable | None = None
) -> tuple[int, Mapping, str, bytes | None]:
    """One request: HTTP status, headers, our status, content; raises one of FAULTS.

    Args:
        url: as `normalise` spells it.
        limits: of bytes and seconds.
        seconds: that are left of the attempt.
        lines: where connections come from and go to.
        body: may take the answer elsewhere than into memory: (reply, limits) to our status and
            content. Its `headers`, if it has any, are sent: with Range among them it may get a
            part.
    """
    end, parts = time.monotonic() + seconds, urlsplit(url)
    asked = getattr(body, "headers", {})
    key, line, reply = _answer(parts, limits, end, lines, asked)
    try:
        if reply.status in (301, 302, 303, 307, 308) and "Location" in reply.headers:
            got = "redirect", None
        elif not 200 <= reply.status < 300 or (
            reply.status == http.HTTPStatus.PARTIAL_CONTENT and "Range" not in asked
        ):
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


def _answer(
    parts: SplitResult, limits: Limits, end: float, lines: Lines, asked: Mapping[str, str]
) -> tuple:
    """Where a line belongs, the line, and its answer up to the body; Silent where none comes.

    asked: further headers.
    """
    headers = {"Host": parts.netloc, "User-Agent": limits.user_agent, "Accept": "image/*,*/*;q=0.5"}
    headers |= {"Accept-Encoding": "identity", **asked}
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    while True:
        line = None
        try:
            key, line, used = lines.take(parts, limits, end)
            line.timeout = seconds_left(end, limits.stalled)
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
