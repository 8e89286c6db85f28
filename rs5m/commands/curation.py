"""Options of `rs5m pub11` for filters that the paper does not have."""

import argparse


def add(parser) -> None:
    """The options, each off by default."""
    side = "Drop pictures whose short side has fewer PIXELS (default: no limit)."
    aspect = "Drop pictures whose long side is over RATIO times the short one (default: no limit)."
    language = (
        "Keep texts in these languages alone, codes such as en or de, as py3langid guesses them; "
        "texts of three words are often guessed wrong (default: all)."
    )
    nsfw = (
        "Drop pictures whose NSFW score from 0 to 1, by prompts of --model, is above this NUMBER; "
        "nobody validated it, so look at report.html (default: not looked for)."
    )
    scorer = (
        "Your own judge of pairs, asked with --min-score: module:function, which takes pictures "
        "and texts and gives a number for each, or a linear head on the vectors of --model, a "
        ".safetensors file with weight and perhaps bias (default: none)."
    )
    least = "The lowest score of --scorer that keeps a pair (default: none, --scorer needs it)."
    share = (
        "Keep this share above 0 and up to 1 of the pairs that are left, those whose picture and "
        "text are most similar by --model (default: all)."
    )
    machine = (
        "Sources of the input whose texts a machine wrote: their pairs stay and are marked in the "
        "column machine_text of the tables (default: none)."
    )
    parser.add_argument("--min-side", type=int, default=0, metavar="PIXELS", help=side)
    parser.add_argument("--max-aspect", type=float, default=0.0, metavar="RATIO", help=aspect)
    parser.add_argument("--language", nargs="+", default=(), metavar="CODE", help=language)
    parser.add_argument("--max-nsfw", type=float, metavar="NUMBER", help=nsfw)
    parser.add_argument("--scorer", default="", metavar="NAME", help=scorer)
    parser.add_argument("--min-score", type=float, metavar="NUMBER", help=least)
    parser.add_argument("--top-share", type=float, metavar="NUMBER", help=share)
    parser.add_argument("--mark-source", nargs="+", default=(), metavar="NAME", help=machine)


def asked(arguments: argparse.Namespace):
    """What the options ask for."""
    from rs5m.pub11.curation import Curation

    return Curation(
        arguments.min_side,
        arguments.max_aspect,
        tuple(arguments.language),
        arguments.max_nsfw,
        arguments.scorer,
        arguments.min_score,
        arguments.top_share,
        tuple(arguments.mark_source),
        arguments.model,
        arguments.checkpoint,
    )
