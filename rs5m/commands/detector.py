"""`rs5m detector`: fit a detector on your own pictures, or report one."""

import argparse
from pathlib import Path

from rs5m import results

FIT = "  rs5m detector fit --positives aerial --negatives photographs --out detector.npz\n"
REPORT = "  rs5m detector report --table judged.csv --detector detector.npz --out report.html\n"
EXAMPLE = f"\n{FIT}{REPORT}"
EXAMPLES = {"fit": f"example:\n{FIT}", "report": f"example:\n{REPORT}"}
ABOUT = {
    "fit": """A logistic regression on a model's features tells remote sensing from other pictures.
The file --out, for `rs5m pub11 --detector`, keeps the model's digest, the threshold and the
cross-validated precision, recall and AUC. Give folders, a table, or both.
""",
    "report": """Precision, recall and AUC of a detector on labelled pictures that it was not fitted
on, with their 95 % intervals; the page --out shows them with the pictures at both ends and those
on the wrong side of the threshold.
""",
}


def add(commands) -> None:
    """Add `rs5m detector` and its actions to a parser's commands."""
    add = commands.add_parser("detector", help="fit a detector on your own pictures, or report one")
    actions = add.add_subparsers(required=True, metavar="ACTION", dest="action")
    words = {
        "fit": "from labelled pictures to a detector's file",
        "report": "what a detector is worth on labelled pictures",
    }
    raw = argparse.RawDescriptionHelpFormatter
    fit, report = (
        actions.add_parser(
            name, help=said, description=ABOUT[name], epilog=EXAMPLES[name], formatter_class=raw
        )
        for name, said in words.items()
    )
    table = (
        "A table (csv, tsv, jsonl, parquet) with the columns path, from its own folder, and label "
        "(default: none)."
    )
    model = "The model whose features are used, as in rs5m pub11 (default: %(default)s)."
    for one in (fit, report):
        right = "Folders with pictures of remote sensing, all below them included (default: none)."
        one.add_argument("--positives", nargs="+", default=[], metavar="FOLDER", help=right)
        wrong = "Folders with pictures of everything else (default: none)."
        one.add_argument("--negatives", nargs="+", default=[], metavar="FOLDER", help=wrong)
        one.add_argument("--table", default="", metavar="FILE", help=table)
        one.add_argument("--model", default="ViT-B-32-quickgelu", metavar="NAME", help=model)
        weights = "A file with the model's weights (default: those of the hub)."
        one.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
        one.set_defaults(run=run)
    fit.add_argument("--out", required=True, metavar="PATH", help="The npz to write.")
    report.add_argument("--detector", required=True, metavar="FILE", help="The detector's npz.")
    report.add_argument("--out", required=True, metavar="PATH", help="The HTML page to write.")


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m detector fit` and `report`: on one's own labelled pictures."""
    from rs5m.pub11 import detector
    from rs5m.pub11.judge import Named

    if arguments.action == "fit" and not arguments.out.endswith(".npz"):
        raise ValueError(f"--out {arguments.out}: name a file that ends in .npz")
    if not Path(arguments.out).parent.is_dir():
        raise FileNotFoundError(f"--out {arguments.out}: its folder does not exist: make it first")
    given = detector.examples(arguments.positives, arguments.negatives, arguments.table)
    if arguments.action == "fit":
        print(detector.fit(given, arguments.model, arguments.checkpoint, arguments.out))
    else:
        judge = Named(arguments.model, arguments.checkpoint, arguments.detector, "detector")
        print(detector.report(given, judge, arguments.out))
    for reason, names in given.left_out.items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")
