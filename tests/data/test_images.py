"""Chapter pub11, invalid images: every reason on a file that has it, every mode on one that must
pass.
"""

import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from small import encoded as encode

from rs5m.data import images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (64, 96, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, data, depth=8, colour=0):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def webp(kind, body):
    inner = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def tiff(*tags):
    """A TIFF of tags (number, kind, value) alone."""
    rows = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4)


def jpeg_size(data, width, height):
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


SMALL_JPEG = encode(PICTURE, "JPEG")
GREY_TIFF = [
    (258, 3, 8),
    (259, 3, 1),
    (262, 3, 1),
    (273, 4, 8),
    (277, 3, 1),
    (278, 4, 50_000),
    (279, 4, 9),
]
BOMBS = {
    "png": png(50_000, 50_000, zlib.compress(bytes(4_000_000), 9)),
    "png_1_bit": png(50_000, 50_000, zlib.compress(bytes(4_000_000), 9), depth=1),
    "gif": b"GIF89a" + struct.pack("<HH", 50_000, 50_000) + b"\x80\0\0" + bytes(6)
    + b"," + struct.pack("<HHHH", 0, 0, 50_000, 50_000) + b"\0\x02\x02\x4c\x01\0;",
    "gif_frame": b"GIF89a" + struct.pack("<HH", 64, 64) + b"\x80\0\0" + bytes(6)
    + b"," + struct.pack("<HHHH", 0, 0, 50_000, 50_000) + b"\0\x02\x02\x4c\x01\0;",
    "jpeg": jpeg_size(SMALL_JPEG, 50_000, 50_000),
    "bmp": b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "tiff": tiff((256, 4, 50_000), (257, 4, 50_000), *GREY_TIFF),
    "webp_vp8": webp(
        b"VP8 ", b"\x30\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(40)
    ),
    "webp_vp8l": webp(b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(40)),
    "webp_vp8x": webp(b"VP8X", b"\x02\0\0\0" + (49_999).to_bytes(3, "little") * 2)
    + b"ANIM\x06\0\0\0" + bytes(6),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_good_images_pass(kind):
    data = encode(PICTURE, kind)
    assert images.check(data) is None
    image = images.decode(data)
    assert image.mode == "RGB" and image.size == (96, 64)
    if kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n",
        b"%PDF-1.4\n",
        b"BMW is a maker of cars" * 10,
        b"RIFF\x10\0\0\0WAVEfmt " + bytes(100),
        b"P6 64 64 255\n" + bytes(64 * 64 * 3),
        encode(PICTURE, "ICO"),
        encode(PICTURE, "TGA"),
        encode(PICTURE, "PPM"),
        RNG.bytes(5000),
    ],
    ids=range(13),
)
def test_not_an_image(data):
    assert images.check(data) == "not_an_image"
    with pytest.raises(ValueError, match="not_an_image"):
        images.decode(data)


def test_postscript_never_starts_a_program(monkeypatch):
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a program was started")
    )
    assert images.check(encode(PICTURE, "EPS")) == "not_an_image"


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow remarks on what is cut; the reason is what counts
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_at_every_place(kind):
    """Cut anywhere: never an exception; never kept while pixels are missing."""
    data = encode(PICTURE, kind)
    found = {size: images.check(data[:size]) for size in [*range(64), *range(64, len(data), 97)]}
    assert set(found.values()) <= {"truncated", "not_an_image", None}
    assert all(
        found[size] == "truncated" for size in found if size > 1000 and size < len(data) - 300
    ), kind
    for size in (size for size in found if found[size] is None):
        if kind in ("PNG", "BMP", "TIFF"):
            assert np.array_equal(np.asarray(images.decode(data[:size])), PIXELS)
    assert images.check(data[: len(data) // 2]) == "truncated"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_never_raise(kind):
    data, rng, found = encode(PICTURE, kind), random.Random(1), set()
    for _ in range(150):
        bad = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            bad[rng.randrange(min(len(bad), rng.choice([60, 600, 60_000])))] = rng.randrange(256)
        image, reason = images.read(bytes(bad))
        assert (image is None) != (reason is None)
        found.add(reason)
    assert found <= {
        None,
        "truncated",
        "not_an_image",
        "bomb",
        "too_small",
        "extreme_aspect",
        "animated",
    }


def test_a_checksum_that_does_not_fit():
    data = bytearray(encode(PICTURE, "PNG"))
    data[len(data) // 2] ^= 255
    assert images.check(bytes(data)) == "truncated"


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    assert len(BOMBS[name]) < 10_000
    assert images.check(BOMBS[name]) == "bomb"


@pytest.mark.parametrize("name", ["webp_vp8", "webp_vp8l", "webp_vp8x"])
def test_a_webp_bomb_is_never_opened(name, monkeypatch):
    monkeypatch.setattr(
        Image, "open", lambda *args, **kwargs: pytest.fail("libwebp would take the canvas' memory")
    )
    assert images.check(BOMBS[name]) == "bomb"


def test_a_bomb_costs_neither_memory_nor_time():
    """Each in a process that may take 300 MB more than it has; 50,000 x 50,000 pixels are 2.5 GB at
    one byte.
    """
    code = """
import resource, sys, time
from rs5m.data import images
images.check(b"GIF89a")  # Pillow loads its plugins once
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 300_000_000,) * 2)
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data, before, since = sys.stdin.buffer.read(), used(), time.process_time()
reason = images.check(data)
print(reason, time.process_time() - since, used() - before)
"""
    for name in ("png", "webp_vp8x", "gif"):
        done = subprocess.run(
            [sys.executable, "-c", code], input=BOMBS[name], capture_output=True, check=True
        )
        reason, seconds, kilobytes = done.stdout.decode().split()
        assert (reason, float(seconds) < 0.5, float(kilobytes) < 5000) == ("bomb", True, True), (
            name,
            done.stdout,
        )


def test_a_tile_larger_than_its_image():
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 5), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, 65536), (323, 4, 65536), (324, 4, 8), (325, 4, 9)]
    assert images.check(tiff(*tags)) == "bomb"


def test_a_jpeg_of_endless_scans():
    data = encode(PICTURE, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert images.check(data) is None
    assert images.check(data[:last] + data[last:-2] * 500 + b"\xff\xd9") == "bomb"


def test_text_chunks_that_inflate():
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    data = encode(PICTURE, "PNG")
    assert images.check(data[:33] + bomb + data[33:]) in (None, "truncated")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pixels_are_counted_from_the_header(kind):
    data = encode(PICTURE, kind)
    assert images.check(data, images.Limits(max_pixels=96 * 64)) is None
    assert images.check(data, images.Limits(max_pixels=96 * 64 - 1)) == "bomb"


def test_webp_header_twin():
    """Our reading of the WebP header against libwebp's."""
    rng = random.Random(2)
    for _ in range(40):
        size = rng.randint(1, 300), rng.randint(1, 300)
        image = Image.new(rng.choice(["RGB", "RGBA"]), size, (9, 99, 200))
        data = encode(
            image, "WEBP", lossless=rng.random() < 0.5, exif=b"Exif" if rng.random() < 0.3 else b""
        )
        assert images.webp_pixels(data) == size[0] * size[1]


@pytest.mark.parametrize("size", [(31, 100), (100, 31), (1, 1), (31, 31)])
def test_too_small(size):
    assert images.check(encode(Image.new("RGB", size), "PNG")) == "too_small"
    assert images.check(encode(Image.new("RGB", size), "PNG"), images.Limits(min_side=1)) is None


def test_extreme_aspect():
    for size, reason in [
        ((728, 90), "extreme_aspect"),
        ((90, 728), "extreme_aspect"),
        ((468, 60), "extreme_aspect"),
    ]:
        assert images.check(encode(Image.new("RGB", size), "JPEG")) == reason
    assert images.check(encode(Image.new("RGB", (500, 100)), "JPEG")) is None
    assert images.check(encode(Image.new("RGB", (501, 100)), "JPEG")) == "extreme_aspect"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animated(kind):
    others = [Image.fromarray(255 - PIXELS), Image.fromarray(PIXELS // 2)]
    assert images.check(encode(PICTURE, kind, save_all=True, append_images=others)) == "animated"
    assert images.check(encode(PICTURE, kind, save_all=True)) is None


def test_pages_are_not_frames():
    data = encode(PICTURE, "TIFF", save_all=True, append_images=[Image.new("RGB", (48, 32))])
    assert images.check(data) is None and images.decode(data).size == (96, 64)
    assert images.check(encode(PICTURE, "MPO", save_all=True, append_images=[PICTURE])) is None


def test_modes_become_rgb():
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    grey = Image.fromarray(ramp.astype(np.uint8))
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))
    height = Image.fromarray((ramp * 10 - 400).astype(np.float32))
    counts = Image.fromarray((ramp * 1000).astype(np.int32))
    stretched = ((ramp - 0.02 * 255) / 0.96).clip(0, 255)  # the 2nd to the 98th percentile
    for image, kind, tolerance in [
        (grey, "PNG", 0),
        (grey.convert("LA"), "PNG", 0),
        (grey.convert("P"), "GIF", 0),
        (deep, "PNG", 1),
        (deep, "TIFF", 1),
        (height, "TIFF", 1),
        (counts, "TIFF", 1),
        (grey.convert("CMYK"), "TIFF", 1),
        (grey.convert("CMYK"), "JPEG", 9),
        (grey.convert("RGBA"), "TIFF", 0),
        (grey.convert("RGBA"), "WEBP", 9),
    ]:
        got = images.decode(encode(image, kind))
        expected = stretched if image in (deep, height, counts) else ramp
        difference = np.abs(np.asarray(got).mean(2) - expected).max()
        assert got.mode == "RGB" and difference <= tolerance + 1, (image.mode, kind)
    assert images.decode(encode(grey.convert("1"), "PNG")).getextrema() == ((0, 255),) * 3


def test_transparent_lies_over_white():
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    assert images.decode(encode(clear, "PNG")).getpixel((5, 5)) == (255, 255, 255)
    assert images.decode(encode(half, "PNG")).getpixel((5, 5)) == (127, 127, 127)
    palette = Image.new("P", (64, 64), 3)
    palette.putpalette(list(range(30)))
    assert images.decode(encode(palette, "GIF", transparency=3)).getpixel((5, 5)) == (255, 255, 255)
    assert images.decode(encode(palette, "PNG", transparency=0)).getpixel((5, 5)) == (9, 10, 11)


def test_values_without_a_range():
    flat = Image.fromarray(np.full((64, 64), 7.5, np.float32))
    holes = np.full((64, 64), np.nan, np.float32)
    assert images.decode(encode(flat, "TIFF")).getextrema() == ((0, 0),) * 3
    assert images.check(encode(Image.fromarray(holes), "TIFF")) == "no_valid_pixels"
    holes[0, :2] = [-np.inf, 3]
    holes[1, 0] = 5
    assert images.decode(encode(Image.fromarray(holes), "TIFF")).getpixel((0, 1)) == (255, 255, 255)


def test_exif_orientation_is_left_alone():
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees
    assert images.decode(encode(PICTURE, "JPEG", exif=exif)).size == (96, 64)


def test_check_decode_and_read_agree():
    for data in [*BOMBS.values(), SMALL_JPEG, b"", SMALL_JPEG[:300]]:
        image, reason = images.read(data)
        assert reason == images.check(data)
        if reason is None:
            assert image.tobytes() == images.decode(data).tobytes()
        else:
            with pytest.raises(ValueError, match=reason):
                images.decode(data)
