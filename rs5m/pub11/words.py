"""What each keyword of a run found, and what labels say of it. Chapter: pub11."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rs5m.data import runfolder, tables
from rs5m.keywords import Keywords

TRUE, FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def check_labels(paths: list[Path], column: str) -> None:
    """ValueError for the first table without that column, and for one that holds no labels."""
    for path in paths:
        table = tables.look(path)
        if column not in table.names:
            listed = ", ".join(table.names)
            raise ValueError(f"{path} has no column {column!r}: --label-column is one of {listed}")
        for batch in tables.batches(table, [column]):
            _truth(path, column, tables.strings(batch[column].combine_chunks()).to_pylist())
            break


def _truth(path: Path, column: str, values: list[str | None]) -> list[bool | None]:
    known = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False) | {"": None}
    spelled = ["" if value is None else value.strip().lower() for value in values]
    if wrong := next((value for value in spelled if value not in known), None):
        raise ValueError(
            f"{path} has {wrong!r} in its column {column!r}: a label is 1 or true where the "
            "picture is what you look for, 0 or false where not, and empty where nobody judged"
        )
    return [known[value] for value in spelled]


def _labels(paths: list[Path], column: str, rows: np.ndarray) -> list[bool | None]:
    """The labels of the pairs at `rows`, sorted positions in the input."""
    found, first = [], 0
    for path in paths:
        for batch in tables.batches(tables.look(path), [column]):
            mine = rows[(rows >= first) & (rows < first + len(batch))] - first
            values = tables.strings(batch[column].take(mine).combine_chunks())
            found += _truth(path, column, values.to_pylist())
            first += len(batch)
    return found


def save_words(
    terms: Keywords, hits: pd.DataFrame, paths: list[Path], labels: str, out: Path
) -> None:
    """Write keywords.parquet, the report of `terms` on the pairs that pass.

    Args:
        hits: the pairs that pass stage 1.
        paths: the tables of the input.
        labels: the name of the column with labels, "" for none.
    """
    judged = _labels(paths, labels, hits.row.to_numpy()) if labels else None
    runfolder.save(terms.report(hits.text, judged), out / "keywords.parquet")


def keyword_table(out: str | Path) -> pd.DataFrame:
    """A run's keywords, the most frequent first: kind (term or trap), term, pairs and, where the
    input has labels, judged and precision in % with its 95 % interval.
    """
    return pq.read_table(Path(out) / "keywords.parquet").to_pandas()


def summary(out: str | Path, most: int = 12) -> str:
    """The most frequent terms and traps of a run, for the screen."""
    table = keyword_table(out)
    lines = []
    for kind, said in (("term", "keywords"), ("trap", "traps, which are kept")):
        some = table[table.kind == kind]
        named = [_named(row) for row in some.head(most).itertuples()]
        more = f" and {len(some) - most} more" if len(some) > most else ""
        lines.append(f"{said}: {', '.join(named) or 'none'}{more}")
    return "\n".join([*lines, f"all of them, term by term: {Path(out) / 'keywords.parquet'}"])


def _named(row) -> str:
    judged = f", {row.precision:.0f} % of {row.judged} right" if row.judged else ""
    term = row.term if len(row.term) <= 40 else row.term[:37] + "..."
    return f"{term} ({row.pairs:,}{judged})"
