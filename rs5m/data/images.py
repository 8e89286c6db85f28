"""What is an image, what is not and why, and the one rule by which any image becomes 8-bit RGB.

Chapter: pub11. Evaluation, tuning, PUB11 and RS3 all decode by `read`, so that one file looks the
same to each of them.

The rule (`RULE` in one line):

* 8-bit grey, RGB, palette and CMYK: as they are
* alpha: only where the file declares it (PNG, WebP and GIF transparency; a TIFF's ExtraSamples 1
  or 2); transparent pixels lie over white. In a TIFF the declared alpha must also look like a
  mask, at least half of it 0 or full: GDAL declares any fourth band of bytes so, near infrared too
* 16 bits, signed and 32-bit integers, floats: band by band, the 2nd percentile becomes 0 and the
  98th 255, over the valid pixels (finite, not the file's nodata value, not transparent). Where the
  two are equal, minimum and maximum take their place; a constant band and invalid pixels are 0
* one band is grey, three are red, green and blue, and so are the first three of four
* any number of bands that the file itself names (red, green, blue by their descriptions or by the
  TIFF's photometric tag; B04, B03, B02): those. Other numbers of bands, and a TIFF of several
  equal pages, are left out: nothing says which band to show
* Sentinel-2's bands in integers (named B04, B03, B02, or the files of a BigEarthNet patch): one
  scale for all, 0 to 2750 (a reflectance of 0.275), by which EuroSAT's RGB images were made.
  [NOT IMPLEMENTED] the offset of -1000 in products since 2022: the bands do not state it

Of the formats only seven reach a parser, so Pillow's exotic ones (EPS starts ghostscript) never
run. What Pillow has no mode for is read by rasterio. EXIF orientation and colour profiles are
ignored: pictures from above have no upright, and camera tags are rare on them.
"""

import functools
import itertools
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from rs5m import files

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # that Pillow may open; JPEG 2000 is GDAL's
ANIMATED = ("PNG", "GIF", "WEBP")  # the pages of a JPEG (MPO) are previews
DRIVERS = {  # GDAL's, by the first bytes
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0c": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
COLOURS = (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2"))
SEGMENTS = (0xC4, 0xDA, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # of a JPEG, but its frames
MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a JPEG's scan; the others are part of it
SENTINEL2 = ("B04", "B03", "B02")  # red, green, blue
REFLECTANCE = 2750  # Sentinel-2's numbers are reflectance times 10,000
PERCENTILES = (2, 98)
RULE = (
    "8 bits as they are; 16 bits, other integers and floats stretched from the 2nd to the 98th"
    " percentile of each band's valid pixels, Sentinel-2's named bands from 0 to 2750; alpha and"
    " bands only as the file declares them"
)


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


DECODING = Limits(  # for data sets, whose makers judged size and shape; scenes have 10,000 x 10,000
    max_pixels=2**27, min_side=1, max_aspect=math.inf
)


class _Drop(Exception):
    """Carries the reason."""


def check(data: bytes, limits: Limits = Limits()) -> str | None:
    """Why an image is left out, or None: the reason that `read` gives."""
    return read(data, limits)[1]


def decode(data: bytes, limits: Limits = Limits()) -> Image.Image:
    """The RGB image in `data`; ValueError with the reason where `check` has one."""
    image, reason = read(data, limits)
    if reason:
        raise ValueError(
            f"cannot decode {len(data)} bytes as an image: {reason}; filter with"
            " rs5m.data.images.check first"
        )
    return image


def read(data: bytes, limits: Limits = Limits()) -> tuple[Image.Image | None, str | None]:
    """One pass that both decodes and judges: (RGB image, None) or (None, reason).

    - lfs_pointer: the text that a clone without Git LFS has in place of the file
    - not_an_image: none of the seven formats, or a kind of TIFF that nobody has a mode for
    - bomb: too many pixels by the header, a TIFF tile larger than that, or a JPEG of endless scans
    - animated: GIF, WebP or APNG with more than one frame
    - too_small, extreme_aspect: by `limits`
    - unknown_bands: two bands, five and more, complex numbers or several equal pages, without a
      word in the file on which to show
    - truncated: begins as an image, but its data end early or are damaged. [NOT IMPLEMENTED] damage
      that the format cannot notice, such as a wrong byte inside a JPEG
    """
    return _or_reason(lambda: _read(data, limits))


def sentinel2(
    bands: Mapping[str, bytes], limits: Limits = Limits()
) -> tuple[Image.Image | None, str | None]:
    """A patch of Sentinel-2 from its bands' files, as `read`: (RGB image, None) or (None, reason).

    bands: encoded images by name, of which B04, B03 and B02 are shown from 0 to `REFLECTANCE`.
    Reasons beside those of `read`: lacks_bands, and unknown_bands for files that are not one band
    each, all of one size.
    """
    return _or_reason(lambda: _patch(bands, limits))


def _or_reason(make: Callable[[], Image.Image]) -> tuple[Image.Image | None, str | None]:
    try:
        return make(), None
    except _Drop as drop:
        return None, str(drop)


def _read(data: bytes, limits: Limits) -> Image.Image:
    if data.startswith(files.POINTER):
        raise _Drop("lfs_pointer")
    if DRIVERS.get(data[:4]) == "JP2OpenJPEG":
        return _by_gdal(data, limits)
    image = _open(data, limits)
    if image is None:
        return _by_gdal(data, limits)
    _judge(image, limits)
    return _by_gdal(data, limits) if _scientific(image, data) else _pixels(image)


# ---------------------------------------------------------------- by Pillow


def _open(data: bytes, limits: Limits) -> Image.Image | None:
    """None for a TIFF that Pillow has no mode for."""
    if _webp_pixels(data) > limits.max_pixels:
        raise _Drop("bomb")  # libwebp takes the canvas' memory while opening; Pillow < 13 lets it
    if data[:3] == b"\xff\xd8\xff" and data.count(b"\xff\xda") > limits.max_scans:
        raise _Drop("bomb")
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _Drop("bomb") from None
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception:  # Pillow's parsers raise whatever their format trips over
        if DRIVERS.get(data[:4]) == "GTiff":
            return None
        raise _Drop(_unopened(data)) from None


def _judge(image: Image.Image, limits: Limits) -> None:
    tags = getattr(image, "tag_v2", {})
    _judge_pixels(math.prod(image.size), limits)
    _judge_pixels(_number(tags.get(322)) * _number(tags.get(323)), limits)  # libtiff takes a tile
    if image.format in ANIMATED and _frames(image):
        raise _Drop("animated")
    _judge_shape(*image.size, limits)
    if image.format == "TIFF" and _stack(image):
        raise _Drop("unknown_bands")


def _judge_pixels(pixels: int, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise _Drop("bomb")


def _judge_shape(width: int, height: int, limits: Limits) -> None:
    if min(width, height) < limits.min_side:
        raise _Drop("too_small")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise _Drop("extreme_aspect")


def _number(tag) -> int:
    return tag if isinstance(tag, int) else 0


def _numbers(tag) -> tuple[int, ...]:
    return tuple(_number(one) for one in tag) if isinstance(tag, tuple) else (_number(tag),)


def _frames(image: Image.Image) -> bool:
    try:
        return image.is_animated
    except Exception:  # the second frame is damaged
        raise _Drop("truncated") from None


def _stack(image: Image.Image) -> bool:
    """Whether a second page is one more band or date: as large as the first, and not declared an
    overview (1) or a mask (4).
    """
    size = image.size
    try:
        image.seek(1)
        return size == image.size and not _number(image.tag_v2.get(254)) & 5
    except Exception:  # no second page, or none that can be read
        return False
    finally:
        image.seek(0)


def _scientific(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would lose bits or bands of it."""
    if image.format == "PNG":
        return data[24] > 8  # the header's bit depth
    if image.format != "TIFF":
        return False
    tags = image.tag_v2
    bands, named = _number(tags.get(277, 1)), 42112 in tags  # GDAL's metadata, descriptions in them
    return (
        max(_numbers(tags.get(258, 1))) > 8
        or not {1, 4}.issuperset(_numbers(tags.get(339, 1)))  # unsigned, undefined
        or bands > (1 if tags.get(262) in (0, 1) else 4)
        or (bands > 1 and (named or 1 in _numbers(tags.get(338))))  # Pillow divides by such alpha
    )


def _pixels(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:
        raise _Drop("truncated") from None
    try:
        return _to_rgb(image)
    except ValueError:  # modes that Pillow cannot turn into RGB (LAB)
        raise _Drop("not_an_image") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        declared = image.format != "TIFF" or _numbers(image.tag_v2.get(338))[-1] in (1, 2)
        layer = image.convert("RGBA")
        if declared and (image.format != "TIFF" or _is_mask(layer.getchannel("A"))):
            return _over_white(layer)
    return image.convert("RGB")


def _is_mask(alpha: Image.Image) -> bool:
    counts = alpha.histogram()
    return 2 * (counts[0] + counts[255]) >= sum(counts)


def _over_white(layer: Image.Image) -> Image.Image:
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


# ---------------------------------------------------------------- by GDAL


@functools.cache
def _rasterio():
    import rasterio._err  # slow to import, and most images need none of it

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


@contextmanager
def _dataset(data: bytes, limits: Limits):
    """An open, judged raster from memory; what GDAL trips over ends as a reason."""
    rasterio, opened = _rasterio(), False
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"),
            rasterio.MemoryFile(data) as file,
            file.open(driver=DRIVERS.get(data[:4], "GTiff")) as source,
        ):
            opened = True
            _judge_raster(source, limits)
            yield source
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError):
        raise _Drop("truncated" if opened else _unopened(data)) from None


def _judge_raster(source, limits: Limits) -> None:
    _judge_pixels(source.width * source.height, limits)
    _judge_shape(source.width, source.height, limits)
    if len(source.subdatasets) > 1 or any(kind.startswith("complex") for kind in source.dtypes):
        raise _Drop("unknown_bands")
    block = max(math.prod(shape) for shape in source.block_shapes)  # GDAL holds all bands of one
    bits = 8 * source.count * max(np.dtype(kind).itemsize for kind in source.dtypes)
    _judge_pixels(max(block, block * bits // 128), limits)


def _by_gdal(data: bytes, limits: Limits) -> Image.Image:
    with _dataset(data, limits) as source:
        shown, alpha, top = _choice(source)
        clear = None if alpha is None else _alpha(source, alpha)
        if clear is not None and data[:4] != b"\x89PNG" and not _is_mask(clear):
            clear = None
        opaque = None if clear is None else np.asarray(clear) > 0
        bands = [Image.fromarray(_shown(source, band, top, opaque)) for band in shown]
    bands = bands if len(bands) == 3 else bands * 3
    if clear is None:
        return Image.merge("RGB", bands)
    return _over_white(Image.merge("RGBA", [*bands, clear]))


def _choice(source) -> tuple[list[int], int | None, int | None]:
    """The bands to show (one or three), the one that is declared alpha, and the top of the scale
    where it is fixed.
    """
    names = [(name or "").strip().lower() for name in source.descriptions]
    kinds = [kind.name for kind in source.colorinterp]
    clear = (n for n, kind in enumerate(kinds, 1) if kind == "alpha" and names[n - 1] in ("", kind))
    alpha = next(clear, None)
    for words, given in itertools.product(COLOURS, (names, kinds)):
        if set(words) <= set(given):
            counts = words == COLOURS[1] and source.dtypes[0] in (
                "int16",
                "uint16",
                "int32",
                "uint32",
            )
            shown = [given.index(word) + 1 for word in words]
            return shown, alpha, REFLECTANCE if counts else None
    rest = [number for number in range(1, source.count + 1) if number != alpha]
    if len(rest) not in (1, 3, 4):
        raise _Drop("unknown_bands")
    return rest[: 3 if len(rest) > 1 else 1], alpha, None


def _alpha(source, band: int) -> Image.Image:
    values = source.read(band, out_dtype="float32")
    kind = np.dtype(source.dtypes[band - 1])
    top = np.iinfo(kind).max if kind.kind in "iu" else max(float(np.nanmax(values, initial=0)), 1.0)
    return Image.fromarray(
        np.rint(np.nan_to_num(values) * (255 / top)).clip(0, 255).astype(np.uint8)
    )


def _shown(source, band: int, top: int | None, opaque: np.ndarray | None) -> np.ndarray:
    """uint8 (h, w): one band by the rule."""
    kind, nodata = source.dtypes[band - 1], source.nodatavals[band - 1]
    if kind == "uint8":
        return source.read(band)
    wide = np.dtype(kind).itemsize > 2  # float32 holds more than can be shown, in half the memory
    values = source.read(band, out_dtype="float32" if wide else kind)
    valid = np.isfinite(values)
    if nodata is not None:
        valid &= values != np.float32(nodata)
    if opaque is not None:
        valid &= opaque
    return _stretched(values, valid) if top is None else _scaled(values, valid, 0, top)


def _stretched(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    some = values[valid]
    if not some.size:
        return np.zeros(values.shape, np.uint8)
    if some.dtype.kind == "i":  # numpy subtracts in the array's own type, and that overflows
        some = some.astype(np.float64)
    low, high = np.percentile(some, PERCENTILES)
    if low == high:
        low, high = some.min(), some.max()
    return _scaled(values, valid, float(low), float(high))


def _scaled(values: np.ndarray, valid: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 of values between low and high, 0 where they are not valid; by rows, to save memory."""
    shown = np.zeros(values.shape, np.uint8)
    for row, out in enumerate(shown):
        unit = (np.where(valid[row], values[row], low).astype(np.float64) - low) / (
            (high - low) or 1
        )
        out[:] = np.rint(255 * unit.clip(0, 1))
    return shown


def _patch(bands: Mapping[str, bytes], limits: Limits) -> Image.Image:
    if any(name not in bands for name in SENTINEL2):
        raise _Drop("lacks_bands")
    layers = []
    for name in SENTINEL2:
        with _dataset(bands[name], limits) as source:
            if source.count != 1 or source.dtypes[0] == "uint8":
                raise _Drop("unknown_bands")
            layers.append(Image.fromarray(_shown(source, 1, REFLECTANCE, None)))
    if len({layer.size for layer in layers}) > 1:
        raise _Drop("unknown_bands")
    return Image.merge("RGB", layers)


# ---------------------------------------------------------------- by the first bytes


def _webp_pixels(data: bytes) -> int:
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


def _unopened(data: bytes) -> str:
    """The reason for what no parser opens: do its first bytes promise an image?"""
    if data[:4] in (b"II*\0", b"MM\0*"):  # a whole TIFF that cannot be opened is of an unknown kind
        order = "little" if data[:1] == b"I" else "big"
        short = len(data) < 8 or int.from_bytes(data[4:8], order) + 2 > len(data)
        return "truncated" if short else "not_an_image"
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ")
    return "truncated" if webp or data.startswith(starts) else "not_an_image"
