"""A disk that is soon full, for tests of what a run leaves behind."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of `size` in a folder, and what gives it another size; skips where mounting fails."""
    disk = folder / "disk"
    disk.mkdir()

    def mount(*options) -> int:
        return subprocess.run(["mount", *options, disk], capture_output=True).returncode

    if mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        pytest.skip("mounting a small disk needs root")

    def resize(size: str) -> None:
        assert mount("-o", f"remount,size={size}") == 0

    try:
        yield disk, resize
    finally:
        subprocess.run(["umount", disk], check=True)
