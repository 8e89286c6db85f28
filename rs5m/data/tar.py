"""Members of a tar by their places, stepping over what is damaged.

By hand, because `tarfile` takes 2.6 times as long over a shard's headers, stops at a damaged one
as if the tar ended there, and with `ignore_zeros` steps over it without a word.
"""

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from rs5m import files

BLOCK, PADDING = tarfile.BLOCKSIZE, 2**20  # bytes; no tar is padded with more zeros than that
LONGEST_HEADER = 2**20  # bytes of a header before the header that are read
PAX = re.compile(  # how a record of POSIX's extended header begins: length, key
    rb"(\d{1,9}) (?:(path|linkpath|size|GNU\.sparse[^=\n]*)=)?"
)
CONTENT = {  # what is given in place of a tar, by its first bytes, and what helps
    b"\x1f\x8b": "gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it first",
    b"BZh": "bzip2: unpack it first",
    b"\xfd7zXZ": "xz: unpack it first",
    b"\x04\x22\x4d\x18": "lz4: unpack it first",
    b"PK\x03\x04": "zip: unpack it first",
    b"7z\xbc\xaf": "7-Zip: unpack it first",
    b"PAR1": "parquet: name shards, which are tar files of pairs",
    files.POINTER: "a pointer of Git LFS: run `git lfs pull` where it lies, or download the file",
}


class Fault(NamedTuple):
    """What is left out and why; `member` is empty where it is not known, `detail` differs from case
    to case.
    """

    member: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.member}{': ' if self.member else ''}{self.reason}{self.detail}"


class _Header(NamedTuple):
    member: str
    length: int
    kind: bytes
    target: str


def walk(file: int, faults: list[Fault]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and length of each file in an open tar; what is left out goes to `faults`.

    A link, hard or symbolic, is where the member that it names is; one that stands before that
    member comes last. Of tars joined by `cat` the second's members are below tar-2/, and so on.
    """
    places, links = {}, []
    for header, start in _headers(file, faults):
        member, kind = header.member, header.kind
        if "./" in member or "//" in member:
            member = posixpath.normpath(member)
        if kind in b"0\x007":
            places[member] = start, header.length
            yield header.member, start, header.length
        elif kind in b"12":
            base = posixpath.dirname(member) if kind == b"2" else ""
            target = posixpath.normpath(posixpath.join(base, header.target))
            if target in places:
                places[member] = places[target]
                yield header.member, *places[target]
            else:
                links.append((header.member, target))
        else:
            faults.append(Fault(header.member, "is neither a file nor a link", f" ({kind!r})"))
    while known := [link for link in links if link[1] in places]:
        links = [link for link in links if link[1] not in places]
        for member, target in known:
            places[posixpath.normpath(member)] = places[target]
            yield member, *places[target]
    for member, target in links:
        faults.append(Fault(member, "is a link to what the tar does not hold", f" ({target})"))


def _headers(file: int, faults: list[Fault]) -> Iterator[tuple[_Header, int]]:
    """Every whole member but folders, and where its content begins."""
    size, at, longer = os.fstat(file).st_size, 0, {}
    first, above = 0, ""  # where this tar begins, of several joined by cat, and its folder
    if content := _content(os.pread(file, BLOCK, 0)):
        faults.append(Fault("", f"is not a tar file but {content}"))
        return
    while True:
        head = os.pread(file, BLOCK, at)
        if head == bytes(BLOCK):
            there = _after_zeros(file, at, size)
            if there == size and size - at <= PADDING:
                return
            if _joins(at, there, first) and _header(os.pread(file, BLOCK, there)):
                first, at = there, there
                above = f"tar-{int(above[4:-1] or 1) + 1}/"
                continue
        header = _header(head)
        if header is None:
            there = _next_header(file, at, size)
            faults.append(_broken(at, there, size, head))
            if there == size:
                return
            at, longer = there, {}
            continue
        start, extends = at + BLOCK, header.kind in b"LxgK"
        header = header._replace(**longer) if longer and not extends else header
        kind = header.kind
        folder = kind == b"5" or (kind == b"\0" and header.member.endswith("/"))
        holds = not folder and kind not in b"12346"
        at = start + holds * -(-header.length // BLOCK) * BLOCK
        if extends:
            longer |= _extended(kind, os.pread(file, min(header.length, LONGEST_HEADER), start))
            continue
        if holds and start + header.length > size:
            reason = "the tar ends inside it (truncated: fetch it again)"
            faults.append(Fault(header.member, reason))
            return
        if kind == b"S":
            faults.append(Fault(header.member, "is a sparse file: pack it without --sparse"))
        elif not folder:
            target = above + header.target if kind == b"1" else header.target
            yield header._replace(member=above + header.member, target=target), start
        longer = {}


def _after_zeros(file: int, at: int, size: int) -> int:
    """Where the first block begins that is not zeros; `size` if nowhere."""
    while chunk := os.pread(file, PADDING, at):
        if rest := chunk.lstrip(b"\0"):
            return at + (len(chunk) - len(rest)) // BLOCK * BLOCK
        at += len(chunk)
    return size


def _joins(end: int, there: int, first: int) -> bool:
    """Whether zeros from `end` to `there` are the end mark of a tar that begins at `first`: filled
    up to a whole record, or two blocks; a hole in a file seldom is either.
    """
    return (there - first) % tarfile.RECORDSIZE == 0 or there - end == 2 * BLOCK


def _header(head: bytes) -> _Header | None:
    """A member's header, None where the checksum or the length is wrong."""
    try:
        if int(head[148:156].strip(b"\0 "), 8) != sum(head) - sum(head[148:156]) + 8 * ord(" "):
            return None
        length = tarfile.nti(head[124:136])
    except (ValueError, tarfile.HeaderError):
        return None
    prefix, member, target = (
        tarfile.nts(part, "utf-8", "backslashreplace")
        for part in (head[345:500], head[:100], head[157:257])
    )
    kind = head[156:157]
    member = f"{prefix}/{member}" if prefix and kind not in b"LKS" else member
    return _Header(member, length, kind, target) if length >= 0 else None


def _next_header(file: int, at: int, size: int) -> int:
    """Where the next header begins after a damaged one, by its magic word and its checksum; `size`
    if nowhere.
    """
    for start in range(at + BLOCK, size, 2048 * BLOCK):
        chunk = os.pread(file, 2048 * BLOCK, start)
        for block in range(0, len(chunk), BLOCK):
            head = chunk[block : block + BLOCK]
            if head[257:262] == b"ustar" and _header(head):
                return start + block
    return size


def _broken(at: int, there: int, size: int, head: bytes) -> Fault:
    if not at and there == size:
        return Fault("", "is not a tar file: fetch it again")
    if len(head) < BLOCK:
        return Fault("", "has no end mark (truncated: fetch it again)", f", {size} bytes")
    detail = f" at byte {at}: {there - at} bytes are left out"
    return Fault("", "has a damaged header", detail)


def _content(head: bytes) -> str | None:
    """What a file is that begins so and is certainly not a tar."""
    known = next((text for start, text in CONTENT.items() if head.startswith(start)), None)
    return known or ("a text: fetch it again" if _is_text(head) else None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else the block's end cuts a letter in two
            return False
        text = head[: error.start].decode()
    return bool(text) and all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text)


def _extended(kind: bytes, data: bytes) -> dict:
    """What a header before the header says: GNU's long name, or POSIX's path and size."""
    if kind in b"LK":
        text = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
        return {"member" if kind == b"L" else "target": text}
    given, at = {}, 0
    while kind == b"x" and (match := PAX.match(data, at)):
        end = at + int(match[1])
        value = data[match.end() : end - 1].decode("utf-8", "backslashreplace")
        if match[2] in (b"path", b"linkpath"):
            given["member" if match[2] == b"path" else "target"] = value
        elif match[2] == b"size" and value.isdecimal():
            given["length"] = int(value)
        elif match[2]:
            given |= {"kind": b"S"} if match[2][:3] == b"GNU" else {}
        at = max(end, at + 1)
    return given
