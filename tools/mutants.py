"""The changes that tools/mutate.py makes: a comparison, `and`, `or`, `not`, + or -, a number, a
truth value, `min` or `max` turned into its neighbour.
"""

import ast
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

WORDS = (("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"))
COMPARED = ((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn))
COMPUTED = ((ast.Is, ast.IsNot), (ast.Add, ast.Sub), (ast.BitAnd, ast.BitOr), (ast.And, ast.Or))
TEXTS = (str, ast.JoinedStr, ast.List)  # what is joined, not added
OTHER = {one: two for pair in (*WORDS, *COMPARED, *COMPUTED) for one, two in (pair, pair[::-1])}


class Change(NamedTuple):
    """A piece of a line, and what comes in its place."""

    line: int
    start: int  # bytes from the beginning of the file
    end: int
    before: str
    after: str


def changes(source: str) -> list[Change]:
    """Every change of a module's text, in order; texts, annotations and decorators stay."""
    begins = [0, *accumulate(map(len, source.encode().splitlines(keepends=True)))]
    found = []
    for node, after in _mutated(ast.parse(source)):
        start = begins[node.lineno - 1] + node.col_offset
        end = begins[node.end_lineno - 1] + node.end_col_offset
        before = source.encode()[start:end].decode()
        found.append(Change(node.lineno, start, end, before, after))
    return sorted(found, key=lambda change: change.start)


def _mutated(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """The nodes below one that can be changed, each with its new text."""
    if isinstance(node, ast.JoinedStr):
        return  # Python 3.11 does not say where its parts are
    if (after := _changed(node)) is not None:
        yield node, after
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _mutated(child)


def _changed(node: ast.AST) -> str | None:
    """The new text of a node; None where there is nothing to change."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right) if type(op) in OTHER:
            return _text(ast.Compare(left, [OTHER[type(op)]()], right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OTHER:
            if any(isinstance(getattr(s, "value", s), TEXTS) for s in (left, right)):
                return None
            return _text(ast.BinOp(left, OTHER[type(op)](), right))
        case ast.BoolOp(op=op, values=values):
            return _text(ast.BoolOp(OTHER[type(op)](), values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _text(operand)
        case ast.Constant(value=bool(value)):
            return repr(not value)
        case ast.Constant(value=int(value)):
            return repr(value + 1)
        case ast.Constant(value=float(value)):
            return repr(value * 1.5 or 1.0)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in OTHER:
            return ast.unparse(node).removesuffix(name) + OTHER[name]
    return None


def _text(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"
