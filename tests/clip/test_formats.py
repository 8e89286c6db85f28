"""Each format in which models are released, fetched from a hub or an address on this machine by its
name: it loads, states its activation, and has the features of the network that was put there.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
import small_clip
import small_siglip
import small_xlm
import torch

from rs5m.clip import export, known, open_clip

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread", "architectures")]
TEXTS = ["w1 w2 w3", "an airport from above", "w4 " * 30]
QUICK, LONG = small_clip.NAMES[True], 40
USUAL = {"activation": "quickgelu", "text_length": 16, "licence": "MIT", "file": "w.pt"}
ROWS = {  # as in models.toml
    "plain": {"architecture": QUICK, "source": "a/plain", "format": "state dict"},
    "zip": {"architecture": QUICK, "file": "sky/epoch_20.pt", "format": "zip"},
    "two-tables": {"architecture": QUICK, "text_length": 0, "source": "a/tables",
                   "format": "state dict"},
    "clip": {"architecture": QUICK, "source": "a/clip", "file": "model.safetensors",
             "format": "transformers"},
    "siglip": {"architecture": small_siglip.NAME, "activation": "gelu", "source": "a/siglip",
               "file": "model.safetensors", "text_length": 12, "format": "transformers"},
    "open": {"architecture": small_clip.NAME, "activation": "gelu", "source": "a/open", "file": "",
             "format": "open_clip"},
    "xlm": {"architecture": "", "activation": "gelu", "source": "a/xlm", "file": "",
            "text_length": 77, "format": "open_clip"},
}  # fmt: skip
SCRIPT = """
import functools, json, sys
from pathlib import Path
import numpy as np
import small_clip, small_siglip, torch
from rs5m import clip
from rs5m.clip import activation, known
from rs5m.web import Limits, download

torch.set_num_threads(1)
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
small_clip.register(folder)
small_siglip.register(folder)
rows = json.loads((folder / "rows.json").read_text())
known._others = lambda: {name: known.Known(name, **row) for name, row in rows.items()}
download.fetch = functools.partial(download.fetch, limits=Limits(allow_loopback=True))
inputs = np.load(folder / "inputs.npz")
for name in rows:
    model = clip.load(name)
    pixels = torch.from_numpy(inputs[f"pixels{model.image_size}"])
    with torch.inference_mode():
        found = {"image": clip.encode_pixels(model, pixels)}
        found["text"] = clip.encode_texts(model, list(map(str, inputs["texts"])))
    found = {key: np.asarray(value) for key, value in found.items()}
    np.savez(out / f"{name}.npz", quick=str(activation.uses(model.net)), **found)
"""


def features(net, pixels, tokens) -> dict:
    """Of a library's own network."""
    with torch.inference_mode():
        if hasattr(net, "encode_image"):
            return {"image": net.encode_image(pixels), "text": net.encode_text(tokens)}
        image, text = net.get_image_features(pixels), net.get_text_features(tokens)
        return {"image": image, "text": text}


def two_tables(tensors: dict) -> dict:
    """Positions in the two tables of a text tower that reads more: 20 of the one, the rest of the
    other.
    """
    one, two = (torch.randn(LONG, 64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    return tensors | {"positional_embedding": one, "positional_embedding_res": two}


def joined(quick) -> torch.nn.Module:
    """What open_clip computes with the joined table."""
    tensors = two_tables(quick.net.state_dict())
    table = tensors.pop("positional_embedding_res")
    tensors["positional_embedding"] = torch.cat([tensors["positional_embedding"][:20], table[20:]])
    length = {"text_cfg": small_clip.CONFIG["text_cfg"] | {"context_length": LONG}}
    net = open_clip.CLIP(**small_clip.CONFIG | length | {"quick_gelu": True}).eval()
    net.load_state_dict(tensors)
    return net


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Features by name of what a hub and an address serve, here and by the libraries' networks."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("hub", "out"))
    small_siglip.register(tmp_path_factory.mktemp("architectures"))
    for name in ("plain", "tables", "zips", "clip", "siglip", "open"):
        (folder / "a" / name).mkdir(parents=True)
    quick, gelu = small_clip.random(True), small_clip.random(False)
    tensors = quick.net.state_dict()
    torch.save(tensors, folder / "a/plain/w.pt")
    torch.save(two_tables(tensors), folder / "a/tables/w.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, out / "e.pt")
    with zipfile.ZipFile(folder / "a/zips/sky.zip", "w") as archive:
        archive.write(out / "e.pt", "sky/epoch_20.pt")
    from transformers import AutoTokenizer, CLIPModel

    export.transformers(quick, folder / "a/clip")
    siglip = small_siglip.written(folder / "a/siglip")
    export.openclip(gelu, folder / "a/open")
    generator = torch.Generator().manual_seed(0)
    pixels = {size: torch.randn(3, 3, size, size, generator=generator) for size in (24, 32)}
    arrays = {f"pixels{size}": value.numpy() for size, value in pixels.items()}
    np.savez(folder / "inputs.npz", texts=np.array(TEXTS), **arrays)
    tokens, long = quick.tokenizer(TEXTS), open_clip.get_tokenizer(QUICK, context_length=LONG)
    theirs = {name: features(quick.net, pixels[32], tokens) for name in ("plain", "zip")}
    theirs["clip"] = features(CLIPModel.from_pretrained(folder / "a/clip"), pixels[32], tokens)
    theirs["two-tables"] = features(joined(quick), pixels[32], long(TEXTS))
    words = AutoTokenizer.from_pretrained(folder / "a/siglip")
    cut = {"padding": "max_length", "truncation": True, "max_length": 12}
    words = words(TEXTS, return_tensors="pt", **cut)["input_ids"]
    theirs["siglip"] = features(siglip, pixels[24], words)
    theirs["open"] = features(gelu.net, pixels[32], tokens)
    net, tokenizer = small_xlm.written(folder, "a/xlm")
    theirs["xlm"] = features(net, pixels[32], tokenizer(TEXTS))
    with loopback_hub.served(folder) as server:
        place = f"{server.address}/a/zips/resolve/main/sky.zip"
        rows = {name: USUAL | {"source": place} | row for name, row in ROWS.items()}
        (folder / "rows.json").write_text(json.dumps(rows))
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests/helpers")))
        env = os.environ | {"PYTHONPATH": paths, "HF_ENDPOINT": server.address}
        env |= {"HF_HOME": str(out / "home"), "RS5M_CACHE": str(out / "cache")}
        env |= {"HF_HUB_OFFLINE": "0", "RS5M_DATA": str(out / "none")}
        line = [sys.executable, "-c", SCRIPT, str(folder), str(out)]
        ran = subprocess.run(line, env=env, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr[-3000:]
        asked = [path for verb, path, _ in server.asked if verb == "GET"]
    return {name: dict(np.load(out / f"{name}.npz")) for name in ROWS}, theirs, asked


@pytest.mark.parametrize("name", ROWS)
def test_what_is_fetched_by_name_has_its_library_s_features(released, name):
    ours, theirs, _ = released
    for side in ("image", "text"):
        assert small_clip.off(ours[name][side], theirs[name][side]) < 1e-5, side
    said = {"quickgelu": "True", "gelu": "False"}[(USUAL | ROWS[name])["activation"]]
    assert str(ours[name]["quick"]) == said or name == "siglip", "its trunk is timm's"


def test_every_format_came_over_the_wire(released):
    asked = released[2]
    for name in ("plain/", "tables/", "zips/", "clip/", "siglip/", "open/", "xlm/"):
        assert any(f"/a/{name}" in path for path in asked), name


def test_no_format_of_the_known_models_is_left_out():
    assert {row["format"] for row in ROWS.values()} == {m.format for m in known.models().values()}
