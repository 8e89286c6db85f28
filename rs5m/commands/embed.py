"""`rs5m embed`: images or texts as a file of vectors."""

import argparse

from rs5m import results
from rs5m.commands.options import add_weights

EXAMPLE = """
  rs5m embed --model GeoRSCLIP-ViT-B-32 --data photos --out index.npz
  rs5m embed --model GeoRSCLIP-ViT-B-32 --data my_classes --classes --out vectors.npz
"""


def add(commands) -> None:
    """Add `rs5m embed` to a parser's commands."""
    add = commands.add_parser("embed", help="images or texts as a file of vectors")
    data = "A folder of images, or a text file with a sentence on each line."
    out = "The npz or parquet file to write, with normalised vectors."
    classes = (
        "Take the folders in the data for classes, and write their labels and texts, too, for "
        "rs5m evaluate --features."
    )
    add_weights(add)
    add.add_argument("--data", required=True, metavar="PATH", help=data)
    add.add_argument("--classes", action="store_true", help=classes)
    add.add_argument("--out", required=True, metavar="PATH", help=out)
    add.set_defaults(run=run)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m embed`: a block at a time; an interrupted run goes on where it stopped."""
    from rs5m.clip import hub
    from rs5m.evaluate import embed

    model = hub.model_of(arguments.model, arguments.checkpoint)
    embed.run(model, arguments.data, arguments.out, arguments.classes)
