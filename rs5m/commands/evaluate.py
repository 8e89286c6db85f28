"""`rs5m evaluate`: a model on test sets, or a score of stored vectors."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from rs5m import results

EXAMPLE = """
  rs5m evaluate --model GeoRSCLIP-ViT-B-32 --data rs5m_test_data --out report.json
  rs5m evaluate --model ViT-B-32-quickgelu --pretrained openai --data my_classes \\
      --templates templates.txt --predictions predictions --out own.json
  rs5m evaluate --model RemoteCLIP-ViT-B-32 ViT-B-32-quickgelu@openai --data rs5m_test_data \\
      --out board
  rs5m evaluate --model GeoRSCLIP-ViT-B-32 --data scenes.csv photos shards --protocol all \\
      --out several.json
  rs5m evaluate --features vectors.npz --tasks zeroshot,probe,fewshot --out score.json
"""
USUAL = "zeroshot,retrieval,selo"


def add(commands) -> None:
    """Add `rs5m evaluate` to a parser's commands."""
    add = commands.add_parser(
        "evaluate", help="a model on the paper's test sets, beside the paper's numbers"
    )
    _add_model(add)
    _add_data(add)
    _add_machine(add)
    add.set_defaults(run=run)


def _add_model(add) -> None:
    name = (
        "The model: one of `rs5m models` such as GeoRSCLIP-ViT-B-32, a name of open_clip, with "
        "@TAG for its general weights, local-dir:FOLDER, or pocket; several go into a leaderboard "
        "(default: none, for --features)."
    )
    tag = "Open_clip's tag of general weights for the model, such as openai (default: none)."
    weights = "A file with the model's weights, or open_clip's tag of some (default: none)."
    features = (
        "Files with image, label and text vectors that are scored in place of a model and data "
        "(default: none)."
    )
    add.add_argument("--model", nargs="+", default=[], metavar="NAME", help=name)
    add.add_argument("--pretrained", default="", metavar="TAG", help=tag)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
    add.add_argument("--features", nargs="+", default=[], metavar="NPZ", help=features)


def _add_data(add) -> None:
    data = (
        "The official test folder, the book's local one, pocket, or sets of your own: a folder "
        "with a folder of images for each class, a table of images and labels (csv, tsv, jsonl or "
        "parquet), Hugging Face's imagefolder, or webdataset's shards (default: none, for "
        "--features)."
    )
    image = "A table's column of paths or images (default: guessed by its name, and printed)."
    label = "A table's column of labels or lists, or their name in shards' json (default: guessed)."
    protocol = (
        "The protocol of other papers that is measured beside the paper's: rs5m for the paper's "
        "alone, clip, skyscript, remoteclip, or all of them side by side (default: %(default)s)."
    )
    tasks = (
        "The tasks, with commas between them, beside --features of zeroshot, knn, probe, fewshot "
        "and transductive (default: %(default)s, beside --features zeroshot)."
    )
    names = (
        "A table of your own classes, a line each with the folder or label, a comma or tab, and "
        "the name that stands in prompts; or the names alone, for labels counted from 0 (default: "
        "the folders' names)."
    )
    templates = (
        "A text with your own prompts, a line each with {} where the class stands (default: the "
        "paper's 105)."
    )
    predictions = (
        "A folder for a table of each labelled set by image, SET.parquet: path, label, predicted "
        "class and the score of each class (default: none is written)."
    )
    add.add_argument("--data", nargs="+", default=[], metavar="PATH", help=data)
    add.add_argument("--image-column", default="", metavar="NAME", help=image)
    add.add_argument("--label-column", default="", metavar="NAME", help=label)
    add.add_argument("--protocol", default="rs5m", metavar="NAME", help=protocol)
    add.add_argument("--tasks", default=USUAL, metavar="NAMES", help=tasks)
    add.add_argument("--classnames", default="", metavar="FILE", help=names)
    add.add_argument("--templates", default="", metavar="FILE", help=templates)
    add.add_argument("--predictions", default="", metavar="FOLDER", help=predictions)
    out = (
        "The JSON file to write, of several models the folder for theirs; vectors are kept in the "
        "user's cache folder, RS5M_CACHE or ~/.cache/rs5m."
    )
    page = (
        "An HTML page that sets the models side by side, with a table in Markdown beside it "
        "(default: leaderboard.html in OUT for several models, else none)."
    )
    add.add_argument("--out", required=True, metavar="PATH", help=out)
    add.add_argument("--leaderboard", default="", metavar="FILE", help=page)


def _add_machine(add) -> None:
    batch = (
        "The images that are encoded at a time (default: 16 on each core of a CPU, 256 on a GPU)."
    )
    workers = "The threads that decode images (default: one for each processor, at most 16)."
    precision = (
        "The numbers in which images are encoded, float32 as in the official evaluation or "
        "bfloat16, which is reported apart (default: %(default)s)."
    )
    device = "The device: cpu, cuda, cuda:1 or mps (default: the GPU if there is one, else cpu)."
    kinds = ("float32", "bfloat16")
    add.add_argument("--batch-size", type=int, default=0, metavar="N", help=batch)
    add.add_argument("--workers", type=int, default=0, metavar="N", help=workers)
    add.add_argument(
        "--precision", default="float32", choices=kinds, metavar="KIND", help=precision
    )
    add.add_argument("--device", default="", metavar="NAME", help=device)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m evaluate`: the official evaluation or a score of stored vectors: JSON and table."""
    if arguments.features:
        _refuse_beside_features(arguments)
        from rs5m.evaluate import stored

        tasks = "zeroshot" if arguments.tasks == USUAL else arguments.tasks
        _board([stored.run(arguments.features, arguments.out, tasks)], arguments.leaderboard)
        return
    if not (arguments.model and arguments.data):
        raise ValueError("give --model and --data, or --features with stored vectors")
    if arguments.pretrained and arguments.checkpoint:
        raise ValueError("--pretrained and --checkpoint both name weights: leave one out")
    for name in ("batch_size", "workers"):
        if getattr(arguments, name) < 0:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} {getattr(arguments, name)}: give a number from 1")
    from rs5m import device
    from rs5m.evaluate import official, prompts, protocols

    device.choose(arguments.device)
    others = protocols.beside(arguments.protocol)
    asked = protocols.Asked(others, arguments.image_column, arguments.label_column)
    words = prompts.words(arguments.classnames, arguments.templates)
    how = {name: getattr(arguments, name) for name in ("workers", "precision")}
    how = {"batch": arguments.batch_size} | how
    reports = []
    for name, weights, out, predictions in _runs(arguments):
        given = name, weights, arguments.data, arguments.tasks, out, predictions, words, how
        reports.append(official.run(*given, asked))
    several = len(reports) > 1
    page = Path(arguments.out) / "leaderboard.html" if several else ""
    _board(reports, arguments.leaderboard or page)


def _runs(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    """Name, tag or file of weights, JSON and folder of predictions of each model. ValueError where
    two would write the same file, and for weights that several models cannot share.
    """
    from rs5m.clip.hub import parted
    from rs5m.clip.known import check_single

    given = arguments.pretrained or arguments.checkpoint
    if given and (len(arguments.model) > 1 or parted(arguments.model[0])[1]):
        raise ValueError(
            "--pretrained and --checkpoint are for one model without a tag: name tags as NAME@TAG"
        )
    for name, tag in map(parted, arguments.model):
        check_single(name, tag or arguments.pretrained)
    if len(arguments.model) == 1:
        name, tag = parted(arguments.model[0])
        yield name, tag or given, arguments.out, arguments.predictions
        return
    bases = [re.sub(r"[^\w.-]+", "_", name).strip("_") for name in arguments.model]
    if twice := [base for base in bases if bases.count(base) > 1]:
        raise ValueError(f"two models would write {twice[0]}.json: give each once")
    for model, base in zip(arguments.model, bases, strict=True):
        name, tag = parted(model)
        predictions = arguments.predictions and str(Path(arguments.predictions) / base)
        yield name, tag, str(Path(arguments.out) / f"{base}.json"), predictions


def _board(reports: list[dict], page: str | Path) -> None:
    if page:
        from rs5m.evaluate import leaderboard

        leaderboard.write(reports, page)


def _refuse_beside_features(arguments: argparse.Namespace) -> None:
    """ValueError for an option that says nothing where vectors are there already."""
    others = "model pretrained checkpoint data classnames templates predictions device".split()
    others += ["image_column", "label_column"]
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(arguments, name)]:
        raise ValueError(f"--features needs no {' or '.join(given)}: leave it out")
