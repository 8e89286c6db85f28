"""What the first bytes of an image say, the limits that it is held to, and the reasons why it is
left out.
"""

import math
import re
import struct
from dataclasses import dataclass

SEGMENTS = (0xC4, 0xDA, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # of a JPEG, but its frames
MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a JPEG's scan; the others are part of it


@dataclass(frozen=True)
class Limits:
    """Pixels, the short side in pixels, long side / short side, and scans of a progressive JPEG.

    Below 32 pixels there is nothing to see at CLIP's 224. Above 5:1 the centre crop sees less than
    a fifth of the picture; web banners (468x60, 728x90) lie there. 2**26 pixels are 268 MB at 4
    bytes. Encoders write about 10 scans.
    """

    max_pixels: int = 2**26
    min_side: int = 32
    max_aspect: float = 5.0
    max_scans: int = 100


LIMITS = Limits()  # for pictures from the web
DECODING = Limits(  # for data sets, whose makers judged size and shape; scenes have 10,000 x 10,000
    max_pixels=2**27, min_side=1, max_aspect=math.inf
)


class Drop(Exception):
    """Carries the reason."""


def judge_pixels(pixels: int, limits: Limits) -> None:
    """Drop for more than the limit."""
    if pixels > limits.max_pixels:
        raise Drop("bomb")


def judge_shape(width: int, height: int, limits: Limits) -> None:
    """Drop for too small and too long ones."""
    if min(width, height) < limits.min_side:
        raise Drop("too_small")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise Drop("extreme_aspect")


def webp_pixels(data: bytes) -> int:
    """Pixels by a WebP header (RFC 9649: VP8X, VP8L and VP8 chunks), 0 for anything else."""
    kind, body = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(body) < 10:
        return 0
    if kind == b"VP8X":
        sides = body[4:7], body[7:10]
        return math.prod(int.from_bytes(side, "little") + 1 for side in sides)
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack("<HH", body[6:10])
    return (width & 0x3FFF) * (height & 0x3FFF) if kind == b"VP8 " else 0


def jpeg_size(data: bytes, limits: Limits = DECODING) -> tuple[int, int] | None:
    """Width and height of a plain JPEG by its markers; None for all else, broken, cut off and
    dangerous ones included, which `read` judges.

    Plain: 8 bits, grey or three channels, Huffman-coded, one frame within the limits of pixels and
    scans, nothing but known segments up to the end mark, and nothing behind it.
    """
    if data[:2] != b"\xff\xd8" or data.count(b"\xff\xda") > limits.max_scans:
        return None
    at, size = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        mark, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if mark in (0xC0, 0xC1, 0xC2):
            if size or at + 10 > len(data):
                return None
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            plain = depth == 8 and channels in (1, 3) and 0 < width * height <= limits.max_pixels
            if not plain:
                return None
            size = width, height
        elif mark not in SEGMENTS or (mark == 0xDA and not size):  # other codings; a scan too soon
            return None
        at += 2 + length
        if mark == 0xDA:
            after = MARK.search(data, at)
            at = after.start() if after else len(data)
            if data[at:] == b"\xff\xd9":
                return size
    return None


def unopened(data: bytes) -> str:
    """The reason for what no parser opens: do its first bytes promise an image?"""
    if data[:4] in (b"II*\0", b"MM\0*"):  # a whole TIFF that cannot be opened is of an unknown kind
        order = "little" if data[:1] == b"I" else "big"
        short = len(data) < 8 or int.from_bytes(data[4:8], order) + 2 > len(data)
        return "truncated" if short else "not_an_image"
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ")
    return "truncated" if webp or data.startswith(starts) else "not_an_image"
