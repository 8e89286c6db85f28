"""Adapters in a folder: written for this project and for peft, and loaded onto their base model
alone. Chapter: adapters.
"""

import copy
import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from rs5m.adapters.methods import Adapted, adapted_of, formula, identity, prepare
from rs5m.clip.checkpoints import write
from rs5m.clip.export import counterpart, is_clip
from rs5m.files import refuse_pointer, whole

UNREADABLE = (  # what a damaged or foreign file leads to
    OSError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    SafetensorError,
)
FILE = "adapter.safetensors"
PEFT = "adapter_model.safetensors"  # beside adapter_config.json, by peft's names


def save(net: nn.Module, folder: Path) -> None:
    """Write the trained tensors of a prepared network, and in their header what they were made by
    and for.

    folder/adapter.safetensors appears whole or not at all. Beside it are the files of
    peft.PeftModel.from_pretrained, except for full and head: lora and dora of CLIP's towers for
    transformers' CLIPModel (see `rs5m.clip.export.transformers`), anything else for the open_clip
    network, after `rs5m.adapters.split` where it is lora, once rs5m.adapters.tuners is imported
    where it is a method of ours. ValueError for a network that was not prepared.
    """
    plain, adapted = adapted_of(net)
    parameters = {name: plain.get_parameter(name).detach() for name in adapted.trained}
    tensors = {name: p.cpu().contiguous() for name, p in parameters.items()}
    header = {key: getattr(adapted, key) for key in ("method", "size", "towers", "base")}
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        write(tensors, temporary, {"rs5m": json.dumps(header)})
    if hasattr(plain, "peft_config"):
        _save_for_peft(plain, path.parent)


def _save_for_peft(plain: nn.Module, folder: Path) -> None:
    from peft import get_peft_model_state_dict

    config = copy.copy(plain.peft_config["default"])
    config.inference_mode = True
    moved = counterpart if plain.adapted.method in ("lora", "dora") and is_clip(plain) else str
    names = config.target_modules.replace("\\", "").split("|")
    config.target_modules = "|".join(re.escape(moved(name)) for name in names)
    tensors = {
        f"base_model.model.{moved(name)}": tensor.cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(plain).items()
    }
    config.save_pretrained(str(folder))
    with whole(folder / PEFT) as temporary:
        write(tensors, temporary, {"format": "pt"})


def load(net: nn.Module, folder: Path) -> nn.Module:
    """The general model `net` with the adapters that `save` wrote, as `prepare` returns it, ready
    to use or to train.

    ValueError that names the file and what is wrong: none there, damaged, or made for another base
    model.
    """
    path = Path(folder) / FILE
    try:
        tensors, adapted = _read(path)
        if difference := _difference(adapted.base, identity(net)):
            raise ValueError(f"it was made for another base model: {difference}")
        held, needed = sum(map(torch.numel, tensors.values())), formula(net, *adapted.settings())
        if held != needed:  # before anything is allocated by the file's word
            raise ValueError(
                f"it holds {held} numbers, and {adapted.method} of size {adapted.size} has {needed}"
            )
        wrapped = prepare(net, *adapted.settings())
        net.load_state_dict({name: tensors[name] for name in net.adapted.trained}, strict=False)
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    return wrapped


def _read(path: Path) -> tuple[dict[str, torch.Tensor], Adapted]:
    with path.open("rb") as stream:
        refuse_pointer(path, stream.read(99))
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {})["rs5m"])
        names = file.keys()  # no mapping: it cannot be iterated itself
        tensors = {name: file.get_tensor(name) for name in names}
    method, size, towers, base = (header[key] for key in ("method", "size", "towers", "base"))
    return tensors, Adapted(method, size, tuple(towers), dict(base))


def _difference(there: dict[str, str], here: dict[str, str]) -> str:
    """In words, where two base models differ; shapes first. Empty if they are the same."""
    names = [name for name in there | here if there.get(name) != here.get(name)]
    if not names:
        return ""
    was, now = (
        {name: base.get(name, "absent").split()[0] for name in names} for base in (there, here)
    )
    first = next((name for name in names if was[name] != now[name]), names[0])
    what = f"{first} has other values"
    if was[first] != now[first]:
        what = f"{first} is {was[first]} there and {now[first]} here"
    more = f", and {len(names) - 1} more tensors differ" if len(names) > 1 else ""
    return what + more
