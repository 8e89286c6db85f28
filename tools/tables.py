"""What pandas leaves in the HTML of a table and no reader needs: a row of the head for the index's
name, an index of numbers without a name, an empty column, the same words in every row, names of
code, counts with a decimal, True and NaN.
"""

import re
from xml.etree import ElementTree

SNAKE = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)+|http_\d{3}")
COUNT = re.compile(r"-?\d+\.0+")
LONG = re.compile(r"-?\d{4,}")
BOUNDS = re.compile(r"(\[[-+.\d]+,) (?=[-+.\d]+\])")
YEAR = re.compile(r"(19|20)\d\d")
SENTENCE = 30  # letters that a telephone must not break at every word
MANY = 8  # columns that need narrow cells to stand side by side
WORDS = dict.fromkeys(("NaN", "nan", "None", "<NA>"), "—") | {"True": "yes", "False": "no"}


def tidy(html: str) -> str:
    """The same HTML with its tables as a reader wants them; one that is no XML stays as it is."""
    return re.sub(r"<table\b.*?</table>", lambda match: _table(match[0]), html, flags=re.S)


def _table(text: str) -> str:
    try:
        table = ElementTree.fromstring(text.replace("&nbsp;", " "))
    except ElementTree.ParseError:
        return text
    if table.get("class") != "dataframe" and not table.get("id", "").startswith("T_"):
        return text  # not of pandas
    table.set("class", "dataframe")
    table.set("tabindex", "0")  # a wide one scrolls in its own box: let the keyboard reach it
    head, body = table.findall("thead/tr"), table.findall("tbody/tr")
    if len(head) > 1 and _names_the_index(*head[-2:]):
        for cell, name in zip(*map(list, head[-2:]), strict=True):
            cell.text = name.text if _said(name) else cell.text
        table.find("thead").remove(head.pop())
    if body and not _said(head[-1][0]) and _numbers(body) or _is_empty(head, body):
        for row in (*head, *body):
            row.remove(row[0])
    if body and len(body[0]) >= MANY:
        table.set("class", "dataframe wide")
    else:
        for cell in table.iter("td"):  # an interval stays on one line where there is room
            cell.text = BOUNDS.sub("\\1\u00a0", cell.text) if cell.text else cell.text
    _cells(table, [row.findall("td") for row in body])
    names = head[-1] if head else []
    judged = {"verdict", "outcome"} & set(map(_said, names))
    if judged and all(len(row) == len(names) for row in body):
        _as_cards(table, names, body)
    _say_once(body)
    return ElementTree.tostring(table, encoding="unicode", method="html")


def _said(cell: ElementTree.Element) -> str:
    return "".join(cell.itertext()).strip()


def _names_the_index(first: ElementTree.Element, second: ElementTree.Element) -> bool:
    """Whether the second row of a head has names in its first cells and nothing else."""
    told = [bool(_said(cell)) for cell in second]
    return len(first) == len(told) and told[0] and told == sorted(told, reverse=True)


def _numbers(body: list[ElementTree.Element]) -> bool:
    """Whether each row has one header, a number: its place in a longer table."""
    return all(len(row.findall("th")) == 1 and _said(row[0]).isdecimal() for row in body)


def _is_empty(head: list[ElementTree.Element], body: list[ElementTree.Element]) -> bool:
    """Whether the first column is one of cells and has none that says anything."""
    lone = len(head) == 1 and len({len(row) for row in (*head, *body)}) == 1
    return lone and all(row[0].tag == "td" and not _said(row[0]) for row in body)


def _as_cards(table: ElementTree.Element, head: ElementTree.Element, body: list) -> None:
    """Names its column in each cell: on a telephone a row is a card, its verdict in sight."""
    table.set("class", f"{table.get('class')} cards")
    for row in body:
        for cell, name in zip(row, head, strict=True):
            cell.set("data-label", _said(name))


def _say_once(body: list[ElementTree.Element]) -> None:
    """A long text that the last cells of all rows repeat becomes one cell."""
    last = [row[-1] for row in body]
    if len(body) > 1 and len({_said(cell) for cell in last}) == 1 and len(_said(last[0])) > 20:
        last[0].set("rowspan", str(len(body)))
        if label := last[0].get("data-label"):
            last[0].set("data-label", f"{label} for all")
        for row, cell in zip(body[1:], last[1:], strict=True):
            row.remove(cell)


def _cells(table: ElementTree.Element, body: list[list[ElementTree.Element]]) -> None:
    for column in zip(*body, strict=False):
        known = [cell for cell in column if cell.text and cell.text not in WORDS]
        if all(COUNT.fullmatch(cell.text) for cell in known):
            for cell in known:
                cell.text = f"{float(cell.text):,.0f}"
        long = [cell for cell in known if LONG.fullmatch(cell.text)]
        if not all(YEAR.fullmatch(cell.text) for cell in long):
            for cell in long:
                cell.text = f"{int(cell.text):,}"
    for cell in table.iter():
        cell.text = WORDS.get(cell.text, cell.text)
        if cell.tag in ("td", "th") and len(_said(cell)) > SENTENCE:
            cell.set("class", "long")
    for cell in table.iter("th"):
        if SNAKE.fullmatch(cell.text or ""):
            cell.text = cell.text.replace("_", " ")
        if not _said(cell):
            cell.tag = "td"  # no header is empty
