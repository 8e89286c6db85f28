"""Members of a tar by their places, stepping over what is damaged."""

import os
import re
import tarfile
from collections.abc import Iterator

BLOCK, PADDING = tarfile.BLOCKSIZE, 2**20  # bytes; no tar is padded with more zeros than that
LONGEST_TEXT, LARGEST_IMAGE = 2**16, 2**28  # bytes of one member that are ever read
PAX = re.compile(
    rb"(\d{1,9}) (?:(path|size)=)?"
)  # how a record of POSIX's extended header begins: length, key


def walk(file: int, damaged: list[str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and length of each regular file in an open tar; what is broken goes to
    `damaged`.

    About three times as fast as tarfile, which stops at a damaged header as if the tar ended there.
    """
    size, at, longer = os.fstat(file).st_size, 0, {}
    while True:
        head = os.pread(file, BLOCK, at)
        if head == bytes(BLOCK) and size - at <= PADDING and not any(os.pread(file, PADDING, at)):
            return
        parsed = _header(head)
        if parsed is None:
            there = _next_header(file, at, size)
            damaged.append(_broken(at, there, size, head))
            if there == size:
                return
            at, longer = there, {}
            continue
        member, length, kind = parsed
        start, length, member = at + BLOCK, longer.get("size", length), longer.get("path", member)
        regular = kind in b"0\x007" and not member.endswith("/")
        at = start + (-(-length // BLOCK) * BLOCK if regular or kind not in b"12345\x006" else 0)
        if kind in b"LxgK":
            longer |= _extended(kind, os.pread(file, min(length, LONGEST_TEXT), start))
            continue
        if regular and start + length > size:
            damaged.append(f"{member}: the tar ends inside it (truncated: fetch it again)")
            return
        if regular:
            yield member, start, length
        longer = {}


def _header(head: bytes) -> tuple[str, int, bytes] | None:
    """Name, length and type of a member, None where the checksum or the length is wrong."""
    try:
        if int(head[148:156].strip(b"\0 "), 8) != sum(head) - sum(head[148:156]) + 8 * ord(" "):
            return None
        length = tarfile.nti(head[124:136])
    except (ValueError, tarfile.HeaderError):
        return None
    prefix, member = (tarfile.nts(part, "utf-8", "replace") for part in (head[345:500], head[:100]))
    kind = head[156:157]
    return (
        (f"{prefix}/{member}" if prefix and kind not in b"LKS" else member, length, kind)
        if length >= 0
        else None
    )


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


def _broken(at: int, there: int, size: int, head: bytes) -> str:
    if not at and there == size:
        return "is not a tar file" + (
            " but gzip: unpack it first" if head[:2] == b"\x1f\x8b" else ": fetch it again"
        )
    if len(head) < BLOCK:
        return f"ends at byte {size} without an end mark (truncated: fetch it again)"
    return f"has a damaged header at byte {at}: {there - at} bytes are left out"


def _extended(kind: bytes, data: bytes) -> dict:
    """What a header before the header says: GNU's long name, or POSIX's path and size."""
    if kind == b"L":
        return {"path": data.rstrip(b"\0").decode("utf-8", "replace")}
    found, at = {}, 0
    while kind == b"x" and (match := PAX.match(data, at)):
        end = at + int(match[1])
        value = data[match.end() : end - 1].decode("utf-8", "replace")
        if match[2] == b"path":
            found["path"] = value
        elif match[2] == b"size" and value.isdecimal():
            found["size"] = int(value)
        at = max(end, at + 1)
    return found
