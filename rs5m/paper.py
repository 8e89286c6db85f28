"""The paper's numbers, prompts and claims as data, and the one table that sets a run beside them
(every chapter).
"""

import math
import tomllib
from pathlib import Path

import pandas as pd

DATA = Path(__file__).with_suffix("")  # the folder paper/ beside this file
DIGITS = {"%": 2, "points": 1, "ratio": 3}


def table(name: str) -> pd.DataFrame:
    """One of the paper's tables, in long form, by the stem of its file in rs5m/paper.

    Every row says in `source` where its number comes from. ValueError, with the names that exist,
    for another name.
    """
    names = sorted(path.stem for path in DATA.glob("*.csv"))
    if name not in names:
        raise ValueError(f"no paper table {name!r}: choose one of {', '.join(names)}")
    return pd.read_csv(
        DATA / f"{name}.csv", encoding="utf-8", keep_default_na=False, na_values=[""]
    )


def value(**where) -> float:
    """The one published result whose columns equal `where`, e.g. value(dataset="AID",
    model="GeoRSCLIP ViT-B/32").

    In the unit of its row (% or ratio). ValueError, with the rows in question, unless exactly one
    row matches.
    """
    results = found = table("results")
    columns = [name for name in results if name not in ("value", "source")]
    if unknown := set(where) - set(columns):
        raise ValueError(
            f"rs5m/paper/results.csv has no column {sorted(unknown)}: use {', '.join(columns)}"
        )
    for name, wanted in where.items():
        found = found[found[name] == wanted]
    if len(found) != 1:
        rows = (results if found.empty else found)[columns].to_string(index=False)
        raise ValueError(
            f"{len(found)} rows of rs5m/paper/results.csv match {where}, not one:\n{rows}"
        )
    return float(found["value"].iloc[0])


def claim(name: str) -> dict:
    """A claim of the paper by its id, e.g. ZSC: its row of claims.csv, with low and high NaN where
    it has no number.

    ValueError, with the ids that exist, for another id.
    """
    claims = table("claims").set_index("id", drop=False)
    if name not in claims.index:
        raise ValueError(f"no claim {name!r}: choose one of {', '.join(claims.index)}")
    return claims.loc[name].to_dict()


def prompts() -> list[str]:
    """The 105 zero-shot prompts of the official evaluation code, in its order, {} for the class
    (chapter zeroshot).
    """
    parts = tomllib.loads((DATA / "prompts.toml").read_text(encoding="utf-8"))
    bodies = []
    for medium in parts["media"]:
        bodies += [f"{medium} of {thing}" for thing in parts["objects"]]
        bodies += [
            f"{look} {medium} of {article} {{}}"
            for look in parts["looks"]
            for article in ("the", "a")
        ]
        bodies += [
            f"{medium} of {article} {kind} {{}}"
            for kind in parts["kinds"]
            for article in ("the", "a")
        ]
    return [f"{'an' if body[0] in 'aeiou' else 'a'} {body}." for body in bodies]


def class_name(folder: str) -> str:
    """A class folder's name as the official prompts spell it: '_' and '/' become spaces, lower case
    (chapter zeroshot).

    EuroSAT's two-word names therefore stay glued: AnnualCrop reads 'annualcrop'.
    """
    return folder.replace("_", " ").replace("/", " ").lower()


def verdict(paper, low, high, same_setting: bool, gain: bool = True, tolerance: float = 0.0) -> str:
    """What a run says about a published number: reproduced, direction only, not reproduced or not
    attempted.

    - `not attempted`: no value; or a level of another model or on other data, which can neither
      confirm nor refute.
    - `reproduced`: in the paper's setting, our interval meets the paper's range; a gain must also
      exclude zero, for an interval wide enough meets any range.
    - `direction only`: a gain wholly on the paper's side of zero, but in another setting or of
      another size.
    - `not reproduced`: all else.

    Args:
        paper: a number or a range (low, high), ends may be infinite; all numbers are in one unit.
        low, high: the 95 % interval of our value, or None.
        same_setting: the paper's data and the paper's model.
        gain: a difference between two models, else a level.
        tolerance: widens the paper's range (rounding).
    """
    if low is None or high is None or not (gain or same_setting):
        return "not attempted"
    paper_low, paper_high = _range(paper)
    up, down = paper_low >= 0 and paper_high > 0, paper_high <= 0 and paper_low < 0
    directed = gain and ((up and low > 0) or (down and high < 0))
    if (
        same_setting
        and low <= paper_high + tolerance
        and high >= paper_low - tolerance
        and (directed or not gain)
    ):
        return "reproduced"
    return "direction only" if directed else "not reproduced"


def compare(rows: list[dict], scale: str = "") -> pd.DataFrame:
    """The table paper | this run | difference | verdict | reason, one row for each dict of `rows`.

    Keys: `what` and `reason` always; `claim` (an id of claims.csv, whose range and unit then need
    not be given); `paper` (number or range), `unit`; `ours` with its 95 % bootstrap interval `low`,
    `high` (only an exact level may lack it; without `ours` the row is not attempted);
    `same_setting` (False unless given); `gain` (by default: is the unit points?); `tolerance`. The
    difference is the distance to the nearer end of the paper's range. ValueError names the row and
    what it lacks.
    """
    ours = f"this run ({scale})" if scale else "this run"
    return pd.DataFrame([_line(_complete(row), ours) for row in rows])


def show(rows: list[dict], scale: str = "") -> None:
    """Prints `compare(rows, scale)`, a table in a notebook, Markdown elsewhere: the call that ends
    every chapter.
    """
    frame = compare(rows, scale)
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:  # the core package runs without the book's tools
        get_ipython = display = lambda *_, **__: None
    if get_ipython() is None:
        print(to_markdown(frame))
    else:
        display({"text/html": _to_html(frame), "text/plain": to_markdown(frame)}, raw=True)


def to_markdown(frame: pd.DataFrame) -> str:
    """A Markdown table of `frame`, without its index; bars and line breaks in cells are made
    harmless.
    """
    lines = [
        list(frame.columns),
        ["---"] * len(frame.columns),
        *frame.astype(object).values.tolist(),
    ]
    clean = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in clean)


def _to_html(frame: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):
        text = frame.to_html(index=False, border=0)
    # Themes set data frames flush right, for numbers; these cells are sentences. The box keeps
    # narrow screens whole.
    for cell in ("th", "td"):
        text = text.replace(f"<{cell}>", f'<{cell} style="text-align:left;padding:.3em .5em">')
    return f'<div style="overflow-x:auto">{text}</div>'


def _complete(row: dict) -> dict:
    """`row` with the claim's range and unit and all optional keys filled in, checked."""
    if row.get("claim"):
        known = claim(row["claim"])
        if "paper" not in row and not math.isnan(known["low"]):
            row = {"paper": (known["low"], known["high"]), "unit": known["unit"], **row}
    row = {
        "claim": "",
        "paper": None,
        "unit": "",
        "ours": None,
        "same_setting": False,
        "tolerance": 0.0,
        **row,
    }
    row = {"gain": row["unit"] == "points", **row}
    exact = (
        None if row["gain"] or "low" in row or "high" in row else row["ours"]
    )  # a count or a level may be exact
    row = {"low": exact, "high": exact, **row}
    needed = (
        ("what", "reason") if row["ours"] is None else ("what", "reason", "paper", "low", "high")
    )
    if missing := [key for key in needed if row.get(key) in (None, "")]:
        raise ValueError(
            f"row {row.get('what', row)!r} lacks {', '.join(missing)}: no verdict without"
        )
    if row["ours"] is not None and not (row["low"] <= row["high"] and math.isfinite(row["ours"])):
        interval = f"[{row['low']}, {row['high']}]"
        raise ValueError(
            f"row {row['what']!r}: {row['ours']} {interval} is not a number and its interval"
        )
    return row


def _line(row: dict, ours: str) -> dict:
    has = row["ours"] is not None
    bounds = (row["low"], row["high"]) if has else (None, None)
    result = verdict(row["paper"], *bounds, row["same_setting"], row["gain"], row["tolerance"])
    # A number beside "not attempted" needs the rule spelled out.
    rule = (
        "a level of another model or on other data proves nothing; "
        if has and result == "not attempted"
        else ""
    )
    return {
        "claim": row["claim"],
        "what": row["what"] + (f" ({row['unit']})" if row["unit"] else ""),
        "paper": "—" if row["paper"] is None else _show_range(row),
        ours: _show_value(row) if has else "—",
        "difference": _difference(row) if has else "—",
        "verdict": result,
        "reason": rule + row["reason"],
    }


def _range(paper) -> tuple[float, float]:
    low, high = paper if isinstance(paper, tuple | list) else (paper, paper)
    if not low <= high:
        raise ValueError(f"the paper's range {paper} is not (low, high)")
    return low, high


def _number(number: float, row: dict, sign: bool) -> str:
    whole = float(number).is_integer() or abs(number) >= 1000
    digits = DIGITS.get(row["unit"], 0 if whole else 3)
    return f"{number:{'+' if sign else ''},.{digits}f}"


def _show_range(row: dict) -> str:
    low, high = _range(row["paper"])
    if math.isinf(low) or math.isinf(high):
        return f"below {high:g}" if math.isinf(low) else f"above {low:g}"
    if low == high:
        return _number(low, row, row["gain"])
    return f"{low:+,.9g} to {high:+,.9g}" if row["gain"] else f"{low:,.9g} to {high:,.9g}"


def _show_value(row: dict) -> str:
    shown = _number(row["ours"], row, row["gain"])
    if row["low"] == row["high"]:
        return shown
    low, high = (_number(row[end], row, row["gain"]) for end in ("low", "high"))
    return f"{shown} [{low}, {high}]"


def _difference(row: dict) -> str:
    low, high = _range(row["paper"])
    gap = row["ours"] - min(max(row["ours"], low), high)
    return _number(gap, row, True) if gap else ("0" if low == high else "inside")
