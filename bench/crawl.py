"""`rs5m pub11` on made pages from loopback, some of whose hosts never answer: one command.

    python -m bench.crawl [--pages 2000] [--out FOLDER]

FOLDER, a temporary one by default, gets the pictures, pairs.parquet with each pair's true fate, and
run/, which the command makes without a judge. Of the pages 2 % are of hosts that never answer (half
take the connection and are silent, half never take it), 2 % are missing, 1 % are no pictures, 2 %
are copies under another URL, and 5 % have a text without a keyword. What the command says is passed
on, and every pair must end as it was made to. Chapter: pub11.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bench.download import DEAD_HOSTS, dead

HOSTS, SEED = 8, 0
FATES = {"dead": 0.02, "missing": 0.02, "broken": 0.01, "copy": 0.02, "no keyword": 0.05}
ENDS = {  # reasons of dropped.parquet and unmatched/
    "dead": {"timeout", "dead_host"},
    "missing": {"http_404"},
    "broken": {"not_an_image"},
    "copy": {"duplicate_bytes"},
    "no keyword": {"no_keyword"},
    "fine": {"kept"},
}


def picture(generator: np.random.Generator) -> Image.Image:
    """Blurred colours, unlike those of any other picture."""
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    fine = generator.integers(-12, 13, (240, 320, 1))
    smooth = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC), int) + fine
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


def make(folder: Path, pages: int) -> list[str]:
    """Write the pictures; the fate of each page."""
    generator = np.random.default_rng(SEED)
    shares = [*FATES.values(), 1 - sum(FATES.values())]
    fates = generator.choice([*FATES, "fine"], pages, p=shares).tolist()
    fates[0] = "fine"
    for i, fate in enumerate(fates):
        path = folder / f"{i}.jpg"
        if fate == "fine":
            picture(generator).save(path, quality=85)
            last = path
        elif fate == "copy":
            path.write_bytes(last.read_bytes())
        elif fate == "broken":
            path.write_bytes(b"<html>gone</html>")
    return fates


def table(fates: list[str], port: int) -> pd.DataFrame:
    """The pairs as a crawl lists them, with their fates."""

    def url(i: int, fate: str) -> str:
        host = f"127.0.1.{i % DEAD_HOSTS + 1}" if fate == "dead" else f"127.0.0.{i % HOSTS + 1}"
        return f"http://{host}:{port}/{i}.jpg"

    word = {"no keyword": "a plate of noodles"}
    return pd.DataFrame(
        {
            "url": [url(i, fate) for i, fate in enumerate(fates)],
            "text": [f"{word.get(f, 'satellite view of field')} {i}" for i, f in enumerate(fates)],
            "source": ["made" if i % 3 else "made too" for i in range(len(fates))],
            "fate": fates,
        }
    )


class Handler(SimpleHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536

    def log_message(self, *args) -> None:
        """Nothing: the command has the screen."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[int]:
    """The pictures at HOSTS addresses of this machine under one port."""
    handler, port = partial(Handler, directory=folder), 0
    with contextlib.ExitStack() as stack:
        for i in range(HOSTS):
            server = stack.enter_context(ThreadingHTTPServer((f"127.0.0.{i + 1}", port), handler))
            port = server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        held = dead(port)
        yield port
        del held


def wrong(out: Path, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that ended otherwise than they were made to."""
    parts = [pd.read_parquet(p, columns=["row", "reason"]) for p in (out / "unmatched").iterdir()]
    parts.append(pd.read_parquet(out / "dropped.parquet", columns=["row", "reason"]))
    parts.append(pd.read_parquet(out / "kept.parquet", columns=["row"]).assign(reason="kept"))
    ends = pd.concat(parts).set_index("row").reason
    assert ends.index.is_unique and len(ends) == len(pairs), "some pairs are lost, or there twice"
    pairs = pairs.assign(end=[ends[i] for i in range(len(pairs))])
    return pairs[[end not in ENDS[fate] for fate, end in zip(pairs.fate, pairs.end, strict=True)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crawl(a.out or Path(folder), a.pages)


def crawl(folder: Path, pages: int) -> None:
    """Make the pages, run the command on them, and compare."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    fates = make(pictures, pages)
    with serve(pictures) as port:
        pairs = table(fates, port)
        pairs.to_parquet(folder / "pairs.parquet")
        command = ["-c", "import sys; from rs5m.cli import main; sys.exit(main())", "pub11"]
        command += ["--pairs", str(folder / "pairs.parquet"), "--out", str(folder / "run")]
        subprocess.run(
            [sys.executable, *command, "--keep-by", "none", "--allow-loopback"], check=True
        )
    if len(bad := wrong(folder / "run", pairs)):
        raise SystemExit(f"{len(bad)} pairs ended otherwise than they were made to:\n{bad}")
    print(f"every one of {len(pairs):,} pairs ended as it was made to")


if __name__ == "__main__":
    main()
