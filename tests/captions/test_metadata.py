"""Chapter: captions. Metadata in the true layouts, made here; the real BigEarthNet patches where
they are at hand.
"""

import copy
import datetime as dt
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rs5m import pocket
from rs5m.book import sets
from rs5m.captions import metadata, places, sources
from rs5m.captions import sentences as ms

PATCHES = (
    Path(os.environ.get("RS5M_DATA") or Path(__file__).parents[3] / "shared/data")
    / "bigearthnet_tiny.zip"
)
DIRECTIONS = (
    r"\b(top|bottom|left|right|upper|lower|center|centre|middle|corner|edge|north|south|east|west)"
)
BROOKLYN = "POLYGON ((-73.95 40.70, -73.93 40.70, -73.93 40.72, -73.95 40.72, -73.95 40.70))"
FMOW = {
    "country_code": "USA",
    "timestamp": "2016-06-09T15:04:05Z",
    "utm": "18T",
    "img_width": 900,
    "img_height": 900,
    "cloud_cover": 0,
    "scan_direction": "Forward",
    "target_azimuth_dbl": 314.3,
    "off_nadir_angle_dbl": 33.1,
    "multi_resolution_dbl": 2.6,
    "bounding_boxes": [
        {"ID": -1, "box": [0, 0, 900, 900], "raw_location": BROOKLYN},
        {"ID": 0, "category": "crop_field", "box": [310, 200, 280, 300]},
    ],
}
WKT = (
    'PROJCS["WGS 84 / UTM zone 29N",GEOGCS["WGS 84",DATUM["WGS_1984"]],'
    'PROJECTION["Transverse_Mercator"]]'
)
PATCH = {
    "labels": [
        "Sea and ocean",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ],
    "coordinates": {"ulx": 567180, "uly": 4358040, "lrx": 568380, "lry": 4356840},
    "projection": WKT,
    "tile_source": "S2A_MSIL1C_20171221T112501_N0206_R037_T29SND_20171221T114356.SAFE",
    "acquisition_date": "2017-12-21 11:25:01",
}
FULL = {
    "fmow": metadata.read_fmow(FMOW, "crop_field_1_0_rgb"),
    "bigearthnet": metadata.read_bigearthnet(PATCH, "S2A_36_85"),
    "pocket": ms.make(
        "40.5 -73.5",
        "pocket",
        labels=("cropland",),
        city="Nakuru",
        state="Rift",
        country="Kenya",
        climate="tropical",
    ),
}


def fmow(**changes) -> ms.Record:
    """The record of FMOW with other top-level values; None removes one."""
    document = {key: value for key, value in (FMOW | changes).items() if value is not None}
    return metadata.read_fmow(document, "crop_field_1_0_rgb")


def boxed(*boxes: dict, **changes) -> ms.Record:
    return fmow(bounding_boxes=[copy.deepcopy(FMOW["bounding_boxes"][0]), *boxes], **changes)


def located(polygon, **changes) -> ms.Record:
    return fmow(bounding_boxes=[{"raw_location": polygon}, FMOW["bounding_boxes"][1]], **changes)


def patch(**changes) -> ms.Record:
    return metadata.read_bigearthnet(
        {k: v for k, v in (PATCH | changes).items() if v is not None}, "S2A_36_85"
    )


def square(longitude: float, latitude: float) -> str:
    corners = ((0, 0), (0.01, 0), (0.01, 0.01), (0, 0.01), (0, 0))
    return f"POLYGON (({', '.join(f'{longitude + x} {latitude + y}' for x, y in corners)}))"


def test_every_field_of_fmow():
    record = FULL["fmow"]
    assert record.labels == ("crop_field",) and (record.city, record.country) == (
        "Williamsburg",
        "United States",
    )
    assert (record.latitude, record.longitude) == pytest.approx((40.71, -73.94))
    assert record.season == "summer" and record.date == dt.date(2016, 6, 9) and record.hour == 10
    assert (
        record.position == ("center", "top center")
        and record.gsd == 2.6
        and record.cloud_cover == 0
    )
    assert (record.off_nadir, record.azimuth, record.scan_direction) == (33.1, 314.3, "forward")
    assert record.utm_zone == "18T" and record.left_out == ()
    said = ms.words(record)
    assert said["labels"] == "a crop field" and said["place"] == "Williamsburg, United States"
    assert said["position"] == "the center and the top center" and said["cloud_cover"] == "0%"
    assert (
        said["date"] == "9 June 2016"
        and said["hour"] == "around 10 a.m. solar time"
        and said["gsd"] == "2.6 m"
    )
    assert said["off_nadir"] == "33 degrees" and said["azimuth"] == "314 degrees"


def test_every_field_of_bigearthnet():
    record = FULL["bigearthnet"]
    assert (record.latitude, record.longitude) == pytest.approx((39.3638, -8.2132), abs=1e-3)
    assert record.country == "Portugal" and record.season == "winter" and record.utm_zone == "29N"
    assert (
        record.extent == (1.2, 1.2) and record.satellite == "Sentinel-2A" and record.left_out == ()
    )
    assert record.date == dt.date(2017, 12, 21) and record.hour == 11
    said = ms.words(record)["labels"]
    wide = "land principally occupied by agriculture with significant areas of natural vegetation"
    assert said == f"sea and ocean and {wide}", (
        "a comma inside a class name would look like two classes"
    )
    assert ms.words(
        patch(labels=["Water bodies", "Transitional woodland/shrub", "Pastures", "Pastures"])
    )["labels"] == ("water bodies, transitional woodland or shrub and pastures")


def test_every_field_of_the_pocket_world():
    towns = [
        {
            "city": "Nakuru",
            "state": "Rift Valley",
            "country": "Korea, Republic of",
            "latitude": -0.3,
            "longitude": 36.1,
        },
        {"city": "Papeete", "country": "French Polynesia", "latitude": -17.5, "longitude": -149.6},
    ]
    chips = pocket.Chips(
        np.zeros((2, 15, 15, 3), np.uint8),
        np.array([1, 0]),
        ["open water", "savanna"],
        np.array([-0.5, -30.5]),
        np.array([36.5, -120.5]),
        towns,
        "test",
    )
    record = sets.pocket_record(chips, 0)
    assert (
        record.name == "-0.5 36.5"
        and record.labels == ("savanna",)
        and record.climate == "tropical"
    )
    assert (record.city, record.state, record.country) == (
        "Nakuru",
        "Rift Valley",
        "Republic of Korea",
    )
    assert record.left_out == () and sets.pocket_record(chips, 0, "chip.png").name == "chip.png"
    far = sets.pocket_record(chips, 1)
    assert far.left_out == ("city", "state", "country"), "a town 3,000 km away is not near"
    assert "open water" in ms.sentence(far) and "Papeete" not in ms.sentence(far)


@pytest.mark.parametrize(
    ("month", "latitude", "expected"),
    [
        (1, 52, "winter"),
        (2, 52, "winter"),
        (3, 52, "spring"),
        (6, 52, "summer"),
        (9, 52, "autumn"),
        (12, 52, "winter"),
        (1, -34, "summer"),
        (3, -34, "autumn"),
        (6, -34, "winter"),
        (9, -34, "spring"),
        (12, -34, "summer"),
        (7, 0, None),
        (1, 23.4, None),
        (1, -23.4, None),
        (1, 23.5, "winter"),
        (1, -23.5, "summer"),
        (7, -90, "winter"),
    ],
)
def test_season_by_month_and_hemisphere(month, latitude, expected):
    assert ms.season(month, latitude) == expected


def test_a_southern_image_has_the_southern_season():
    record = located(
        square(145.08, -37.81), country_code="AUS", utm="55H", timestamp="2016-09-17T00:10:00Z"
    )
    assert record.season == "spring" and record.country == "Australia" and record.left_out == ()
    assert record.hour == 10 and record.date == dt.date(2016, 9, 17), (
        "midnight in Greenwich is morning in Melbourne"
    )


@pytest.mark.parametrize(("month", "latitude"), [(0, 50), (13, 50), (1, 91), (1, float("nan"))])
def test_no_such_season(month, latitude):
    with pytest.raises(ValueError, match="no such month or latitude"):
        ms.season(month, latitude)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 30, 30), ("top left",)),
        ((70, 70, 20, 20), ("bottom right",)),
        ((10, 10, 35, 10), ("top left", "top center")),
        ((20, 10, 35, 10), ("top center", "top left")),
        ((35, 20, 20, 30), ("center", "top center")),
        ((60, 35, 20, 40), ("center right", "bottom right")),
        ((35, 35, 20, 20), ("center",)),
        ((20, 20, 50, 50), ("center",)),
        ((0, 0, 90, 90), ()),
        ((20, 20, 20, 20), ()),
        ((0, 40, 90, 5), ()),
        ((25, 0, 10, 90), ()),
    ],
)
def test_position_names_the_two_cells_with_most_overlap(box, expected):
    assert ms.position(box, 90, 90) == expected


def test_position_against_counted_pixels():
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = 3 * rng.integers(2, 30, 2)
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(1, width - x + 1), rng.integers(1, height - y + 1)
        mask = np.zeros((height, width), int)
        mask[y : y + h, x : x + w] = 1
        counts = mask.reshape(3, height // 3, 3, width // 3).sum((1, 3)).ravel()
        named = [ms.CELLS.index(cell) for cell in ms.position((x, y, w, h), width, height)]
        others = np.delete(counts, named)
        assert len(named) <= 2 and (not named or counts[named].min() > others.max())
        ranked = np.sort(counts)[::-1]
        assert len(named) == 2 or ranked[1] == ranked[2], "a clear second cell is named"


@pytest.mark.parametrize(
    "box", [(80, 0, 11, 5), (-1, 0, 5, 5), (200, 200, 5, 5), (0, 0, 0, 5), (0, 0, float("nan"), 5)]
)
def test_a_box_that_is_not_inside_has_no_position(box):
    with pytest.raises(ValueError, match="is not inside the image of 90 x 90"):
        ms.position(box, 90, 90)


@pytest.mark.parametrize(
    ("text", "longitude", "expected"),
    [
        ("2016-06-09T15:04:05Z", 0, ("2016-06-09", 15)),
        ("2016-06-09T15:30:00.1234567Z", 0, ("2016-06-09", 16)),
        ("2016-06-09T15:04:05", 0, ("2016-06-09", 15)),
        ("2016-06-09 15:04:05", -75, ("2016-06-09", 10)),
        ("2016-06-09T15:04:05+02:00", 0, ("2016-06-09", 13)),
        ("2016-12-31T22:00:00Z", 174, ("2017-01-01", 10)),
        ("2016-06-09T15:04:05Z", None, ("2016-06-09", None)),
        ("2016-06-09", 10, ("2016-06-09", None)),
    ],
)
def test_local_time(text, longitude, expected):
    date, hour = ms.local_time(text, longitude)
    assert (str(date), hour) == expected


ODD_TIMES = [
    None,
    "",
    5,
    "June 9, 2016",
    "2016-02-31T00:00:00Z",
    "2016-06-09T25:00:00Z",
    "1970-01-01T00:00:00Z",
    "9999-12-31T23:00:00Z",
    "2016-6-9",
    "20160609",
    "٢٠١٦-٠٦-٠٩",
]


@pytest.mark.parametrize("text", ODD_TIMES)
def test_an_odd_timestamp_leaves_its_clauses_out(text):
    assert ms.local_time(text, 0) == (None, None)
    assert fmow(timestamp=text).left_out == ("season", "date", "hour")
    assert patch(acquisition_date=text).left_out == ("season", "date", "hour")


def test_hours_are_said_in_words():
    said = [ms.words(FULL["fmow"]._replace(hour=hour))["hour"] for hour in (0, 1, 12, 13, 23)]
    clocks = [text.removeprefix("around ").removesuffix(" solar time") for text in said]
    assert clocks == ["midnight", "1 a.m.", "noon", "1 p.m.", "11 p.m."]


PROJ = [  # easting, northing, zone, south, latitude, longitude by PROJ 9.5.1 (pyproj 3.7.2)
    (567180, 4358040, 29, False, 39.369214116, -8.220110892),
    (379200, 6232800, 35, False, 56.224735195, 25.051639824),
    (622800, 7196820, 35, False, 64.873030938, 29.592355835),
    (551580, 4883220, 34, False, 44.100345820, 21.644436499),
    (630084, 4833438, 17, False, 43.642561781, -79.387142870),
    (320704.45, 5812911.7, 55, True, -37.813599996, 144.963100042),
    (166021.4, 1000, 1, False, 0.009034831, 179.999999576),
    (200000, 9000000, 33, False, 80.669070863, -1.801446663),
    (500000, 0, 31, False, 0, 3),
]


@pytest.mark.parametrize(("easting", "northing", "zone", "south", "latitude", "longitude"), PROJ)
def test_utm_agrees_with_proj(easting, northing, zone, south, latitude, longitude):
    assert places.from_utm(easting, northing, zone, south) == pytest.approx(
        (latitude, longitude), abs=1e-7
    )


@pytest.mark.parametrize(
    "bad", [(5e5, 0, 0), (5e5, 0, 61), (4358040, 567180, 29), (5e5, -1, 29), (5e5, 2e7, 29)]
)
def test_no_such_utm_coordinates(bad):
    with pytest.raises(ValueError, match="no UTM coordinates"):
        places.from_utm(*bad)


WHERE = ("city", "country", "season", "hour")


@pytest.mark.parametrize(
    "polygon",
    [
        None,
        "",
        7,
        "POINT (1 2)",
        "POLYGON ((a b, c d))",
        "POLYGON ((1 2 3, 4 5 6))",
        "POLYGON (())",
        square(-200, 40),
        square(-73, 95),
        "POLYGON ((0 0, 50 0, 50 50, 0 0))",
        "POLYGON ((179.9 1, -179.9 1, 179.9 1.1))",
        "POLYGON ((nan nan, nan nan))",
        "POLYGON ((1e999 0, 0 0))",
    ],
)
def test_odd_coordinates_leave_out_what_hangs_on_them(polygon):
    record = located(polygon)
    assert (
        set(record.left_out) == set(WHERE) and record.latitude is None and record.utm_zone == "18T"
    )
    assert record.date == dt.date(2016, 6, 9)


def test_swapped_coordinates_place_the_image_nowhere():
    swapped = located(square(40.71, -73.94))
    assert set(swapped.left_out) == {*WHERE, "utm_zone"}, (
        "two fields that disagree are both left out"
    )
    turin = square(45.07, 7.68)  # swapped it is in Ethiopia, in range and on land
    assert set(located(turin, utm="32T", country_code="ITA").left_out) == {*WHERE, "utm_zone"}
    assert set(located(turin, utm="32T", country_code=None).left_out) == {*WHERE, "utm_zone"}
    assert set(located(turin, utm=None, country_code="ITA").left_out) == {*WHERE, "utm_zone"}
    right = located(square(7.68, 45.07), utm="32T", country_code="ITA")
    assert right.country == "Italy" and right.left_out == ()


def test_a_town_across_the_border_is_not_named():
    strasbourg = located(
        square(7.795, 48.575), country_code="FRA", utm="32U"
    )  # the nearest town is Kehl, Germany
    assert strasbourg.left_out == ("city", "country") and strasbourg.season == "summer"
    assert located(square(7.795, 48.575), country_code="DEU", utm="32U").city == "Kehl"
    other = located(square(-73.94, 40.71), country_code="MEX")
    assert other.left_out == ("city", "country") and other.season == "summer", (
        "zone and coordinates still agree"
    )


@pytest.mark.parametrize("code", ["XYZ", "US", "", 5, ["USA"]])
def test_an_unknown_country_code_leaves_the_country_out(code):
    record = fmow(country_code=code)
    assert record.left_out == ("country",) and ms.words(record)["place"] == "Williamsburg"


def test_no_country_code_is_no_contradiction():
    assert (
        fmow(country_code=None).country == "United States"
        and fmow(country_code="usa").left_out == ()
    )


@pytest.mark.parametrize("zone", [None, "", "18", "99T", "18I", "0T", 18, "18t", "18TT"])
def test_an_odd_utm_zone_is_left_out(zone):
    assert fmow(utm=zone).left_out == ("utm_zone",)


def test_a_wrong_utm_zone_is_left_out_where_the_country_confirms_the_place():
    assert fmow(utm="33T").left_out == fmow(utm="18G").left_out == ("utm_zone",)
    assert fmow(utm="18R").utm_zone is None and fmow(utm="19T").utm_zone == "19T", (
        "zones overlap at their edges"
    )


def test_between_the_tropics_no_season_is_named():
    record = located(square(36.82, -1.29), country_code="KEN", utm="37M")
    assert record.country == "Kenya" and record.left_out == ("season",)
    assert not re.search("spring|summer|autumn|winter", ms.sentence(record).lower())


def test_far_from_any_town_no_place_is_named():
    record = located(square(-140.0, 40.0), country_code=None, utm="7T")
    assert record.left_out == ("city", "country") and record.season == "summer"


ODD_NUMBERS = [-1, 10**400, "12", True, float("nan"), float("inf"), [3], {}, None]


@pytest.mark.parametrize("value", ODD_NUMBERS, ids=repr)
def test_odd_numbers_are_left_out(value):
    keys = {
        "cloud_cover": "cloud_cover",
        "off_nadir_angle_dbl": "off_nadir",
        "target_azimuth_dbl": "azimuth",
        "multi_resolution_dbl": "gsd",
    }
    for key, field in keys.items():
        assert fmow(**{key: value}).left_out == (field,)
    assert fmow(img_width=value).left_out == ("position",)


def test_odd_scan_directions_are_left_out():
    for scan in ("sideways", "", 1, None):
        assert fmow(scan_direction=scan).left_out == ("scan_direction",)
    assert fmow(scan_direction="Reverse").scan_direction == "reverse"


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        "0 0 5 5",
        [0, 0, "5", 5],
        [899, 0, 5, 5],
        [-3, 0, 5, 5],
        [2000, 0, 5, 5],
        [0, 0, 0, 0],
        [0, 0, 900, 900],
        {"x": 1},
    ],
)
def test_odd_boxes_have_no_position(box):
    record = boxed({"category": "stadium", "box": box})
    assert record.left_out == ("position",) and record.labels == ("stadium",)


def test_several_boxes_have_no_position():
    one, two = (
        {"category": "stadium", "box": [0, 0, 50, 50]},
        {"category": "park", "box": [400, 0, 50, 50]},
    )
    assert boxed(one).left_out == ()
    assert boxed(one, one).left_out == ("position",) and boxed(one, one).labels == ("stadium",)
    assert boxed(one, two).left_out == ("labels", "position"), (
        "which of the two the caption is about is not known"
    )


def test_boxes_in_odd_containers():
    whole = FMOW["bounding_boxes"][0]
    single = fmow(bounding_boxes=whole | {"category": "zoo", "box": [0, 0, 50, 50]})
    assert single.labels == ("zoo",) and single.position == ("top left",) and single.left_out == ()
    for boxes in (None, [], 5, "x", [None, None], [[]]):
        assert set(fmow(bounding_boxes=boxes).left_out) == {"labels", "position", *WHERE}


@pytest.mark.parametrize(
    "category",
    [None, "", "false_detection", 5, "x" * 101, "{place}", "stadium\nIgnore", "[a]", "3d"],
)
def test_odd_categories_are_left_out(category):
    record = boxed({"category": category, "box": [0, 0, 50, 50]})
    assert record.left_out == ("labels",)


def test_categories_become_nouns():
    def said(category):
        return ms.words(boxed({"category": category, "box": [0, 0, 50, 50]}))["labels"]

    assert said("airport") == "an airport" and said("debris_or_rubble") == "debris or rubble"
    assert said("multi-unit_residential") == "a multi-unit residential building"
    assert said("oil_or_gas_facility") == "an oil or gas facility"


@pytest.mark.parametrize(
    "labels", [None, [], "Pastures", [5], ["Pastures", None], ["Pastures", "{place}"], {}]
)
def test_odd_labels_are_left_out(labels):
    assert patch(labels=labels).left_out == ("labels",)


CORNERS = PATCH["coordinates"]


@pytest.mark.parametrize(
    "corners",
    [
        None,
        {},
        [1, 2, 3, 4],
        {"ulx": 567180},
        CORNERS | {"ulx": "567180"},
        CORNERS | {"uly": float("nan")},
        {"ulx": 568380, "uly": 4356840, "lrx": 567180, "lry": 4358040},
        {"ulx": 4356840, "uly": 568380, "lrx": 4358040, "lry": 567180},
        {"ulx": -8.2, "uly": 39.4, "lrx": -8.1, "lry": 39.3},
    ],
)
def test_odd_corners_are_left_out(corners):
    record = patch(coordinates=corners)
    assert (
        set(record.left_out) == {"city", "country", "season", "hour", "extent"}
        and record.utm_zone == "29N"
    )


@pytest.mark.parametrize(
    "wkt", [None, "", 5, 'PROJCS["UTM zone 99N"]', 'PROJCS["ETRS89 / LAEA Europe"]', "UTM zone 29X"]
)
def test_an_odd_projection_is_left_out(wkt):
    record = patch(projection=wkt)
    assert set(record.left_out) == {*WHERE, "utm_zone"} and record.extent == (1.2, 1.2)


def test_a_southern_projection():
    record = patch(
        projection=WKT.replace("29N", "55S"),
        acquisition_date="2017-12-21 00:25:01",
        coordinates={"ulx": 320000, "uly": 5813000, "lrx": 321200, "lry": 5811800},
    )
    assert record.season == "summer" and record.hour == 10
    assert record.country is None, "no patch of BigEarthNet lies in Australia"


def test_odd_satellites_are_left_out():
    for tile in (None, "", 7, "LC08_L1TP", "S2Z_MSIL1C"):
        assert patch(tile_source=tile).left_out == ("satellite",)


@pytest.mark.parametrize("source", ["fmow", "bigearthnet", "pocket"])
def test_templates_hold_every_field_and_no_direction(source):
    templates = ms.settings()[source]
    assert len(templates) >= 20 and len({str(t) for t in templates}) == len(templates)
    known = ms.words(FULL[source])
    expected = [field for field in known if known[field]]
    for sentences in templates:
        text = " ".join(sentences)
        assert sorted(re.findall(r"{(\w+)}", text)) == sorted(expected), sentences
        plain = re.sub(r"\[[^]]*{(position|azimuth)}[^]]*\]", "", text)
        assert not re.search(DIRECTIONS, plain.lower()), (
            "only clauses of position and azimuth may name a direction"
        )
        outside = re.sub(r"\[[^]]*\]", "", text)
        assert "{" not in outside and all(s.endswith(".") for s in sentences)
        clauses = re.findall(r"\[([^]]*)\]", text)
        assert all(len(re.findall(r"{\w+}", clause)) == 1 for clause in clauses), (
            "a clause stands for one field"
        )


@pytest.mark.parametrize("source", ["fmow", "bigearthnet", "pocket"])
def test_all_templates_are_reached_and_a_name_keeps_its_own(source):
    texts = {}
    for i in range(400):
        record = FULL[source]._replace(name=f"{source}_{i}.jpg")
        texts[ms.sentence(record)] = texts.get(ms.sentence(record), 0) + 1
        assert ms.sentence(record) == ms.sentence(record._replace())
    assert len(texts) == len(ms.settings()[source]) and max(texts.values()) < 60, (
        "none is drawn far too often"
    )


def test_the_choice_is_the_same_on_every_machine():
    names = ["stadium_211_3_msrgb", "é", "\ud800", ""]
    chosen = [
        ms.settings()["fmow"].index(ms.template(FULL["fmow"]._replace(name=name))) for name in names
    ]
    assert chosen == [3, 8, 7, 9]


@pytest.mark.parametrize("source", ["fmow", "bigearthnet", "pocket"])
def test_any_set_of_known_fields_reads_well(source):
    full, fields = FULL[source], ms.FIELDS[source]
    rng = np.random.default_rng(0)
    keeps = [set(), set(fields), *({f} for f in fields), *(set(fields) - {f} for f in fields)]
    keeps += [set(rng.permutation(fields)[: rng.integers(1, len(fields))]) for _ in range(20)]
    blank = ms.make("x", source)
    for keep in keeps:
        record = full._replace(**{f: getattr(blank, f) for f in fields if f not in keep})
        for i in range(100):
            text = ms.sentence(record._replace(name=str(i)))
            assert not re.search(
                r"[\[\]{}]|  | [.,:;]|[,:;][.,:;]|^\W|:\.|None|False|\(\)", text
            ), text
            assert text[0].isupper() and text.endswith(".") and "." in text
            assert all(s.strip()[0].isupper() for s in re.split(r"(?<=[^.][^.m])\. ", text))


def test_a_clause_knows_whether_it_survives_a_rotation():
    for i in range(100):
        record = FULL["fmow"]._replace(name=str(i))
        clauses = ms.clauses(record)
        assert {c.kind for c in clauses if not c.rotation_safe} == {"position", "azimuth"}
        assert {c.kind for c in clauses if c.kind} == set(ms.words(record))
        text = ms.sentence(record, rotation_safe_only=True).replace(record.city, "")
        assert not re.search(DIRECTIONS + "|azimuth|314", text.lower()) and "a crop field" in text
        assert "314" in ms.sentence(record)


@pytest.mark.parametrize("source", ["bigearthnet", "pocket"])
def test_other_sources_say_nothing_about_directions(source):
    for i in range(100):
        record = FULL[source]._replace(name=str(i))
        assert ms.sentence(record) == ms.sentence(record, rotation_safe_only=True)


def test_nothing_is_invented():
    bare = metadata.read_fmow({}, "x")
    assert bare.left_out == ms.FIELDS["fmow"]
    for i in range(100):
        text = ms.sentence(bare._replace(name=str(i)))
        assert text.count(".") == 1 and len(text) < 60 and not re.search(r"\d", text), text
    assert metadata.read_bigearthnet({}, "x").left_out == ms.FIELDS["bigearthnet"]


def test_left_out_fields_are_counted():
    counts = ms.count_left_out([FULL["fmow"], fmow(utm=None), fmow(utm="?", cloud_cover=None)])
    assert counts == {"utm_zone": 2, "cloud_cover": 1}


def test_values_are_never_read_as_templates():
    record = FULL["pocket"]._replace(city="{labels}", country=r"\1[x]")
    assert r"{labels}, Rift, \1[x]" in ms.sentence(record)


@pytest.mark.parametrize("read", [metadata.read_fmow, metadata.read_bigearthnet])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"<html>", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 10**5]
)
def test_a_broken_file_is_named(tmp_path, read, content):
    path = tmp_path / "stadium_1_0_rgb.json"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"stadium_1_0_rgb.json is not readable json .*: fetch it again"
    ):
        read(path)
    with pytest.raises(ValueError, match="^some_image is not readable json"):
        read(content, "some_image")


def test_json_that_is_no_metadata_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="a.json holds a list, not one json object"):
        metadata.read_fmow(path)
    path.write_bytes(b" " * (sources.MAX_BYTES + 1))
    says = "a.json has 4194305 bytes: too many for the metadata of one image"
    with pytest.raises(ValueError, match=says):
        metadata.read_fmow(path)
    with pytest.raises(FileNotFoundError, match="gone.json"):
        metadata.read_fmow(tmp_path / "gone.json")
    with pytest.raises(TypeError, match="needs the image's name"):
        metadata.read_fmow({})


def test_every_encoding_of_json_is_read(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path = tmp_path / "crop_field_1_0_rgb.json"
        path.write_bytes(json.dumps(FMOW).encode(encoding))
        assert metadata.read_fmow(path) == metadata.read_fmow(str(path)) == FULL["fmow"]


def test_documents_of_a_folder_and_of_a_zip(tmp_path):
    folder, archive = tmp_path / "patches", tmp_path / "patches.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("S2A_9", "S2A_1"):
            (folder / name).mkdir(parents=True)
            (folder / name / f"{name}_labels_metadata.json").write_text(json.dumps(PATCH))
            (folder / name / f"{name}_B02.tif").write_bytes(b"pixels")
            packed.writestr(f"{name}/{name}_labels_metadata.json", json.dumps(PATCH))
            packed.writestr(f"{name}/{name}_B02.tif", b"pixels")
        packed.writestr("__MACOSX/._S2A_1_labels_metadata.json", b"\0")
    for path in (folder, archive, str(archive)):
        records = [metadata.read_bigearthnet(data, name) for name, data in metadata.documents(path)]
        assert [record.name for record in records] == ["S2A_1", "S2A_9"] and not records[0].left_out
    first = folder / "S2A_1" / "S2A_1_labels_metadata.json"
    assert metadata.read_bigearthnet(first) == records[0], "a file and a member have the same name"


def test_a_broken_zip_is_named(tmp_path):
    path = tmp_path / "patches.zip"
    path.write_bytes(b"PK\x05")
    with pytest.raises(ValueError, match="patches.zip is not a whole, readable zip file"):
        list(metadata.documents(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb.json", b" " * (sources.MAX_BYTES + 1))
    with pytest.raises(ValueError, match="bomb.json in .*patches.zip has 4194305 bytes"):
        list(metadata.documents(path))
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.json", json.dumps(PATCH))
    path.write_bytes(path.read_bytes().replace(b"Sea and", b"Sea und"))
    with pytest.raises(ValueError, match="a.json in .*patches.zip is damaged"):
        list(metadata.documents(path))
    with pytest.raises(FileNotFoundError, match="gone.zip"):
        list(metadata.documents(tmp_path / "gone.zip"))


def test_country_codes():
    codes = places.country_codes()
    assert len(codes) == len(set(codes.values())) and 245 <= len(codes) <= 255
    assert (codes["DEU"], codes["GBR"], codes["CHN"], codes["PRT"], codes["XKX"]) == (
        "DE",
        "GB",
        "CN",
        "PT",
        "XK",
    )
    assert all(
        re.fullmatch("[A-Z]{3}", k) and re.fullmatch("[A-Z]{2}", v) for k, v in codes.items()
    )


@pytest.mark.parametrize(
    ("latitude", "longitude", "code", "sure"),
    [
        (54.0, 23.9, "LT", True),
        (42.66, 21.16, "XK", True),
        (22.3, 114.17, "HK", True),
        (40.0, -140.0, None, True),
        (48.575, 7.795, "FR", False),  # in the Rhine
    ],
)
def test_the_country_of_a_place_by_borders(latitude, longitude, code, sure):
    assert places.country_code(latitude, longitude) == (code, sure)


def test_the_nearest_town_does_not_decide_on_the_country():
    rhine = square(7.795, 48.575)  # the nearest town, Kehl, is German; the border is in the river
    assert located(rhine, country_code=None, utm="32U").left_out == ("city", "country")
    bay = square(-124.75, 48.5)  # 20 km off Canada's coast and 20 km off the United States'
    assert located(bay, country_code=None, utm="10U").country in (None, "Canada", "United States")
    border = patch(
        projection=WKT.replace("29N", "35N"),
        coordinates={"ulx": 379200, "uly": 6232800, "lrx": 380400, "lry": 6231600},
    )
    assert border.left_out == ("city", "country"), "in Lithuania, with a Latvian town beside it"


V2 = {"patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57", "labels": ["Pastures"],
      "country": "Austria", "split": "train"}  # fmt: skip


def test_a_row_of_bigearthnet_v2():
    record = metadata.read_bigearthnet_v2(V2)
    assert record.name == V2["patch_id"] and record.labels == ("Pastures",)
    assert record.country == "Austria" and record.date == dt.date(2017, 6, 13)
    assert record.utm_zone == "33N" and record.satellite == "Sentinel-2A"
    assert record.left_out == ("city", "season", "extent", "hour")
    odd = metadata.read_bigearthnet_v2({"patch_id": "a", "labels": ["a", 5], "country": 7})
    assert odd == ms.make("a", "bigearthnet")
    for name in (None, "", 5):
        with pytest.raises(ValueError, match="a row without patch_id"):
            metadata.read_bigearthnet_v2(V2 | {"patch_id": name})


@pytest.mark.skipif(not PATCHES.is_file(), reason="BigEarthNet's patches are not there")
def test_the_real_patches():
    records = {
        name: metadata.read_bigearthnet(data, name) for name, data in metadata.documents(PATCHES)
    }
    border = records.pop("S2B_MSIL2A_20170927T094019_66_56")  # Lithuania; the next town is Latvian
    assert border.country is None and border.left_out == ("city", "country")
    assert len(records) == 10 and not any(record.left_out for record in records.values())
    winter = records["S2A_MSIL2A_20171221T112501_56_35"]
    assert (
        winter.country == "Portugal"
        and winter.season == "winter"
        and winter.date == dt.date(2017, 12, 21)
    )
    assert (
        winter.labels[2:] == ("Broad-leaved forest", "Transitional woodland/shrub")
        and winter.hour == 11
    )
    lake = records["S2A_MSIL2A_20180510T94033_19_86"]
    assert lake.labels == ("Coniferous forest", "Peatbogs") and (lake.country, lake.season) == (
        "Finland",
        "spring",
    )
    assert {r.country for r in records.values()} == {"Portugal", "Ireland", "Finland", "Serbia"}
    assert {r.extent for r in records.values()} == {(1.2, 1.2)} and {
        r.hour for r in records.values()
    } == {11, 12}
    assert {r.satellite for r in records.values()} == {"Sentinel-2A", "Sentinel-2B"}
    for name, record in records.items():
        band = places.BANDS[int((record.latitude + 80) // 8)]
        assert places.in_zone(record.latitude, record.longitude, record.utm_zone[:-1] + band), name
        assert (
            record.country in ms.sentence(record)
            and record.labels[0].split()[0].lower() in ms.sentence(record).lower()
        )
