"""`rs5m export`: a model as a folder that another library loads."""

import argparse

WEIGHTS = "a file of weights for the model, safetensors or a pickled state dict (default: none)"
TAG = "open_clip's tag of general weights for the model, such as openai (default: none)"
NAME = "the architecture: a name of open_clip, local-dir:FOLDER, a released GeoRSCLIP or pocket"


def add(commands) -> None:
    add = commands.add_parser("export", help="a model as a folder that another library loads")
    to = "who shall load it: transformers' CLIPModel, or open_clip by local-dir:OUT (default)"
    add.add_argument("--model", required=True, help=NAME)
    add.add_argument("--pretrained", default="", metavar="TAG", help=TAG)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=WEIGHTS)
    add.add_argument("--to", default="open_clip", choices=("open_clip", "transformers"), help=to)
    add.add_argument("--out", required=True, metavar="FOLDER", help="the folder to write")
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m export`: a model as a folder that another library loads."""
    from rs5m import clip
    from rs5m.clip import export

    model = clip.load(arguments.model, arguments.pretrained or None, arguments.checkpoint or None)
    to = {"transformers": export.transformers, "open_clip": export.openclip}
    print(to[arguments.to](model, arguments.out))
