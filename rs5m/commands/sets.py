"""`rs5m sets`: the test sets that are known by name."""

import argparse

from rs5m.commands.models import JSON, show

EXAMPLE = """
  rs5m sets
  rs5m sets --json
"""


def add(commands) -> None:
    """Add `rs5m sets` to a parser's commands."""
    add = commands.add_parser("sets", help="the test sets that are known by name, and the suites")
    add.add_argument("--json", action="store_true", help=JSON)
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m sets`: a line for each set, then the suites that papers report."""
    from rs5m.evaluate import cards

    rows = [{"name": name} | cards.card(name) for name in cards.known()]
    for row in rows:
        row |= {"classes": len(row["classes"]) if "classes" in row else ""}
    if arguments.json:
        show([{"sets": rows, "suites": cards.suites()}], (), True)
        return
    show(rows, ("name", "task", "images", "classes", "captions", "split", "source", "terms"), False)
    for name, suite in cards.suites().items():
        print(f"\nsuite {name}: {suite['title']}\n  sets: {', '.join(suite['sets'])}")
        print(f"  protocol: {suite['protocol']}")
