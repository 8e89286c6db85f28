"""What the metadata of a labelled image says: fMoW, BigEarthNet and the pocket world. Chapter:
captions.

A reader turns one json document into a `Record`; `rs5m.captions.sentences` turns a record into
words. A field that is missing, odd or contradicted by another one stays empty and is named in
`left_out`. Nothing is guessed.
"""

import cmath
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rs5m.captions.sentences import Record, local_time, make, position, season, settings

NEAR = {
    "fmow": 50,
    "bigearthnet": 50,
    "pocket": 100,
}  # km; a chip of the pocket world is 111 km long
MAX_BYTES = 2**22  # of one json document; real ones have a few kB
BANDS = "CDEFGHJKLMNPQRSTUVWX"  # latitude bands of UTM, 8 degrees each from 80 S


@cache
def _alpha2() -> dict[str, str]:
    return dict(pair.split(":") for pair in settings()["iso"]["countries"].split())


def from_utm(
    easting: float, northing: float, zone: int, south: bool = False
) -> tuple[float, float]:
    """Latitude and longitude (degrees, WGS 84) of UTM metres; within a centimetre of PROJ inside a
    zone.

    The transverse Mercator series of Krueger (1912) in the third flattening, to third order.
    ValueError for a zone, easting or northing that UTM does not have. Chapter: captions.
    """
    if not (zone in range(1, 61) and 100_000 <= easting <= 900_000 and 0 <= northing <= 10_000_000):
        raise ValueError(f"no UTM coordinates: zone {zone}, easting {easting}, northing {northing}")
    n = 1 / (2 * 298.257223563 - 1)
    radius = 0.9996 * 6378137 / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    beta = n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480
    delta = 2 * n - 2 * n**2 / 3 - 2 * n**3, 7 * n**2 / 3 - 8 * n**3 / 5, 56 * n**3 / 15
    w = complex(northing - 10_000_000 * south, easting - 500_000) / radius
    w -= sum(b * cmath.sin(2 * j * w) for j, b in enumerate(beta, 1))
    chi = math.asin(math.sin(w.real) / math.cosh(w.imag))
    latitude = chi + sum(d * math.sin(2 * j * chi) for j, d in enumerate(delta, 1))
    longitude = 6 * zone - 183 + math.degrees(math.atan2(math.sinh(w.imag), math.cos(w.real)))
    return math.degrees(latitude), (longitude + 180) % 360 - 180


def place(latitude: float, longitude: float, within: float) -> dict | None:
    """The nearest town that reverse_geocode knows, as its dictionary; None if it is more than
    `within` km away.

    The search is in degrees, so far from the equator and at the date line a nearer town may exist.
    Chapter: captions.
    """
    import reverse_geocode  # builds its tree at first use

    return _near(reverse_geocode.search([(latitude, longitude)])[0], latitude, longitude, within)


def _near(town: dict, latitude: float, longitude: float, within: float) -> dict | None:
    a, b = math.radians(latitude), math.radians(town["latitude"])
    across = math.radians(town["longitude"] - longitude)
    square = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return town if 2 * 6371 * math.asin(math.sqrt(square)) <= within else None


def _named(town: dict | None) -> dict:
    """City, state and country of a town; "Korea, Republic of" becomes "Republic of Korea"."""
    if town is None:
        return {}
    head, _, tail = town["country"].partition(", ")
    country = f"{tail} {head}" if tail.endswith((" of", " of the")) else town["country"]
    return {
        "city": town["city"] or None,
        "state": town.get("state") or None,
        "country": country or None,
    }


def documents(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """(image name, bytes) of every json under a folder or in a zip, sorted; the name is the file's,
    without ending.

    Raises FileNotFoundError, or ValueError that names a broken zip or a document above MAX_BYTES.
    Chapter: captions.
    """
    path = Path(path)
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            if file.is_file() and not file.name.startswith("._"):  # the Mac's shadow files
                yield _image(file.name), _bytes(file)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda i: i.filename):
                stem = info.filename.rpartition("/")[2]
                if not stem.endswith(".json") or stem.startswith("._"):
                    continue
                if info.file_size > MAX_BYTES:
                    raise ValueError(
                        f"{info.filename} in {path} has {info.file_size} bytes: no metadata of one image"
                    )
                yield _image(stem), archive.read(info)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
    ) as error:  # RuntimeError: encrypted or odd method
        raise ValueError(f"{path} is not a whole, readable zip file: fetch it again") from error


def _image(file: str) -> str:
    return file.removesuffix(".json").removesuffix("_labels_metadata")


def _bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes: no metadata of one image")
    return path.read_bytes()


def _load(source, name: str | None) -> tuple[dict, str]:
    """The document and the image's name, from a path, the bytes of a file, or a dictionary that was
    read already.
    """
    if isinstance(source, str | Path):
        name, source, shown = name or _image(Path(source).name), _bytes(Path(source)), str(source)
    else:
        shown = name
    if name is None:
        raise TypeError("metadata without a file needs the image's name")
    try:
        document = json.loads(source) if isinstance(source, bytes) else source
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: not json, not text, a number of 5,000 digits
        raise ValueError(
            f"{shown} is not readable json ({error}): fetch it again or remove it"
        ) from error
    if not isinstance(document, dict):
        raise ValueError(
            f"{shown} holds a {type(document).__name__}, not one json object of metadata"
        )
    return document, name


def _number(value, low: float, high: float) -> float | None:
    right = (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )  # not for NaN
    return value if right else None


def _match(pattern: str, value, flags: int = re.ASCII) -> re.Match | None:
    return re.search(pattern, value, flags) if isinstance(value, str) else None


def _words(value) -> str | None:
    """A class name, if it looks like one: metadata is not trusted to put arbitrary text into
    captions.
    """
    found = _match(
        r"^[A-Za-z][A-Za-z0-9 _,/()'-]{0,99}$", value.strip() if isinstance(value, str) else None
    )
    return found[0] if found else None


def read_fmow(source: str | Path | bytes | dict, name: str | None = None) -> Record:
    """The record of one fMoW json; the name is the file's without ending unless given.

    Entry 0 of `bounding_boxes` is the whole image, the others are objects (a single entry is the
    object). With several objects the position is left out, and the category too where they differ.
    Coordinates, UTM zone and country code check each other, so swapped coordinates do not place the
    image somewhere else. A timestamp's hour is turned to solar time. ValueError names a file that
    is no json object. Chapter: captions.
    """
    document, name = _load(source, name)
    boxes = document.get("bounding_boxes")
    boxes = [
        b if isinstance(b, dict) else {} for b in (boxes if isinstance(boxes, list) else [boxes])
    ]
    location, town, zone = _checked(boxes, document)
    latitude, longitude = location or (None, None)
    date, hour = local_time(document.get("timestamp"), longitude)
    objects = boxes[1:] or boxes
    labels = {_words(b.get("category")) for b in objects} - {"false_detection"}
    scan = _match("^(forward|reverse)$", document.get("scan_direction"), re.IGNORECASE)
    return make(
        name,
        "fmow",
        labels=tuple(labels) if len(labels) == 1 and None not in labels else (),
        latitude=latitude,
        longitude=longitude,
        **(_named(town) | {"state": None}),
        season=season(date.month, latitude) if date and location else None,
        date=date,
        hour=hour,
        position=_cells(objects, document),
        gsd=_number(document.get("multi_resolution_dbl"), 0.05, 1000),
        cloud_cover=_number(document.get("cloud_cover"), 0, 100),
        off_nadir=_number(document.get("off_nadir_angle_dbl"), 0, 90),
        azimuth=_number(document.get("target_azimuth_dbl"), 0, 360),
        scan_direction=scan[0].lower() if scan else None,
        utm_zone=zone,
    )


def _cells(objects: list[dict], document: dict) -> tuple[str, ...]:
    box = objects[0].get("box") if len(objects) == 1 else None
    numbers = box if isinstance(box, list) and len(box) == 4 else [None]
    numbers = [
        _number(v, 0, 1e6)
        for v in (*numbers, document.get("img_width"), document.get("img_height"))
    ]
    try:
        return position(numbers[:4], *numbers[4:]) if None not in numbers else ()
    except ValueError:
        return ()


def _checked(
    boxes: list[dict], document: dict
) -> tuple[tuple[float, float] | None, dict | None, str | None]:
    """Coordinates, nearest town and UTM zone of an fMoW image, each None where the others speak
    against it.
    """
    location = next((at for b in boxes if (at := _centre(b.get("raw_location")))), None)
    zone = _match(rf"^(0?[1-9]|[1-5]\d|60)[{BANDS}]$", document.get("utm"))
    zone = zone[0] if zone else None
    town = (
        place(*location, math.inf) if location else None
    )  # however far: it tells the country to compare
    code = document.get("country_code")
    alpha2 = _alpha2().get(code.upper()) if isinstance(code, str) else None
    same_country = town["country_code"] == alpha2 if town and alpha2 else None
    same_zone = _in_zone(*location, zone) if location and zone else None
    if not (same_country or same_zone or (same_country is None and same_zone is None)):
        location = None
    if (
        location is None or same_country is False
    ):  # False with the right zone: the nearest town is across a border
        town = None
    town = _near(town, *location, NEAR["fmow"]) if town else None
    if (
        town and code is not None and alpha2 is None
    ):  # an unknown code may contradict the town's country
        town = town | {"country": ""}
    return location, town, None if same_zone is False else zone


def _centre(polygon) -> tuple[float, float] | None:
    """Latitude and longitude of the middle of `POLYGON ((lon lat, ...))`; no fMoW image is a degree
    wide.
    """
    found = _match(r"^\s*POLYGON\s*\(\(([-+\d.eE,\s]+)\)", polygon)
    try:
        pairs = [tuple(map(float, pair.split())) for pair in found[1].split(",")] if found else []
        longitudes, latitudes = zip(*pairs, strict=True)
    except ValueError:  # not numbers, not pairs, or nothing
        return None
    limits = (min(latitudes), max(latitudes), 90), (min(longitudes), max(longitudes), 180)
    if not all(-most <= low and high <= most and high - low < 1 for low, high, most in limits):
        return None
    return tuple((low + high) / 2 for low, high, _ in limits)


def _in_zone(latitude: float, longitude: float, zone: str) -> bool:
    """Whether a place may lie in a UTM zone such as 18T; with room for its exceptions and edges."""
    apart = (longitude - (6 * int(zone[:-1]) - 183) + 180) % 360 - 180
    low = 8 * BANDS.index(zone[-1]) - 80
    return abs(apart) <= 6 and low - 1 <= latitude <= (84 if zone[-1] == "X" else low + 8) + 1


def read_bigearthnet(source: str | Path | bytes | dict, name: str | None = None) -> Record:
    """The record of one BigEarthNet `*_labels_metadata.json`; the name is the patch's unless given.

    The patch's centre goes from UTM to degrees. One label that is no text leaves all labels out.
    ValueError names a file that is no json object. Chapter: captions.
    """
    document, name = _load(source, name)
    labels = document.get("labels")
    labels = [_words(label) for label in labels] if isinstance(labels, list) else []
    zone = _match(r"UTM zone ([1-9]|[1-5]\d|60)[NS]\b", document.get("projection"))
    zone = zone[0].split()[-1] if zone else None
    corners = document.get("coordinates")
    corners = corners if isinstance(corners, dict) else {}
    location, extent = _patch(
        [_number(corners.get(k), 0, 1e7) for k in ("ulx", "uly", "lrx", "lry")], zone
    )
    latitude, longitude = location or (None, None)
    date, hour = local_time(document.get("acquisition_date"), longitude)
    satellite = _match("^S2([ABC])_MSI", document.get("tile_source"))
    return make(
        name,
        "bigearthnet",
        labels=() if None in labels else tuple(dict.fromkeys(labels)),
        latitude=latitude,
        longitude=longitude,
        **(_named(place(*location, NEAR["bigearthnet"]) if location else None) | {"state": None}),
        season=season(date.month, latitude) if date and location else None,
        date=date,
        hour=hour,
        utm_zone=zone,
        extent=extent,
        satellite=f"Sentinel-2{satellite[1]}" if satellite else None,
    )


def _patch(
    corners: list[float | None], zone: str | None
) -> tuple[tuple[float, float] | None, tuple[float, ...]]:
    """The centre in degrees and the width and height in km of upper left and lower right corners in
    UTM metres.
    """
    if None in corners:
        return None, ()
    left, upper, right, lower = corners
    if not (0 < right - left <= 100_000 and 0 < upper - lower <= 100_000):
        return None, ()
    try:
        centre = (
            from_utm((left + right) / 2, (upper + lower) / 2, int(zone[:-1]), zone[-1] == "S")
            if zone
            else None
        )
    except ValueError:  # easting and northing swapped, for instance
        return None, ()
    return centre, ((right - left) / 1000, (upper - lower) / 1000)
