"""`rs5m export`: a model as a folder that another library loads."""

import argparse

EXAMPLE = """
  rs5m export --model ViT-B-32 --checkpoint RS5M_ViT-B-32.pt --to transformers --out exported
"""
WEIGHTS = "A file with the model's weights, safetensors or a pickled state dict (default: none)."
TAG = "Open_clip's tag of general weights for the model, such as openai (default: none)."
NAME = "The model: a name of open_clip, local-dir:FOLDER, a released GeoRSCLIP, or pocket."


def add(commands) -> None:
    """Add `rs5m export` to a parser's commands."""
    add = commands.add_parser("export", help="a model as a folder that another library loads")
    to = (
        "The library that will load it, open_clip by local-dir:OUT, or transformers by CLIPModel "
        "(default: %(default)s)."
    )
    add.add_argument("--model", required=True, metavar="NAME", help=NAME)
    add.add_argument("--pretrained", default="", metavar="TAG", help=TAG)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=WEIGHTS)
    kinds = ("open_clip", "transformers")
    add.add_argument("--to", default="open_clip", choices=kinds, metavar="LIBRARY", help=to)
    add.add_argument("--out", required=True, metavar="PATH", help="The folder to write.")
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m export`: a model as a folder that another library loads."""
    from rs5m import clip
    from rs5m.clip import export

    model = clip.load(arguments.model, arguments.pretrained or None, arguments.checkpoint or None)
    to = {"transformers": export.transformers, "open_clip": export.openclip}
    print(to[arguments.to](model, arguments.out))
