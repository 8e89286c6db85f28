"""What stands at RAY_ADDRESS, and a worker's first look; tests/pub11 and tests/rs3 have runs on a
Ray.
"""

import os
import socket
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from loopback_server import running

from rs5m.data import cluster


@pytest.fixture
def port():
    """Where the kernel takes connections, and nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refuses(monkeypatch, address, words):
    """`check` says so, in a sentence with a cure."""
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setenv("RAY_ADDRESS", address)
    start, cure = time.monotonic(), "check RAY_ADDRESS .* or unset RAY_ADDRESS to work here alone"
    with pytest.raises(OSError, match=f"^{words}.*: {cure}$") as told:
        cluster.check()
    assert "\n" not in str(told.value) and time.monotonic() - start < 5


def test_without_an_address_there_is_nothing_to_ask(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster.check()
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    refuses(monkeypatch, "auto", "RAY_ADDRESS is auto, but Ray is not installed here")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:{}", "no Ray answers at ray://127.0.0.1:"),
        ("nowhere.invalid:{}", "no Ray answers at nowhere.invalid:"),
        ("127.0.0.1:{}0", "no Ray answers at 127.0.0.1:"),
        ("a word", "RAY_ADDRESS is a word, not HOST:PORT or auto"),
    ],
)
def test_nothing_at_the_address(address, words, monkeypatch):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    refuses(monkeypatch, address.format(free), words)


def test_a_port_that_takes_connections_and_stays_silent(port, monkeypatch):
    pytest.importorskip("ray")
    refuses(monkeypatch, f"127.0.0.1:{port}", "no Ray answers at .* .timed out.")


def test_a_port_that_says_a_byte_now_and_then(monkeypatch):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            with server.accept()[0] as there, suppress(OSError):  # the other side hangs up
                for byte in b"SSH-2.0-OpenSSH":
                    there.send(bytes([byte]))
                    time.sleep(0.3)

        Thread(target=drip, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        refuses(monkeypatch, address, "no Ray answers at .* .it speaks another protocol.")


def test_a_web_server_is_no_ray(monkeypatch):
    pytest.importorskip("ray")
    with running(HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)) as server:
        address = f"127.0.0.1:{server.server_port}"
        refuses(monkeypatch, address, "no Ray answers at .* .it speaks another protocol.")


def test_of_an_encrypted_ray_only_the_port_is_tried(port, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    cluster.check()


def test_a_folder_that_a_worker_lacks_is_one_sentence():
    with pytest.raises(OSError, match="a worker has no folder /none: name one"):
        cluster._write(None, "/none", 0, [], cluster.__version__, os.getcwd())
