"""What is put into a tar comes out as a pair or with a reason, and both readers agree."""

import bz2
import io
import json
import lzma
import tarfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs5m import files
from rs5m.data import records, tar
from rs5m.data.records import Record, index, read
from rs5m.data.sample import is_caption

IMAGE, TEXT = b"pixels", b"a farm"


def tarred(path: Path, members: list[tuple]) -> Path:
    """A tar of (name, bytes), or (name, type, target) for links and what else is not a file."""
    with tarfile.open(path, "w") as archive:
        for name, content, *target in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes) and not target:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content, target[0]
                archive.addfile(info)
    return path


def pairs(path: Path) -> dict[str, tuple[bytes, str]]:
    """By the index; by reading in order, too, where nothing is broken."""
    found, data = index(path), path.read_bytes()
    kept = {
        name: (data[a : a + n], records.captions(records.TEXTS[kind], data[t : t + m])[0])
        for name, (a, n, t, m, kind) in zip(found.names, found.places.tolist(), strict=True)
    }
    if found.damaged:
        with pytest.raises(ValueError, match=str(path)):
            list(read([path]))
    else:
        assert {r.name: (r.image, r.caption) for r in read([path])} == kept
    return kept


def test_tars_joined_by_cat_are_read_each_by_itself(tmp_path):
    one = tarred(tmp_path / "1.tar", [("a.jpg", IMAGE), ("a.txt", TEXT), ("b.jpg", IMAGE)])
    hard = ("b.jpg", tarfile.LNKTYPE, "a.jpg")
    two = tarred(tmp_path / "2.tar", [("a.jpg", b"other"), ("a.txt", b"x"), hard, ("b.txt", b"y")])
    path = tmp_path / "x.tar"
    path.write_bytes(one.read_bytes() + two.read_bytes() + two.read_bytes())
    second = {"a.jpg": (b"other", "x"), "b.jpg": (b"other", "y")}
    later = {f"tar-{n}/{name}": pair for n in (2, 3) for name, pair in second.items()}
    found = index(path)
    assert found.names == ["a.jpg", *later]
    assert found.left_out == {"lacks a caption (txt or json)": 1}, "no text of another tar's"


def test_links_to_links_and_names_of_other_bytes(tmp_path):
    links = [("c.jpg", tarfile.SYMTYPE, "b.jpg"), ("b.jpg", tarfile.SYMTYPE, "a.jpg")]
    texts = [(f"{stem}.txt", TEXT) for stem in "abc"]
    path = tarred(tmp_path / "x.tar", [*links, *texts, ("a.jpg", IMAGE)])
    assert pairs(path) == {f"{stem}.jpg": (IMAGE, "a farm") for stem in "abc"}
    latin = [("\udce9.jpg", IMAGE), ("\udce8.txt", TEXT)]
    assert pairs(tarred(tmp_path / "y.tar", latin)) == {}, "not each other's"


@pytest.mark.parametrize("stem", ["S2A_20170613T101031.v1", "a.b.c", "d.e/f.g", "1.5m", "..a"])
def test_keys_with_dots_are_pairs(tmp_path, stem):
    path = tarred(tmp_path / "x.tar", [(f"{stem}.jpg", IMAGE), (f"{stem}.txt", TEXT)])
    if stem == "..a":
        assert pairs(path) == {} and index(path).left_out == {"is hidden": 2}
    else:
        assert pairs(path) == {f"{stem}.jpg": (IMAGE, "a farm")} and index(path).left_out == {}


@pytest.mark.parametrize(
    ("image", "text"),
    [("image.jpg", "text.txt"), ("rgb.JPG", "en.json"), ("v1.image.png", "v1.caption.cap")],
)
def test_words_before_both_endings_make_a_pair(tmp_path, image, text):
    said = json.dumps({"text": "a farm"}).encode() if text.endswith("json") else TEXT
    members = [(f"1.5m.{text}", said), (f"1.5m.{image}", IMAGE), ("2.jpg", IMAGE), ("2.txt", b"b")]
    path = tarred(tmp_path / "x.tar", members)
    assert pairs(path) == {f"1.5m.{image.lower()}": (IMAGE, "a farm"), "2.jpg": (IMAGE, "b")}
    assert not index(path).left_out and not index(path).others


@pytest.mark.parametrize(
    ("names", "reasons"),
    [
        (("1.image.jpg", "1.en.txt", "1.de.txt"), ["lacks a caption (txt or json)"]),
        (("1.image.jpg", "1.mask.png", "1.text.txt"), ["lacks a caption (txt or json)"] * 2),
        (("IMG.0001.jpg", "IMG.0002.txt"), ["lacks a caption (txt or json)"]),
        (("1.image.jpg", "2.text.txt"), ["lacks a caption (txt or json)"]),
        (("lake.jpg", "lake.notes.txt"), ["lacks a caption (txt or json)"]),
    ],
)
def test_what_could_belong_to_another_is_no_pair(tmp_path, names, reasons):
    path = tarred(tmp_path / "x.tar", [(one, IMAGE) for one in names])
    assert pairs(path) == {}
    rest = ["lacks an image"] * (len(names) - len(reasons))
    assert index(path).left_out == Counter([*reasons, *rest])


@pytest.mark.parametrize("ending", ["jfif", "JPE", "jp2", "J2K", "GIF", "bmp", "tiff"])
def test_every_ending_of_an_image_is_one(tmp_path, ending):
    path = tarred(tmp_path / "x.tar", [(f"1.{ending}", IMAGE), ("1.txt", TEXT)])
    assert pairs(path) == {f"1.{ending.lower()}": (IMAGE, "a farm")}


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("caption", TEXT),
        ("text", TEXT),
        ("CAP", TEXT),
        ("json", b'{"text": "a farm", "url": "x"}'),
        ("json", b'{"caption": "a farm", "text": "another"}'),
    ],
)
def test_a_caption_has_the_names_that_others_give_it(tmp_path, ending, text):
    path = tarred(tmp_path / "x.tar", [("a.b.1.jpg", IMAGE), (f"a.b.1.{ending}", text)])
    assert pairs(path) == {"a.b.1.jpg": (IMAGE, "a farm")}
    assert [one.caption for one in read([path])] == ["a farm"]


def test_of_several_texts_the_usual_one_counts(tmp_path):
    members = [("1.jpg", IMAGE), ("1.cap", b"c"), ("1.text", b"b"), ("1.txt", TEXT)]
    assert pairs(tarred(tmp_path / "x.tar", members)) == {"1.jpg": (IMAGE, "a farm")}


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_are_read_where_they_lead(tmp_path, kind):
    target = {"d/2.jpg": "d/1.jpg" if kind == tarfile.LNKTYPE else "1.jpg"}
    members = [
        ("d/1.jpg", IMAGE),
        ("d/1.txt", TEXT),
        ("d/2.jpg", kind, target["d/2.jpg"]),
        ("d/2.txt", b"the same farm"),
        ("3.jpg", kind, "d/2.jpg"),
        ("3.txt", kind, "4.txt"),
        ("4.txt", b"later"),
        ("4.jpg", IMAGE),
        ("5.jpg", kind, "/etc/passwd"),
        ("5.txt", TEXT),
        ("latest.log", kind, "gone.log"),
    ]
    path = tarred(tmp_path / "x.tar", members)
    texts = {"d/1.jpg": "a farm", "d/2.jpg": "the same farm", "3.jpg": "later", "4.jpg": "later"}
    assert pairs(path) == {name: (IMAGE, text) for name, text in texts.items()}
    assert index(path).left_out == {
        "is a link to what the tar does not hold": 2,
        "lacks an image": 1,
    }
    assert index(path).damaged == [
        "x.tar 5.jpg: is a link to what the tar does not hold (/etc/passwd)",
        "x.tar 5: lacks an image",
    ]


def test_a_long_name_that_links_far_away(tmp_path):
    long = "d" * 60 + "/" + "n" * 180
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=form) as archive:
            for name, content in ((f"{long}.jpg", IMAGE), (f"{long}.txt", TEXT), ("b.txt", TEXT)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            info = tarfile.TarInfo("b.jpg")
            info.type, info.linkname = tarfile.LNKTYPE, f"{long}.jpg"
            archive.addfile(info)
        assert set(pairs(path)) == {f"{long}.jpg", "b.jpg"} and not index(path).left_out


def test_a_sparse_file_is_named(tmp_path):
    info = tarfile.TarInfo("1.jpg")
    info.size, info.pax_headers = len(IMAGE), {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(IMAGE))
        archive.addfile(tarfile.TarInfo("1.txt"))
    assert pairs(tmp_path / "x.tar") == {}
    assert index(tmp_path / "x.tar").damaged[0] == (
        "x.tar 1.jpg: is a sparse file: pack it without --sparse"
    )


def test_what_belongs_to_no_pair_is_counted(tmp_path):
    members = [
        ("1.jpg", IMAGE),
        ("1.png", b"mask"),
        ("1.txt", TEXT),
        ("1.cls", b"3"),
        ("._1.jpg", b"Mac"),
        ("README", b"text"),
        ("d", tarfile.DIRTYPE, ""),
    ]
    path = tarred(tmp_path / "x.tar", members)
    assert pairs(path) == {"1.jpg": (IMAGE, "a farm")}
    assert index(path).damaged == [] and index(path).left_out == {
        "is a second image of a pair": 1,
        "is of another kind (.cls)": 1,
        "is hidden": 1,
        "is of another kind (.)": 1,
    }
    assert {reason: some.names for reason, some in index(path).others.items()} == {
        "is a second image of a pair": ("x.tar 1.png",),
        "is of another kind (.cls)": ("x.tar 1.cls",),
        "is hidden": ("x.tar ._1.jpg",),
        "is of another kind (.)": ("x.tar README",),
    }


def test_a_tar_full_of_other_members_names_the_first(tmp_path):
    paths = [
        tarred(tmp_path / f"{n}.tar", [(f"{i}.cls", b"3") for i in range(60)]) for n in range(2)
    ]
    found = records.together(index(path).others for path in paths)
    (reason, some), *rest = found.items()
    assert (reason, some.count, len(some.names)) == ("is of another kind (.cls)", 120, 100)
    assert not rest and some.names[0] == "0.tar 0.cls" and some.names[-1] == "1.tar 39.cls"
    assert some.listed() == [*some.names, "and 20 more"]


def test_a_long_json_is_read_whole(tmp_path):
    note = json.dumps({"exif": "x" * 300_000, "caption": "a farm"}).encode()
    path = tarred(tmp_path / "x.tar", [("1.jpg", IMAGE), ("1.json", note)])
    assert pairs(path) == {"1.jpg": (IMAGE, "a farm")}
    mark = json.dumps({"caption": "a farm"}).encode("utf-8-sig")
    path = tarred(tmp_path / "y.tar", [("1.jpg", IMAGE), ("1.json", mark)])
    assert pairs(path) == {"1.jpg": (IMAGE, "a farm")}, "with a byte-order mark"


def packed() -> dict[str, bytes]:
    plain, zipped = bytes(range(256)) * 40, io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.tar", plain)
    return {
        "bzip2: unpack it first": bz2.compress(plain),
        "xz: unpack it first": lzma.compress(plain),
        "zip: unpack it first": zipped.getvalue(),
        "zstd: unpack it first": b"\x28\xb5\x2f\xfd" + plain,
        "a pointer of Git LFS": files.POINTER + b".github.com/spec/v1\noid sha256:0\nsize 9\n",
        "parquet": b"PAR1" + plain,
        "a text": "filename,title\na.jpg,Zürich\n".encode() * 90,
        "a text: fetch it again": ("a" * 511 + "ü").encode(),  # the first block ends in a letter
    }


def test_members_beyond_a_gibibyte_have_their_size(tmp_path):
    for size in (2**30 + 5, 2**33 + 7):
        info = tarfile.TarInfo("a.jpg")
        info.size = size
        with (tmp_path / "x.tar").open("w+b") as stream:
            stream.write(info.tobuf(tarfile.GNU_FORMAT))
            stream.truncate(size + 4096)  # a hole
            assert list(tar.walk(stream.fileno(), [])) == [("a.jpg", 512, size)]


def test_a_hole_is_no_end_of_a_tar_and_two_blocks_are(tmp_path):
    members = [("a.jpg", b"a"), ("b.jpg", bytes(1500)), ("c.jpg", b"c")]
    path = tarred(tmp_path / "x.tar", members)
    data = bytearray(path.read_bytes())
    short = bytes(data[: 512 * 10])  # the last two are zeros
    data[1024:1536] = bytes(512)
    path.write_bytes(data)
    faults = []
    with path.open("rb") as stream:
        assert [name for name, *_ in tar.walk(stream.fileno(), faults)] == ["a.jpg", "c.jpg"]
    assert [fault.reason for fault in faults] == ["has a damaged header"]
    path.write_bytes(short * 2)
    with path.open("rb") as stream:
        names = [name for name, *_ in tar.walk(stream.fileno(), faults)]
    assert names == [f"{folder}{name}" for folder in ("", "tar-2/") for name, _ in members]


@pytest.mark.parametrize("what", packed())
def test_what_is_not_a_tar_is_named(tmp_path, what):
    path = tmp_path / "x.tar"
    path.write_bytes(packed()[what])
    (damage,) = index(path).damaged
    assert damage.startswith(f"x.tar is not a tar file but {what}") and pairs(path) == {}
    assert sum(index(path).left_out.values()) == 1


# ---------------------------------------------------------------- any tar


STEMS = st.sampled_from(["a", "b", "a.b", "a.b.c", "d/a", "d/.a", ".a", "ü", "d.e/a", "x" * 130])
ENDINGS = st.sampled_from(
    ["jpg", "PNG", "txt", "json", "caption", "img_content", "img_name", "cls"]
)
CONTENTS = st.sampled_from([b"", b" ", b"one", b'{"caption": "two"}', b'{"captions": ["3", "4"]}'])
FILES = st.tuples(st.builds("{}.{}".format, STEMS, ENDINGS), CONTENTS)
LINKS = st.tuples(
    st.builds("{}.{}".format, STEMS, ENDINGS),
    st.sampled_from([tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]),
    st.builds("{}.{}".format, STEMS, ENDINGS),
)


@settings(max_examples=120, deadline=None)
@given(members=st.lists(FILES, max_size=14, unique_by=lambda one: one[0].lower()))
def test_any_files_are_kept_or_counted(tmp_path_factory, members):
    path = tarred(tmp_path_factory.mktemp("tar") / "x.tar", members)
    kept, found = pairs(path), index(path)
    samples, others = defaultdict(dict), 0
    for name, content in members:
        base = name.rpartition("/")[2]
        stem, kind = name.rpartition(".")[0], name.rpartition(".")[2].lower()
        if base.startswith(".") or kind == "cls":
            others += 1
        else:
            samples[stem][kind] = content
    whole = {}
    for stem, sample in samples.items():
        image, text, lacks = records.parts(sample)
        if not lacks and sample[image] and records.captions(text, sample[text]):
            name = records.name(sample, stem)
            whole[name] = sample[image], records.captions(text, sample[text])[0]
            others += sum(kind in ("img_content", "jpg", "png") for kind in sample) - 1
    assert kept == whole
    assert len(found.names) + len(found.damaged) == len(samples)
    assert sum(found.left_out.values()) == len(found.damaged) + others
    assert sum(some.count for some in found.others.values()) == others


@settings(max_examples=100, deadline=None)
@given(
    members=st.lists(st.one_of(FILES, LINKS), max_size=14),
    harm=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    cut=st.floats(0.2, 1),
)
def test_any_damage_ends_as_pairs_and_reasons(tmp_path_factory, members, harm, cut):
    path = tarred(tmp_path_factory.mktemp("tar") / "x.tar", members)
    broken = bytearray(path.read_bytes())
    for share, byte in harm:
        broken[int(share * (len(broken) - 1))] = byte
    path.write_bytes(broken[: int(cut * len(broken))])
    found = index(path)
    assert sum(found.left_out.values()) >= len(found.damaged)
    assert len(found.names) == len(found.places)
    if len(set(found.names)) == len(found.names):
        pairs(path)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=900), st.text(max_size=9)), max_size=6),
    st.sampled_from(records.LAYOUTS),
)
def test_what_is_written_is_kept_or_counted(tmp_path_factory, rows, layout):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    written = [Record(image, f"{i}.v.jpg", text) for i, (image, text) in enumerate(rows)]
    assert records.write(path, written, layout) == len(rows)
    says = [r for r in written if is_caption(r.caption)]
    good = {r.name: (r.image, r.caption) for r in says if r.image}
    assert pairs(path) == good and [p.name for p in path.parent.iterdir()] == ["x.tar"]
    counts = {"has no caption": len(rows) - len(says), "not_an_image": len(says) - len(good)}
    assert index(path).left_out == {reason: n for reason, n in counts.items() if n}


def test_pointers_and_other_encodings_of_a_caption(tmp_path):
    members = [("0.jpg", IMAGE), ("0.txt", "Fluß".encode("utf-16"))]
    members += [("1.jpg", IMAGE), ("1.txt", files.POINTER)]
    path = tarred(tmp_path / "x.tar", members)
    assert pairs(path) == {"0.jpg": (IMAGE, "Fluß")}
    assert index(path).left_out == {"has a pointer of Git LFS for a caption": 1}
