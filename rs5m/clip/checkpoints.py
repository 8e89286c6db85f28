"""Checkpoints: read without running code, compared by name before loading, written for open_clip.
Chapter: clip.

What `export` adds to a file is one entry of its safetensors header, "rs5m", a JSON text:
architecture, quick_gelu, mean, std, image_size and whatever the caller knows of its making.
open_clip does not look at it; `rs5m.clip.load` does.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # of DistributedDataParallel and torch.compile
SIZES = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers that OpenAI's files carry beside the weights
SHOWN = 3  # tensors that a message names of each kind


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on the CPU, under the names of the bare network; nothing in the
    file is run.

    A safetensors file or a pickle: a plain state dict, or one under "state_dict" as open_clip's
    training writes it. FileNotFoundError; ValueError that names a file that is damaged, or holds
    more than tensors. Chapter: clip.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: give a checkpoint, .safetensors or a pickled state dict"
        )
    found = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    found = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not found:
        raise ValueError(
            f"{path} is not a checkpoint: it holds a {type(found).__name__}, not tensors by name"
        )
    odd = next(
        (
            f"{n!r} is a {type(v).__name__}"
            for n, v in found.items()
            if not isinstance(v, torch.Tensor)
        ),
        None,
    )
    if odd or not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"{path} is not a checkpoint: {odd or 'not all names are texts'}; give a plain state dict"
        )
    return {WRAPPERS.sub("", name): tensor for name, tensor in found.items() if name not in SIZES}


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or was cut short ({error}): fetch it again") from error


def _pickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle raises whatever its bytes lead to
        more = re.search(r"GLOBAL (\S+)|TorchScript", str(error))
        if isinstance(error, pickle.UnpicklingError) and path.read_bytes()[:1] in (b"<", b"{"):
            raise ValueError(
                f"{path} is a text, not a checkpoint: look into it, then fetch the file again"
            ) from error
        if more or isinstance(error, pickle.UnpicklingError):
            what = more and (more[1] or more[0]) or "something that torch does not read"
            raise ValueError(
                f"{path} holds more than tensors ({what}), and reading that could run code: get it as safetensors, or "
                "save its state_dict() alone where you trust it"
            ) from error
        raise ValueError(
            f"{path} is damaged or was cut short ({type(error).__name__}): fetch it again"
        ) from error


def facts(path: str | Path) -> dict:
    """What `export` wrote into the header of a file, as far as it makes sense; {} for any other
    file. Chapter: clip.
    """
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("rs5m", "{}"))
    except (
        SafetensorError,
        ValueError,
    ):  # `read` has the sentence for a damaged file; a strange header is no fact
        return {}
    return (
        {key: value for key, value in found.items() if _sensible(key, value)}
        if isinstance(found, dict)
        else {}
    )


def _sensible(key: str, value: object) -> bool:
    if key in ("mean", "std"):
        numbers = (
            isinstance(value, list)
            and len(value) == 3
            and all(type(v) in (int, float) for v in value)
        )
        return numbers and (key == "mean" or min(value) > 0)
    return {"architecture": str, "quick_gelu": bool, "image_size": int}.get(
        key, type(value)
    ) is type(value)


def difference(net: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """The first tensors that a network lacks, has too many of or shapes otherwise, in words; ""
    where all fit.
    """
    want = net.state_dict()
    kinds = {
        "it lacks": [name for name in want if name not in tensors],
        "it has no place for": [name for name in tensors if name not in want],
        "another shape has": [
            f"{name} ({_shape(tensors[name])}, not {_shape(want[name])})"
            for name in want
            if name in tensors and tensors[name].shape != want[name].shape
        ],
    }
    order = ("another shape has", "it lacks", "it has no place for")
    return "; ".join(f"{kind} {_first(kinds[kind])}" for kind in order if kinds[kind])


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (
        f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    )


def put(net: nn.Module, path: str | Path, name: str = "this network") -> None:
    """Load a checkpoint into a network in place; ValueError, naming the first tensors that differ,
    and no change.

    name: what the network is called in the message. Chapter: clip.
    """
    tensors, want = read(path), net.state_dict()
    for key in ("logit_scale", "logit_bias"):  # one number, or a list of one
        if key in tensors and key in want and tensors[key].numel() == want[key].numel() == 1:
            tensors[key] = tensors[key].reshape(want[key].shape)
    if unlike := difference(net, tensors):
        made = facts(path).get("architecture")
        cure = (
            f"it was exported from {made}: load that"
            if made
            else "load the architecture that it was made for"
        )
        raise ValueError(f"{path} does not fit {name}: {unlike}. {cure[0].upper()}{cure[1:]}")
    net.load_state_dict(tensors)


def export(model, path: str | Path, **more: object) -> Path:
    """Write a `rs5m.clip.Model` as one safetensors file that plain open_clip loads, whole or not at
    all.

    `open_clip.create_model(architecture, pretrained=path)` and `rs5m.clip.load(architecture,
    checkpoint=path)` compute the same logits. more: facts for the header that JSON can hold, such
    as base, recipe and run. The same model and facts give the same bytes. ValueError for adapters
    that were not merged. Chapter: clip.
    """
    from rs5m.clip.activation import uses

    path = Path(path)
    tensors = _plain(model.net)
    about = {
        "architecture": model.name,
        "quick_gelu": uses(model.net),
        "mean": list(model.mean),
        "std": list(model.std),
        "image_size": model.image_size,
    } | more
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:  # one entry alone: safetensors writes several in an order that changes from file to file
        save_file(tensors, temporary, {"rs5m": json.dumps(about, sort_keys=True)})
        with temporary.open("rb") as file:
            os.fsync(
                file.fileno()
            )  # else a power cut after the rename could leave a name without bytes
        temporary.replace(path)
    except SafetensorError as error:  # a full disk, among others
        raise OSError(
            f"{path} could not be written ({error}): free space, then export again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _plain(net: nn.Module) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU by open_clip's names; one that shares memory with another
    becomes a copy.
    """
    tensors, seen = {}, set()
    for name, tensor in net.state_dict().items():
        name = name.replace("_orig_mod.", "").removeprefix("module.")
        if ".base_layer." in name or ".lora_" in name or name.startswith("base_model."):
            raise ValueError(
                f"the network holds an adapter ({name}): merge it first, with rs5m.adapters.merge"
            )
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = (
            tensor.clone() if memory in seen else tensor
        )  # safetensors refuses shared memory
        seen.add(memory)
    return tensors
