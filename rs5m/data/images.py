"""Invalid images: what is dropped before any model sees it, decided from the header first and from
the pixels last.

Chapter: pub11. Only six common formats reach a parser, so Pillow's exotic ones (EPS starts
ghostscript) never run. EXIF orientation and colour profiles are left alone: pictures from above
have no upright, and camera tags are rare on them.
"""

import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
ANIMATED = (
    "PNG",
    "GIF",
    "WEBP",
)  # the pages of a TIFF are overviews or masks, those of a JPEG (MPO) previews


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


class _Drop(Exception):
    """Carries the reason."""


def check(data: bytes, limits: Limits = Limits()) -> str | None:
    """Why an image is dropped, or None: the reason that `read` gives. Chapter: pub11."""
    return read(data, limits)[1]


def decode(data: bytes, limits: Limits = Limits()) -> Image.Image:
    """The RGB image in `data`; ValueError with the reason where `check` has one. Chapter: pub11."""
    image, reason = read(data, limits)
    if reason:
        raise ValueError(
            f"cannot decode {len(data)} bytes as an image: {reason}; filter with rs5m.data.images.check first"
        )
    return image


def read(data: bytes, limits: Limits = Limits()) -> tuple[Image.Image | None, str | None]:
    """One pass that both decodes and judges: (RGB image, None) or (None, reason). Chapter: pub11.

    - not_an_image: none of the six formats, or a kind of TIFF that Pillow has no mode for
    - bomb: too many pixels by the header, a TIFF tile larger than that, or a JPEG of endless scans
    - animated: GIF, WebP or APNG with more than one frame
    - too_small, extreme_aspect: by `limits`
    - truncated: begins as an image, but its data end early or are damaged. [NOT IMPLEMENTED] damage
      that the format cannot notice, such as a wrong byte inside a JPEG
    """
    try:
        image = _open(data, limits)
        _judge(image, limits)
        return _pixels(image), None
    except _Drop as drop:
        return None, str(drop)


def _open(data: bytes, limits: Limits) -> Image.Image:
    if (
        _webp_pixels(data) > limits.max_pixels
    ):  # libwebp takes the canvas' memory while opening; Pillow < 13 lets it
        raise _Drop("bomb")
    if data[:3] == b"\xff\xd8\xff" and data.count(b"\xff\xda") > limits.max_scans:
        raise _Drop("bomb")
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _Drop("bomb") from None
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception:  # Pillow's parsers raise whatever their format trips over
        raise _Drop("truncated" if _begins_well(data) else "not_an_image") from None


def _judge(image: Image.Image, limits: Limits) -> None:
    width, height = image.size
    tags = getattr(image, "tag_v2", {})
    tile = _number(tags.get(322)) * _number(
        tags.get(323)
    )  # TileWidth, TileLength: libtiff takes a whole one
    if max(width * height, tile) > limits.max_pixels:
        raise _Drop("bomb")
    if image.format in ANIMATED and _frames(image):
        raise _Drop("animated")
    if min(width, height) < limits.min_side:
        raise _Drop("too_small")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise _Drop("extreme_aspect")


def _number(tag) -> int:
    return tag if isinstance(tag, int) else 0


def _frames(image: Image.Image) -> bool:
    try:
        return image.is_animated
    except Exception:  # the second frame is damaged
        raise _Drop("truncated") from None


def _pixels(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:
        raise _Drop("truncated") from None
    try:
        return to_rgb(image)
    except ValueError:
        raise _Drop("not_an_image") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any Pillow mode.

    Transparent pixels lie over white, 16 bits keep their upper 8, 32 bits are stretched from their
    minimum to maximum. ValueError for modes that Pillow cannot turn into RGB (LAB). Chapter: pub11.
    """
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format == "PNG"
    ):  # older Pillow reads PNG-16 as I
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # no white is defined: height or reflectance in any unit
        return Image.fromarray(_stretched(np.asarray(image, dtype=np.float64))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _stretched(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    unit = np.where(finite, values - low, 0) / (high - low or 1)
    return np.rint(255 * unit.clip(0, 1)).astype(np.uint8)


def _webp_pixels(data: bytes) -> int:
    """Pixels by a WebP header (RFC 9649: VP8X, VP8L and VP8 chunks), 0 for anything else."""
    kind, body = data[12:16], data[20:30]
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(body) < 10:
        return 0
    if kind == b"VP8X":
        return (int.from_bytes(body[4:7], "little") + 1) * (
            int.from_bytes(body[7:10], "little") + 1
        )
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack("<HH", body[6:10])
    return (width & 0x3FFF) * (height & 0x3FFF) if kind == b"VP8 " else 0


def _begins_well(data: bytes) -> bool:
    """Whether the first bytes promise an image that the rest does not hold."""
    if data[:4] in (
        b"II*\0",
        b"MM\0*",
    ):  # a complete TIFF that cannot be opened is of a kind Pillow does not know
        return len(data) < 8 or int.from_bytes(
            data[4:8], "little" if data[:1] == b"I" else "big"
        ) + 2 > len(data)
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
