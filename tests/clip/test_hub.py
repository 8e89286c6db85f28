"""The hub: released files by name without a network; what is uploaded, loaded by open_clip and read
word by word.
"""

import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import small_clip
import torch

from rs5m import clip
from rs5m.clip import activation, checkpoints, hub, open_clip, released

RUN = {
    "recipe": "georsclip-ft-ret2",
    "base": "GeoRSCLIP-ViT-B-32",
    "commit": "abc123",
    "seconds": 12.5,
    "settings": {
        "learning_rate": {"value": 5e-06, "known": "published", "source": "author | tracker"},
        "chunk": {"value": 150, "known": "ours", "source": "fits a <b>GPU</b>\n# of 16 GB"},
    },
    "data": {"pairs": 4711, "damaged": 0, "unreadable": ["[x](http://evil)"]},
    "losses": {"steps": 7, "first": 5.25, "last": 1.125},
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    small_clip.register(tmp_path_factory.mktemp("architectures"))
    return small_clip.random(True)


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(RUN))
    return tmp_path / "run"


# ---------------------------------------------------------------- names


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
    monkeypatch.setattr(activation, "probe", lambda model: pytest.fail("the name is known"))
    return "GeoRSCLIP-small"


@pytest.mark.parametrize("inside", ["ckpt", "GeoRSCLIP/ckpt"])
def test_a_release_is_taken_from_the_data_folder_first(
    model, small_release, tmp_path, monkeypatch, inside
):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("it asked the hub")
    )
    (tmp_path / inside).mkdir(parents=True)
    torch.save(model.net.state_dict(), tmp_path / inside / "RS5M_small.pt")
    loaded = clip.load(small_release)
    assert loaded.name == model.name and torch.equal(
        small_clip.logits(loaded.net), small_clip.logits(model.net)
    )
    with pytest.raises(
        ValueError, match="GeoRSCLIP-small is one set of weights: leave pretrained='openai' away"
    ):
        clip.load(small_release, "openai")


def test_a_release_is_taken_from_the_hub(model, small_release, tmp_path, monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "empty"))
    torch.save(model.net.state_dict(), tmp_path / "RS5M_small.pt")
    asked = []

    def download(*arguments):
        asked.append(arguments)
        return str(tmp_path / "RS5M_small.pt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert torch.equal(
        small_clip.logits(clip.load(small_release).net), small_clip.logits(model.net)
    )
    assert asked == [("Zilun/GeoRSCLIP", "ckpt/RS5M_small.pt")]


def test_without_a_network_it_says_what_to_put_where(tmp_path, monkeypatch):
    """For real, by the library's own error; without its switch it would try for half a minute."""
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cure = f"download ckpt/RS5M_ViT-H-14.pt of its model Zilun/GeoRSCLIP and put it into {tmp_path}/mine/ckpt"
    with pytest.raises(
        OSError, match=f"GeoRSCLIP-ViT-H-14 could not be fetched from the hub .*: {cure}"
    ):
        clip.load("GeoRSCLIP-ViT-H-14")


# ---------------------------------------------------------------- the folder


def test_open_clip_loads_the_folder(model, run, tmp_path):
    odd = replace(model, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    folder = hub.push_to_hub(odd, run, "me/model", dry_run=tmp_path / "out")
    assert sorted(p.name for p in Path(folder).iterdir()) == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "run.json",
    ]
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    assert torch.equal(small_clip.logits(net.eval()), small_clip.logits(model.net))
    assert transform.transforms[-1].mean == list(odd.mean) and transform.transforms[-1].std == list(
        odd.std
    )
    assert open_clip.get_tokenizer(f"local-dir:{folder}").context_length == 16
    ours = clip.load(f"local-dir:{folder}")
    assert (
        torch.equal(small_clip.logits(ours.net), small_clip.logits(model.net))
        and ours.mean == odd.mean
    )
    assert (
        checkpoints.facts(Path(folder) / "open_clip_model.safetensors")["recipe"]
        == "georsclip-ft-ret2"
    )
    assert json.loads((Path(folder) / "run.json").read_text()) == RUN


def test_the_configuration_follows_the_network(model, run, tmp_path):
    """A network built with force_quick_gelu has a name that promises GELU."""
    forced = replace(model, name=small_clip.NAME)
    folder = hub.push_to_hub(forced, run, "me/model", dry_run=tmp_path / "out")
    net = open_clip.create_model(f"local-dir:{folder}").eval()
    assert torch.equal(small_clip.logits(net), small_clip.logits(model.net))


def test_the_card_tells_the_run_and_nothing_else(run):
    text = hub.card(RUN, "me/model", "rs5m-small-quickgelu")
    for words in (
        "# georsclip-ft-ret2",
        "| Base | GeoRSCLIP-ViT-B-32 |",
        "| Commit | abc123 |",
        "| Seconds | 12.5 |",
        "| learning\\_rate | 5e-06 | published | author \\| tracker |",
        "| pairs | 4711 |",
        "| last | 1.125 |",
        "| chunk | 150 | ours | fits a &lt;b&gt;GPU&lt;/b&gt; # of 16 GB |",
        "| torch | 2.13.0 |",
        '| unreadable | \\["\\[x\\](http://evil)"\\] |',
        '"hf-hub:me/model"',
    ):
        assert words in text, words
    header = [line for line in text.splitlines() if line.startswith("## ")]
    assert header == ["## Settings", "## Data", "## Losses", "## Versions", "## Use"]
    numbers = [
        set(re.findall(r"\d[\d.e-]*", some))
        for some in (text, json.dumps(RUN), hub.card({}, "x", "rs5m"))
    ]
    assert numbers[1] <= numbers[0] <= numbers[1] | numbers[2]
    assert "## Settings" not in hub.card({"recipe": "r", "settings": {}}, "me/model", "a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "run.json is not there: give the folder that `rs5m tune` wrote"),
        ("{", "run.json is no whole JSON"),
        ("[1]", "run.json holds a list"),
    ],
)
def test_a_run_without_its_json_is_refused(model, tmp_path, content, says):
    if content:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises((ValueError, OSError), match=says):
        hub.push_to_hub(model, tmp_path, "me/model", dry_run=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_open_clip_could_not_load_is_refused(model, run, tmp_path):
    with pytest.raises(
        ValueError, match="pocket is no architecture of open_clip, .*: export it as a file instead"
    ):
        hub.push_to_hub(replace(model, name="pocket"), run, "me/model", dry_run=tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="out is not empty: name a new folder"):
        hub.push_to_hub(model, run, "me/model", dry_run=tmp_path / "out")


# ---------------------------------------------------------------- the upload, to a server on
# loopback


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as an upload of small files takes; what came is kept in
    `server.seen`.
    """

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, self.headers.get("Authorization"), body))
        self.answer(body)

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization"), b""))
        self.send(404, {})

    def answer(self, body: bytes):
        root = f"http://127.0.0.1:{self.server.server_port}"
        if self.server.status != 200:
            return self.send(self.server.status, {"error": "no"})
        if self.path == "/api/repos/create":
            return self.send(200, {"url": f"{root}/me/model", "id": "me/model"})
        if self.path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.send(
                200,
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                },
            )
        if "/commit/" in self.path:
            return self.send(
                200,
                {"commitUrl": f"{root}/me/model/commit/1", "commitOid": "1" * 40, "success": True},
            )
        return self.send(404, {})

    def send(self, status: int, body: dict):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    served = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    served.seen, served.status = [], 200
    threading.Thread(target=served.serve_forever, daemon=True).start()
    api = huggingface_hub.HfApi
    monkeypatch.setattr(
        huggingface_hub,
        "HfApi",
        lambda token: api(endpoint=f"http://127.0.0.1:{served.server_port}", token=token),
    )
    yield served
    served.shutdown()
    served.server_close()


def test_the_upload_holds_the_four_files_and_the_token_only_as_a_header(model, run, server):
    address = hub.push_to_hub(model, run, "me/model", token="hf_secret")
    assert address.endswith("/me/model/commit/1")
    paths = [path for path, _, _ in server.seen]
    assert paths[0] == "/api/repos/create" and paths[-1].startswith(
        "/api/models/me/model/commit/main"
    )
    made = json.loads(server.seen[0][2])
    assert (
        made["name"] == "model"
        and made["organization"] == "me"
        and made.get("private", made.get("visibility"))
    )
    lines = [json.loads(line) for line in server.seen[-1][2].splitlines()]
    assert sorted(line["value"]["path"] for line in lines if line["key"] == "file") == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "run.json",
    ]
    assert all("hf_secret" not in body.decode("latin-1") for _, _, body in server.seen)
    assert {token for _, token, _ in server.seen} == {"Bearer hf_secret"}


def test_a_refused_upload_is_one_sentence(model, run, server):
    server.status = 403
    with pytest.raises(
        OSError, match=r"me/model could not be uploaded \(.+\): check the name, the token's right"
    ) as said:
        hub.push_to_hub(model, run, "me/model", token="hf_secret")
    assert "\n" not in str(said.value) and "hf_secret" not in str(said.value)
