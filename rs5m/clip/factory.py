"""Models by name: an architecture of open_clip, its weights, and a checkpoint over them; the way in
is `rs5m.clip.load`. Chapter: clip.
"""

import difflib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rs5m.clip import huggingface, known
from rs5m.clip.activation import NAMES, cure, probe, uses
from rs5m.clip.checkpoints import facts, positions, put
from rs5m.clip.model import Model
from rs5m.clip.openclip import open_clip
from rs5m.clip.pocket import POCKET_SIZE, pocket_model
from rs5m.clip.released import RELEASED, fetch
from rs5m.clip.remote import CONFIG, PREFIX, general, remote
from rs5m.device import device

REMOTE = (PREFIX, "local-dir:")  # names that bring their own configuration and weights


def with_checkpoint(model: Model, path: Path, told: tuple[bool, str] | None = None) -> Model:
    """The weights of a file, and the normalisation and size that its header states. told: as in
    `check`.
    """
    put(model.net, path, model.name)
    model.net.eval()
    header = facts(path)
    values = {key: tuple(header[key]) for key in ("mean", "std") if key in header}
    if model.name == "pocket":  # convolutions take any size
        values["image_size"] = header.get("image_size", model.image_size)
    model = replace(model, **values)
    check(model, path, told)
    return model


def named(name: str, tag: str | None, bare: bool, length: int | None = None) -> Model:
    """An architecture of open_clip with its weights. Errors of `load`.

    Args:
        name: of open_clip, or with one of the prefixes of a folder or the hub.
        tag: of weights; None: random ones.
        bare: only the tag's normalisation, a checkpoint gives the weights.
        length: tokens of a text, where it is not the architecture's.
    """
    options = of_weights(name, tag) | {"load_weights": not bare}
    if name.startswith(PREFIX):
        remote(name, not bare)
    elif tag and not bare and (address := open_clip.get_pretrained_cfg(name, tag).get("hf_hub")):
        try:
            general(name, address)
        except LookupError as error:
            raise OSError(
                f"the hub does not give the weights {tag} of {name} ({error.args[0]}): connect to "
                "the hub, or fetch them where there is a network and name the file as checkpoint"
            ) from error
    options["pretrained"] = None if bare or name.startswith(REMOTE) else tag
    if length:
        options["force_context_length"] = length
    try:
        with _quiet(bare):
            net, _, transform = open_clip.create_model_and_transforms(name, **options)
            tokenizer = open_clip.get_tokenizer(name, length)
    except ImportError:  # names the package to install
        raise
    except Exception as error:  # open_clip's own, the hub's, its HTTP client's and plain ones
        raise OSError(_not_loaded(name, tag, error)) from error
    norm, size = transform.transforms[-1], net.visual.image_size  # RN50x64 takes 448 pixels
    size = size[0] if isinstance(size, tuple) else size
    squash = net.visual.preprocess_cfg.get("resize_mode") == "squash"
    norm = tuple(norm.mean), tuple(norm.std)
    return Model(net.eval().to(device()), tokenizer, *norm, size, name, squash)


def _not_loaded(name: str, tag: str | None, error: Exception) -> str:
    """What could not be loaded, and the cure."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])[:200]
    why = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if name.startswith("local-dir:"):
        return f"{name} could not be loaded: {_of_folder(Path(name[len('local-dir:') :]), why)}"
    if name.startswith("hf-hub:"):
        return (
            f"{name} could not be loaded from the hub ({why}): check the name and the network, or "
            "fetch its files where there is one and name their folder as local-dir:FOLDER"
        )
    if tag and "download" in str(error):
        return (
            f"the weights {tag} of {name} could not be downloaded: fetch them where there is a "
            "network and name the file as checkpoint"
        )
    return (
        f"{name} could not be built ({why}): it may need files from the hub, or a newer open_clip"
    )


def _of_folder(folder: Path, why: str) -> str:
    """What is wrong with a folder of which neither library makes a model, and the cure."""
    if not folder.is_dir():
        return f"{folder} is not a folder: name one that holds a configuration and weights"
    if (folder / CONFIG).is_file():
        return f"its {CONFIG} and its weights are not whole, or of two networks ({why}): fetch both"
    if (folder / huggingface.CONFIG).is_file():
        found = huggingface.model_type(folder) or "no model"
        known = " and ".join(huggingface.NETWORKS)
        return (
            f"its {huggingface.CONFIG} is that of {found}, and of transformers' models {known} "
            "are read"
        )
    return (
        f"it has no {CONFIG}, nor transformers' {huggingface.CONFIG}: put the one that "
        "belongs to the weights beside them, or name the weights as checkpoint"
    )


@contextmanager
def _quiet(bare: bool) -> Iterator[None]:
    """No word from open_clip that the weights are random where a checkpoint is about to replace
    them.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING if bare else before)
    try:
        yield
    finally:
        logging.disable(before)


def of_weights(name: str, tag: str | None) -> dict:
    """open_clip's normalisation of a tag's weights; ValueError for an unknown name or tag, or the
    wrong activation.
    """
    if name.startswith(REMOTE):
        return {}
    theirs = open_clip.list_models()
    if name not in theirs:
        raise ValueError(known.unknown(name, theirs))
    if not tag:
        return _usual(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        meant = known.meant(difflib.get_close_matches(tag, tags, 1))
        every = ", ".join(tags) or "none, it has none"
        raise ValueError(f"unknown weights {tag!r} of {name}: {meant}choose {every}")
    quick = of_tag(name, tag)
    if quick != bool(open_clip.get_model_config(name).get("quick_gelu")):
        raise ValueError(
            f"the weights {tag} of {name} were trained with {NAMES[quick]}, and {name} computes "
            f"{NAMES[not quick]}: {cure(name, quick)}"
        )
    config = open_clip.get_pretrained_cfg(name, tag)
    return {"image_mean": config["mean"], "image_std": config["std"]}


def _usual(name: str) -> dict:
    """How all released weights of an architecture want their images, as SigLIP's do; {} where they
    differ, or there are none.
    """
    keys = {"image_mean": "mean", "image_std": "std", "image_resize_mode": "resize_mode"}
    tags = open_clip.list_pretrained_tags_by_model(name)
    every = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    wanted = [{ours: one.get(theirs) for ours, theirs in keys.items()} for one in every]
    alike = bool(wanted) and all(one == wanted[0] for one in wanted)
    return wanted[0] if alike else {}


def load(
    name: str, pretrained: str | Path | None = None, checkpoint: str | Path | None = None
) -> Model:
    """A model by name, on the device, ready to encode.

    ValueError for an unknown name or tag, weights that do not fit, or the wrong one of GELU and
    QuickGELU (a warning where that is only likely, see `rs5m.clip.activation`); OSError that says
    what to put where for weights that are not available.

    Args:
        name: an architecture of open_clip ("ViT-B-32-quickgelu"), its "hf-hub:..." or
            "local-dir:..." (a folder of open_clip, or of transformers' CLIPModel or SiglipModel),
            a released model (`rs5m.clip.known.models`), or "pocket".
        pretrained: open_clip's tag of general weights; None: random weights.
        checkpoint: a safetensors file or a pickled state dict of that architecture, in place of the
            general weights.
    """
    known.check_single(name, pretrained)
    if name in RELEASED:
        checkpoint, name = checkpoint or fetch(name), RELEASED[name].architecture
    elif name in known.models():
        return _known(known.models()[name], checkpoint)
    if name == "pocket":
        model = pocket_model(POCKET_SIZE)
    elif name.startswith("local-dir:") and huggingface.kind(folder := name[len("local-dir:") :]):
        model = huggingface.load(folder)
        if not checkpoint:
            check(model, folder)
    else:
        model = named(name, pretrained, bare=bool(checkpoint))
    return with_checkpoint(model, Path(checkpoint)) if checkpoint else model


def _known(one: known.Known, checkpoint: str | Path | None) -> Model:
    """A released model that is not GeoRSCLIP's own; its weights may lie elsewhere."""
    if one.format == "open_clip":
        model = named(f"hf-hub:{one.source}", None, bare=bool(checkpoint))
        return with_checkpoint(model, Path(checkpoint)) if checkpoint else model
    path = Path(checkpoint) if checkpoint else known.weights(one.name)
    told = None if one.quick_gelu is None else (one.quick_gelu, "as released")
    if one.format == "transformers" and huggingface.kind(path.parent):
        model = huggingface.load(path.parent, one.architecture)
        check(model, path, told)
        return model
    length = one.text_length or positions(path)
    return with_checkpoint(named(one.architecture, None, True, length), path, told)


def of_tag(name: str, tag: str) -> bool:
    """Whether open_clip's pretrained weights of that name and tag were trained with QuickGELU."""
    return bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))


def of_file(path: str | Path) -> tuple[bool, str] | None:
    """Whether a checkpoint was trained with QuickGELU, and who says so; None where nothing is
    known.
    """
    written = facts(path).get("quick_gelu")
    if isinstance(written, bool):
        return written, "by its header"
    for one in known.models().values():
        alike = one.format == "state dict" and Path(one.file).name == Path(path).name
        if alike and one.quick_gelu is not None:
            return one.quick_gelu, "as released under that name"
    return None


def check(model, path: str | Path, told: tuple[bool, str] | None = None) -> None:
    """Compare a loaded checkpoint with the network it was loaded into.

    told: whether it was trained with QuickGELU, and who says so; None: what `of_file` knows.

    ValueError where it is known that the file was trained with the other activation; a warning
    where the photographs fit the other one clearly better. Both name the cure.
    """
    computes = uses(model.net)
    if computes is None:
        return
    name, told = model.name or "this network", told or of_file(path)
    own, other = NAMES[computes], NAMES[not computes]
    if told and told[0] != computes:
        raise ValueError(
            f"{path} was trained with {other} ({told[1]}), but {name} computes {own}: "
            f"{cure(model.name, told[0])}"
        )
    if not told and (losses := probe(model)).other_fits:
        warnings.warn(
            f"{path} fits {other} clearly better than the {own} of {name} "
            f"(loss of known photographs {losses.other:.2f}, not {losses.own:.2f}): "
            f"{cure(model.name, not computes)}",
            stacklevel=3,
        )
