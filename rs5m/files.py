"""Files that are whole or not there, and what tells one file's content from another's."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
