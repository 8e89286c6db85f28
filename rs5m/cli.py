"""The `rs5m` command. Chapter: setup."""

import argparse
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from rs5m.book import scales


def pub11_command(arguments: argparse.Namespace) -> None:
    """`rs5m pub11`: run the stages and print the attrition table."""
    from rs5m import pub11, web
    from rs5m.book.judge import Model

    limits = web.Limits(allow_loopback=arguments.allow_loopback)
    model = Model(scales.get(arguments.scale).name, arguments.detector)
    pairs = (
        arguments.pairs[0] if len(arguments.pairs) == 1 else arguments.pairs
    )  # a shell may have expanded the glob
    out = pub11.run(pairs, arguments.out, model, limits)
    print(pub11.attrition(out).to_string(index=False))


def rs3_command(arguments: argparse.Namespace) -> None:
    """`rs5m rs3`: run the stages and print what became of the images."""
    from rs5m import rs3
    from rs5m.rs3.input import listed

    listed(Path(arguments.images))  # a bad folder is reported before any captioner is loaded
    scale, part = scales.get(arguments.scale), _part(arguments.part)
    captioner, identity = _captioner(arguments.captioner, arguments.adapter, scale)
    found = rs3.read_records(arguments.metadata) if arguments.metadata else rs3.Metadata({}, [])
    if found.left_out:
        first = "; ".join(f"{name} ({reason})" for name, reason in found.left_out[:10])
        print(f"rs3: {len(found.left_out)} metadata documents are left out: {first}")
    identity += f", {_rankers_name(scale)}"
    order = arguments.order.replace("-", " ")
    out = rs3.run(
        arguments.images,
        arguments.out,
        captioner,
        partial(_rankers, scale),
        found.records,
        identity,
        order=order,
        part=part,
    )
    if (out / "dropped.parquet").is_file():
        print(rs3.summary(out).to_string(index=False))


def tune_command(arguments: argparse.Namespace) -> None:
    """`rs5m tune`: tune by a recipe, write the model and the run's JSON, and print where and how
    far.
    """
    from rs5m.tune import recipes

    recipe = recipes.change(recipes.get(arguments.recipe), arguments.set)
    said = recipes.run(
        recipe,
        arguments.data,
        arguments.out,
        arguments.checkpoint,
        arguments.workers,
        arguments.board,
    )
    if said:  # the first process of several
        print(said)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """`rs5m evaluate`: the official evaluation, its JSON and its table."""
    from rs5m.evaluate import official

    official.run(
        arguments.model, arguments.checkpoint, arguments.data, arguments.tasks, arguments.out
    )


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
            f"--adapter {adapter} belongs to BLIP-2: name one with --captioner, or leave the adapter out"
        )
    if bare:
        from rs5m.book import runs

        return partial(_pocket_captioner, scale), runs.captioner_folder(
            scale
        ).name  # trained now if need be
    name = name or captions.BLIP2
    local = folder != Path() and folder.is_dir()
    identity = (
        [folder.resolve().name, folder_digest(folder)] if local else [name]
    )  # found again by another path
    identity += [f"adapter {folder_digest(Path(adapter))}"] if adapter else []
    if small:
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


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per task."""
    root = argparse.ArgumentParser(
        prog="rs5m", description="RS5M and GeoRSCLIP, rebuilt line by line"
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    pub11 = commands.add_parser("pub11", help="from listed web pairs to clean remote-sensing pairs")
    pub11.add_argument(
        "--pairs",
        required=True,
        nargs="+",
        help="parquet files with url and text, a glob or a folder",
    )
    pub11.add_argument("--out", required=True, help="a new folder, or one of an interrupted run")
    pub11.add_argument(
        "--scale", default="mini", help=f"whose general model judges: {', '.join(scales.SCALES)}"
    )
    pub11.add_argument(
        "--detector", default="", help="an npz written by rs5m.filters.save_detector"
    )
    pub11.add_argument(
        "--allow-loopback", action="store_true", help="let URLs reach this machine (the pocket web)"
    )
    pub11.set_defaults(run=pub11_command)
    rs3 = commands.add_parser("rs3", help="from labelled images to image-text pairs")
    rs3.add_argument("--images", required=True, help="a folder of images")
    rs3.add_argument(
        "--metadata", default="", help="a folder or zip of fMoW's or BigEarthNet's json documents"
    )
    rs3.add_argument("--out", required=True, help="a new folder, or one of an interrupted run")
    rs3.add_argument(
        "--scale", default="mini", help=f"whose models rank: {', '.join(scales.SCALES)}"
    )
    rs3.add_argument(
        "--captioner",
        default="",
        help="a folder of rs5m.captions.prefix or BLIP-2, or BLIP-2's name on the hub",
    )
    rs3.add_argument("--adapter", default="", help="a folder with peft's adapter for BLIP-2")
    rs3.add_argument(
        "--order", default="metadata-first", choices=("metadata-first", "visual-first")
    )
    rs3.add_argument(
        "--part",
        default="0/1",
        metavar="I/N",
        help="do every N-th shard from I; the last process joins",
    )
    rs3.set_defaults(run=rs3_command)
    tune = commands.add_parser("tune", help="from a general model to a domain model, by a recipe")
    tune.add_argument("--recipe", required=True, help="a wrong name lists all")
    tune.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="shards, their folder, URLs, or the folder of the set",
    )
    tune.add_argument("--out", required=True, help="a new folder, or one of an interrupted run")
    tune.add_argument(
        "--checkpoint", default="", help="a file to begin from, in place of the recipe's weights"
    )
    tune.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="change settings",
    )
    tune.add_argument(
        "--workers", type=int, default=0, help="processes that decode images, for each GPU"
    )
    tune.add_argument(
        "--board", action="store_true", help="write TensorBoard's files beside the log"
    )
    tune.set_defaults(run=tune_command)
    evaluate = commands.add_parser(
        "evaluate", help="a model on the paper's test sets, beside the paper's numbers"
    )
    evaluate.add_argument(
        "--model", required=True, help="GeoRSCLIP-ViT-B-32, a name of open_clip or pocket"
    )
    evaluate.add_argument(
        "--checkpoint", default="", help="a file of weights, or open_clip's tag of general ones"
    )
    evaluate.add_argument(
        "--data", required=True, help="the official test folder, the book's local one, or pocket"
    )
    evaluate.add_argument("--tasks", default="zeroshot,retrieval,selo", help="with commas between")
    evaluate.add_argument("--out", required=True, help="the JSON to write")
    evaluate.set_defaults(run=evaluate_command)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; bad input, a package to install or a non-finite loss is one line
    and exit code 2.
    """
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"rs5m: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
