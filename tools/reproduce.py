"""Runs the chapters of _toc.yml at one scale and renders what ran into _build/html.

    python tools/reproduce.py --scale mini
    python tools/reproduce.py --scale mini --render      run nothing, render what has run
    python tools/reproduce.py --scale colab --chapters clip tune --keep-going

A chapter runs again when its code, the code or result of a chapter before it, rs5m/,
constraints.txt, the Python version or the data behind the scale changed; an edit of its prose alone
is rendered with the outputs it already has. runs/<scale>/book/ keeps what ran; _build/html always
holds the scale rendered last. A run of all chapters writes what it took to
results/<scale>/timing.json where no such file is: remove it to measure anew.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import notebooks
from chapter import TIMING, Chapter
from rendering import digest, file_digest, files_of, render

from rs5m import pocket, results
from rs5m.book import scales
from rs5m.files import whole


def surroundings(root: Path, scale: scales.Scale) -> str:
    """Digest of everything outside the chapters that can change what they find."""
    files = [path for path in files_of(root / "rs5m") if "__pycache__" not in path.parts]
    files += [path for path in [root / "constraints.txt"] if path.exists()]
    held = [f"{path.relative_to(root)} {file_digest(path)}" for path in files]
    for folder, _, names in os.walk(scales.data_folder(scale)) if scale.needs else []:
        held += [f"{name} {os.stat(os.path.join(folder, name)).st_size}" for name in names]
    return digest(scale, sys.version_info[:3], *sorted(held))


def order(pages: list[str]) -> list[str]:
    """The order to run in: as in `_toc.yml`, but the root page last, since it reports what the
    chapters found.
    """
    return [*pages[1:], pages[0]]


def run_chapters(
    root: Path, scale: str, around: str, options: argparse.Namespace
) -> tuple[dict[str, nbformat.NotebookNode | None], dict[str, float], dict[str, str]]:
    """Run what is asked for and not current, in order, a line each.

    Returns page -> what to render (None for a page of prose alone), page -> the seconds that it
    took, for those that ran now, and page -> why it can't be rendered.
    """
    pages = notebooks.toc(root)
    if unknown := set(options.chapters) - set(pages):
        raise SystemExit(f"no chapter {', '.join(sorted(unknown))}: choose of {', '.join(pages)}")
    chain, rendered, took, missing = "", dict.fromkeys(pages), {}, {}
    for number, page in enumerate(order(pages), 1):
        source = notebooks.read(root, page)
        if not notebooks.code_cells(source):
            continue
        chapter = Chapter(root, scale, page, source)
        key = digest(around, chain, *chapter.code)
        current = chapter.current(key)
        if not current and (options.render or page not in (options.chapters or pages)):
            missing[page] = "has not run since its code changed"
        else:
            print(f"[{number}/{len(pages)}] {page:<12}", end="", flush=True)
            try:
                took |= {} if current else {page: chapter.run(key)}
            except SystemExit as failure:
                if not options.keep_going:
                    raise
                print(failure, flush=True)
                missing[page] = f"failed: {last_line(failure)}"
            else:
                print("up to date" if current else f"{took[page]:8.1f} s", flush=True)
        found = chapter.recorded().get("results", ())
        present = [root / path for path in sorted(found) if (root / path).exists()]
        chain = digest(key, *map(file_digest, present))
        if page not in missing:
            rendered[page] = chapter.merged(nbformat.read(chapter.ran, 4))
    return rendered, took, missing


def last_line(failure: SystemExit) -> str:
    """What a chapter stopped with, on one line."""
    return str(failure).strip().splitlines()[-1][:200]


def outcomes(
    rendered: dict[str, nbformat.NotebookNode | None],
    took: dict[str, float],
    missing: dict[str, str],
) -> None:
    """The table of a run: chapter, seconds, outcome. Arguments: what `run_chapters` returns."""
    print(f"\n{'chapter':<12} {'seconds':>8}  outcome")
    for page in order(list(rendered)):
        if rendered[page] is not None or page in missing:
            state = missing.get(page) or ("ran" if page in took else "up to date")
            print(f"{page:<12} {took.get(page, ''):>8}  {state}")
    if missing:
        print("not rendered: the book is rendered where every chapter has run", flush=True)


def gigabytes(folder: Path) -> float:
    """What a folder takes on the disk, as `du` counts it."""
    kept = (path for path in files_of(folder) if not path.is_symlink())
    return round(sum(path.stat().st_blocks for path in kept) * 512 / 1e9, 2)


def keep_timing(root: Path, scale: str, cold: bool, seconds: float, took: dict[str, float]) -> None:
    """Write results/<scale>/timing.json where none is, or a cold run's over a warm one's.

    Args:
        root: of the project.
        scale: that ran.
        cold: no chapter had run before at this scale, so that no stage was loaded.
        seconds: wall clock of chapters and rendering.
        took: seconds of each chapter.
    """
    path, setup = root / "results" / scale / TIMING, root / ".venv" / "setup.seconds"
    if path.exists() and not (cold and json.loads(path.read_text())["run"] == "warm"):
        return
    folders = {name: root / name for name in (".venv", f"runs/{scale}", "_build")}
    folders["cache"] = pocket.cache_folder()
    origin = results.provenance(scale, seed=0)
    record = {
        "run": "cold" if cold else "warm",
        "seconds": round(seconds),
        "setup_seconds": int(setup.read_text()) if setup.exists() else None,
        "chapters": took,
        "gigabytes": {name: gigabytes(folder) for name, folder in folders.items()},
        "cpus": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    } | {key: origin[key] for key in ("device", "machine", "python", "commit")}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{path.relative_to(root)}: {record['run']}, {seconds / 60:.1f} minutes")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="mini", help=" | ".join(scales.SCALES))
    parser.add_argument("--render", action="store_true", help="run nothing, render what has run")
    parser.add_argument("--chapters", nargs="+", default=[], help="run these alone")
    parser.add_argument("--keep-going", action="store_true", help="go on after one that fails")
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
    if not (options.render or scales.get(options.scale).lock_text):
        from rs5m.book import parts  # imports torch, for which the laptop's scales need not wait

        asked = options.chapters or notebooks.toc(root)
        for line in parts.told(scales.get(options.scale), asked):
            print(line, flush=True)
    start, cold = time.perf_counter(), not (root / "runs" / options.scale / "book").exists()
    rendered, took, missing = run_chapters(root, options.scale, around, options)
    if options.keep_going or missing:
        outcomes(rendered, took, missing)
    if missing:
        failed = any(state.startswith("failed") for state in missing.values())
        if options.render or failed:
            raise SystemExit(f"run `make reproduce SCALE={options.scale}` for what is missing")
        return
    render(root, rendered)
    if len(took) == sum(notebook is not None for notebook in rendered.values()):
        keep_timing(root, options.scale, cold, time.perf_counter() - start, took)
    print(f"scale {options.scale}: _build/html/index.html")


if __name__ == "__main__":
    main()
