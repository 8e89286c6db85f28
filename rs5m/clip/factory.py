"""Models by name: an architecture of open_clip, its weights, and a checkpoint over them. Chapter: clip.

`rs5m.clip.load` is the way in.
"""

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rs5m import checkpoints, clip, hub, quickgelu
from rs5m.clip import Model, open_clip

REMOTE = ("hf-hub:", "local-dir:")  # names that bring their own configuration and weights


def with_checkpoint(model: Model, path: Path) -> Model:
    """The weights of a file, and the normalisation and size that its header tells. Chapter: clip."""
    checkpoints.put(model.net, path, model.name)
    model.net.eval()
    told = checkpoints.facts(path)
    values = {key: tuple(told[key]) for key in ("mean", "std") if key in told}
    if model.name == "pocket":  # convolutions take any size
        values["image_size"] = told.get("image_size", model.image_size)
    model = replace(model, **values)
    quickgelu.check(model, path)
    return model


def named(name: str, tag: str | None, bare: bool) -> Model:
    """An architecture of open_clip with the weights of a tag, or with `bare` only the tag's normalisation.

    Errors of `rs5m.clip.load`. Chapter: clip.
    """
    options = _tag(name, tag) | {"load_weights": not bare}
    options["pretrained"] = None if bare or name.startswith(REMOTE) else tag
    try:
        with _quiet(bare):
            net, _, transform = open_clip.create_model_and_transforms(name, **options)
    except RuntimeError as error:
        if not tag or "download" not in str(error):
            raise
        raise OSError(f"the weights {tag} of {name} could not be downloaded: fetch them where there is a network and "
                      "name the file as checkpoint") from error  # fmt: skip
    norm, size = transform.transforms[-1], net.visual.image_size  # RN50x64 takes 448 pixels
    size = size[0] if isinstance(size, tuple) else size
    tokenizer = open_clip.get_tokenizer(name)
    return Model(net.eval().to(clip.device()), tokenizer, tuple(norm.mean), tuple(norm.std), size, name)


@contextmanager
def _quiet(bare: bool) -> Iterator[None]:
    """No word from open_clip that the weights are random where a checkpoint is about to replace them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING if bare else before)
    try:
        yield
    finally:
        logging.disable(before)


def _tag(name: str, tag: str | None) -> dict:
    """open_clip's normalisation of a tag's weights; ValueError for an unknown name or tag, or the wrong activation."""
    if name.startswith(REMOTE):
        return {}
    known = open_clip.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *hub.RELEASED], 4) or ["ViT-B-32-quickgelu", "ViT-H-14"]
        raise ValueError(f"unknown model {name!r}: choose pocket, {', '.join(hub.RELEASED)} or one of open_clip's "
                         f"{len(known)}, such as {', '.join(near)} (open_clip.list_models() has all)")  # fmt: skip
    if not tag:
        return {}
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise ValueError(f"unknown weights {tag!r} of {name}: choose {', '.join(tags) or 'none, it has none'}")
    quick = quickgelu.of_tag(name, tag)
    if quick != bool(open_clip.get_model_config(name).get("quick_gelu")):
        raise ValueError(f"the weights {tag} of {name} were trained with {quickgelu.NAMES[quick]}, and {name} computes "
                         f"{quickgelu.NAMES[not quick]}: {quickgelu.cure(name, quick)}")  # fmt: skip
    told = open_clip.get_pretrained_cfg(name, tag)
    return {"image_mean": told["mean"], "image_std": told["std"]}
