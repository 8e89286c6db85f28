"""rs5m.book.leakmap: pairs both ways round, the table of the map, a page without a record."""

import numpy as np
from textures import texture

from rs5m import dedup
from rs5m.book import leakmap


def test_copies_name_the_orientation_of_the_first_picture_either_way_round():
    first = [np.asarray(texture(k)) for k in range(8)]
    second = [np.ascontiguousarray(np.rot90(first[5])), np.asarray(texture(50)), first[2]]
    a, b = dedup.signatures(first), dedup.signatures(second)
    found = leakmap.copies(a, b)
    assert found[["i", "j"]].to_numpy().tolist() == [[2, 2], [5, 0]]
    turn = int(found.orientation[1])
    assert (
        found.orientation[0] == 0
        and (dedup.orient(first[5][None, ..., 0], turn)[0] == second[0][..., 0]).all()
    )
    back = leakmap.copies(b, a)
    assert back[["j", "i"]].to_numpy().tolist() == [[5, 0], [2, 2]]
    assert back.orientation[0] == dedup.INVERSE[turn]


def test_the_table_has_no_number_where_a_set_meets_itself():
    values = {
        "images": {"ucm": 5, "whurs19": 4},
        "copies": {"ucm": {"whurs19": 2}, "whurs19": {"ucm": 3}},
    }
    table = leakmap.table(values)
    assert table.columns.tolist() == ["images", "UC Merced", "WHU-RS19"]
    assert table.loc["UC Merced"].tolist() == [5, "", 2]
    assert table.loc["WHU-RS19"].tolist() == [4, 3, ""]


def test_nothing_stored_is_no_number():
    assert np.isnan(
        [leakmap.headline(None)[key] for key in ("whurs19", "training", "turned")]
    ).all()
