"""The key of a stage moves with everything that it can reach, and with nothing else.

The account that is held against `reach` is made another way: imports and texts come from compiled
code, faces are run, and the paths are a power of a matrix.
"""

import ast
import shutil
import sys
from fnmatch import fnmatch
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from types import CodeType, SimpleNamespace

import numpy as np
import pytest

from rs5m import reach, results

# Who reads a resource, by hand: a new one fails here until its reader is stated.
READERS = {
    "keywords/keywords.toml": {"rs5m.keywords.listed"},
    "keywords/ordinary.txt": {"rs5m.keywords.listed"},
    "paper/*": {"rs5m.paper"},
    "tune/recipes/*": {"rs5m.tune.recipes"},
    "captions/metadata.toml": {"rs5m.captions.sentences"},
    "captions/questions.toml": {"rs5m.captions.chat"},
    "book/scripts/*": {"rs5m.book.play"},
    "clip/models.toml": {"rs5m.clip.known"},
    "evaluate/cards.toml": {"rs5m.evaluate.cards"},
    "evaluate/suites.toml": {"rs5m.evaluate.cards"},
    "evaluate/contact.toml": {"rs5m.evaluate.contact"},
    "evaluate/protocols.toml": {"rs5m.evaluate.protocols"},
    "evaluate/printed.csv": {"rs5m.evaluate.reporting"},
    "pocket/webtexts.toml": {"rs5m.pocket.webtexts"},
    "pocket/continents.csv": {"rs5m.pocket.world"},
    "pocket/land_cover.csv": {"rs5m.pocket.world", "rs5m.book.testing"},
}
# Modules that no hand-kept list held: a stale crawl was loaded after an edit of any of them.
FORGOTTEN = (
    "rs5m.dedup.registration",
    "rs5m.dedup.thumbnails",
    "rs5m.dedup.hamming",
    "rs5m.web.request",
    "rs5m.web.urls",
    "rs5m.pub11.input",
    "rs5m.data.records",
)


def files(package: Path) -> dict[str, Path]:
    """Every file: a module by its dotted name, a resource by its path."""
    found = {}
    for path in sorted(p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        inside = path.relative_to(package.parent)
        name = str(path.relative_to(package))
        if path.suffix == ".py":
            name = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def texts(constant: object) -> set[str]:
    if isinstance(constant, str):
        return {constant}
    inner = constant if isinstance(constant, tuple | frozenset) else ()
    return set().union(*map(texts, inner))


def named(code: CodeType, modules: set[str]) -> set[str]:
    """The modules that compiled code imports or has as text, its functions' code included."""
    found = set()
    for what, told in ModuleFinder().scan_opcodes(code):
        if what == "absolute_import":
            names, module = told
            rooms = {f"{module}.{name}" for name in names or ()}
            found |= (rooms & modules) | ({module} if rooms - modules or not rooms else set())
        assert what != "relative_import", f"{code.co_filename}: name the package in full"
    for constant in code.co_consts:
        inner = isinstance(constant, CodeType)
        found |= named(constant, modules) if inner else texts(constant)
    return found & modules


def opened(path: Path, name: str, code: CodeType) -> set[str]:
    """The rooms that a face opens lazily: it is run, and what it hands over is written down."""
    rooms = set()

    def attach(module, submodules=None, submod_attrs=None):
        rooms.update(f"{name}.{room}" for room in (*(submodules or ()), *(submod_attrs or ())))
        return None, None, None

    real = sys.modules.get("lazy_loader")
    sys.modules["lazy_loader"] = SimpleNamespace(attach=attach)
    try:
        exec(code, {"__name__": name, "__file__": str(path)})
    finally:
        sys.modules["lazy_loader"] = real
    return rooms


@cache
def account(package: Path) -> dict[str, set[str]]:
    """For every module of the package, the names of `files` that it reaches."""
    known = files(package)
    modules = {name for name, path in known.items() if path.suffix == ".py"}
    edges = {(f"open {name}", name) for name in modules}  # a face that runs, and one that is used
    for name in modules:
        path = known[name]
        code = compile(path.read_bytes(), str(path), "exec")
        edges |= {(name, f"open {other}") for other in named(code, modules)}
        if path.name == "__init__.py":
            edges |= {(f"open {name}", f"open {room}") for room in opened(path, name, code)}
        if "." in name:
            edges.add((name, name.rpartition(".")[0]))
    for resource in known.keys() - modules:
        readers = set().union(*(READERS[p] for p in READERS if fnmatch(resource, p)))
        edges |= {(reader, resource) for reader in readers}
    nodes = sorted({node for edge in edges for node in edge} | known.keys())
    place = {node: i for i, node in enumerate(nodes)}
    paths = np.eye(len(nodes), dtype=np.float32)
    for start, end in edges:
        paths[place[start], place[end]] = 1
    for _ in range(7):  # 2 ** 7 steps
        paths = np.minimum(paths @ paths, 1)
    return {
        name: {other for other in known if paths[place[f"open {name}"], place[other]]}
        for name in modules
    }


def stages(package: Path) -> dict[str, set[str]]:
    """The modules that call `artefact`, with the stages' names as far as they are constants."""
    found = {}
    for name, path in files(package).items():
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else ast.Module([], [])
        here = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "results.artefact":
                make = node.args[3]
                assert isinstance(make, ast.Name) and make.id in here, f"{name}: make is elsewhere"
                found.setdefault(name, set()).add(ast.unparse(node.args[0]).strip("'"))
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("copy") / "rs5m"
    shutil.copytree(reach.PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def test_every_resource_has_a_reader_that_exists(copy):
    known = files(copy)
    for resource in (name for name, path in known.items() if path.suffix != ".py"):
        readers = [READERS[pattern] for pattern in READERS if fnmatch(resource, pattern)]
        assert len(readers) == 1 and readers[0] <= known.keys(), resource


@pytest.mark.slow
def test_an_edit_moves_exactly_the_keys_of_the_stages_that_reach_it(copy):
    """Every module and resource, one at a time."""
    known, expected = files(copy), account(copy)
    before = {stage: reach.code(stage, copy) for stage in stages(copy)}
    assert len(before) >= 4 and len(set(before.values())) == len(before)
    for name, path in known.items():
        content = path.read_bytes()
        path.write_bytes(content + b"\n# edited\n")
        moved = {stage for stage in before if reach.code(stage, copy) != before[stage]}
        path.write_bytes(content)
        assert moved == {stage for stage in before if name in expected[stage]}, name
    assert before == {stage: reach.code(stage, copy) for stage in before}


def test_every_module_reaches_what_the_account_says(copy):
    known = {path: name for name, path in files(copy).items()}
    for name, expected in account(copy).items():
        assert {known[path] for path in reach.reached(name, copy)} == expected, name


def test_the_crawl_is_moved_by_what_it_runs_and_not_by_what_shows_it(copy):
    (crawl,) = (module for module, names in stages(copy).items() if "pub11" in names)
    known = {path: name for name, path in files(copy).items()}
    reached = {known[path] for path in reach.reached(crawl, copy)}
    assert set(FORGOTTEN) <= reached
    assert {"rs5m.pocket.server", "keywords/keywords.toml", "rs5m.results", "rs5m.reach"} <= reached
    shown = {"rs5m.book.scorecard", "rs5m.book.plots", "rs5m.cli", "rs5m.evaluate.official"}
    assert shown <= set(known.values()) and not shown & reached


MADE = {
    "__init__.py": "",
    "face/__init__.py": """import lazy_loader
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"room": ["thing"]})
""",
    "face/room.py": "thing = 1",
    "face/shut.py": "",
    "late.py": "def f():\n    import made.deep.hall as hall\n    return hall",
    "deep/__init__.py": "from made import eager",
    "deep/hall.py": "from . import twin",
    "deep/twin.py": "",
    "eager.py": "",
    "user.py": "from made.face import thing",
    "direct.py": "from made.face import room",
    "start.py": "import sys\ncommand = [sys.executable, '-m', 'made.server']",
    "server.py": "",
    "reader.py": "from importlib.resources import files\nfiles('made').joinpath('table.csv')",
    "table.csv": "1",
    "other.csv": "2",
    "shelf.py": "from pathlib import Path\nfolder = Path(__file__).with_suffix('')",
    "shelf/one.toml": "",
    "outside.py": "import numpy, made_of_glass",
}
REACHED = {
    "face": {"face/__init__.py", "face/room.py"},
    "face.shut": {"face/__init__.py", "face/shut.py"},
    "late": {"late.py", "deep/__init__.py", "deep/hall.py", "deep/twin.py", "eager.py"},
    "user": {"user.py", "face/__init__.py", "face/room.py"},
    "direct": {"direct.py", "face/__init__.py", "face/room.py"},
    "start": {"start.py", "server.py"},
    "reader": {"reader.py", "table.csv"},
    "shelf": {"shelf.py", "shelf/one.toml"},
    "outside": {"outside.py"},
}


@pytest.mark.parametrize("module", REACHED)
def test_what_a_module_reaches_in_a_package_made_for_it(tmp_path, module):
    package = tmp_path / "made"
    for name, text in MADE.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = {str(p.relative_to(package)) for p in reach.reached(f"made.{module}", package)}
    assert found == REACHED[module] | {"__init__.py"}


def test_a_name_is_part_of_the_key(tmp_path):
    """A module that is renamed, or two that swap their contents, are other code."""
    keys = set()
    for number, (first, second) in enumerate([("a", "b"), ("b", "a")]):
        package = tmp_path / str(number) / "made"
        package.mkdir(parents=True)
        for name, text in (("__init__", ""), ("top", "from made import a, b")):
            (package / f"{name}.py").write_text(text)
        (package / f"{first}.py").write_text("x = 1")
        (package / f"{second}.py").write_text("x = 2")
        keys.add(reach.code("made.top", package))
    assert len(keys) == 2


def test_an_artefact_is_keyed_by_the_code_of_the_module_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []

    def make(folder: Path) -> None:
        (folder / "made.txt").write_text("whole")

    def kept(code: str) -> Path:
        monkeypatch.setattr(reach, "code", lambda name: asked.append(name) or code)
        return results.artefact("stage", "mini", (), make)

    assert kept("one") == kept("one") != kept("two")
    assert set(asked) == {make.__module__}
