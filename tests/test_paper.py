"""The paper's numbers as data: they add up, they name their source, and a verdict follows from them
by rule.
"""

import math
import re
from pathlib import Path

import pytest

from rs5m import paper

ROOT = Path(__file__).parents[1]
TABLES = sorted(path.stem for path in (ROOT / "rs5m/paper").glob("*.csv"))
GAIN = {
    "claim": "ZSC",
    "what": "gain",
    "ours": 5.1,
    "low": 4.6,
    "high": 5.7,
    "reason": "other towers",
}


def attrition():
    return paper.table("pub11_attrition").pivot(index="corpus", columns="step", values="pairs")


def test_there_are_seven_tables():
    assert len(TABLES) == 7


@pytest.mark.parametrize("name", TABLES)
def test_every_row_names_its_source(name):
    assert paper.table(name)["source"].fillna("").str.strip().ne("").all()
    assert not paper.table(name).drop(columns="source").duplicated().any()


def test_every_row_of_the_attrition_table_adds_up():
    # All twelve rows, the total included, add up exactly: there is no known exception to allow for.
    rows = attrition()
    dropped = rows[["invalid image", "duplicate image", "outlier image"]].sum(axis=1)
    left = rows["download"] - dropped - rows["remaining"]
    assert len(rows) == 12 and left.to_dict() == dict.fromkeys(rows.index, 0)
    assert (rows["download"] <= rows["keyword filter"]).all() and (
        rows["keyword filter"] < rows["listed"]
    ).all()


def test_every_column_of_the_attrition_table_adds_up():
    rows = attrition()
    left = rows.drop(index="total").sum() - rows.loc["total"]
    # The listed pairs are the one rounded column: eleven rounded numbers against a total rounded to
    # 0.1 billion.
    assert left.drop("listed").eq(0).all()
    assert abs(left["listed"]) <= 50_000_000


def test_listed_pairs_are_whole_numbers_of_their_rounding():
    listed = paper.table("pub11_attrition").query("step == 'listed'")
    unit = listed["rounding"].str.removeprefix("rounded to ").astype("int64")
    assert (listed["pairs"] % unit == 0).all()


def test_rs3_adds_up_and_with_pub11_makes_five_million():
    images = paper.table("rs3_sources").set_index("dataset")["images"]
    assert images.drop("total").sum() == images["total"]
    pairs = images["total"] + attrition().loc["total", "remaining"]
    assert round(pairs, -6) == paper.claim("SCALE")["low"] == 5_000_000


def test_mean_recall_is_the_mean_of_the_six():
    results = paper.table("results").query("task == 'retrieval'")
    groups = 0
    for _, rows in results.groupby(["dataset", "model", "tuned_on"]):
        values = rows.set_index("metric")["value"]
        if len(values) == 7:
            groups += 1
            # RSICD alone: 37.993 by the six, 38.00 published
            assert values.filter(like="R@").mean() == pytest.approx(
                values["mean recall"], abs=0.007
            )
    assert groups >= 6


@pytest.mark.parametrize("model", ["GeoRSCLIP ViT-B/32", "GeoRSCLIP ViT-H/14"])
def test_rmi_is_the_weighted_sum(model):
    rsu, ras, rda, rmi = (paper.value(metric=m, model=model) for m in ("Rsu", "Ras", "Rda", "Rmi"))
    assert 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda == pytest.approx(rmi, abs=2e-6)


def test_unknown_table_lists_the_names():
    with pytest.raises(ValueError, match="'nope'.*claims, normalisation, pub11_attrition"):
        paper.table("nope")


def test_value_is_one_row():
    assert paper.value(dataset="EuroSAT", model="GeoRSCLIP ViT-B/32") == 61.40
    assert (
        paper.value(dataset="RSICD", metric="mean recall", model="CLIP ViT-B/32", tuned_on="none")
        == 15.74
    )


def test_value_that_fits_several_rows_lists_them():
    with pytest.raises(ValueError, match="^2 rows") as error:
        paper.value(dataset="EuroSAT")
    assert all(
        name in str(error.value) for name in ("ViT-B/32", "ViT-H/14")
    ) and "RSICD" not in str(error.value)


def test_value_that_fits_no_row_lists_all():
    with pytest.raises(ValueError, match="^0 rows") as error:
        paper.value(dataset="UC Merced")
    assert "EuroSAT" in str(error.value) and "AIR-SLT" in str(error.value)


def test_value_of_an_unknown_column_lists_the_columns():
    with pytest.raises(ValueError, match=r"no column \['data'\]: use task, dataset, metric, model"):
        paper.value(data="EuroSAT")


def test_unknown_claim_lists_the_ids():
    with pytest.raises(ValueError, match="'XYZ'.*ZSC, RSCTIR, SELO, SCALE, GAP, HALVES, ROT"):
        paper.claim("XYZ")


def test_prompts_are_105_and_distinct():
    prompts = paper.prompts()
    assert len(prompts) == len(set(prompts)) == 105
    assert all(prompt.count("{}") == 1 and prompt.endswith(" {}.") for prompt in prompts)


def test_prompts_follow_each_rule():
    prompts = paper.prompts()
    assert (
        prompts[0] == "a remote sensing image of many {}."
        and prompts[-1] == "a satellite image of a cool {}."
    )
    assert {
        "an aerial image of a {}.",
        "a bad aerial image of the {}.",
        "a bad satellite image of a {}.",
        "a satellite image of the small {}.",
        "an aerial image of a hard to see {}.",
    } <= set(prompts)
    assert not [prompt for prompt in prompts if re.match(r"an [^a]|a a", prompt)]
    for medium in ("remote sensing image", "aerial image", "satellite image"):
        assert sum(medium in prompt for prompt in prompts) == 35


@pytest.mark.parametrize(
    "folder, name",
    [
        ("AnnualCrop", "annualcrop"),
        ("tennis_court", "tennis court"),
        ("Sea/Lake", "sea lake"),
        ("forest", "forest"),
    ],
)
def test_class_name(folder, name):
    assert paper.class_name(folder) == name


@pytest.mark.parametrize(
    "low, high, same, expected",
    [
        (4.6, 5.7, True, "reproduced"),
        (19.5, 22.0, True, "reproduced"),  # the interval only has to meet the range
        (20.0, 22.0, True, "reproduced"),  # the end belongs to it
        (4.6, 5.7, False, "direction only"),  # inside, but in another setting
        (0.5, 2.9, True, "direction only"),  # the right setting and sign, the wrong size
        (30.0, 34.0, True, "direction only"),  # more than the paper's is not the paper's
        (
            -0.1,
            4.0,
            True,
            "not reproduced",
        ),  # meets the range, but so wide that no gain is possible too
        (0.0, 4.0, False, "not reproduced"),  # zero itself is no gain
        (-3.0, -1.0, False, "not reproduced"),
        (None, None, True, "not attempted"),
    ],
)
def test_verdict_on_a_gain(low, high, same, expected):
    assert paper.verdict((3, 20), low, high, same) == expected


@pytest.mark.parametrize(
    "low, high, same, tolerance, expected",
    [
        (61.0, 62.0, True, 0, "reproduced"),
        (61.9, 62.5, True, 0, "not reproduced"),
        (61.9, 62.5, True, 0.5, "reproduced"),
        (61.4, 61.4, True, 0, "reproduced"),
        (
            61.0,
            62.0,
            False,
            0,
            "not attempted",
        ),  # the same number from another model or data is a coincidence
        (None, None, True, 0, "not attempted"),
    ],
)
def test_verdict_on_a_level(low, high, same, tolerance, expected):
    assert paper.verdict(61.40, low, high, same, gain=False, tolerance=tolerance) == expected


def test_verdict_on_a_loss_and_on_open_ranges():
    assert paper.verdict((-5, -2), -1.5, -0.5, False) == "direction only"
    assert paper.verdict((-5, -2), 0.5, 1.5, False) == "not reproduced"
    assert paper.verdict((0, math.inf), 1, 2, True) == "reproduced"
    assert paper.verdict((-math.inf, 0), -2, -1, False) == "direction only"
    assert (
        paper.verdict((-1, 1), 2, 3, False) == "not reproduced"
    )  # a range across zero has no side
    with pytest.raises(ValueError, match="not \\(low, high\\)"):
        paper.verdict((20, 3), 4, 5, True)


def test_compare_takes_range_and_unit_from_the_claim():
    line = paper.compare([GAIN], "mini").iloc[0]
    assert line.to_list() == [
        "ZSC",
        "gain (points)",
        "+3 to +20",
        "+5.1 [+4.6, +5.7]",
        "inside",
        "direction only",
        "other towers",
    ]
    assert line.index[3] == "this run (mini)"


def test_compare_without_a_value_is_not_attempted():
    line = paper.compare([{"claim": "ROT", "what": "captions", "reason": "later"}]).iloc[0]
    assert line[["paper", "this run", "difference", "verdict"]].to_list() == [
        "—",
        "—",
        "—",
        "not attempted",
    ]


def test_compare_says_why_a_level_has_no_verdict():
    row = {
        "what": "level",
        "paper": 61.4,
        "unit": "%",
        "ours": 60.0,
        "low": 59.0,
        "high": 61.0,
        "reason": "new",
    }
    line = paper.compare([row]).iloc[0]
    assert line["verdict"] == "not attempted" and line["difference"] == "-1.40"
    assert line["reason"] == "a level of another model or on other data proves nothing; new"
    assert (
        paper.compare([{**row, "same_setting": True, "high": 61.5}]).iloc[0]["verdict"]
        == "reproduced"
    )


def test_compare_shows_large_ranges_in_full():
    row = {
        "what": "pairs",
        "paper": (4_950_000, 5_050_000),
        "unit": "pairs",
        "reason": "not built here",
    }
    assert paper.compare([row]).iloc[0]["paper"] == "4,950,000 to 5,050,000"


def test_compare_accepts_an_exact_count():
    row = {
        "what": "prompts",
        "paper": 105,
        "ours": len(paper.prompts()),
        "same_setting": True,
        "reason": "same rules",
    }
    assert paper.compare([row]).iloc[0].to_list()[2:6] == ["105", "105", "0", "reproduced"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reason": ""}, "'gain' lacks reason"),
        ({"low": None}, "'gain' lacks low"),
        ({"claim": "GAP", "unit": "points"}, "'gain' lacks paper"),
        ({"low": 6.0}, r"5.1 \[6.0, 5.7\] is not a number and its interval"),
        ({"ours": math.nan}, "nan .* is not a number"),
        ({"claim": "XYZ"}, "no claim 'XYZ'"),
    ],
)
def test_compare_refuses_half_a_row(change, message):
    with pytest.raises(ValueError, match=message):
        paper.compare([{**GAIN, **change}])


def test_a_gain_without_interval_is_refused():
    with pytest.raises(ValueError, match="lacks low, high"):
        paper.compare([{"claim": "ZSC", "what": "gain", "ours": 5.1, "reason": "none"}])


def test_show_prints_markdown_with_harmless_cells(capsys):
    paper.show([{**GAIN, "reason": "a | b\nc"}], "mini")
    head, rule, line = capsys.readouterr().out.strip().split("\n")
    assert head == "| claim | what | paper | this run (mini) | difference | verdict | reason |"
    assert rule == "|" + " --- |" * 7 and line.endswith(r"| a \| b c |")


def bib_entries() -> dict:
    text = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([^,\s]+),(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == len(dict(found)), "a bib key occurs twice"
    return dict(found)


def cited(text: str) -> set:
    return {
        key.strip()
        for group in re.findall(r"\{cite[^}]*\}`([^`]+)`", text)
        for key in group.split(",")
    }


def test_every_bib_entry_is_whole():
    entries = bib_entries()
    assert len(entries) >= 25
    for key, body in entries.items():
        for field in ("author", "title", "year"):
            assert re.search(rf"^\s*{field}\s*=", body, flags=re.MULTILINE), f"{key} lacks {field}"


def test_every_cited_key_exists():
    assert cited("{cite:t}`a2020b, c2021` and {cite}`d`") == {"a2020b", "c2021", "d"}
    for path in sorted((ROOT / "book").glob("*.md")):
        missing = cited(path.read_text(encoding="utf-8")) - set(bib_entries())
        assert not missing, f"{path.name} cites {sorted(missing)}, not in references.bib"


def test_citation_file_names_the_same_paper():
    doi = re.search(r"doi\s*=\s*\{(.*?)\}", bib_entries()["zhang2024rs5m"]).group(1)
    assert f"doi: {doi}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
