"""One pass that decodes an image and judges it. Chapter: pub11."""

import logging
import math
from collections.abc import Callable, Mapping
from io import BytesIO

from PIL import Image

from rs5m import files
from rs5m.data.images.headers import (
    LIMITS,
    Drop,
    Limits,
    judge_pixels,
    judge_shape,
    unopened,
    webp_pixels,
)
from rs5m.data.images.raster import DRIVERS, by_gdal, is_mask, over_white, patch

logging.getLogger("PIL").addHandler(logging.NullHandler())  # a line for each TIFF of many bands

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # that Pillow may open; JPEG 2000 is GDAL's
ANIMATED = ("PNG", "GIF", "WEBP")  # the pages of a JPEG (MPO) are previews
RULE = (
    "8 bits as they are; 16 bits, other integers and floats stretched from the 2nd to the 98th"
    " percentile of each band's valid pixels, Sentinel-2's named bands from 0 to 2750; alpha and"
    " bands only as the file declares them"
)


def check(data: bytes, limits: Limits = LIMITS) -> str | None:
    """Why an image is left out, or None: the reason that `read` gives."""
    return read(data, limits)[1]


def decode(data: bytes, limits: Limits = LIMITS) -> Image.Image:
    """The RGB image in `data`; ValueError with the reason where `check` has one."""
    image, reason = read(data, limits)
    if reason:
        raise ValueError(
            f"cannot decode {len(data)} bytes as an image: {reason}; filter with"
            " rs5m.data.images.check first"
        )
    return image


def read(data: bytes, limits: Limits = LIMITS) -> tuple[Image.Image | None, str | None]:
    """One pass that both decodes and judges: (RGB image, None) or (None, reason).

    - lfs_pointer: the text that a clone without Git LFS has in place of the file
    - not_an_image: none of the seven formats, or a kind of TIFF that nobody has a mode for
    - bomb: too many pixels by the header, a TIFF tile larger than that, or a JPEG of endless scans
    - animated: GIF, WebP or APNG with more than one frame
    - too_small, extreme_aspect: by `limits`
    - unknown_bands: two bands, five and more, complex numbers or several equal pages, without a
      word in the file on which to show
    - no_valid_pixels: of 16 bits or floats, and all of it nodata, not a number or transparent
    - truncated: begins as an image, but its data end early or are damaged. [NOT IMPLEMENTED] damage
      that the format cannot notice, such as a wrong byte inside a JPEG
    """
    return _or_reason(lambda: _read(data, limits))


def sentinel2(
    bands: Mapping[str, bytes], limits: Limits = LIMITS
) -> tuple[Image.Image | None, str | None]:
    """A patch of Sentinel-2 from its bands' files, as `read`: (RGB image, None) or (None, reason).

    bands: encoded images by name, of which B04, B03 and B02 are shown from 0 to `REFLECTANCE`.
    Reasons beside those of `read`: lacks_bands, and unknown_bands for files that are not one band
    each, all of one size.
    """
    return _or_reason(lambda: patch(bands, limits))


def _or_reason(make: Callable[[], Image.Image]) -> tuple[Image.Image | None, str | None]:
    try:
        return make(), None
    except Drop as drop:
        return None, str(drop)


def _read(data: bytes, limits: Limits) -> Image.Image:
    if data.startswith(files.POINTER):
        raise Drop("lfs_pointer")
    if DRIVERS.get(data[:4]) == "JP2OpenJPEG":
        return by_gdal(data, limits)
    image = _open(data, limits)
    if image is None:
        return by_gdal(data, limits)
    _judge(image, limits)
    return by_gdal(data, limits) if _scientific(image, data) else _pixels(image)


# ---------------------------------------------------------------- by Pillow


def _open(data: bytes, limits: Limits) -> Image.Image | None:
    """None for a TIFF that Pillow has no mode for."""
    if webp_pixels(data) > limits.max_pixels:
        raise Drop("bomb")  # libwebp takes the canvas' memory while opening; Pillow < 13 lets it
    if data[:3] == b"\xff\xd8\xff" and data.count(b"\xff\xda") > limits.max_scans:
        raise Drop("bomb")
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Drop("bomb") from None
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception:  # Pillow's parsers raise whatever their format trips over
        if DRIVERS.get(data[:4]) == "GTiff":
            return None
        raise Drop(unopened(data)) from None


def _judge(image: Image.Image, limits: Limits) -> None:
    tags = getattr(image, "tag_v2", {})
    judge_pixels(math.prod(image.size), limits)
    judge_pixels(_number(tags.get(322)) * _number(tags.get(323)), limits)  # libtiff takes a tile
    if image.format in ANIMATED and _frames(image):
        raise Drop("animated")
    judge_shape(*image.size, limits)
    if image.format == "TIFF" and _stack(image):
        raise Drop("unknown_bands")


def _number(tag) -> int:
    return tag if isinstance(tag, int) else 0


def _numbers(tag) -> tuple[int, ...]:
    return tuple(_number(one) for one in tag) if isinstance(tag, tuple) else (_number(tag),)


def _frames(image: Image.Image) -> bool:
    try:
        return image.is_animated
    except Exception:  # the second frame is damaged
        raise Drop("truncated") from None


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
        raise Drop("truncated") from None
    try:
        return _to_rgb(image)
    except ValueError:  # modes that Pillow cannot turn into RGB (LAB)
        raise Drop("not_an_image") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        declared = image.format != "TIFF" or _numbers(image.tag_v2.get(338))[-1] in (1, 2)
        layer = image.convert("RGBA")
        if declared and (image.format != "TIFF" or is_mask(layer.getchannel("A"))):
            return over_white(layer)
    return image.convert("RGB")
