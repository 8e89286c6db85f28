"""The rule for images of more than 8 bits, of other bands and with alpha, beside a plain twin."""

import io
import random
import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp

from rs5m.data import images
from rs5m.data.images import DECODING

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(0)
KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


def tiff(
    bands: np.ndarray,
    *,
    names: tuple[str, ...] = (),
    kinds: tuple[ColorInterp, ...] = (),
    driver: str = "GTiff",
    **options,
) -> bytes:
    """An encoded raster of bands (n, h, w) with their descriptions and colours."""
    count, height, width = bands.shape
    profile = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings(), rasterio.MemoryFile() as file:
        warnings.simplefilter("ignore")
        with file.open(driver=driver, **profile, **options) as sink:
            sink.write(bands)
            for number, name in enumerate(names, 1):
                sink.set_band_description(number, name)
            if kinds:
                sink.colorinterp = kinds
        return file.read()


def twin(band: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """One band by the rule, as one would write it at first."""
    if band.dtype == np.uint8:
        return band
    values = band.astype(np.float64)
    valid = np.isfinite(values) & (True if nodata is None else values != nodata)
    shown = np.zeros(band.shape)
    if valid.any():
        low, high = np.percentile(values[valid], [2, 98])
        if low == high:
            low, high = values[valid].min(), values[valid].max()
        if high > low:
            shown[valid] = 255 * ((values[valid] - low) / (high - low)).clip(0, 1)
    return np.rint(shown)


def pixels(data: bytes, limits: images.Limits = DECODING) -> np.ndarray:
    image, reason = images.read(data, limits)
    assert reason is None and image.mode == "RGB"
    return np.asarray(image)


def close(got: np.ndarray, expected: list[np.ndarray]) -> bool:
    expected = np.stack(expected * (3 // len(expected)), -1)
    return got.shape == expected.shape and np.abs(got - expected).max(initial=0) <= 1


def some(kind: str, count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random bands (n, h, w) of one kind, a different range in each."""
    rng, whole = np.random.default_rng(seed), np.dtype(kind).kind != "f"
    limits = np.iinfo(kind) if whole else None
    bands = rng.normal(rng.integers(-50, 5000), 10.0 ** rng.integers(0, 4), (count, height, width))
    return (bands.clip(limits.min, limits.max) if whole else bands).astype(kind)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 6),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**16),
    layout=st.sampled_from(["pixel", "band"]),
    packed=st.sampled_from([None, "lzw", "deflate", "zstd", "packbits"]),
    holes=st.sampled_from(["none", "nodata", "nan", "all"]),
    photometric=st.sampled_from(["minisblack", "rgb"]),
)
def test_any_bands_are_shown_by_the_rule_or_left_out(
    kind, count, sides, seed, layout, packed, holes, photometric
):
    bands, nodata = some(kind, count, *sides, seed), None
    if holes in ("nodata", "all"):
        nodata = 7
        gaps = np.random.default_rng(seed).random(bands.shape) < (1 if holes == "all" else 0.3)
        bands[gaps] = nodata
    if holes == "nan" and bands.dtype.kind == "f":
        bands[..., : sides[1] // 2] = np.nan
    options = {"interleave": layout, "compress": packed, "nodata": nodata}
    if count == 4:  # else GDAL declares the fourth band of bytes as alpha by itself
        options |= {"alpha": "unspecified"}
    if photometric == "rgb" and count >= 3:
        options |= {"photometric": "rgb", "alpha": "unspecified"}
    image, reason = images.read(tiff(bands, **options), DECODING)
    named = "alpha" in options
    if count == 2 or (count > 4 and not named):
        assert (image, reason) == (None, "unknown_bands")
        return
    given = bands[:1] if count == 1 else bands[:3]
    if kind != "uint8" and nodata is not None and (given == nodata).all():
        assert (image, reason) == (None, "no_valid_pixels")
    else:
        assert reason is None
        shown = [twin(band, nodata) for band in given]
        assert close(np.asarray(image), shown)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_bands_are_black_and_outliers_are_seen(kind):
    flat = np.full((3, 50, 50), 7, kind)
    assert (pixels(tiff(flat)) == (7 if kind == "uint8" else 0)).all()
    flat[:, 3, 4] = 9
    assert pixels(tiff(flat)).max() == (9 if kind == "uint8" else 255), "less than 2 percent of it"


@pytest.mark.parametrize("kind", ["int8", "int16", "int32"])
def test_the_whole_range_of_signed_integers_does_not_overflow(kind):
    band = np.full((1, 5, 8), np.iinfo(kind).max, kind)
    band[0, 0, 0] = np.iinfo(kind).min
    assert close(pixels(tiff(band)), [twin(band[0])])


def test_extreme_floats_are_no_trouble():
    band = RNG.random((1, 40, 40))
    band[0, 0, :4] = [np.inf, -np.inf, np.nan, 1.7e308]
    expected = np.where(np.abs(band) < 1e9, band, np.nan)  # beyond float32 is beyond any unit
    assert close(pixels(tiff(band)), [twin(expected[0])])
    lowest = float(np.finfo("float32").min)
    band = RNG.random((1, 40, 40)).astype("float32")
    band[0, :9] = lowest
    assert close(pixels(tiff(band, nodata=lowest)), [twin(band[0], lowest)])
    assert close(pixels(tiff(band)), [twin(band[0], lowest)]), "a fill value that nobody declared"


def test_many_bands_are_left_out_without_a_word_of_pillow(capfd):
    many = np.ones((13, 40, 40), np.uint16)
    assert images.check(tiff(many), DECODING) == "unknown_bands"
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- alpha


RGB = RNG.integers(0, 256, (3, 40, 40)).astype(np.uint8)
NOISE = RNG.integers(1, 255, (1, 40, 40)).astype(np.uint8)


@pytest.mark.parametrize("declared", ["yes", "unspecified", "premultiplied"])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_fourth_band_is_alpha_only_where_it_is_declared_and_a_mask(kind, declared):
    mask = np.where(np.arange(40) < 10, 0, 255).astype(np.uint8) * np.ones((1, 40, 1), np.uint8)
    top = np.iinfo(kind).max // 255
    for fourth, seen in ((NOISE, False), (mask, declared != "unspecified")):
        bands = np.concatenate([RGB, fourth]).astype(kind) * top
        got = pixels(tiff(bands, photometric="rgb", alpha=declared))
        if kind == "uint16":
            opaque = fourth[0] > 0 if seen else True
            shown = [twin(np.where(opaque, band, np.nan).astype(float)) for band in bands[:3]]
        else:
            shown = list(RGB)
        white = [np.where(fourth[0] == 0, 255, band) for band in shown] if seen else shown
        assert close(got, white), (kind, declared, seen)


def test_a_described_band_is_not_alpha():
    mask = np.full((1, 40, 40), 0, np.uint8)
    names = ("red", "green", "blue", "near infrared")
    bands = np.concatenate([RGB, mask])
    assert close(pixels(tiff(bands, names=names, photometric="rgb", alpha="yes")), list(RGB))
    assert (pixels(tiff(bands, photometric="rgb", alpha="yes")) == 255).all()


def test_grey_with_alpha():
    alpha = np.where(np.arange(40) < 10, 0, 255).astype(np.uint8) * np.ones((40, 1), np.uint8)
    file = io.BytesIO()
    Image.merge("LA", [Image.fromarray(RGB[0]), Image.fromarray(alpha)]).save(file, "TIFF")
    assert close(pixels(file.getvalue()), [np.where(alpha == 0, 255, RGB[0])])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_png_of_16_bits_keeps_them(count):
    bands = np.stack([some("uint16", 1, 50, 40, i)[0] for i in range(count)])
    if count in (2, 4):
        bands[-1] = 65535
    shown = [twin(band) for band in bands[: 3 if count > 2 else 1]]
    assert close(pixels(tiff(bands, driver="PNG")), shown)


@pytest.mark.parametrize("count", [1, 3])
def test_the_transparent_colour_of_a_deep_png_lies_over_white(count):
    bands = np.full((count, 40, 40), 9000, np.uint16)
    bands[:, :20] = 20_000
    bands[:, 0, 0] = 500
    bands[:, 1, 1] = [500, 20_000, 20_000][:count]  # of three bands this is another colour
    got = pixels(tiff(bands, driver="PNG", nodata=500))
    assert got[0, 0].tolist() == [255] * 3 and got[30, 30].tolist() == [0] * 3
    assert got[1, 1].tolist() == ([255] * 3 if count == 1 else [0, 255, 255])


def test_deep_transparency_lies_over_white():
    bands = np.stack([*some("uint16", 3, 50, 40), np.full((50, 40), 65535, np.uint16)])
    bands[3, :25] = 0
    got = pixels(tiff(bands, driver="PNG"))
    assert (got[:25] == 255).all() and close(got[25:], [twin(band[25:]) for band in bands[:3]])


# ---------------------------------------------------------------- which bands


def test_bands_are_chosen_by_their_names():
    bands = some("int16", 5, 30, 30)
    for names in (("Blue", "Green", "Red", "NIR", ""), ("B2", "B3", "B4", "B5", "B6")):
        got = pixels(tiff(bands, names=names))
        assert close(got, [twin(band) for band in bands[2::-1]])
    byte = RNG.integers(0, 256, (5, 30, 30)).astype(np.uint8)
    assert close(
        pixels(tiff(byte, names=("nir", "red", "x", "green", "blue"))), list(byte[[1, 3, 4]])
    )
    assert images.check(tiff(byte, names=("nir", "red", "x", "green", "b"))) == "too_small"
    assert images.check(tiff(byte, names=("nir", "red")), DECODING) == "unknown_bands"


def test_sentinel_2_has_one_scale_in_one_file_and_in_three():
    bands = RNG.integers(0, 4000, (12, 40, 40)).astype(np.uint16)
    names = tuple(f"B{i:02d}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
    expected = np.rint(255 * (bands[[3, 2, 1]] / images.REFLECTANCE).clip(0, 1))
    assert close(pixels(tiff(bands, names=names)), list(expected))
    files = {name: tiff(band[None]) for name, band in zip(names, bands, strict=True)}
    image, reason = images.sentinel2(files)
    assert reason is None and close(np.asarray(image), list(expected))
    assert images.sentinel2({"B04": files["B04"]}) == (None, "lacks_bands")
    assert images.sentinel2(files | {"B02": files["B02"][:300]})[1] == "truncated"
    assert images.sentinel2(files | {"B02": tiff(bands[:3])})[1] == "unknown_bands"
    assert images.sentinel2(files | {"B02": tiff(bands[:1, :38])})[1] == "unknown_bands"
    assert images.sentinel2(files | {"B02": tiff(RGB[:1])})[1] == "unknown_bands"
    assert images.sentinel2(files, images.Limits(min_side=41))[1] == "too_small"


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_pages_of_one_size_are_bands_but_masks_are_not(kind):
    page = Image.fromarray(some(kind, 1, 40, 40)[0])
    file = io.BytesIO()
    page.save(file, "TIFF", save_all=True, append_images=[page] * 3)
    assert images.check(file.getvalue()) == "unknown_bands"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
        profile = {"count": 1, "height": 40, "width": 40, "dtype": kind}
        with memory.open(driver="GTiff", **profile) as sink:
            sink.write(np.asarray(page), 1)
            sink.write_mask(np.arange(1600).reshape(40, 40) < 800)
            sink.build_overviews([2])
        assert images.check(memory.read()) is None


def test_complex_numbers_are_not_shown():
    assert images.check(tiff(RGB.astype("complex64")), DECODING) == "unknown_bands"


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_jpeg_2000_is_read(kind):
    bands = some(kind, 3, 64, 64)
    data = tiff(bands, driver="JP2OpenJPEG", quality=100, reversible=True)
    assert close(pixels(data), [twin(band) for band in bands])
    assert images.check(data[: len(data) // 3]) in ("truncated", "not_an_image")
    assert images.check(data, images.Limits(max_pixels=64)) == "bomb"


# ---------------------------------------------------------------- hostile


@pytest.mark.parametrize(
    "options", [{}, {"compress": "deflate"}, {"tiled": True, "compress": "lzw"}]
)
def test_damaged_bytes_end_as_a_reason(options):
    data, rng, found = tiff(some("uint16", 3, 64, 64), **options), random.Random(1), set()
    for size in range(0, len(data), 977):
        found.add(images.check(data[:size]))
    for _ in range(200):
        bad = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            bad[rng.randrange(min(len(bad), rng.choice([60, 600, 60_000])))] = rng.randrange(256)
        image, reason = images.read(bytes(bad))
        assert (image is None) != (reason is None)
        found.add(reason)
    known = {None, "not_an_image", "bomb", "too_small", "extreme_aspect", "unknown_bands"}
    assert "truncated" in found and found <= known | {"truncated"}


def test_a_raster_larger_than_the_limit_is_not_read():
    data = tiff(some("uint16", 3, 64, 64))
    assert images.check(data, images.Limits(max_pixels=64 * 64 - 1)) == "bomb"
    many = tiff(some("uint16", 1, 64, 64).repeat(3000, 0), interleave="pixel", blockysize=64)
    assert images.check(many, images.Limits(max_pixels=64 * 64)) in ("bomb", "unknown_bands")


def test_a_pointer_of_git_lfs_is_named():
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    assert images.check(text) == "lfs_pointer"
