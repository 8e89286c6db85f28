"""Checkpoints: what is read, what is refused, and that what is written loads everywhere with the
same logits.
"""

import copy
import gzip
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import small_clip
import torch
from safetensors.torch import save_file
from torch import nn

from rs5m import clip
from rs5m.clip import activation, checkpoints, factory, open_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(architectures):
    return small_clip.random(True)


@pytest.fixture(autouse=True)
def no_probe(monkeypatch):
    """The photographs have their own tests."""
    monkeypatch.setattr(factory, "probe", lambda model: activation.Probe(1.0, 1.0))


# ---------------------------------------------------------------- reading


KINDS = (
    "plain",
    "training",
    "under model",
    "compiled",
    "one tower compiled",
    "safetensors",
    "openai",
    "safetensors named .pt",
    "a pickle named .safetensors",
    "a legacy pickle",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_checkpoint_gives_the_same_tensors(model, tmp_path, kind):
    tensors, path = model.net.state_dict(), tmp_path / "model.pt"
    if kind == "plain":
        torch.save(tensors, path)
    elif kind == "training":  # as open_clip's training writes it from several GPUs
        wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
        optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))]).state_dict()
        torch.save({"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": optimizer}, path)
    elif kind == "under model":
        torch.save({"epoch": 3, "model": tensors, "optimizer": {}}, path)
    elif kind == "compiled":
        torch.save({f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()}, path)
    elif kind == "one tower compiled":
        inner = {name.replace("visual.", "visual._orig_mod."): t for name, t in tensors.items()}
        torch.save(inner, path)
    elif kind == "a pickle named .safetensors":
        path = path.with_suffix(".safetensors")
        torch.save(tensors, path)
    elif kind == "a legacy pickle":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif kind.startswith("safetensors"):
        path = path if kind.endswith(".pt") else path.with_suffix(".safetensors")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    elif kind == "openai":
        torch.save(tensors | {name: torch.tensor(77) for name in checkpoints.SIZES}, path)
    found = checkpoints.read(path)
    assert found.keys() == tensors.keys() and all(
        torch.equal(found[name], tensors[name]) for name in tensors
    )


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_header_of_any_length_is_a_header(tmp_path, ending):
    """The first byte of the file is that of the header's length: 0x80 begins a pickle, PK a zip."""
    for count in range(0, 256, 8):
        path = tmp_path / f"{count}{ending}"
        save_file({"w": torch.ones(2)}, path, {"note": "x" * count})
        assert torch.equal(checkpoints.read(path)["w"], torch.ones(2)), path.read_bytes()[:9]


class Bomb:
    """A pickle that would run code when read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def broken(kind: str, path: Path, ran: Path) -> Path:
    buffer = io.BytesIO()
    if kind == "code":
        path.write_bytes(pickle.dumps({"w": Bomb(ran)}, protocol=2))
    elif kind == "code in a zip":
        torch.save({"w": Bomb(ran)}, path)
    elif kind == "a whole module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "TorchScript":
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    elif kind == "a picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    elif kind == "nan":
        torch.save({"w": torch.tensor([1.0, float("nan")]), "n": torch.ones(2, dtype=int)}, path)
    elif kind in ("truncated", "empty"):
        torch.save({"w": torch.ones(999)}, buffer)
        path.write_bytes(buffer.getvalue()[:-500] if kind == "truncated" else b"")
    elif kind.endswith(" safetensors"):
        path = path.with_suffix(".safetensors")
        save_file({"w": torch.ones(999)}, path)
        path.write_bytes(path.read_bytes()[: -500 if kind.startswith("trunc") else 4])
    elif kind == "html":
        path.write_text("<html>Zugriff für Sie gesperrt</html>", encoding="utf-8")
    elif kind == "text":
        path.write_text("Quota exceeded\n")
    elif kind.startswith("pointer"):
        path = path.with_suffix(kind.removeprefix("pointer"))
        path.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"
        )
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.safetensors", b"x" * 99)
    elif kind == "gzip":
        path.write_bytes(gzip.compress(b"x" * 99))
    elif kind == "folder":
        path.mkdir()
    elif kind == "twice":
        torch.save({"w": torch.ones(2), "module.w": torch.zeros(2)}, path)
    elif kind == "list":
        torch.save([torch.ones(2)], path)
    elif kind == "numbers":
        torch.save({"w": torch.ones(2), "epoch": 3}, path)
    return path


CURES = {
    "code": "holds more than tensors",
    "code in a zip": r"holds more than tensors \(io.open\), and reading that could run code: ",
    "a whole module": r"holds more than tensors \(torch.nn.modules.linear.Linear\)",
    "TorchScript": r"holds more than tensors \(TorchScript\)",
    "truncated": r"is damaged or was cut short \(\w+\): fetch it again",
    "empty": r"is damaged or was cut short \(\w+\): fetch it again",
    "truncated safetensors": r"is damaged or was cut short \(.+\): fetch it again",
    "four bytes of safetensors": r"is damaged or was cut short \(.+\): fetch it again",
    "html": "is a web page or XML, not a checkpoint: look into it, then fetch the file again",
    "text": "is text, such as csv or tsv, not a checkpoint: look into it",
    "list": "is not a checkpoint: it holds a list, not tensors by name",
    "numbers": "is not a checkpoint: 'epoch' is a int; give a plain state dict",
    "missing": "is not there: give a checkpoint",
    "pointer.pt": "is a pointer of Git LFS, not the file itself: run `git lfs pull` in",
    "pointer.safetensors": "is a pointer of Git LFS, not the file itself: run `git lfs pull` in",
    "zip": "is a zip archive, not a checkpoint: unpack it and name the file in it",
    "gzip": "is compressed by gzip, not a checkpoint: look into it",
    "folder": "is a folder: name the checkpoint in it",
    "a picture": "is not a checkpoint: it begins like neither safetensors nor what torch saves",
    "nan": "holds numbers that are not finite, in w: fetch it again",
    "twice": "holds w twice, in a wrapper and without: keep one",
}


@pytest.mark.parametrize("kind", CURES)
@pytest.mark.filterwarnings("ignore")
def test_an_unsafe_or_broken_checkpoint_is_refused(tmp_path, kind):
    ran = tmp_path / "ran"
    path = broken(kind, tmp_path / "model.pt", ran)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{path} {CURES[kind]}") as caught:
        checkpoints.read(path)
    assert not ran.exists(), "the code ran"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 200


# ---------------------------------------------------------------- another architecture


def test_another_architecture_is_told_by_its_first_tensors(model, tmp_path):
    other = copy.deepcopy(small_clip.CONFIG)
    other["vision_cfg"] |= {"layers": 5, "patch_size": 8}
    other["text_cfg"]["layers"] = 3
    net = open_clip.CLIP(**other)
    path = tmp_path / "other.pt"
    torch.save(net.state_dict(), path)
    before = small_clip.logits(model.net)
    with pytest.raises(ValueError) as caught:
        clip.load(model.name, checkpoint=path)
    said = str(caught.value)
    assert said.startswith(
        f"{path} does not fit rs5m-small-quickgelu: another shape has visual.positional_embedding "
        "(17x64, not 5x64), visual.conv1.weight (64x3x8x8, not 64x3x16x16); it lacks "
        "transformer.resblocks.3.ln_1.weight, "
    )
    assert (
        "and 9 more; it has no place for visual.transformer.resblocks.4." in said
        and "\n" not in said
    )
    assert said.endswith("Load the architecture that it was made for") and len(said) < 800 + len(
        str(path)
    )
    with pytest.raises(ValueError):
        checkpoints.put(model.net, path)
    assert torch.equal(small_clip.logits(model.net), before), "the network was changed"


def test_half_a_checkpoint_is_called_so(model, tmp_path):
    tensors = model.net.state_dict()
    torch.save(dict(list(tensors.items())[::2]), tmp_path / "half.pt")
    count = len(tensors)
    says = f"It has {(count + 1) // 2} of the {count} tensors: fetch the whole file"
    with pytest.raises(ValueError, match=says):
        clip.load(model.name, checkpoint=tmp_path / "half.pt")


def test_an_exported_file_names_its_architecture(model, tmp_path):
    path = checkpoints.export(model, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError,
        match="does not fit ViT-B-32-quickgelu.* It was exported from rs5m-small-quickgelu: ",
    ):
        clip.load("ViT-B-32-quickgelu", checkpoint=path)


def test_the_differences_are_those_of_sets_and_shapes():
    """The brute-force twin: names and shapes compared one by one."""
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    tensors = {
        "0.weight": torch.ones(3, 2),
        "0.bias": torch.ones(7),
        "1.weight": torch.ones(4, 3),
        "x": torch.ones(()),
    }
    assert checkpoints.difference(net, tensors) == (
        "another shape has 0.bias (7, not 3); it lacks 1.bias; it has no place for x"
    )
    assert checkpoints.difference(net, net.state_dict()) == ""
    many = {f"y{i}": torch.ones(1) for i in range(9)} | net.state_dict()
    assert checkpoints.difference(net, many) == "it has no place for y0, y1, y2 and 6 more"


@pytest.mark.parametrize("prefix", ["model.", "net.", "clip_model.", "model.net.", "student.0."])
def test_a_prefix_that_all_names_share_is_left_out_and_stated(model, tmp_path, capsys, prefix):
    path = tmp_path / "last.ckpt"
    inner = {f"{prefix}{name}": tensor for name, tensor in model.net.state_dict().items()}
    torch.save({"state_dict": inner, "pytorch-lightning_version": "2.1.0"}, path)
    loaded = clip.load(model.name, checkpoint=path)
    assert torch.equal(small_clip.logits(loaded.net), small_clip.logits(model.net))
    said = f"{path}: all names begin with {prefix!r}, which is left out\n"
    assert capsys.readouterr().out == said
    torch.save(inner | {"loss.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=f"it has no place for {prefix}") as caught:
        clip.load(model.name, checkpoint=path)
    assert "even without" not in str(caught.value), "not all names share it"
    torch.save({name: t for name, t in inner.items() if "ln_final" not in name}, path)
    with pytest.raises(
        ValueError, match=f", even without the prefix '{prefix}' of its names: it l"
    ):
        clip.load(model.name, checkpoint=path)
    assert not capsys.readouterr().out


def test_a_network_whose_own_names_share_a_beginning_keeps_them(tmp_path, capsys):
    net = nn.Sequential(nn.Linear(2, 3))
    for prefix in ("", "model."):
        torch.save({prefix + name: t for name, t in net.state_dict().items()}, tmp_path / "m.pt")
        other = nn.Sequential(nn.Linear(2, 3))
        checkpoints.put(other, tmp_path / "m.pt")
        assert torch.equal(other[0].weight, net[0].weight)
        assert bool(capsys.readouterr().out) is bool(prefix)


FOREIGN = {
    "exp_avg|visual.proj": "the state of a tuning run: name the open_clip_model.safetensors beside",
    "visual.proj.lora_A.default.weight": "It holds adapters: load the general model, then rs5m.ada",
    "vision_model.encoder.layers.0.mlp.fc1.weight": "It has the names of transformers' CLIPModel: ",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_misfit_is_tells_the_cure(model, tmp_path, name):
    save_file({name: torch.ones(2), "x": torch.ones(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=re.escape(FOREIGN[name])):
        checkpoints.put(model.net, tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        (("ln_final.weight",), "nearest to those of OpenAI's CLIP with a transformer, of which it "
         "lacks ln_final.weight. It has "),
        (("",), "Its names, such as backbone.x, are those of no known format. Load the arch"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_no_known_format_tells_the_nearest(model, tmp_path, drop, says):
    tensors = {n: t for n, t in model.net.state_dict().items() if not n.startswith(drop)}
    save_file(tensors or {"backbone.x": torch.ones(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=re.escape(says)):
        checkpoints.put(model.net, tmp_path / "m.safetensors")


def test_whole_numbers_are_not_taken_for_weights(model, tmp_path):
    tensors = model.net.state_dict()
    tensors["visual.proj"] = tensors["visual.proj"].to(torch.int8)
    torch.save(tensors, tmp_path / "m.pt")
    says = r"another kind of number has visual.proj \(torch.int8, not torch.float32\)"
    with pytest.raises(ValueError, match=says):
        checkpoints.put(model.net, tmp_path / "m.pt")


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_temperature_may_be_a_number_or_a_list_of_one(model, tmp_path, shape):
    tensors = model.net.state_dict() | {"logit_scale": torch.full(shape, 3.0)}
    torch.save(tensors, tmp_path / "model.pt")
    assert clip.load(model.name, checkpoint=tmp_path / "model.pt").net.logit_scale.item() == 3


# ---------------------------------------------------------------- export


def test_the_exported_file_has_the_same_logits_everywhere(model, tmp_path):
    path = checkpoints.export(model, tmp_path / "deep" / "model.safetensors", base="x", recipe="y")
    expected = small_clip.logits(model.net)
    plain = open_clip.create_model(model.name, pretrained=str(path)).eval()
    forced = open_clip.create_model(
        small_clip.NAME, pretrained=str(path), force_quick_gelu=True
    ).eval()
    ours = clip.load(model.name, checkpoint=path)
    for net in (plain, forced, ours.net):
        assert torch.equal(small_clip.logits(net), expected)
    without = open_clip.create_model(small_clip.NAME, pretrained=str(path)).eval()
    assert not torch.allclose(small_clip.logits(without), expected, atol=1e-4), (
        "QuickGELU makes no difference here"
    )
    assert list(tmp_path.joinpath("deep").iterdir()) == [path]


def test_open_clip_loads_it_in_half_precision(model, tmp_path):
    path = str(checkpoints.export(model, tmp_path / "model.safetensors"))
    half = open_clip.create_model(model.name, pretrained=path, precision="bf16").eval()
    assert half.visual.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.bfloat16
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(
            half.state_dict()[name].float(), tensor.to(half.state_dict()[name].dtype).float()
        ), name


def test_the_header_tells_what_the_file_is(model, tmp_path):
    odd = replace(model, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    path = checkpoints.export(odd, tmp_path / "model.safetensors", base="ViT", run="abc")
    assert checkpoints.facts(path) == {
        "architecture": "rs5m-small-quickgelu",
        "quick_gelu": True,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "image_size": 32,
        "base": "ViT",
        "run": "abc",
    }
    back = clip.load(model.name, checkpoint=path)
    assert back.mean == odd.mean and back.std == odd.std
    assert (
        path.read_bytes()
        == checkpoints.export(
            odd, tmp_path / "again.safetensors", run="abc", base="ViT"
        ).read_bytes()
    )


@pytest.mark.parametrize(
    "header", ["[1]", "{", '{"mean": "x", "std": [0, 1, 1], "quick_gelu": "no", "image_size": [9]}']
)
def test_a_strange_header_is_no_fact(model, tmp_path, header):
    save_file(checkpoints._plain(model.net), tmp_path / "odd.safetensors", {"rs5m": header})
    assert checkpoints.facts(tmp_path / "odd.safetensors") == {}
    assert clip.load(model.name, checkpoint=tmp_path / "odd.safetensors").mean == model.mean


def test_shared_and_strided_tensors_are_written_whole(model, tmp_path):
    """As two names for one tensor, a view of it, and a transposed one: safetensors refuses all
    three.
    """
    net = copy.deepcopy(model.net)
    blocks = net.transformer.resblocks
    blocks[1].mlp.c_fc.weight = blocks[0].mlp.c_fc.weight
    blocks[1].ln_1.weight = nn.Parameter(blocks[0].mlp.c_fc.weight.data[0])
    net.text_projection = nn.Parameter(net.text_projection.data.T.contiguous().T)
    path = checkpoints.export(replace(model, net=net), tmp_path / "model.safetensors")
    back = open_clip.create_model(model.name, pretrained=str(path)).eval()
    assert torch.equal(small_clip.logits(back), small_clip.logits(net))


def test_adapters_must_be_merged_before(model, tmp_path):
    from peft import LoraConfig, get_peft_model

    net = copy.deepcopy(model.net)
    wrapped = get_peft_model(net, LoraConfig(r=2, target_modules=["c_fc"]))
    for inner in (net, wrapped):
        with pytest.raises(ValueError, match="holds an adapter .*: merge it first"):
            checkpoints.export(replace(model, net=inner), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = checkpoints.export(model, tmp_path / "model.safetensors")
    before = path.read_bytes()

    def full(tensors, name, header):
        Path(name).write_bytes(b"half")
        raise checkpoints.SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(
        OSError, match=r"model.safetensors could not be written \(No space left .*: free some space"
    ):
        checkpoints.export(small_clip.random(True, 1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {root!r}]
import small_clip
from pathlib import Path
from rs5m.clip import checkpoints
folder = Path(sys.argv[1])
small_clip.register(folder)
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)  # the bytes are there, the name is not
checkpoints.export(small_clip.random(True, 1), folder / "model.safetensors")
"""


@pytest.mark.slow
def test_a_killed_export_leaves_the_old_file(model, tmp_path):
    path = checkpoints.export(model, tmp_path / "model.safetensors")
    before = path.read_bytes()
    script = KILLED.format(tests=str(ROOT / "tests/helpers"), root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL and path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*.tmp")], "it was killed too early to tell"


def test_the_header_is_json_of_one_entry(model, tmp_path):
    """Several entries would be written in another order each time."""
    path = checkpoints.export(model, tmp_path / "model.safetensors")
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert list(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]) == ["rs5m"]
