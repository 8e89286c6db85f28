"""Cards: every one complete, and a folder that is another set is told from it."""

from unittest import mock

import pytest

from rs5m.evaluate import cards

NAMES = (
    "eurosat",
    "resisc45",
    "aid",
    "ucm",
    "rsitmd",
    "rsicd",
    "ucm_captions",
    "air_slt",
    "pocket",
)
MILLION_AID = [
    "dry_field",
    "greenhouse",
    "paddy_field",
    "terraced_field",
    "meadow",
    "forest",
    "orchard",
    "commercial_area",
]


def test_every_card_tells_what_a_reader_asks():
    for name in NAMES:
        known = cards.card(name)
        assert all(known[key] for key in ("title", "task", "images", "split", "source", "terms")), (
            name
        )
    table = cards.cards()
    assert len(table) == len(NAMES) and set(table.columns) >= {
        "set",
        "images",
        "classes",
        "size",
        "split",
        "terms",
    }
    with pytest.raises(ValueError, match="no card 'cifar'"):
        cards.card("cifar")


@pytest.mark.parametrize(
    ("name", "classes", "images"),
    [("eurosat", 10, 27000), ("resisc45", 45, 31500), ("aid", 30, 10000)],
)
def test_the_published_counts(name, classes, images):
    known = cards.card(name)
    assert len(set(known["classes"])) == classes and known["images"] == images


def regular() -> tuple[list[str], list[str]]:
    classes = cards.card("resisc45")["classes"]
    return classes, [f"{label}/{label}_{i:03d}.jpg" for label in classes for i in range(1, 701)]


def test_the_published_set_has_no_difference_and_the_kind_of_file_does_not_matter():
    classes, names = regular()
    assert cards.compare("resisc45", names, classes, size=(256, 256)) == []
    assert (
        cards.compare(
            "resisc45", [name.replace(".jpg", ".png") for name in reversed(names)], classes
        )
        == []
    )


def test_another_set_under_the_name_is_told():
    (said, count) = cards.compare("aid", [f"{label}/1.jpg" for label in MILLION_AID], MILLION_AID)
    assert (
        "its 8 classes are not those of AID" in said
        and "dry_field" in said
        and "missing: Airport" in said
    )
    assert "it has 8 images, AID has 10,000" in count


def test_a_subset_another_split_and_another_size_are_told():
    classes, names = regular()
    assert "31,499 images" in cards.compare("resisc45", names[1:], classes)[0]
    (said,) = cards.compare("resisc45", [name.replace("_700", "_701") for name in names], classes)
    assert "other names" in said
    (said,) = cards.compare("resisc45", names, classes, size=(128, 256))
    assert "128 x 256 pixels, those of RESISC45 256 x 256" in said
    assert len(cards.compare("rsitmd", ["a.jpg"], captions=5)) == 2


def test_other_content_under_the_names_is_told():
    known = cards.card("resisc45") | {"sample_sha256": "a" * 64}
    classes, names = regular()
    with mock.patch.object(cards, "card", lambda _: known):
        same, other = (
            cards.compare("resisc45", names, classes, content={"sample_sha256": letter * 64})
            for letter in "ab"
        )
    assert same == [] and "the bytes of every 1,000th file are not those of RESISC45" in other[0]


def test_a_set_that_is_known_by_names_says_so():
    assert cards.known_by("eurosat").endswith("the bytes of every 1,000th file")
    assert "captions" in cards.known_by("rsicd")
    for name in set(NAMES) - {"eurosat"}:
        assert cards.known_by(name).endswith("; not by the pixels")
