"""A run from an object store to an object store, started again after it was cut off."""

import loopback_hub
import loopback_store
import pandas as pd
import pytest
import written_hub

from rs5m import cli


@pytest.fixture
def store(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with loopback_store.small() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


def test_from_a_bucket_to_a_bucket(store, site, tmp_path, capsys):
    listed = pd.concat(map(pd.read_parquet, sorted(site[1].glob("*.parquet"))))
    store.objects["crawl/in/some.parquet"] = listed.iloc[:60].to_parquet()
    out = tmp_path / "out"
    command = ["pub11", "--pairs", "s3://crawl/in", "--out", str(out), "--keep-by", "none"]
    command += ["--allow-loopback", "--retries", "0", "--upload", "s3://crawl/made"]
    store.fault = lambda method, path: 403 if path.endswith("report.html") else 0
    assert cli.main(command) == 2
    assert "s3://crawl/made refuses" in capsys.readouterr().err
    store.fault = lambda method, path: 0
    assert cli.main(command) == 0
    assert "files sent, the others were there" in capsys.readouterr().out
    there = {name.removeprefix("crawl/made/"): data for name, data in store.objects.items()}
    del there["crawl/in/some.parquet"]
    for name, data in there.items():
        assert data == (out / name).read_bytes()
    assert {"run.json", "kept.parquet", "pub11-train-0000.tar", "report.html"} <= there.keys()
    assert "unmatched/00000.parquet" in there and len(pd.read_parquet(out / "kept.parquet")) > 3
    assert len(store.puts) == len(set(store.puts)), "nothing is sent twice"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pairs", "s3://crawl/none"], "s3://crawl/none holds no such object"),
        (["--upload", "ftp://x"], "ftp://x is not the address of an object store"),
        (["--upload", "s3://gone/x"], "s3://gone/x refuses"),
    ],
)
def test_a_wrong_address_is_one_sentence(options, words, store, site, tmp_path, capsys):
    command = ["pub11", "--pairs", str(site[1]), "--keep-by", "none", "--out", str(tmp_path / "o")]
    assert cli.main([*command, *options]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_from_the_hub_and_to_it(site, tmp_path, monkeypatch, capsys):
    listed = pd.concat(map(pd.read_parquet, sorted(site[1].glob("*.parquet"))))
    held = tmp_path / "hub/om/crawl/data"
    held.mkdir(parents=True)
    listed.iloc[:60].to_parquet(held / "some.parquet")
    (tmp_path / "hub/om/made").mkdir()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with written_hub.served(tmp_path / "hub") as server:
        loopback_hub.at(server.address, tmp_path, monkeypatch)
        command = ["pub11", "--keep-by", "none", "--allow-loopback", "--retries", "0"]
        for pairs, out in (("hf://datasets/om/crawl/data", "out"), (str(held), "plain")):
            typed = [*command, "--pairs", pairs, "--out", str(tmp_path / out)]
            assert cli.main([*typed, "--upload", f"hf://datasets/om/made/{out}"]) == 0
        assert capsys.readouterr().out.count("files sent, the others were there") == 2
        wrong = ["--upload", "hf://datasets/om/none", "--out", str(tmp_path / "never")]
        assert cli.main([*command, "--pairs", str(held), *wrong]) == 2
        assert "hf://datasets/om/none refuses (404): check" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()
    for name in ("run.json", "kept.parquet", "dropped.parquet", "pub11-train-0000.tar"):
        made = (tmp_path / "out" / name).read_bytes()
        assert made == (tmp_path / "plain" / name).read_bytes()
        assert made == (tmp_path / "hub/om/made/out" / name).read_bytes()
