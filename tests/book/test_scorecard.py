"""The scorecard's rows: nothing that was not run looks as if it had been; verdicts follow the
intervals.
"""

import json

import pytest

from rs5m import paper, results
from rs5m.book import contact, published, scales, scorecard
from rs5m.evaluate import official, reporting
from rs5m.evaluate.scoring import Scored
from rs5m.evaluate.testsets import TASKS

GOOD, NONE = (
    {"gain": 40.0, "low": 30.0, "high": 50.0, "p": 0.0},
    {"gain": 0.1, "low": -0.9, "high": 1.0},
)
ATTRITION = [
    {"source": "a", "remaining": 1000},
    {"source": "b", "remaining": 295},
    {"source": "total", "remaining": 1295},
]
STORED = {
    ("rotation", "mini"): {
        "halves_gain_of_free": {"mean_minus_deviation": GOOD}, "own_ranker": NONE},
    ("rs3", "mini"): {"change": {scorecard.TURNED: NONE}, "images": 462, "summary": {"pairs": 462}},
    ("pub11", "mini"): {"attrition": ATTRITION},
    ("zeroshot", "local"): {"tests": {"eurosat": {
        "gain": {"pub11+rs3": GOOD | {"seeds": [39.0, 41.0, 40.0]}, "ucm": NONE},
        "pairs": {"pub11+rs3": 1706, "ucm": 1680},
        "models": {"general": {"balanced": 20.0, "low": 19.0, "high": 21.0}}, "images": 26589}}},
    ("retrieval", "mini"): {"tests": {"pocket": {
        "models": {},
        "gain": {"pub11+rs3": {"gain": 4.0, "low": 2.0, "high": 6.0, "seeds": [4.0, 4.0, 4.0]}},
        "images": 500, "texts": 2500, "pairs": {"pub11+rs3": 1667}}}},
    ("selo", "mini"): {"tests": {"pocket": {
        "models": {}, "gain": {"pub11+rs3": NONE}, "scenes": 8, "queries": 40}}},
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty project: no result is there but those that a test puts there."""
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "rs5m").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(here, content):
    for (name, scale), values in content.items():
        folder = here / "results" / scale
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"values": values}))


def compared(here, content, claim):
    put(here, content)
    rows = paper.compare(scorecard.rows())
    return rows[rows.claim == claim].reset_index(drop=True)


def test_without_a_result_every_claim_has_one_row_that_says_so(here):
    rows = paper.compare(scorecard.rows())
    assert rows.claim.tolist() == paper.table("claims")["id"].tolist()
    assert set(rows.verdict) == {"not attempted"} and set(rows["this run"]) == {"—"} == set(
        rows["difference"]
    )
    assert all(
        reason.startswith("not run here: chapter")
        for reason, claim in zip(rows.reason, rows.claim, strict=True)
        if claim != "GAP"
    )


@pytest.mark.parametrize("dropped", STORED)
def test_a_number_is_there_if_and_only_if_its_file_is(here, dropped):
    put(here, {key: values for key, values in STORED.items() if key != dropped})
    rows = paper.compare(scorecard.rows())
    claims = {
        "rotation": "ROT",
        "rs3": "SCALE",
        "zeroshot": "ZSC",
        "retrieval": "RSCTIR",
        "selo": "SELO",
        "pub11": "SCALE",
    }
    fewer, claim = rows[rows.claim == claims[dropped[0]]], claims[dropped[0]]
    put(here, STORED)
    rows = paper.compare(scorecard.rows())
    # what tuning on the choice gains has no verdict, see `claims._rotation`
    whole = rows[(rows.claim == claim) & ~rows.what.str.contains("after tuning")]
    assert len(whole) and (whole["this run"] != "—").all()
    assert fewer["this run"].tolist() == ["—"]


def test_verdicts_of_gains_follow_their_intervals(here):
    assert compared(here, STORED, "ZSC").verdict.tolist() == ["direction only", "not reproduced"]
    assert compared(here, {}, "RSCTIR").verdict.tolist() == ["direction only"], (
        "the setting is never the paper's"
    )
    assert compared(here, {}, "SELO").verdict.tolist() == ["not reproduced"]


def test_reasons_tell_the_sizes_of_the_run(here):
    reason = compared(here, STORED, "ZSC").reason
    assert reason[0] == (
        "other towers, 1,706 tuning pairs, 26,589 images, 3 seeds of tuning, "
        "RS3 captions other images of the same set"
    )
    assert "1 seed of tuning" in reason[1]
    assert (
        "1,667 tuning pairs, 500 images, 2,500 texts, 3 seeds"
        in compared(here, STORED, "RSCTIR").reason[0]
    )
    assert "8 scenes, 40 queries, 1 seed" in compared(here, STORED, "SELO").reason[0]


def test_the_gap_is_not_counted_a_second_time(here):
    rows = compared(here, STORED, "GAP")
    assert rows["this run"].tolist() == ["—"] and "counted there once" in rows.reason[0]


def test_the_size_is_both_halves_and_proves_nothing(here):
    rows = compared(here, STORED, "SCALE")
    assert rows["this run"].tolist() == ["1,757"] and rows.verdict.tolist() == ["not attempted"]
    only = {key: values for key, values in STORED.items() if key[0] != "rs3"}
    (here / "results/mini/rs3.json").unlink()
    assert compared(here, only, "SCALE")["this run"].tolist() == ["—"], (
        "one half is not the data set"
    )


def test_rotation_gains_get_the_verdict_of_their_interval(here):
    rows = compared(here, STORED, "ROT")
    # tuning on the choice: the interval leaves out the draw of images, so there is no verdict
    assert rows.verdict.tolist() == ["direction only", "not reproduced", "not attempted"]
    assert rows["this run"].tolist()[0] == "+40.0 [+30.0, +50.0]"
    (here / "results/mini/rotation.json").unlink()
    only = compared(here, {}, "ROT")
    assert only.verdict.tolist() == ["not attempted"] and "462 images" in only.reason.iloc[0]
    assert "points, a linear" in only.reason.iloc[0] and "no verdict" in only.reason.iloc[0]


def test_several_draws_of_training_images_give_a_verdict(here):
    drawn = STORED["rs3", "mini"] | {"draws": 5, "change": {scorecard.TURNED: GOOD}}
    rows = compared(here, STORED | {("rs3", "mini"): drawn}, "ROT")
    assert rows.verdict.iloc[2] == "direction only" and "5 draws" in rows.reason.iloc[2]


def test_the_halves_are_the_same_at_every_scale_and_count_once(here):
    both = STORED | {("rotation", "local"): STORED["rotation", "mini"]}
    rows = compared(here, both, "ROT")
    assert (
        rows.what.str.contains("sees directions").sum() == 1
        and rows.what.str.contains("scale's ranker").sum() == 2
    )


# ---------------------------------------------------------------- published numbers


def report(
    here,
    name,
    model="GeoRSCLIP ViT-B/32",
    tuned_on="RS5M",
    same=True,
    metrics=None,
    bad=None,
    scale="local",
    named=False,
):
    metrics = metrics or {}
    about = {"model": model, "tuned_on": tuned_on, "same_model": same, "values": {}}
    told = {
        "paper": about | ({} if named is None else {"named_like_release": named}),
        "metrics": metrics,
        "intervals": {key: [value - 1, value + 1] for key, value in metrics.items()},
        "not_comparable": bad or {},
        "model": {"weights_sha256": "abcdef0123456789"},
    }
    (here / "results" / scale).mkdir(parents=True, exist_ok=True)
    (here / "results" / scale / name).write_text(json.dumps(told))


def filled():
    rows = paper.compare(scorecard.published())
    return rows[rows["this run"] != "—"].reset_index(drop=True)


def test_without_a_report_every_published_row_is_open_and_says_what_it_needs(here):
    rows, table = paper.compare(scorecard.published()), paper.table("results")
    assert len(rows) == len(table)
    assert set(rows.verdict) == {"not attempted"} and set(rows["this run"]) == {"—"} == set(
        rows["difference"]
    )
    for reason, row in zip(rows.reason, table.itertuples(), strict=True):
        quoted = row.model == "RemoteCLIP" or row.tuned_on == "RS5M + RSITMD"
        assert ("rs5m evaluate" in reason) != quoted and reason.startswith("not run: ")
        assert (f"{row.dataset}'s images" in reason) == (not quoted and row.dataset != "EuroSAT")


def test_every_command_names_a_model_that_fills_that_very_row(here):
    for line, row in zip(scorecard.published(), paper.table("results").itertuples(), strict=True):
        if "rs5m evaluate" in line["reason"]:
            words = line["reason"].split("`")[1].split()
            options = dict(zip(words[2::2], words[3::2], strict=True))
            column = reporting.column(options["--model"], options.get("--checkpoint"))
            assert (
                column[:2] == (row.model, row.tuned_on)
                and column.same != column.named
                and options["--tasks"] in published.TASKS.values()
            )


def test_every_published_metric_has_its_official_name():
    known = {
        row["metric"]: published._official(row)
        for row in paper.table("results").to_dict("records")
        if row["dataset"] in ("AID", "RSICD", "AIR-SLT")
    }
    assert known == {
        "top-1": "AID-zeroshot-acc",
        "mean recall": "retrieval-mean-recall-rsicd",
        **{f"image-to-text R@{k}": f"retrieval-image2text-R@{k}-rsicd" for k in (1, 5, 10)},
        **{f"text-to-image R@{k}": f"retrieval-text2image-R@{k}-rsicd" for k in (1, 5, 10)},
        "Rsu": "↑ Rsu [0 ~ 1]",
        "Rda": "↑ Rda [0 ~ 1]",
        "Ras": "↓ Ras [0 ~ 1]",
        "Rmi": "↑ Rmi [0 ~ 1]",
    }


def test_a_report_on_the_very_model_fills_its_rows_and_no_other(here):
    report(here, "evaluate.json", metrics={"EuroSAT-zeroshot-acc": 61.3, "AID-zeroshot-acc": 90.0})
    rows = filled()
    assert rows.what.tolist() == [
        f"{name}: top-1, GeoRSCLIP ViT-B/32, scale local (%)" for name in ("EuroSAT", "AID")
    ]
    assert rows.verdict.tolist() == ["reproduced", "not reproduced"] and rows.paper.tolist() == [
        "61.40",
        "74.42",
    ]
    assert rows["this run"][0] == "61.30 [60.30, 62.30]" and "abcdef012345" in rows.reason[0]
    assert len(scorecard.published()) == len(paper.table("results"))


def test_what_the_command_writes_is_read(here):
    """The report as `rs5m.evaluate.reporting` sorts it out: one whole set, one that is not."""
    whole = Scored({"top1": 72.7}, {"top1": (72.2, 73.2)}, {}, {}, {}, chance={"top1": 2.2})
    part = Scored({"top1": 50.0}, {"top1": (49.0, 51.0)}, {}, {}, {})
    scored, why = (
        {("zeroshot", "resisc45"): whole, ("zeroshot", "aid"): part},
        {("zeroshot", "aid"): ["a subset"]},
    )
    at = reporting.column("GeoRSCLIP-ViT-B-32", None)
    told = reporting.sorted_out(scored, {("zeroshot", "resisc45"): []} | why, at)
    (here / "results/local").mkdir(parents=True)
    reporting.write(
        told | {"model": {"weights_sha256": "ab" * 32}}, here / "results/local/evaluate.json"
    )
    assert filled().what.tolist() == ["RESISC45: top-1, GeoRSCLIP ViT-B/32, scale local (%)"]
    assert filled().verdict.tolist() == ["reproduced"]
    assert any("a subset" in row["reason"] for row in scorecard.published())


def test_reports_of_other_models_fill_nothing(here):
    report(here, "evaluate.json", same=False, metrics={"EuroSAT-zeroshot-acc": 61.4})
    assert filled().empty and not scorecard.reports()
    report(
        here, "evaluate-h.json", model="GeoRSCLIP ViT-H/14", metrics={"EuroSAT-zeroshot-acc": 67.0}
    )
    assert filled().what.tolist() == ["EuroSAT: top-1, GeoRSCLIP ViT-H/14, scale local (%)"]


@pytest.mark.parametrize(
    ("same", "named", "doubt"), [(True, False, False), (False, True, True), (True, None, True)]
)
def test_a_model_known_by_its_name_alone_is_marked(here, same, named, doubt):
    """None: a report from before the field, which called a model the same by its name."""
    report(here, "evaluate.json", same=same, named=named, metrics={"EuroSAT-zeroshot-acc": 61.4})
    (reason,) = filled().reason
    assert ("by their name alone" in reason) is doubt


def test_two_scales_have_a_row_each(here):
    for scale in ("local", "colab"):
        report(here, "evaluate.json", metrics={"EuroSAT-zeroshot-acc": 61.4}, scale=scale)
    assert filled().what.str.extract(r"scale (\w+)")[0].tolist() == ["local", "colab"]


def test_a_set_that_is_not_the_published_one_is_named_and_not_scored(here):
    bad = {
        "zeroshot aid": {
            "why": ["900 of 10,000 images"],
            "values": {"top1": 74.42},
            "intervals": {},
        }
    }
    report(here, "evaluate.json", metrics={"EuroSAT-zeroshot-acc": 61.4}, bad=bad)
    rows = paper.compare(scorecard.published()).set_index("what")
    row = rows.loc["AID: top-1, GeoRSCLIP ViT-B/32 (%)"]
    assert (
        row["this run"] == "—"
        and row.verdict == "not attempted"
        and "900 of 10,000 images" in row.reason
    )
    assert rows.loc["RESISC45: top-1, GeoRSCLIP ViT-B/32 (%)"].reason.startswith("not run: ")


@pytest.mark.parametrize("text", ["{", "[]", '{"values": 1}'])
def test_a_file_that_is_no_report_is_named(here, text):
    (here / "results/mini").mkdir(parents=True)
    (here / "results/mini/evaluate.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"results/mini/evaluate.json is not a report of `rs5m evaluate`"
    ):
        scorecard.published()


# ---------------------------------------------------------------- the official evaluation


def evaluated(monkeypatch, gone=()):
    """A stand-in for the official evaluation, as which every score is 50; the calls are told."""
    calls = []

    def run(name, weights, data, tasks, out):
        calls.append((name, weights, tasks))
        if name in gone:
            raise OSError(f"{name} could not be fetched from the hub")
        about = reporting.column(name, weights)
        sets = {
            task: [s for s in TASKS[task] if s in reporting.TITLES] for task in tasks.split(",")
        }
        keys = [
            key for t, some in sets.items() for s in some for key in reporting.names(t, s).values()
        ]
        told = {
            "paper": {"model": about.model, "tuned_on": about.tuned_on, "same_model": about.same},
            "metrics": dict.fromkeys(keys, 50.0),
            "intervals": dict.fromkeys(keys, [49.0, 51.0]),
            "not_comparable": {},
            "model": {"weights_sha256": "ab" * 32},
        }
        told["paper"] |= {"named_like_release": about.named}
        out.write_text(json.dumps(told))

    monkeypatch.setattr(official, "run", run)
    return calls


def test_colab_and_paper_fill_the_published_lines_by_themselves(here, monkeypatch, capsys):
    (here / "data" / "AID").mkdir(parents=True)
    (here / "data" / "AID" / "card.txt").write_text("1")
    monkeypatch.delenv("RS5M_DATA", raising=False)
    calls, table = evaluated(monkeypatch), paper.table("results")
    for name in ("mini", "local"):
        scorecard.measure(scales.get(name))
    assert not calls and not published.models(scales.get("mini"))
    scorecard.measure(scales.get("colab"))
    assert sorted(name for name, *_ in calls) == [
        "GeoRSCLIP-ViT-B-32",
        "GeoRSCLIP-ViT-B-32-RET-2",
        "GeoRSCLIP-ViT-B-32-RSICD",
        "ViT-B-32-quickgelu",
    ]
    assert ("ViT-B-32-quickgelu", "openai", "retrieval") in calls
    small = filled()
    scorecard.measure(scales.get("colab"))
    assert len(calls) == 4, "the same files are not scored again"
    (here / "data" / "AID" / "card.txt").write_text("other")
    scorecard.measure(scales.get("colab"))
    assert len(calls) == 8
    scorecard.measure(scales.get("paper"))
    rows = paper.compare(scorecard.published())
    held = rows[rows["this run"] != "—"].what.str.partition(", scale")[0]
    can = table[[(row.model, row.tuned_on) in published.RELEASED for row in table.itertuples()]]
    assert held.nunique() == len(can) > len(small) > 20


def test_a_model_that_cannot_be_had_is_named_and_the_others_go_on(here, monkeypatch, capsys):
    (here / "data").mkdir()
    monkeypatch.delenv("RS5M_DATA", raising=False)
    calls = evaluated(monkeypatch, gone=("GeoRSCLIP-ViT-B-32",))
    scorecard.measure(scales.get("colab"))
    said = "GeoRSCLIP-ViT-B-32 is not evaluated: GeoRSCLIP-ViT-B-32 could not be fetched"
    assert said in capsys.readouterr().out and len(calls) == 4
    assert len(list((here / "results" / "colab").glob("evaluate-*.json"))) == 3


# ---------------------------------------------------------------- figures


def test_the_bands_stand_beside_the_lines_of_their_claims(here):
    put(here, STORED)
    figure = scorecard.gains()
    bands = [
        band.get_paths()[0].get_extents()
        for band in figure.axes[0].collections
        if type(band).__name__ in ("PolyCollection", "FillBetweenPolyCollection")
    ]
    assert [(band.x0, band.x1, band.y0) for band in bands] == [
        (3, 20, -0.5),
        (3, 20, 0.5),
        (3, 6, 1.5),
        (4, 5, 2.5),
    ]
    labels = [label.get_text().split(":")[0] for label in figure.axes[0].get_yticklabels()]
    assert labels == ["ZSC", "ZSC", "RSCTIR", "SELO", "ROT", "ROT"]


def test_every_scale_of_the_book_is_looked_at(here):
    put(here, {("zeroshot", scale): STORED["zeroshot", "local"] for scale in scales.SCALES})
    assert [scale for scale, _, _ in scorecard.found()] == list(scales.SCALES)
    assert results.load("zeroshot", "paper")


# ---------------------------------------------------------------- contact and outcomes


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (3.5, 5.5, "direction only"),
        (-1.0, 15.0, "undecided"),
        (-0.1, 0.8, "too small"),
        (-9.9, -3.7, "opposite"),
    ],
)
def test_what_is_not_reproduced_is_opposite_undecided_or_too_small(low, high, said):
    row = {"claim": "SELO", "what": "x", "reason": "y", "ours": (low + high) / 2}
    assert scorecard.outcome(row | {"low": low, "high": high, "unit": "points"}) == said


def test_the_halves_have_a_line_each_and_harm_is_called_so(here):
    harm = {"gain": -6.7, "low": -9.9, "high": -3.7, "seeds": [-6.0, -7.0, -7.1]}
    found = {"worth": {"PUB11": harm, "RS3": GOOD | {"seeds": [40.0]}}}
    put(here, {("tune", "local"): found})
    rows = [row for row in scorecard.rows() if row["claim"] == "HALVES"]
    assert [scorecard.outcome(row) for row in rows] == ["opposite", "direction only"]
    assert all(row["contact"] == "not computed" and "EuroSAT" in row["what"] for row in rows)
    touched = {"PUB11": {"level": "none", "pairs": 9, "named": 0}, "RS3": {"level": "same set"}}
    put(here, {("tune", "local"): found | {"contact": touched}})
    rows = [row for row in scorecard.rows() if row["claim"] == "HALVES"]
    assert [row["contact"] for row in rows] == ["none", "same set"]


def a_gain(ours, low, high, touched, **more):
    row = {"claim": "ZSC", "what": "w", "ours": ours, "low": low, "high": high, "unit": "points"}
    return row | {"same_setting": False, "reason": "r", "contact": touched} | more


def test_the_first_sentence_and_figure_count_what_the_lines_say():
    some = [a_gain(40.0, 30.0, 50.0, "same set") for _ in range(2)]
    some += [a_gain(-5.0, -9.0, -1.0, f"{contact.NAMES} (3 of 9 pairs)")]
    lines = [*some, {"claim": "GAP", "what": "w", "reason": "not run"}]
    said = scorecard.finding(lines)
    assert said.startswith("Of 3 measured gains, 2 point the paper's way; none confirms a claim in")
    assert " and none was measured on a test " in said
    assert "1 was measured on" in scorecard.finding([*lines, a_gain(4.0, 3.5, 5.0, contact.NONE)])
    same = a_gain(5.0, 3.0, 8.0, contact.NONE, same_setting=True)
    assert "; 1 confirms a claim in the paper's own" in scorecard.finding([same])
    assert "; 2 confirm a claim in the paper's own" in scorecard.finding([same, same])
    axis = scorecard.overview([*lines, same]).axes[0]
    kinds = [label.get_text() for label in axis.get_yticklabels()]
    assert kinds == [contact.NONE, "same set", contact.NAMES]
    bars = {box.get_label(): [bar.get_width() for bar in box] for box in axis.containers}
    assert bars == {"reproduced": [1, 0, 0], "direction only": [0, 2, 0], "opposite": [0, 0, 1]}


def test_contact_and_levels_come_from_the_results(here):
    touched = {"level": "class names in captions", "pairs": 1668, "named": 602}
    model = {"balanced": 41.2, "low": 40.0, "high": 42.0}
    tests = {
        "pocket": {
            "models": {"general": model | {"balanced": 16.8}, "pub11+rs3": model},
            "gain": {"pub11+rs3": GOOD},
            "baselines": {
                "chance": model | {"balanced": 10.0},
                "six colour numbers, same captions": model | {"balanced": 49.6},
            },
            "contact": {"pub11+rs3": touched},
        }
    }
    put(here, {("zeroshot", "mini"): {"tests": tests}})
    rows = scorecard.rows()
    line = scorecard.table(rows).iloc[0]
    assert line["before → after"] == "16.8 → 41.2" and line["chance"] == "10.0"
    assert line["colour"] == "49.6" and "602 of 1,668 pairs" in line["contact with the test"]
    assert not any(map(scorecard.clean, rows))
    tests["pocket"]["contact"]["pub11+rs3"] = touched | {"level": "none", "named": 0}
    put(here, {("zeroshot", "mini"): {"tests": tests}})
    assert [row["claim"] for row in scorecard.rows() if scorecard.clean(row)] == ["ZSC"]


def test_lines_without_contact_are_counted_among_those_that_test_something():
    lines = [
        {"ours": 1.0, "contact": contact.NONE},
        {"ours": 1.0, "contact": contact.NAMES},
        {"ours": 0.0, "contact": contact.UNKNOWN},
        {"ours": 1000},  # a size
        {"contact": contact.NONE},
    ]
    assert scorecard.untouched(lines) == "1 of 3 measured gains is"
    assert scorecard.untouched(lines[1:]) == "none of 2 measured gains is"
    assert scorecard.untouched(lines[:1] * 2) == "2 of 2 measured gains are"


def test_every_measured_gain_has_a_contact(here):
    drawn = STORED["rs3", "mini"] | {"draws": 5}
    put(here, STORED | {("rs3", "mini"): drawn, ("tune", "mini"): {"worth": {"RS3": GOOD | {
        "seeds": [1.0]}}, "contact": {"RS3": {"level": "same set"}}}})  # fmt: skip
    gains = [row for row in scorecard.rows() if row.get("unit") == "points"]
    assert len(gains) == 8 and all(row["contact"] for row in gains)
    by = {row["what"].split(",")[0]: row["contact"] for row in gains if row["claim"] == "ROT"}
    assert by == {
        "captions free of a direction chosen": contact.MADE,
        "zero-shot accuracy after tuning on the choice": contact.SAME_SET,
    }


def test_classes_new_to_the_captions_are_a_line_without_contact(here):
    arms = dict.fromkeys(("general", "tuned", "colour"), GOOD)
    found = {"arms": arms, "over general": GOOD, "over colour": NONE, "chance": 5.0}
    new = found | {"classes": ["golf course", "chaparral"]}
    new["by class"] = {"golf course": {"general": 0.2, "tuned": 97.6}}
    named = {"level": "class names in captions", "pairs": 90, "named": 50}
    values = {"images": 90, "named": {"ucm": named, "eurosat": named}}
    values["tests"] = {"ucm": found | {"unheard": new}, "eurosat": found}
    put(here, {("rsicd", "local"): values})
    lines = [row for row in scorecard.rows() if row["claim"] == "ZSC"]
    assert [scorecard.clean(row) for row in lines] == [False, True, False]
    assert "images of golf course (0 -> 98 %), chaparral alone" in lines[1]["reason"]
    assert lines[1]["classes"] == "golf course (0 -> 98 %), chaparral"
    assert scorecard.table(lines)["chance"].tolist() == ["5.0"] * 3


def test_the_published_pairs_contact_is_the_least_that_their_captions_tell(here):
    gain = {"105 prompts": GOOD}
    models = {f"{of} ViT-B-32": {"105 prompts": {"top1": 80.0}} for of in ("CLIP", "GeoRSCLIP")}
    values = {"images": 9, "models": models, "gains": {"GeoRSCLIP ViT-B-32": gain}}
    put(here, {("weights", "local"): values})
    assert scorecard.rows()[0]["contact"] == contact.UNKNOWN
    for named, said in ((0, contact.UNKNOWN), (3, f"{contact.LEAST} (3 of 10 of RS3's)")):
        counted = {"whurs19": {"named": named, "pairs": 10}}
        put(here, {("published", "local"): {"captions": {"contact": counted}}})
        assert scorecard.rows()[0]["contact"] == said


def test_the_head_of_the_page_names_what_is_free_and_what_has_names_alone(here):
    row = {"claim": "ZSC", "ours": 4.0, "low": 3.5, "high": 5.5, "unit": "points"}
    row |= {"reason": "y", "line": "ZSC: UC Merced, new", "what": "UC Merced, new: x"}
    names, least = f"{contact.NAMES} (1 of 2 pairs)", f"{contact.LEAST} (1 of 2)"
    lines = [row | {"contact": contact.NONE}, row | {"contact": least}]
    assert scorecard.free(lines) == (
        " (ZSC: UC Merced, new, +4.0 [+3.5, +5.5] points, direction only)"
    )
    assert scorecard.free([lines[0] | {"classes": "x (0 -> 9 %)"}]).endswith("only: x (0 -> 9 %))")
    assert scorecard.free(lines[1:]) == ""
    lines += [row | {"what": f"{of}: x", "contact": names} for of in ("EuroSAT", "pocket world")]
    told = scorecard.names_alone(lines)
    assert told["names"] == "2 lines" and told["names_real"] == "EuroSAT (1)"
    assert told["paper"] == "the paper's own were not counted"
    counted = {"eurosat": {"named": 2162, "pairs": 10000}}
    put(here, {("published", "local"): {"captions": {"contact": counted}}})
    assert "of 10,000 captions" in scorecard.names_alone(lines)["paper"]
