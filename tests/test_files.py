"""Chapter setup, the ground: every file of a folder, and content that is the file itself."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs5m import files

PARTS = st.lists(st.sampled_from(["a", "B", ".c", "d[1]", "e f"]), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(PARTS, max_size=12))
def test_every_file_of_a_folder_comes_once_in_order(tmp_path_factory, names):
    folder, made = tmp_path_factory.mktemp("tree"), set()
    for parts in names:
        path = folder.joinpath(*parts[:-1], parts[-1] + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        made.add(path)
    assert list(files.walk(folder)) == sorted(made, key=lambda path: path.parts)
    assert set(files.walk(str(folder))) == made


def test_linked_folders_are_entered_once_and_broken_links_are_files(tmp_path):
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "far/deep/x").write_text("x")
    here = tmp_path / "here"
    here.mkdir()
    (here / "one").symlink_to(tmp_path / "far")
    (here / "two").symlink_to(tmp_path / "far")
    (here / "up").symlink_to(tmp_path)
    (here / "none").symlink_to(tmp_path / "nothing")
    (tmp_path / "far/deep/self").symlink_to(tmp_path / "far")
    names = [path.relative_to(here).as_posix() for path in files.walk(here)]
    assert names == ["none", "one/deep/x", "two/deep/x", "up/far/deep/x"]


def test_content_is_the_file_and_never_a_pointer(tmp_path):
    path = tmp_path / "a.zip"
    for data in (b"", b"version 2", bytes(range(256)) * 300):
        path.write_bytes(data)
        assert files.content(path) == files.content(str(path)) == data
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match="a.zip is a pointer of Git LFS.*git lfs pull"):
        files.content(path)
    with pytest.raises(FileNotFoundError):
        files.content(Path(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xef\xbb\xbf  {", "json"),
        (b"url\ttext\r\n", "text, such as csv or tsv"),
        (b"PAR1", "parquet"),
        (b"", "empty"),
        (b'\x40\0\0\0\0\0\0\0{"w":', "safetensors"),
        (b"\0\1", ""),
    ],
)
def test_what_a_file_is_by_its_first_bytes(start, kind):
    assert files.kind(start) == kind
    if kind not in ("", "json"):
        with pytest.raises(ValueError, match=f"x is {kind}, not json"):
            files.refuse_other("x", start, "json")


def test_what_is_written_whole_can_be_read_like_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("x")
    with files.whole(tmp_path / "secret") as temporary:
        temporary.touch(0o600)
    assert (tmp_path / "secret").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_text_is_read_by_its_mark(tmp_path, encoding, ends):
    path = tmp_path / "a.txt"
    path.write_bytes(ends.join(["Fluß", "", "b"]).encode(encoding))
    assert files.text(path) == "Fluß\n\nb"


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "a.txt"
    for content, said in (
        ("Fluß".encode("latin-1"), "neither UTF-8"),
        (b"PK\x03\x04\xff", "a zip"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"a.txt is {said}.*save it as UTF-8"):
            files.text(path)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EROFS, "Read-only file system.*name another place"),
        (errno.ENOSPC, "No space left on device.*free some space, then run it again"),
        (errno.EFBIG, "File too large.*raise the limit of a file's size"),
    ],
)
def test_what_a_disk_refuses_is_said_with_the_files_own_name(tmp_path, monkeypatch, number, cure):
    def refuse(self, *_, **__):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    said = pytest.raises(OSError, match=rf"/x could not be written \({cure}")
    with said, files.whole(tmp_path / "x") as temporary:
        refuse(temporary)


def test_an_input_that_is_gone_is_not_the_outputs_fault(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, files.whole(tmp_path / "x"):
        (tmp_path / "input").read_bytes()
    assert raised.value.filename == str(tmp_path / "input") and not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="/x could not be written"), files.whole(tmp_path / "x") as it:
        it.read_bytes()


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = files.HOST
    dead = [tmp_path / f"stage-1.{host}-{ended.pid}.tmp", tmp_path / f".a.{host}-{ended.pid}.tmp"]
    kept = [
        tmp_path / f"stage-2.{host}-{os.getppid()}.tmp",
        tmp_path / f"stage-3.00000000-{ended.pid}.tmp",  # another machine's
        tmp_path / f"notes.{host}-x{ended.pid}.tmp",
        tmp_path / f"a.{ended.pid}.txt",
    ]
    (dead[0] / "inside").mkdir(parents=True)
    for path in (dead[1], *kept):
        path.write_text("half")
    with files.whole(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "b.txt", *kept}


@pytest.mark.parametrize("resumes", [False, True])
def test_a_folder_is_whole_or_not_there(tmp_path, resumes):
    path = tmp_path / "made"
    with pytest.raises(KeyError), files.whole_folder(path, resumes) as temporary:
        (temporary / "half").touch()
        raise KeyError
    left = [one.name for folder in tmp_path.iterdir() for one in folder.iterdir()]
    assert not path.exists() and left == ["half"] * resumes
    with files.whole_folder(path, resumes) as temporary:
        (temporary / "rest").touch()
    assert [one.name for one in sorted(path.iterdir())] == ["half"] * resumes + ["rest"]
    with files.whole_folder(path) as temporary:  # another process has been faster
        (temporary / "late").touch()
    assert not (path / "late").exists() and list(tmp_path.iterdir()) == [path]
