"""Chapter: keywords. All engines against a per-term check in plain Python that shares no code with
the pattern.
"""

import itertools
import os
import random
import re
import unicodedata
from pathlib import Path

import daft
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rs5m import keywords
from rs5m.keywords import expressions
from rs5m.keywords.listed import ordinary

WEB = (
    Path(
        os.environ.get("RS5M_DATA")
        or Path(__file__).resolve().parents[1].parent / "shared" / "data"
    )
    / "web"
)

PASS = [
    "Satellite image of Paris", "AERIAL VIEW", "aerial-view", "aerialview of the coast",
    "aerial_view_of_paris.jpg", "aerial\u00a0view", "land\u2013cover", "land\u2011cover map",
    "land \n cover", "Birds Eye View", "bird's-eye view", "bird\u2019s-eye views",
    "bird\u02bcs eye view", "sentinel2", "Sentinel-2A L2A", "SENTINEL\u00a02B", "landsat 8",
    "Landsat-8", "WorldView-3 scene", "orthophotos", "Ortho-photo", "vegetation indices",
    "hyper-spectral cube", "#NDVI", "(NDVI)", "\u201cndvi\u201d", "NDVI\u2026", "卫星satellite图",
    "photo from space!", "aerial photographs", "aerial surveys", "remote\u3000sensing",
    "🛰satellite🛰", "seen\u200bfrom\u200babove", "Landsat's view", "satellite\u2019s eye", "UAVs",
    "satellite dish", "aerial yoga class", "naïve satellite", "oil-spill", "aerial",
]  # fmt: skip
FAIL = [
    "", " ", "a cat", "satellitex", "aerialist", "medaerial", "éaerial", "aerialé",
    "aerial\u0301 view", "xndvi", "ndvi2", "the worldview of Kant", "worldview", "drone",
    "landsat8x9y", "from spaceship", "goes 15", "land.cover", "land, cover", "AER\u0130AL", "маxar",
    "\uff41\uff45\uff52\uff49\uff41\uff4c", "satellite\u0301", "\u017fatellite", "lid\u0430r",
    "u\u0430v", "aer\u0131al", "ndviд", "αndvi", "modi\u017f", "mod\u0130s", "\u212aompsat",
    "overheadviewer", "landcovered",
]  # fmt: skip


def brute(text, term):
    """Whether `term` is in `text`: fold, cut into words by Unicode category, compare joined runs of
    words.
    """
    quotes = "'`´ʼ‘’′＇"
    gaps = set("-_\xa0\xad\u202f\u2212\u3000\t\n\v\f\r ") | {chr(c) for c in range(0x2000, 0x2016)}
    fold = "".join(c.lower() if c.isascii() else c for c in text)
    for start in range(len(fold)):
        if start and _is_word(fold[start - 1]):
            continue
        if any(
            end == len(fold) or not _is_word(fold[end])
            for end in _ends(fold, start, term, gaps, quotes)
        ):
            return True
    return False


def _is_word(char):
    if char.isascii():
        return char.isalnum()
    name, kind = unicodedata.name(char, ""), unicodedata.category(char)
    latin = name.split(" ")[0] in ("LATIN", "GREEK", "CYRILLIC", "FULLWIDTH", "COMBINING")
    return latin and kind[0] in "LMN"


def _ends(text, start, term, gaps, quotes):
    """All positions where `term`, singular or plural, may end if it begins at `start`."""
    spellings = [term]
    if term[-1].isalpha():
        y = term[-1] == "y" and term[-2] not in "aeiou"
        es = term.endswith(("s", "x", "z", "ch", "sh"))
        spellings.append(term[:-1] + "ies" if y else term + ("es" if es else "s"))
    for spelling in spellings:
        ends = {start}
        for char in spelling:
            ends = set().union(*(_step(text, at, char, gaps, quotes) for at in ends))
        yield from ends


def _step(text, at, char, gaps, quotes):
    if char == " ":
        run = len(list(itertools.takewhile(gaps.__contains__, text[at:])))
        return set(range(at, at + run + 1))
    if char == "'":
        return {at, at + 1} if text[at : at + 1] and text[at] in quotes else {at}
    if char == "#":
        runs = (text[at : at + n] for n in (1, 2, 3) if at + n <= len(text))
        return {at + len(run) for run in runs if re.fullmatch("[0-9]{1,2}[a-zA-Z]?", run)}
    return {at + 1} if text[at : at + 1] == char else set()


def engines(texts):
    """{engine: bool array} of the same texts."""
    frame = daft.from_arrow(pa.table({"t": pa.array(texts, pa.large_string())}))
    rust = frame.select(keywords.expression("t").alias("hit")).to_pydict()["hit"]
    compiled = re.compile(keywords.pattern())
    return {
        "python": np.array([compiled.search(t) is not None for t in texts], bool),
        "rust": np.array(rust, bool),
        "arrow": keywords.matches(texts),
        "explain": np.array([bool(keywords.explain(t)) for t in texts], bool),
        "pandas": pd.Series(texts, dtype="str").str.contains(keywords.pattern()).to_numpy(bool),
    }


def assert_agree(texts):
    results = engines(texts)
    for name, result in results.items():
        differ = [texts[i] for i in np.flatnonzero(result != results["python"])]
        assert not differ, f"{name} disagrees with python on {differ[:5]!r}"
    return results["python"]


def vary(term, rng):
    """One of the spellings that a term stands for."""
    out = "".join(
        rng.choice([c, c.upper()]) for c in term.replace("#", rng.choice(["1", "16", "2a"]))
    )
    out = "".join(
        rng.choice([" ", "-", "", "_", "\xa0", "\u2013", "  ", "\u2011"]) if c == " " else c
        for c in out
    )
    return out.replace("'", rng.choice(["'", "\u2019", "\u02bc", ""]))


def corpus(n, seed):
    """Random texts of terms, near misses and odd characters, glued with and without boundaries."""
    rng = random.Random(seed)
    odd = list("éßÉıİſKªµαж中あกא\u0301\u200d\xad\u2028\ufeff\ufffd🛰\ue000")
    odd += list("'’-–_.,/0129azAZ \n\t\x1c\x85")
    odd += ["s", "es", "ies"]
    pieces = [
        lambda: vary(rng.choice(keywords.terms()), rng),
        lambda: rng.choice(odd),
        lambda: rng.choice(odd),
    ]
    pieces += [
        lambda: rng.choice(["a", "the", "photo of"]),
        lambda: rng.choice(keywords.terms())[1:],
    ]
    parts = [
        [rng.choice(pieces)() + rng.choice(["", "", " "]) for _ in range(rng.randint(0, 6))]
        for _ in range(n)
    ]
    return ["".join(p) for p in parts]


def test_list_is_well_formed():
    groups = keywords.groups()
    assert list(groups) == ["views", "platforms", "products", "applications", "providers"]
    assert all(group["reason"].strip() and group["terms"] for group in groups.values())
    assert keywords.terms() == [t for group in groups.values() for t in group["terms"]]
    assert len(set(keywords.terms())) == len(keywords.terms()) >= 120
    groups["views"]["terms"].clear()
    assert keywords.groups()["views"]["terms"], "callers must not be able to change the list"


@pytest.fixture(scope="module")
def agreed():
    """What all engines say of each text; asked once, since Daft takes its time."""
    texts = [*PASS, *FAIL]
    return dict(zip(texts, assert_agree(texts), strict=True))


@pytest.mark.parametrize("text", PASS)
def test_passes(text, agreed):
    assert agreed[text] and keywords.explain(text)


@pytest.mark.parametrize("text", FAIL)
def test_fails(text, agreed):
    assert not agreed[text] and keywords.explain(text) == []


def test_every_term_finds_itself_and_its_variants():
    rng = random.Random(1)
    for term in keywords.terms():
        for text in (term.replace("#", "2"), *(vary(term, rng) for _ in range(4))):
            assert term in keywords.explain(f"x, {text}."), (term, text)
            assert brute(text, term)


def test_engines_agree_on_random_unicode():
    hits = assert_agree(corpus(2000, seed=2))
    assert 0.2 < hits.mean() < 0.9, "the corpus must try both answers"


def test_engines_agree_on_every_boundary_character():
    chars = [chr(c) for c in range(1, 0x30000) if not 0xD800 <= c < 0xE000]
    texts = [t for c in chars for t in (f"{c}ndvi", f"ndvi{c}", f"land{c}cover")]
    frame = pa.array(texts)
    rust = (
        daft.from_arrow(pa.table({"t": frame}))
        .select(keywords.expression("t").alias("h"))
        .to_pydict()["h"]
    )
    compiled = re.compile(keywords.pattern())
    python = np.array([compiled.search(t) is not None for t in texts])
    assert (np.array(rust) == python).all() and (keywords.matches(frame) == python).all()
    ends = dict(zip(chars, python[1::3], strict=True))
    letters = [c for c in chars if _is_word(c) and (ord(c) < 0x530 or 0x1D00 <= ord(c) < 0x2000)]
    letters.remove("s"), letters.remove("S")  # the plural
    assert len(letters) > 1500 and [c for c in letters if ends[c]] == []
    marks = " .,;:!?\"'()[]{}/\\|-_#@&%$*+=<>~^`\xa0\u2013\u2019\u201d\u2026\u3001中あก🛰"
    assert all(ends[c] for c in marks)


def test_explain_is_the_brute_force_twin():
    for text in corpus(40, seed=3) + PASS + FAIL:
        assert keywords.explain(text) == [term for term in keywords.terms() if brute(text, term)], (
            text
        )


def test_traps_are_reported_and_never_dropped():
    assert keywords.traps("Satellite-Dishes for sale") == ["satellite dish"]
    assert keywords.traps("aerial yoga, aerial silks") == ["aerial silk", "aerial yoga"]
    assert keywords.traps("satellite image") == [] and keywords.traps(None) == []
    assert keywords.matches(["satellite dish", "aerial yoga"]).all()
    trap_terms = keywords.trap_terms()
    assert not set(trap_terms) & set(keywords.terms()) and len(set(trap_terms)) == len(trap_terms)
    passing = [t for t in trap_terms if keywords.matches([t])[0]]
    assert passing == trap_terms, "a trap that no keyword lets in is not worth listing"


SAME = ["ndvi", None, "cat"]


@pytest.mark.parametrize(
    "texts",
    [
        SAME,
        tuple(SAME),
        (t for t in SAME),
        np.array(SAME, object),
        np.array(["ndvi", "", "cat"]),
        pd.Series(SAME),
        pd.Series(SAME, dtype=object),
        pd.Series(SAME, dtype="string"),
        pd.Series(SAME, [7, 7, 2]).astype("category"),
        pa.array(SAME),
        pa.array(SAME, pa.large_string()),
        pa.array(SAME, pa.string_view()),
        pa.chunked_array([SAME[:1], SAME[1:]]),
        pa.array(SAME).dictionary_encode(),
        pa.array([b"ndvi", None, b"\xff\xfe"]),
        ["ndvi", float("nan"), 3],
        [b"\xffndvi\xff", b"", {}],
        pa.array(["cat", *SAME]).slice(1),
        pd.Index(SAME),
    ],
    ids=lambda t: type(t).__name__,
)
def test_matches_takes_every_container(texts):
    hit = keywords.matches(texts)
    assert hit.dtype == bool and hit.tolist() == [True, False, False]


def test_matches_of_nothing_and_of_no_text():
    arrow = pa.array([], pa.string()), pa.chunked_array([], pa.string())
    for empty in ([], np.array([]), pd.Series([], dtype=object), *arrow):
        assert keywords.matches(empty).shape == (0,) and keywords.matches(empty).dtype == bool
    for other in (pa.array([1, 2]), pa.nulls(2), np.array([1.0, np.nan]), pd.Series([True, False])):
        assert keywords.matches(other).tolist() == [False, False]
    with pytest.raises(TypeError, match="list of texts"):
        keywords.matches("aerial view")


def test_bad_bytes_are_boundaries_not_errors():
    data, offsets = b"\xffndvi\xff\xc3(\x80n\xffdvi", np.array([0, 9, 14], np.int32)
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    assert keywords.matches(broken).tolist() == [True, False]
    assert keywords.matches([b"ndvi\xc3", "\ud800ndvi", "nd\udfffvi"]).tolist() == [
        True,
        True,
        False,
    ]
    assert keywords.explain("\ud800ndvi") == keywords.explain(b"\xffNDVI\xff") == ["ndvi"]
    assert keywords.explain(float("nan")) == []


def test_expression_on_null_and_other_columns():
    columns = {
        "t": ["NDVI", None, "cat", ""],
        "n": [None] * 4,
        "i": [1, 2, 3, 4],
        "b": [b"ndvi", b"\xff", None, b""],
    }
    frame = daft.from_pydict(columns)
    out = frame.select(*(keywords.expression(daft.col(c)).alias(c) for c in "tnib")).to_pydict()
    assert (
        out["t"] == out["b"] == [True, False, False, False] and out["n"] == out["i"] == [False] * 4
    )
    assert frame.where(~keywords.expression("t")).count_rows() == 3, (
        "null must be dropped with a reason, not vanish"
    )


def test_expression_over_parquet(tmp_path):
    pq.write_table(
        pa.table({"text": pa.array(["aerial view", None, "dog"])}), tmp_path / "a.parquet"
    )
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "b.parquet")
    kept = (
        daft.read_parquet(str(tmp_path / "*.parquet"))
        .where(keywords.expression("text"))
        .to_pydict()
    )
    assert kept == {"text": ["aerial view"]}


def test_a_bad_term_is_named():
    for term in ("Aerial", "aerial  view", " uav", "ndvi.*", "", "Vue aérienne", "*", "a#"[1:]):
        with pytest.raises(ValueError, match="keywords.toml"):
            expressions.compose([term])


def test_long_text_takes_linear_time():
    text = ["aerialx " * 2_000, "land" + " " * 20_000 + "x", "'" * 20_000]
    assert not keywords.matches(text).any() and not any(map(keywords.explain, text))


@pytest.mark.skipif(
    not (WEB / "cc3m_val.tsv").exists(), reason="needs web/cc3m_val.tsv under RS5M_DATA"
)
def test_engines_agree_on_cc3m():
    with open(WEB / "cc3m_val.tsv", encoding="utf-8") as file:
        texts = [line.split("\t")[0] for line in file]
    hits = assert_agree_fast(texts)
    assert 60 <= hits.sum() <= 160
    found = [t for t, hit in zip(texts, hits, strict=True) if hit]
    assert all(any(brute(t, term) for term in keywords.terms()) for t in found)


@pytest.mark.skipif(
    not (WEB / "laion_10k.parquet").exists(), reason="needs web/laion_10k.parquet under RS5M_DATA"
)
def test_engines_agree_on_laion():
    hits = assert_agree_fast(pq.read_table(WEB / "laion_10k.parquet")["TEXT"].to_pylist())
    assert 8 <= hits.sum() <= 40


def assert_agree_fast(texts):
    """`assert_agree` without `explain` on every row, which tries every term."""
    compiled = re.compile(keywords.pattern())
    python = np.array([compiled.search(t) is not None for t in texts])
    rust = (
        daft.from_pydict({"t": texts}).select(keywords.expression("t").alias("h")).to_pydict()["h"]
    )
    assert (np.array(rust) == python).all() and (keywords.matches(texts) == python).all()
    assert (
        pc.sum(pc.match_substring_regex(pa.array(texts), keywords.pattern())).as_py()
        == python.sum()
    )
    return python


MORE = {
    "english": ["Airplane-window view of the Alps", "drone pic of a lake", "nadir photo of a field",
                "birdseye of downtown", "top view of the old city", "TOP VIEW OF BEACH"],
    "russian": ["Спутниковые снимки", "ВИД СВЕРХУ", "аэрофотосъёмка города",
                "с высоты птичьего полета"],
    "french": ["Vues aériennes de Lyon", "vue aerienne", "vue ae\u0301rienne",
               "photographie aérienne", "Paris vu du ciel", "vue d\u2019avion"],
    "german": ["Luftbilder von Köln", "LUFTAUFNAHME", "aus der Vogelperspektive",
               "Satellitenbildern"],
    "spanish": ["Vista aérea de Lima", "IMÁGENES SATELITALES", "imagenes aereas",
                "vistas de pájaro"],
    "chinese": ["上海卫星影像图", "航拍西湖", "台北空拍"],
    "japanese": ["富士山の空撮写真", "上空から見た東京", "航空写真1975年"],
}  # fmt: skip


def test_the_second_list_finds_every_language_with_its_inflections():
    more = keywords.choose(more=True)
    assert list(keywords.groups(more=True)) == list(MORE) and not set(keywords.terms()) & set(
        keywords.terms(more=True)
    )
    for name, texts in MORE.items():
        alone = keywords.Keywords(tuple(keywords.groups(more=True)[name]["terms"]))
        assert alone.matches(texts).all(), (name, alone.matches(texts))
        assert not keywords.matches(texts).any() and more.matches(texts).all()
    ordinary = ["my new DJI drone", "drone flying over my head", "birds eye frozen peas"]
    ordinary += ["top view of cake", "Новый дрон", "avion de chasse", "Vogel im Garten"]
    ordinary += ["vista al mar", "无人机价格", "空の写真"]
    assert not more.matches(ordinary).any()


def test_every_term_of_the_second_list_finds_itself():
    for term in keywords.terms(more=True):
        if not term.startswith("/"):
            text = term.replace("#", "2").replace("*", "")
            alone = keywords.Keywords((term,))
            found = alone.matches([text, f"x, {text.upper()}.", f"xx{text}"]).tolist()
            assert found[:2] == [True, True], term
            assert found[2] != text[0].isalpha() or ord(text[0]) > 0x3000, term
            assert re.search(alone.pattern, text)


def test_traps_go_only_where_asked_and_only_where_nothing_else_is_said():
    texts = ["satellite dish", "Satellite dish seen from space", "aerial yoga satellite dish"]
    texts += ["cat", "chicken from the air-fryer", "aerial view", None]
    stay = keywords.choose()
    assert stay.matches(texts).tolist() == keywords.matches(texts).tolist()
    go = keywords.choose(drop_traps=True)
    wanted = ["trap", None, "trap", "no_keyword", "trap", None, "no_keyword"]
    assert go.reasons(texts).tolist() == wanted and go.reasons([]).tolist() == []
    assert go.matches(pa.chunked_array([texts[:3], texts[3:]])).tolist() == [
        w is None for w in wanted
    ]


def test_report_counts_terms_and_traps_and_judges_where_labels_are():
    texts = ["aerial view", "aerial yoga", "AERIAL", "satellite dish", "cat"]
    table = keywords.choose().report(texts).to_pandas().set_index(["kind", "term"])
    assert table.pairs["term", "aerial"] == 3 and table.pairs["term", "aerial view"] == 1
    assert table.pairs["trap", "aerial yoga"] == 1 and ("term", "ndvi") not in table.index
    assert table.judged.sum() == 0 and table.precision.isna().all()
    labels = [True, False, None, 0, True]
    table = keywords.choose().report(texts, labels).to_pandas().set_index(["kind", "term"])
    aerial = table.loc[("term", "aerial")]
    assert (aerial.judged, aerial.precision) == (2, 50) and 0 < aerial.low < 50 < aerial.high < 100
    assert table.precision["term", "satellite"] == 0
    assert keywords.choose().report(["cat"]).num_rows == 0


def own(tmp_path, text, **options):
    path = tmp_path / "own.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return keywords.choose(path, **options)


def test_an_own_list_has_terms_patterns_and_comments(tmp_path):
    lines = "\ufeff# views\n\nTop-Down\u00a0 View\r\nlandsat #\nвид* сверху\n"
    lines += "/roof\\s*tops?\\b/\nlandsat #\n"
    listed = own(tmp_path, lines)
    assert listed.terms == ("top down view", "landsat #", "вид* сверху", "/roof\\s*tops?\\b/")
    texts = ["top-down views", "LANDSAT8", "Виды сверху", "Roof Tops", "aerial", "landsat"]
    assert listed.matches(texts).tolist() == [True] * 4 + [False] * 2
    both = own(tmp_path, lines, more=True)
    assert both.matches(["roof top", "vue aérienne", "aerial view"]).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no term"),
        ("# only\n\n", "has no term"),
        ("aerial\n/roof(/\n", r"line 2: /roof\(/ is a broken pattern: missing \)"),
        ("aerial\n/(?=roof)x/", r"line 2.*broken pattern"),
        ("/x*/", "line 1: .* matches the empty string"),
        ("//", "line 1: .* matches the empty string"),
        ("aerial\n\n/./", "line 3: /./ matches 100 of 100 ordinary captions, such as 'a cat"),
        ("/[a-z0-9]/", "line 1: .* matches 100 of 100 ordinary captions"),
        ("aerial\n/e/\n", r"line 2: /e/ matches 9\d of 100 ordinary captions"),
        ("/\\ba\\b/\n/\\bth/\n/\\bo[fn]\\b/", r"own.txt matches [5-9]\d of 100 ordinary captions"),
        ("aerial # my comment", "line 1: .*a comment has a line of its own"),
        ("roof(top)", "line 1: .*put a pattern between slashes"),
        ("*", "line 1: .*neither words nor a pattern"),
        (b"a\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_bad_own_list_is_explained(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        own(tmp_path, text)


def test_a_term_that_matches_some_ordinary_captions_is_told(tmp_path, capsys):
    assert own(tmp_path, "aerial\nwith\n").terms == ("aerial", "with")
    (told,) = capsys.readouterr().out.splitlines()
    assert re.search("^warning: .*own.txt, line 2: with matches [2-4][0-9] of 100 ordinary", told)
    own(tmp_path, "aerial\nphoto\n/roof\\s*tops?/\n")
    assert not capsys.readouterr().out


def test_no_keyword_of_ours_is_in_an_ordinary_caption():
    captions = ordinary()
    assert len(set(captions)) == 100
    assert not keywords.choose(more=True).matches(captions).any()


def test_an_own_list_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the spelling of --keywords"):
        keywords.choose(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="check the spelling of --keywords"):
        keywords.choose(tmp_path)


@pytest.mark.skipif(
    not (WEB / "invented_captions.tsv").exists(), reason="needs web/invented_captions.tsv"
)
def test_both_lists_on_invented_captions():
    table = pd.read_csv(WEB / "invented_captions.tsv", sep="\t")
    view = table["view"].to_numpy() == 1
    first, both = keywords.matches(table.text), keywords.choose(more=True).matches(table.text)
    assert first[view].mean() < 0.3 and both[view].mean() > 0.8
    assert (both & ~first)[~view].sum() <= 2
