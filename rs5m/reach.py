"""What a module can reach inside this package, found by reading imports: the part of an artefact's
key that is code.

A stage's key must change when code or a resource that the stage can run changes, and only then. No
list is kept by hand: imports are followed wherever they stand, those inside functions too, and so
are the modules and resources that the source names as text (`-m rs5m.pocket.server`, the rooms of a
lazy face, "keywords.toml"). Chapter: setup.
"""

import ast
import hashlib
from functools import cache
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
    files = (
        path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return sorted(path for path in files if path.suffix not in (".py", ".pyc"))


@cache
def _direct(name: str, package: Path) -> tuple[set[str], set[Path]]:
    """What one module names: modules, and resources by file name or in the folder beside it that
    has its own name.
    """
    path, modules = _modules(package)[name], _modules(package)
    named, texts = set(), set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in (
                node.names
            ):  # a room of a package is reached without the other rooms, a name of its face is not
                room = f"{node.module}.{alias.name}"
                named.add(room if room in modules else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    if path.name == "__init__.py":
        named |= {f"{name}.{text}" for text in texts}  # the rooms that a lazy face opens
    held = {
        file
        for file in _resources(package)
        if file.name in texts or file.parent == path.with_suffix("")
    }
    return {one for one in named | texts if one in modules} - {name}, held


def reached(name: str, package: Path = PACKAGE) -> list[Path]:
    """The files of all modules and resources that the module of that dotted name can reach, itself
    included, sorted.
    """
    modules, files, seen, todo = _modules(package), set(), set(), [name]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        rooms, held = _direct(one, package)
        todo += rooms
        files |= held | {modules[one]}
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
