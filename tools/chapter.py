"""A chapter: when it has to run again, its run in a fresh kernel, and what of it the page shows."""

import json
import os
import re
import time
from pathlib import Path

import nbformat
import notebooks
import tables
from rendering import COLOURS, digest, file_digest

from rs5m.files import whole

OPTIONS = {  # of papermill
    "kernel_name": "python3",
    "progress_bar": False,
    "start_timeout": 300,
    "extra_arguments": ["--IPKernelApp.log_level=CRITICAL"],
}
KERNEL = {  # where the reader has not set them
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not the user's
    "PYTHONHASHSEED": "0",
    "GOMP_SPINCOUNT": "2000",  # threads that spin for long crawl on a busy machine
}
BOOKKEEPING = re.compile(  # a chapter's first imports, numbers that are kept or set beside others
    r"\A(?:import|from) [\s\S]*^(?:plots\.theme\(|pd\.options)|^ *results\.(?:glue|save)\("
    r"|^paper\.show\(",
    re.M,
)
TEACHES = re.compile(r"^ *(?:def|class|assert|with)\b", re.M)  # a method, a check, a try-out
SHORT = 8  # lines that do not stand in anybody's way
TIMING = "timing.json"
# pages that keep numbers and report what other scales found, as those do that keep none
REPORTS = {"scorecard"}


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def behind_a_toggle(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell's code stands in the way of reading: it sets up, draws, keeps numbers for the
    prose, or is long and shows no method. The notebooks for Colab show it as it is.
    """
    if any(tag.startswith("remove") for tag in tags_of(cell)):
        return False
    drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    reports = cell.source.count("\n") >= SHORT and not TEACHES.search(cell.source)
    return drawn or reports or bool(BOOKKEEPING.search(cell.source))


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
        reports = self.page in REPORTS or not record["results"]
        if reports and record["elsewhere"] != self.elsewhere():
            return False
        kept = ((self.root / path, sha) for path, sha in record["results"].items())
        return all(path.exists() and file_digest(path) == sha for path, sha in kept)

    def elsewhere(self) -> str:
        """Digest of what the other scales found."""
        paths = sorted(self.root.glob("results/*/*.json"))
        others = [path for path in paths if path.parent.name != self.scale and path.name != TIMING]
        return digest(
            *(f"{path.relative_to(self.root).as_posix()} {file_digest(path)}" for path in others)
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
        source = self.folder / f".{self.page}.source.ipynb"
        target = self.folder / f".{self.page}.ipynb"
        nbformat.write(self.source, source)
        before, start = self.results(), time.perf_counter()
        self.execute(source, target)
        seconds = round(time.perf_counter() - start, 1)
        self.check(nbformat.read(target, 4))
        wrote = [path for path, at in self.results().items() if before.get(path) != at]
        self.record.unlink(missing_ok=True)
        target.replace(self.ran)
        source.unlink()
        record = {"key": key, "seconds": seconds, "elsewhere": self.elsewhere()}
        record["results"] = {path: file_digest(self.root / path) for path in wrote}
        with whole(self.record) as temporary:
            temporary.write_text(json.dumps(record, indent=1))
        return seconds

    def execute(self, source: Path, target: Path) -> None:
        import papermill
        from nbclient.exceptions import DeadKernelError

        if not any("parameters" in tags_of(cell) for cell in self.source.cells):
            raise SystemExit(
                f"book/{self.page}.md has code but no cell tagged parameters that sets scale"
            )
        os.environ.update(KERNEL | os.environ)
        try:
            papermill.execute_notebook(
                source, target, {"scale": self.scale}, cwd=self.root, **OPTIONS
            )
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
        place = f"code cell {number} (book/{self.page}.md, line {line})"
        return f"\n{self.page} stopped in {place}:\n\n{code}\n\n{COLOURS.sub('', traceback)}"

    def check(self, ran: nbformat.NotebookNode) -> None:
        """Every picture has a text for those who cannot see it."""
        for cell in self.merged(ran).cells:
            shown = cell.metadata.get("mystnb", {})
            drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
            hidden = any(tag.startswith("remove") for tag in tags_of(cell))
            if drawn and not hidden and not shown.get("image", {}).get("alt"):
                known = cell.source in self.code
                number = self.code.index(cell.source) + 1 if known else "of parameters"
                said = f"{self.page}: code cell {number} draws a figure without alt text"
                raise SystemExit(f"\n{said}; add mystnb: image: alt: to that cell")

    def origin(self, ran: nbformat.NotebookNode) -> str:
        """Where the numbers of the prose come from, for the reader of the page."""
        day = ran.metadata.get("papermill", {}).get("end_time", "")[:10]
        wrote = ", ".join(sorted(self.recorded().get("results", {})))
        said = f"computed by this page's code at scale {self.scale}"
        return f"{said}{f' on {day}' if day else ''}{f', which wrote {wrote}' if wrote else ''}"

    def merged(self, ran: nbformat.NotebookNode) -> nbformat.NotebookNode:
        """Today's prose with the outputs of that run, the parameters cell showing the scale that
        ran.
        """
        page = nbformat.from_dict(self.source)
        page.metadata["origin"] = self.origin(ran)
        pattern, mine = re.compile(r'^scale = "\w+"', re.M), f'scale = "{self.scale}"'
        done = [c for c in notebooks.code_cells(ran) if "injected-parameters" not in tags_of(c)]
        for cell, executed in zip(notebooks.code_cells(page), done, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
            if "parameters" in tags_of(cell):
                cell.source = pattern.sub(mine, cell.source)
            if behind_a_toggle(cell):
                cell.metadata["tags"] = [*tags_of(cell), "hide-input"]
            for output in cell.outputs:
                data = output.get("data", {})
                if "text/html" in data:
                    data["text/html"] = tables.tidy("".join(data["text/html"]))
        return page
