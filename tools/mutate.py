"""How many changes of the code do its tests notice? One change at a time, in a copy of the tree.

The changes are those of tools/mutants.py. A module is tested by tests/.../test_<module>.py, else by
its package's file or by the tests in its folder that name it: the quickest of them, until --seconds
are full. What these do not notice goes through all others that use the module and are not marked
slow. The JSON has each module's samples by their seed, with the seconds for a change (null: not
noted): tests are written for what survives seed 0, and other seeds are fresh. A survivor that
computes the same has its reason in `equal`, which later runs keep; others are open.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path

from mutants import Change, changes

ROOT = Path(__file__).parents[1]
MODULES = (
    *("zeroshot", "retrieval", "selo", "rotation"),
    *("filters/rules", "filters/vision", "filters/regression"),
    *("dedup/hamming", "dedup/copies", "dedup/thumbnails", "dedup/registration"),
    *("data/shards", "data/records", "data/tar", "data/pairs"),
    *("tune/schedule", "tune/augment", "tune/loader", "tune/recipes", "tune/loop", "tune/log"),
)
SLOW_START = ("rs5m.clip.openclip", "pandas", "pyarrow.parquet", "scipy.ndimage", "pytest")
STOP = ("-x",)  # at the first failure
REPOSITORY = ("test_book", "test_layout", "test_readme")  # tests of files, not of what they do


def tests_of(module: str) -> list[str]:
    """The files of tests that belong to a module."""
    path = ROOT / "tests" / module
    folder = path.parent.with_name(f"test_{path.parent.name}.py")  # one file for a package
    if folder.is_file():
        return [str(folder.relative_to(ROOT))]
    files = sorted(path.parent.glob("test_*.py"))
    own = [file for file in files if file.stem == f"test_{path.name}"]
    named = [file for file in files if re.search(rf"\b{path.name}\b", file.read_text("utf-8"))]
    return [str(file.relative_to(ROOT)) for file in own or named or files]


def others(module: str, tests: list[str]) -> list[str]:
    """The files of tests elsewhere that import a module and use it by its name."""
    name = Path(module).name
    used = re.compile(rf"^from rs5m\S* import (\([^)]*|.*)\b{name}\b[\s\S]*\b{name}\.\w", re.M)
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [file for file in files if file.stem not in REPOSITORY]
    found = [str(file.relative_to(ROOT)) for file in files if used.search(file.read_text("utf-8"))]
    return [file for file in found if file not in tests]


def copy(folder: Path) -> None:
    """The files of the tree, as they are now, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


class Clock:
    """Writes the seconds of each test as JSON, endless ones for what does not pass."""

    def __init__(self, path: Path):
        self.path, self.spent = path, Counter()

    def pytest_runtest_logreport(self, report) -> None:
        self.spent[report.nodeid] += report.duration if report.passed else math.inf
        self.path.write_text(json.dumps(self.spent))


def quickest(folder: Path, tests: list[str], most: float, seconds: float) -> list[str]:
    """The quickest tests of files that pass, until `seconds` are full."""
    path = folder / "clock.json"
    path.write_text("{}")
    tested(folder, tests, most, ["-m", ""], Clock(path))
    chosen, full = [], 0.0
    for name, spent in sorted(json.loads(path.read_text()).items(), key=itemgetter(1)):
        full += spent
        if full <= seconds:
            chosen.append(name)
    return chosen


def tested(
    folder: Path, tests: list[str], seconds: float, options: Sequence[str] = STOP, clock=None
) -> str:
    """What the tests say of the copy: passed, failed, or too long."""
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_run, args=(folder, tests, options, clock))
    child.start()
    try:
        child.join(seconds)
        late = child.is_alive()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what a test has started, too
        child.join()
    return "too long" if late else "failed" if child.exitcode else "passed"


def _run(folder: Path, tests: list[str], options: Sequence[str], clock: Clock | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    import pytest

    options = ["-q", *options, "-p", "no:cacheprovider", "--durations=0"]
    code = int(pytest.main([*options, "--rootdir", str(folder), *tests], [clock] if clock else []))
    os._exit(code)


class Copy:
    """A copy of the tree in which one module is changed and changed back."""

    def __init__(self, folder: Path, module: str, most: float, seconds: float):
        self.folder, self.module, self.most = folder, module, most
        self.path = folder / f"rs5m/{module}.py"
        self.source = self.path.read_bytes()
        self.tests = tests_of(module)
        self.others = others(module, self.tests)
        self.quick = quickest(folder, self.tests, most, seconds)
        self.limit = cache(self._limit)

    def _limit(self, far: bool) -> float:
        """Seconds for the near or far tests; 0 where they do not pass as things are."""
        began = time.perf_counter()
        passed = self._say(far, self.most) == "passed"
        return 20 + 4 * (time.perf_counter() - began) if passed else 0

    def _say(self, far: bool, seconds: float) -> str:
        tests, marked = (self.others, "not slow") if far else (self.quick, "")
        given = self.folder, tests, seconds, [*STOP, "-m", marked]
        return tested(*given) if tests else "there are none"

    def notices(self, change: Change, far: bool) -> bool:
        """Whether the near or far tests notice a change."""
        if not (limit := self.limit(far)):
            return False
        begin, end = self.source[: change.start], self.source[change.end :]
        self.path.write_bytes(begin + change.after.encode() + end)
        said = self._say(far, limit)
        self.path.write_bytes(self.source)
        return said != "passed"


def measure(module: str, folder: Path, options: argparse.Namespace) -> dict:
    """The sampled changes of a module, how many were noticed, and the survivors."""
    here, began = Copy(folder, module, options.most, options.seconds), time.perf_counter()
    if not here.limit(far=False):
        print(f"{module}: {here.tests} fail without a change, or take over --most", flush=True)
        return {}
    known, lines = changes(here.source.decode()), here.source.decode().splitlines()
    count = min(len(known), max(3, round(options.share * len(known))))
    survivors, tried = [], 0
    for change in random.Random(f"{options.seed} {module}").sample(known, count):
        if time.perf_counter() - began > options.most:
            break
        tried += 1
        if here.notices(change, far=False) or here.notices(change, far=True):
            continue
        told = {"before": change.before, "after": change.after}
        survivors.append({"line": change.line, "code": lines[change.line - 1].strip()} | told)
        print(f"{module}:{change.line}: {change.before} -> {change.after}", flush=True)
    print(f"{module}: {tried - len(survivors)} of {tried} noticed", flush=True)
    sample = {"sampled": tried, "noticed": tried - len(survivors), "seconds": options.seconds}
    sample |= {"survivors": sorted(survivors, key=itemgetter("line"))}
    about = {"changes": len(known), "tests": here.tests}
    return about | {"samples": {str(options.seed): sample}}


def joined(found: dict, before: dict) -> dict:
    """A module's result, with its other samples and the reasons of survivors from before."""
    key, samples = itemgetter("code", "before", "after"), before.get("samples", {})
    old = [one for sample in samples.values() for one in sample["survivors"]]
    known = {key(one): {"equal": one["equal"]} for one in old if "equal" in one}
    samples = samples | found.get("samples", {})
    for sample in samples.values():
        sample["survivors"] = [one | known.get(key(one), {}) for one in sample["survivors"]]
        equal = sum(bool(one.get("equal")) for one in sample["survivors"])
        sample |= {"equal": equal, "open": len(sample["survivors"]) - equal}
    return before | found | {"samples": samples}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modules = f"of the package, such as dedup/copies (default: {' '.join(MODULES)})"
    parser.add_argument("--module", nargs="+", default=MODULES, metavar="NAME", help=modules)
    parser.add_argument("--share", type=float, default=0.1, help="of a module's changes, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--most", type=float, default=600, help="seconds for one module")
    parser.add_argument("--seconds", type=float, default=30, help="for the tests of a change")
    parser.add_argument("--out", type=Path, help="a JSON to write or go on with")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by way of every finally
    for name in SLOW_START:
        __import__(name)  # once, before the tests fork
    for name in [name for name in sys.modules if name.partition(".")[0] == "rs5m"]:
        del sys.modules[name]  # the tests import the copy's
    held = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        copy(folder)
        for module in options.module:
            held[module] = joined(measure(module, folder, options), held.get(module, {}))
            if options.out:
                options.out.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    summary(held)


def summary(held: dict) -> None:
    """Print what each module's tests noticed, the sample they were written for and fresh ones."""
    totals: dict[bool, Counter] = {False: Counter(), True: Counter()}
    for module, found in held.items():
        for seed, sample in found.get("samples", {}).items():
            numbers = {name: sample[name] for name in ("sampled", "noticed", "equal", "open")}
            totals[seed != "0"].update(numbers)
            told = ", ".join(f"{number} {name}" for name, number in numbers.items())
            print(f"{module:<20} seed {seed:>2}: {told}; {sample['seconds']} s for a change")
    for fresh, total in totals.items():
        share = total["noticed"] / max(1, total["sampled"] - total["equal"])
        print(f"{'other seeds' if fresh else 'seed 0'}: {dict(total)}, {share:.0%} of what differs")


if __name__ == "__main__":
    main()
