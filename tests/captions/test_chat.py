"""A chat model as the captioner: what it is asked, what is kept, and what it may do wrong."""

import sqlite3
import threading
from collections import Counter

import loopback_chat
import numpy as np
import pytest
from PIL import Image

from rs5m import captions
from rs5m.captions import chat, endpoint
from rs5m.captions.answers import Answers

PROMPTS = chat.Prompts(["What is it?", "Describe it."], "Be brief.", [8, 64], {"temperature": 0})


@pytest.fixture
def server():
    with loopback_chat.chat() as one:
        yield one


@pytest.fixture
def images():
    r = np.random.default_rng(0)
    return [r.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((16, 24), (4, 4), (200, 100))]


def made(server, folder, prompts=PROMPTS, retries=0, timeout=60.0, **options):
    asked = endpoint.Endpoint(server.url, "tiny", timeout, retries, 0.0)
    return chat.ChatCaptioner(asked, Answers(folder / "a.sqlite"), prompts, quiet=True, **options)


def test_each_candidate_is_a_request_and_nothing_is_asked_twice(
    server, images, tmp_path, monkeypatch
):
    monkeypatch.setenv(endpoint.KEY, "secret")
    first = made(server, tmp_path).generate(images, 3)
    assert [len(texts) for texts in first] == [3, 3, 3] and len(server.requests) == 9
    one = server.requests[0]
    assert (one["model"], one["temperature"], one["path"]) == ("tiny", 0, "/v1/chat/completions")
    assert one["key"] == "Bearer secret" and one["messages"][0]["content"] == "Be brief."
    prompts = Counter((r["seed"], r["messages"][-1]["content"][1]["text"]) for r in server.requests)
    assert prompts == {(0, "What is it?"): 3, (1, "Describe it."): 3, (2, "What is it?"): 3}
    assert made(server, tmp_path).generate(images[::-1], 3) == first[::-1]
    assert len(server.requests) == 9, "another process, another order: all is known"
    more = made(server, tmp_path, workers=1).generate([images[0], images[0]], 4)
    assert more[0] == more[1] and more[0][:3] == first[0] and len(server.requests) == 10
    other = chat.Prompts(["Well?"])
    assert made(server, tmp_path, other).generate(images[:1], 1) != [first[0][:1]]
    with sqlite3.connect(tmp_path / "a.sqlite") as base:
        assert "secret" not in "".join(base.iterdump())


def test_the_picture_that_is_sent(images):
    small, tall = (chat._jpeg(images[i], 8, 64) for i in (1, 2))
    sizes = [chat.Image.open(chat.io.BytesIO(data)).size for data in (small, tall)]
    assert sizes == [(8, 8), (32, 64)]
    flat = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    back = np.asarray(Image.open(chat.io.BytesIO(chat._jpeg(flat, 8, 64))))
    assert back.shape == flat.shape and abs(back.astype(int) - flat).max() < 4


def test_text_in_parts_thoughts_and_quotes(server, images, tmp_path):
    texts = ["<think>A lake?\n</think>\n A lake.", '"A field."', "", None, [{"text": "A "}] * 2]
    server.table = lambda picture, prompt, seed: texts[seed]
    found = made(server, tmp_path).generate(images[:1], 5)[0]
    assert found == ["A lake.", "A field.", "", "", "A A"]
    kept, dropped = captions.clean(found)
    assert [reason for _, reason in dropped] == ["empty", "empty"] and len(kept) == 3


BROKEN = {  # what the server says, and what we do
    "html": ((200, {}, b"<html>hello"), "answers what is no chat completion (<html>hello)"),
    "other": ((200, {}, b'{"error": "x"}'), "answers what is no chat completion"),
    "list": ((200, {}, b"[]"), "answers what is no chat completion"),
    "number": ((200, {}, b'{"choices":[{"message":{"content":1}}]}'), "no chat completion"),
    "key": ((401, {}, b"no"), "refuses (HTTP 401): set OPENAI_API_KEY"),
    "path": ((404, {}, b"no"), "refuses (HTTP 404): check the address and the model's name, tiny"),
    "elsewhere": ((302, {"Location": "http://127.0.0.1:9/"}, b""), "refuses (HTTP 302)"),
    "busy": ((429, {"Retry-After": "0"}, b""), "is busy or broken (HTTP 429) in 3 attempts"),
    "broken": ((500, {}, b""), "is busy or broken (HTTP 500) in 3 attempts"),
    "declined": ((400, {}, b"no images here"), "declines the request (HTTP 400: no images here)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_from_the_start_is_one_sentence(case, server, images, tmp_path):
    fault, words = BROKEN[case]
    server.fault = lambda number: fault
    with pytest.raises(OSError) as error:
        made(server, tmp_path, retries=2).generate(images, 3)
    said = str(error.value)
    assert words in said and said.startswith(server.url) and len(said.splitlines()) == 1
    attempts = 1 if case in ("key", "path", "elsewhere", "declined") else 3
    assert len(server.requests) == attempts, "the first request goes alone"


def test_nobody_at_home(images, tmp_path):
    class Gone:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(OSError, match="gives no answer .* in 1 attempts"):
        made(Gone, tmp_path).generate(images, 1)


def test_an_answer_that_takes_too_long(server, images, tmp_path):
    gate = threading.Event()
    server.fault = lambda number: gate.wait(60) and None
    with pytest.raises(OSError, match="gives no answer .ReadTimeoutError. in 1 attempts"):
        made(server, tmp_path, timeout=0.05).generate(images, 1)
    gate.set()


def test_faults_in_between_cost_nothing(server, images, tmp_path):
    faults = {1: (503, {}, b""), 2: (200, {}, b"<html>"), 4: (429, {"Retry-After": "0"}, b"")}
    server.fault = faults.get
    found = made(server, tmp_path, retries=3).generate(images, 2)
    server.fault = lambda number: None
    assert found == made(server, tmp_path / "..").generate(images, 2)
    assert len(server.requests) == 9 + 6


def test_one_that_is_declined_is_an_empty_candidate_and_counted(server, images, tmp_path):
    server.fault = lambda number: (422, {}, b"") if number == 1 else None
    found = made(server, tmp_path, workers=1).generate(images[:1], 3)[0]
    assert found[1] is None and found[0] and found[2]
    assert Answers(tmp_path / "a.sqlite").spent() == (3, 200, 1)
    assert captions.clean(found).dropped == [(None, "empty")]


@pytest.mark.parametrize("budget", [chat.Budget(requests=4), chat.Budget(tokens=400)])
@pytest.mark.parametrize("workers", [1, 3])
def test_over_budget_all_that_came_is_kept(budget, workers, server, images, tmp_path):
    with pytest.raises(OSError, match="the budget of .* is used up: the answers are kept in"):
        made(server, tmp_path, budget=budget, workers=workers).generate(images, 3)
    spent = Answers(tmp_path / "a.sqlite").spent()
    assert spent.answers == len(server.requests)
    assert spent.answers == 4 if budget.requests else 4 <= spent.answers < 4 + workers
    with pytest.raises(OSError, match="used up"):
        made(server, tmp_path, budget=budget).generate(images, 3)
    assert len(server.requests) == spent.answers, "not one more"
    found = made(server, tmp_path).generate(images, 3)
    assert len(server.requests) == 9 and all(all(texts) for texts in found)


def test_a_failure_lets_open_requests_end(server, images, tmp_path):
    """One of three that are open is refused while the others wait: these are kept."""
    gate, asking = threading.Barrier(3), made(server, tmp_path, workers=3)

    def fault(number):
        if number:
            gate.wait(60)
        if number == 2:
            return (401, {}, b"")
        if number:  # answered only when the refusal has arrived
            asking.endpoint.stopped.wait(60)
        return None

    server.fault = fault
    with pytest.raises(OSError, match="HTTP 401"):
        asking.generate(images, 4)
    assert Answers(tmp_path / "a.sqlite").spent().answers == 3
    assert len(server.requests) == 4, "what had not begun does not begin"


def test_answers_that_cannot_be_kept(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match="a.sqlite cannot be read or written .*: free some space"):
        Answers(tmp_path / "a.sqlite")


def test_the_packages_prompts():
    found = chat.read_prompts()
    assert len(found.prompts) > 2 and found.sides == [224, 1024] and found.request["max_tokens"]
    assert found.digest() != chat.Prompts(found.prompts).digest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompts = [", "p.toml is not a file of prompts"),
        ("prompts = []", "prompts must be a list of texts"),
        ("prompts = 'a'", "prompts must be a list of texts"),
        ("system = 'a'", "missing 1 required positional argument: 'prompts'"),
        ("prompts = ['a']\nprompt = 'b'", "unexpected keyword argument 'prompt'"),
        ("prompts = ['a']\nsides = [9, 3]", "sides must be two numbers of pixels"),
        ("prompts = ['a']\nsides = [0, 3]", "sides must be two numbers of pixels"),
        ("prompts = ['a']\nsides = [3]", "sides must be two numbers of pixels"),
        ("prompts = ['a']\n[request]\nstream = true", "request is a table without"),
        ("prompts = ['a']\nrequest = 3", "request is a table without"),
        (b"\xff\xfe", "p.toml is not a file of prompts"),
    ],
)
def test_a_file_of_prompts_that_is_none(text, words, tmp_path):
    (tmp_path / "p.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="p.toml is not a file of prompts") as error:
        chat.read_prompts(tmp_path / "p.toml")
    assert words in str(error.value)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://", "file:///etc"])
def test_an_address_that_is_none(url):
    with pytest.raises(ValueError, match="is not the address of a chat model"):
        endpoint.Endpoint(url, "tiny")


def test_a_pause_is_as_long_as_was_asked_for_within_bounds():
    assert endpoint._asked("7", 1.0) == 7 and endpoint._asked(None, 1.0) == 1.0
    assert endpoint._asked("9999", 1.0) == endpoint.LONGEST_PAUSE
    assert endpoint._asked("Wed, 21 Oct 2026", 2.0) == 2.0
