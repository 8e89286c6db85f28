"""Runs the chapters of _toc.yml at one scale and renders what ran into _build/html.

    python tools/reproduce.py --scale mini
    python tools/reproduce.py --scale mini --render      run nothing, render what has run

A chapter runs again when its code, the code or result of a chapter before it, rs5m/,
constraints.txt, the Python version or the data behind the scale changed; an edit of its prose alone
is rendered with the outputs it already has. runs/<scale>/book/ keeps what ran; _build/html always
holds the scale rendered last.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import notebooks

from rs5m.book import scales

VOLATILE = {"seconds", "date", "commit"}  # differ between two runs that found the same


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def surroundings(root: Path, scale: scales.Scale) -> str:
    """Digest of everything outside the chapters that can change what they find."""
    files = [
        path
        for path in sorted((root / "rs5m").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [path for path in [root / "constraints.txt"] if path.exists()]
    held = [f"{path.relative_to(root)} {file_digest(path)}" for path in files]
    for folder, _, names in os.walk(scales.data_folder(scale)) if scale.needs else []:
        held += [f"{name} {os.stat(os.path.join(folder, name)).st_size}" for name in names]
    return digest(scale, sys.version_info[:3], *sorted(held))


def findings(path: Path) -> str:
    """Digest of a result file without what differs between two runs that found the same."""

    def stable(value):
        if isinstance(value, dict):
            return {key: stable(item) for key, item in value.items() if key not in VOLATILE}
        return [stable(item) for item in value] if isinstance(value, list) else value

    return digest(json.dumps(stable(json.loads(path.read_text())), sort_keys=True))


def order(pages: list[str]) -> list[str]:
    """The order to run in: as in `_toc.yml`, but the root page last, since it reports what the
    chapters found.
    """
    return [*pages[1:], pages[0]]


class Chapter:
    """One page that holds code: its source, and where its executed notebook and the record of that
    run live.
    """

    def __init__(self, root: Path, scale: str, page: str, source: nbformat.NotebookNode):
        self.root, self.scale, self.page, self.source = root, scale, page, source
        self.code = [cell.source for cell in notebooks.code_cells(source)]
        self.folder = root / "runs" / scale / "book"
        self.ran, self.record = self.folder / f"{page}.ipynb", self.folder / f"{page}.json"

    def recorded(self) -> dict:
        return json.loads(self.record.read_text()) if self.record.exists() else {}

    def current(self, key: str) -> bool:
        """Did exactly this run already, with its results still as it wrote them?"""
        record = self.recorded()
        if not self.ran.exists() or record.get("key") != key:
            return False
        if not record[
            "results"
        ]:  # a page that finds nothing reports what others found, at other scales too
            return record["elsewhere"] == self.elsewhere()
        kept = ((self.root / path, sha) for path, sha in record["results"].items())
        return all(path.exists() and file_digest(path) == sha for path, sha in kept)

    def elsewhere(self) -> str:
        """Digest of what the other scales found."""
        paths = sorted(self.root.glob("results/*/*.json"))
        return digest(
            *(f"{path} {findings(path)}" for path in paths if path.parent.name != self.scale)
        )

    def results(self) -> dict[str, int]:
        """path -> time of writing, for every result of this scale."""
        paths = self.root.glob(f"results/{self.scale}/*.json")
        return {str(path.relative_to(self.root)): path.stat().st_mtime_ns for path in paths}

    def run(self, key: str) -> float:
        """Execute in a fresh kernel; seconds. Only a whole run is stored, a failure leaves the
        previous one alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        source, target = (
            self.folder / f".{self.page}.source.ipynb",
            self.folder / f".{self.page}.ipynb",
        )
        nbformat.write(self.source, source)
        before, start = self.results(), time.perf_counter()
        self.execute(source, target)
        seconds = round(time.perf_counter() - start, 1)
        self.check(nbformat.read(target, 4))
        wrote = {
            path: file_digest(self.root / path)
            for path, at in self.results().items()
            if before.get(path) != at
        }
        self.record.unlink(missing_ok=True)
        target.replace(self.ran)
        source.unlink()
        fresh = self.folder / f".{self.page}.json"
        record = {"key": key, "seconds": seconds, "results": wrote, "elsewhere": self.elsewhere()}
        fresh.write_text(json.dumps(record, indent=1))
        fresh.replace(self.record)
        return seconds

    def execute(self, source: Path, target: Path) -> None:
        import papermill
        from nbclient.exceptions import DeadKernelError

        if not any("parameters" in cell.metadata.get("tags", []) for cell in self.source.cells):
            raise SystemExit(
                f"book/{self.page}.md has code but no cell tagged parameters that sets scale"
            )
        os.environ.setdefault(
            "JUPYTER_PREFER_ENV_PATH", "1"
        )  # the kernel of this environment, not the user's
        os.environ.setdefault("PYTHONHASHSEED", "0")
        os.environ.setdefault(
            "GOMP_SPINCOUNT", "2000"
        )  # threads that spin for long crawl on a busy machine
        options = {
            "kernel_name": "python3",
            "cwd": self.root,
            "progress_bar": False,
            "start_timeout": 300,
            "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
        }
        try:
            papermill.execute_notebook(source, target, {"scale": self.scale}, **options)
        except papermill.PapermillExecutionError as error:
            raise SystemExit(self.failure(error.source, "\n".join(error.traceback))) from None
        except DeadKernelError:
            raise SystemExit(
                f"\n{self.page} stopped: its kernel died, most likely for lack of memory"
            ) from None

    def failure(self, code: str, traceback: str) -> str:
        """What a reader needs to mend a cell: chapter, cell, line, source, plain traceback."""
        number = self.code.index(code) + 1 if code in self.code else "that sets the scale"
        text = (self.root / "book" / f"{self.page}.md").read_text(encoding="utf-8")
        line = text[: max(text.find(code), 0)].count("\n") + 1
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", traceback)
        return f"\n{self.page} stopped in code cell {number} (book/{self.page}.md, line {line}):\n\n{code}\n\n{plain}"

    def check(self, ran: nbformat.NotebookNode) -> None:
        """Every picture has a text for those who cannot see it."""
        for cell in self.merged(ran).cells:
            drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
            hidden = any(tag.startswith("remove") for tag in cell.metadata.get("tags", []))
            if (
                drawn
                and not hidden
                and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
            ):
                number = (
                    self.code.index(cell.source) + 1
                    if cell.source in self.code
                    else "of parameters"
                )
                cure = "add mystnb: image: alt: to that cell"
                raise SystemExit(
                    f"\n{self.page}: code cell {number} draws a figure without alt text; {cure}"
                )

    def merged(self, ran: nbformat.NotebookNode) -> nbformat.NotebookNode:
        """Today's prose with the outputs of that run, the parameters cell showing the scale that
        ran.
        """
        page = nbformat.from_dict(self.source)
        injected = "injected-parameters"
        done = [
            cell
            for cell in notebooks.code_cells(ran)
            if injected not in cell.metadata.get("tags", [])
        ]
        for cell, executed in zip(notebooks.code_cells(page), done, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = re.sub(
                    r'^scale = "\w+"', f'scale = "{self.scale}"', cell.source, flags=re.M
                )
        return page


def run_chapters(
    root: Path, scale: str, around: str, only_render: bool
) -> dict[str, nbformat.NotebookNode | None]:
    """Run what is not current, in order, a line each; page -> what to render (None for a page of
    prose alone).
    """
    pages = notebooks.toc(root)
    chain, rendered = "", dict.fromkeys(pages)
    for number, page in enumerate(order(pages), 1):
        source = notebooks.read(root, page)
        if not notebooks.code_cells(source):
            continue
        chapter = Chapter(root, scale, page, source)
        key = chain = digest(around, chain, *chapter.code)
        if not chapter.current(key):
            if only_render:
                cure = f"run `make reproduce SCALE={scale}` first"
                raise SystemExit(
                    f"{page} has not run at scale {scale} since its code changed: {cure}"
                )
            print(f"[{number}/{len(pages)}] {page:<12}", end="", flush=True)
            print(f"{chapter.run(key):8.1f} s", flush=True)
        else:
            print(f"[{number}/{len(pages)}] {page:<12}up to date", flush=True)
        chain = digest(
            chain, *(findings(root / path) for path in sorted(chapter.recorded()["results"]))
        )
        rendered[page] = chapter.merged(nbformat.read(chapter.ran, 4))
    return rendered


def assemble(root: Path, rendered: dict[str, nbformat.NotebookNode | None]) -> Path:
    """A folder for jupyter-book: executed notebooks, pages of prose, and every other file of book/."""
    folder = root / "_build" / "source"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "book", folder, ignore=shutil.ignore_patterns("*.md", "*.ipynb", ".*"))
    ran = "|".join(page for page, notebook in rendered.items() if notebook)
    address = "{}/blob/{}/".format(*notebooks.repository(root))

    def links(text: str) -> str:
        """A page that ran is an .ipynb here, and a file outside book/ lives in the repository only."""
        text = re.sub(rf"(?<=\]\()({ran})\.md\b", r"\1.ipynb", text)
        return re.sub(r"(?<=\]\()\.\./", address, text)

    for page, notebook in rendered.items():
        if notebook is None:
            text = (root / "book" / f"{page}.md").read_text(encoding="utf-8")
            (folder / f"{page}.md").write_text(links(text), encoding="utf-8")
            continue
        for cell in notebook.cells:
            cell.source = links(cell.source) if cell.cell_type == "markdown" else cell.source
        notebooks.name_cells(notebook)
        nbformat.write(notebook, folder / f"{page}.ipynb")
    return folder


def complaints(root: Path, said: str) -> str:
    """jupyter-book's warnings, each with its place in the .md source; its last words when it gave
    none.
    """

    def place(match: re.Match) -> str:
        page, number, line = match[1], *divmod(int(match[2]), 10000)  # myst-nb counts 10000 a cell
        cell = notebooks.read(root, page).cells[number - 1].source
        before = (root / "book" / f"{page}.md").read_text(encoding="utf-8").partition(cell)[0]
        return f"book/{page}.md:{before.count(chr(10)) + line - 1}:"

    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace(
        f"{root / '_build' / 'source'}/", ""
    )
    lines = [
        line for line in plain.splitlines() if "WARNING" in line or "ERROR" in line
    ] or plain.splitlines()[-30:]
    return re.sub(r"^([\w-]+)\.ipynb:(\d{5,}):", place, "\n".join(lines), flags=re.M)


def render(root: Path, rendered: dict[str, nbformat.NotebookNode | None]) -> None:
    """HTML of the whole book in _build/html, from nothing: Sphinx checks a reference only on pages
    it rewrites.
    """
    build, folder = root / "_build", assemble(root, rendered)
    files = [
        root / "_config.yml",
        root / "_toc.yml",
        *sorted(path for path in folder.rglob("*") if path.is_file()),
    ]
    wanted, stamp = (
        digest(*(f"{path.name} {file_digest(path)}" for path in files)),
        build / "html.sha256",
    )
    if (build / "html").exists() and stamp.exists() and stamp.read_text() == wanted:
        return print("book        up to date")
    start = time.perf_counter()
    shutil.rmtree(build / "new", ignore_errors=True)
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        folder,
        "--path-output",
        build / "new",
        "--config",
        root / "_config.yml",
        "--toc",
        root / "_toc.yml",
        "-W",
        "-n",
        "--keep-going",
    ]
    said = subprocess.run(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if said.returncode:
        raise SystemExit(f"the book does not render cleanly:\n{complaints(root, said.stdout)}")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(build / "html", ignore_errors=True)
    (build / "new" / "_build" / "html").replace(build / "html")
    shutil.rmtree(build / "new")
    stamp.write_text(wanted)
    print(f"book        {time.perf_counter() - start:8.1f} s")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="mini", help=" | ".join(scales.SCALES))
    parser.add_argument("--render", action="store_true", help="run nothing, render what has run")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parents[1], help="folder of _toc.yml"
    )
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    os.chdir(root)  # a relative RS5M_DATA starts there, here as in the chapters
    try:
        around = surroundings(root, scales.get(options.scale))
    except (ValueError, FileNotFoundError) as error:  # an unknown scale, a scale without its data
        raise SystemExit(str(error)) from None
    render(root, run_chapters(root, options.scale, around, options.render))
    print(f"scale {options.scale}: _build/html/index.html")


if __name__ == "__main__":
    main()
