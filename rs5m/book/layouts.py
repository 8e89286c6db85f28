"""Which layouts of checkpoints and of data are read, from the very tables that the readers use.
Chapter: clip, data.
"""

from collections import Counter

import pandas as pd

from rs5m.clip import checkpoints, formats, huggingface, known
from rs5m.data import datasets, found, sample, shards, tables
from rs5m.data.datasets.labelled import LAYOUTS
from rs5m.evaluate import embed, labelled, stored

RELEASED = {  # how a release is read, by models.toml's word for its format
    "state dict": "tensors by name, in safetensors or as torch saves them",
    "zip": "the same, a member of a zip archive",
    "open_clip": "a repository that open_clip loads, with its configuration and tokenizer",
    "transformers": "a folder with config.json and weights, by a map of names",
}


def networks() -> pd.DataFrame:
    """The networks whose names of tensors are known, by the names that no other one has."""
    every = Counter(name for names in formats.FORMATS.values() for name in names)
    rows = []
    for how, names in formats.FORMATS.items():
        own = [name for name in names if every[name] == 1] or names
        rows.append((how, ", ".join(own)))
    return pd.DataFrame(rows, columns=["network", "told by"])


def releases() -> pd.DataFrame:
    """How many released models come in each format, and one of them."""
    every = list(known.models().values())
    rows = []
    for kind, how in RELEASED.items():
        names = [one.name for one in every if one.format == kind]
        rows.append((kind, how, len(names), names[-1]))
    return pd.DataFrame(rows, columns=["format", "read as", "models", "such as"])


def wrappers() -> str:
    """What stands around weights and is taken off, as a sentence."""
    return (
        f"weights under {', '.join(checkpoints.NESTED)} are found; module. and _orig_mod. are "
        f"taken off names; {checkpoints.LONG} is joined behind {checkpoints.KEPT} places; of "
        f"transformers' models {' and '.join(huggingface.NETWORKS)} are read"
    )


def data() -> pd.DataFrame:
    """The layouts of data that `rs5m tune` and `rs5m evaluate` read, and what is looked for."""
    pictures = ", ".join(datasets.ENDINGS)
    texts, splits = ", ".join(sample.TEXTS), ", ".join(labelled.ORDER)
    rows = [
        ("webdataset's shards", "both", ", ".join(shards.ENDINGS), f"beside an image: {texts}"),
        ("table", "both", ", ".join(tables.ENDINGS), "columns as below"),
        ("Hugging Face's imagefolder", "both", ", ".join(found.METADATA), "columns as below"),
        ("images with a text beside each", "tune", pictures, "a .txt or .json of one stem"),
        ("COCO's captions", "tune", ".json", "images and annotations"),
        ("a folder for each class", "evaluate", pictures, f"the first split of {splits}"),
        ("vectors", "evaluate", ", ".join(embed.ENDINGS[:1]), ", ".join(stored.FORMS)),
    ]
    for name, (place, _, zips) in LAYOUTS.items():
        rows.append((f"{name} as published", "evaluate", ", ".join((f"{place}/", *zips)), ""))
    return pd.DataFrame(rows, columns=["layout", "read by", "files", "looked for"])


def columns() -> pd.DataFrame:
    """The names of a table's columns that are found without being told."""
    names = {"image": found.IMAGES, "caption": found.CAPTIONS, "label": labelled.NAMES}
    rows = [(what, ", ".join(some)) for what, some in names.items()]
    return pd.DataFrame(rows, columns=["column", "names, without spaces and strokes"])
