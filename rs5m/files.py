"""Files that are whole or not there, every file of a folder, and what tells one content from
another.
"""

import codecs
import errno
import glob
import hashlib
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from braceexpand import braceexpand

UMASK = os.umask(0)  # there is no way to read it without setting it
os.umask(UMASK)
POINTER = b"version https://git-lfs"  # how the text begins that a clone without Git LFS has
CURES = {errno.ENOSPC: "free some space, then run it again"}  # what helps where nothing was written
CURES[errno.EFBIG] = "raise the limit of a file's size (ulimit -f), then run it again"
CURES |= dict.fromkeys((errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS), "name another place")
HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # a drive may be that of several machines


def aside(path: Path, hidden: str = "") -> Path:
    """The name beside `path`, led by `hidden`, under which this process alone makes it; what killed
    processes of this machine left in that folder is removed.
    """
    _sweep(path.parent)
    return path.with_name(f"{hidden}{path.name}.{HOST}-{os.getpid()}.tmp")


@cache  # once in a process: a folder may hold thousands of shards
def _sweep(folder: Path) -> None:
    for path in folder.glob(f"*.{HOST}-*.tmp"):
        found = re.search(r"-(\d+)\.tmp$", path.name)
        if found and not _alive(int(found[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # another process may be faster
                    path.unlink()


def _alive(process: int) -> bool:
    if os.name != "posix":  # where a signal of 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name `path` when the block ends.

    The bytes are on the disk before the name is, no two processes share a temporary name, and a
    block that fails leaves nothing behind. OSError names the file and, for a full disk, the cure;
    that another file is gone, which the block reads, stays as it is.
    """
    path = Path(path)
    temporary = aside(path, ".")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())  # else a power cut may leave a name without bytes
        temporary.chmod(0o666 & ~UMASK)  # safetensors makes files that nobody else can read
        temporary.replace(path)
    except OSError as error:
        ours = not error.filename or str(error.filename) in (str(path), str(temporary))
        if error.errno == errno.ENOENT and not ours:
            raise
        raise unwritten(path, error) from error
    finally:
        with suppress(OSError):  # a disk that is read-only would hide why
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, resumes: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it takes the name `path` when the block ends,
    unless another process has made the same meanwhile.

    A block that fails leaves nothing behind, or, with `resumes`, what the next one goes on from:
    then all processes get one folder, and the block has to keep the others out of it.
    """
    temporary = path.with_name(f"{path.name}.part.tmp") if resumes else aside(path)
    if not resumes:
        shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True, exist_ok=resumes)
    except OSError as error:
        raise unwritten(temporary, error) from error
    try:
        yield temporary
        try:
            temporary.replace(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        if resumes:
            with suppress(OSError):
                temporary.rmdir()  # an empty one
        else:
            shutil.rmtree(temporary, ignore_errors=True)


def unwritten(path: str | Path, error: OSError) -> OSError:
    """The error of a file that could not be written, with its name and the cure."""
    cure = CURES.get(error.errno, "run it again")
    return OSError(f"{path} could not be written ({error.strerror or error}): {cure}")


def refuse_full(error: BaseException, folder: str | Path) -> None:
    """OSError that names the folder, where a full disk stands anywhere in an error's chain.

    Rust's libraries, the hub's downloader among them, and pip give the number in the text alone.
    """
    chain = [error]
    while chain:
        one = chain.pop()
        said = any(number in str(one) for number in ("(os error 28)", "[Errno 28]"))
        if said or getattr(one, "errno", None) == errno.ENOSPC:
            raise unwritten(folder, OSError(errno.ENOSPC, "the disk is full")) from error
        chain += [after for after in (one.__cause__, one.__context__) if after]


def cache_folder() -> Path:
    """The user's folder for what can be made or fetched again: RS5M_CACHE, else rs5m in the
    system's cache folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RS5M_CACHE") or Path(base) / "rs5m")


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


def matches(path: str | Path) -> dict[Path, list[Path]]:
    """What a pattern (`*`, `**`, `[ab]`, `{0..3}`) names, sorted, by each form of its braces; as
    much of it as exists is no pattern.
    """
    path = known = Path(path)
    while not known.exists() and known != known.parent:
        known = known.parent
    if known == path:
        return {path: [path]}
    forms = braceexpand(path.relative_to(known).as_posix())
    return {known / one: sorted(map(Path, set(_glob(known, one)))) for one in forms}


def _glob(folder: Path, pattern: str) -> list[str]:
    return glob.glob(f"{glob.escape(str(folder))}/{pattern}", recursive=True)


def content(path: str | Path) -> bytes:
    """The bytes of a file; ValueError for a pointer of Git LFS in its place."""
    whole_file = Path(path).read_bytes()
    refuse_pointer(path, whole_file)
    return whole_file


def decoded(data: bytes) -> str | None:
    """Text by its byte-order mark, UTF-8 where there is none; None for what is neither."""
    mark = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        return data.decode("utf-16" if mark else "utf-8-sig")
    except UnicodeDecodeError:
        return None


def text(path: str | Path) -> str:
    """The text of a file with line ends as \\n; ValueError that names a file which holds none."""
    data = content(path)
    found = decoded(data)
    if found is None:
        found = kind(data[:64])
        what = "neither UTF-8 nor UTF-16" if found.startswith("text") or not found else found
        raise ValueError(f"{path} is {what}: save it as UTF-8, or name a text file")
    return found.replace("\r\n", "\n").replace("\r", "\n")


def refuse_pointer(path: str | Path, start: bytes) -> None:
    """ValueError for a file whose first bytes are those of a pointer of Git LFS."""
    if start.startswith(POINTER):
        raise ValueError(
            f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in its "
            "repository, or download the file"
        )


LONGEST_HEADER = 2**27  # bytes of safetensors' header, of which none above 100 MB is read
KINDS = (  # the first bytes of files that come under another's name
    (b"PAR1", "parquet"),
    (b"PARE", "encrypted parquet"),
    (b"PK\x03\x04", "a zip"),
    (b"PK\x05\x06", "an empty zip"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"ARROW1", "Arrow's own format"),
    (b"%PDF", "a PDF"),
    (b"<", "a web page or XML"),
    (b"{", "json"),
    (b"[", "json"),
)


def kind(start: bytes) -> str:
    """What a file is by its first bytes, in words; "" for what is not known."""
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < LONGEST_HEADER:
        return "safetensors"  # eight bytes of length, then the header's JSON
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    known = next((words for magic, words in KINDS if start.startswith(magic)), "")
    if known or not start:
        return known or "empty"
    written = all(byte >= 32 or byte in b"\t\r\n\0\x1a" for byte in start)
    written = written and 8 * start.count(0) <= len(start)  # some zeros are slips in a text
    return "text, such as csv or tsv" if written else ""


def refuse_other(path: str | Path, start: bytes, wanted: str) -> None:
    """ValueError that says what a file is where its first bytes are another kind's than `wanted`.

    A file of unknown bytes passes: its reader can say better what is wrong with it.
    """
    refuse_pointer(path, start)
    if (found := kind(start)) not in ("", wanted):
        raise ValueError(f"{path} is {found}, not {wanted}: convert it, or leave it out")
