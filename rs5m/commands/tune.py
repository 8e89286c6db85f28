"""`rs5m tune`: from a general model to a domain model, by a recipe."""

import argparse

from rs5m.commands.options import NEW


def add(commands) -> None:
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
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
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
