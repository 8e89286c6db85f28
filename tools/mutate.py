"""How many changes of the code do its tests notice? One change at a time, in a copy of the tree.

A change is a comparison, `and`, `or`, `not`, + or -, a number, a truth value, `min` or `max` turned
into its neighbour. A module is tested by tests/.../test_<module>.py, else by its package's file or
by the tests in its folder that name it: the quickest of them, until --seconds of processor time are
full. What these do not notice goes through all others that use the module and are not marked slow.
A survivor that computes the same has its reason in the JSON's `equal`, which later runs keep.
"""

import argparse
import ast
import contextlib
import json
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODULES = (
    *("zeroshot", "retrieval", "selo", "rotation"),
    *("filters/rules", "filters/vision", "filters/regression"),
    *("dedup/hamming", "dedup/copies", "dedup/thumbnails", "dedup/registration"),
    *("data/shards", "data/records", "data/tar", "data/pairs"),
    *("tune/schedule", "tune/augment", "tune/loader", "tune/recipes", "tune/loop", "tune/log"),
)
# torchvision comes by the first
SLOW_START = ("rs5m.clip.openclip", "pandas", "pyarrow.parquet", "scipy.ndimage", "pytest")
STOP = ("-x",)  # at the first failure
REPOSITORY = ("test_book", "test_layout", "test_readme")  # tests of files, not of what they do
COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
CALLED = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
CALLED |= {"any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


class Change(NamedTuple):
    """A piece of a line, and what comes in its place."""

    line: int
    start: int  # bytes from the beginning of the file
    end: int
    before: str
    after: str


def changes(source: str) -> list[Change]:
    """Every change of a module's text, in order; texts, annotations and decorators stay."""
    begins = [0]
    for line in source.encode().splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    found = []
    for node, after in _mutated(ast.parse(source)):
        start = begins[node.lineno - 1] + node.col_offset
        end = begins[node.end_lineno - 1] + node.end_col_offset
        before = source.encode()[start:end].decode()
        found.append(Change(node.lineno, start, end, before, after))
    return sorted(found, key=lambda change: change.start)


def _mutated(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """The nodes below one that can be changed, each with its new text."""
    if isinstance(node, ast.JoinedStr):
        return  # Python 3.11 does not say where its parts are
    if (after := _changed(node)) is not None:
        yield node, after
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _mutated(child)


def _changed(node: ast.AST) -> str | None:
    """The new text of a node; None where there is nothing to change."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right) if type(op) in COMPARED:
            return _text(ast.Compare(left, [COMPARED[type(op)]()], right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in COMPUTED:
            sides = [side for side in (left, right) if isinstance(side, ast.JoinedStr | ast.List)]
            sides += [s for s in (left, right) if isinstance(getattr(s, "value", 0), str)]
            return None if sides else _text(ast.BinOp(left, COMPUTED[type(op)](), right))
        case ast.BoolOp(op=op, values=values):
            return _text(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _text(operand)
        case ast.Constant(value=bool(value)):
            return repr(not value)
        case ast.Constant(value=int(value)):
            return repr(value + 1)
        case ast.Constant(value=float(value)):
            return repr(value * 1.5 or 1.0)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in CALLED:
            return ast.unparse(node).removesuffix(name) + CALLED[name]
    return None


def _text(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


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
    """Writes what each test that passes takes, as a line of JSON: processor seconds, its name."""

    def __init__(self, path: Path):
        self.path, self.failed = path, set()

    def pytest_runtest_logreport(self, report) -> None:
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def pytest_runtest_logstart(self) -> None:
        self.began = sum(os.times()[:4])  # with the processes that the test starts

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if nodeid not in self.failed:
            with self.path.open("a") as stream:
                stream.write(json.dumps([sum(os.times()[:4]) - self.began, nodeid]) + "\n")


def quickest(folder: Path, tests: list[str], most: float, seconds: float) -> list[str]:
    """The quickest tests of files that pass, until `seconds` of processor time are full."""
    path = folder / "clock.jsonl"
    path.unlink(missing_ok=True)
    tested(folder, tests, most, ["-m", ""], Clock(path))
    lines = path.read_text().splitlines() if path.is_file() else []
    chosen, full = [], 0.0
    for spent, name in sorted(map(json.loads, lines)):
        full += spent
        if full <= seconds:
            chosen.append(name)
    return chosen


def tested(
    folder: Path, tests: list[str], seconds: float, options: Sequence[str] = STOP, clock=None
) -> str:
    """What the tests say of the copy: passed, failed, or too long."""
    given = folder, tests, options, clock
    child = multiprocessing.get_context("fork").Process(target=_run, args=given)
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
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
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
        self.limits: dict[bool, float] = {}

    def begin(self, far: bool) -> bool:
        """Whether the near or far tests pass as things are, which sets their limit."""
        if far not in self.limits:
            began = time.perf_counter()
            self.path.write_bytes(self.source)
            passed = self._say(far, self.most) == "passed"
            self.limits[far] = 20 + 4 * (time.perf_counter() - began) if passed else 0
        return bool(self.limits[far])

    def _say(self, far: bool, seconds: float) -> str:
        tests, marked = (self.others, "not slow") if far else (self.quick, "")
        options = [*STOP, "-m", marked]
        return tested(self.folder, tests, seconds, options) if tests else "there are none"

    def notices(self, change: Change, far: bool) -> bool:
        """Whether the near or far tests notice a change."""
        if not self.begin(far):
            return False
        after = change.after.encode()
        self.path.write_bytes(self.source[: change.start] + after + self.source[change.end :])
        said = self._say(far, self.limits[far])
        self.path.write_bytes(self.source)
        return said != "passed"


def measure(module: str, folder: Path, options: argparse.Namespace) -> dict:
    """The sampled changes of a module, how many were noticed, and the survivors."""
    here, began = Copy(folder, module, options.most, options.seconds), time.perf_counter()
    if not here.begin(far=False):
        said = "do not pass without a change, or take longer than --most"
        print(f"{module}: {' '.join(here.tests)} {said}", flush=True)
        return {}
    all_of_them = changes(here.source.decode())
    count = min(len(all_of_them), max(3, round(options.share * len(all_of_them))))
    survivors, tried = [], 0
    for change in random.Random(f"{options.seed} {module}").sample(all_of_them, count):
        if time.perf_counter() - began > options.most:
            break
        tried += 1
        if here.notices(change, far=False) or here.notices(change, far=True):
            continue
        code = here.source.decode().splitlines()[change.line - 1].strip()
        told = {"line": change.line, "code": code, "before": change.before, "after": change.after}
        survivors.append(told)
        print(f"{module}:{change.line}: {change.before} -> {change.after}", flush=True)
    found = {"changes": len(all_of_them), "tried": tried, "noticed": tried - len(survivors)}
    print(f"{module}: {found['noticed']} of {tried} noticed", flush=True)
    survivors.sort(key=lambda one: one["line"])
    return found | {"tests": here.tests, "survivors": survivors}


def reasons(found: dict, before: dict) -> dict:
    """A module's result with the reasons why survivors are equal from an earlier one."""
    known = {_key(one): one["equal"] for one in before.get("survivors", ()) if one.get("equal")}
    for one in found["survivors"]:
        if _key(one) in known:
            one["equal"] = known[_key(one)]
    return found


def _key(survivor: dict) -> tuple[str, ...]:
    return tuple(survivor[name] for name in ("code", "before", "after"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modules = f"of the package, such as dedup/copies (default: {' '.join(MODULES)})"
    parser.add_argument("--module", nargs="+", default=MODULES, metavar="NAME", help=modules)
    parser.add_argument("--share", type=float, default=0.1, help="of a module's changes, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--most", type=float, default=600, help="seconds for one module")
    near = "of processor time that the tests of a module may take (default: %(default)s)"
    parser.add_argument("--seconds", type=float, default=30, help=near)
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
            found = measure(module, folder, options)
            if not found:
                continue
            held[module] = reasons(found, held.get(module, {})) | {"seed": options.seed}
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    for module, found in held.items():
        equal = sum(bool(one.get("equal")) for one in found["survivors"])
        print(f"{module:<24}{found['noticed']:>4} of {found['tried'] - equal:>4}, {equal} equal")


if __name__ == "__main__":
    main()
