"""What one URL may cost, and the faults that end one. Chapter: pub11."""

import http.client
import math
import socket
import ssl
import time
from dataclasses import dataclass

from urllib3 import exceptions as faults


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
    allow_private: bool = False
    user_agent: str = "rs5m/0.1 (image-text dataset builder; honours X-Robots-Tag)"

    def __post_init__(self):
        least = {"per_host": 1, "silent": 1, "max_bytes": 1, "retries": 0, "redirects": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}: give {bound} or more")
        if not self.timeout > 0:  # NaN, too
            raise ValueError(f"timeout is {self.timeout}: give a number of seconds above 0")


LIMITS = Limits()


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


def seconds_left(end: float, most: float) -> float:
    """Seconds until the deadline, at most `most`; TimeoutError when there are none."""
    left = min(end - time.monotonic(), most)
    if left <= 0:
        raise TimeoutError
    return left
