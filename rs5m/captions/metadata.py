"""What the metadata of a labelled image says: fMoW, BigEarthNet and the pocket world. Chapter:
captions.

A reader turns one json document into a `Record`; `rs5m.captions.sentences` turns a record into
words. A field that is missing, odd or contradicted by another one stays empty and is named in
`left_out`. Nothing is guessed.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from rs5m.captions import places, sources
from rs5m.captions.sentences import Record, local_time, make, position, season

BIGEARTHNET = frozenset("AT BE FI IE XK LT LU PT RS CH".split())  # where its patches lie


def documents(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """(image name, bytes) of every json under a folder or in a zip; errors like those of
    `rs5m.captions.sources`.
    """
    for name, read in sources.listed(path):
        yield name, read()


def _load(source, name: str | None) -> tuple[dict, str]:
    """The document and the image's name, from a path, the bytes of a file, or a dictionary that was
    read already.
    """
    if isinstance(source, str | Path):
        path, shown = Path(source), str(source)
        name, source = name or sources.image(path.name), sources.read(path)
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
    is not a json object.
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
        **(places.named(town) | {"state": None}),
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
    centres = (_centre(box.get("raw_location")) for box in boxes)
    location = next((centre for centre in centres if centre), None)
    zone = _match(rf"^(0?[1-9]|[1-5]\d|60)[{places.BANDS}]$", document.get("utm"))
    zone = zone[0] if zone else None
    code = document.get("country_code")
    alpha2 = places.country_codes().get(code.upper()) if isinstance(code, str) else None
    if location is None:
        return None, None, zone
    nearest, (area, sure) = places.place(*location, math.inf), places.country_code(*location)
    # the nearest town may lie across a border, and borders and codes disagree on some territories
    same_country = alpha2 in (nearest["country_code"], area) if alpha2 else None
    same_zone = places.in_zone(*location, zone) if zone else None
    zone = None if same_zone is False else zone
    if not (same_country or same_zone or (same_country is None and same_zone is None)):
        return None, None, zone
    if nearest["country_code"] != (alpha2 or (area if sure else None)):
        return location, None, zone
    town = places.near(nearest, *location, places.NEAR["fmow"])
    if town and code is not None and alpha2 is None:  # an unknown code may contradict the country
        town = town | {"country": ""}
    return location, town, zone


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


def read_bigearthnet(source: str | Path | bytes | dict, name: str | None = None) -> Record:
    """The record of one BigEarthNet `*_labels_metadata.json`; the name is the patch's unless given.

    The patch's centre goes from UTM to degrees. One label that is not text leaves all labels out.
    ValueError names a file that is not a json object.
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
        **(places.named(_patch_town(location)) | {"state": None}),
        season=season(date.month, latitude) if date and location else None,
        date=date,
        hour=hour,
        utm_zone=zone,
        extent=extent,
        satellite=f"Sentinel-2{satellite[1]}" if satellite else None,
    )


def _patch_town(location: tuple[float, float] | None) -> dict | None:
    """The nearest town of a patch, if both surely lie in one of BigEarthNet's countries."""
    town = places.inside(*location, places.NEAR["bigearthnet"]) if location else None
    return town if town and town["country_code"] in BIGEARTHNET else None


def read_bigearthnet_v2(row: dict) -> Record:
    """The record of one row of BigEarthNet v2's metadata.parquet.

    The country is the table's own; date, satellite and zone are in the patch's name, as in
    `S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57`. ValueError for a row without patch_id.
    """
    name, labels = row.get("patch_id"), row.get("labels")
    if not isinstance(name, str) or not name:
        raise ValueError("a row without patch_id")
    labels = [_words(label) for label in labels] if isinstance(labels, list) else []
    stamp = _match(r"_(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)_", name)
    date, _ = local_time("{}-{}-{} {}:{}:{}".format(*stamp.groups()) if stamp else None, None)
    tile = _match(rf"_T(0[1-9]|[1-5]\d|60)([{places.BANDS}])[A-Z]{{2}}_", name)
    satellite = _match("^S2([ABC])_MSI", name)
    return make(
        name,
        "bigearthnet",
        labels=() if None in labels else tuple(dict.fromkeys(labels)),
        country=_words(row.get("country")),
        date=date,
        utm_zone=f"{int(tile[1])}{'N' if tile[2] >= 'N' else 'S'}" if tile else None,
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
            places.from_utm(
                (left + right) / 2, (upper + lower) / 2, int(zone[:-1]), zone[-1] == "S"
            )
            if zone
            else None
        )
    except ValueError:  # easting and northing swapped, for instance
        return None, ()
    return centre, ((right - left) / 1000, (upper - lower) / 1000)
