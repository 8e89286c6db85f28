"""RS5M's shards: written and read back, broken on purpose, and read by webdataset itself."""

import io
import tarfile
from pathlib import Path

import pytest
import webdataset

from rs5m.records import Record, read, write

PAIRS = [
    Record(b"\x89PNG not really \x00\xff" * 90, "a.b/first.png", "a farm, seen from above"),
    Record(b"", "second.jpg", ""),
    Record(b"\xff\xd8" * 700, "dritte.jpg", "Müllkippe bei Zürich, 上海 🌍\nsecond line"),
]


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shard(tmp_path) -> Path:
    path = tmp_path / "pub11-train-0000.tar"
    assert write(path, PAIRS) == 3
    return path


def test_what_is_written_is_read(shard, tmp_path):
    assert list(read([shard])) == PAIRS
    other = tmp_path / "rs3-train-0001.tar"
    write(other, PAIRS[:1])
    assert list(read([other, shard])) == PAIRS[:1] + PAIRS, "shards in the order given"


def test_the_same_pairs_give_the_same_bytes(shard, tmp_path):
    write(tmp_path / "again.tar", iter(PAIRS))
    assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()


def test_webdataset_sees_the_official_members(shard):
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert len(samples) == 3
    for sample, record in zip(samples, PAIRS, strict=True):
        assert {key for key in sample if not key.startswith("__")} == {"img_content", "img_name", "caption"}
        assert sample["img_content"] == record.image and sample["caption"].decode() == record.caption
    with tarfile.open(shard) as archive:
        stems, kinds = zip(*(info.name.split(".") for info in archive), strict=True)
        assert set(kinds[:3]) == {"img_content", "img_name", "caption"} and stems[:6] == stems[:1] * 3 + stems[3:4] * 3


def test_a_shard_of_no_pairs(tmp_path):
    assert write(tmp_path / "empty.tar", []) == 0 and list(read([tmp_path / "empty.tar"])) == []


def test_a_shard_in_the_official_names(tmp_path):
    path = tar(tmp_path / "rs3-val-0031.tar",
               {"7.img_content": b"x", "7.img_name": b"7.jpg", "7.caption": b"an airport"})  # fmt: skip
    assert list(read([path])) == [Record(b"x", "7.jpg", "an airport")]


@pytest.mark.parametrize(
    "kept",
    [
        "inside the last image",
        "inside the last header",
        "after the first sample",
        "1 byte",
    ],
)
def test_a_truncated_shard_is_named(shard, kept):
    whole = shard.read_bytes()
    with tarfile.open(shard) as archive:
        infos = archive.getmembers()
    cut = {
        "inside the last image": infos[6].offset_data + 100,
        "inside the last header": infos[6].offset + 100,
        "after the first sample": infos[3].offset,
        "1 byte": 1,
    }
    shard.write_bytes(whole[: cut[kept]])
    with pytest.raises(ValueError, match=f"^{shard} is not a whole tar file: fetch it again$"):
        list(read([shard]))


def test_a_damaged_header_is_no_end_of_file(shard):
    whole = bytearray(shard.read_bytes())
    with tarfile.open(shard) as archive:
        at = archive.getmembers()[3].offset
    whole[at : at + 100] = b"\xaa" * 100
    shard.write_bytes(whole)
    with pytest.raises(ValueError, match=str(shard)):
        list(read([shard]))


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>" * 60])
def test_a_file_that_is_no_tar_is_named(tmp_path, content):
    path = tmp_path / "rs3-train-0003.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is not a whole tar file"):
        list(read([path]))


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone.tar"):
        list(read([tmp_path / "gone.tar"]))


@pytest.mark.parametrize("gone", ["img_content", "img_name", "caption"])
def test_a_missing_member_is_named(tmp_path, gone):
    members = {f"00{i}.{key}": b"x" for i in range(2) for key in ("img_content", "img_name", "caption")}
    members.pop(f"001.{gone}")
    path = tar(tmp_path / "short.tar", members)
    with pytest.raises(ValueError, match=f"{path}: sample 001 lacks {gone}"):
        list(read([path]))


def test_a_caption_that_is_not_utf8_is_kept_readable(tmp_path):
    path = tar(tmp_path / "latin.tar", {"0.img_content": b"x", "0.img_name": b"a.jpg", "0.caption": b"Z\xfcrich lake"})
    assert list(read([path]))[0].caption == "Z\ufffdrich lake"


def test_members_are_never_written_to_a_path(tmp_path, monkeypatch):
    inside = tmp_path / "in"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = tar(tmp_path / "evil.tar", {f"../../up.{key}": b"x" for key in ("img_content", "img_name", "caption")})
    list(read([path]))
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "evil.tar"}


def test_a_writer_that_dies_leaves_no_shard(shard, tmp_path):
    before = shard.read_bytes()

    def pairs():
        yield PAIRS[0]
        raise RuntimeError("the disk is full")

    for path in (shard, tmp_path / "new.tar"):
        with pytest.raises(RuntimeError, match="disk is full"):
            write(path, pairs())
    assert shard.read_bytes() == before and not (tmp_path / "new.tar").exists()
