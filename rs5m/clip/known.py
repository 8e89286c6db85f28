"""Released models by name, whatever their format: what is known of each (models.toml, beside
GeoRSCLIP's own), and where its weights are. Chapter: clip.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tomllib
import zipfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from rs5m.clip import released
from rs5m.files import refuse_full, whole
from rs5m.web import hub

ACTIVATIONS = {True: "quickgelu", False: "gelu", None: "unknown"}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of transformers
FLAX = "flax_model.msgpack"
FLAX_WAY_OUT = (
    "there are weights for flax alone: with flax and transformers 4 installed, write "
    "CLIPModel.from_pretrained(PLACE, from_flax=True).save_pretrained(FOLDER) and name "
    "local-dir:FOLDER"
)
BESIDE = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json")
BESIDE += ("tokenizer_config.json", "spiece.model")  # the last of SigLIP's older tokenizers


class FlaxOnly(OSError):
    """The weights that there are cannot be read here."""


class Known(NamedTuple):
    """A released model as its authors describe it; the fields are those of models.toml."""

    name: str
    architecture: str
    activation: str
    text_length: int
    licence: str
    source: str
    file: str
    format: str

    @property
    def quick_gelu(self) -> bool | None:
        """What the weights were trained with; None where it is not known."""
        return {"quickgelu": True, "gelu": False}.get(self.activation)


@cache
def _others() -> dict[str, Known]:
    text = (files("rs5m.clip") / "models.toml").read_text(encoding="utf-8")
    return {name: Known(name, **row) for name, row in tomllib.loads(text).items()}


def models() -> dict[str, Known]:
    """Every released model by name, GeoRSCLIP's first."""
    own = {
        name: Known(
            name, one.architecture, ACTIVATIONS[one.quick_gelu], 77, "cc", released.REPO,
            f"ckpt/{one.file}", "state dict",
        )
        for name, one in released.RELEASED.items()
    }  # fmt: skip
    return own | _others()


def near(name: str, others: list[str] = ()) -> list[str]:
    """The four names of models that a wrong one may mean, of these others, too."""
    return like(name, ["pocket", *models(), *others])


def like(name: str, names: list[str]) -> list[str]:
    """The four of some names that hold a wrong one or else are most like it, in capitals or not."""
    every, lower = {one.lower(): one for one in names}, name.lower()
    if lower in every:
        return [every[lower]]
    holding = [one for one in every if lower and lower in one]
    return [every[one] for one in holding or difflib.get_close_matches(lower, every, 4)][:4]


def meant(near: list[str]) -> str:
    """The question after a wrong name; "" where none is near."""
    return f"did you mean {' or '.join(near)}? " if near else ""


def check_single(name: str, tag: str | Path | None) -> None:
    """ValueError for a tag of a model that is one set of weights: the pocket's and the released."""
    if tag and (name == "pocket" or name in models()):
        raise ValueError(f"{name} is one set of weights: leave its tag {tag} out")


def unknown(name: str, others: list[str]) -> str:
    """What is said of a name that no model has; others: open_clip's names."""
    return (
        f"unknown model {name!r}: {meant(near(name, others))}choose pocket, one of `rs5m models` "
        f"or one of open_clip's {len(others)} (open_clip.list_models() has all)"
    )


def weights(name: str) -> Path:
    """The file of a model's weights: from ckpt/ in the folder RS5M_DATA if it is there, else from
    where it was released; for transformers, with its config.json beside it.

    OSError that says what to put where if it is available from neither.
    """
    one = models()[name]
    if name in released.RELEASED:
        return released.fetch(name)
    folder = Path(os.environ.get("RS5M_DATA") or "data") / "ckpt"
    inside = f"{name}/{one.file}" if one.format == "transformers" else one.file
    if one.file and (folder / inside).is_file():
        return folder / inside
    if not one.file:
        raise OSError(
            f"{name}: the name of its file in {one.source} is not known here: download it and "
            "name it with --checkpoint"
        )
    try:
        return _member(one, folder) if one.format == "zip" else _of_hub(one)
    except FlaxOnly:
        raise
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        refuse_full(error, f"the cache of {one.file}")
        raise OSError(
            f"{name} could not be fetched from {one.source} ({hub.why(error)}): download "
            f"{one.file} there and put it at {folder / inside} (RS5M_DATA names the folder)"
        ) from error


def _of_hub(one: Known) -> Path:
    from huggingface_hub.errors import EntryNotFoundError

    if one.format != "transformers":
        return hub.fetch(one.source, one.file)
    for file in BESIDE:
        try:
            hub.fetch(one.source, file)
        except EntryNotFoundError:
            if file == BESIDE[0]:
                raise
    for file in dict.fromkeys((one.file, *WEIGHTS)):
        try:
            return hub.fetch(one.source, file)
        except EntryNotFoundError as error:
            missing = error
    try:
        hub.size(one.source, FLAX)
    except EntryNotFoundError:
        raise missing from None
    way_out = FLAX_WAY_OUT.replace("PLACE", repr(one.source))
    raise FlaxOnly(f"{one.name}: in {one.source} {way_out}")


def _member(one: Known, folder: Path) -> Path:
    """A member of a zip, which lies in the folder or is fetched, as a file of its own."""
    from rs5m.web import download

    packed = folder / one.source.rpartition("/")[2]
    if not packed.is_file():
        packed = download.fetch(one.source)
    path = (folder if packed.parent == folder else packed.parent) / one.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(packed) as archive,
            archive.open(one.file) as source,
            whole(path) as temporary,
            temporary.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 2**20)
    return path
