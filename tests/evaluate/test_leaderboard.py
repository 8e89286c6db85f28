"""Reports side by side: every number is on the page, and what is bold is what could be the best."""

import json
import re

import numpy as np
import pytest

from rs5m import cli
from rs5m.clip import known
from rs5m.evaluate import contact, leaderboard, official, reporting
from rs5m.evaluate.leaderboard import Entry, Number


def line(model, **numbers):
    return Entry(model, "GELU", "ab", {k: Number(*v) for k, v in numbers.items()}, ("a note",))


def test_bold_is_each_that_could_be_the_best():
    lines = [
        line("a", top=(90, 88, 92), **{"↓ Ras [0 ~ 1]": (0.3, 0.2, 0.4)}),
        line("b", top=(89, 87, 91), **{"↓ Ras [0 ~ 1]": (0.6, 0.5, 0.7)}),
        line("c", top=(70, 60, 87.9)),
    ]
    assert leaderboard.leaders(lines, "top") == {"a", "b"}
    assert leaderboard.leaders(lines, "↓ Ras [0 ~ 1]") == {"a"}
    text = leaderboard.markdown(lines)
    assert (
        "| a | GELU | **90.0** (88.0 to 92.0) | **0.3000** (0.2000 to 0.4000) | unknown |" in text
    )
    assert "| c | GELU | 70.0 (60.0 to 87.9) |  | unknown |" in text
    assert text.count("a note") == 1, "what is true of all is said once"


def test_the_page_asks_nobody_and_escapes_names():
    page = leaderboard.page([line("<script>x", top=(1, 0, 2)), line("b", top=(3, 2, 4))])
    assert "&lt;script&gt;x" in page and page.count("<script>") == 1
    assert not re.search(r"(src|href)=|https?://", page)
    assert "default-src 'none'" in page and page.count("<tr>") == 3
    assert re.findall(r'data-value="(\d+)"', page) == ["1", "3"]


def report(name: str, top1: float) -> dict:
    apart = {"why": ["not one of the paper's test sets"], "values": {"top1": top1 - 20}}
    return {
        "model": {"name": name, "quick_gelu": True, "weights_sha256": "c" * 64},
        "metrics": {"EuroSAT-zeroshot-acc": top1},
        "intervals": {"EuroSAT-zeroshot-acc": [top1 - 1, top1 + 1]},
        "not_comparable": {"zeroshot own": apart | {"intervals": {"top1": [top1 - 22, top1 - 18]}}},
        "protocol": {
            "zeroshot": {"prompts": 105, "averaging": "mean"},
            "preprocessing": {"resize": "short side", "image_size": 32},
        },
    }


def test_what_is_printed_of_the_same_weights_stands_beside():
    told = report("m", 60.0)
    told["paper"] = {"values": {"EuroSAT-zeroshot-acc": 61.4}, "same_model": False}
    reference = leaderboard.markdown(leaderboard.entries(told))
    told["paper"]["named_like_release"] = True
    assert "| **60.0** (59.0 to 61.0; printed 61.4) |" in leaderboard.markdown(
        leaderboard.entries(told)
    )
    assert "59.0 to 61.0; printed 61.4</small>" in leaderboard.page(leaderboard.entries(told))
    assert "printed" not in reference, "of another model"


def test_chance_stands_over_its_column_where_all_reports_agree():
    told = report("m", 60.0)
    told["chance"] = {"EuroSAT-zeroshot-acc": 10.0}
    told["not_comparable"]["zeroshot own"]["chance"] = {"top1": 100 / 21}
    lines = leaderboard.entries(told)
    head = leaderboard.markdown(lines).splitlines()[0]
    assert "| EuroSAT-zeroshot-acc (chance 10.0) | zeroshot own, top1 (chance 4.8) |" in head
    assert "EuroSAT-zeroshot-acc</button><small>chance 10.0</small>" in leaderboard.page(lines)
    other = report("n", 50.0)
    other["chance"] = {"EuroSAT-zeroshot-acc": 5.0}  # of another number of classes
    assert leaderboard.chance(lines + leaderboard.entries(other), "EuroSAT-zeroshot-acc") == ""


def test_one_reason_and_one_spread_are_said_once():
    told = report("m", 60.0)
    sets = {f"zeroshot {name}": {"why": ["not known"], "values": {}} for name in ("a", "b")}
    told["not_comparable"] = sets
    both = {"values": {"top1": 50.0}, "intervals": {"top1": (40, 60)}}
    other = {"values": {"top1": 45.5}, "intervals": {"top1": (40, 60)}}
    told["protocols"] = {name: {"rs5m": both, "clip": other} for name in sets}
    text = leaderboard.markdown(leaderboard.entries(told))
    assert "- zeroshot a, zeroshot b: not comparable with published numbers, not known\n" in text
    apart = "4.5 points of top1 on zeroshot a, 4.5 points of top1 on zeroshot b"
    assert f"- the protocol alone makes {apart}\n" in text


def test_how_training_met_each_set_stands_in_the_table_and_on_the_page():
    told = report("RemoteCLIP-ViT-B-32", 60.0)
    sets = ["eurosat", "rsicd", "ucm_captions", "WHU-RS19", "mine"]
    told["contact"] = contact.of_run("RemoteCLIP-ViT-B-32", None, sets)
    words = "training split: rsicd, ucm_captions; copies: WHU-RS19; none known: eurosat; "
    words += "unknown: mine"
    lines = leaderboard.entries(told) + leaderboard.entries(report("another", 50.0))
    text, page = leaderboard.markdown(lines), leaderboard.page(lines)
    assert f"| {words} |" in text and "| 30.0 (28.0 to 32.0) | unknown |" in text
    assert f'<td class="words">{words}</td>' in page and '<td class="words">unknown</td>' in page


def test_contact_is_that_of_the_release_and_of_no_other_file():
    assert contact.release("ViT-B-32-quickgelu", "x/RS5M_ViT-B-32_RET-2.pt") == (
        "GeoRSCLIP-ViT-B-32-RET-2"
    )
    assert contact.release("ViT-B-32-quickgelu", "openai") == ""
    assert contact.release("ViT-B-32-quickgelu", "model.safetensors") == "", "a name of many"
    tuned = contact.of_sets("GeoRSCLIP-ViT-B-32-RET-2", ["rsitmd", "aid", "millionaid"])
    assert tuned == {"rsitmd": "training split", "aid": "none known", "millionaid": "very images"}
    assert contact.of_sets("DGTRS-CLIP-ViT-L-14", ["aid"]) == {"aid": "unknown"}
    assert contact.of_sets("ScoreRS-CLIP-ViT-L-14", ["aid"]) == {"aid": "unknown"}
    assert contact.of_sets("RS-M-CLIP", ["resisc45"]) == {"resisc45": "very images (not checked)"}


def test_contact_names_known_models_and_sets_alone():
    told = contact._told()
    assert told["models"].keys() <= known.models().keys()
    used = {one for row in told["models"].values() for one in row["on"]}
    assert used == told["sets"].keys()
    how = {how for held in told["sets"].values() for how in held.values() if how}
    assert how <= set(contact.CLOSEST)
    assert known.models().keys() - told["models"].keys() == {"ScoreRS-CLIP-ViT-L-14"}, "unknown"


def test_a_model_by_name_shows_what_is_printed_of_it(capsys):
    assert cli.main(["models", "GeoRSCLIP-ViT-B-32"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"EuroSAT +top-1 +61\.40 % +rs5m: 105 prompts", said)
    assert re.search(r"trained on +RS5M\n", said)
    assert re.search(r"activation +quickgelu", said) and re.search(r"Rsu +0\.755636 ratio", said)
    assert cli.main(["models", "FarSLIP2-ViT-B-16", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [one["value"] for one in row["printed"]] == [62.24] and row["activation"] == "quickgelu"
    assert cli.main(["models", "RS-M-CLIP"]) == 0
    assert "no number that its authors printed was checked" in capsys.readouterr().out
    assert cli.main(["models", "FarSLIP"]) == 2
    assert "did you mean FarSLIP1-ViT-B-32 or FarSLIP2-ViT-B-16? " in capsys.readouterr().err


def test_what_others_print_is_of_known_models_and_names_protocol_and_source():
    rows = reporting.printed_by_others()
    assert (
        not rows.isna().any().any() and not rows.duplicated(["release", "dataset", "metric"]).any()
    )
    plain = {name for name in rows["release"] if name.startswith("CLIP-")}
    assert set(rows["release"]) - plain <= known.models().keys()
    both = reporting.printed("GeoRSCLIP-ViT-B-32")
    assert {"EuroSAT", "WHU-RS19"} <= set(both["dataset"]) and both["protocol"].notna().all()


def test_several_models_give_a_json_each_and_one_board(tmp_path, monkeypatch):
    asked = []

    def run(name, weights, data, tasks, out, *_):
        asked.append((name, weights, out))
        return report(name, 60 + 10 * len(asked))

    monkeypatch.setattr(official, "run", run)
    out = tmp_path / "board"
    given = ["--model", "RN50@openai", "local-dir:my@folder", "--data", "d", "--out", str(out)]
    assert cli.main(["evaluate", *given]) == 0
    assert asked == [
        ("RN50", "openai", str(out / "RN50_openai.json")),
        ("local-dir:my@folder", "", str(out / "local-dir_my_folder.json")),
    ]
    text = (out / "leaderboard.md").read_text()
    assert "| RN50 | QuickGELU | 70.0 (69.0 to 71.0) | 50.0 (48.0 to 52.0) |" in text
    assert "zeroshot own, top1" in text and "not comparable with published numbers" in text
    assert "cccccccccccc" in (out / "leaderboard.html").read_text()


def test_files_of_vectors_give_a_board_too(tmp_path):
    generator = np.random.default_rng(0)
    text, label = generator.normal(size=(3, 8)), np.arange(60) % 3
    for i, noise in enumerate((0.5, 3)):
        image = text[label] + noise * generator.normal(size=(60, 8))
        np.savez(tmp_path / f"m{i}.npz", image=image, label=label, single=text)
    files = [str(tmp_path / f"m{i}.npz") for i in range(2)]
    given = ["--features", *files, "--tasks", "zeroshot,knn", "--out", str(tmp_path / "r.json")]
    board = tmp_path / "new" / "board.html"
    assert cli.main(["evaluate", *given, "--leaderboard", str(board)]) == 0
    rows = json.loads((tmp_path / "r.json").read_text())
    page = board.read_text()
    for told in rows.values():
        for row in told["protocols"].values():
            assert f'data-value="{row["top1"]}"' in page
    assert "| m0 | not in the file | **98.3**" in board.with_suffix(".md").read_text()


@pytest.mark.parametrize("other", [{}, {"a": {"b": 1}}])
def test_another_json_is_refused(other):
    with pytest.raises(ValueError, match="not a report of rs5m evaluate"):
        leaderboard.entries(other)
