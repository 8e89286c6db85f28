"""For every test: no network but this machine. `pytest tests/dedup` runs a chapter's tests, `-m
"not slow"` the quick ones, which work on arrays, texts, tables and files.

Slow is every test of a file that imports a room with networks or the pocket world, a helper that
makes networks, runs and processes, or a tool of the pages; elsewhere it is marked by hand. The
quick round does not even import those files.

The guard covers the sockets of this Python process. A subprocess is not covered: pip may ask the
package index there.
"""

import ipaddress
import os
import re
import signal
import socket
import sys
from functools import cache
from pathlib import Path

import pytest

# Before torch: threads that spin for long crawl on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
# A shell that starts this in the background has Ctrl-C ignored, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
REAL = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
RESOLVE = socket.getaddrinfo
ROOMS = "adapters|captions|clip|commands|pocket|pub11|rs3|tune"
SLOW = re.compile(
    rf"^(?:from|import) (?:rs5m\.(?:{ROOMS})\b"
    rf"|rs5m import (?:\([\w\s,]*|[\w, ]*)\b(?:{ROOMS})\b"
    r"|rs5m\.book import board\b"  # which knows the scales' models
    r"|(?:fake_pub11|killed|loopback_\w+|plain_official|small_\w+)\b"
    r"|(?:notebooks|readme|reproduce)\b)",
    re.M,
)


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers in every test, whichever ran before it."""
    for name, seed in (("random", "seed"), ("numpy.random", "seed"), ("torch", "manual_seed")):
        if name in sys.modules:
            getattr(sys.modules[name], seed)(0)


@pytest.fixture(scope="session")
def architectures(tmp_path_factory):
    """The two small CLIPs of `small_clip`, known to open_clip by name."""
    import small_clip

    small_clip.register(tmp_path_factory.mktemp("architectures"))


@pytest.fixture(scope="module")
def one_thread():
    """One thread of torch, for networks that lose more time to waiting threads than they gain."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class NetworkBlocked(ConnectionError):
    """A test tried to leave this machine."""


def check(host: object) -> None:
    """Raise for a host that is not this machine's; `None` and "" are."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return
    try:
        local = _is_here(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        local = False
    if not local:
        raise NetworkBlocked(
            f"tests may reach loopback only, not {name}: serve what this test needs from 127.0.0.1"
        )


@cache
def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is this machine's: loopback, or its own, which Ray takes for its node."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((str(address), 0))  # of another machine it cannot
    except OSError:
        return address.is_loopback
    return not address.is_unspecified and not address.is_multicast


def guarded(name: str):
    def call(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(arguments[-1][0])  # (host, port, ...) is the last argument of all three
        return REAL[name](self, *arguments)

    return call


def resolve(host, *arguments, **options):
    check(host)
    return RESOLVE(host, *arguments, **options)


@cache
def slow(path: Path) -> bool:
    return bool(SLOW.search(path.read_text(encoding="utf-8")))


def pytest_ignore_collect(collection_path, config):
    file = collection_path.suffix == ".py" and collection_path.name != "conftest.py"
    return True if file and config.option.markexpr == "not slow" and slow(collection_path) else None


def pytest_collection_modifyitems(items):
    for item in items:
        if slow(item.path):
            item.add_marker("slow")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: networks, runs, processes, the pocket world, the rendered book"
    )
    for name in REAL:
        setattr(socket.socket, name, guarded(name))
    socket.getaddrinfo = resolve


def pytest_unconfigure(config):
    for name, method in REAL.items():
        setattr(socket.socket, name, method)
    socket.getaddrinfo = RESOLVE
