"""Tables of parquet, csv, tsv and jsonl: every row comes out in order, or with a reason."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs5m.data import tables

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LETTERS = st.text(st.sampled_from('ab ,"\t\nŽ\u536b;'), max_size=6)
URLS = ("url", "imageurl", "image")


def rows(path, *names):
    """The rows of a table as tuples of values and fault."""
    found = []
    for batch in tables.batches(tables.look(path), names):
        found += zip(*(batch[name].to_pylist() for name in [*names, tables.FAULT]), strict=True)
    return found


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("rs5m.data.tables.lines.BLOCK", 200)


@FEW
@given(
    given=st.lists(st.tuples(LETTERS, LETTERS, st.sampled_from([0, 0, 0, 1, -1])), max_size=30),
    mark=st.sampled_from([",", "\t"]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_row_of_a_csv_is_read_or_has_a_reason(
    tmp_path, small_blocks, given, mark, start, end
):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=mark, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["one", "two"])
    expected = []
    for one, two, extra in given:
        writer.writerow([one, two, "x"][: 2 + extra])
        expected.append((None, None, "wrong_fields") if extra else (one, two, None))
    path = tmp_path / "a.csv"
    path.write_bytes(start + stream.getvalue().encode())
    assert rows(path, "one", "two") == expected
    assert rows(path, "two") == [(two, fault) for _, two, fault in expected]


@FEW
@given(
    st.lists(
        st.one_of(
            st.dictionaries(
                st.sampled_from(["one", "two"]),
                st.none() | st.text(max_size=4) | st.integers() | st.lists(st.text(max_size=2)),
            ),
            st.sampled_from(["{", "[1]", "null", "[" * 2000, '{"one": "x" "one"}']),
        ),
        max_size=20,
    )
)
def test_every_line_of_a_jsonl_is_read_or_has_a_reason(tmp_path, given):
    path = tmp_path / "a.jsonl"
    lines = [one if isinstance(one, str) else json.dumps(one) for one in given]
    head = json.dumps({"one": "x", "two": "y"})
    path.write_text("\n\n".join([head, *lines]))
    assert tables.look(path).names == ["one", "two"]
    expected = [("x", "y", None)]
    for one in given:
        values = (None, None) if isinstance(one, str) else (one.get("one"), one.get("two"))
        strange = any(not isinstance(value, str | None) for value in values)
        fault = "not_json" if isinstance(one, str) else "not_text" if strange else None
        expected.append((None, None, fault) if fault else (*map(legible, values), None))
    assert rows(path, "one", "two") == expected


def legible(text):
    return text and text.encode("utf-8", "replace").decode()


def test_an_empty_field_is_missing_and_an_empty_text_is_a_text(tmp_path):
    (tmp_path / "a.csv").write_text('url,text\nhttp://a,\nhttp://b,""\nhttp://c,NA\n')
    assert [text for text, _ in rows(tmp_path / "a.csv", "text")] == [None, "", "NA"]


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("a view\thttp://x/1.jpg\n", ["text", "url"], [("a view", "http://x/1.jpg", None)]),
        ("https://x/1\ta view\n", ["url", "text"], [("a view", "https://x/1", None)]),
        ('" a " b\thttp://x\n"c\thttp://y', ["text", "url"], None),
        ("[ a ] view\thttp://x\n", ["text", "url"], None),
        ("http://x/1,a view\n", ["url", "text"], None),
    ],
)
def test_a_table_without_a_header(tmp_path, text, names, found):
    path = tmp_path / "a.tsv"
    path.write_text(text)
    table = tables.look(path)
    assert (table.names, table.header) == (names, False)
    mark = "," if "\t" not in text else "\t"
    expected = [dict(zip(names, line.split(mark), strict=True)) for line in text.splitlines()]
    read = rows(path, "text", "url")
    assert read == [(row["text"], row["url"], None) for row in expected]
    assert found in (None, read)


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("# made by me\n# on a day, really\n\n#\nurl,text\na,b\n\nc,d\n", ["url", "text"], 2),
        ("\ufeff\r\n# made by me\r\nurl\ttext\r\na\tb\r\n", ["url", "text"], 1),
        ('sep=;\n# made\nurl;text\na;"b\nc"\n', ["url", "text"], 1),
        ("# of 2018\na view\thttp://x/1\na farm\thttp://x/2\n", ["text", "url"], 2),
        ("#url,text\na,b\n", ["#url", "text"], 1),
        ("url,text\n# a row, it is\na,b\n# end\n", ["url", "text"], 3),
    ],
)
def test_comments_stand_above_a_header_alone(tmp_path, text, names, rows):
    path = tmp_path / "a.csv"
    path.write_text(text, newline="")
    table = tables.look(path)
    found = list(tables.rows(table, names))
    assert (table.names, len(found)) == (names, rows)
    assert [
        row[tables.FAULT] for row in found if None in row.values() and row[names[0]] is None
    ] == (["wrong_fields"] if "# end" in text else [])


def test_a_quotation_mark_left_open_swallows_nothing_in_silence(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('url,text\nhttp://a,"open\nhttp://b,c\nhttp://d,"e"\nhttp://f,g\n')
    found = rows(path, "url", "text")
    assert found[-1] == ("http://f", "g", None)
    assert [fault for *_, fault in found[:-1]] == ["open_quote"]
    path.write_text('url,text\nhttp://z,x\nhttp://a,"open\nb,c\n')
    with pytest.raises(ValueError, match="a.csv has a quotation mark in row 1 that nothing closes"):
        rows(path, "url")


def test_a_row_longer_than_a_block_is_one_sentence(tmp_path, small_blocks):
    path = tmp_path / "a.csv"
    path.write_text('url,text\nhttp://a,"' + "x\n" * 500 + '"\n')
    with pytest.raises(ValueError, match="a.csv has a row of more than .* MB"):
        rows(path, "url")
    (tmp_path / "a.jsonl").write_text('{"url": "x"}\n{"url": "' + "x" * 500 + '"}\n')
    with pytest.raises(ValueError, match="a.jsonl has a line of more than"):
        rows(tmp_path / "a.jsonl", "url")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"url,text\nhttp://a,caf\xe9\n", "is not UTF-8"),
        ("a.csv", "url,text\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("a.csv", "url,text\n".encode("utf-16-be"), "is UTF-16: save it as UTF-8"),
        ("a.jsonl", b'{"url": "x", "text": "caf\xe9"}\n', "is not UTF-8"),
        ("a.json", b"[1, [2], {}]", "is json, not jsonl"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("a.csv", b"<html>", "is a web page"),
        ("a.csv", b"", "is empty"),
        ("a.csv", bytes(range(40)), "is neither text nor parquet"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} {said}"):
        rows(tmp_path / name, "url")


TWO = [{"url": "a", "text": "x; {y"}, {"url": "b", "text": "z"}]
EACH = [json.dumps(one) for one in TWO]
LONG = [json.dumps(one, indent=1) for one in TWO]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "url|text\na|x; {y\nwrong\nb|z\n"),
        ("a.csv", 'sep=;\nurl;text\na;"x; {y"\nwrong\nb;z\n'),
        ("a.csv", '\ufeff\r\n"sep=,"\r\nurl,text\r\na,x; {y\r\nwrong\r\nb,z'),
        ("a.jsonl", f"{EACH[0]}, wrong\n{EACH[1]}"),
        ("a.jsonl", f'{EACH[0]}{{"url": "c",\n{EACH[1]}'),
        ("a.json", f"{EACH[0]} 1 {EACH[1]}"),
        ("a.json", f"{LONG[0]}\nwrong\n{LONG[1]}"),
        ("a.json", f"[{EACH[0]}, null,\n{EACH[1]}]"),
        ("a.json", json.dumps([TWO[0], 1, TWO[1]], indent=2)),
    ],
)
def test_a_table_as_other_programs_write_it(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    first, (*nothing, fault), second = rows(tmp_path / name, "url", "text")
    assert [first, second] == [(*one.values(), None) for one in TWO]
    assert not any(nothing)
    assert fault == ("wrong_fields" if name == "a.csv" else "not_json")


@pytest.mark.parametrize("cut", [0.3, 0.9, 1.0])
def test_half_a_parquet_is_named(tmp_path, cut):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": [str(i) for i in range(5000)]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut) - 1])
    with pytest.raises(ValueError, match="a.parquet is not a whole parquet file"):
        rows(path, "url")


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (["URL", "text"], "", "URL"),
        (["Image URL", "x"], "", "Image URL"),
        (["image-url", "x"], "", "image-url"),
        (["url", "image_url"], "image_url", "image_url"),
        (["x", "y"], "", r"no column 'url' or of a like name \(it has x, y\)"),
        (["http://a/1.jpg"], "", "begins with an address: a table's first line names its columns"),
        (["url", "image"], "", r"2 columns called 'url' \(url, image\): choose one with --url"),
        (["url", "URL"], "", r"2 columns called 'url' \(url, URL\): choose one with --url"),
        (["url", "url"], "url", r"2 columns called 'url' \(url, url\): rename or remove"),
        (["x", "y"], "z", "no column 'z': --url is one of x, y"),
    ],
)
def test_a_column_is_found_or_asked_for(tmp_path, names, given, found):
    table = tables.Table(tmp_path, "csv", pa.schema([(name, pa.string()) for name in names]))
    if found in names:
        assert tables.column(table, given, URLS, "--url") == found
    else:
        with pytest.raises(ValueError, match=found):
            tables.column(table, given, URLS, "--url")
