"""`rs5m search`: images by a sentence."""

import argparse
from pathlib import Path

from rs5m import results
from rs5m.commands.options import add_weights

EXAMPLE = """
  rs5m search --model GeoRSCLIP-ViT-B-32 --data photos --query "a harbour" --out best.html
"""


def add(commands) -> None:
    """Add `rs5m search` to a parser's commands."""
    add = commands.add_parser("search", help="images by a sentence, in a folder or an index")
    data = "A folder of images, or an index of one that rs5m embed wrote."
    count = "The images that are shown (default: %(default)s)."
    out = "An HTML page with the images (default: none is written)."
    add_weights(add)
    add.add_argument("--data", required=True, metavar="PATH", help=data)
    add.add_argument("--query", required=True, metavar="TEXT", help="The sentence.")
    add.add_argument("--count", type=int, default=10, metavar="N", help=count)
    add.add_argument("--out", default="", metavar="PATH", help=out)
    add.set_defaults(run=run)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m search`: a line for each image, best first, and a page."""
    if arguments.count < 1:
        raise ValueError(f"--count {arguments.count}: give a number from 1")
    if not arguments.query.strip():
        raise ValueError("--query is empty: give a sentence")
    from rs5m.clip import hub
    from rs5m.evaluate import embed, search

    model = hub.model_of(arguments.model, arguments.checkpoint)
    look = embed.find if Path(arguments.data).is_file() else search.folder
    found = look(model, arguments.data, arguments.query, arguments.count)
    for path, cosine in zip(found.files, found.cosines, strict=True):
        print(f"{cosine:.3f}  {path}")
    if arguments.out:
        search.write_sheet(found, arguments.query, Path(arguments.out))
        print(arguments.out)
