"""Chapter pub11: own keywords from the command to the folder, and the report by term."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_pub11 import LIMITS, Cheap

from rs5m import cli, keywords, pub11
from rs5m.pub11 import words

TEXTS = ["aerial view", "satellite dish", "Luftbild", "cat", "aerial yoga, aerial photo", None]
LABELS = [1, 0, 1, None, 1, 0]


def table(path, labels=LABELS):
    # a scheme that nothing fetches: every hit is dropped without a request
    urls = [f"file:///{i}.jpg" for i in range(len(TEXTS))]
    columns = {"url": urls, "text": TEXTS, "right": labels}
    pq.write_table(pa.table(columns), path)
    return path


def go(tmp_path, out="out", labels="", **options):
    pairs = table(tmp_path / "pairs.parquet")
    terms = keywords.choose(**options)
    return pub11.run(pairs, tmp_path / out, Cheap(), LIMITS, terms=terms, labels=labels)


def test_the_list_decides_and_the_report_says_what_each_term_found(tmp_path):
    out = go(tmp_path, labels="right")
    dropped = pd.read_parquet(out / "dropped.parquet")
    assert dropped.row.tolist() == [0, 1, 4]
    report = pub11.keyword_table(out).set_index(["kind", "term"])
    assert report.pairs["term", "aerial"] == 2 and report.precision["term", "aerial"] == 100
    assert report.precision["term", "satellite"] == 0 and report.judged["term", "satellite"] == 1
    assert report.pairs["trap", "satellite dish"] == 1 == report.pairs["trap", "aerial yoga"]
    said = words.summary(out)
    assert "aerial (2, 100 % of 2 right)" in said and "satellite dish (1, 0 % of 1 right)" in said


def test_more_keywords_and_traps_that_go(tmp_path):
    out = go(tmp_path, more=True, drop_traps=True)
    assert pd.read_parquet(out / "dropped.parquet").row.tolist() == [0, 2, 4]
    rest = pd.read_parquet(out / "unmatched").set_index("row").reason
    assert rest.to_dict() == {1: "trap", 3: "no_keyword", 5: "no_text"}
    assert pub11.keyword_table(out).judged.sum() == 0


def test_a_folder_of_other_keywords_is_refused(tmp_path):
    go(tmp_path)
    assert json.loads((tmp_path / "out/run.json").read_text())["keywords"]
    go(tmp_path)
    for options in ({"more": True}, {"drop_traps": True}):
        with pytest.raises(ValueError, match="keywords"):
            go(tmp_path, **options)


def test_labels_are_found_by_position_in_several_tables(tmp_path):
    paths = [table(tmp_path / f"{name}.parquet") for name in "ab"]
    table(tmp_path / "b.parquet", ["no", "YES", "", "true", "0", None])
    (tmp_path / "c.csv").write_text("url,text,right\nfile:///9.jpg,aerial,1\n")
    out = pub11.run([*paths, tmp_path / "c.csv"], tmp_path / "out", Cheap(), LIMITS, labels="right")
    report = pub11.keyword_table(out).set_index("term")
    assert (report.pairs["aerial"], report.judged["aerial"]) == (5, 5)
    assert report.precision["aerial"] == 60 and report.precision["satellite"] == 50


@pytest.mark.parametrize(
    ("labels", "column", "says"),
    [
        (LABELS, "wrong", "no column 'wrong': --label-column is one of url, text, right"),
        (["V", "N", "V", "V", "N", "O"], "right", "'v' in its column 'right': a label is 1 or"),
        ([2] * 6, "right", "'2' in its column 'right'"),
    ],
)
def test_bad_labels_are_refused_before_any_work(tmp_path, labels, column, says):
    pairs = table(tmp_path / "pairs.parquet", labels)
    with pytest.raises(ValueError, match=says):
        pub11.run(pairs, tmp_path / "out", Cheap(), LIMITS, labels=column)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lines", ["", "/(/", "/.*/"])
def test_the_command_explains_a_bad_list_before_any_work(tmp_path, capsys, lines):
    (tmp_path / "own.txt").write_text(lines)
    pairs, out = table(tmp_path / "pairs.parquet"), tmp_path / "out"
    given = ["pub11", "--pairs", pairs, "--out", out, "--keywords", tmp_path / "own.txt"]
    assert cli.main(list(map(str, given))) != 0
    assert "own.txt" in capsys.readouterr().err and not out.exists()
