"""Released models by name: each format from where it was released, with the features it had."""

import shutil
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import small_clip
import torch
from huggingface_hub.errors import EntryNotFoundError

from rs5m import clip
from rs5m.clip import export, known, open_clip
from rs5m.clip.hub import model_of
from rs5m.web import download, hub

pytestmark = pytest.mark.usefixtures("one_thread", "architectures")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Puts a small model among the known ones; nothing is fetched where a test does not say so."""
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "data"))

    def put(**fields) -> str:
        usual = {"architecture": small_clip.NAMES[True], "activation": "quickgelu"}
        usual |= {"text_length": 16, "licence": "MIT", "source": "a/b", "file": "w.pt"}
        usual |= {"format": "state dict"}
        row = known.Known("small", **usual | fields)
        monkeypatch.setattr(known, "_others", lambda: {"small": row})
        return "small"

    return put


def same(model, other) -> bool:
    return torch.equal(small_clip.logits(model.net), small_clip.logits(other.net))


def test_every_model_states_what_it_is():
    models = known.models()
    assert {"GeoRSCLIP-ViT-H-14", "RemoteCLIP-RN50", "RS-M-CLIP", "clip-rsicd-v2"} <= set(models)
    for name, one in models.items():
        config = open_clip.get_model_config(one.architecture)
        assert config, f"{name}: open_clip has no {one.architecture}"
        assert one.activation in known.ACTIVATIONS.values() and one.licence and one.source
        assert one.format in ("state dict", "zip", "open_clip", "transformers")
        if one.quick_gelu is not None:
            assert bool(config.get("quick_gelu")) is one.quick_gelu, name
        length = config["text_cfg"].get("context_length", 77)
        assert one.text_length in (0, 248, length), name


def test_a_member_of_a_zip_in_the_data_folder(small, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda url: pytest.fail(f"it asked for {url}"))
    model, folder = small_clip.random(True), tmp_path / "data/ckpt"
    folder.mkdir(parents=True)
    wrapped = {f"module.{name}": t for name, t in model.net.state_dict().items()}
    torch.save({"epoch": 20, "name": "x", "state_dict": wrapped}, tmp_path / "epoch_20.pt")
    with zipfile.ZipFile(folder / "sky.zip", "w") as archive:
        archive.write(tmp_path / "epoch_20.pt", "sky/epoch_20.pt")
    name = small(source="https://example.org/a/sky.zip", file="sky/epoch_20.pt", format="zip")
    assert same(clip.load(name), model) and (folder / "sky/epoch_20.pt").is_file()
    (folder / "sky.zip").unlink()
    assert same(clip.load(name), model), "it stays beside the zip"


def test_a_member_of_a_zip_that_is_fetched(small, tmp_path, monkeypatch):
    model, packed = small_clip.random(True), tmp_path / "cache/ab/sky.zip"
    packed.parent.mkdir(parents=True)
    torch.save({"state_dict": model.net.state_dict()}, tmp_path / "e.pt")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(tmp_path / "e.pt", "sky/epoch_20.pt")
    monkeypatch.setattr(download, "fetch", lambda url: packed)
    name = small(source="https://example.org/sky.zip", file="sky/epoch_20.pt", format="zip")
    assert same(clip.load(name), model)


def test_a_file_and_a_folder_of_the_hub(small, tmp_path, monkeypatch):
    model, asked = small_clip.random(True), []
    torch.save(model.net.state_dict(), tmp_path / "w.pt")
    export.transformers(model, tmp_path / "hf")

    def download_one(repo, file):
        asked.append((repo, file))
        path = next((p for p in (tmp_path / file, tmp_path / "hf" / file) if p.is_file()), None)
        if path is None:
            raise EntryNotFoundError(file)
        return path

    monkeypatch.setattr(hub, "fetch", download_one)
    assert same(clip.load(small()), model) and asked == [("a/b", "w.pt")]
    got = clip.load(small(format="transformers", file="model.safetensors"))
    assert same(got, model) and got.name == small_clip.NAMES[True]
    assert ("a/b", "config.json") in asked


def test_other_weights_of_a_folder_are_taken_and_flax_ones_have_a_way_out(
    small, tmp_path, monkeypatch
):
    """clip-rsicd-v2 lists weights for torch and for flax; the former are read where they are."""
    model, there = small_clip.random(True), {"flax_model.msgpack": 1}
    folder = export.transformers(model, tmp_path / "hf")

    def one(repo, file):
        if not (folder / file).is_file():
            raise EntryNotFoundError(file)
        return folder / file

    monkeypatch.setattr(hub, "fetch", one)
    monkeypatch.setattr(hub, "size", lambda repo, file: there[file])
    name = small(format="transformers", file="pytorch_model.bin")
    assert same(clip.load(name), model), "by model.safetensors, the listed file is not there"
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="^small: in a/b there are weights for flax alone: .*'a/b'"):
        clip.load(name)
    (folder / "flax_model.msgpack").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="has no .*: there are weights for flax alone"):
        clip.load(f"local-dir:{folder}")


@pytest.mark.parametrize("length", [16, 40])
def test_two_tables_of_positions_are_joined(small, tmp_path, length):
    model = small_clip.random(True)
    tensors = model.net.state_dict()
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(length, 64, generator=generator) for _ in range(2))
    tensors["positional_embedding"], tensors["positional_embedding_res"] = one, two
    torch.save(tensors, tmp_path / "w.pt")
    got = clip.load(small(text_length=0), checkpoint=tmp_path / "w.pt")
    joined = torch.cat([one[:20], two[20:]])
    assert torch.equal(got.net.positional_embedding, joined)
    assert got.tokenizer(["a " * 90]).shape == (1, length)
    again = export.openclip(got, tmp_path / "again")
    assert len(clip.load(f"local-dir:{again.parent}").net.positional_embedding) == length


def test_the_wrong_activation_is_caught(small, tmp_path):
    model = small_clip.random(True)
    torch.save(model.net.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="trained with GELU .as released"):
        clip.load(small(activation="gelu"), checkpoint=tmp_path / "w.pt")
    folder = export.transformers(model, tmp_path / "hf")
    text = (folder / "config.json").read_text().replace('"quick_gelu"', '"gelu"')
    (folder / "config.json").write_text(text)
    name = small(format="transformers", file="model.safetensors")
    with pytest.raises(ValueError, match="trained with QuickGELU .as released"):
        clip.load(name, checkpoint=folder / "model.safetensors")


def test_what_is_not_available_says_what_to_put_where(small, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cure = f"download w.pt there and put it at {tmp_path}/data/ckpt/w.pt"
    with pytest.raises(OSError, match=f"small could not be fetched from a/b .*: {cure}"):
        clip.load(small())
    with pytest.raises(OSError, match="its file in a/b is not known here: download it and name"):
        clip.load(small(file=""))
    with pytest.raises(ValueError, match="small is one set of weights: leave its tag openai"):
        clip.load(small(), "openai")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SkyCLIP-B-32", "SkyCLIP-ViT-B-32"),
        ("pockett", "pocket?"),
        ("Pocket", "pocket?"),
        ("remoteclip", "RemoteCLIP-RN50 or RemoteCLIP-ViT-B-32 or RemoteCLIP-ViT-L-14?"),
        ("ViT-B-32-quickgulu", "ViT-B-32-quickgelu or "),
    ],
)
def test_a_wrong_name_tells_the_nearest_wherever_it_is_given(name, nearest):
    for load in (clip.load, lambda name: model_of(name, "")):
        with pytest.raises(ValueError, match=f"^unknown model '{name}': did you mean ") as said:
            load(name)
        assert f"did you mean {nearest}" in str(said.value)


def test_the_data_folder_comes_first(small, tmp_path):
    model, folder = small_clip.random(True), tmp_path / "data/ckpt"
    folder.mkdir(parents=True)
    torch.save(model.net.state_dict(), folder / "w.pt")
    assert known.weights(small()) == folder / "w.pt" and same(clip.load(small()), model)
    shutil.copytree(export.transformers(model, tmp_path / "hf"), folder / "small")
    name = small(format="transformers", file="model.safetensors")
    assert known.weights(name) == Path(folder / "small/model.safetensors")
