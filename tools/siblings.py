"""Runs the notebooks as Colab does: each alone, top to bottom, from a wheel, in an empty folder.

    python tools/siblings.py                     every notebook book/*.ipynb
    python tools/siblings.py paper keywords      these alone
    python tools/siblings.py --python python3.13 --constraints constraints-colab.txt

The wheel is built from this tree and installed into an environment of its own. Without --python
that one borrows the packages beside this interpreter, rs5m excepted; with it, pip fetches them. No
notebook sees the repository, its results or another notebook's runs; wheels of the pocket world
come from the user's cache. A table at the end has what each took and where it stopped.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import notebooks

ROOT = Path(__file__).resolve().parents[1]
TELL = "import rs5m; print(rs5m.__file__)"
OURS = ("RS5M_DATA", "RS5M_RUNS", "RS5M_STEPS", "RS5M_BATCH", "PYTHONPATH")


def called(*command: object, **options) -> str:
    """What a command prints; SystemExit with its last words where it fails."""
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    if ran.returncode:
        raise SystemExit((ran.stderr or ran.stdout).strip()[-2000:])
    return ran.stdout


def environment(folder: Path, python: str, constraints: str) -> Path:
    """The interpreter of an environment that holds this tree's wheel and what it needs."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder]
    called(*pip, ROOT)
    (wheel,) = folder.glob("rs5m-*.whl")
    called(python or sys.executable, "-m", "venv", folder / "env")
    here = folder / "env" / "bin" / "python"
    install = [here, "-m", "pip", "install", "-q"]
    if python:
        limits = ["-c", Path(constraints).resolve()] if constraints else []
        called(*install, *limits, wheel, "papermill", "ipykernel")
    else:
        called(*install, "--no-deps", "--no-index", wheel)
        (site,) = (folder / "env" / "lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    where = called(here, "-c", TELL, cwd=folder, env=variables()).strip()
    if not Path(where).is_relative_to(folder):
        raise SystemExit(f"the notebooks would import {where}, not the wheel")
    return here


def variables() -> dict[str, str]:
    """The environment of a notebook: as the user's, without what points to data or to a tree."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return kept | {"JUPYTER_PREFER_ENV_PATH": "1"}


def run(python: Path, page: str, folder: Path) -> str:
    """One notebook in an empty folder; what it stopped with, or "ran"."""
    folder.mkdir()
    command = [python, "-m", "papermill", "--no-progress-bar", "--kernel", "python3"]
    command += [ROOT / "book" / f"{page}.ipynb", folder.parent / f"{page}.ran.ipynb"]
    said = subprocess.run(command, cwd=folder, env=variables(), capture_output=True, text=True)
    return "ran" if not said.returncode else said.stderr.strip().splitlines()[-1][:200]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", help="these alone")
    parser.add_argument("--python", default="", help="another interpreter, whose pip fetches all")
    parser.add_argument("--constraints", default="", help="a file of versions for that pip")
    options = parser.parse_args()
    known = [page for page in notebooks.toc(ROOT) if (ROOT / "book" / f"{page}.ipynb").is_file()]
    if unknown := set(options.pages) - set(known):
        raise SystemExit(f"no notebook {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="siblings-") as name:
        folder = Path(name).resolve()
        python = environment(folder, options.python, options.constraints)
        for page in options.pages or known:
            start = time.perf_counter()
            outcomes.append(run(python, page, folder / page))
            print(f"{page:<12} {time.perf_counter() - start:8.1f} s  {outcomes[-1]}", flush=True)
    failed = sum(outcome != "ran" for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} notebooks ran alone")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
