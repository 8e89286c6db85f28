"""The cost model: it finds what a made machine takes, and says when it does not."""

import numpy as np
import pytest

from rs5m.book import costs


def made(pages: int, bend: float = 0.0) -> dict:
    seconds = {
        "select": 0.5 + 1e-6 * 10 * pages,
        "download": 1e-3 * pages,
        "look": 2 + 0.01 * pages,
    }
    seconds |= {"duplicates": 1e-6 * pages**1.5, "write": 0.1 + 1e-3 * pages + bend * pages**2}
    held = {"select": pages, "unmatched": 9 * pages, "look": 2000 * pages}
    held |= {"fetch": 10_000 * pages, "tars": 11_000 * pages}
    return {
        "pages": pages,
        "listed": 10 * pages,
        "bytes_a_picture": 10_000,
        "cpu_seconds": seconds,
        "grown_mb": 100 + pages * 0.002,
        "bytes": held,
    }


BEYOND = {
    "look": {"pairs": 1000, "cpu_seconds": 1.0},
    "hashes": [
        {"max_distance": 12, "on_disk": True, "hashes": n, "cpu_seconds": 3e-9 * n**1.7}
        for n in (1e4, 1e5, 1e6)
    ],
}
RUNS = [made(500), made(2000), made(8000)]
STORED = {
    "scaling": {"runs": RUNS},
    "beyond": BEYOND,
    "keywords": {"sides": {"ours": {"cpu_ns_per_row": 1000}}},
    "dedup": {"planted": {"reported_on": {"images": 1000, "planted": 100, "candidates": 150}}},
}


def test_lines_are_found_and_foretell_the_largest_run():
    assert costs.line(RUNS, "look") == pytest.approx((2, 0.01))
    assert costs.line(RUNS, "download") == pytest.approx((0, 1e-3), abs=1e-9)
    assert np.allclose(costs.checked(RUNS).ratio, 1)
    bent = costs.checked([made(500), made(2000), made(8000, 1e-6)]).set_index("stage")
    assert bent.ratio["write"] > 5 and bent.ratio["look"] == pytest.approx(1)
    assert costs.held(200, 300) - costs.held(100, 200) == pytest.approx(100 + 3 * 100, rel=0.3)


def test_the_bill_adds_up():
    prices = {"core_hour": 0.1, "gigabyte_month": 0.02, "bytes_a_picture": 100_000}
    asked = {"listed": 3.6e9, "urls": 3.6e6, "pictures": 3.6e6}
    bill = costs.bill(STORED, asked, prices).set_index("stage")
    assert bill.core_hours["select"] == pytest.approx(1)
    assert bill.core_hours["download"] == pytest.approx(1)
    assert bill.core_hours["look"] == pytest.approx(10)
    assert bill.gigabytes["download"] == pytest.approx(360)
    assert bill.gigabytes["look"] == pytest.approx(7.2)
    parts = bill.drop("all")
    assert bill.money["all"] == pytest.approx(
        0.1 * parts.core_hours.sum() + 0.02 * parts.gigabytes.sum()
    )


def test_duplicates_grow_in_two_parts():
    seen = BEYOND["hashes"]
    assert costs.growth([*seen, seen[0] | {"on_disk": False, "cpu_seconds": 9.0}], 12) == (
        pytest.approx((3e-9, 1.7))
    )
    parts = costs.near(STORED, 1e6)
    assert parts["search"] == pytest.approx(11 * 3e-9 * 1e6**1.7)
    assert parts["closer look"] == pytest.approx(50 * 1e6 * 1e-3)  # 50 look-alikes of a thousand
    assert costs.hours_of_one_host(14400, 1.0, 4) == 1


def test_the_papers_counts():
    assert costs.counts() == {
        "listed": 4_200_000_000,
        "urls": 6_121_583,
        "pictures": 5_244_251,
        "kept": 3_007_809,
    }


def test_groups_that_differ_are_not_hidden():
    side = {"gb": 0.5, "cpu_seconds": 7.0}
    grouped = {"images": 1000, "equal": True, "in_memory": side, "on_disk": side}
    assert "1,000 pictures" in costs.both_ways(grouped) and "run bench" in costs.both_ways(None)
    with pytest.raises(ValueError, match="are not those in memory"):
        costs.both_ways(grouped | {"equal": False})
