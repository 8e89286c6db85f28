"""Words that several subcommands say."""

from pathlib import Path

NEW = "The folder to write, a new one or that of an interrupted run."
LAYOUTS = ("webdataset", "rs5m")  # records.LAYOUTS, which --help does not wait for
LAYOUT = (
    "The members' names in the shards: webdataset's (jpg, txt, json), or those of RS5M's release "
    "(img_content, img_name, caption) (default: %(default)s)."
)


def add_weights(parser) -> None:
    """--model and --checkpoint of a command that needs a model with weights."""
    name = (
        "The model: one of `rs5m models`, ViT-B-32-quickgelu, RN50x64-quickgelu or ViT-H-14 with "
        "their general weights, local-dir:FOLDER, or pocket."
    )
    file = "A file with the model's weights (default: those that belong to its name)."
    parser.add_argument("--model", required=True, metavar="NAME", help=name)
    parser.add_argument("--checkpoint", default="", metavar="FILE", help=file)


def print_left_out(out: Path) -> None:
    """How much of the input was not read, by reason; their names are in left_out.json."""
    from rs5m.data import runfolder

    for reason, names in runfolder.left_out(out).items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")
