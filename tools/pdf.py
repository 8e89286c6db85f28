"""The rendered book as one PDF: the pages of _build/html in the order of _toc.yml, code folded,
printed by the system's Chromium.

    make pdf
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import bs4
import notebooks

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-pdf-header-footer",
    "--virtual-time-budget=60000",  # milliseconds that MathJax may take
)
PATIENCE = 600  # seconds; the book takes about forty
SCREEN = "nav.way, .headerlink, .cell_input, script"  # code, and what only a screen needs


def article(folder: Path, page: str, pages: set[str]) -> str:
    """The text of a page, its anchors and links renamed so that they stay apart in one file."""
    soup = bs4.BeautifulSoup((folder / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    found = soup.find("article")
    for element in found.select(SCREEN):
        element.decompose()
    for element in found.find_all(id=True):
        element["id"] = f"{page}--{element['id']}"
    for image in found.find_all("img", loading=True):
        del image["loading"]  # a lazy one would not be printed
    for details in found.find_all("details"):
        summary = details.summary.extract()
        if details.get_text(strip=True) or details.find("img"):
            details.insert(0, summary)
            details["open"] = ""
        else:
            details.decompose()  # the fold of code
    for link in found.find_all("a", href=True):
        there, _, anchor = link["href"].partition("#")
        name = there.removesuffix(".html") or page
        if name in pages and "/" not in there:
            link["href"] = f"#{name}--{anchor}" if anchor else f"#{name}"
    found["id"] = page
    return str(found)


def whole(folder: Path, pages: list[str]) -> str:
    """One HTML page of all; style sheets and formulas as in the first."""
    soup = bs4.BeautifulSoup(
        (folder / f"{pages[0]}.html").read_text(encoding="utf-8"), "html.parser"
    )
    kept = [link for link in soup.head.find_all("link") if "stylesheet" in link.get("rel", [])]
    for script in soup.find_all("script"):
        kept += [script] if "mathjax" in f"{script.get('src')} {script.string}".lower() else []
    head = "".join(map(str, kept))
    text = "".join(article(folder, page, set(pages)) for page in pages)
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">{head}'
        "<style>article { break-before: page; }</style></head>"
        f'<body class="whole"><div class="bd-content">{text}</div></body></html>'
    )


def printed(folder: Path, pages: list[str], out: Path) -> None:
    """Write the PDF; SystemExit without a browser, or if it writes none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        raise SystemExit(f"no Chromium here to print with: install one of {', '.join(BROWSERS)}")
    page = folder / "whole.html"  # beside the pages, whose pictures and styles it names
    page.write_text(whole(folder, pages), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as home:
            command = [browser, *OPTIONS, f"--user-data-dir={home}", f"--print-to-pdf={out}"]
            said = subprocess.run(
                [*command, page.as_uri()], capture_output=True, text=True, timeout=PATIENCE
            )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"Chromium printed nothing in {PATIENCE} seconds") from None
    finally:
        page.unlink()
    if said.returncode or not out.is_file():
        raise SystemExit(f"Chromium printed nothing:\n{said.stderr[-2000:]}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=notebooks.ROOT, help="folder of _toc.yml")
    root = parser.parse_args(arguments).root.resolve()
    folder, out = root / "_build" / "html", root / "_build" / "rs5m.pdf"
    pages = notebooks.toc(root)
    if missing := [page for page in pages if not (folder / f"{page}.html").is_file()]:
        raise SystemExit(f"no page {missing[0]} in _build/html: render the book with `make book`")
    printed(folder, pages, out)
    print(f"{out.relative_to(root)}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
