"""A command's options as its parser has them, for people to read. Chapter: reference."""

import argparse
import re
from collections.abc import Iterator
from html import escape


def parsers(root: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command's name, such as "rs5m detector fit", and its parser, that of `root` first."""
    yield root.prog, root
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)


def options(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """What is typed, such as "--out PATH", and the sentence on it, of each option but --help."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        values = "" if action.nargs == 0 else action.metavar
        if action.nargs == "+":
            values = f"{values} ..."
        typed = " ".join([*action.option_strings, values]).strip()
        said = action.help % (vars(action) | {"prog": parser.prog})
        needed = action.required and action.option_strings
        found.append((typed, f"{said} Required." if needed else said))
    return found


def show(parser: argparse.ArgumentParser) -> None:
    """Displays a parser's options as a list of definitions, and its examples, in a notebook."""
    from IPython.display import display

    text = parser.format_help()
    display({"text/html": to_html(parser), "text/plain": text}, raw=True)


def to_html(parser: argparse.ArgumentParser) -> str:
    """The options as a list of definitions, then what the parser says at the end."""
    terms = "".join(
        f"<dt><code>{escape(typed)}</code></dt><dd>{_coded(said)}</dd>"
        for typed, said in options(parser)
    )
    style = "white-space:pre-wrap;overflow-wrap:anywhere"
    said = f'<pre style="{style}">{escape(parser.epilog)}</pre>' if parser.epilog else ""
    return f"<dl>{terms}</dl>{said}" if terms else said


def _coded(said: str) -> str:
    """A sentence as HTML, what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(said))
