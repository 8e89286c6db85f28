"""A finished run is copied to a data set of the hub, by commits of a hub on this machine."""

import json

import loopback_hub
import pytest
import written_hub

from rs5m.commands import options
from rs5m.data import tohub

URL = "hf://datasets/om/crawl/made"
NAMES = ["README.md", "kept.parquet", "pub11-train-0000.tar", "unmatched/00000.parquet"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    (tmp_path / "hub/om/crawl").mkdir(parents=True)
    with written_hub.served(tmp_path / "hub") as server:
        loopback_hub.at(server.address, tmp_path, monkeypatch)
        yield server


@pytest.fixture
def run(tmp_path):
    """The folder of a run: small files and, by their endings, large ones."""
    out = tmp_path / "out"
    (out / "unmatched").mkdir(parents=True)
    (out / "run.json").write_text(json.dumps({"seed": 1}))
    (out / "log.txt").write_text("fetch 00000\n")
    (out / ".run.lock").touch()
    for k, name in enumerate(NAMES):
        (out / name).write_bytes(name.encode() * (k + 1))
    return out


def test_what_is_there_is_not_sent_again(server, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tohub, "COMMIT", 2)
    options.check_upload(URL)
    server.fault = lambda method, path: next(gone, 0) if "/commit/" in path else 0
    gone = iter([0, 403])
    with pytest.raises(OSError, match=f"^{URL} refuses .403.: check .*HF_TOKEN.* run it again$"):
        options.upload(run, URL)
    server.fault = lambda method, path: 0
    options.upload(run, URL)
    assert f"{URL}: 3 of 5 files sent" in capsys.readouterr().out
    options.upload(run, URL)
    assert f"{URL}: 0 of 5 files sent" in capsys.readouterr().out
    assert server.commits[0][0] == "made/run.json" and list(map(len, server.commits)) == [2, 2, 1]
    there = tmp_path / "hub/om/crawl/made"
    sent = {p.relative_to(there).as_posix(): p.read_bytes() for p in there.rglob("*.*")}
    assert sent == {name: (run / name).read_bytes() for name in ("run.json", *NAMES)}


def test_another_run_there_is_left_alone(server, run, tmp_path):
    there = tmp_path / "hub/om/crawl/made"
    there.mkdir()
    (there / "run.json").write_text('{"seed": 2}')
    with pytest.raises(ValueError, match=f"^{URL} holds another run: name another folder there$"):
        tohub.send(run, NAMES, URL)
    assert not server.commits


def test_to_the_root_of_a_data_set(server, run, tmp_path):
    assert tohub.send(run, NAMES, "hf://datasets/om/crawl") == 5
    assert (tmp_path / "hub/om/crawl/kept.parquet").is_file()
    assert tohub.send(run, NAMES, "hf://datasets/om/crawl/") == 0


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_what_the_hub_refuses_is_one_sentence_before_any_work(server, status, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.fault = lambda method, path: status if "auth-check" in path else 0
    with pytest.raises(OSError, match=rf"^{URL} refuses .{status}.: check that the data set is"):
        options.check_upload(URL)
    with pytest.raises(
        ValueError, match="hf://om/crawl is not an address of the hub: write hf://da"
    ):
        options.check_upload("hf://om/crawl")
