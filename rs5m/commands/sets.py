"""`rs5m sets`: the test sets that are known by name."""

import argparse

from rs5m.commands.models import JSON, show

EXAMPLE = """
  rs5m sets
  rs5m sets skyscript
  rs5m sets --json
"""
NAME = "The set or suite of which all that is known is shown (default: a line for every set)."
COLUMNS = ("name", "task", "images", "classes", "captions", "split", "source", "terms")


def add(commands) -> None:
    """Add `rs5m sets` to a parser's commands."""
    add = commands.add_parser("sets", help="the test sets that are known by name, and the suites")
    add.add_argument("name", nargs="?", default="", metavar="NAME", help=NAME)
    add.add_argument("--json", action="store_true", help=JSON)
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m sets`: a line for each set, then the suites that papers report; or all of one."""
    from rs5m.evaluate import cards

    if arguments.name:
        _show_one(arguments.name, arguments.json)
        return
    rows = [{"name": name} | cards.card(name) for name in cards.known()]
    for row in rows:
        row |= {"classes": len(row["classes"]) if "classes" in row else ""}
    if arguments.json:
        show([{"sets": rows, "suites": cards.suites()}], (), True)
        return
    show(rows, COLUMNS, False)
    for name, suite in cards.suites().items():
        print(f"\nsuite {name}: {suite['title']}\n  sets: {', '.join(suite['sets'])}")
        print(f"  protocol: {suite['protocol']}")


def _show_one(name: str, as_json: bool) -> None:
    """What is known of a set or a suite; ValueError, with the nearest names, for another."""
    from rs5m.clip import known
    from rs5m.evaluate import cards

    suites = cards.suites()
    if name not in (names := [*cards.known(), *suites]):
        meant = known.meant(known.like(name, names))
        raise ValueError(f"unknown set {name!r}: {meant}`rs5m sets` lists them")
    told = suites[name] if name in suites else cards.card(name)
    if as_json:
        show([{"name": name} | told], (), True)
        return
    unchecked = told.get("unchecked", ())
    for key, value in told.items():
        if isinstance(value, dict):  # of each set: a count, marked where it comes from memory
            value = [f"{one} {n}{' (unchecked)' * (one in unchecked)}" for one, n in value.items()]
        words = ", ".join(map(str, value)) if isinstance(value, list) else value
        if key != "unchecked":
            print(f"{key.replace('_', ' '):<18}{words}")
