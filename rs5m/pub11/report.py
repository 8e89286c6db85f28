"""What a run of PUB11 came to, for a person: words for the screen, and report.html with samples of
what was kept and of what was dropped for each reason. Chapter: pub11.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rs5m.data import images, sheet
from rs5m.pub11 import curation
from rs5m.pub11.download import content
from rs5m.pub11.input import batches
from rs5m.pub11.stages import STAGES
from rs5m.web import Tally

PAGE = "report.html"
MOST = 60  # groups of one page, the largest ones; about 9 MB of thumbnails at most
HOSTS = 15  # rows of the page's table of hosts
LINKS = 40  # rows of its table of near-copies


def write(out: Path, paths: Iterable[Path] = (), url: str = "", caption: str = "") -> None:
    """Write report.html into the folder of a finished run.

    Args:
        out: the run's folder.
        paths: the tables of the input, for samples of what the keywords stop; none are shown
            without them.
        url: the column of URLs there, as in `input.select`.
        caption: the column of captions.
    """
    kept, dropped = (pd.read_parquet(out / f"{name}.parquet") for name in ("kept", "dropped"))
    attrition = pd.read_parquet(out / "attrition.parquet")
    notes = json.loads((out / "run.json").read_text())["notes"]
    counts, links = reasons(out), copies(out)
    fates = [("Kept", kept)]
    fates += [
        (f"Dropped by {stage}: {reason}", rows)
        for (stage, reason), rows in _by_size(dropped)
        if len(rows)
    ]
    shown, more = fates[:MOST], len(fates) - MOST
    samples = [rows.iloc[sheet.sample(rows.row.tolist())] for _, rows in shown]
    cards = _cards(out, pd.concat(samples), _nearest(links))
    groups = [
        sheet.Group(title, len(rows), [cards[row] for row in some.row])
        for (title, rows), some in zip(shown, samples, strict=True)
    ]
    total = attrition.iloc[-1]
    lead = (
        f"{total.remaining:,} of {total.pairs_listed:,} listed pairs were kept. Below are the "
        f"counts by collection, reason and host, then up to {sheet.EACH} samples of the pairs that "
        "were kept and of those that were dropped for each reason, drawn by chance. All pairs are "
        f"in kept.parquet, dropped.parquet and unmatched/ beside this page. Images: {images.RULE}."
    )
    if "judge" in notes:
        lead += f" J{notes['judge'][1:]}."
    if "curation" in notes:
        lead += f" {notes['curation']}."
    if more > 0:
        lead += f" {more} rare reasons have no samples here."
    tables = [
        ("Pairs by collection", attrition),
        ("Pairs dropped, by stage and reason", counts),
        ("Hosts with the most failed pairs", _hosts(kept, dropped)),
    ]
    tables += _met(links)
    groups[1:1] = _stopped(out, partial(batches, url=url, caption=caption), list(paths))
    sheet.write(out / PAGE, "PUB11: what was kept and dropped", lead, tables, groups)


def _met(links: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The table of near-copies, none where no pair met."""
    if not len(links):
        return []
    heading = f"Near-copies: the first {min(LINKS, len(links))} of {len(links):,} pairs that met"
    shown = links.drop(columns=["first_url", "second_url"]).head(LINKS)
    return [(f"{heading}, all are in copies.parquet", shown.round({"score": 3}))]


def reasons(out: Path) -> pd.DataFrame:
    """Pairs dropped in a finished run by stage and reason, in the order of the stages, the most
    frequent first: stage, reason, pairs.
    """
    dropped = pq.read_table(out / "dropped.parquet", columns=["stage", "reason"]).to_pandas()
    rest = pd.concat(
        [pq.read_table(p, columns=["reason"]).to_pandas() for p in _unmatched(out)]
        or [pd.DataFrame({"reason": []})]
    ).assign(stage=STAGES[0])
    table = pd.concat([rest, dropped]).groupby(["stage", "reason"]).size().rename("pairs")
    table = table.reset_index().astype({"pairs": int})
    table["place"] = table.stage.map((*STAGES, *curation.NAMES).index)
    table = table.sort_values(["place", "pairs", "reason"], ascending=[True, False, True])
    return table.drop(columns="place").reset_index(drop=True)


def copies(out: Path) -> pd.DataFrame:
    """What joined the near-copies of a finished run, a row a pair: the row that stays, the two
    rows, score 0 to 1, road (what was correlated), distance in bits, proposed (what brought them
    together), outcome, URLs. Empty for a run of an earlier version.
    """
    path = out / "copies.parquet"
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _nearest(links: pd.DataFrame) -> dict[int, str]:
    """Row of a picture that has near-copies: its surest link, in words."""
    said: dict[int, str] = {}
    if len(links):
        for link in links.sort_values("score", ascending=False, kind="stable").itertuples():
            for row, other in (
                (link.first_row, link.second_row),
                (link.second_row, link.first_row),
            ):
                said.setdefault(row, f"as row {other:,}: {link.score:.3f} by {link.road}")
    return said


def words(out: Path, tally: Tally | None = None) -> str:
    """The end of a run for the screen: what was dropped and why, and which hosts were slow or dead.

    tally: of the results that came in this process; there are none where an earlier one had all.
    """
    table = reasons(out)
    width = max(map(len, table.reason), default=0)
    lines = ["dropped, by stage and reason:" if len(table) else "nothing was dropped"]
    lines += [
        f"  {row.stage:<10}  {row.reason:<{width}}  {row.pairs:>9,}" for row in table.itertuples()
    ]
    if tally and tally.hosts:
        slow = (f"{name} ({seconds:.1f} s)" for name, seconds in tally.slowest())
        dead = (
            f"{name} ({host.silent:,} URL{'s' * (host.silent > 1)})"
            for name, host in tally.deadest()
        )
        lines.append(f"slowest hosts, by mean time of a URL: {', '.join(slow) or 'none'}")
        lines.append(f"hosts without an answer: {', '.join(dead) or 'none'}")
    if tally and tally.unheard:
        lines.append(
            "no host answered: if this machine's network is at fault, run it again with a new --out"
        )
    if "refused_address" in set(table.reason):
        lines.append(
            "refused_address: the URL leads to this machine or a private network; with "
            "--allow-loopback or --allow-private and a new --out it is asked"
        )
    if found := len(copies(out)):
        lines.append(f"near-copies, {found:,} pairs with their scores: {out / 'copies.parquet'}")
    return "\n".join([*lines, f"samples of all of them: {out / PAGE}"])


def _unmatched(out: Path) -> list[Path]:
    return sorted((out / "unmatched").glob("*.parquet"))


def _by_size(dropped: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The groups of one stage and reason: what pictures decide first, then what no picture came
    of; the largest first in each.
    """
    groups = list(dropped.groupby(["stage", "reason"], sort=True))
    return sorted(groups, key=lambda item: (item[0][0] == "download", -len(item[1]), item[0]))


def _cards(out: Path, rows: pd.DataFrame, links: dict[int, str]) -> dict[int, sheet.Card]:
    """The cards of rows of kept and dropped.parquet by row; the bytes of one shard at a time."""
    cards = {}
    for _, part in rows.groupby(rows["shard"].fillna(-1), sort=True):
        for row, data in zip(part.itertuples(), content(out, part), strict=True):
            facts = ", ".join(filter(None, [_facts(row), links.get(row.row)]))
            cards[row.row] = sheet.Card(_picture(data), *_words(row.text, row.url), facts)
    return cards


def _words(*values: object) -> list[str]:
    return [value if isinstance(value, str) else "" for value in values]


def _picture(data: bytes | None) -> str | None:
    image = images.read(data, images.DECODING)[0] if data else None
    return sheet.thumbnail(image) if image else None


def _facts(row) -> str:
    values = {"score": row.score, "detector": row.probability}
    values |= {name: getattr(row, name, None) for name in ("nsfw", "scorer", "similarity")}
    said = [f"{name} {value:.3f}" for name, value in values.items() if pd.notna(value)]
    size = [f"{row.width:.0f} × {row.height:.0f}"] if pd.notna(row.width) else []
    return ", ".join(size + said)


def _hosts(kept: pd.DataFrame, dropped: pd.DataFrame) -> pd.DataFrame:
    """The hosts whose pairs failed most often, with the most frequent reason."""
    failed = dropped[dropped.stage == "download"]
    every = pd.concat([kept.url, dropped.url]).map(_host).value_counts()
    table = failed.reason.groupby(failed.url.map(_host))
    rows = pd.DataFrame(
        {
            "failed": table.size(),
            "most_frequent_reason": table.agg(
                lambda some: some.value_counts().sort_index().idxmax()
            ),
        }
    )
    rows = rows.rename_axis("host").reset_index()
    rows.insert(1, "pairs", rows.host.map(every).astype(int))
    rows = rows.sort_values(["failed", "host"], ascending=[False, True])
    return rows.head(HOSTS).astype({"failed": int}).reset_index(drop=True)


def _host(url: object) -> str:
    try:
        return urlsplit(url if isinstance(url, str) else "").hostname or "no host"
    except ValueError:
        return "no host"


def _stopped(out: Path, read: Callable, paths: list[Path]) -> Iterator[sheet.Group]:
    """Samples of what the keywords stop, whose captions and URLs are in the input alone."""
    tables = [pq.read_table(path).to_pandas() for path in _unmatched(out)] if paths else []
    rest = pd.concat(tables) if tables else pd.DataFrame({"row": [], "reason": []})
    for reason, rows in rest.groupby("reason", sort=True):
        chosen = rows.row.iloc[sheet.sample(rows.row.tolist())].to_numpy()
        cards = [
            sheet.Card(None, text or "", url or "")
            for url, text in _listed(map(read, paths), chosen)
        ]
        yield sheet.Group(f"Dropped by keywords: {reason}", len(rows), cards)


def _listed(tables: Iterable, rows: np.ndarray) -> Iterator[tuple[str | None, str | None]]:
    """URL and text of rows of the input, sorted positions in it."""
    first = 0
    for batch in chain.from_iterable(tables):
        mine = rows[(rows >= first) & (rows < first + len(batch))] - first
        found = batch.select(["url", "text"]).take(mine).to_pydict()
        yield from zip(found["url"], found["text"], strict=True)
        first += len(batch)
        if first > rows[-1]:
            return
