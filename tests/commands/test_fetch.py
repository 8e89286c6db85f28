"""`rs5m fetch`: whole files from a hub on this machine, gone on with, checked, or one sentence."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import loopback_hub
import pytest

from rs5m import cli
from rs5m.clip.released import REPO, fetch
from rs5m.commands import fetch as command
from rs5m.web import download

NAME, FILE = "GeoRSCLIP-ViT-B-32", "ckpt/RS5M_ViT-B-32.pt"
WEIGHTS = bytes(range(256)) * 49152  # more than the hub's library writes at a time


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    held = {f"{REPO}/{FILE}": WEIGHTS} | {
        f"{command.PAIRS}/{half}-train-{i:04d}.tar": f"{half} {i}".encode()
        for half in ("pub11", "rs3")
        for i in range(3)
    }
    for name, content in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    packed = folder / REPO / "data" / f"{command.TESTS}.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr(f"{command.TESTS}/AID/Beach/a.jpg", b"picture")
    with loopback_hub.served(folder) as server:
        yield server


def fetched(hub, out: Path, *words: str) -> subprocess.CompletedProcess:
    home = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(out / ".hf")}
    home |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    line = [sys.executable, "-m", "rs5m.cli", "fetch", *words, "--out", str(out)]
    return subprocess.run(line, env=home, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_weights_shards_and_tests_lie_where_the_readers_look(hub, tmp_path, monkeypatch):
    hub.cut = 12_000_000  # the first body breaks off: the rest is asked for
    said = fetched(hub, tmp_path, NAME, "shards", "tests", "--shards", "2")
    assert said.returncode == 0, said.stderr
    assert f"{FILE} of {REPO}: 13 MB" in said.stdout
    assert (tmp_path / FILE).read_bytes() == WEIGHTS
    ranges = [start for verb, path, start in hub.asked if verb == "GET" and FILE in path]
    assert ranges[-1] == "bytes=10485760-"
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    assert fetch(NAME) == tmp_path / FILE
    tars = sorted(path.name for path in (tmp_path / "rs5m").glob("*.tar"))
    assert tars == [f"{half}-train-000{i}.tar" for half in ("pub11", "rs3") for i in (0, 1)]
    assert (tmp_path / command.TESTS / "AID/Beach/a.jpg").read_bytes() == b"picture"
    assert not (tmp_path / "data" / f"{command.TESTS}.zip").exists()
    hub.asked.clear()
    assert fetched(hub, tmp_path, NAME, "shards", "tests", "--shards", "2").returncode == 0
    assert not [
        path for _, path, _ in hub.asked if "resolve" in path
    ]  # what is there is not asked for again


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_hub_that_refuses_is_one_sentence(hub, tmp_path, monkeypatch, status):
    monkeypatch.setattr(hub, "status", status)
    said = fetched(hub, tmp_path, NAME)
    assert said.returncode == 2 and said.stderr.count("\n") == 1, said.stderr
    assert (
        f"from the hub ({status})" in said.stderr and f"put the file at {tmp_path}" in said.stderr
    )


def test_a_file_that_was_changed_at_its_address_is_refused(tmp_path, monkeypatch, capsys):
    def came(url):
        (tmp_path / "cache.zip").write_bytes(b"pictures")
        return tmp_path / "cache.zip"

    monkeypatch.setattr(download, "fetch", came)
    line = ["fetch", "eurosat", "--out", str(tmp_path / "out")]
    assert cli.main(line) == 2 and "it changed there" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "cache.zip").exists()
    right = command.Site("https://a.example/EuroSAT.zip", hashlib.md5(b"pictures").hexdigest())
    monkeypatch.setitem(command.SITES, "eurosat", right)
    assert cli.main(line) == 0
    assert (tmp_path / "out" / "EuroSAT.zip").read_bytes() == b"pictures"


def test_names_and_numbers_are_checked_before_anything_is_asked(tmp_path, capsys):
    assert cli.main(["fetch", "eurosat", "eurosta", "--out", str(tmp_path)]) == 2
    assert (
        "nothing is called eurosta: did you mean eurosat? choose of eurosat, ucm, tests"
        in capsys.readouterr().err
    )
    assert cli.main(["fetch", "shards", "--shards", "33", "--out", str(tmp_path)]) == 2
    assert "give a number from 1 to 32" in capsys.readouterr().err
