"""Class folders and zips of them: whatever is put in is kept, or left out for a reason."""

import warnings
import zipfile
from collections import Counter
from pathlib import Path

import fake_tests
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs5m import rs3
from rs5m.data import datasets, images, records
from rs5m.data import found as found_in
from rs5m.evaluate import search

FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PLACES = ("", "Forest/", "River/", "River/more/", "River/.ipynb_checkpoints/", ".git/", "a b/[c]/")
FILES = ("x.jpg", "X.JPG", "x.y.tif", "._x.jpg", ".DS_Store", "notes.txt", "noending", "x.jpg.part")
NAMES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(FILES)).map("".join), max_size=20
)
ALWAYS = [f"{place}/one.png" for place in ("Forest", "River", "a b")]  # no class may be empty


def reason(name: str) -> str | None:
    """The rule once more, in other words."""
    *folders, file = name.split("/")
    if any(part.startswith(".") for part in (*folders, file)):
        return "hidden"
    ending = "." + file.rpartition(".")[2].lower() if "." in file else "none"
    if ending not in (".jpg", ".png", ".tif"):
        return f"not an image's ending: {ending}"
    return None if folders else "outside the class folders"


def check(found: datasets.Classes, names: list[str]) -> None:
    out = [(name, why) for why, some in found.left_out.items() for name in some]
    twice = [(name, why) for name, why in out if why == "an earlier member of the same name"]
    assert Counter(name for name, _ in twice) == Counter(names) - Counter(set(names))
    rest = {name: why for name, why in out if (name, why) not in twice}
    assert rest == {name: reason(name) for name in names if reason(name)}
    assert sorted(found.images.names) == sorted({name for name in names if not reason(name)})
    assert [found.classes[label] for label in found.labels] == [
        name.split("/")[0] for name in found.images.names
    ]
    for i, name in enumerate(found.images.names):
        last = len(names) - 1 - names[::-1].index(name)  # of members of one name the last counts
        assert found.images.read(i) == f"{last} {name}".encode()


@FEW
@given(NAMES)
def test_every_file_of_a_tree_is_kept_or_has_a_reason(tmp_path_factory, names):
    names = list(dict.fromkeys([*ALWAYS, *names]))
    folder = tmp_path_factory.mktemp("set")
    for i, name in enumerate(names):
        path = folder / "AID" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{i} {name}".encode())
    check(datasets.classes("aid", folder), names)


@FEW
@given(NAMES, st.booleans())
def test_every_member_of_a_zip_is_kept_or_has_a_reason(tmp_path_factory, names, windows):
    names = [*ALWAYS, *names]
    folder = tmp_path_factory.mktemp("set")
    with (
        warnings.catch_warnings(action="ignore"),  # of zipfile, about members of one name
        zipfile.ZipFile(folder / "EuroSAT.zip", "w") as archive,
    ):
        archive.writestr("2750/Forest/", "")
        archive.writestr("elsewhere/x.jpg", "")
        for i, name in enumerate(names):
            member = zipfile.ZipInfo("x")
            inside = f"2750/{name}"
            member.filename = inside.replace("/", "\\") if windows and i % 2 else inside
            archive.writestr(member, f"{i} {name}")
    found = datasets.classes("eurosat", folder)
    assert found.left_out.pop("outside 2750/") == ["elsewhere/x.jpg"]
    check(found, names)


def test_every_reader_of_a_folder_takes_the_same_endings(tmp_path):
    names = [f"{one.upper()}.{one}" for one in (*records.PICTURES, "ppm", "svg", "npy")]
    for name in names:
        path = tmp_path / "set/class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    folder = tmp_path / "set"
    readers = {
        "rs3": set(rs3.listed(folder).values()),
        "search": set(search.images(folder)[0].names),
        "evaluate": set(datasets.of_folder("", folder, "").images.names),
    }
    for path in (folder / "class").iterdir():
        path.with_suffix(".txt").write_text("a")
    found = {pair.name for pair in found_in.found(folder) if not pair.fault}
    assert all(some == found for some in readers.values()) and len(found) == len(records.PICTURES)


def test_a_damaged_and_an_encrypted_member_of_a_zip(tmp_path):
    """Flags and bytes as other programs leave them."""
    path = tmp_path / "EuroSAT.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for place in ALWAYS:
            archive.writestr(f"2750/{place}", b"content" + place.encode())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"contentF", b"content_"))
    found = datasets.classes("eurosat", tmp_path)
    reasons = [images.check(found.images.read(i)) for i in range(3)]
    assert sorted(reasons) == ["not_an_image", "not_an_image", "truncated"]
    path.write_bytes(encrypted(whole, 1))
    found = datasets.classes("eurosat", tmp_path)
    assert len(found.images.names) == 2 and len(found.left_out["encrypted"]) == 1
    path.write_bytes(encrypted(whole, 3))
    with pytest.raises(ValueError, match="EuroSAT.zip is encrypted: unpack it with its password"):
        datasets.classes("eurosat", tmp_path)


def encrypted(data: bytes, count: int) -> bytes:
    """A zip whose first members say that they are."""
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = -1
        for _ in range(count):
            place = data.index(start, place + 1)
            data = data[: place + at] + b"\1" + data[place + at + 1 :]
    return data


def test_linked_and_nested_class_folders_are_read(tmp_path):
    far = tmp_path / "far"
    (far / "deep/deeper").mkdir(parents=True)
    (far / "1.jpg").write_bytes(b"1")
    (far / "deep/deeper/2.jpg").write_bytes(b"2")
    (far / "deep/again").symlink_to(far)  # holds itself
    (tmp_path / "AID").mkdir()
    (tmp_path / "AID/Beach").symlink_to(far)
    (tmp_path / "AID/Port").mkdir()
    (tmp_path / "AID/Port/3.jpg").symlink_to(far / "1.jpg")
    (tmp_path / "AID/Port/4.jpg").symlink_to(tmp_path / "nothing")
    found = datasets.classes("aid", tmp_path)
    assert found.images.names == ["Beach/1.jpg", "Beach/deep/deeper/2.jpg", "Port/3.jpg"]
    assert [found.images.read(i) for i in range(3)] == [b"1", b"2", b"1"]
    assert found.left_out == {"is not a file, or a broken link": ["Port/4.jpg"]}


def test_a_pointer_of_git_lfs_is_named_wherever_it_stands(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "EuroSAT.zip").write_bytes(pointer)
    with pytest.raises(ValueError, match="EuroSAT.zip is a pointer of Git LFS"):
        datasets.classes("eurosat", tmp_path)
    assert datasets.decode(pointer) == (None, "lfs_pointer")
    folder = csv_of(tmp_path, pointer)
    with pytest.raises(ValueError, match="rsitmd_test.csv is a pointer of Git LFS"):
        datasets.captions("rsitmd", folder)


def csv_of(folder: Path, content: bytes) -> Path:
    (folder / "rsitmd/images").mkdir(parents=True, exist_ok=True)
    (folder / "rsitmd/images/0.jpg").write_bytes(fake_tests.jpeg(0))
    (folder / "rsitmd/rsitmd_test.csv").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b'\xef\xbb\xbffilename,title\n0.jpg,"a harbour, with boats"\n', "a harbour, with boats"),
        (b'FileName, TITLE \n0.jpg,"two\nlines"\n', "two\nlines"),
        (b"title,more,filename\na roof,,0.jpg\n", "a roof"),
        (b"filename,title\n0.jpg,a roof,\n", "a roof"),
        (b"# made by me\n\nfilename,title\n\n0.jpg,a roof\n", "a roof"),
    ],
)
def test_a_csv_of_captions_as_programs_write_it(tmp_path, content, caption):
    found = datasets.captions("rsitmd", csv_of(tmp_path, content))
    assert (found.images.names, found.captions) == (["0.jpg"], [(caption,)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"filename,title\n0.jpg,a harbour, with boats\n", "line 2: 3 fields under 2 columns"),
        (b"#\n\nfilename,title\n0.jpg,a\n0.jpg,a, b\n", "line 5: 3 fields under 2 columns"),
        (b"filename,title\n0.jpg,a\n0.jpg,NULL\n", "line 3: a row needs a filename and a title"),
        (b"filename,title,title\n0.jpg,a,b\n", "has the column title more than once"),
        (b"filename,Title,TITLE\n0.jpg,a,b\n", "has the column title more than once"),
        (b"filename,title\n../0.jpg,a\n", "'../0.jpg' is not a file name"),
    ],
)
def test_a_csv_of_captions_that_is_a_question(tmp_path, content, said):
    with pytest.raises(ValueError, match=f"rsitmd_test.csv.*{said}"):
        datasets.captions("rsitmd", csv_of(tmp_path, content))
