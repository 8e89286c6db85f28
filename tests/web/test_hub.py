"""The hub, asked once: a busy one is waited for, a silent one is not, each has a word."""

import socket
import threading

import loopback_hub
import pytest
from huggingface_hub import constants

from rs5m.data import shards
from rs5m.web import hub

HELD = {"a/b/w.bin": b"weights", "om/set/in/a-0.tar": b"tar", "om/set/in/b-0.tar": b"other"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for name, content in HELD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that were slept, none of them for real."""
    slept = []
    monkeypatch.setattr(hub.time, "sleep", slept.append)
    return slept


@pytest.fixture
def served(folder, tmp_path, monkeypatch, pauses):
    with loopback_hub.served(folder) as server:
        loopback_hub.at(server.address, tmp_path, monkeypatch)
        yield server


def asked(served) -> list[str]:
    """The requests for what is held there; the library has some of its own."""
    return [verb for verb, path, _ in served.asked if "a/b" in path or "om/set" in path]


def test_what_is_in_the_cache_is_not_asked_for_first(served):
    assert hub.fetch("a/b", "w.bin").read_bytes() == b"weights"
    assert asked(served) == ["HEAD", "HEAD", "GET"]
    served.asked.clear()
    served.status = 500
    assert hub.fetch("a/b", "w.bin").read_bytes() == b"weights", "a hub that is ill harms nothing"
    assert len(asked(served)) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_hub_that_refuses_is_asked_once_and_one_that_stays_busy_twice(served, pauses, status):
    served.status = status
    with pytest.raises(Exception) as raised:
        hub.fetch("a/b", "w.bin")
    assert hub.why(raised.value) == str(status)
    again = [1] if status in hub.BUSY else []
    assert len(asked(served)) == 1 + len(again) and pauses == again


def test_a_busy_hub_is_waited_for_as_long_as_it_asks(served, pauses, capsys):
    served.status, served.once, served.wait = 429, True, "7"
    assert hub.size("a/b", "w.bin") == len(b"weights")
    assert pauses == [7]
    assert capsys.readouterr().out == "the hub is busy (429, to be asked again in 7 s)\n"


def test_a_hub_that_wants_to_rest_for_an_hour_is_not_waited_for(served, pauses):
    served.status, served.wait = 429, "3600"
    with pytest.raises(Exception) as raised:
        hub.size("a/b", "w.bin")
    assert hub.why(raised.value) == "429, to be asked again in 3,600 s"
    assert len(asked(served)) == 1 and not pauses


def test_a_limit_by_the_hubs_own_header_counts_too():
    class Response:
        status_code, headers = 429, {"ratelimit": '"api";r=0;t=55', "retry-after": "9"}

    error = RuntimeError()
    error.response = Response
    assert hub.why(error) == "429, to be asked again in 55 s"
    Response.status_code = 404
    assert hub.why(error) == "404"


def test_a_broken_connection_is_tried_once_more(tmp_path, monkeypatch, pauses):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    loopback_hub.at(f"http://127.0.0.1:{port}", tmp_path, monkeypatch)
    with pytest.raises(Exception) as raised:
        hub.fetch("a/b", "w.bin")
    assert hub.why(raised.value) == "ConnectError" and pauses == [1]


def test_a_hub_that_says_nothing_is_waited_for_within_the_librarys_limit(monkeypatch, pauses):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.05)
    said = threading.Event()
    try:
        with pytest.raises(TimeoutError) as raised:
            hub.ask(said.wait)
    finally:
        said.set()
    assert hub.why(raised.value) == "no answer within 0.05 s, which HF_HUB_ETAG_TIMEOUT sets"
    assert not pauses


def test_without_a_network_nothing_is_tried_again(monkeypatch, pauses):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError) as raised:
        hub.size("a/b", "w.bin")
    assert hub.why(raised.value) == "OfflineModeIsEnabled" and not pauses


def test_shards_of_the_hub_by_name_and_by_pattern(served):
    found = shards.local(["hf://datasets/om/set/in/*.tar"])
    assert [path.read_bytes() for path in found] == [b"tar", b"other"]
    assert shards.local("hf://datasets/om/set@main/in/b-0.tar") == found[1:]
    with pytest.raises(FileNotFoundError, match="in/c.*tar matches no file of the data set"):
        shards.local("hf://datasets/om/set@v1/in/c*.tar")


@pytest.mark.parametrize("file", ["in/a-0.tar", "in/*.tar"])
@pytest.mark.parametrize("wait, word", [("", "429"), ("900", "429, to be asked again in 900 s")])
def test_shards_of_a_busy_hub_are_one_sentence(served, file, wait, word):
    served.status, served.wait = 429, wait
    with pytest.raises(OSError) as raised:
        shards.local(f"hf://datasets/om/set/{file}")
    said = f"hf://datasets/om/set/{file} could not be fetched from the hub ({word}): check the name"
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)
    assert len(asked(served)) <= 2
