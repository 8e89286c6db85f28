"""What the keyword lists are worth on a real crawl whose pictures were judged by eye, and on
captions that say in other words what they show. Chapter: keywords.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rs5m import intervals, keywords, results
from rs5m.book.scales import Scale, data_folder

JUDGED, INVENTED = "web/cc3m_judged.npz", "web/invented_captions.tsv"  # in RS5M_DATA
CORPORA = {"CC3M": "web/cc3m_val.tsv", "LAION": "web/laion_10k.parquet"}
# V: vertical view or satellite, G: map made of satellite images, O: oblique view from the air
READINGS = {"wide": "VGO", "strict": "VG"}
COLUMNS = {"first": "the list", "both": "with the second list", "no traps": "both, traps dropped"}
# What only the second list finds was read once: texts, and those that describe a view from above.
READ = {"CC3M": (6, 5), "LAION": (2, 0)}


def published(scale: Scale) -> dict | None:
    """`measure` of the scale's data folder, or what was stored, see `rs5m.results.measured`."""
    here = scale.name == "local" and (data_folder(scale) / JUDGED).is_file()
    return results.measured("wordlists", "local", here, lambda: measure(data_folder(scale)))


def measure(folder: Path) -> dict:
    """Keys: judged (reading -> share of the hits in %), terms (term -> share by the wide reading),
    traps, photographs (texts without a keyword of the first list, which the second finds), lists
    (list -> views, ordinary: share of the invented captions found; CC3M, LAION: texts found), read.
    """
    first, both = keywords.choose(), keywords.choose(more=True)
    lists = {"first": first, "both": both, "no traps": keywords.choose(more=True, drop_traps=True)}
    with np.load(folder / JUDGED) as held:
        text, label = held["hit_text"], held["hit_label"]
        photographs = np.concatenate([held["photo_text"], held["test_photo_text"]])
    right = {name: np.isin(label, list(kinds)) for name, kinds in READINGS.items()}
    table = first.report(text, right["wide"]).to_pandas()
    often = table[(table.kind == "term") & (table.pairs >= 8)]
    trapped = ~keywords.choose(drop_traps=True).matches(text)
    return {
        "judged": {name: share(one) for name, one in right.items()},
        "terms": {row.term: share_of(row) for row in often.itertuples()},
        "traps": {"hits": int(trapped.sum()), "right": int(right["wide"][trapped].sum())},
        "photographs": share(both.matches(photographs)),
        "lists": {name: _found(folder, one) for name, one in lists.items()},
        "read": _read(folder, first, both),
    }


def share(hit: np.ndarray) -> dict:
    """texts, and the share of true ones in % with its interval."""
    return intervals.rate(hit, counted="texts")


def share_of(row) -> dict:
    """The same of a row of a report."""
    return {"texts": row.judged, "rate": row.precision, "low": row.low, "high": row.high}


def at_hand(scale: Scale) -> dict[str, pd.Series]:
    """`corpora` of a scale's folder: {} at mini, which has none, and at colab and paper where
    theirs does not hold them.
    """
    if scale.name == "mini":
        return {}
    folder = data_folder(scale)
    held = all((folder / path).is_file() for path in CORPORA.values())
    return corpora(folder) if held or scale.name == "local" else {}


def corpora(folder: Path) -> dict[str, pd.Series]:
    """The real texts that nobody judged, by name."""
    cc3m, laion = paths = [folder / path for path in CORPORA.values()]
    if gone := next((path for path in paths if not path.is_file()), None):
        raise FileNotFoundError(
            f"{gone} is not there: scale 'local' wants web/{gone.name} in the folder RS5M_DATA"
        )
    return {
        "CC3M": pd.read_csv(cc3m, sep="\t", header=None, quoting=3, encoding="utf-8")[0],
        "LAION": pd.read_parquet(laion).TEXT.reset_index(drop=True),
    }


def _found(folder: Path, listed: keywords.Keywords) -> dict:
    invented = pd.read_csv(folder / INVENTED, sep="\t")
    view, hit = invented["view"].to_numpy() == 1, listed.matches(invented.text)
    numbers = {name: share(listed.matches(texts)) for name, texts in corpora(folder).items()}
    return {"views": share(hit[view]), "ordinary": share(hit[~view])} | numbers


def _read(folder: Path, first: keywords.Keywords, both: keywords.Keywords) -> dict:
    """The share of what only the second list finds that describes a view from above; left out
    where the list has changed since it was read.
    """
    found = {}
    for name, texts in corpora(folder).items():
        count = int(both.matches(texts).sum() - first.matches(texts).sum())
        if count == READ[name][0]:
            found[name] = share(np.arange(count) < READ[name][1])
    return found


def table(values: dict) -> pd.DataFrame:
    """Both lists side by side: shares found in % with their intervals."""
    names = {"views": "invented, a view from above", "ordinary": "invented, an ordinary photograph"}
    rows = {
        names.get(name, f"{name}, not judged"): {
            listed: _cell(found[name]) for listed, found in values["lists"].items()
        }
        for name in values["lists"]["first"]
    }
    return pd.DataFrame(rows).T.rename(columns=COLUMNS)


def terms(values: dict) -> pd.DataFrame:
    """The frequent terms and how many of their pictures were taken from above."""
    rows = {
        name: {"pairs": one["texts"], "right, %": _cell(one)}
        for name, one in values["terms"].items()
    }

    return pd.DataFrame(rows).T


def _cell(one: dict) -> str:
    return "{rate:.1f} [{low:.1f}, {high:.1f}]".format(**one)


def headline(values: dict | None) -> dict[str, float]:
    """The numbers of the section's text; NaN where none is stored."""
    if values is None:
        values = {"judged": {}, "lists": dict.fromkeys(COLUMNS, {}), "traps": {}, "read": {}}
    empty = dict.fromkeys(("texts", "rate", "low", "high"), np.nan)
    numbers = {"hits": values["judged"].get("wide", empty)["texts"]}
    for name in READINGS:
        one = values["judged"].get(name, empty)
        numbers |= {name: one["rate"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
    for name, found in values["lists"].items():
        name = name.replace(" ", "_")
        for kind in ("views", "ordinary", *CORPORA):
            numbers[f"{name}_{kind}"] = found.get(kind, empty)["rate"]
    return numbers | {
        "views": values["lists"]["first"].get("views", empty)["texts"],
        "ordinary": values["lists"]["first"].get("ordinary", empty)["texts"],
        "trapped": values["traps"].get("hits", np.nan),
        "trapped_right": values["traps"].get("right", np.nan),
        "terms": len(keywords.terms(more=True)),
        "read": values["read"].get("CC3M", empty)["texts"],
        "read_right": values["read"].get("CC3M", empty)["rate"],
        "photographs": values.get("photographs", empty)["rate"],
    }
