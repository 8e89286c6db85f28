"""`rs5m tune`: from a general model to a domain model, by a recipe."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from rs5m.commands.options import NEW

ABOUT = """A model learns from pairs of image and text as the recipe says. The folder --out is
one that open_clip and rs5m load as local-dir:OUT, and `rs5m export --to transformers` makes
one for transformers of it; adapters lie in OUT/adapter, as peft loads them. run.json there
counts the pairs used and left out. The same command goes on with a run that was cut off."""
EXAMPLE = """
  rs5m tune --recipe list
  rs5m tune --data 'pairs/*.tar' --out run
  rs5m tune --recipe georsclip-b32 --model RN50-quickgelu --pretrained openai --data pairs.csv \\
      --set epochs=3 method=lora augment=off --batch-size 256 --validate my_classes --out run
  torchrun --nproc_per_node 8 -m rs5m.cli tune --data 'pairs/*.tar' --out run
"""


class _List(argparse.Action):
    """--recipe; the word list prints the recipes and ends, as --help does."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values == "list":
            from rs5m.tune import recipes

            print(recipes.overview())
            parser.exit()
        setattr(namespace, self.dest, values)


def add(commands) -> None:
    """Add `rs5m tune` to a parser's commands."""
    add = commands.add_parser(
        "tune", help="from a general model to a domain model, by a recipe", description=ABOUT
    )
    _add_recipe(add)
    _add_data(add)
    _add_validation(add)
    _add_machine(add)
    add.set_defaults(run=run)


def _add_recipe(add) -> None:
    recipe = (
        "The recipe: a name, list, which shows them all, or a file NAME.toml with a line `setting "
        "= value` for all that differs from the default (default: %(default)s)."
    )
    model = (
        "The model in place of the recipe's: a name of open_clip, local-dir:FOLDER, "
        "hf-hub:OWNER/NAME, a released GeoRSCLIP or pocket (default: the recipe's)."
    )
    tag = (
        "Open_clip's tag of the weights to begin from, such as openai (default: the recipe's, or "
        "none where --model is given)."
    )
    weights = "A file of weights to begin from, in place of the recipe's (default: none)."
    settings = (
        "Settings in place of the recipe's: method, size, lock_text, lock_image, learning_rate, "
        "weight_decay, batch_size (pairs over all GPUs), chunk (images that a GPU holds at once), "
        "epochs, steps (fewer than the epochs have, the rate planned for them), warm_up (steps, or "
        "below 1 a share of them), max_norm, augment (on or off), crop (smallest share of an image "
        "from 0 to 1), turns (any, right or none), mirror, precision, compiled, checkpoint_every "
        "(steps), keep_every (steps between weights that stay in OUT/kept), seed (default: the "
        "recipe's)."
    )
    add.add_argument("--recipe", default="georsclip-b32", metavar="NAME", action=_List, help=recipe)
    add.add_argument("--model", default="", metavar="NAME", help=model)
    add.add_argument("--pretrained", default="", metavar="TAG", help=tag)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
    add.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help=settings
    )


def _add_data(add) -> None:
    data = (
        "Shards, their folder, patterns or URLs, s3:// and hf:// included; a table (parquet, csv, "
        "tsv, jsonl) of images or paths and captions; COCO's or Karpathy's json of captions; a "
        "folder with metadata.csv or metadata.jsonl, or with a .txt beside each image; or the "
        "folder of the recipe's set."
    )
    private = (
        "Let URLs of shards reach this machine and private networks, such as 10.0.0.0/8 (default: "
        "refused)."
    )
    image = "The table's column of images or paths (default: one called image, path or similar)."
    caption = "The table's column of captions (default: the one called text, caption or similar)."
    add.add_argument("--data", required=True, nargs="+", metavar="PATH", help=data)
    add.add_argument("--allow-private", action="store_true", help=private)
    add.add_argument("--image-column", default="", metavar="NAME", help=image)
    add.add_argument("--caption-column", default="", metavar="NAME", help=caption)
    add.add_argument("--out", required=True, metavar="PATH", help=NEW)


def _add_validation(add) -> None:
    data = (
        "A set on which the model is scored while it is tuned: a folder with a folder of images "
        "for each class (balanced zero-shot accuracy), or a table, COCO's or Karpathy's json, or "
        "shards (recall at 1, 5 and 10); the best weights stay in OUT/best (default: none)."
    )
    every = "The steps between two validations; the last step has one, too (default: an epoch)."
    add.add_argument("--validate", default="", metavar="PATH", help=data)
    add.add_argument("--validate-every", type=int, default=0, metavar="N", help=every)


def _add_machine(add) -> None:
    batch = "The pairs of a step over all GPUs, as --set batch_size=N (default: the recipe's)."
    precision = (
        "The numbers in which the towers compute, as --set precision=KIND: auto, which is bf16 on "
        "CUDA, fp16 on a GPU without bf16 (capability below 8.0) and float32 elsewhere, float32, "
        "bf16 or fp16 (default: the recipe's)."
    )
    device = "The device: cpu, cuda, cuda:1 or mps (default: the GPU if there is one, else cpu)."
    workers = (
        "The processes that decode images for each GPU; 0 decodes between the steps (default: 0)."
    )
    board = (
        "Write TensorBoard's files into OUT/board beside log.jsonl, which has a line for each step "
        "(default: off)."
    )
    add.add_argument("--batch-size", default="", metavar="N", help=batch)
    add.add_argument("--precision", default="", metavar="KIND", help=precision)
    add.add_argument("--device", default="", metavar="NAME", help=device)
    add.add_argument("--workers", type=int, default=0, metavar="N", help=workers)
    add.add_argument("--board", action="store_true", help=board)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m tune`: tune by a recipe, write the model and the run's JSON, and print where and how
    far.
    """
    from rs5m import device
    from rs5m.evaluate import validation
    from rs5m.tune import recipes
    from rs5m.tune.run import run as tune

    if arguments.workers < 0:
        raise ValueError(f"--workers {arguments.workers}: give a number from 0")
    device.choose(arguments.device)
    short = {"batch_size": arguments.batch_size, "precision": arguments.precision}
    changes = [f"{name}={value}" for name, value in short.items() if value] + arguments.set
    recipe = recipes.begin_from(
        recipes.change(recipes.get(arguments.recipe), changes),
        arguments.model,
        arguments.pretrained,
    )
    columns = arguments.image_column, arguments.caption_column
    judge = partial(
        validation.of, arguments.validate, arguments.out, arguments.validate_every, *columns
    )
    said = tune(
        recipe,
        fetched(arguments.data) if arguments.allow_private else arguments.data,
        arguments.out,
        arguments.checkpoint,
        arguments.workers,
        arguments.board,
        *columns,
        judge if arguments.validate else None,
    )
    if said:  # the first process of several
        print(said)


def fetched(data: list[str]) -> list[str]:
    """The data, with the shards at URLs on this machine, from private networks and itself, too."""
    from rs5m.data.shards import local
    from rs5m.web.download import LIMITS

    limits = replace(LIMITS, allow_private=True, allow_loopback=True)
    there = [[Path(one)] if "://" not in one else local(one, limits) for one in data]
    return [str(path) for paths in there for path in paths]
