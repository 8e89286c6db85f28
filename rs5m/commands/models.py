"""`rs5m models`: the released models that are known by name."""

import argparse

EXAMPLE = """
  rs5m models
  rs5m models GeoRSCLIP-ViT-B-32
  rs5m models --json
"""
JSON = "Print JSON in place of a table."
NAME = "The model whose printed numbers are shown, too (default: a line for every model)."


def add(commands) -> None:
    """Add `rs5m models` to a parser's commands."""
    add = commands.add_parser("models", help="the released models that are known by name")
    add.add_argument("name", nargs="?", default="", metavar="NAME", help=NAME)
    add.add_argument("--json", action="store_true", help=JSON)
    add.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m models`: a line for each model, or all that is known of one, as text or JSON."""
    from rs5m.clip import known

    if arguments.name:
        _show_one(arguments.name, arguments.json)
        return
    columns = ("name", "architecture", "activation", "text_length", "licence", "source", "format")
    rows = [one._asdict() for one in known.models().values()]
    if not arguments.json:  # the file tells its length once it is there
        rows = [row | {"text_length": row["text_length"] or "not known"} for row in rows]
    show(rows, columns, arguments.json)


def _show_one(name: str, as_json: bool) -> None:
    """What is known of a model, and its printed numbers with their protocol."""
    from rs5m.clip import known
    from rs5m.evaluate import contact, reporting

    if name not in known.models():
        meant = known.meant([one for one in known.near(name) if one in known.models()])
        raise ValueError(f"unknown model {name!r}: {meant}`rs5m models` lists them")
    one, rows = known.models()[name], reporting.printed(name).to_dict("records")
    told = one._asdict() | {"trained_on": contact.trained_on(name)}
    if as_json:
        show([told | {"printed": rows}], (), True)
        return
    for key, value in told.items():
        print(f"{key.replace('_', ' '):<14}{value if value not in ('', 0) else 'not known'}")
    if not rows:
        print("no number that its authors printed was checked for it here")
        return
    print("\nprinted numbers")
    digits = {"%": ".2f"}
    for row in rows:
        row["value"] = f"{row['value']:{digits.get(row['unit'], 'g')}} {row['unit']}"
    show(rows, ("dataset", "metric", "value", "protocol", "source"), False)


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
