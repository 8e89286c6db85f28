"""Filters that the paper does not have, each off unless it is asked for. Chapter: pub11.

They look at the pairs that the paper's stages keep, in the order of `STEPS`, so a model sees few of
all listed pairs. What needs the picture is worked out once in shards of curate/ by this process, on
a cluster too.

* not sharp: a general CLIP's idea of what is NSFW was checked on nothing; a language is guessed
  from a few words; a similarity says what one CLIP sees, and what it cannot see is dropped first
* [NOT IMPLEMENTED] text and watermarks in the picture: no library finds them cheaply; `scorer` can
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import filters
from rs5m.clip import hub
from rs5m.data import images, runfolder
from rs5m.data.runfolder import shard_path
from rs5m.pub11 import scorers
from rs5m.pub11.download import content
from rs5m.vectors import normalise
from rs5m.zeroshot import classifier

NSFW = (
    "a pornographic picture",
    "an explicit photo of naked people",
    "a photo of a nude body",
    "a photo of graphic violence and blood",
)
PLAIN = (
    "a satellite image",
    "an aerial photograph",
    "a photo of a landscape",
    "a photo of dressed people",
    "a photo of a building",
    "a drawing or a logo",
)
SHARD = 512  # pairs whose pictures are decoded and encoded at a time


@dataclass(frozen=True)
class Curation:
    """What is asked for, as the options of `rs5m pub11` say it; nothing by default.

    min_side: pixels of the short side; max_aspect: long side over short side; languages: codes of
    ISO 639-1; max_nsfw: the highest score from 0 to 1 that keeps a pair; scorer, min_score: see
    `rs5m.pub11.scorers`; top_share: the share of the most similar pairs that stays;
    machine_sources: sources whose texts a machine wrote, which are marked; model, checkpoint: the
    CLIP that looks.
    """

    min_side: int = 0
    max_aspect: float = 0.0
    languages: tuple[str, ...] = ()
    max_nsfw: float | None = None
    scorer: str = ""
    min_score: float | None = None
    top_share: float | None = None
    machine_sources: tuple[str, ...] = ()
    model: str = ""
    checkpoint: str = ""

    def steps(self) -> list[Step]:
        """The stages that are asked for, in their order."""
        return [step for step in STEPS if step.asked(self)]

    def looks(self) -> bool:
        """Whether a CLIP has to see the pictures."""
        return self.max_nsfw is not None or self.top_share is not None or self._head()

    def _head(self) -> bool:
        return self.scorer.endswith(scorers.HEAD)

    def identity(self) -> dict:
        """What run.json remembers of it, {} where nothing is asked for. Asked before any work:
        whatever is wrong with an option is raised here.
        """
        self._check()
        asked = {name: value for name, value in asdict(self).items() if value not in ("", 0, None)}
        for name in ("model", "checkpoint", *(n for n, value in asked.items() if value == ())):
            asked.pop(name, None)
        if self.scorer:
            asked["scorer"] = scorers.identity(self.scorer)
        if self.looks():
            asked["model"] = hub.identity(self.model, self.checkpoint)
        if self._head():
            scorers.load(self.scorer, self._width())
        return asked

    def _check(self) -> None:
        if self.min_side < 0:
            raise ValueError(f"--min-side is {self.min_side}: give pixels, 1 or more")
        if self.max_aspect and not self.max_aspect >= 1:
            raise ValueError(
                f"--max-aspect is {self.max_aspect:g}: give long over short, 1 or more"
            )
        for name, value in (("--top-share", self.top_share), ("--max-nsfw", self.max_nsfw)):
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is {value:g}: give a number above 0 and up to 1")
        if bool(self.scorer) != (self.min_score is not None):
            raise ValueError("--scorer and --min-score belong together: give both, or neither")
        if self.languages:
            scorers.language_check(self.languages)
        if self.looks() and not self.model:
            raise ValueError("a CLIP has to look at the pictures: name it with --model")

    def _width(self) -> int:
        from rs5m import clip

        model, blank = hub.model_of(self.model, self.checkpoint), np.zeros((32, 32, 3), np.uint8)
        return clip.encode_images(model, [blank], quiet=True).shape[1]

    def about(self) -> str:
        """What was asked for, in words, "" where nothing was."""
        values = asdict(self) | {"languages": ", ".join(self.languages)}
        said = [step.words.format(**values) for step in self.steps()]
        if self.machine_sources:
            said += [f"texts of {', '.join(self.machine_sources)} marked as machine-written"]
        return f"Beyond the paper: {'; '.join(said)}" if said else ""

    def fields(self) -> list[tuple[str, pa.DataType]]:
        """The columns that it adds to kept.parquet and dropped.parquet."""
        added = [(step.stage, step.kind) for step in self.steps() if step.kind]
        return added + ([("machine_text", pa.bool_())] if self.machine_sources else [])


class Step(NamedTuple):
    """A stage: its name, the reason of what it drops, whether it is asked for, which pairs of a
    table it drops (bool), what it does in words, and the type of its column (None: it has none).
    """

    stage: str
    reason: str
    asked: Callable[[Curation], bool]
    drops: Callable[[Curation, pd.DataFrame], pd.Series]
    words: str
    kind: pa.DataType | None = None


def _short(table: pd.DataFrame) -> pd.Series:
    return table[["width", "height"]].min(axis=1)


def _aspect(table: pd.DataFrame) -> pd.Series:
    return table[["width", "height"]].max(axis=1) / _short(table)


def _below(asked: Curation, table: pd.DataFrame) -> pd.Series:
    """All but the share with the highest similarity; of equal ones the first rows stay."""
    order = table.similarity.rank(method="first", ascending=False)
    return order > ceil(asked.top_share * len(table))


REAL = pa.float64()
STEPS = (
    Step(
        "size",
        "small_side",
        lambda asked: asked.min_side > 0,
        lambda asked, table: _short(table) < asked.min_side,
        "no picture with a side under {min_side} pixels",
    ),
    Step(
        "aspect",
        "long_and_narrow",
        lambda asked: asked.max_aspect > 0,
        lambda asked, table: _aspect(table) > asked.max_aspect,
        "none whose long side is over {max_aspect:g} times the short one",
    ),
    Step(
        "language",
        "other_language",
        lambda asked: bool(asked.languages),
        lambda asked, table: ~table.language.isin(asked.languages),
        "texts in {languages} by py3langid, a guess from few words",
        pa.string(),
    ),
    Step(
        "nsfw",
        "nsfw_by_prompts",
        lambda asked: asked.max_nsfw is not None,
        lambda asked, table: table.nsfw > asked.max_nsfw,
        "no NSFW score above {max_nsfw:g} by prompts of a general model, which nobody validated",
        REAL,
    ),
    Step(
        "scorer",
        "low_score",
        lambda asked: bool(asked.scorer),
        lambda asked, table: table.scorer < asked.min_score,
        "no score under {min_score:g} by {scorer}",
        REAL,
    ),
    Step(
        "similarity",
        "below_top_share",
        lambda asked: asked.top_share is not None,
        _below,
        "the {top_share:.0%} most similar pairs of image and text by the model",
        REAL,
    ),
)
NAMES = tuple(step.stage for step in STEPS)
NOTHING = Curation()


def apply(asked: Curation, table: pd.DataFrame, out: Path) -> pd.DataFrame:
    """A table of `outcome.decide` with the stages that are asked for, and their columns."""
    if asked.machine_sources:
        table["machine_text"] = table.source.isin(asked.machine_sources)
    looked = False
    for step in asked.steps():
        here = table.reason.isna()
        if step.stage == "language":
            table.loc[here, "language"] = scorers.languages(table.text[here].tolist())
        elif step.kind and not looked:
            looked = True
            table = table.merge(_values(asked, table[here], out), on="row", how="left")
        dropped = here.index[here][step.drops(asked, table[here]).to_numpy(bool)]
        table.loc[dropped, ["stage", "reason"]] = step.stage, step.reason
    return table


def check_sources(asked: Curation, known: dict) -> None:
    """ValueError for a marked source of which the input lists no pair."""
    if strange := next((name for name in asked.machine_sources if name not in known), None):
        raise ValueError(
            f"--mark-source {strange}: the input has no such source, its sources are "
            f"{', '.join(sorted(known)[:8])}"
        )


def _values(asked: Curation, pairs: pd.DataFrame, out: Path) -> pd.DataFrame:
    """row and the columns that need the picture, of pairs in shards that a killed run keeps."""
    names = [step.stage for step in asked.steps() if step.kind == REAL]
    schema = pa.schema([("row", pa.int64()), *((name, REAL) for name in names)])
    starts = range(0, len(pairs), SHARD)
    sizes = {i: len(pairs[start : start + SHARD]) for i, start in enumerate(starts)}
    look = _looker(asked)

    def make(number: int) -> pa.Table:
        part = pairs[number * SHARD : (number + 1) * SHARD]
        found = {"row": part.row.tolist()} | look(part, out)
        return pa.table({name: found[name] for name in schema.names}, schema)

    runfolder.work(out, "curate", sizes, make)
    shards = [shard_path(out, "curate", i) for i in sizes]
    tables = [schema.empty_table(), *map(pq.read_table, shards)]
    return pa.concat_tables(tables).to_pandas()


def _looker(asked: Curation) -> Callable[[pd.DataFrame, Path], dict]:
    """A function from pairs to the values of every stage that needs their pictures."""
    model = hub.model_of(asked.model, asked.checkpoint) if asked.looks() else None
    nsfw = _sides(model) if asked.max_nsfw is not None else None
    score = scorers.load(asked.scorer) if asked.scorer else None
    return partial(_look, asked, model, nsfw, score)


def _sides(model) -> np.ndarray:
    """Unit vectors (2, dim): all NSFW prompts, all plain ones."""
    from rs5m import clip

    sides = (clip.encode_texts(model, list(side))[None] for side in (NSFW, PLAIN))
    return np.concatenate([classifier(side, "clip") for side in sides])


def _look(asked: Curation, model, nsfw, score, pairs: pd.DataFrame, out: Path) -> dict:
    from rs5m import clip

    texts = pairs.text.tolist()
    pictures = [np.array(images.read(data)[0]) for data in content(out, pairs)]
    found = {}
    vectors = clip.encode_images(model, pictures, quiet=True) if model is not None else None
    if nsfw is not None:
        found["nsfw"] = filters.score_features(vectors, nsfw).astype(float)
    if score is not None:
        given = (vectors,) if asked.scorer.endswith(scorers.HEAD) else (pictures, texts)
        found["scorer"] = score(*given)
    if asked.top_share is not None:
        text = normalise(clip.encode_texts(model, texts))
        found["similarity"] = (normalise(vectors) * text).sum(1).astype(float)
    return found
