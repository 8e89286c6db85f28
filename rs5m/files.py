"""Files that are whole or not there, every file of a folder, and what tells one content from
another."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POINTER = b"version https://git-lfs"  # how the text begins that a clone without Git LFS has


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name `path` when the block ends.

    The bytes are on the disk before the name is, no two processes share a temporary name, and a
    block that fails leaves nothing behind. OSError names the file and, for a full disk, the cure.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(
                stream.fileno()
            )  # else a power cut after the rename leaves a name without bytes
        temporary.replace(path)
    except OSError as error:
        cure = (
            "free some space, then run it again" if error.errno == errno.ENOSPC else "run it again"
        )
        raise OSError(f"{path} could not be written ({error.strerror or error}): {cure}") from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(folder: str | Path) -> Iterator[Path]:
    """Every file under a folder, in order of names, linked folders followed; a link to nothing is a
    file, too.

    A linked folder that holds itself is not entered again.
    """
    return _walk(Path(folder), ())


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    here = folder.resolve()
    if here in above:
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _walk(path, (*above, here))
        else:
            yield path


def content(path: str | Path) -> bytes:
    """The bytes of a file; ValueError for a pointer of Git LFS in its place."""
    found = Path(path).read_bytes()
    if found.startswith(POINTER):
        raise ValueError(
            f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in its "
            "repository, or download the file"
        )
    return found
