"""Images of 16 bits, floats and many bands, read by GDAL and shown by the rule of this package."""

import functools
import itertools
import math
import warnings
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
from PIL import Image

from rs5m.data.images.headers import Drop, Limits, judge_pixels, judge_shape, unopened

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
SENTINEL2 = ("B04", "B03", "B02")  # red, green, blue
REFLECTANCE = 2750  # Sentinel-2's numbers are reflectance times 10,000
PERCENTILES = (2, 98)
BEYOND = 1e38  # of floats: fill values such as the lowest float, whether or not they are declared


def by_gdal(data: bytes, limits: Limits) -> Image.Image:
    """The RGB image in `data`; Drop where it is left out."""
    with _dataset(data, limits) as source:
        shown, alpha, top = _choice(source)
        clear = None if alpha is None else _alpha(source, alpha)
        if source.driver == "PNG" and source.nodata is not None:  # the colour that is transparent
            clear = Image.fromarray(source.dataset_mask())
        elif clear is not None and source.driver != "PNG" and not is_mask(clear):
            clear = None
        opaque = None if clear is None else np.asarray(clear) > 0
        bands = _layers([_shown(source, band, top, opaque) for band in shown])
    bands = bands if len(bands) == 3 else bands * 3
    if clear is None:
        return Image.merge("RGB", bands)
    return over_white(Image.merge("RGBA", [*bands, clear]))


def patch(bands: Mapping[str, bytes], limits: Limits) -> Image.Image:
    """A patch of Sentinel-2 from its bands' files; Drop for one that is none."""
    if any(name not in bands for name in SENTINEL2):
        raise Drop("lacks_bands")
    layers = []
    for name in SENTINEL2:
        with _dataset(bands[name], limits) as source:
            if source.count != 1 or source.dtypes[0] == "uint8":
                raise Drop("unknown_bands")
            layers.append(_shown(source, 1, REFLECTANCE, None))
    layers = _layers(layers)
    if len({layer.size for layer in layers}) > 1:
        raise Drop("unknown_bands")
    return Image.merge("RGB", layers)


def _layers(shown: list[tuple[np.ndarray, bool]]) -> list[Image.Image]:
    """Bands as images; Drop where none of them holds a valid pixel, as at the edge of a swath."""
    if not any(seen for _, seen in shown):
        raise Drop("no_valid_pixels")
    return [Image.fromarray(band) for band, _ in shown]


def is_mask(alpha: Image.Image) -> bool:
    """Whether an alpha channel is full or 0 in at least half of its pixels."""
    counts = alpha.histogram()
    return 2 * (counts[0] + counts[255]) >= sum(counts)


def over_white(layer: Image.Image) -> Image.Image:
    """An RGBA image over white."""
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


# ---------------------------------------------------------------- what is opened


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
        raise Drop("truncated" if opened else unopened(data)) from None


def _judge_raster(source, limits: Limits) -> None:
    judge_pixels(source.width * source.height, limits)
    judge_shape(source.width, source.height, limits)
    if len(source.subdatasets) > 1 or any(kind.startswith("complex") for kind in source.dtypes):
        raise Drop("unknown_bands")
    block = max(math.prod(shape) for shape in source.block_shapes)  # GDAL holds all bands of one
    bits = 8 * source.count * max(np.dtype(kind).itemsize for kind in source.dtypes)
    judge_pixels(max(block, block * bits // 128), limits)


# ---------------------------------------------------------------- what is shown


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
        raise Drop("unknown_bands")
    return rest[: 3 if len(rest) > 1 else 1], alpha, None


def _alpha(source, band: int) -> Image.Image:
    values = source.read(band, out_dtype="float32")
    kind = np.dtype(source.dtypes[band - 1])
    top = np.iinfo(kind).max if kind.kind in "iu" else max(float(np.nanmax(values, initial=0)), 1.0)
    return Image.fromarray(
        np.rint(np.nan_to_num(values) * (255 / top)).clip(0, 255).astype(np.uint8)
    )


def _shown(
    source, band: int, top: int | None, opaque: np.ndarray | None
) -> tuple[np.ndarray, bool]:
    """uint8 (h, w): one band by the rule; whether it holds a valid pixel."""
    kind, nodata = source.dtypes[band - 1], source.nodatavals[band - 1]
    if kind == "uint8":
        return source.read(band), True
    wide = np.dtype(kind).itemsize > 2  # float32 holds more than can be shown, in half the memory
    values = source.read(band, out_dtype="float32" if wide else kind)
    valid = np.abs(values) < BEYOND if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None and source.driver != "PNG":
        valid &= values != np.float32(nodata)
    if opaque is not None:
        valid &= opaque
    shown = _stretched(values, valid) if top is None else _scaled(values, valid, 0, top)
    return shown, bool(valid.any())


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
