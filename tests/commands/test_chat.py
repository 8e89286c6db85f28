"""`rs5m rs3` with a chat model on loopback: killed, over budget, several captions an image."""

import shutil
from collections import Counter

import loopback_chat
import loopback_hub
import loopback_store
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rs5m import cli, clip, rs3
from rs5m.captions.answers import FILE, Answers
from rs5m.commands import rs3 as rs3_command
from rs5m.rs3 import settings
from rs5m.tune.augment import DRAWS
from rs5m.tune.loader import Shards


class Net(torch.nn.Module):
    """Towers that know an image by its mean colour and a text by its letters."""

    def __init__(self):
        super().__init__()
        self.image = torch.nn.Parameter(torch.eye(3, 4))

    def encode_image(self, pixels):
        return pixels.mean((2, 3)) @ self.image

    def encode_text(self, tokens):
        return torch.stack([torch.sin(tokens * k).sum(1) for k in (1.0, 2.0, 3.0, 4.0)], 1)


def letters(texts):
    return torch.tensor([[ord(c) for c in text[:12].ljust(12)] for text in texts])


def towers():
    return (clip.Model(Net(), letters, (0.5,) * 3, (0.5,) * 3, 16),) * 2


@pytest.fixture
def server():
    with loopback_chat.chat() as one:
        yield one


@pytest.fixture
def command(server, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(rs3_command, "_rankers", lambda _: (towers, "small"))
    (tmp_path / "in").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"in/{i}.png")
    prompts = tmp_path / "p.toml"
    prompts.write_text("prompts = ['What?', 'Where?']\nsides = [12, 64]\n")

    def call(*more, out="out"):
        words = ["rs3", "--images", tmp_path / "in", "--out", tmp_path / out, "--captioner-url"]
        words += [server.url, "--captioner-model", "tiny", "--captioner-prompts", prompts]
        words += ["--candidates", "4", "--retries", "0", *more]
        return cli.main([str(word) for word in words])

    return call


def contents(out):
    return {path.name: path.read_bytes() for path in [*out.glob("*.parquet"), *out.glob("*.tar")]}


def test_over_budget_then_to_its_end_with_the_bytes_of_one_run(command, server, tmp_path, capsys):
    assert command("--max-requests", "7") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("rs5m: the budget of 7 requests is used up") and "larger budget" in said
    assert len(server.requests) == 7
    assert command("--max-requests", "20") == 0
    assert "asked of the chat model: 20 captions, 2,000 tokens" in capsys.readouterr().out
    assert len(server.requests) == 20, "a request for each candidate, none twice"
    assert command(out="whole") == 0 and len(server.requests) == 40
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_several_captions_are_kept_and_drawn_when_tuning(command, tmp_path):
    assert command("--captions", "3") == 0
    made = rs3.pairs(tmp_path / "out")
    assert (made.captions.map(len) == 3).all() and (made.captions.str[0] == made.caption).all()
    assert all(len(set(texts)) == 3 for texts in made.captions)
    source = Shards([tmp_path / "out/rs3-train-0000.tar"], 12)
    assert [source.captions(i) for i in range(5)] == [tuple(texts) for texts in made.captions]
    index = np.arange(5)
    drawn = Counter()
    for seed in range(20):
        draws = torch.rand(5, DRAWS, generator=torch.Generator().manual_seed(seed))
        texts, again = (source[index, draws, None].captions for _ in range(2))
        assert texts == again
        drawn.update(zip(index.tolist(), texts, strict=True))
    assert len(drawn) == 15, "each caption of each pair comes"
    assert command() == 2, "another run's folder"


@pytest.mark.parametrize("death", [1, 4, 9, 20])
def test_killed_after_an_answer_it_asks_nothing_twice(death, command, server, tmp_path):
    """Processes die as a kill lets them: at once, with the answer kept, after it was kept."""
    keep, kept = Answers.keep, []

    def dies(self, *row):
        keep(self, *row)
        kept.append(row)
        if len(kept) == death:
            raise SystemExit(9)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Answers, "keep", dies)
        command("--workers", "1")
    assert len(server.requests) == death
    assert command() == 0 and len(server.requests) == 20


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--captioner", "pocket"], "takes the place of --captioner"),
        (["--captioner-model", ""], "belong together"),
        (["--captioner-url", ""], "belong together"),
        (["--captioner-url", "gpu:8000"], "is not the address of a chat model"),
        (["--captioner-prompts", "gone.toml"], "gone.toml is not a file"),
        (["--workers", "0"], "--workers is 0"),
        (["--timeout", "nan"], "--timeout is nan"),
        (["--max-tokens", "-1"], "--max-tokens is -1"),
        (["--captions", "6"], "captions is 6: give 1 to 5"),
        (["--captions", "2", "--layout", "rs5m"], "has room for one caption"),
        (["--candidates", "0"], "candidates is 0"),
    ],
)
def test_what_is_typed_wrong_is_one_sentence(more, words, command, server, tmp_path, capsys):
    assert command(*more) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not server.requests and not (tmp_path / "out").exists()


def test_an_endpoint_without_the_right_key(command, server, tmp_path, capsys):
    server.fault = lambda number: (401, {}, b"")
    assert command() == 2
    assert "refuses (HTTP 401): set OPENAI_API_KEY" in capsys.readouterr().err.splitlines()[-1]
    server.fault = lambda number: None
    assert command() == 0


def test_the_types_are_the_same_with_one_caption(command, tmp_path):
    assert command() == 0 and settings.DEFAULT.facts().get("captions") is None
    made = pq.read_table(tmp_path / "out/pairs.parquet")
    assert all(len(texts) == 1 for texts in made["captions"].to_pylist())
    assert Answers(tmp_path / "out" / FILE).spent().answers == 20


def test_images_of_a_bucket(command, server, tmp_path, monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    with loopback_store.small() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        for path in (tmp_path / "in").iterdir():
            store.objects[f"crawl/chips/{path.name}"] = path.read_bytes()
        assert command("--images", "s3://crawl/chips") == 0
        assert len(rs3.pairs(tmp_path / "out")) == 5 and len(server.requests) == 20
        assert command("--images", "s3://crawl/none", out="other") == 2
        assert "s3://crawl/none holds no such object" in capsys.readouterr().err


def test_from_the_hub_to_a_bucket(command, tmp_path, monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    shutil.copytree(tmp_path / "in", tmp_path / "hub/om/set/chips")
    with loopback_store.small() as store, loopback_hub.served(tmp_path / "hub") as hub:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        loopback_hub.at(hub.address, tmp_path, monkeypatch)
        chips = "hf://datasets/om/set/chips"
        assert command("--images", chips, "--upload", "s3://gone/made") == 2
        assert "s3://gone/made refuses" in capsys.readouterr().err
        assert not (tmp_path / "out").exists(), "told before any work"
        assert command("--images", chips, "--upload", "s3://crawl/made") == 0
        assert "11 of 11 files sent" in capsys.readouterr().out
        assert command("--images", chips, "--upload", "s3://crawl/made") == 0
        assert "0 of 11 files sent" in capsys.readouterr().out
    there = {name.removeprefix("crawl/made/"): data for name, data in store.objects.items()}
    assert {"run.json", "pairs.parquet", "rs3-train-0000.tar", "report.html"} <= there.keys()
    assert FILE not in there, "answers that were paid for stay here"
    assert all(data == (tmp_path / "out" / name).read_bytes() for name, data in there.items())
