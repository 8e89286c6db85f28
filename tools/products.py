"""What tools/clients.py shows to other programs: runs of PUB11, RS3 and tuning, all small."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from rs5m import clip, pub11, rs3, web
from rs5m.clip import export, open_clip
from rs5m.data import records
from rs5m.pocket import webpages
from rs5m.tune import recipes, run

sys.path += [str(Path(__file__).resolve().parents[1] / "tests" / "helpers")]
from cheap_rs3 import cheap_rankers  # noqa: E402

LIMITS = web.Limits(allow_loopback=True, per_host=8, retries=0, timeout=20)
SMALL = {  # of both towers that have a counterpart in transformers
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class Everything:
    """A judge that keeps every picture."""

    def about(self) -> str:
        return "judge: it keeps every picture"

    def identity(self) -> list:
        return ["everything"]

    def prepare(self, out: Path) -> None:
        pass

    def load(self, out: Path):
        return lambda pictures: (np.ones(len(pictures)), np.ones(len(pictures)))

    def reasons(self, score, probability, out: Path) -> list[None]:
        return [None] * len(score)


class Numbers:
    """A captioner that writes the mean colour."""

    def generate(self, images, n: int) -> list[list[str]]:
        return [[f"a field of colour {int(i.mean())} number {k}" for k in range(n)] for i in images]


def crawled(folder: Path) -> None:
    """Runs of PUB11: full, its release (the other layout), and empty."""
    pocket = webpages.build(listed=600)
    none = pa.array([], pa.string())
    pq.write_table(pa.table({"url": none, "text": none}), folder / "none.parquet")
    with webpages.serve(pocket) as base:
        webpages.write(pocket, base, folder / "pairs")
        for name, layout in zip(("full", "release"), records.LAYOUTS, strict=True):
            pub11.run(folder / "pairs", folder / name, Everything(), LIMITS, layout=layout)
        pub11.run(folder / "none.parquet", folder / "empty", Everything(), LIMITS)


def captioned(folder: Path) -> None:
    """Runs of RS3: rs3, and rs3-empty, whose only file is no image."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(24):
        pixels = generator.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{i}.png")
    (folder / "broken").mkdir()
    (folder / "broken/x.png").write_bytes(b"x")
    settings = rs3.Settings(candidates=8, angles=(0.0, 90.0))
    for images, name in (("images", "rs3"), ("broken", "rs3-empty")):
        out = folder / name
        rs3.run(folder / images, out, Numbers, cheap_rankers, None, "", settings)


def tuned(folder: Path) -> None:
    """base/ and hf-base/, a small network for open_clip and transformers; runs of tuning from it on
    RS3's shards, full/ and lora/ in tuned/, and hf/, the first for transformers. Each has features
    in exact.npz, of pictures that no program has to resize.
    """
    out = folder / "tuned"
    out.mkdir()
    (out / "small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(out / "small.json")
    torch.manual_seed(0)
    base = clip.load("small")
    export.openclip(base, out / "base")
    export.transformers(base, out / "hf-base")
    for method in ("full", "lora"):
        changes = [f"method={method}", "epochs=4", "batch_size=8", "learning_rate=1e-3"]
        changes += ["lock_text=off", "compiled=off", "precision=float32"]
        recipe = recipes.begin_from(
            recipes.change(recipes.get(recipes.DEFAULT), changes), f"local-dir:{out / 'base'}", ""
        )
        run.run(recipe, [str(folder / "rs3")], out / method)
        _exact(clip.load(f"local-dir:{out / method}"), out / method)
    export.transformers(clip.load(f"local-dir:{out / 'full'}"), out / "hf")
    (out / "hf/exact.npz").write_bytes((out / "full/exact.npz").read_bytes())


def _exact(model: clip.Model, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    texts = ["a field of colour 3", "water"]
    image, text = clip.encode_images(model, list(pixels)), clip.encode_texts(model, texts)
    np.savez(folder / "exact.npz", pixels=pixels, texts=np.array(texts), image=image, text=text)
