"""Half of a folder: which chapters can run, what the others need, and which shard is missing."""

from pathlib import Path

import pytest

from rs5m.book import domain, parts, scales

PAGES = ["index", "clip", "tune", "retrieval", "selo", "paper"]
COLAB = scales.get("colab")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"something")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    return tmp_path


def test_half_a_folder_is_told_before_the_first_chapter(folder):
    put(folder, "rs5m_test_data/eurosat-rgb/2750/Forest/Forest_1.jpg")
    fetch = f"--out {folder}`"
    assert parts.told(COLAB, PAGES) == [
        f"tune needs RS5M's shards: `rs5m fetch shards {fetch}",
        f"retrieval needs RS5M's shards, RSITMD, RSICD: `rs5m fetch shards tests {fetch}",
        f"selo needs RS5M's shards, AIR-SLT: `rs5m fetch shards tests {fetch}",
        "can run: index, clip, paper",
    ]
    put(folder, "rs5m/pub11-train-0000.tar", "AIR-SLT/annotations/anno.json")
    assert parts.told(COLAB, ["clip", "tune", "selo"]) == []
    assert list(parts.lacking(COLAB)) == ["retrieval"]


def test_the_laptops_scales_are_not_asked(folder):
    assert parts.told(scales.get("local"), PAGES) == []


def test_every_chapter_with_a_part_is_one_of_the_book(folder):
    book = {path.stem for path in (Path(__file__).parents[2] / "book").glob("*.md")}
    assert {page for part in parts.PARTS for page in part.chapters} <= book | {"leaderboard"}


def test_a_number_missing_among_the_shards_is_told(folder, capsys):
    numbers = {"pub11": (0, 1, 4), "rs3": (7,)}
    put(folder, *(f"rs5m/{half}-train-{n:04d}.tar" for half in numbers for n in numbers[half]))
    put(folder, "rs5m/pub11-train-0002.tar.part")
    assert len(domain.published_shards(COLAB)) == 4
    said = capsys.readouterr().out
    assert said.endswith("left out: pub11-train-0002.tar, pub11-train-0003.tar\n")
    domain.published_shards(COLAB, "rs3")
    assert capsys.readouterr().out == ""
