"""Where numbers and artefacts are kept: results/<scale>/*.json and runs/<scale>/<stage>-<hash>/.
Chapter: setup.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rs5m import reach
from rs5m.files import cache_folder, whole, whole_folder

SHIPPED = Path(__file__).parent / "stored"  # a wheel has the project's results here
PACKAGES = ("torch", "open_clip_torch", "timm", "peft", "transformers", "numpy")


def root() -> Path:
    """The project's folder: the nearest parent of the working directory that holds our book, else
    the directory.
    """
    return _book() or Path.cwd()


def _book() -> Path | None:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "rs5m").is_dir():
            return folder
    return None


@contextmanager
def in_cache() -> Iterator[None]:
    """Keep what `artefact` makes in this block in the user's cache folder (RS5M_CACHE, else
    ~/.cache/rs5m) unless a book is around it: for commands that write to --out alone.
    """
    global _elsewhere
    before, _elsewhere = _elsewhere, True
    try:
        yield
    finally:
        _elsewhere = before


_elsewhere = False


def _runs() -> Path:
    if named := os.environ.get("RS5M_RUNS"):
        folder = Path(named).absolute()
        if not folder.parent.is_dir():  # made here, it would go with the machine
            raise FileNotFoundError(
                f"RS5M_RUNS is {folder} and {folder.parent} is not there: make it, or mount its "
                "drive"
            )
        return folder
    if _book() or not _elsewhere:
        return root() / "runs"
    return cache_folder() / "runs"


def commit() -> str | None:
    """The commit of this package's own checkout, whatever repository the user stands in; None where
    it is installed without one.
    """
    try:
        for asked in (["ls-files", "--error-unmatch", "results.py"], ["rev-parse", "HEAD"]):
            said = subprocess.run(
                ["git", *asked], cwd=reach.PACKAGE, capture_output=True, text=True, check=True
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()


def provenance(scale: str, seed: int) -> dict:
    """Scale, device, versions, commit and seed of a run."""
    from rs5m.device import device  # torch is slow to import, and a table needs none of it

    return {
        "scale": scale,
        "device": str(device()),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit(),
        "seed": seed,
    }


def save(name: str, scale: str, values: dict, seconds: float, seed: int = 0) -> Path:
    """Write results/<scale>/<name>.json, {values, provenance}; NaN becomes null.

    Values that are already there leave the file's bytes alone, so that two equal runs leave git
    nothing to show; what differs between them goes to runs/<scale>/ran/<name>.json, which git
    ignores. ValueError for an infinite value, TypeError for one that is not JSON.

    Args:
        name: the chapter's, the file's stem.
        scale: the folder in results/.
        values: what was found, no measured times among them.
        seconds: what finding it took.
        seed: of the run.
    """
    path = root() / "results" / scale / f"{name}.json"
    origin, held = provenance(scale, seed), json.loads(path.read_text()) if path.is_file() else {}
    ran = {key: origin.pop(key) for key in ("commit", "device")}
    ran |= {"seconds": round(seconds, 1), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    if json.loads(_text(values)) != held.get("values"):
        _write(path, {"values": values, "provenance": origin})
    path.touch()  # the time tells tools/reproduce.py that this run wrote it
    _write(_ran(name, scale), ran)
    return path


def load(name: str, scale: str) -> dict | None:
    """What `save` wrote, {values, provenance, ran}, or None where there is no result.

    ran: seconds, date, commit and device of the last run here, or {} if it ran elsewhere.
    """
    path, ran = stored(f"{name}.json", scale), _ran(name, scale)
    if not path.is_file():
        return None
    return json.loads(path.read_text()) | {
        "ran": json.loads(ran.read_text()) if ran.is_file() else {}
    }


def stored(file: str, scale: str) -> Path:
    """The path of results/<scale>/<file>: the project's, else what the installed package ships, so
    that a chapter that reports what others found runs alone; for a command also its own checkout's.
    """
    own = root() / "results"
    places = (own, SHIPPED, *[reach.PACKAGE.parent / "results"] * _elsewhere)
    found = (folder / scale / file for folder in places)
    return next(filter(Path.is_file, found), own / scale / file)


def measured(name: str, scale: str, here: bool, measure: Callable[[], dict]) -> dict | None:
    """The values of a result that one scale alone can measure, for the pages of every scale; None
    where it was never measured.

    Args:
        name, scale: where it is stored, see `save`.
        here: its data are there: it is measured and stored; else what was stored is given.
        measure: makes the values.
    """
    if here:
        start = time.perf_counter()
        values = measure()
        save(name, scale, values, time.perf_counter() - start)
    record = load(name, scale)
    return record["values"] if record else None


def _ran(name: str, scale: str) -> Path:
    return root() / "runs" / scale / "ran" / f"{name}.json"


def _text(record: object) -> str:
    """JSON that every reader accepts: no NaN, no infinity."""
    return json.dumps(_plain(record), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _write(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _text(record)
    with whole(path) as temporary:
        temporary.write_text(text)


def digest(*parts) -> str:
    """Twelve hex digits of SHA-256 over files (name and bytes) and anything with a stable repr."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            total.update(part.name.encode() + part.read_bytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()[:12]


def artefact(
    stage: str, scale: str, inputs: tuple, make: Callable[[Path], None], resumes: bool = False
) -> Path:
    """The folder runs/<scale>/<stage>-<hash of code and inputs>, loaded if it is there, else filled
    by `make(folder)`; runs/ is the folder that RS5M_RUNS names, such as one on a mounted drive,
    else lies where `root` says, see `in_cache`.

    The code is all that the module of `make` can reach inside this package (`rs5m.reach`).

    `make` writes to a temporary folder that is renamed when it is whole, so a killed run leaves
    nothing half-made, and one that raises leaves nothing. Which of the two happened is printed.

    Args:
        stage: what the folder is called by.
        scale: the folder in runs/.
        inputs: with a stable repr, or files.
        make: fills the folder.
        resumes: `make` goes on from what a run that stopped has left in its folder, and keeps other
            processes out of it.
    """
    base = _runs()
    folder = base / scale / f"{stage}-{digest(reach.code(make.__module__), *inputs)}"
    shown = folder.relative_to(root()) if base.is_relative_to(root()) else folder
    if folder.is_dir():
        print(f"{stage}: loaded {shown}", file=sys.stderr)  # the rendered book leaves it out
        return folder
    with whole_folder(folder, resumes) as temporary:
        if resumes and any(temporary.iterdir()):
            print(f"{stage}: goes on in {temporary}", file=sys.stderr)
        make(temporary)
    print(f"{stage}: computed, kept in {shown}", file=sys.stderr)
    return folder


def glue(name: str, value: object) -> None:
    """Keep a value of this run for the chapter's prose, where {glue:text}`name` shows it; displays
    nothing.

    The same message that myst_nb's glue sends, without needing myst_nb: Colab does not have it.
    """
    from IPython.display import display

    prefix = "application/papermill.record/"
    record = {"name": name, "mime_prefix": prefix}
    plain = value.item() if hasattr(value, "item") else value  # numpy's repr would not format
    display({prefix + "text/plain": repr(plain)}, raw=True, metadata={"scrapbook": record})
