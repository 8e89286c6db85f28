"""`rs5m models`: the released models that are known by name."""

import argparse

EXAMPLE = """
  rs5m models
  rs5m models --json
"""
JSON = "Print JSON in place of a table."


def add(commands) -> None:
    add = commands.add_parser("models", help="the released models that are known by name")
    add.add_argument("--json", action="store_true", help=JSON)
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m models`: a line for each model, or all that is known as JSON."""
    from rs5m.clip import known

    columns = ("name", "architecture", "activation", "text_length", "licence", "source", "format")
    show([one._asdict() for one in known.models().values()], columns, arguments.json)


def show(rows: list[dict], columns: tuple[str, ...], as_json: bool) -> None:
    """Rows as JSON, or these columns of them as a table."""
    if as_json:
        import json

        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    cells = [columns] + [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())
