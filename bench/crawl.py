"""`rs5m pub11` on made pages from loopback, some of whose hosts never answer: one command.

    python -m bench.crawl [--pages 2000] [--judge hub] [--out FOLDER]

FOLDER, a temporary one by default, gets the pictures, pairs.parquet with each pair's true fate, and
run/, which the command makes without a judge, or with a small network of open_clip that a hub on
this machine serves. Of the pages 2 % are of hosts that never answer (half take the connection and
are silent, half never take it), 2 % are missing, 1 % are no pictures, 2 % are copies under another
URL, 5 % have a text without a keyword, and 10 % a picture without colour, which that network has
learned to take for a photograph. What the command says is passed on, and every pair must end as it
was made to. Chapter: pub11.
"""

import argparse
import contextlib
import json
import os
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

sys.path += [str(Path(__file__).resolve().parents[1] / "tests/helpers")]  # the hub's

HOSTS, SEED = 8, 0
FATES = {"dead": 0.02, "missing": 0.02, "broken": 0.01, "copy": 0.02, "no keyword": 0.05}
FATES |= {"grey": 0.1}
NAME = "rs5m/made"  # the judge's, on the hub
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
STEPS, BATCH = 60, 32  # that the judge is trained for
ENDS = {  # reasons of dropped.parquet and unmatched/
    "dead": {"timeout", "dead_host"},
    "missing": {"http_404"},
    "broken": {"not_an_image"},
    "copy": {"duplicate_bytes"},
    "no keyword": {"no_keyword"},
    "grey": {"kept"},
    "fine": {"kept"},
}
JUDGED = ENDS | {"grey": {"low_score"}}


def picture(generator: np.random.Generator, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Blurred colours with little blue, as land has, unlike those of any other picture."""
    colours = generator.integers(0, (256, 256, 64), (6, 8, 3), dtype=np.uint8)
    coarse = Image.fromarray(colours)
    fine = generator.integers(-12, 13, (*size[::-1], 1))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), int) + fine
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


def judge(folder: Path) -> None:
    """Train a network to hold coloured pictures for views from above, and write it as the files of
    a repository.
    """
    import torch

    from rs5m import clip, filters
    from rs5m.clip import export, open_clip

    (folder / "made.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(folder / "made.json")
    torch.manual_seed(SEED)
    generator, model = np.random.default_rng(SEED + 1), clip.load("made")
    net, truth = model.net.requires_grad_(True), torch.arange(BATCH) % 2
    views = model.tokenizer([one.format("a city") for one in filters.VIEWS])
    others = model.tokenizer(list(filters.OTHERS))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(STEPS):
        made = [picture(generator, (40, 40)) for _ in range(BATCH)]
        made[1::2] = [one.convert("L").convert("RGB") for one in made[1::2]]
        pixels = clip.preprocess([np.asarray(one) for one in made], model)
        sides = [net.encode_text(texts, normalize=True).mean(0) for texts in (views, others)]
        logits = 10 * net.encode_image(pixels, normalize=True) @ torch.stack(sides).T
        loss = torch.nn.functional.cross_entropy(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.requires_grad_(False)
    export.openclip(model, folder / NAME)


def make(folder: Path, pages: int) -> list[str]:
    """Write the pictures; the fate of each page."""
    generator = np.random.default_rng(SEED)
    shares = [*FATES.values(), 1 - sum(FATES.values())]
    fates = generator.choice([*FATES, "fine"], pages, p=shares).tolist()
    fates[0], last = "fine", folder / "0.jpg"
    for i, fate in enumerate(fates):
        path = folder / f"{i}.jpg"
        if fate in ("fine", "grey"):
            made = picture(generator)
            (made.convert("L") if fate == "grey" else made).save(path, quality=85)
            last = path if fate == "fine" else last
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


def wrong(out: Path, pairs: pd.DataFrame, ends: dict[str, set[str]]) -> pd.DataFrame:
    """The pairs that ended otherwise than they were made to."""
    parts = [pd.read_parquet(p, columns=["row", "reason"]) for p in (out / "unmatched").iterdir()]
    parts.append(pd.read_parquet(out / "dropped.parquet", columns=["row", "reason"]))
    parts.append(pd.read_parquet(out / "kept.parquet", columns=["row"]).assign(reason="kept"))
    found = pd.concat(parts).set_index("row").reason
    assert found.index.is_unique and len(found) == len(pairs), "some pairs are lost, or there twice"
    pairs = pairs.assign(end=[found[i] for i in range(len(pairs))])
    return pairs[[end not in ends[fate] for fate, end in zip(pairs.fate, pairs.end, strict=True)]]


@contextlib.contextmanager
def judging(folder: Path, kind: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command's options for the judge, and its environment."""
    if kind == "none":
        yield ["--keep-by", "none"], dict(os.environ)
        return
    from loopback_hub import served

    judge(folder / "hub")
    with served(folder / "hub") as hub:
        there = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf")}
        yield ["--model", f"hf-hub:{NAME}"], os.environ | there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--judge", choices=("none", "hub"), default="none")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(crawl(a.out or Path(folder), a.pages, a.judge))


def crawl(folder: Path, pages: int, kind: str) -> str:
    """Make the pages, run the command on them, compare, and say that all is as it was made."""
    for name in ("pictures", "hub"):
        (folder / name).mkdir(parents=True)
    fates = make(folder / "pictures", pages)
    with serve(folder / "pictures") as port, judging(folder, kind) as (options, environment):
        pairs = table(fates, port)
        pairs.to_parquet(folder / "pairs.parquet")
        command = ["-c", "import sys; from rs5m.cli import main; sys.exit(main())", "pub11"]
        command += ["--pairs", str(folder / "pairs.parquet"), "--out", str(folder / "run")]
        command += [*options, "--allow-loopback"]
        subprocess.run([sys.executable, *command], check=True, env=environment)
    ends = JUDGED if kind == "hub" else ENDS
    if len(bad := wrong(folder / "run", pairs, ends)):
        raise SystemExit(f"{len(bad)} pairs ended otherwise than they were made to:\n{bad}")
    return f"every one of {len(pairs):,} pairs ended as it was made to"


if __name__ == "__main__":
    main()
