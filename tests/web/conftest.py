"""Real HTTP from loopback with real faults; no test leaves this machine."""

import contextlib
import ipaddress
import socket
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from faulty_site import Kept, Site


@pytest.fixture(scope="package")
def server():
    site = Site()
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def site(server):
    with server.lock:
        server.hits.clear()
        server.times.clear()
        server.seen.clear()
    server.base = f"http://127.0.0.1:{server.server_port}"
    return server


@pytest.fixture
def names(monkeypatch):
    """A resolver of our own: name -> list of answers, one a call; numbers resolve to themselves.
    Counts the calls.
    """
    real, calls, book = socket.getaddrinfo, Counter(), {}

    def resolve(host, port, *args, **kwargs):
        calls[host] += 1
        if host in book:
            answers = book[host][min(calls[host], len(book[host])) - 1]
            if isinstance(answers, Exception):
                raise answers
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers
            ]
        ipaddress.ip_address(host)  # a test that would ask a real resolver fails here
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return SimpleNamespace(calls=calls, book=book)


@pytest.fixture
def no_connection(monkeypatch):
    """What this test tries to connect to; threads that an earlier test left connect as ever."""
    tried, earlier, connect = [], set(threading.enumerate()), socket.socket.connect

    def note(line, address):
        if threading.current_thread() in earlier - {threading.main_thread()}:
            return connect(line, address)
        tried.append(address)
        raise ConnectionAbortedError("no connection in this test")

    monkeypatch.setattr(socket.socket, "connect", note)
    return tried


@pytest.fixture
def kept_site():
    site = Site()
    site.RequestHandlerClass, site.connections = Kept, Counter()
    threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def deaf():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.9", 0), backlog=512) as listener:
        yield f"http://127.0.0.9:{listener.getsockname()[1]}"


@pytest.fixture
def full():
    """Never takes a connection: its queue is full."""
    with socket.create_server(("127.0.0.8", 0), backlog=0) as listener, contextlib.ExitStack() as s:
        for _ in range(4):
            line = s.enter_context(socket.socket())
            line.setblocking(False)
            line.connect_ex(listener.getsockname())
        yield f"http://127.0.0.8:{listener.getsockname()[1]}"
