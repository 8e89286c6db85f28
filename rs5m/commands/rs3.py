"""`rs5m rs3`: from labelled images to image-text pairs."""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from rs5m import results
from rs5m.commands import chat
from rs5m.commands.options import (
    LAYOUT,
    LAYOUTS,
    NEW,
    add_upload,
    check_upload,
    print_left_out,
    upload,
)

FIRST, SECOND = "ViT-H-14", "RN50x64-quickgelu"  # the paper's two rankers
POCKET = "pocket"
HUB = re.compile(r"[\w.-]+/[\w.-]+")  # a name there
ABOUT = """A captioner writes captions for images, two models rank them, and the one that fits
however the image is turned is joined with what is known of the image. The folder --out gets
shards of the pairs, tables of all that was kept and dropped and why, and report.html with
samples of both. The same command goes on with a run that was cut off."""
EXAMPLE = """
  rs5m rs3 --images chips --metadata metadata.parquet --captioner blip2-folder --out captioned
  rs5m rs3 --images chips --captioner pocket --model pocket --out tried
  rs5m rs3 --images chips --captioner-url http://gpu:8000/v1 --captioner-model NAME --out captioned
"""


def add(commands) -> None:
    """Add `rs5m rs3` to a parser's commands."""
    add = commands.add_parser(
        "rs3", help="from labelled images to image-text pairs", description=ABOUT
    )
    images = (
        "The folder of images, all below it included; from s3://, gs:// or hf:// they are copied "
        "once to OUT-images."
    )
    metadata = (
        "A folder or zip of fMoW's or BigEarthNet's json documents, or its metadata.parquet "
        "(default: none)."
    )
    part = "The share of this process, every N-th shard from I; the last joins (default: 0/1)."
    add.add_argument("--images", required=True, metavar="PATH", help=images)
    add.add_argument("--metadata", default="", metavar="PATH", help=metadata)
    add.add_argument("--out", required=True, metavar="PATH", help=NEW)
    add.add_argument("--layout", default=LAYOUTS[0], choices=LAYOUTS, metavar="NAME", help=LAYOUT)
    add_upload(add)
    _add_models(add)
    orders = ("metadata-first", "visual-first")
    order = "What a caption begins with, metadata-first or visual-first (default: %(default)s)."
    add.add_argument("--order", default=orders[0], choices=orders, metavar="ORDER", help=order)
    kinds = ("rotation", "top", "drawn")
    choice = (
        "The caption of a pair: rotation, the one that fits the turned image best, top, the best "
        "ranked one, or drawn, one of these two by chance, as the published RS3 has it (default: "
        "%(default)s); pairs.parquet has both."
    )
    add.add_argument("--choice", default=kinds[0], choices=kinds, metavar="RULE", help=choice)
    several = (
        "The captions that a pair keeps, the chosen one and the best ranked others, of which "
        "`rs5m tune` draws one each time (default: %(default)s, at most 5)."
    )
    add.add_argument("--captions", type=int, default=1, metavar="N", help=several)
    forms = ("all", "rgb", "msrgb")
    rendering = (
        "What to take of an fMoW view that comes as NAME_rgb and NAME_msrgb: rgb, msrgb, or all, "
        "as the published RS3 has it (default: %(default)s)."
    )
    add.add_argument("--rendering", default=forms[0], choices=forms, metavar="FORM", help=rendering)
    add.add_argument("--part", default="0/1", metavar="I/N", help=part)
    add.set_defaults(run=run)


def _add_models(add) -> None:
    captioner = (
        "A folder of BLIP-2 or of rs5m.captions.prefix, BLIP-2's name on the hub, or pocket, the "
        "small captioner that this book trains on its own made-up web (default: "
        "Salesforce/blip2-opt-6.7b, 31 GB)."
    )
    adapter = "A folder with peft's adapter for BLIP-2 (default: none)."
    first = (
        "The model that ranks first and sees the turned images: a name of open_clip, a released "
        "GeoRSCLIP, or pocket, the small pair of rankers of this book (default: %(default)s with "
        "LAION's weights, as in the paper)."
    )
    second = "The model that ranks what the first keeps (default: %(default)s, as in the paper)."
    weights = "A file of weights for {}, in place of those of the hub (default: none)."
    count = "The candidates that are written for an image (default: %(default)s, as in the paper)."
    add.add_argument("--captioner", default="", metavar="NAME", help=captioner)
    add.add_argument("--adapter", default="", metavar="FOLDER", help=adapter)
    add.add_argument("--candidates", type=int, default=20, metavar="N", help=count)
    chat.add(add)
    for name, default, text in (("", FIRST, first), ("second-", SECOND, second)):
        add.add_argument(f"--{name}model", default=default, metavar="NAME", help=text)
        file = weights.format(f"--{name}model")
        add.add_argument(f"--{name}checkpoint", default="", metavar="FILE", help=file)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m rs3`: check all that was typed, run the stages, and tell what became of the images."""
    print(f"rs5m rs3: checking {arguments.images} and the models", flush=True)
    part = _typed(arguments)
    from rs5m import rs3
    from rs5m.data import datasets, remote
    from rs5m.rs3 import card, report
    from rs5m.rs3.input import listed

    if remote.is_remote(arguments.images):
        here = Path(f"{arguments.out.rstrip('/')}-images")
        remote.fetch(arguments.images, here, datasets.ENDINGS)
        arguments.images = str(here)
    listed(Path(arguments.images))  # bad input is reported before any model is asked for
    found = rs3.read_records(arguments.metadata) if arguments.metadata else rs3.Metadata({}, [])
    if found.left_out:
        first = "; ".join(f"{name} ({reason})" for name, reason in found.left_out[:10])
        print(f"rs3: {len(found.left_out)} metadata documents are left out: {first}")
    settings = rs3.Settings(
        order=arguments.order.replace("-", " "),
        part=part,
        layout=arguments.layout,
        choice=arguments.choice,
        rendering=arguments.rendering,
        candidates=arguments.candidates,
        captions=arguments.captions,
    )
    captioner, writer = _captioner(arguments)
    rankers, judges = _rankers(arguments)
    out = rs3.run(
        arguments.images,
        arguments.out,
        captioner,
        rankers,
        found,
        f"{writer}, {judges}",
        settings,
        # the answers of a chat model and its budget lie in one file
        ("write",) if arguments.captioner_url else (),
    )
    if (out / "dropped.parquet").is_file():
        card.write(out)
        report.write(out, Path(arguments.images))
        print(rs3.summary(out).to_string(index=False))
        if asked := chat.told(out):
            print(asked)
        print(f"samples of what was kept and dropped: {out / report.PAGE}")
        print_left_out(out)
        upload(out, arguments.upload)


def _typed(arguments: argparse.Namespace) -> tuple[int, int]:
    """The part; what was typed is checked before anything large is imported or read. ValueError,
    FileNotFoundError.
    """
    chat.check(arguments)
    name = arguments.captioner
    if name not in ("", POCKET) and not Path(name).is_dir() and not HUB.fullmatch(name):
        raise FileNotFoundError(
            f"--captioner {name} is neither a folder nor an OWNER/NAME of the hub"
        )
    if arguments.adapter and name != POCKET and not Path(arguments.adapter).is_dir():
        raise FileNotFoundError(
            f"--adapter {arguments.adapter} is not a folder: check its spelling"
        )
    if arguments.metadata and not Path(arguments.metadata).exists():
        raise FileNotFoundError(
            f"--metadata {arguments.metadata} does not exist: check its spelling"
        )
    for option in ("checkpoint", "second_checkpoint"):
        file = getattr(arguments, option)
        if file and not Path(file).is_file():
            said = f"--{option.replace('_', '-')} {file} is not a file: check its spelling"
            raise FileNotFoundError(said)
    check_upload(arguments.upload)
    return _part(arguments.part)


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise ValueError(f"--part is {text!r}: give I/N with I from 0 to N - 1, such as 0/2")
    return int(i), int(n)


def _captioner(arguments: argparse.Namespace) -> tuple[Callable, str]:
    """What loads the captioner, and its name."""
    if arguments.captioner_url:
        return chat.captioner(arguments)
    return _local_captioner(arguments.captioner, arguments.adapter)


def _local_captioner(name: str, adapter: str) -> tuple[Callable, str]:
    """As `_captioner`; a local folder's name goes with a digest of its files."""
    from rs5m import captions
    from rs5m.captions import prefix
    from rs5m.rs3.input import folder_digest

    folder, small = Path(name), bool(name) and (Path(name) / "captioner.json").is_file()
    if adapter and (small or name == POCKET):
        raise ValueError(
            f"--adapter {adapter} belongs to BLIP-2: name one with --captioner, or leave the "
            "adapter out"
        )
    if name == POCKET:
        return _pocket_captioner()
    name = name or captions.BLIP2
    local = folder != Path() and folder.is_dir()
    # a folder is found again by another path
    identity = [folder.resolve().name, folder_digest(folder)] if local else [name]
    identity += [f"adapter {folder_digest(Path(adapter))}"] if adapter else []
    if small:
        prefix.load(folder)  # a broken one is reported before any ranker is asked for
        return partial(_prefix, folder), " ".join(identity)
    if not local:
        _ask_hub(name)
    return lambda: captions.Blip2Captioner(name, adapter or None, quiet=True), " ".join(identity)


def _ask_hub(name: str) -> None:
    """Say what a captioner of the hub weighs; OSError with the ways out where there is none."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    from rs5m.web import hub

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    print(f"asking the hub for {name}", flush=True)
    try:
        told = hub.ask(partial(HfApi().model_info, name, files_metadata=True, timeout=10))
    except Exception as error:  # the hub's own, its HTTP client's and plain ones
        raise OSError(
            f"{name} is not a folder here, and the hub does not give it ({hub.why(error)}): "
            "name a folder of BLIP-2 with --captioner, connect to the hub, or try --captioner "
            "pocket"
        ) from error
    size = sum(
        one.size or 0 for one in told.siblings or [] if one.rfilename.endswith(".safetensors")
    )
    print(f"the captioner is fetched when its turn comes: {size / 1e9:,.1f} GB", flush=True)


def _prefix(folder: Path) -> SimpleNamespace:
    """A captioner of rs5m.captions.prefix, whose general model is the pocket's."""
    from rs5m.book import models, scales
    from rs5m.captions import prefix

    return _quiet(prefix.load(folder, models.general(scales.get("mini"))))


def _pocket_captioner() -> tuple[Callable, str]:
    """The book's small captioner, trained now if need be."""
    from rs5m.book import runs, scales

    scale = scales.get("mini")
    print("the small captioner knows only the book's made-up web; it is trained once, then kept")
    return lambda: _quiet(runs.captioner(scale)), runs.captioner_folder(scale).name


def _quiet(made) -> SimpleNamespace:
    """A captioner without a progress bar of its own: the run's counts shards."""
    return SimpleNamespace(generate=partial(made.generate, quiet=True))


def _rankers(arguments: argparse.Namespace) -> tuple[Callable, str]:
    """What loads the two rankers, and their names with digests of what is loaded."""
    if arguments.model == POCKET and not arguments.checkpoint:
        from rs5m.book import runs, scales

        scale = scales.get("mini")
        print("the small rankers know only the book's made-up web; they are tuned once, then kept")
        return partial(runs.rankers, scale), runs.rankers_folder(scale).name
    from rs5m.clip import hub

    pair = {
        "--checkpoint": (arguments.model, arguments.checkpoint),
        "--second-checkpoint": (arguments.second_model, arguments.second_checkpoint),
    }
    names = ", ".join(hub.identity(*one, option) for option, one in pair.items())
    return lambda: tuple(hub.model_of(*one, option=key) for key, one in pair.items()), names
