"""`rs5m pub11`: from listed web pairs to clean remote-sensing pairs."""

import argparse
from pathlib import Path

from rs5m import results
from rs5m.commands import curation
from rs5m.commands.options import (
    LAYOUT,
    LAYOUTS,
    NEW,
    add_upload,
    check_upload,
    print_left_out,
    upload,
)

ABOUT = """Keywords choose among listed pairs of URL and text, their pictures are downloaded,
and copies and what a model does not take for remote sensing are dropped. The folder --out gets
shards of the pairs kept, tables of all that was kept and dropped and why, and report.html with
samples of both, to be judged by eye. The same command goes on with a run that was cut off."""
EXAMPLE = """
  rs5m pub11 --pairs 'crawl/*.parquet' --out cleaned
  rs5m pub11 --pairs 'crawl/*.parquet' --caption-column alt --detector detector.npz --out cleaned
"""


def add(commands) -> None:
    """Add `rs5m pub11` to a parser's commands."""
    add = commands.add_parser(
        "pub11", help="from listed web pairs to clean remote-sensing pairs", description=ABOUT
    )
    pairs = (
        "Tables of listed pairs with the columns url and text: parquet, csv, tsv or jsonl files, a "
        "pattern in quotes, or a folder; from s3://, gs:// or hf:// they are copied once to "
        "OUT-pairs."
    )
    url = "The column of the image's URL (default: the one called url, image_url or similar)."
    caption = "The column of the text (default: the one called text, caption or similar)."
    add.add_argument("--pairs", required=True, nargs="+", metavar="PATH", help=pairs)
    add.add_argument("--url-column", default="", metavar="NAME", help=url)
    add.add_argument("--caption-column", default="", metavar="NAME", help=caption)
    add.add_argument("--out", required=True, metavar="PATH", help=NEW)
    add.add_argument("--layout", default=LAYOUTS[0], choices=LAYOUTS, metavar="NAME", help=LAYOUT)
    add_upload(add)
    _add_judge(add)
    _add_keywords(add)
    _add_download(add)
    curation.add(add)
    add.set_defaults(run=run)


def _add_judge(add) -> None:
    model = (
        "The CLIP model that judges the pictures: a name of open_clip, a released GeoRSCLIP, or "
        "pocket, which knows one small made-up web (default: %(default)s with OpenAI's weights)."
    )
    weights = "A file with the model's weights (default: those of the hub)."
    detector = (
        "A detector of remote sensing fitted on this model's features, an npz of "
        "`rs5m detector fit` (default: none)."
    )
    keep = (
        "What keeps a picture: score (of the model's prompts), detector, both, either, or none, "
        "which drops no outlier (default: the detector if there is one, else the score)."
    )
    score = "The lowest score from 0 to 1 that keeps a picture (default: the detector's, else 0.5)."
    likely = "The lowest probability from 0 to 1 by the detector that keeps one (default: its own)."
    add.add_argument("--model", default="ViT-B-32-quickgelu", metavar="NAME", help=model)
    add.add_argument("--checkpoint", default="", metavar="FILE", help=weights)
    add.add_argument("--detector", default="", metavar="FILE", help=detector)
    kinds = ("score", "detector", "both", "either", "none")
    add.add_argument("--keep-by", default="", choices=kinds, metavar="RULE", help=keep)
    add.add_argument("--score-threshold", type=float, metavar="NUMBER", help=score)
    add.add_argument("--detector-threshold", type=float, metavar="NUMBER", help=likely)


def _add_keywords(add) -> None:
    own = (
        "A file with your own keywords, in which # begins a comment: a term a line, or a regular "
        "expression between slashes (default: the package's list)."
    )
    more = (
        "Add a second list, in English and six further languages, that finds what the first "
        "misses (default: off)."
    )
    traps = (
        "Drop pairs whose every keyword stands in a phrase that means something else, such as "
        "'satellite dish' (default: such phrases are only counted)."
    )
    labels = (
        "The column of the input that says which pairs are right (1 or true, 0 or false, empty "
        "where nobody judged) and lets the report state every keyword's precision (default: none)."
    )
    add.add_argument("--keywords", default="", metavar="FILE", help=own)
    add.add_argument("--more-keywords", action="store_true", help=more)
    add.add_argument("--drop-traps", action="store_true", help=traps)
    add.add_argument("--label-column", default="", metavar="NAME", help=labels)


def _add_download(add) -> None:
    workers = "The requests that are open at a time (default: %(default)s)."
    timeout = (
        "The seconds that one attempt at a URL may take, redirects included (default: %(default)s)."
    )
    retries = (
        "The further attempts at a URL whose connection broke or whose server says 429 or 5xx "
        "(default: %(default)s)."
    )
    host = "The requests that one host has to bear at a time (default: %(default)s)."
    loopback = "Let URLs reach this machine, as those of the pocket web do (default: refused)."
    private = "Let URLs reach private networks, such as 10.0.0.0/8 (default: refused)."
    add.add_argument("--workers", type=int, default=64, metavar="N", help=workers)
    add.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help=timeout)
    add.add_argument("--retries", type=int, default=2, metavar="N", help=retries)
    add.add_argument("--per-host", type=int, default=4, metavar="N", help=host)
    add.add_argument("--allow-loopback", action="store_true", help=loopback)
    add.add_argument("--allow-private", action="store_true", help=private)


@results.in_cache()
def run(arguments: argparse.Namespace) -> None:
    """`rs5m pub11`: run the stages and print the attrition table."""
    print(f"rs5m pub11: checking the pairs and {arguments.out}", flush=True)
    from rs5m import keywords, pub11, web
    from rs5m.pub11 import report
    from rs5m.pub11.words import summary

    terms = keywords.choose(arguments.keywords, arguments.more_keywords, arguments.drop_traps)

    limits = web.Limits(
        timeout=arguments.timeout,
        retries=arguments.retries,
        per_host=arguments.per_host,
        allow_loopback=arguments.allow_loopback,
        allow_private=arguments.allow_private,
    )
    judge = _judge(arguments)
    pairs = _pairs(arguments)
    tally = web.Tally()
    out = pub11.run(
        pairs,
        arguments.out,
        judge,
        limits,
        progress=tally.add,
        terms=terms,
        labels=arguments.label_column,
        url_column=arguments.url_column,
        caption_column=arguments.caption_column,
        workers=arguments.workers,
        layout=arguments.layout,
        asked=curation.asked(arguments),
    )
    print(summary(out))
    print(pub11.attrition(out).to_string(index=False))
    print(report.words(out, tally))
    print_left_out(out)
    upload(out, arguments.upload)


def _pairs(arguments: argparse.Namespace):
    """What --pairs names, on this machine."""
    from rs5m.data import remote, tables

    check_upload(arguments.upload)
    if not any(map(remote.is_remote, arguments.pairs)):
        # a shell may have expanded the pattern
        return arguments.pairs[0] if len(arguments.pairs) == 1 else arguments.pairs
    here = Path(f"{arguments.out.rstrip('/')}-pairs")
    return [
        path
        for one in arguments.pairs
        for path in (remote.fetch(one, here, tables.ENDINGS) if remote.is_remote(one) else [one])
    ]


def _judge(arguments: argparse.Namespace):
    """The judge that was named."""
    options = (arguments.checkpoint, arguments.detector, arguments.keep_by)
    thresholds = (arguments.score_threshold, arguments.detector_threshold)
    if arguments.model == "pocket" and not any(options) and thresholds == (None, None):
        from rs5m.book.judge import Model

        return Model("mini", spoken=True)
    from rs5m.pub11.judge import Named

    return Named(
        arguments.model,
        arguments.checkpoint,
        arguments.detector,
        arguments.keep_by,
        arguments.score_threshold,
        arguments.detector_threshold,
    )
