"""RS3's captions as they were published, and what people said of them: readers and measures.
Chapter: rs3.

At scale `local` the folder RS5M_DATA holds 10,000 captions (rs5m/rs3_captions_10k.csv) and ratings
of some of them (rs5m/ratings_*.csv). Neither is part of this package.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rs5m.clip import MAX_TOKENS, open_clip

SUBSETS = {
    "fmow": "fMoW",
    "ben": "BigEarthNet",
    "millionaid": "MillionAID",
}  # by the first part of an image's name
MEASURES = ["relevance_detail", "hallucination", "fluency"]  # 1 to 5, five is best in each
# the rule behind the facts; also true of "on top of a hill"
POSITION = r"(?i)\b(?:top|bottom|left|right|center)[- ]"


def _table(path: Path, key: str, columns: Sequence[str]) -> pd.DataFrame:
    """The csv with a column `subset`; ValueError names a file without the columns or with an
    unknown image.
    """
    frame = pd.read_csv(
        path, encoding="utf-8", keep_default_na=False, na_values={name: [""] for name in MEASURES}
    )
    if missing := {key, *columns} - set(frame):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}: fetch it again")
    frame["subset"] = frame[key].str.removeprefix("static/").str.partition("_")[0].map(SUBSETS)
    if (odd := frame[frame.subset.isna()])[key].size:
        raise ValueError(
            f"{path} names {odd[key].iloc[0]!r}, an image of none of {', '.join(SUBSETS)}: "
            "fetch it again"
        )
    return frame


def captions(folder: Path) -> pd.DataFrame:
    """The published captions: name, caption, subset. FileNotFoundError says what to put where."""
    path = Path(folder) / "rs5m" / "rs3_captions_10k.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: put RS3's published captions into the folder RS5M_DATA"
        )
    return _table(path, "name", ["caption"])


def ratings(folder: Path) -> pd.DataFrame:
    """Every rating, with `file` (its csv) and subset; a mark that was not given is NaN.

    FileNotFoundError says what to put where; ValueError names a file with a mark outside 1 to 5.
    """
    paths = sorted(
        (Path(folder) / "rs5m").glob("ratings_*.csv"), key=lambda path: int(path.stem.split("_")[1])
    )
    if not paths:
        raise FileNotFoundError(
            f"{Path(folder) / 'rs5m'} has no ratings_*.csv: put them into the folder RS5M_DATA"
        )
    tables = {path: _table(path, "image_path", ["description", *MEASURES]) for path in paths}
    for path, table in tables.items():
        if not (table[MEASURES].isin([1, 2, 3, 4, 5]) | table[MEASURES].isna()).to_numpy().all():
            raise ValueError(f"{path} has marks outside 1 to 5: fetch it again")
    return pd.concat(
        [table.assign(file=path.stem) for path, table in tables.items()], ignore_index=True
    )


def renderings(names: Sequence[str], views: int) -> dict[str, float]:
    """How many of fMoW's names are of each rendering, `rgb` and `msrgb`; how many views are there
    in `both`; and in how many that is `expected` of names drawn at random from `views` views, each
    of which stands there twice.
    """
    found = pd.Series(names).str.extract(r"^(.*)_((?:ms)?rgb)\.\w+$").dropna()
    rgb, msrgb = (set(found[0][found[1] == form]) for form in ("rgb", "msrgb"))
    counts = {"rgb": len(rgb), "msrgb": len(msrgb), "both": len(rgb & msrgb)}
    return counts | {"expected": len(rgb) * len(msrgb) / views}


def clip_reads(texts: Sequence[str]) -> pd.DataFrame:
    """What CLIP's tokenizer makes of texts: `tokens`, start and end included, and `read`, the text
    that it keeps.

    Of a longer text it keeps the first 75 tokens; `read` is lower case with spaces between tokens.
    """
    tokenizer = open_clip.get_tokenizer("ViT-B-32")  # the vocabulary comes with open_clip
    codes = [tokenizer.encode(text) for text in texts]
    read = [tokenizer.decode(code[: MAX_TOKENS - 2]) for code in codes]
    return pd.DataFrame({"tokens": [len(code) + 2 for code in codes], "read": read})
