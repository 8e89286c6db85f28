"""Checkpoints: read without running code, compared by name before loading, written for open_clip.
Chapter: clip.

What `export` adds to a file is one entry of its safetensors header, "rs5m", a JSON text:
architecture, quick_gelu, mean, std, image_size and whatever is known about how it was made.
open_clip does not look at it; `rs5m.clip.load` does.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from rs5m.clip import formats
from rs5m.clip.activation import uses
from rs5m.files import kind, refuse_pointer, whole

# what DistributedDataParallel and torch.compile put into names
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
NESTED = ("state_dict", "model_state_dict", "model", "module", "net")  # where trainers put weights
SIZES = ("input_resolution", "context_length", "vocab_size")  # beside the weights in OpenAI's files
# Long-CLIP's second table of positions, which holds but for the first places
LONG, KEPT = "positional_embedding_res", 20


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on the CPU, under the names of the bare network; nothing in the
    file is run.

    A safetensors file or a pickle, distinguished by content: a plain state dict, or one under a
    key of NESTED as trainers write it. FileNotFoundError; ValueError that names a file that is
    damaged, of another kind, or holds more than tensors.
    """
    path = Path(path)
    content = _safetensors(path) if is_safetensors(path) else _pickled(path)
    if isinstance(content, Mapping):
        inner = (content[key] for key in NESTED if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, not tensors by name"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path} is not a checkpoint: {name!r} is a {type(value).__name__}; "
                "give a plain state dict"
            )
    tensors = {}
    for name, tensor in content.items():
        bare = WRAPPERS.sub("", name)
        if bare in tensors:
            raise ValueError(f"{path} holds {bare} twice, in a wrapper and without: keep one")
        if bare not in SIZES:
            tensors[bare] = tensor
    finite = (name for name, one in tensors.items() if not one.isfinite().all())
    if bad := list(finite):
        raise ValueError(
            f"{path} holds numbers that are not finite, in {formats.first(bad)}: fetch it again, "
            "or name one from before its training diverged"
        )
    if LONG in tensors and "positional_embedding" in tensors:
        kept, rest = tensors["positional_embedding"], tensors.pop(LONG)
        tensors["positional_embedding"] = torch.cat([kept[:KEPT], rest[KEPT:]])
    return tensors


def positions(path: str | Path) -> int | None:
    """The tokens of a text that a checkpoint of CLIP's text tower has places for."""
    tensors = read(path)
    names = ("positional_embedding", "text.positional_embedding")
    return next((len(tensors[name]) for name in names if name in tensors), None)


def is_safetensors(path: Path) -> bool:
    """Whether a file is in the safetensors format, by its content; by its ending where too little
    is left of it. FileNotFoundError; ValueError for what is known not to be a checkpoint.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: name the checkpoint in it")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: give a checkpoint, .safetensors or a pickled state dict"
        )
    with path.open("rb") as stream:
        start = stream.read(512)
    refuse_pointer(path, start)
    if (what := kind(start)) == "safetensors":
        return True
    if what not in ("", "empty", "a zip"):
        raise ValueError(
            f"{path} is {what}, not a checkpoint: look into it, then fetch the file again"
        )
    pickled = start.startswith((b"PK", b"\x80"))
    if start and not pickled and path.suffix != ".safetensors":
        raise ValueError(
            f"{path} is not a checkpoint: it begins like neither safetensors nor what torch saves"
        )
    return path.suffix == ".safetensors" and not pickled


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or was cut short ({error}): fetch it again") from error


def _pickled(path: Path) -> object:
    try:
        with path.open("rb") as stream:  # given a path, torch would go by its ending
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises whatever its bytes lead to
        if _is_plain_zip(path):
            raise ValueError(
                f"{path} is a zip archive, not a checkpoint: unpack it and name the file in it"
            ) from error
        more = re.search(r"GLOBAL (\S+)|TorchScript", str(error))
        if more or isinstance(error, pickle.UnpicklingError):
            what = more and (more[1] or more[0]) or "something that torch does not read"
            raise ValueError(
                f"{path} holds more than tensors ({what}), and reading that could run code: get it "
                "as safetensors, or save its state_dict() alone where you trust it"
            ) from error
        raise ValueError(
            f"{path} is damaged or was cut short ({type(error).__name__}): fetch it again"
        ) from error


def _is_plain_zip(path: Path) -> bool:
    """Whether a file is a whole zip archive that torch did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # a damaged or hostile archive, too, raises whatever its bytes lead to
        return False


def facts(path: str | Path) -> dict:
    """What `export` wrote into the header of a file, as far as it makes sense; {} for any other."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("rs5m", "{}"))
    except (OSError, SafetensorError, ValueError):  # `read` has the sentence for a damaged file
        return {}
    if not isinstance(header, dict):
        return {}
    return {key: value for key, value in header.items() if _sensible(key, value)}


def _sensible(key: str, value: object) -> bool:
    if key in ("mean", "std"):
        if not isinstance(value, list) or len(value) != 3:
            return False
        numbers = all(type(v) in (int, float) for v in value)
        return numbers and (key == "mean" or min(value) > 0)
    kinds = {"architecture": str, "quick_gelu": bool, "image_size": int}
    return type(value) is kinds.get(key, type(value))


def difference(net: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """The first tensors that a network lacks, has too many of, or has in another shape or kind of
    number, in words; "" where all fit.
    """
    want = net.state_dict()
    both = [name for name in want if name in tensors]
    unlike = {
        "another shape has": [
            f"{name} ({_shape(tensors[name])}, not {_shape(want[name])})"
            for name in both
            if tensors[name].shape != want[name].shape
        ],
        "another kind of number has": [  # quantised weights, which would load as large floats
            f"{name} ({tensors[name].dtype}, not {want[name].dtype})"
            for name in both
            if tensors[name].is_floating_point() != want[name].is_floating_point()
        ],
        "it lacks": [name for name in want if name not in tensors],
        "it has no place for": [name for name in tensors if name not in want],
    }
    return "; ".join(f"{how} {formats.first(names)}" for how, names in unlike.items() if names)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def put(net: nn.Module, path: str | Path, name: str = "this network") -> None:
    """Load a checkpoint into a network in place; ValueError, naming the first tensors that differ,
    and no change.

    A prefix that all names share, such as Lightning's `model.`, is taken off where that alone makes
    them fit, and this is printed. name: what the network is called in the message.
    """
    tensors, prefix = _without_prefix(net, read(path))
    want = net.state_dict()
    for key in ("logit_scale", "logit_bias"):  # one number, or a list of one
        if key in tensors and key in want and tensors[key].numel() == want[key].numel() == 1:
            tensors[key] = tensors[key].reshape(want[key].shape)
    if unlike := difference(net, tensors):
        even = f", even without the prefix {prefix!r} of its names" if prefix else ""
        cure = _cure(tensors, want, facts(path).get("architecture"))
        raise ValueError(f"{path} does not fit {name}{even}: {unlike}. {cure}")
    if prefix:
        print(f"{path}: all names begin with {prefix!r}, which is left out")
    net.load_state_dict(tensors)


def _without_prefix(net: nn.Module, tensors: dict) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors less that prefix, of those that all names share, with which most names fit."""
    want = net.state_dict().keys()
    shared = os.path.commonprefix(list(tensors))
    ends = [0] + [i + 1 for i, letter in enumerate(shared) if letter == "."]
    best = max(ends, key=lambda end: len({name[end:] for name in tensors} & want))
    return {name[best:]: tensor for name, tensor in tensors.items()}, shared[:best]


def _cure(tensors: Mapping, want: Mapping, architecture: str | None) -> str:
    if architecture:
        return f"It was exported from {architecture}: load that"
    if any("|" in name for name in tensors):
        return "It is the state of a tuning run: name the open_clip_model.safetensors beside it"
    if any("lora_" in name or ".tuned_parts." in name for name in tensors):
        return "It holds adapters: load the general model, then rs5m.adapters.load"
    if any("vision_model." in name for name in tensors):
        return (
            "It has the names of transformers' CLIPModel: put it beside its config.json, as "
            "model.safetensors or pytorch_model.bin, and load local-dir:FOLDER"
        )
    cure = "Load the architecture that it was made for"
    if all(name in want and one.shape == want[name].shape for name, one in tensors.items()):
        cure = f"It has {len(tensors)} of the {len(want)} tensors: fetch the whole file"
    return f"{formats.nearest(tensors)}{cure}"


def export(model, path: str | Path, **more: object) -> Path:
    """Write a `rs5m.clip.Model` as one safetensors file that plain open_clip loads, whole or not at
    all.

    `open_clip.create_model(architecture, pretrained=path)` and `rs5m.clip.load(architecture,
    checkpoint=path)` compute the same logits. more: facts for the header that JSON can hold, such
    as base, recipe and run. The same model and facts give the same bytes. ValueError for adapters
    that were not merged.
    """
    path, tensors = Path(path), _plain(model.net)
    header = {
        "architecture": model.name,
        "quick_gelu": uses(model.net),
        "mean": list(model.mean),
        "std": list(model.std),
        "image_size": model.image_size,
    } | more
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        # one entry alone: safetensors writes several in an order that changes from file to file
        write(tensors, temporary, {"rs5m": json.dumps(header, sort_keys=True)})
    return path


def write(tensors: dict[str, torch.Tensor], path: Path, header: dict[str, str]) -> None:
    """safetensors' save_file; a full disk, which it reports as its own error, is an OSError."""
    try:
        save_file(tensors, path, header)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else None, str(error)) from error


def _plain(net: nn.Module) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU by open_clip's names; one that shares memory with another
    becomes a copy.
    """
    tensors, seen = {}, set()
    for name, tensor in net.state_dict().items():
        name = WRAPPERS.sub("", name)
        if ".base_layer." in name or ".lora_" in name or name.startswith("base_model."):
            raise ValueError(
                f"the network holds an adapter ({name}): merge it first, with rs5m.adapters.merge"
            )
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        # safetensors refuses shared memory
        tensors[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return tensors
