"""Chapter pub11, inputs from the wild: whatever is listed is kept, or left out with a reason."""

import gzip
import html
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_pub11 import LIMITS, Cheap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs5m import keywords, pub11
from rs5m.commands.options import print_left_out
from rs5m.data import images, runfolder
from rs5m.data.sample import is_caption
from rs5m.pub11 import input
from rs5m.web.urls import unescape

FEW = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KINDS = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
)
WORDS = st.sampled_from(
    [
        "aerial view",
        "a dog",
        "bird&#39;s eye view",
        "satellite &amp; more",
        "",
        " NaN\u00a0",
        "\u536b\u661f",
        "Aerial",
    ]
)


def write(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def select(paths, folder):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    for path in out.rglob("*.parquet"):
        path.unlink()
    hits, listed = input.select(paths, out)
    rest = [pd.read_parquet(path) for path in sorted((out / "unmatched").iterdir())]
    return hits, pd.concat(rest), listed


@FEW
@given(
    texts=st.lists(st.lists(st.none() | WORDS, max_size=8), min_size=1, max_size=3),
    kind=st.sampled_from(KINDS),
    names=st.sampled_from([("url", "text"), ("URL", "TEXT"), ("Url", "Text")]),
    source=st.sampled_from([None, pa.string(), pa.int32(), pa.float64(), pa.null()]),
)
def test_every_row_is_kept_or_has_a_reason(tmp_path, texts, kind, names, source):
    paths = []
    for i, rows in enumerate(texts):
        columns = {names[0]: pa.array(["http://a.example/x"] * len(rows), pa.string())}
        columns[names[1]] = pa.array(rows, pa.string()).cast(kind)
        if source is not None:
            columns["source"] = pa.array([None] * len(rows), source)
        paths.append(write(tmp_path / f"{i}.parquet", **columns))
    hits, rest, listed = select(input.inputs(paths), tmp_path)
    flat = [text for rows in texts for text in rows]
    decoded = [text if text is None else unescape(text) for text in flat]
    assert sorted([*hits.row, *rest.row]) == list(range(len(flat)))
    assert hits.row.tolist() == [i for i, hit in enumerate(keywords.matches(decoded)) if hit]
    assert hits.text.tolist() == [decoded[row] for row in hits.row], "entities are decoded, once"
    bare = [decoded[row] is None or not is_caption(decoded[row]) for row in rest.row]
    assert bare == (rest.reason == "no_text").tolist()
    assert sum(pairs for pairs, _ in listed.values()) == len(flat)
    assert set(listed) == {str(i) for i, rows in enumerate(texts) if rows}


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "part=1/", "a[1]/b{2}/", ".hidden/"]),
            st.sampled_from(["a", "._a", ".tmp_b", "b[0]", "c*"]),
            st.sampled_from([".parquet", ".PARQUET", ".pq", ".csv", ".jsonl", ".txt", ".crc", ""]),
        ),
        unique=True,
        max_size=8,
    )
)
def test_every_file_of_a_folder_is_kept_or_has_a_reason(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("crawl")
    for parts in names:
        write(folder / "".join(parts), url=["x"], text=["aerial"])
    kept, left_out = input.listed(folder)
    inside = [path.relative_to(folder).as_posix() for path in kept]
    others = [name for group in left_out.values() for name in group]
    assert sorted([*inside, *others]) == sorted("".join(parts) for parts in names)
    assert set(inside) == {
        "".join(parts)
        for parts in names
        if parts[2] in (".parquet", ".PARQUET", ".pq", ".csv", ".jsonl")
        and not (parts[0].startswith(".") or parts[1].startswith("."))
    }


def test_brackets_and_braces_are_no_pattern(tmp_path):
    folder = tmp_path / "in[1]{a,b}*?"
    one = write(folder / "a[1].parquet", url=["http://127.0.0.1:9/x"], text=["aerial"])
    assert input.inputs(one) == input.inputs(str(one)) == input.inputs([one]) == [one]
    out = pub11.run(folder, tmp_path / "out[1]{x}*", Cheap(), LIMITS)
    assert pd.read_parquet(out / "dropped.parquet").reason.tolist() == ["connection_error"]
    two = write(folder / "more/b.parquet", url=["http://127.0.0.1:9/y"], text=["aerial"])
    for pattern in (f"{tmp_path}/in*/**/*.parquet", f"{folder}/**", f"{folder}/{{a[[]1],mo*/b}}.*"):
        for asked in (pattern, [pattern]):
            assert input.inputs(asked) == [one, two], "but a pattern is one"
    assert input.inputs([folder / "more", f"{folder}/a*"]) == [one, two]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("url,text\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (gzip.compress(b"url,text\n" * 9), "is compressed by gzip"),
        (b"[1]", "is json, not jsonl"),
        (b'{\n"images": []\n}', "has no column 'url' or of a like name .it has images"),
        (b"<!doctype html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS"),
        (b"", "is empty"),
        (b"\0\1\2\3" * 9, "is not a whole parquet file: fetch it again"),
        (b"PAR1" + bytes(30), "is not a whole parquet file: fetch it again"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, data, said):
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"a.parquet {said}"):
        input.inputs(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["url", "text", "text"], r"2 columns called 'text' \(text, text\)"),
        (["url", "URL", "text"], r"2 columns called 'url' \(url, URL\)"),
        (["url", "text", "Source", "source"], r"2 columns called 'source'"),
    ],
)
def test_two_columns_of_one_name_are_a_question(tmp_path, columns, said):
    pq.write_table(pa.table([["x"]] * len(columns), columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"a.parquet has {said}.*rename or remove"):
        input.inputs(tmp_path / "a.parquet")


def test_a_source_of_lists_is_refused_before_any_work(tmp_path):
    path = write(tmp_path / "a.parquet", url=["x"], text=["aerial"], source=[["laion"]])
    with pytest.raises(ValueError, match="a.parquet has list<.*> in its column 'source'.*numbers"):
        input.inputs(path)


def test_numbers_and_dates_are_sources(tmp_path):
    stamp = pd.Timestamp("2024-01-02")
    for name, values in (("a", [1, 2]), ("b", [True, False]), ("c", [stamp, stamp])):
        write(tmp_path / f"{name}.parquet", url=["x"] * 2, text=["aerial"] * 2, source=values)
    _, _, listed = select(input.inputs(tmp_path), tmp_path)
    assert sorted(listed)[:2] == ["1", "2"] and {"true", "false"} < set(listed)
    assert any(name.startswith("2024-01-02") for name in listed)


def test_a_file_that_is_named_twice(tmp_path):
    path = write(tmp_path / "a.parquet", url=["x"], text=["aerial"])
    (tmp_path / "b.parquet").symlink_to(path)
    with pytest.raises(ValueError, match="a.parquet is named twice"):
        input.inputs([path, f"{tmp_path}/../{tmp_path.name}/a.parquet"])
    with pytest.raises(ValueError, match="a.parquet is named twice"):
        input.inputs(tmp_path)


def test_linked_folders_are_read_and_what_is_not_read_is_named(tmp_path):
    write(tmp_path / "far/a.parquet", url=["http://127.0.0.1:9/x"], text=["aerial"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "far")
    (tmp_path / "in/link/self").symlink_to(tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("x")
    (tmp_path / "in/._a.parquet").write_text("x")
    out = pub11.run(tmp_path / "in", tmp_path / "out", Cheap(), LIMITS)
    assert runfolder.left_out(out)["hidden"] == ["._a.parquet"]
    assert runfolder.left_out(out)["not a table's ending: .txt"] == ["notes.txt"]
    assert pub11.attrition(out).pairs_listed.tolist() == [1, 1]
    with pytest.raises(FileNotFoundError, match=r"no table .*\(1 other files\)"):
        input.inputs(write_nothing(tmp_path / "none"))


def write_nothing(folder: Path) -> Path:
    folder.mkdir()
    (folder / "readme.txt").write_text("x")
    return folder


def test_a_run_knows_its_folder_again_from_elsewhere(tmp_path, monkeypatch):
    write(tmp_path / "here/pairs/a.parquet", url=["http://127.0.0.1:9/x"], text=["aerial"])
    monkeypatch.chdir(tmp_path / "here")
    pub11.run("pairs", "out", Cheap(), LIMITS)
    note = Path("out/run.json").read_text()
    assert str(tmp_path) not in note
    os.rename(tmp_path / "here", tmp_path / "there")
    out = pub11.run(tmp_path / "there/pairs", tmp_path / "there/out", Cheap(), LIMITS)
    assert (out / "run.json").read_text() == note


# ---------------------------------------------------------------- csv, tsv and jsonl

ROWS = [
    ("http://127.0.0.1:9/1", 'aerial, "old"\nview'),
    ("http://127.0.0.1:9/2", "a dog"),
    ("http://127.0.0.1:9/3", None),
    ("http://127.0.0.1:9/4", "satellite &amp; more"),
]


def table_of_rows(path: Path, names: tuple[str, str]) -> Path:
    table = pd.DataFrame(ROWS, columns=list(names))
    if path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_every_kind_of_table_gives_the_same(tmp_path, capsys, ending):
    path = table_of_rows(tmp_path / f"a.{ending}", ("Image URL", "CAPTION"))
    hits, rest, listed = select(input.inputs(path), tmp_path)
    assert hits.row.tolist() == [0, 3] and hits.url.tolist() == [ROWS[0][0], ROWS[3][0]]
    assert hits.text.tolist() == [ROWS[0][1], "satellite & more"]
    assert rest.to_numpy().tolist() == [[1, "no_keyword"], [2, "no_text"]]
    assert listed == {"a": (4, 1)}
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "Image URL is taken as the URL and CAPTION as the text" in said


def test_rows_that_do_not_parse_are_counted_and_named(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("url,text\nhttp://127.0.0.1:9/x,aerial\nhttp://a,b,c\nx\n")
    (folder / "b.jsonl").write_text(
        '{"url": "http://127.0.0.1:9/y", "text": "aerial"}\n{"url": "x", "text": ["aerial"]}\n{"ur'
    )
    out = pub11.run(folder, tmp_path / "out", Cheap(), LIMITS)
    total = pub11.attrition(out).iloc[-1]
    assert (total.pairs_listed, total.after_keyword_filter, total.no_text) == (6, 2, 0)
    assert runfolder.left_out(out) == {
        "rows: wrong_fields": ["a.csv row 1", "a.csv row 2"],
        "rows: not_text": ["b.jsonl row 1"],
        "rows: not_json": ["b.jsonl row 2"],
    }
    rest = pd.concat(pd.read_parquet(path) for path in sorted((out / "unmatched").iterdir()))
    assert rest.row.tolist() == [1, 2, 4, 5]
    assert pd.read_parquet(out / "dropped.parquet").row.tolist() == [0, 3]
    capsys.readouterr()
    print_left_out(out)
    assert "left out, rows: wrong_fields: 2 (a.csv row 1, a.csv row 2)" in capsys.readouterr().out


def test_columns_are_chosen_and_make_another_run(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("url,image_url,text,caption\nx,http://127.0.0.1:9/x,y,aerial\n")
    with pytest.raises(ValueError, match=r"\(url, image_url\): choose one with --url-column"):
        input.inputs(path)
    with pytest.raises(ValueError, match=r"\(text, caption\): choose one with --caption-column"):
        input.inputs(path, "image_url")
    with pytest.raises(ValueError, match="no column 'link': --url-column is one of url, image_url"):
        input.inputs(path, "link", "caption")
    with pytest.raises(ValueError, match="'url' for URL and caption"):
        input.inputs(path, "url", "url")
    chosen = {"url_column": "image_url", "caption_column": "caption"}
    out = pub11.run(path, tmp_path / "out", Cheap(), LIMITS, **chosen)
    dropped = pd.read_parquet(out / "dropped.parquet")
    assert dropped[["url", "text"]].to_numpy().tolist() == [["http://127.0.0.1:9/x", "aerial"]]
    with pytest.raises(ValueError, match=r"another run \(columns differ"):
        pub11.run(path, out, Cheap(), LIMITS, **chosen | {"caption_column": "text"})


def test_the_rule_for_images_is_stated(tmp_path):
    path = write(tmp_path / "a.parquet", url=["http://127.0.0.1:9/x"], text=["aerial"])
    out = pub11.run(path, tmp_path / "out", Cheap(), LIMITS)
    assert json.loads((out / "run.json").read_text())["notes"]["images"] == images.RULE
    assert images.RULE in html.unescape((out / "report.html").read_text())


REAL = Path(__file__).parents[3] / "shared/data/web/cc3m_val.tsv"


@pytest.mark.skipif(not REAL.is_file(), reason="the real table is not beside this checkout")
def test_conceptual_captions_without_a_header(tmp_path):
    lines = [line.split("\t") for line in REAL.read_text(encoding="utf-8").splitlines()]
    hits, rest, listed = select(input.inputs(REAL), tmp_path)
    assert listed == {"cc3m_val": (len(lines), 0)} and len(hits) + len(rest) == len(lines) == 15833
    for row, url, text in zip(hits.row, hits.url, hits.text, strict=True):
        assert [unescape(lines[row][0]), lines[row][1]] == [text, url]
