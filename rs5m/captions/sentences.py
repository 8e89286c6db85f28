"""Records of metadata and the sentences they become. Chapter: captions.

The wording stands in ``metadata.toml``. `rs5m.captions.metadata` reads the records.
"""

import datetime as dt
import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

FIELDS = {  # what each source can say; `left_out` names those that one image does not
    "fmow": ("labels", "city", "country", "season", "position", "date", "hour", "gsd",
             "cloud_cover", "off_nadir", "azimuth", "scan_direction", "utm_zone"),
    "bigearthnet": ("labels", "city", "country", "season", "extent", "date", "hour", "satellite",
                    "utm_zone"),
    "pocket": ("labels", "city", "state", "country", "climate"),
}  # fmt: skip
TROPIC = 23.44  # degrees
CELLS = tuple(
    f"{row} {column}".strip().replace("center center", "center")
    for row in ("top", "center", "bottom")
    for column in ("left", "center", "right")
)
YEARS = range(
    1972, 2100
)  # the first Landsat flew in 1972, and 1970-01-01 is what programs write for "unknown"
TURNING = {"position", "azimuth"}  # fields that a turned image contradicts
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


class Record(NamedTuple):
    """The fields of one image; None or () where unknown.

    Degrees (latitude, longitude, off_nadir, azimuth), metres (gsd), kilometres (extent: width,
    height), percent (cloud_cover). labels are spelled as in the source. date and hour (0-23) are in
    local mean solar time; without coordinates the date is that of UTC. position: cells of a 3x3
    grid. left_out: the fields of `FIELDS` not known.
    """

    name: str
    source: str
    labels: tuple[str, ...] = ()
    latitude: float | None = None
    longitude: float | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    climate: str | None = None
    season: str | None = None
    date: dt.date | None = None
    hour: int | None = None
    position: tuple[str, ...] = ()
    gsd: float | None = None
    cloud_cover: float | None = None
    off_nadir: float | None = None
    azimuth: float | None = None
    scan_direction: str | None = None
    utm_zone: str | None = None
    extent: tuple[float, ...] = ()
    satellite: str | None = None
    left_out: tuple[str, ...] = ()


class Clause(NamedTuple):
    """A piece of a sentence: its text, the fields it states ("" for connecting words), whether it
    survives a rotation.

    number: which sentence of the text it belongs to, from 0.
    """

    text: str
    kind: str
    rotation_safe: bool
    number: int


@cache
def settings() -> dict:
    """The content of `data/metadata.toml`; treat it as read-only."""
    return tomllib.loads((files("rs5m.captions") / "metadata.toml").read_text(encoding="utf-8"))


def make(name: str, source: str, **fields) -> Record:
    """A record with `left_out` filled in. Chapter: captions."""
    record = Record(name, source, **fields)
    return record._replace(
        left_out=tuple(f for f in FIELDS[source] if getattr(record, f) in (None, ()))
    )


def count_left_out(records: Iterable[Record]) -> Counter:
    """How many records lack each field: {field: count}. Chapter: captions."""
    return Counter(field for record in records for field in record.left_out)


def season(month: int, latitude: float) -> str | None:
    """The meteorological season of a month (1-12) at a latitude (degrees); None between the
    tropics.

    South of the equator it is the opposite one; the official tool says the northern season
    everywhere. The tropics have wet and dry seasons that no month tells, so none is named.
    ValueError outside 1-12 and -90-90.
    """
    if month not in range(1, 13) or not -90 <= latitude <= 90:
        raise ValueError(f"no such month or latitude: {month}, {latitude}")
    if abs(latitude) <= TROPIC:
        return None
    return ("winter", "spring", "summer", "autumn")[(month % 12 // 3 + 2 * (latitude < 0)) % 4]


def position(box: tuple, width: float, height: float) -> tuple[str, ...]:
    """The two cells of a 3x3 grid over the image that a box overlaps most, the larger overlap
    first.

    box: x, y, w, h in pixels from the top left corner. A tie decides nothing, so one cell or ()
    comes back where the next cells are equal: a box inside the middle cell overlaps no other, and
    the whole image has no position. Half of the official fMoW captions say "center and top-left",
    which is what eight equally empty cells give in reading order. ValueError where the box is not
    wholly inside the image.
    """
    x, y, w, h = box
    if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width and y + h <= height):
        raise ValueError(f"box {list(box)} is not inside the image of {width} x {height}")
    across = [max(0, min(3 * (x + w), (i + 1) * width) - max(3 * x, i * width)) for i in range(3)]
    down = [max(0, min(3 * (y + h), (i + 1) * height) - max(3 * y, i * height)) for i in range(3)]
    area = [a * b for b in down for a in across]  # times 9, so integer boxes stay exact
    order = sorted(range(9), key=lambda cell: -area[cell])
    kept = next((n for n in (2, 1) if area[order[n - 1]] > area[order[n]]), 0)
    return tuple(CELLS[cell] for cell in order[:kept])


def local_time(text, longitude: float | None) -> tuple[dt.date | None, int | None]:
    """Date and hour (0-23, rounded) in local mean solar time, of a UTC timestamp such as
    `2016-06-09T15:04:05.5Z`.

    Solar time is UTC plus one hour per 15 degrees; clocks may differ by two hours, and no time zone
    is in the metadata. Without a longitude the date is that of UTC and the hour None; so it is for
    a date without a time. (None, None) for anything else.
    """
    form = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?"
    found = re.fullmatch(form, text.strip(), re.ASCII) if isinstance(text, str) else None
    try:
        moment = dt.datetime.fromisoformat(found[0]) if found else None
    except ValueError:  # 31 February
        moment = None
    if moment is None or moment.year not in YEARS:
        return None, None
    moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment
    if longitude is None or not found[1]:
        return moment.date(), None
    moment += dt.timedelta(hours=longitude / 15, minutes=30)
    return moment.date(), moment.hour


def words(record: Record) -> dict[str, str]:
    """How each known field of a record is worded: {placeholder of the templates: text}."""
    said = {
        "labels": _labels(record),
        "place": ", ".join(part for part in (record.city, record.state, record.country) if part),
        "climate": record.climate,
        "season": record.season,
        "position": " and ".join(f"the {cell}" for cell in record.position),
        "date": record.date
        and f"{record.date.day} {MONTHS[record.date.month - 1]} {record.date.year}",
        "hour": record.hour is not None and _hour(record.hour),
        "gsd": record.gsd and f"{round(record.gsd, 2):g} m",
        "cloud_cover": record.cloud_cover is not None and f"{record.cloud_cover:.0f}%",
        "off_nadir": record.off_nadir is not None and _degrees(record.off_nadir),
        "azimuth": record.azimuth is not None and _degrees(record.azimuth % 360),
        "scan_direction": record.scan_direction,
        "utm_zone": record.utm_zone,
        "extent": record.extent and "{:g} by {:g} km".format(*record.extent),
        "satellite": record.satellite,
    }
    return {field: text for field, text in said.items() if text}


def _labels(record: Record) -> str:
    names = [label.lower().replace("_", " ") for label in record.labels]
    if record.source == "fmow":
        objects = settings()["objects"]
        articles = ["an" if name[0] in "aeiou" else "a" for name in names]
        names = [
            objects.get(label, f"{a} {n}")
            for label, a, n in zip(record.labels, articles, names, strict=True)
        ]
    if (
        record.source == "bigearthnet"
    ):  # "land ..., with significant areas of ..." would look like two classes
        names = [name.replace(",", "").replace("/", " or ") for name in names]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _hour(hour: int) -> str:
    clock = {0: "midnight", 12: "noon"}.get(hour, f"{hour % 12} {'a.m.' if hour < 12 else 'p.m.'}")
    return f"around {clock} solar time"


def _degrees(angle: float) -> str:
    return f"{angle:.0f} degree{'' if round(angle) == 1 else 's'}"


def template(record: Record) -> list[str]:
    """The template that the SHA-256 of the image's name draws among those of its source."""
    choices = settings()[record.source]
    digest = hashlib.sha256(record.name.encode("utf-8", "surrogatepass")).digest()
    return choices[int.from_bytes(digest) % len(choices)]


def clauses(record: Record) -> list[Clause]:
    """The clauses of a record's template whose fields are known, in order.

    A later sentence that has no clause left is absent; the first sentence never is.
    """
    known, kept = words(record), []
    for number, text in enumerate(template(record)):
        for part in re.split(r"(\[[^]]*\])", text):
            fields = re.findall(r"{(\w+)}", part)
            if part and all(field in known for field in fields):
                said = re.sub(
                    r"{(\w+)}", lambda field: known[field[1]], part.strip("[]") if fields else part
                )
                kept.append(Clause(said, "+".join(fields), TURNING.isdisjoint(fields), number))
    return _full(kept)


def _full(kept: list[Clause]) -> list[Clause]:
    """Without the later sentences that hold connecting words only."""
    telling = {clause.number for clause in kept if clause.kind}
    return [clause for clause in kept if clause.number in telling | {0}]


def sentence(record: Record, rotation_safe_only: bool = False) -> str:
    """The text of a record; the same for the same name and fields.

    rotation_safe_only leaves out the clauses that a turned image would contradict. Without any
    field the words around the clauses remain, such as "A satellite image."
    """
    kept = _full(
        [clause for clause in clauses(record) if clause.rotation_safe or not rotation_safe_only]
    )
    texts = [
        "".join(clause.text for clause in group)
        for _, group in groupby(kept, key=lambda clause: clause.number)
    ]
    texts = [
        re.sub(r"[,:;]+\.$", ".", text.strip()) for text in texts
    ]  # what left-out clauses leave before the stop
    return " ".join(text[:1].upper() + text[1:] for text in texts)
