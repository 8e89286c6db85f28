"""The pages of the book as HTML in _build/html, from executed notebooks and pages of prose."""

import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import notebooks
import polish
import strip
import terms

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assemble(root: Path, rendered: dict[str, nbformat.NotebookNode | None]) -> Path:
    """The folder for jupyter-book: executed notebooks, pages of prose, the other files of book/."""
    folder = root / "_build" / "source"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "book", folder, ignore=shutil.ignore_patterns("*.md", "*.ipynb", ".*"))
    ran = "|".join(page for page, notebook in rendered.items() if notebook)
    address = "{}/blob/{}/".format(*notebooks.repository(root))

    def links(text: str) -> str:
        """A page that ran is an .ipynb here; a file outside book/ is in the repository only."""
        text = re.sub(rf"(?<=\]\()({ran})\.md\b", r"\1.ipynb", text)
        return re.sub(r"(?<=\]\()\.\./", address, text)

    titles = notebooks.titles(root, rendered)
    for page, notebook in rendered.items():
        line = strip.strip(root, page, titles)
        if notebook is None:
            text = (root / "book" / f"{page}.md").read_text(encoding="utf-8")
            text = strip.below_title(links(text), line)
            (folder / f"{page}.md").write_text(text, encoding="utf-8")
            continue
        mark = terms.marker(root)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = links(mark(cell.source))
        if cell := strip.titled(notebook):
            cell.source = strip.below_title(cell.source, line)
        notebooks.name_cells(notebook)
        nbformat.write(notebook, folder / f"{page}.ipynb")
    return folder


def complaints(root: Path, said: str) -> str:
    """jupyter-book's warnings, each with its place in the .md source; its last words when it gave
    none.
    """

    def place(match: re.Match) -> str:
        page, line = match[1], int(match[3])
        text = cell = (root / "book" / f"{page}.md").read_text(encoding="utf-8")
        titled = True
        if match[2] == "ipynb":
            number, line = divmod(line - 1, 10000)  # myst-nb counts 10000 a cell
            notebook = notebooks.read(root, page)
            titled = notebook.cells[number - 1] is strip.titled(notebook)
            cell = notebook.cells[number - 1].source
        line = strip.moved_back(cell, line) if titled else line
        return f"book/{page}.md:{text.partition(cell)[0].count(chr(10)) + line}:"

    lines = COLOURS.sub("", said).replace(f"{root / '_build' / 'source'}/", "").splitlines()
    lines = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:]
    return re.sub(r"^([\w-]+)\.(ipynb|md):(\d+):", place, "\n".join(lines), flags=re.M)


def render(root: Path, rendered: dict[str, nbformat.NotebookNode | None]) -> None:
    """HTML of the whole book in _build/html, from nothing: Sphinx checks a reference only on pages
    it rewrites.
    """
    origins = {page: one.metadata.pop("origin", "") for page, one in rendered.items() if one}
    build, folder = root / "_build", assemble(root, rendered)
    config, toc, stamp = root / "_config.yml", root / "_toc.yml", build / "html.sha256"
    files = [config, toc, *files_of(folder)]
    wanted = digest(origins, *(f"{path.name} {file_digest(path)}" for path in files))
    if (build / "html").exists() and stamp.exists() and stamp.read_text() == wanted:
        print("book        up to date")
        return
    start = time.perf_counter()
    shutil.rmtree(build / "new", ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder]
    command += ["--path-output", build / "new", "--config", config, "--toc", toc]
    command += ["-W", "-n", "--keep-going"]
    said = subprocess.run(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if said.returncode:
        raise SystemExit(f"the book does not render cleanly:\n{complaints(root, said.stdout)}")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(build / "html", ignore_errors=True)
    polish.site(build / "new" / "_build" / "html", origins)
    (build / "new" / "_build" / "html").replace(build / "html")
    shutil.rmtree(build / "new")
    stamp.write_text(wanted)
    print(f"book        {time.perf_counter() - start:8.1f} s")
