"""The card of a written data set: README.md for people, croissant.json (Croissant) for programs.

Both say what run.json and the tables say and hold no date, so a resumed run writes the same bytes.
Chapter: pub11.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rs5m import files

CARD, CROISSANT = "README.md", "croissant.json"
SPECIFICATION = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated "
    "replace samplingRate separator source subField transform"
)
CONTEXT = {  # the specification's own, term by term: validators compare it
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in _TERMS.split()},
}


@dataclass(frozen=True)
class Card:
    """What a card says beside the files: a name, sentences, and tables under their titles.

    licence: of the whole, empty where nobody can give one; gaps: what is known to be wrong or
    missing; main: the table of pairs, which Croissant describes column by column.
    """

    name: str
    about: str
    licence: str
    gaps: tuple[str, ...]
    tables: tuple[tuple[str, pd.DataFrame], ...]
    main: str


def write(out: Path, card: Card) -> None:
    """Write both files into the folder of a finished run, which holds the table and the tars."""
    tars = sorted(path.name for path in out.glob("*.tar"))
    schema = pq.read_schema(out / card.main)
    with files.whole(out / CARD) as part:
        part.write_text(_markdown(card, tars, schema), encoding="utf-8")
    with files.whole(out / CROISSANT) as part:
        words = json.dumps(_croissant(out, card, tars, schema), indent=1, ensure_ascii=False)
        part.write_text(words + "\n", encoding="utf-8")


def _markdown(card: Card, tars: list[str], schema: pa.Schema) -> str:
    parts = [_for_the_hub(tars)] if tars else []
    parts += [f"# {card.name}", card.about, "## Licence", card.licence or NO_LICENCE]
    for title, table in card.tables:
        parts += [f"## {title}", _table(table)]
    columns = ", ".join(f"`{field.name}` ({field.type})" for field in schema)
    parts += ["## Files", f"{len(tars):,} tars of pairs; `{card.main}` has the columns {columns}."]
    parts += ["## Known gaps", "\n".join(f"- {gap}" for gap in card.gaps)]
    return "\n\n".join(parts) + "\n"


def _for_the_hub(tars: list[str]) -> str:
    """The head by which the hub's viewer and `datasets` find the pairs."""
    names = f"{tars[0].rpartition('-')[0]}-*.tar"
    return f"---\nconfigs:\n- config_name: default\n  data_files: {names}\n---"


NO_LICENCE = (
    "None is given: each image belongs to whoever published it at its URL, and a licence of the "
    "list that named it does not cover the image."
)


def _table(table: pd.DataFrame) -> str:
    def row(cells: Iterable) -> str:
        return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"

    shown = (
        [f"{cell:,}" if isinstance(cell, int) else cell for cell in cells]
        for cells in table.itertuples(index=False)
    )
    return "\n".join([row(table.columns), row("---" for _ in table.columns), *map(row, shown)])


def _croissant(out: Path, card: Card, tars: list[str], schema: pa.Schema) -> dict:
    table = {
        "@type": "cr:FileObject",
        "@id": card.main,
        "name": card.main,
        "contentUrl": card.main,
        "encodingFormat": "application/x-parquet",
        "sha256": files.sha256(out / card.main),
    }
    shards = {
        "@type": "cr:FileSet",
        "@id": "tars",
        "name": "tars",
        "encodingFormat": "application/x-tar",
        "includes": "*.tar",
    }
    fields = [_field(card.main, field) for field in schema]
    pairs = {"@type": "cr:RecordSet", "@id": "pairs", "name": "pairs", "field": fields}
    licence = {"license": card.licence} if card.licence else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": card.name,
        "description": card.about,
        "conformsTo": SPECIFICATION,
        **licence,
        "distribution": [table, *([shards] if tars else [])],
        "recordSet": [pairs],
    }


def _field(table: str, field: pa.Field) -> dict:
    kinds = {pa.types.is_integer: "sc:Integer", pa.types.is_floating: "sc:Float"}
    kind = next((name for fits, name in kinds.items() if fits(field.type)), "sc:Text")
    return {
        "@type": "cr:Field",
        "@id": f"pairs/{field.name}",
        "name": field.name,
        "dataType": kind,
        "source": {"fileObject": {"@id": table}, "extract": {"column": field.name}},
    }
