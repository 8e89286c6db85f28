"""`rs5m evaluate`: a model on the paper's test sets, or a score of stored vectors."""

import argparse

PREDICTIONS = (
    "a folder for a table of each labelled set by image, SET.parquet: path, label, predicted class "
    "and the score of each class (default: none is written)"
)


def add(commands) -> None:
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
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
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
