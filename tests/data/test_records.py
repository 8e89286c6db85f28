"""RS5M's shards: written and read back, broken on purpose, read by webdataset itself, indexed."""

import gzip
import io
import os
import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import webdataset

from rs5m.data import records, tar
from rs5m.data.records import Record, read, write
from rs5m.data.sample import OFFICIAL

PAIRS = [
    Record(b"\x89PNG not really \x00\xff" * 90, "a.b/first.png", "a farm, seen from above"),
    Record(b"\0", "second.jpg", "nothing"),
    Record(b"\xff\xd8" * 700, "dritte.jpg", "Müllkippe bei Zürich, 上海 🌍\nsecond line"),
]


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shard(tmp_path) -> Path:
    path = tmp_path / "pub11-train-0000.tar"
    assert write(path, PAIRS, "rs5m") == 3
    return path


def test_what_is_written_is_read(shard, tmp_path):
    assert list(read([shard])) == PAIRS
    other = tmp_path / "rs3-train-0001.tar"
    write(other, PAIRS[:1])
    assert list(read([other, shard])) == PAIRS[:1] + PAIRS, "shards in the order given"


def test_the_same_pairs_give_the_same_bytes(shard, tmp_path):
    write(tmp_path / "again.tar", iter(PAIRS), "rs5m")
    assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()


def test_webdataset_sees_the_official_members(shard):
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert len(samples) == 3
    for sample, record in zip(samples, PAIRS, strict=True):
        assert {key for key in sample if not key.startswith("__")} == {
            "img_content",
            "img_name",
            "caption",
        }
        assert (
            sample["img_content"] == record.image and sample["caption"].decode() == record.caption
        )
    with tarfile.open(shard) as archive:
        stems, kinds = zip(*(info.name.split(".") for info in archive), strict=True)
        assert (
            set(kinds[:3]) == {"img_content", "img_name", "caption"}
            and stems[:6] == stems[:1] * 3 + stems[3:4] * 3
        )


def test_a_shard_of_no_pairs(tmp_path):
    assert write(tmp_path / "empty.tar", []) == 0 and list(read([tmp_path / "empty.tar"])) == []


def test_a_shard_in_the_official_names(tmp_path):
    path = tarred(
        tmp_path / "rs3-val-0031.tar",
        {"7.img_content": b"x", "7.img_name": b"7.jpg", "7.caption": b"an airport"},
    )
    assert list(read([path])) == [Record(b"x", "7.jpg", "an airport")]


@pytest.mark.parametrize(
    "kept", ["inside the last image", "inside the last header", "after the first sample", "1 byte"]
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
    with pytest.raises(ValueError, match=f"^{shard} is not a (whole )?tar file.*: fetch it again$"):
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
    with pytest.raises(ValueError, match=f"^{path} is not a tar file.*: fetch it again$"):
        list(read([path]))


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone.tar"):
        list(read([tmp_path / "gone.tar"]))


@pytest.mark.parametrize("gone", ["img_content", "img_name", "caption"])
def test_a_missing_member_is_named(tmp_path, gone):
    members = {
        f"00{i}.{key}": b"x" for i in range(2) for key in ("img_content", "img_name", "caption")
    }
    members.pop(f"001.{gone}")
    path = tarred(tmp_path / "short.tar", members)
    with pytest.raises(ValueError, match=f"{path}: sample 001 lacks {gone}"):
        list(read([path]))


def test_a_caption_that_is_not_utf8_is_kept_readable(tmp_path):
    path = tarred(
        tmp_path / "latin.tar",
        {"0.img_content": b"x", "0.img_name": b"a.jpg", "0.caption": b"Z\xfcrich lake"},
    )
    assert list(read([path]))[0].caption == "Z\ufffdrich lake"


def test_members_are_never_written_to_a_path(tmp_path, monkeypatch):
    inside = tmp_path / "in"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = tarred(
        tmp_path / "evil.tar",
        {f"../../up.{key}": b"x" for key in ("img_content", "img_name", "caption")},
    )
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


# ---------------------------------------------------------------- the usual layout


@pytest.mark.parametrize("layout", records.LAYOUTS)
def test_both_layouts_give_back_what_was_written(tmp_path, layout):
    path = tmp_path / "some.tar"
    assert write(path, PAIRS, layout=layout) == 3
    assert list(read([path])) == PAIRS
    write(tmp_path / "again.tar", PAIRS, layout=layout)
    assert (tmp_path / "again.tar").read_bytes() == path.read_bytes()


def test_webdataset_sees_the_usual_members(tmp_path):
    write(tmp_path / "usual.tar", PAIRS, layout="webdataset")
    found = list(webdataset.WebDataset(str(tmp_path / "usual.tar"), shardshuffle=False))
    kinds = [{key for key in sample if key[0] != "_"} for sample in found]
    assert kinds == [{"png", "txt", "json"}, {"jpg", "txt", "json"}, {"jpg", "txt", "json"}]
    assert [sample["txt"].decode() for sample in found] == [record.caption for record in PAIRS]


def test_another_layout_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown layout 'zip': choose one of webdataset, rs5m"):
        write(tmp_path / "x.tar", PAIRS, layout="zip")
    assert not list(tmp_path.iterdir())


USUAL = {
    "txt": ({"txt": b"one"}, ("one",)),
    "json": ({"json": b'{"caption": "two", "url": 1}'}, ("two",)),
    "txt before a json's caption": ({"txt": b"one", "json": b'{"caption": "two"}'}, ("one",)),
    "several": (
        {"txt": b"one", "json": b'{"captions": ["a", "", 3, "b"], "caption": "c"}'},
        ("a", "b"),
    ),
    "a list": ({"json": b'{"caption": ["a", null, "b"]}'}, ("a", "b")),
    "an empty list": ({"json": b'{"captions": [], "caption": [" "], "text": "c"}'}, ("c",)),
    "one of several": ({"json": b'{"captions": ["a"], "caption": "c"}'}, ("a",)),
    "no json": ({"txt": b"one", "json": b"[" * 20000}, ("one",)),
    "another json": ({"txt": b"one", "json": b"[1]"}, ("one",)),
    "not UTF-8": ({"txt": b"Z\xfcrich"}, ("Z\ufffdrich",)),
    "not UTF-8 in json": ({"json": b'{"caption": "Z\xfcrich"}'}, ("Z\ufffdrich",)),
}


@pytest.mark.parametrize("case", USUAL)
@pytest.mark.parametrize("kind", ["jpg", "JPEG", "png", "webp", "tif"])
def test_where_the_usual_layout_holds_its_captions(tmp_path, case, kind):
    members, captions = USUAL[case]
    path = tarred(
        tmp_path / "x.tar",
        {f"7.{kind}": b"pixels"} | {f"7.{key}": data for key, data in members.items()},
    )
    assert list(read([path])) == [Record(b"pixels", f"7.{kind.lower()}", captions[0])]
    assert said(path) == {f"7.{kind.lower()}": (b"pixels", captions)}


@pytest.mark.parametrize(
    ("members", "lacks"),
    [
        ({"7.jpg": b"x"}, "a caption"),
        ({"7.txt": b"x"}, "an image"),
        ({"7.jpg": b"x", "7.json": b"{}"}, "a caption"),
        ({"7.jpg": b"x", "7.json": b'{"caption": 5}'}, "a caption"),
        ({"7.jpg": b"x", "7.json": b'{"captions": [""]}'}, "a caption"),
    ],
)
def test_a_usual_sample_that_lacks_something_is_named(tmp_path, members, lacks):
    path = tarred(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=f"{path}: sample 7 lacks {lacks}"):
        list(read([path]))
    found = records.index(path)
    assert (
        not found.names
        and len(found.damaged) == 1
        and found.damaged[0].startswith(f"x.tar 7: lacks {lacks}")
    )


# ---------------------------------------------------------------- the index


def said(path: Path) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Image and captions of each pair, read where the index says they are."""
    data, found = path.read_bytes(), records.index(path)
    assert len(set(found.names)) == len(found.names) == len(found.places)
    return {
        name: (data[a : a + n], records.captions(records.TEXTS[kind], data[t : t + m]))
        for name, (a, n, t, m, kind) in zip(found.names, found.places.tolist(), strict=True)
    }


def some(count: int) -> list[Record]:
    return [
        Record(bytes([i % 256]) * (100 + 311 * i % 1700), f"{i}.jpg", f"caption {i}")
        for i in range(count)
    ]


@pytest.mark.parametrize("layout", records.LAYOUTS)
def test_the_index_finds_what_reading_in_order_finds(tmp_path, layout):
    path = tmp_path / "x.tar"
    write(path, some(40), layout)
    assert said(path) == {r.name: (r.image, (r.caption,)) for r in read([path])}
    assert records.index(path).damaged == []


NAMES = [
    "a.jpg",
    "/absolute/b.jpg",
    "../../up.jpg",
    "d/" * 70 + "deep.jpg",
    "n" * 180 + ".jpg",
    "上海 é.jpg",
    ".hidden.jpg",
    "./c.d.jpg",
    "no ending",
    "two\nlines.jpg",
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_walk_sees_what_tarfile_sees(tmp_path, form):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form, encoding="utf-8") as archive:
        for i, name in enumerate(NAMES):
            if form == tarfile.USTAR_FORMAT and name[:3] == "nnn":
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.pax_headers = 600 * i, 1.5, {"comment": "path=9 size=1"}
            archive.addfile(info, io.BytesIO(bytes([i]) * 600 * i))
            others = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE
            for number, kind in enumerate(others):
                other = tarfile.TarInfo(f"{i}.{number}.jpg")
                other.type, other.linkname = kind, "/etc/passwd"
                other.size = 5000  # of no meaning for these
                archive.addfile(other)
    with tarfile.open(path) as archive:
        expected = [(info.name, info.offset_data, info.size) for info in archive if info.isreg()]
    with path.open("rb") as stream:
        faults = []
        assert list(tar.walk(stream.fileno(), faults)) == expected
    reasons = Counter(fault.reason for fault in faults)
    assert reasons == {
        "is a link to what the tar does not hold": 2 * len(expected),
        "is neither a file nor a link": len(expected),
    }


def test_sizes_beyond_eight_digits_are_read(tmp_path):
    info = tarfile.TarInfo("huge.jpg")
    info.size = 2**33
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "sparse.tar"
        path.write_bytes(info.tobuf(form))
        with path.open("r+b") as stream:
            start = stream.seek(0, os.SEEK_END)
            stream.truncate(start + 2**33 + 1024)
        with path.open("rb") as stream:
            assert list(tar.walk(stream.fileno(), [])) == [("huge.jpg", start, 2**33)]
        assert (
            records.index(path).damaged[0] == f"sparse.tar huge.jpg: is too large ({2**33} bytes)"
        )


@pytest.mark.parametrize("layout", records.LAYOUTS)
def test_a_tar_cut_anywhere_keeps_its_whole_pairs(tmp_path, layout):
    whole, path = tmp_path / "whole.tar", tmp_path / "cut.tar"
    write(whole, some(5), layout)
    data, expected = whole.read_bytes(), said(whole)
    with tarfile.open(whole) as archive:
        ends = [info.offset_data + info.size for info in archive]
    last = dict(zip(expected, ends[2::3], strict=True))
    cuts = sorted(
        {
            *range(1, ends[-1], 397),
            *ends,
            *(end - 1 for end in ends),
            *(-(-end // 512) * 512 for end in ends),
        }
    )
    for cut in cuts:
        path.write_bytes(data[:cut])
        assert said(path) == {name: pair for name, pair in expected.items() if last[name] <= cut}, (
            cut
        )
        damaged = records.index(path).damaged
        assert damaged and all(one.startswith("cut.tar ") for one in damaged), cut


def test_a_damaged_header_costs_its_own_pair_only(tmp_path):
    path = tmp_path / "x.tar"
    write(path, some(9))
    data, expected = bytearray(path.read_bytes()), said(path)
    with tarfile.open(path) as archive:
        infos = archive.getmembers()
    for number in (0, 12, 14, 26):
        at, broken = infos[number].offset, bytearray(data)
        broken[at + 20 : at + 120] = b"\xaa" * 100
        path.write_bytes(broken)
        assert said(path) == {n: p for n, p in expected.items() if n != f"{number // 3}.jpg"}
        first, second = records.index(path).damaged
        assert first.startswith(f"x.tar has a damaged header at byte {at}: ")
        assert second.startswith(f"x.tar {number // 3:08d}: lacks ")


def test_what_follows_zeros_is_not_lost(tmp_path):
    one, two, path = tmp_path / "1.tar", tmp_path / "2.tar", tmp_path / "x.tar"
    write(one, some(4)[:2])
    tarred(two, {f"x{i}.{kind}": b"x%d" % i for i in range(2) for kind in OFFICIAL})
    path.write_bytes(one.read_bytes() + two.read_bytes())
    assert len(said(path)) == 4 and not records.index(path).damaged, "two tars in a row"
    path.write_bytes(one.read_bytes() + bytes(512) + two.read_bytes())
    assert len(records.index(path).damaged) == 1, "a hole is no end mark"
    path.write_bytes(one.read_bytes() + bytes(3 * 2**20))
    found = records.index(path)
    assert len(found.names) == 2 and "bytes are left out" in found.damaged[0], (
        "a download that was allotted, not filled"
    )
    path.write_bytes(one.read_bytes() + bytes(5 * 512))
    assert records.index(path).damaged == []


def test_members_in_any_order_and_twice(tmp_path):
    whole = {f"{i}.{kind}": f"{kind} {i}".encode() for kind in ("jpg", "txt") for i in range(3)}
    path = tarred(tmp_path / "x.tar", whole)
    assert said(path) == {f"{i}.jpg": (b"jpg %d" % i, (f"txt {i}",)) for i in range(3)}
    with tarfile.open(path, "a") as archive:
        for name in ("1.jpg", "1.JPG"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"other"))
    assert said(path)["1.jpg"] == (b"jpg 1", ("txt 1",))
    assert records.index(path).damaged == ["x.tar 1.jpg: comes twice"] * 2


def test_an_empty_caption_is_named(tmp_path):
    path = tmp_path / "x.tar"
    write(path, [PAIRS[0], *(PAIRS[0]._replace(caption=text) for text in ("", " \n"))])
    assert records.index(path).damaged == [f"x.tar 0000000{i}: has no caption" for i in (1, 2)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a tar file: fetch it again"),
        (b"<html>Not found</html>" * 900, "is not a tar file but a text: fetch it again"),
        (b"\xff" * 900, "is not a tar file: fetch it again"),
        (
            b"PAR1" + bytes(900),
            "is not a tar file but parquet: name shards, which are tar files of pairs",
        ),
        (gzip.compress(bytes(range(256)) * 9), "is not a tar file but gzip: unpack it first"),
    ],
)
def test_the_index_of_no_tar(tmp_path, content, reason):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    assert records.index(path).damaged == [f"x.tar {reason}"] and records.index(path).names == []


def test_the_digest_knows_names_captions_and_places(tmp_path):
    def digest(pairs, layout="rs5m"):
        write(tmp_path / "x.tar", pairs, layout)
        return records.index(tmp_path / "x.tar").digest

    first = some(3)
    others = [
        first[:2],
        first[::-1],
        [*first[:2], first[2]._replace(caption="other")],
        [*first[:2], first[2]._replace(name="x")],
        [first[0]._replace(image=b"9" * 999), *first[1:]],
    ]
    assert digest(first) == digest(first)
    assert len({digest(pairs) for pairs in [first, *others]} | {digest(first, "webdataset")}) == 7


def test_no_damage_stops_the_index(tmp_path):
    whole, path = tmp_path / "whole.tar", tmp_path / "x.tar"
    long = some(4)[0]._replace(name="n" * 300)
    with tarfile.open(whole, "w", format=tarfile.PAX_FORMAT) as archive:
        for i, record in enumerate([*some(4), long]):
            for kind, data in (
                ("jpg", record.image),
                ("txt", b"text"),
                ("json", b'{"captions": ["a", "b"]}'),
            ):
                info = tarfile.TarInfo(f"{record.name[:-4]}{i}.{kind}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    data, generator = whole.read_bytes(), random.Random(0)
    assert len(said(whole)) == 5
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(generator.choice([1, 3, 40])):
            at = generator.randrange(len(broken))
            broken[at] = generator.randrange(256)
            if generator.random() < 0.1:
                del broken[at : at + generator.choice([1, 512, 700])]
        path.write_bytes(broken)
        for image, captions in said(path).values():
            assert captions and len(image) <= 2000


@pytest.mark.parametrize("layout", records.LAYOUTS)
def test_keys_count_from_zero_and_whole_pairs_leave_nothing_over(tmp_path, layout):
    path = tmp_path / "x.tar"
    assert write(path, some(3), layout) == 3
    with tarfile.open(path) as archive:
        stems = sorted({name.partition(".")[0] for name in archive.getnames()})
    assert stems == ["00000000", "00000001", "00000002"]
    found = records.index(path)
    assert found.others == {} and found.damaged == []


def test_without_a_word_the_members_are_webdatasets(tmp_path):
    assert write(tmp_path / "x.tar", some(1)) == 1
    with tarfile.open(tmp_path / "x.tar") as archive:
        endings = {name.partition(".")[2] for name in archive.getnames()}
    assert endings == {"jpg", "txt", "json"}


def test_members_of_several_shards_are_counted_together():
    one = records.Others(3, ("a", "b", "c"))
    both = records.together([{"x": one}, {"x": records.Others(2, ("d", "e")), "y": one}])
    assert both == {"x": records.Others(5, ("a", "b", "c", "d", "e")), "y": one}
