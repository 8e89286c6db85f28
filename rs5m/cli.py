"""The `rs5m` command. Chapter: setup."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from rs5m import results
from rs5m.book import scales


@results.in_cache()
def pub11_command(arguments: argparse.Namespace) -> None:
    """`rs5m pub11`: run the stages and print the attrition table."""
    print(f"rs5m pub11: checking the pairs and {arguments.out}", flush=True)
    from rs5m import keywords, pub11, web
    from rs5m.pub11 import report
    from rs5m.pub11.words import summary

    terms = keywords.choose(arguments.keywords, arguments.more_keywords, arguments.drop_traps)

    limits = web.Limits(
        timeout=arguments.timeout,
        retries=arguments.retries,
        per_host=arguments.per_host,
        allow_loopback=arguments.allow_loopback,
    )
    judge = _judge(arguments)
    # a shell may have expanded the pattern
    pairs = arguments.pairs[0] if len(arguments.pairs) == 1 else arguments.pairs
    tally = web.Tally()
    out = pub11.run(
        pairs,
        arguments.out,
        judge,
        limits,
        progress=tally.add,
        terms=terms,
        labels=arguments.label_column,
        url_column=arguments.url_column,
        caption_column=arguments.caption_column,
        workers=arguments.workers,
    )
    print(summary(out))
    print(pub11.attrition(out).to_string(index=False))
    print(report.words(out, tally))
    _print_left_out(out)


def _judge(arguments: argparse.Namespace):
    """The judge that was named."""
    options = (arguments.checkpoint, arguments.detector, arguments.keep_by)
    thresholds = (arguments.score_threshold, arguments.detector_threshold)
    if arguments.model == "pocket" and not any(options) and thresholds == (None, None):
        from rs5m.book.judge import Model

        return Model("mini", spoken=True)
    from rs5m.pub11.judge import Named

    return Named(
        arguments.model,
        arguments.checkpoint,
        arguments.detector,
        arguments.keep_by,
        arguments.score_threshold,
        arguments.detector_threshold,
    )


@results.in_cache()
def detector_command(arguments: argparse.Namespace) -> None:
    """`rs5m detector fit` and `report`: on one's own labelled pictures."""
    from rs5m.pub11 import detector
    from rs5m.pub11.judge import Named

    given = detector.examples(arguments.positives, arguments.negatives, arguments.table)
    if arguments.action == "fit":
        if not arguments.out.endswith(".npz"):
            raise ValueError(f"--out {arguments.out}: name a file that ends in .npz")
        print(detector.fit(given, arguments.model, arguments.checkpoint, arguments.out))
    else:
        judge = Named(arguments.model, arguments.checkpoint, arguments.detector, "detector")
        print(detector.report(given, judge, arguments.out))
    for reason, names in given.left_out.items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")


def _print_left_out(out: Path) -> None:
    """How much of the input was not read, by reason; their names are in left_out.json."""
    from rs5m.data import runfolder

    for reason, names in runfolder.left_out(out).items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")


@results.in_cache()
def rs3_command(arguments: argparse.Namespace) -> None:
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
    settings = rs3.Settings(order=arguments.order.replace("-", " "), part=part)
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
        arguments.image_column,
        arguments.caption_column,
    )
    if said:  # the first process of several
        print(said)


def evaluate_command(arguments: argparse.Namespace) -> None:
    """`rs5m evaluate`: the official evaluation or a score of stored vectors: JSON and table."""
    if arguments.features:
        if arguments.model or arguments.checkpoint or arguments.data:
            raise ValueError("--features needs no --model, --checkpoint or --data: leave them out")
        from rs5m.evaluate import stored

        stored.run(arguments.features, arguments.out)
        return
    if not (arguments.model and arguments.data):
        raise ValueError("give --model and --data, or --features with stored vectors")
    from rs5m.evaluate import official

    official.run(
        arguments.model,
        arguments.checkpoint,
        arguments.data,
        arguments.tasks,
        arguments.out,
        arguments.predictions,
    )


def export_command(arguments: argparse.Namespace) -> None:
    """`rs5m export`: a model as a folder that another library loads."""
    from rs5m import clip
    from rs5m.clip import export

    model = clip.load(arguments.model, arguments.pretrained or None, arguments.checkpoint or None)
    to = {"transformers": export.transformers, "open_clip": export.openclip}
    print(to[arguments.to](model, arguments.out))


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


NEW = "a new folder, or one of an interrupted run"


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand per task."""
    root = argparse.ArgumentParser(
        prog="rs5m", description="RS5M and GeoRSCLIP, rebuilt line by line"
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_pub11(commands)
    _add_detector(commands)
    _add_rs3(commands)
    _add_tune(commands)
    _add_evaluate(commands)
    _add_export(commands)
    return root


def _add_pub11(commands) -> None:
    add = commands.add_parser("pub11", help="from listed web pairs to clean remote-sensing pairs")
    pairs = (
        "Tables of listed pairs with the columns url and text: parquet, csv, tsv or jsonl files, a "
        "pattern in quotes, or a folder."
    )
    url = "The column of the image's URL (default: the one that is called url, image_url or alike)."
    caption = "The column of the text (default: the one that is called text, caption or alike)."
    add.add_argument("--pairs", required=True, nargs="+", help=pairs)
    add.add_argument("--url-column", default="", metavar="NAME", help=url)
    add.add_argument("--caption-column", default="", metavar="NAME", help=caption)
    add.add_argument("--out", required=True, help=NEW)
    _add_judge(add)
    _add_keywords(add)
    _add_download(add)
    add.set_defaults(run=pub11_command)


def _add_judge(add) -> None:
    model = (
        "The CLIP model that judges the pictures: a name of open_clip, a released GeoRSCLIP, or "
        "pocket, which knows one small made web (default: %(default)s with OpenAI's weights)."
    )
    weights = "A file with the model's weights, in place of those of the hub."
    detector = (
        "A detector of remote sensing fitted on this model's features, an npz of "
        "rs5m.filters.save_detector."
    )
    keep = (
        "What keeps a picture: score (of the model's prompts), detector, both, either, or none, "
        "which drops no outlier (default: the detector if there is one, else the score)."
    )
    score = "The lowest score from 0 to 1 that keeps a picture (default: the detector's, else 0.5)."
    likely = "The lowest probability from 0 to 1 by the detector that keeps one (default: its own)."
    add.add_argument("--model", default="ViT-B-32-quickgelu", metavar="NAME", help=model)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
    add.add_argument("--detector", default="", metavar="FILE", help=detector)
    kinds = ("score", "detector", "both", "either", "none")
    add.add_argument("--keep-by", default="", choices=kinds, metavar="RULE", help=keep)
    add.add_argument("--score-threshold", type=float, metavar="NUMBER", help=score)
    add.add_argument("--detector-threshold", type=float, metavar="NUMBER", help=likely)


def _add_detector(commands) -> None:
    add = commands.add_parser("detector", help="fit a detector on your own pictures, or report one")
    actions = add.add_subparsers(required=True, metavar="ACTION", dest="action")
    fit = actions.add_parser("fit", help="from labelled pictures to a detector's file")
    report = actions.add_parser("report", help="what a detector is worth on labelled pictures")
    table = (
        "A table (csv, tsv, jsonl, parquet) with the columns path, from its own folder, and label."
    )
    model = "The model whose features are used, as in rs5m pub11 (default: %(default)s)."
    for one in (fit, report):
        right = "Folders with pictures of remote sensing, all below them included."
        one.add_argument("--positives", nargs="+", default=[], metavar="FOLDER", help=right)
        wrong = "Folders with pictures of everything else."
        one.add_argument("--negatives", nargs="+", default=[], metavar="FOLDER", help=wrong)
        one.add_argument("--table", default="", metavar="FILE", help=table)
        one.add_argument("--model", default="ViT-B-32-quickgelu", metavar="NAME", help=model)
        weights = "A file with the model's weights, in place of those of the hub."
        one.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
        one.set_defaults(run=detector_command)
    fit.add_argument("--out", required=True, metavar="FILE", help="The npz to write.")
    report.add_argument("--detector", required=True, metavar="FILE", help="The detector's npz.")
    report.add_argument("--out", required=True, metavar="FILE", help="The HTML page to write.")


def _add_download(add) -> None:
    workers = "The requests that are open at a time (default: %(default)s)."
    timeout = (
        "The seconds that one attempt at a URL may take, redirects included (default: %(default)s)."
    )
    retries = (
        "The further attempts at a URL whose connection broke or whose server says 429 or 5xx "
        "(default: %(default)s)."
    )
    host = "The requests that one host has to bear at a time (default: %(default)s)."
    loopback = "Let URLs reach this machine, as those of the pocket web do (default: refused)."
    add.add_argument("--workers", type=int, default=64, metavar="N", help=workers)
    add.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help=timeout)
    add.add_argument("--retries", type=int, default=2, metavar="N", help=retries)
    add.add_argument("--per-host", type=int, default=4, metavar="N", help=host)
    add.add_argument("--allow-loopback", action="store_true", help=loopback)


def _add_keywords(add) -> None:
    own = (
        "A file with your own keywords in place of the package's list: a term a line, or a regular "
        "expression between slashes; lines that begin with # are comments."
    )
    more = (
        "Add a second list, in English and six further languages, that finds what the first "
        "misses (default: off)."
    )
    traps = (
        "Drop pairs whose every keyword stands in a phrase that means something else, such as "
        "'satellite dish' (default: such phrases are only counted)."
    )
    labels = (
        "The column of the input that says which pairs are right (1 or true, 0 or false, empty "
        "where nobody judged): the report then states every keyword's precision."
    )
    add.add_argument("--keywords", default="", metavar="FILE", help=own)
    add.add_argument("--more-keywords", action="store_true", help=more)
    add.add_argument("--drop-traps", action="store_true", help=traps)
    add.add_argument("--label-column", default="", metavar="NAME", help=labels)


def _add_rs3(commands) -> None:
    add = commands.add_parser("rs3", help="from labelled images to image-text pairs")
    metadata = "a folder or zip of fMoW's or BigEarthNet's json documents, or its metadata.parquet"
    captioner = "a folder of rs5m.captions.prefix or BLIP-2, or BLIP-2's name on the hub"
    part = "do every N-th shard from I; the last process joins"
    add.add_argument("--images", required=True, help="a folder of images")
    add.add_argument("--metadata", default="", help=metadata)
    add.add_argument("--out", required=True, help=NEW)
    add.add_argument(
        "--scale", default="mini", help=f"whose models rank: {', '.join(scales.SCALES)}"
    )
    add.add_argument("--captioner", default="", help=captioner)
    add.add_argument("--adapter", default="", help="a folder with peft's adapter for BLIP-2")
    add.add_argument(
        "--order", default="metadata-first", choices=("metadata-first", "visual-first")
    )
    add.add_argument("--part", default="0/1", metavar="I/N", help=part)
    add.set_defaults(run=rs3_command)


def _add_tune(commands) -> None:
    add = commands.add_parser("tune", help="from a general model to a domain model, by a recipe")
    data = (
        "Shards, their folder, patterns or URLs; a table (parquet, csv, tsv, jsonl) of images or "
        "paths and captions; COCO's captions json; a folder with metadata.csv or metadata.jsonl, "
        "or with a .txt beside each image; or the folder of the recipe's set."
    )
    image = "The table's column of images or paths (default: the one called image, path or alike)."
    caption = "The table's column of captions (default: the one called text, caption or alike)."
    weights = "a file to begin from, in place of the recipe's weights"
    workers = "processes that decode images, for each GPU"
    add.add_argument("--recipe", required=True, help="a wrong name lists all")
    add.add_argument("--data", required=True, nargs="+", help=data)
    add.add_argument("--image-column", default="", metavar="NAME", help=image)
    add.add_argument("--caption-column", default="", metavar="NAME", help=caption)
    add.add_argument("--out", required=True, help=NEW)
    add.add_argument("--checkpoint", default="", help=weights)
    add.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="settings"
    )
    add.add_argument("--workers", type=int, default=0, help=workers)
    add.add_argument("--board", action="store_true", help="write TensorBoard's files as well")
    add.set_defaults(run=tune_command)


PREDICTIONS = (
    "a folder for a table of each labelled set by image, SET.parquet: path, label, predicted class "
    "and the score of each class (default: none is written)"
)


def _add_evaluate(commands) -> None:
    add = commands.add_parser(
        "evaluate", help="a model on the paper's test sets, beside the paper's numbers"
    )
    weights = "a file of weights, or open_clip's tag of general ones"
    data = "the official test folder, the book's local one, or pocket"
    features = "in place of a model and data: npz files with image, label and text vectors"
    add.add_argument("--model", default="", help="GeoRSCLIP-ViT-B-32, a name of open_clip, pocket")
    add.add_argument("--checkpoint", default="", help=weights)
    add.add_argument("--data", default="", help=data)
    add.add_argument("--features", nargs="+", default=[], metavar="NPZ", help=features)
    add.add_argument("--tasks", default="zeroshot,retrieval,selo", help="with commas between")
    add.add_argument("--out", required=True, help="the JSON to write")
    add.add_argument("--predictions", default="", metavar="FOLDER", help=PREDICTIONS)
    add.set_defaults(run=evaluate_command)


WEIGHTS = "a file of weights for the model, safetensors or a pickled state dict (default: none)"
TAG = "open_clip's tag of general weights for the model, such as openai (default: none)"
NAME = "the architecture: a name of open_clip, local-dir:FOLDER, a released GeoRSCLIP or pocket"


def _add_export(commands) -> None:
    add = commands.add_parser("export", help="a model as a folder that another library loads")
    to = "who shall load it: transformers' CLIPModel, or open_clip by local-dir:OUT (default)"
    add.add_argument("--model", required=True, help=NAME)
    add.add_argument("--pretrained", default="", metavar="TAG", help=TAG)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=WEIGHTS)
    add.add_argument("--to", default="open_clip", choices=("open_clip", "transformers"), help=to)
    add.add_argument("--out", required=True, metavar="FOLDER", help="the folder to write")
    add.set_defaults(run=export_command)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; whatever goes wrong is one line.

    Exit codes: 2 for bad input, a package to install or a non-finite loss; 130 when interrupted;
    1 for what nobody expected (RS5M_DEBUG=1 shows where it came from).
    """
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("rs5m: interrupted: run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"rs5m: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if os.environ.get("RS5M_DEBUG"):
            raise
        cause = " ".join(str(error).split())[:300]
        print(
            f"rs5m: {type(error).__name__}: {cause}; this is not your input's fault as far as is "
            "known: set RS5M_DEBUG=1 to see where it came from",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
