"""Where a labelled image lies: UTM to degrees, country and nearest town. Chapter: captions."""

import math
from functools import cache

from rs5m.captions.sentences import settings

# km; a chip of the pocket world is 111 km long
NEAR = {"fmow": 50, "bigearthnet": 50, "pocket": 100}
SURE = 0.9  # share of a cell of countrycheck (7 km wide) that a country must have to be named
BANDS = "CDEFGHJKLMNPQRSTUVWX"  # latitude bands of UTM, 8 degrees each from 80 S


def from_utm(
    easting: float, northing: float, zone: int, south: bool = False
) -> tuple[float, float]:
    """Latitude and longitude (degrees, WGS 84) of UTM metres, by rasterio's PROJ.

    ValueError for a zone, easting or northing that UTM does not have.

    Args:
        easting, northing: metres.
        zone: 1 to 60.
        south: of the equator.
    """
    if not (zone in range(1, 61) and 100_000 <= easting <= 900_000 and 0 <= northing <= 10_000_000):
        raise ValueError(f"no UTM coordinates: zone {zone}, easting {easting}, northing {northing}")
    from rasterio.warp import transform  # slow to import

    here = f"EPSG:32{'7' if south else '6'}{zone:02d}"
    (longitude,), (latitude,) = transform(here, "EPSG:4326", [easting], [northing])
    return latitude, longitude


@cache
def _countries():
    from countrycheck import CountryCheck  # 0.7 s

    return CountryCheck()


def country_code(latitude: float, longitude: float) -> tuple[str | None, bool]:
    """The country of a place by the borders of countries (alpha-2, None at sea), and whether the
    place is clear of a border: its cell of 7 km belongs to that country by at least `SURE`.
    """
    cell = _countries().check(longitude, latitude)
    code = "XK" if cell.country == "XKO" else cell.iso2 or None  # Kosovo has no code of ISO
    return code, cell.confidence >= SURE


def place(latitude: float, longitude: float, within: float) -> dict | None:
    """The nearest town that reverse_geocode knows, as its dictionary; None if it is more than
    `within` km away. It may lie across a border: `country_code` knows the country.

    The search is in degrees, so far from the equator and at the date line a nearer town may exist.
    """
    import reverse_geocode  # builds its tree at first use

    return near(reverse_geocode.search([(latitude, longitude)])[0], latitude, longitude, within)


def inside(latitude: float, longitude: float, within: float) -> dict | None:
    """`place`, but None where the borders do not surely put the place into the town's country."""
    town, (code, sure) = place(latitude, longitude, within), country_code(latitude, longitude)
    return town if town and sure and town["country_code"] == code else None


def near(town: dict, latitude: float, longitude: float, within: float) -> dict | None:
    """A town, but None where it is too far away, by the great circle.

    Args:
        town: with `latitude` and `longitude` in degrees.
        latitude, longitude: of the place, degrees.
        within: km.
    """
    a, b = math.radians(latitude), math.radians(town["latitude"])
    across = math.radians(town["longitude"] - longitude)
    square = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return town if 2 * 6371 * math.asin(math.sqrt(square)) <= within else None


def named(town: dict | None) -> dict:
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


@cache
def country_codes() -> dict[str, str]:
    """Countries' codes of two letters by those of three."""
    return dict(pair.split(":") for pair in settings()["iso"]["countries"].split())


def in_zone(latitude: float, longitude: float, zone: str) -> bool:
    """Whether a place may lie in a UTM zone such as 18T; with room for its exceptions and edges."""
    apart = (longitude - (6 * int(zone[:-1]) - 183) + 180) % 360 - 180
    low = 8 * BANDS.index(zone[-1]) - 80
    return abs(apart) <= 6 and low - 1 <= latitude <= (84 if zone[-1] == "X" else low + 8) + 1
