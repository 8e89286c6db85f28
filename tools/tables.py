"""What pandas leaves in the HTML of a table and no reader needs: a row of the head for the index's
name, an index that only counts, names of code, counts with a decimal, True and NaN.
"""

import re
from xml.etree import ElementTree

SNAKE = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)+")
COUNT = re.compile(r"-?\d+\.0+")
LONG = re.compile(r"-?\d{5,}")
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
    if len(head) == 2 and _names_the_index(*head):
        for cell, name in zip(*map(list, head), strict=True):
            cell.text = name.text if _said(name) else cell.text
        table.find("thead").remove(head[1])
    if body and not _said(head[-1][0]) and _counts(body):
        for row in (*head, *body):
            row.remove(row[0])
    _cells(table, [row.findall("td") for row in body])
    return ElementTree.tostring(table, encoding="unicode", method="html")


def _said(cell: ElementTree.Element) -> str:
    return "".join(cell.itertext()).strip()


def _names_the_index(first: ElementTree.Element, second: ElementTree.Element) -> bool:
    """Whether the second row of a head has names in its first cells and nothing else."""
    told = [bool(_said(cell)) for cell in second]
    return len(first) == len(told) and told[0] and told == sorted(told, reverse=True)


def _counts(body: list[ElementTree.Element]) -> bool:
    """Whether the first cells of the rows are 0, 1, 2 and so on."""
    return all(row[0].tag == "th" and _said(row[0]) == str(k) for k, row in enumerate(body))


def _cells(table: ElementTree.Element, body: list[list[ElementTree.Element]]) -> None:
    for column in zip(*body, strict=False):
        known = [cell for cell in column if cell.text and cell.text not in WORDS]
        if all(COUNT.fullmatch(cell.text) for cell in known):
            for cell in known:
                cell.text = f"{float(cell.text):,.0f}"
    for cell in table.iter("td"):
        cell.text = WORDS.get(cell.text, cell.text)
        if LONG.fullmatch(cell.text or ""):
            cell.text = f"{int(cell.text):,}"
    for cell in table.iter("th"):
        if SNAKE.fullmatch(cell.text or ""):
            cell.text = cell.text.replace("_", " ")
        if not _said(cell):
            cell.tag = "td"  # no header is empty
