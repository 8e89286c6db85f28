"""Rehearses a scale that nobody can run here: every chapter, on a made folder and small networks.

    python tools/rehearse.py --scale colab
    python tools/rehearse.py --scale colab --chapters keywords dedup
    python tools/rehearse.py --scale colab --render      run nothing, render what has run

In runs/rehearsal/<scale>/ it builds a folder in the published layout (`published`), networks of the
scale's architectures, shallow and narrow, with seeded weights, behind a hub on this machine under
the names of the real ones (BLIP-2 is fetched from it beforehand, as a reader has to), and a copy of
the book whose pages are marked as a rehearsal. The chapters then run there as `make reproduce
SCALE=` runs them. No number of it is a result: none goes into results/. A table at the end has what
each chapter took and where it stopped.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "helpers")]

SCALES = ("colab", "paper")  # the others run as they are
LENGTH = {"RS5M_STEPS": "4", "RS5M_BATCH": "16"}
SAID = (
    "REHEARSAL: seeded networks and made data in the shapes of the real ones. "
    "No number on this page is a result."
)
WATERMARK = """body::before {
  content: "rehearsal"; position: fixed; inset: 35% 0 auto 0; z-index: 9; text-align: center;
  font-size: 18vw; opacity: 0.08; transform: rotate(-20deg); pointer-events: none;
}
"""
FETCH = [Path(sys.executable).with_name("hf"), "download", "Salesforce/blip2-opt-6.7b", "--quiet"]
FETCH += ["--exclude", "*.bin"]  # as the chapter says
STARTUP = """from rs5m.clip import open_clip
open_clip.add_model_config({folder!r})
"""


def small(config: dict) -> dict:
    """An architecture's configuration with its sizes of image, patch, text and embedding, and
    little between them.
    """
    vision = config["vision_cfg"]
    if isinstance(vision["layers"], list):  # a ResNet, whose heads are width / 2
        vision = vision | {"layers": [1, 1, 1, 1], "width": 16}
    else:
        vision = vision | {"layers": 2, "width": 64, "head_width": 32}
    text = config["text_cfg"] | {"layers": 2, "width": 64, "heads": 2}
    return config | {"vision_cfg": vision, "text_cfg": text}


def networks(folder: Path) -> None:
    """configs/ for open_clip, and hub/ with the weights under their addresses."""
    import torch
    from safetensors.torch import save_file
    from small_blip2 import tiny_blip2

    from rs5m.captions import BLIP2
    from rs5m.clip import hub, open_clip, released, remote

    (folder / "configs").mkdir(parents=True)
    for name in hub.TAGS:
        config = small(open_clip.get_model_config(name))
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "configs")
    for seed, (name, tag) in enumerate(hub.TAGS.items()):
        torch.manual_seed(seed)
        net = open_clip.create_model(name)
        path = folder / "hub" / open_clip.get_pretrained_cfg(name, tag)["hf_hub"] / remote.WEIGHTS
        path.parent.mkdir(parents=True)
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    for seed, release in enumerate(released.RELEASED.values(), len(hub.TAGS)):
        if release.architecture in hub.TAGS:
            torch.manual_seed(seed)
            path = folder / "hub" / released.REPO / "ckpt" / release.file
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(open_clip.create_model(release.architecture).state_dict(), path)
    tiny_blip2(folder / "hub" / BLIP2, "20KB")


def book(folder: Path) -> None:
    """The book beside its package, with a mark on every page and results/ of its own, where those
    of mini, local and the benchmarks are links: pages quote them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("rs5m", "constraints.txt", "_toc.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    shutil.rmtree(folder / "book", ignore_errors=True)
    shutil.copytree(ROOT / "book", folder / "book")
    (folder / "book" / "_static" / "rehearsal.css").write_text(WATERMARK)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    marked = config.replace("\nhtml:\n", f'\nhtml:\n  announcement: "{SAID}"\n')
    if marked == config:
        raise SystemExit("_config.yml has no html part to mark the pages in")
    (folder / "_config.yml").write_text(marked, encoding="utf-8")
    (folder / "results").mkdir(exist_ok=True)
    for name in ("mini", "local", "bench"):
        if not (folder / "results" / name).exists():
            (folder / "results" / name).symlink_to(ROOT / "results" / name)


def built(folder: Path, real: Path | None) -> None:
    """What does not change between two rehearsals: made once by the same code, of the same data."""
    import published

    code = "".join(
        Path(file).read_text(encoding="utf-8") for file in (published.__file__, __file__)
    )
    by = hashlib.sha256(f"{real} {code}".encode()).hexdigest()
    for name, make in (("data", lambda out: published.make(out, real)), ("networks", networks)):
        stamp = folder / f"{name}.by"
        if not (folder / name).exists() or not stamp.exists() or stamp.read_text() != by:
            shutil.rmtree(folder / f".{name}", ignore_errors=True)
            make(folder / f".{name}")
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f".{name}").replace(folder / name)
            stamp.write_text(by)


def environment(folder: Path, address: str) -> dict[str, str]:
    """For the kernels: the made folder, the hub on this machine, shallow architectures."""
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    configs = str(folder / "networks" / "configs")
    (startup / "shallow.py").write_text(STARTUP.format(folder=configs))
    shutil.rmtree(folder / "hf", ignore_errors=True)  # each rehearsal fetches
    made = {
        "RS5M_DATA": str(folder / "data"),
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "hf"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    return LENGTH | dict(os.environ) | made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="colab", choices=SCALES, help="the scale to rehearse")
    parser.add_argument("--chapters", nargs="+", default=[], help="run these alone")
    parser.add_argument("--render", action="store_true", help="run nothing, render what has run")
    options = parser.parse_args()
    from loopback_hub import served

    folder, start = ROOT / "runs" / "rehearsal" / options.scale, time.perf_counter()
    real = Path(os.environ.get("RS5M_DATA") or ROOT / "data").resolve()
    built(folder, real if real.is_dir() else None)
    book(folder / "book")
    command = [sys.executable, ROOT / "tools" / "reproduce.py", "--scale", options.scale]
    command += ["--root", folder / "book", "--render" if options.render else "--keep-going"]
    command += ["--chapters", *options.chapters] if options.chapters else []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so ends the chapters, too
    with served(folder / "networks" / "hub") as hub:
        env = environment(folder, hub.address)
        subprocess.run(FETCH, env=env, check=True)
        ran = subprocess.run(command, env=env)
    print(f"rehearsed {options.scale} in {time.perf_counter() - start:.0f} s; nothing of it counts")
    raise SystemExit(ran.returncode)


if __name__ == "__main__":
    main()
