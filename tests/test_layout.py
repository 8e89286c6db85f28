"""The house: floors, circles, faces, what an import costs, how long a function may be."""

import ast
import os
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rs5m"
CODE = ("rs5m", "tests", "tools", "bench")

# From the ground up. A room is a module or a folder of the package; it may import what lies on a
# lower floor and what lies inside itself, nothing else.
FLOORS = (
    {"files", "intervals", "vectors", "device", "reach"},
    {"results"},
    {"keywords", "paper", "dedup", "web"},  # chapters that need nothing but the ground
    {"data"},
    {"pocket"},
    {"clip"},
    {"zeroshot", "retrieval", "selo"},
    {"rotation", "filters"},
    {"adapters"},
    {"tune"},
    {"captions", "pub11"},
    {"rs3"},
    {"evaluate"},
    {"book"},  # from here on, and only from here, a scale is known
    {"commands"},
    {"cli"},
)
# Tests of the repository, not of a module.
REPOSITORY = {"test_book.py", "test_layout.py", "test_reading.py", "test_readme.py"}
# Questions to all of a room: what is put in comes out, or is counted; twins and other libraries.
ROOMS = {
    "book/pages",
    "commands/interrupted",
    "data/absent",
    "data/bands",
    "data/members",
    "data/trees",
    "pub11/store",
    "evaluate/golden",
    "pub11/clients",
    "pub11/hub",
    "pub11/on_ray",
    "tune/given",
    "tune/trainer",
}
PUBLIC = (
    "keywords.matches",
    "dedup.near_duplicates",
    "filters.Detector",
    "rotation.select",
    "zeroshot.classifier",
    "zeroshot.accuracy",
    "retrieval.recall",
    "selo.windows",
    "selo.probability_map",
    "selo.metrics",
    "clip.load",
    "tune.fit",
    "adapters.prepare",
    "pub11.run",
    "rs3.run",
    "captions.rank",
)
# They work on arrays, texts and tables: whoever needs one of them does not wait for torch.
LIGHT = (
    *("keywords", "dedup", "filters", "rotation", "zeroshot", "retrieval", "selo"),
    *("paper", "results", "web", "cli", "data.records", "pub11.download"),
)


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def room(module: str) -> str:
    """The module or folder of the package in which a module lies; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, inside its functions too."""
    found = set()
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: name the package in full"
            for alias in node.names:
                one = f"{node.module}.{alias.name}"
                found.add(one if one in modules() else node.module)
    return found & modules().keys()


@cache
def face(module: str) -> dict[str, list[str]]:
    """The names that a lazy face hands over, by the room that they are from."""
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.keyword) and node.arg == "submod_attrs":
            return ast.literal_eval(node.value)
    return {}


def test_every_room_has_a_floor():
    floors = [name for floor in FLOORS for name in floor]
    assert len(floors) == len(set(floors))
    assert {room(module) for module in modules()} - {""} == set(floors)


def test_no_import_runs_back_up():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    wrong = [
        f"{module} imports {other}"
        for module in modules()
        for other in imports(module) - {"rs5m"}
        if room(other) != room(module) and floor[room(other)] >= floor.get(room(module), -1)
    ]
    assert not wrong


def test_only_the_book_and_the_command_know_a_scale():
    for module in (m for m in modules() if room(m) not in ("book", "commands", "cli")):
        texts = {n.value for n in ast.walk(tree(modules()[module])) if isinstance(n, ast.Constant)}
        assert not texts & {"mini", "colab"}, f"{module} names a scale"


def test_no_circle():
    """A lazy face counts as importing its rooms. Whatever is left when the modules that import
    nothing are taken away, again and again, is a circle or stands on one.
    """
    left = {m: imports(m) | {f"{m}.{name}" for name in face(m)} for m in modules()}
    while free := {
        module for module, others in left.items() if not others & left.keys() - {module}
    }:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, {module: others & left.keys() for module, others in left.items()}


@pytest.mark.parametrize("module", [m for m, p in modules().items() if p.name == "__init__.py"])
def test_a_face_is_lazy_and_hands_over_no_name_of_a_room(module):
    assert not imports(module), "a face that imports makes everybody wait"
    names = [name for room_names in face(module).values() for name in room_names]
    assert len(names) == len(set(names))
    assert not {f"{module}.{name}" for name in names} & modules().keys()
    opened = import_module(module)
    for name in names:
        assert hasattr(opened, name), f"{module}.{name}"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_stays_where_it_is(name):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(import_module(f"rs5m.{module}"), attribute))


def test_tests_lie_in_the_same_tree():
    known = {str(p.relative_to(PACKAGE).with_suffix("")) for p in modules().values()}
    known |= {name.removesuffix("/__init__") for name in known} | {"conftest"}
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        inside = path.relative_to(ROOT / "tests")
        if inside.parts[0] == "helpers" or inside.name in REPOSITORY | {"conftest.py"}:
            continue
        assert inside.name.startswith("test_"), inside
        name = str(inside.with_name(inside.stem.removeprefix("test_")))
        assert name in known | tools | ROOMS, f"{inside}: no such module"


def measured(code: str) -> tuple[str, float]:
    """What a fresh Python prints, and its seconds of CPU."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, code
    return said, used.ru_utime + used.ru_stime


def test_tables_and_metrics_do_not_wait_for_torch():
    code = f"""import sys
from importlib import import_module
for name in {LIGHT}:
    module = import_module("rs5m." + name)
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
    print(name, "torch" in sys.modules)
"""
    assert measured(code)[0].splitlines() == [f"{name} False" for name in LIGHT]


def test_help_answers_at_once():
    """In half a second of CPU, of which a quiet machine needs a fifth."""
    code = """import sys
from rs5m import cli
try:
    cli.main(["--help"])
except SystemExit:
    print("torch" in sys.modules, "numpy" in sys.modules)
"""
    answers = [measured(code) for _ in range(3)]
    assert all(said.endswith("\nFalse False\n") and "evaluate" in said for said, _ in answers)
    assert min(seconds for _, seconds in answers) < 0.5


def test_functions_and_lines_are_short():
    long = []
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                long += [f"{path.name}: {node.name} has {lines} lines"] * (lines > 50)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            long += [f"{path.name}, line {number}: {len(line)} columns"] * (len(line) > 100)
    assert not long


def public(tree_or_class, owner=""):
    """The public functions of a module and the methods of its public classes: name and node."""
    for node in tree_or_class.body:
        name = getattr(node, "name", "_")
        if name.startswith("_"):
            continue
        yield owner + name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node, f"{name}.")


def undocumented(source: ast.Module) -> list[str]:
    """Public names without a docstring, and functions of more than three parameters whose docstring
    has no Args, those of another function at least.
    """
    found = []
    for name, node in public(source):
        text = ast.get_docstring(node)
        if not text:
            found.append(f"{name} has no docstring")
        elif not isinstance(node, ast.ClassDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            given = [one.arg for one in given if one.arg not in ("self", "cls")]
            found += [f"{name} has no Args"] * (len(given) > 3 and "Args:" not in text)
    return found


def test_public_functions_say_what_they_take():
    wrong = {module: undocumented(tree(path)) for module, path in modules().items()}
    assert not {module: names for module, names in wrong.items() if names}


def test_a_function_that_says_nothing_is_found():
    source = '''
def good(a, b, c, d):
    """One line.

    Args: those of `other`.
    """
def three(a, b, c):
    """One line."""
def four(a, b, *, c, d=1):
    """One line."""
def bare(): ...
def _private(a, b, c, d): ...
class Kind:
    """A kind."""
    def method(self, a, b, c):
        """One line."""
    def bare(self): ...
class _Own:
    def method(self): ...
'''
    wrong = ["four has no Args", "bare has no docstring", "Kind.bare has no docstring"]
    assert undocumented(ast.parse(source)) == wrong
