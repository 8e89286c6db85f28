"""A judge from a hub: what is asked, fetched and refused before any pair, and a whole crawl."""

import re
from types import SimpleNamespace

import huggingface_hub
import pytest

from bench import crawl
from rs5m import cli
from rs5m.pub11 import judge

pytestmark = pytest.mark.usefixtures("one_thread")


class Refused(Exception):
    """What the hub's library raises for an answer."""

    def __init__(self, status: int):
        self.response = SimpleNamespace(status_code=status, headers={})


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Refused(401), r"\(401: there is none, or it is private and needs HF_TOKEN\)"),
        (Refused(404), r"\(404: there is none"),
        (Refused(503), r"\(503\)"),
        (ConnectionError("refused"), r"\(ConnectionError\)"),
    ],
)
def test_a_hub_that_refuses_is_one_sentence_before_any_pair(
    site, tmp_path, monkeypatch, capsys, error, word
):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("it goes on"))
    given = ["--pairs", str(site[1]), "--out", str(tmp_path / "out"), "--allow-loopback"]
    assert cli.main(["pub11", *given, "--model", "hf-hub:rs5m/made"]) == 2
    said = capsys.readouterr()
    assert "asking the hub for hf-hub:rs5m/made" in said.out
    assert said.err.count("\n") == 1 and judge.WAYS_OUT in said.err
    assert re.search(word, said.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_crawl_with_a_judge_from_a_hub_ends_as_it_was_made(tmp_path, capfd):
    """The real command in a process of its own: dead hosts, copies, and pictures to drop."""
    assert "every one of 60 pairs ended as it was made" in crawl.crawl(tmp_path, 60, "hub")
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("rs5m pub11: checking the pairs")
    assert said[1] == "asking the hub for hf-hub:rs5m/made"
    assert said[2] == "fetching hf-hub:rs5m/made: 7 MB"
    assert said[3].startswith("judge: hf-hub:rs5m/made, kept by score (threshold 0.5, not cali")
    assert any("low_score" in line for line in said)
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert "Judge: hf-hub:rs5m/made" in page and "Dropped by outliers: low_score" in page
