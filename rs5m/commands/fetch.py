"""`rs5m fetch`: published sets and weights by name, into the folder that RS5M_DATA names."""

import argparse
import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from rs5m import files

HALVES = 32  # tars of each half, pub11 and rs3, of the training pairs
NAMES = """what there is:
  eurosat          EuroSAT in RGB, 27,000 images, from its authors
  ucm              UC Merced, 2,100 images, from its authors
  tests            the paper's test sets (rs5m_test_data), unpacked
  shards           RS5M's training pairs: --shards N tars of each half, about 4 GB each
  GeoRSCLIP-...    released weights by name, such as GeoRSCLIP-ViT-B-32
"""
EXAMPLE = """
  rs5m fetch eurosat GeoRSCLIP-ViT-B-32 --out data
  rs5m fetch shards --shards 2 --out data
"""


class Site(NamedTuple):
    """A file of a set at its authors' address; md5 of the whole where it was published."""

    url: str
    md5: str = ""


SITES = {
    "eurosat": Site(
        "https://madm.dfki.de/files/sentinel/EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387"
    ),
    "ucm": Site("http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip"),
}
TESTS = "rs5m_test_data"
PAIRS = "omlab/RS5M"
WEIGHTS = "Zilun/GeoRSCLIP"


def add(commands) -> None:
    """Add `rs5m fetch` to a parser's commands."""
    parser = commands.add_parser(
        "fetch", help="published test sets, pairs and weights by name", epilog=NAMES
    )
    names = "What to fetch; what is complete is not fetched again."
    out = "The folder to put it into (default: what RS5M_DATA names, else data)."
    shards = "The tars of each half of RS5M, of at most 32 (default: %(default)s)."
    parser.add_argument("names", nargs="+", metavar="NAME", help=names)
    parser.add_argument("--out", default="", metavar="PATH", help=out)
    parser.add_argument("--shards", type=int, default=1, metavar="N", help=shards)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`rs5m fetch`: everything typed is checked first; a line for each thing that is there."""
    from rs5m.clip import known as models
    from rs5m.clip.released import RELEASED

    known = [*SITES, "tests", "shards", *RELEASED]
    if unknown := [name for name in arguments.names if name not in known]:
        meant = models.meant(models.like(unknown[0], known))
        choose = f"{meant}choose of {', '.join(known)}"
        raise ValueError(f"nothing is called {', '.join(unknown)}: {choose}")
    if not 1 <= arguments.shards <= HALVES:
        raise ValueError(f"--shards {arguments.shards}: give a number from 1 to {HALVES}")
    folder = Path(arguments.out or os.environ.get("RS5M_DATA") or "data")
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        if name in SITES:
            found = [_from_site(SITES[name], folder)]
        elif name == "shards":
            found = _pairs(folder / "rs5m", arguments.shards)
        elif name == "tests":
            found = [_tests(folder)]
        else:
            found = [_from_hub(WEIGHTS, "model", f"ckpt/{RELEASED[name].file}", folder)]
        for path in found:
            print(f"{name}: {path}", flush=True)


def _from_site(site: Site, folder: Path) -> Path:
    """A file at its authors' address, whole and with their digest, or not at all."""
    from rs5m.web import download

    path = folder / site.url.rpartition("/")[2]
    if path.is_file():
        return path
    came = download.fetch(site.url)
    with came.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if site.md5 and md5 != site.md5:
        came.unlink()
        raise ValueError(
            f"{site.url} came with the md5 {md5}, and {site.md5} was published: it changed there"
        )
    with files.whole(path) as temporary:
        shutil.move(came, temporary)
    return path


def _pairs(folder: Path, count: int) -> list[Path]:
    tars = [f"{half}-train-{i:04d}.tar" for half in ("pub11", "rs3") for i in range(count)]
    return [_from_hub(PAIRS, "dataset", tar, folder) for tar in tars]


def _tests(folder: Path) -> Path:
    """The paper's test sets, unpacked; the zip does not stay."""
    target = folder / TESTS
    if target.is_dir():
        return target
    packed = _from_hub(WEIGHTS, "model", f"data/{TESTS}.zip", folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{TESTS}.") as temporary:
        with zipfile.ZipFile(packed) as held:
            held.extractall(temporary)
        inner = Path(temporary) / TESTS  # the zip may hold the folder, or what is in it
        (inner if inner.is_dir() else Path(temporary)).rename(target)
        Path(temporary).mkdir(exist_ok=True)  # where it was renamed itself
    packed.unlink()
    return target


def _from_hub(repo: str, kind: str, file: str, folder: Path) -> Path:
    """A file of the hub, unless it is there; one that breaks off goes on where it stopped."""
    path = folder / file
    if path.is_file():
        return path
    from huggingface_hub import hf_hub_download

    from rs5m.web import hub

    try:
        size = hub.size(repo, file, kind)
        free = shutil.disk_usage(folder if folder.is_dir() else folder.parent).free
        if size > free:
            raise OSError(28, f"{file} has {size / 1e9:.1f} GB, {folder} {free / 1e9:.1f} GB left")
        print(f"{file} of {repo}: {size / 1e6:,.0f} MB", flush=True)
        return Path(hf_hub_download(repo, file, repo_type=kind, local_dir=folder))
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        if getattr(error, "errno", None) == 28:
            raise ValueError(f"the disk is full: {error.args[-1]}") from error
        raise OSError(
            f"{file} of {repo} could not be fetched from the hub ({hub.why(error)}): check the "
            f"network and run the same command again, or put the file at {path} yourself"
        ) from error
