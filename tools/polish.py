"""What Sphinx's extensions leave in a rendered page and no reader needs, taken out of _build/html;
the version where _config.yml wants it, a card for shared links, a page for wrong addresses.

sphinx-thebe names an address outside the book and declares it twice, an error in the console; the
bibliography's list claims a role that its entries do not have. A figure opens at full size.
"""

import html
import re
from pathlib import Path

from rs5m import __version__

THEBE = re.compile(
    r' *<script>const THEBE_JS_URL.*?</script>\n?| *<script[^>]*src="[^"]*sphinx-thebe\.js[^"]*">'
    r"</script>\n?"
)
TITLE = re.compile(r"<title>(?:[\d.]+ )?(.*?) &#8212; ")
CANONICAL = re.compile(
    r'<link rel="canonical" href="((.*?)[^/"]*)"'
)  # where the book has a baseurl
PICTURE = re.compile(r'<img [^>]*src="(_images/[^"]+)"')
DESCRIPTION = re.compile(r'<meta content="([^"]*)"[^>]* name="description"')
MISSING = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>No such page</title>
<main><h1>No such page</h1><p>This book has no page of that name.
<a href="index.html">Its first page</a> lists all there are.</p></main></html>
"""
FIGURE = re.compile(r'(<figure [^>]*>\s*)(<img [^>]*src="(_images/[^"]+)"[^>]*>)')
ROLES = re.compile(r' role="list"(?= class="citation-list")| role="doc-biblioentry"')

PASTED = '<span class="pasted-text">'


def page(text: str, origin: str = "") -> str:
    """The HTML of a page without them; `origin` says where the numbers of its prose come from, at
    each of them and at the page's foot.
    """
    text = ROLES.sub("", THEBE.sub("", text)).replace("{rs5m version}", __version__)
    # small on a telephone: a tap shows the picture alone
    text = FIGURE.sub(r'\1<a href="\3" title="Open at full size">\2</a>', text)
    told = html.escape(origin)
    text = text.replace("{rs5m origin}", f"Numbers underlined with dots: {told}." if told else "")
    if told:
        text = text.replace(PASTED, f'{PASTED[:-1]} title="{told[0].upper()}{told[1:]}">')
    title, about = TITLE.search(text), DESCRIPTION.search(text)
    if not (title and about):
        return text
    told = {"type": "article", "title": title[1], "description": about[1]}
    if at := CANONICAL.search(text):
        told["url"], picture = at[1], PICTURE.search(text)
        told |= {"image": at[2] + picture[1]} if picture else {}
    card = "".join(f'<meta property="og:{key}" content="{value}" />' for key, value in told.items())
    return text.replace("</title>", f"</title>{card}", 1)


def site(folder: Path, origins: dict[str, str]) -> None:
    """The same for every page of a folder, in place, and 404.html beside them; origins: of the
    numbers of some pages.
    """
    for file in sorted(folder.glob("*.html")):
        text = file.read_text(encoding="utf-8")
        if (done := page(text, origins.get(file.stem, ""))) != text:
            file.write_text(done, encoding="utf-8")
    (folder / "404.html").write_text(MISSING, encoding="utf-8")
