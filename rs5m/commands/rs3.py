"""`rs5m rs3`: from labelled images to image-text pairs."""

import argparse
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from rs5m import results
from rs5m.book import scales
from rs5m.commands.options import LAYOUT, LAYOUTS, NEW

EXAMPLE = """
  rs5m rs3 --images chips --metadata metadata.parquet --out captioned
"""


def add(commands) -> None:
    add = commands.add_parser("rs3", help="from labelled images to image-text pairs")
    images = "The folder of images, all below it included."
    metadata = (
        "A folder or zip of fMoW's or BigEarthNet's json documents, or its metadata.parquet "
        "(default: none)."
    )
    captioner = (
        "A folder of rs5m.captions.prefix or BLIP-2, or BLIP-2's name on the hub (default: the one "
        "of the scale)."
    )
    adapter = "A folder with peft's adapter for BLIP-2 (default: none)."
    part = "The share of this process, every N-th shard from I; the last joins (default: 0/1)."
    add.add_argument("--images", required=True, metavar="PATH", help=images)
    add.add_argument("--metadata", default="", metavar="PATH", help=metadata)
    add.add_argument("--out", required=True, metavar="PATH", help=NEW)
    add.add_argument("--layout", default=LAYOUTS[0], choices=LAYOUTS, metavar="NAME", help=LAYOUT)
    scale = f"The scale whose models rank, of {', '.join(scales.SCALES)} (default: %(default)s)."
    add.add_argument("--scale", default="mini", metavar="NAME", help=scale)
    add.add_argument("--captioner", default="", metavar="NAME", help=captioner)
    add.add_argument("--adapter", default="", metavar="FOLDER", help=adapter)
    orders = ("metadata-first", "visual-first")
    order = "What a caption begins with, metadata-first or visual-first (default: %(default)s)."
    add.add_argument("--order", default=orders[0], choices=orders, metavar="ORDER", help=order)
    add.add_argument("--part", default="0/1", metavar="I/N", help=part)
    add.set_defaults(run=run)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m rs3`: run the stages and print what became of the images."""
    from rs5m import rs3
    from rs5m.rs3.input import listed

    listed(Path(arguments.images))  # bad input is reported before any captioner is loaded
    scale, part = scales.get(arguments.scale), _part(arguments.part)
    found = rs3.read_records(arguments.metadata) if arguments.metadata else rs3.Metadata({}, [])
    if found.left_out:
        first = "; ".join(f"{name} ({reason})" for name, reason in found.left_out[:10])
        print(f"rs3: {len(found.left_out)} metadata documents are left out: {first}")
    captioner, identity = _captioner(arguments.captioner, arguments.adapter, scale)
    identity += f", {_rankers_name(scale)}"
    order = arguments.order.replace("-", " ")
    settings = rs3.Settings(order=order, part=part, layout=arguments.layout)
    out = rs3.run(
        arguments.images,
        arguments.out,
        captioner,
        partial(_rankers, scale),
        found,
        identity,
        settings,
    )
    if (out / "dropped.parquet").is_file():
        print(rs3.summary(out).to_string(index=False))


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise ValueError(f"--part is {text!r}: give I/N with I from 0 to N - 1, such as 0/2")
    return int(i), int(n)


def _captioner(name: str, adapter: str, scale: scales.Scale) -> tuple:
    """What loads the captioner, and its name; a local folder's name goes with a digest of its
    files.
    """
    from rs5m import captions
    from rs5m.book import models
    from rs5m.captions import prefix
    from rs5m.rs3.input import folder_digest

    folder, bare = Path(name), not name and scale.model == "pocket"
    small = bool(name) and (folder / "captioner.json").is_file()
    if adapter and (small or bare):
        raise ValueError(
            f"--adapter {adapter} belongs to BLIP-2: name one with --captioner, or leave the "
            "adapter out"
        )
    if bare:
        from rs5m.book import runs

        # trained now if need be
        return partial(_pocket_captioner, scale), runs.captioner_folder(scale).name
    name = name or captions.BLIP2
    local = folder != Path() and folder.is_dir()
    # a folder is found again by another path
    identity = [folder.resolve().name, folder_digest(folder)] if local else [name]
    identity += [f"adapter {folder_digest(Path(adapter))}"] if adapter else []
    if small:
        prefix.load(folder)  # a broken one is reported before any ranker is tuned
        return lambda: _quiet(prefix.load(folder, models.general(scale))), " ".join(identity)
    return lambda: captions.Blip2Captioner(name, adapter or None, quiet=True), " ".join(identity)


def _pocket_captioner(scale: scales.Scale) -> SimpleNamespace:
    from rs5m.book import runs

    return _quiet(runs.captioner(scale))


def _quiet(made) -> SimpleNamespace:
    """A captioner without a progress bar of its own: the run's counts shards."""
    return SimpleNamespace(generate=partial(made.generate, quiet=True))


def _rankers_name(scale: scales.Scale) -> str:
    """The rankers in run.json; the pocket's are tuned now if need be."""
    if scale.model == "pocket":
        from rs5m.book import runs

        return runs.rankers_folder(scale).name
    return f"{scale.model} and RN50x64 at {scale.image_size} pixels"


def _rankers(scale: scales.Scale) -> tuple:
    from rs5m.book import models

    if scale.model == "pocket":
        from rs5m.book import runs

        return runs.rankers(scale)
    return models.general(scale), models.second(scale)
