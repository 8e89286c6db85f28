"""What a module can reach inside this package, found by reading its source: the part of an
artefact's key that is code.

A stage's key must change when code or a resource that the stage can run changes, and only then. No
list is kept by hand: imports are followed wherever they stand, those inside functions too, and so
are the modules and resources that the source names as text (`-m rs5m.pocket.server`, the rooms of a
lazy face, "keywords.toml"). Chapter: setup.
"""

import ast
import hashlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

PACKAGE = Path(__file__).parent


@cache
def _modules(package: Path) -> dict[str, Path]:
    """Every module by its dotted name; a package is its `__init__.py`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _resources(package: Path) -> list[Path]:
    """Every file that is not Python."""
    files = (path for path in package.rglob("*") if path.is_file())
    return [path for path in files if path.suffix != ".py" and "__pycache__" not in path.parts]


def _imports(node: ast.AST, inside: str, modules: dict[str, Path]) -> set[str]:
    """The names that one statement imports; `from a import b` imports a.b where that is a module,
    so a room of a package is reached without the other rooms, a name of its face is not.
    """
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    module = resolve_name("." * node.level + (node.module or ""), inside)
    rooms = {f"{module}.{alias.name}" for alias in node.names}
    return {room if room in modules else module for room in rooms}


@cache
def _direct(name: str, package: Path) -> tuple[set[str], set[str], set[Path]]:
    """What one module names: modules; the rooms that it opens once one of its names is used, if it
    is a face; resources, by file name or in the folder beside it that has its own name.
    """
    path, modules = _modules(package)[name], _modules(package)
    face = path.name == "__init__.py"
    imports, texts = set(), set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        imports |= _imports(node, name if face else name.rpartition(".")[0], modules)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    rooms = {f"{name}.{text}" for text in texts} if face else set()
    beside = path.with_suffix("")
    held = {file for file in _resources(package) if file.name in texts or file.parent == beside}
    return (imports | texts) & modules.keys(), rooms & modules.keys(), held


def reached(name: str, package: Path = PACKAGE) -> list[Path]:
    """The files of all modules and resources that the module of that dotted name can reach, itself
    included, sorted. The packages around a module run with it, but their lazy faces stay shut.
    """
    files, seen, todo = set(), set(), [(name, True)]
    while todo:
        one, opened = todo.pop()
        if (one, opened) in seen:
            continue
        seen.add((one, opened))
        imports, rooms, held = _direct(one, package)
        files |= held | {_modules(package)[one]}
        todo += [(other, True) for other in imports | (rooms if opened else set())]
        if parent := one.rpartition(".")[0]:
            todo.append((parent, False))
    return sorted(files)


def code(name: str, package: Path = PACKAGE) -> str:
    """SHA-256 over the names and bytes of `reached`, as hex; of the empty list for a module outside
    the package.
    """
    total = hashlib.sha256()
    for path in reached(name, package) if name in _modules(package) else []:
        total.update(f"{path.relative_to(package).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
