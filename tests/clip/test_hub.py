"""A judge or rankers from a hub here: what is fetched is said, a refusal is one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import loopback_hub
import pytest
import small_clip
from safetensors.torch import save_file

from rs5m.clip import hub, remote

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import sys
from pathlib import Path
import small_clip
from open_clip import pretrained
from rs5m.clip import hub
small_clip.register(Path(sys.argv[1]))
told = {{"hf_hub": "rs5m/tiny/", "mean": (0.5,) * 3, "std": (0.25,) * 3}}
pretrained._PRETRAINED["{small_clip.NAME}"] = {{"tiny": told}}
hub.TAGS["{small_clip.NAME}"] = "tiny"
try:
    print(hub.identity("{small_clip.NAME}"))
    print(hub.model_of("{small_clip.NAME}", "").image_size)
except OSError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    small_clip.register(folder)
    held = folder / "rs5m/tiny" / remote.WEIGHTS
    held.parent.mkdir(parents=True)
    save_file(small_clip.random(False).net.state_dict(), held)
    with loopback_hub.served(folder) as server:
        yield server


def asked(served, home: Path, script: str = SCRIPT) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests/helpers")))
    env = os.environ | {"PYTHONPATH": paths, "HF_ENDPOINT": served.address, "HF_HOME": str(home)}
    line = [sys.executable, "-c", script, str(served.folder)]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_weights_of_the_hub_are_said_fetched_once_and_loaded(served, tmp_path):
    first = asked(served, tmp_path)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == f"asking the hub for the weights of {small_clip.NAME}"
    assert lines[1].startswith(f"fetching {small_clip.NAME}: ") and lines[1].endswith(" MB")
    assert lines[2].startswith(f"{small_clip.NAME} ") and lines[3] == "32"
    served.asked.clear()
    second = asked(served, tmp_path)
    assert second.stdout.splitlines() == lines[2:], "from the cache, and the same identity"
    assert not [path for verb, path, _ in served.asked if verb == "GET" and "tiny" in path]


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404])
def test_a_hub_that_refuses_is_one_sentence_with_ways_out(served, tmp_path, monkeypatch, status):
    monkeypatch.setattr(served, "status", status)
    said = asked(served, tmp_path)
    assert said.returncode == 1
    assert f"does not give the weights of {small_clip.NAME} ({status})" in said.stderr
    assert hub.WAYS_OUT in said.stderr


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="ViT-B-16 needs weights"):
        hub.identity("ViT-B-16")


def test_the_second_model_has_the_name_of_its_own_option(tmp_path):
    with pytest.raises(ValueError, match="with --second-checkpoint"):
        hub.identity("ViT-B-16", option="--second-checkpoint")
    with pytest.raises(
        OSError, match="the spelling of --second-checkpoint; what helps: name .* --second"
    ):
        hub.identity("ViT-B-16", str(tmp_path / "gone.pt"), "--second-checkpoint")


def test_the_identity_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a")
    (tmp_path / "b.pt").write_bytes(b"b")
    one, two = (hub.identity("ViT-B-16", str(tmp_path / name)) for name in ("a.pt", "b.pt"))
    assert one != two and one.startswith("ViT-B-16 ")
    with pytest.raises(OSError, match="--checkpoint"):
        hub.identity("ViT-B-16", str(tmp_path / "c.pt"))


def test_a_full_disk_is_told_with_its_folder(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", full)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(OSError, match=f"{tmp_path} could not be written .the disk is full.: free"):
        hub.weights("ViT-B-32-quickgelu", "openai")


@pytest.mark.parametrize(
    "name, checkpoint, says",
    [
        ("pocket@openai", "", "pocket is one set of weights: leave its tag openai out"),
        ("GeoRSCLIP-ViT-B-32@openai", "", "GeoRSCLIP-ViT-B-32 is one set of weights"),
        ("ViT-B-32-quickgelu@openia", "", "unknown weights 'openia' .*did you mean openai"),
        ("ViT-B-32@openai", "", "were trained with QuickGELU, .*: load ViT-B-32-quickgelu"),
        ("nothing@openai", "", "unknown model 'nothing'"),
        ("ViT-B-16@openai", "a.pt", "ViT-B-16@openai and --checkpoint both name weights"),
    ],
)
def test_a_tag_that_there_is_not_is_refused_before_anything_is_fetched(name, checkpoint, says):
    for look in (hub.identity, hub.model_of):
        with pytest.raises(ValueError, match=says):
            look(name, checkpoint)


def test_an_address_has_no_tag():
    assert hub.parted("ViT-B-32@openai") == ("ViT-B-32", "openai")
    assert hub.parted("local-dir:/data/a@b") == ("local-dir:/data/a@b", "")


@pytest.mark.slow
def test_any_tag_is_fetched_and_is_in_the_identity(served, tmp_path):
    script = SCRIPT.replace(f'hub.TAGS["{small_clip.NAME}"] = "tiny"', "")
    script = script.replace(f'identity("{small_clip.NAME}"', f'identity("{small_clip.NAME}@tiny"')
    script = script.replace(f'model_of("{small_clip.NAME}"', f'model_of("{small_clip.NAME}@tiny"')
    said = asked(served, tmp_path, script)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[2].startswith(f"{small_clip.NAME}@tiny ") and lines[3] == "32"
