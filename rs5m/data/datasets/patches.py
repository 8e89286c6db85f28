"""Patches of Sentinel-2 whose bands are files of their own, as BigEarthNet has them."""

import glob
import io
import re
from collections.abc import Iterable
from pathlib import Path

from rs5m.data import images

BAND = re.compile(r"(.+)_(B\d[0-9A])", re.IGNORECASE)  # the file of a band


def others(found: Iterable[str]) -> dict[str, str]:
    """Why files of bands are left out: all of a patch but that of red, which stands for it."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for file in found:
        if match := BAND.fullmatch(Path(file).stem):
            key = Path(file).parent.as_posix(), match[1]
            groups.setdefault(key, {})[match[2].upper()] = file
    reasons = {}
    for bands in groups.values():
        if len(bands) == 1:  # a picture that is called so
            continue
        whole = all(band in bands for band in images.SENTINEL2)
        reason = (
            "another band of a patch" if whole else "a band of a patch without B04, B03 and B02"
        )
        reasons |= dict.fromkeys(bands.values(), reason)
        if whole:
            del reasons[bands[images.SENTINEL2[0]]]
    return reasons


def sources(path: Path) -> dict[str, Path]:
    """The files of an image: of a patch those of red, green and blue by band, else {"": path}."""
    match = BAND.fullmatch(path.stem)
    if match and match[2].upper() == images.SENTINEL2[0]:
        beside = {
            other.stem.upper(): other for other in path.parent.glob(glob.escape(match[1]) + "_*")
        }
        bands = {band: beside.get(f"{match[1]}_{band}".upper()) for band in images.SENTINEL2}
        if None not in bands.values():
            return bands
    return {"": path}


def content(path: Path) -> bytes:
    """The bytes of an image, of a patch as PNG; of one that cannot be shown none."""
    parts = sources(path)
    if len(parts) == 1:
        return path.read_bytes()
    bands = {band: part.read_bytes() for band, part in parts.items()}
    image, _ = images.sentinel2(bands, images.DECODING)
    stream = io.BytesIO()
    if image:
        image.save(stream, "PNG")
    return stream.getvalue()
