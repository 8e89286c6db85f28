"""Released files by name, without a network."""

import huggingface_hub
import pytest
import small_clip
import torch

from rs5m import clip
from rs5m.clip import factory, open_clip, released
from rs5m.web import hub


@pytest.fixture(scope="module")
def model(architectures):
    return small_clip.random(True)


def test_every_release_is_an_architecture_of_open_clip():
    for name, release in released.RELEASED.items():
        config = open_clip.get_model_config(release.architecture)
        assert config, f"{name}: open_clip has no {release.architecture}"
        if release.quick_gelu is not None:
            assert bool(config.get("quick_gelu")) is release.quick_gelu, name
    assert (
        open_clip.get_model_config(released.RELEASED["GeoRSCLIP-ViT-L-14-336"].architecture)[
            "vision_cfg"
        ]["image_size"]
        == 336
    )


@pytest.fixture
def small_release(model, monkeypatch) -> str:
    """A released file of the small architecture, so that no gigabyte is needed."""
    release = released.Release("RS5M_small.pt", model.name, True)
    monkeypatch.setitem(released.RELEASED, "GeoRSCLIP-small", release)
    monkeypatch.setattr(factory, "probe", lambda model: pytest.fail("the name is known"))
    return "GeoRSCLIP-small"


@pytest.mark.parametrize("inside", ["ckpt", "GeoRSCLIP/ckpt"])
def test_a_release_is_taken_from_the_data_folder_first(
    model, small_release, tmp_path, monkeypatch, inside
):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("it asked the hub"))
    (tmp_path / inside).mkdir(parents=True)
    torch.save(model.net.state_dict(), tmp_path / inside / "RS5M_small.pt")
    loaded = clip.load(small_release)
    assert loaded.name == model.name and torch.equal(
        small_clip.logits(loaded.net), small_clip.logits(model.net)
    )
    with pytest.raises(
        ValueError, match="GeoRSCLIP-small is one set of weights: leave its tag openai out"
    ):
        clip.load(small_release, "openai")


def test_a_release_is_taken_from_the_hub(model, small_release, tmp_path, monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "empty"))
    torch.save(model.net.state_dict(), tmp_path / "RS5M_small.pt")
    asked = []

    def download(*arguments):
        asked.append(arguments)
        return tmp_path / "RS5M_small.pt"

    monkeypatch.setattr(hub, "fetch", download)
    assert torch.equal(
        small_clip.logits(clip.load(small_release).net), small_clip.logits(model.net)
    )
    assert asked == [("Zilun/GeoRSCLIP", "ckpt/RS5M_small.pt")]


REMOTE = {
    "hf-hub:nobody/nothing": "could not be loaded from the hub .+: check the name and the network",
    "local-dir:absent": "could not be loaded: absent is not a folder: name one that holds",
    "xlm-roberta-base-ViT-B-32": "could not be built .+: it may need files from the hub",
}


@pytest.mark.parametrize("name", REMOTE)
def test_what_is_not_available_is_one_sentence(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"^{name} {REMOTE[name]}") as caught:
        clip.load(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


def test_without_a_network_it_says_what_to_put_where(tmp_path, monkeypatch):
    """For real, by the library's own error; without its switch it would try for half a minute."""
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cure = f"download ckpt/RS5M_ViT-H-14.pt .* put it into {tmp_path}/mine/ckpt"
    says = f"GeoRSCLIP-ViT-H-14 could not be fetched from the hub .*: {cure}"
    with pytest.raises(OSError, match=says):
        clip.load("GeoRSCLIP-ViT-H-14")
