"""What several chapters share: no picture of the test continents, labelled images and their
records.
"""

from pathlib import Path

import loopback_hub
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import snapshot_download
from PIL import Image
from small_blip2 import tiny_blip2

from rs5m import pocket
from rs5m.book import runs, scales
from rs5m.book.runs import captioning
from rs5m.captions import BLIP2, Blip2Captioner
from rs5m.pocket import webpages


def window(latitude, longitude, side=30):
    x, y = (longitude + 180) * pocket.CHIP - side / 2, (90 - latitude) * pocket.CHIP - side / 2
    return {"x": int(x), "y": int(y), "side": side}


def test_windows_of_the_test_continents_are_found():
    places = {
        "Kansas": (38, -98),
        "Kazakhstan": (48, 68),
        "Australia": (-25, 135),
        "France": (47, 2),
        "Kenya": (0, 38),
    }
    windows = pd.DataFrame([window(*at) for at in places.values()])
    assert dict(zip(places, runs.elsewhere(windows), strict=True)) == {
        "Kansas": True,
        "Kazakhstan": True,
        "Australia": True,
        "France": False,
        "Kenya": False,
    }


def test_no_window_that_stays_shares_a_pixel_with_a_test_chip():
    test, pictures = pocket.chips("test"), webpages.build(seed=runs.WEB_SEED, listed=5000).pictures
    kept = pictures[runs.elsewhere(pictures) & (pictures.kind == "satellite")]
    left, top = (test.longitude - 0.5 + 180) * pocket.CHIP, (90 - test.latitude - 0.5) * pocket.CHIP
    for row in kept.itertuples():
        across = (left < row.x + row.side) & (row.x < left + pocket.CHIP)
        assert not (across & (top < row.y + row.side) & (row.y < top + pocket.CHIP)).any()
    assert 100 < len(kept) < (pictures.kind == "satellite").sum()


def test_annotated_and_labelled_share_no_chip_and_have_their_own_records(tmp_path):
    scale = scales.get("mini")
    known = runs.labelled_records(scale, tmp_path)
    files = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert files == sorted(known)
    chips = pocket.chips("train")
    captioned = {image.tobytes() for image in runs.annotated(scale).images}
    numbers = [int(name.removeprefix("chip")) for name in files]
    rest = [image.tobytes() for i, image in enumerate(chips.images) if i not in numbers]
    assert captioned == set(rest) and len(rest) == len(runs.annotated(scale).images)
    name = files[7]
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / f"{name}.png")),
        chips.images[int(name.removeprefix("chip"))],
    )
    assert known[name].labels == (chips.classes[chips.labels[int(name.removeprefix("chip"))]],)


def test_at_the_scales_of_clip_rs3_s_images_are_eurosat_s(tmp_path, monkeypatch):
    classes = ("AnnualCrop", "Forest", "SeaLake")
    for name in classes:
        (tmp_path / "2750" / name).mkdir(parents=True)
        for i in range(5):
            pixels = np.full((64, 64, 3), 40 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"2750/{name}/{name}_{i}.jpg")
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    known = runs.labelled_records(scales.get("colab"))
    assert [name.split("_")[0] for name in known] == [name for name in classes for _ in range(2)]
    assert next(iter(known.values())).labels == ("annual crop",), "half of a class, rounded down"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The address of a hub that has a small BLIP-2; nothing of it is here, nor a data folder's."""
    (tiny_blip2(tmp_path / "hub" / BLIP2, "20KB") / "pytorch_model.bin").write_bytes(b"large")
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "data"))
    with loopback_hub.served(tmp_path / "hub") as served:
        loopback_hub.at(served.address, tmp_path, monkeypatch)
        yield served


def fetched(hub) -> Path:
    """What `hf download` does with --exclude "*.bin": the same weights once more, unread."""
    folder = Path(snapshot_download(BLIP2, endpoint=hub.address, ignore_patterns=["*.bin"]))
    assert not list(folder.glob("*.bin"))
    return folder


@pytest.mark.parametrize("where", ["hub", "data"])
def test_at_the_scales_of_clip_blip_2_writes_where_it_is(hub, tmp_path, capsys, where):
    if where == "hub":
        folder = fetched(hub)
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    else:
        folder = tiny_blip2(tmp_path / "data" / "blip2-opt-6.7b")
    asked = len(hub.asked)
    made = runs.captioner(scales.get("colab"))
    assert (
        isinstance(made, Blip2Captioner)
        and f"{BLIP2} of {folder} writes" in capsys.readouterr().out
    )
    texts = made.generate([np.zeros((32, 32, 3), np.uint8)], 3)
    assert len(texts[0]) == 3
    name = runs.captioner_name(scales.get("colab"))
    (folder / "generation_config.json").write_text("{}")
    assert name.startswith(BLIP2) and runs.captioner_name(scales.get("colab")) != name
    assert len(hub.asked) == asked, "what is here is not asked for"


@pytest.mark.parametrize("held", ["nothing", "a part"])
def test_blip_2_is_never_fetched_unasked(hub, monkeypatch, capsys, held):
    if held == "a part":
        next(fetched(hub).glob("model-*.safetensors")).unlink()
    monkeypatch.setattr(captioning.prefix, "load", lambda *_: "small")
    monkeypatch.setattr(captioning, "captioner_folder", lambda scale: Path("captioner-12ab"))
    asked = len(hub.asked)
    assert runs.captioner(scales.get("colab"), "model") == "small"
    said = capsys.readouterr().out
    assert "a small captioner writes" in said and f"hf download {BLIP2}" in said and "31 GB" in said
    assert runs.captioner_name(scales.get("colab")) == "captioner-12ab"
    assert len(hub.asked) == asked


def test_the_laptop_s_scales_ask_for_no_blip_2(hub, monkeypatch, capsys):
    fetched(hub)
    monkeypatch.setattr(captioning.prefix, "load", lambda *_: "small")
    monkeypatch.setattr(captioning, "captioner_folder", lambda scale: Path("captioner-12ab"))
    assert runs.captioner(scales.get("mini"), "model") == "small" and not capsys.readouterr().out
