"""`rs5m tune`: a recipe on small shards with a small model, from the command line to files that
open_clip loads.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small_clip
import torch
from small import encoded
from tqdm.auto import tqdm

from rs5m import __version__, cli, clip
from rs5m.clip import checkpoints, open_clip
from rs5m.commands import evaluate, reference
from rs5m.data import records
from rs5m.evaluate import prompts
from rs5m.tune import recipes

pytestmark = pytest.mark.usefixtures("one_thread", "architectures")
ROOT = Path(__file__).parents[1]
SMALL = (
    "batch_size=8 chunk=0 epochs=2 warm_up=2 learning_rate=1e-3 compiled=false precision=float32"
).split()


def pairs(count: int) -> list[records.Record]:
    """Pictures of one colour each, whose captions name it."""
    found = []
    for i in range(count):
        colour = np.array([i % 8 & 4, i % 8 & 2, i % 8 & 1], bool) * 200
        content = encoded(np.full((40, 40, 3), colour, np.uint8), "JPEG")
        found.append(records.Record(content, f"{i}.jpg", f"colour number {i % 8}"))
    return found


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "rs5m"
    folder.mkdir()
    for part, count in (("train", 20), ("val", 4)):
        records.write(folder / f"pub11-{part}-0000.tar", pairs(count))
    return folder


@pytest.fixture
def small_recipes(monkeypatch):
    """Every recipe with the small model, random, in place of its own."""
    real = recipes.get
    name = small_clip.NAMES[True]
    monkeypatch.setattr(
        recipes, "get", lambda recipe: replace(real(recipe), model=name, pretrained=None)
    )


def usual(data: Path, out: Path, *more, recipe: str = "georsclip-b32") -> list[str]:
    """The command's arguments; what comes in `more` counts more than the small settings."""
    words = ("tune", "--recipe", recipe, "--data", data, "--out", out, "--set", *SMALL, *more)
    return list(map(str, words))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_tune_writes_a_model_that_open_clip_loads_and_its_run(
    small_recipes, data, tmp_path, capsys, method
):
    out = tmp_path / "out"
    assert cli.main(usual(data, out, f"method={method}", "size=2")) == 0
    said = capsys.readouterr().out
    about = json.loads((out / "run.json").read_text())
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 4 == about["losses"]["steps"], (
        "two epochs of two whole batches of eight from twenty"
    )
    assert about["losses"]["first"] == pytest.approx(losses[0])
    assert about["losses"]["last"] == pytest.approx(losses[-1])
    course = f"loss {losses[0]:.3f} at the first of 4 steps, {losses[-1]:.3f} at the last"
    assert f"{out}/open_clip_model.safetensors: {course}" in said
    assert about["data"]["pairs"] == 20 and about["recipe"] == "georsclip-b32"
    named = json.loads((out / "left_out.json").read_text())
    assert named == {"beside the shards that are read": ["pub11-val-0000.tar"]}
    assert (
        about["data"]["beside"] == 1
        and "other files beside the shards that are read: 1, named" in said
    )
    assert about["versions"]["torch"] and about["precision"] in ("float32", "bf16", "fp16")
    assert about["settings"]["batch_size"] == {
        "value": 8,
        "known": "ours",
        "source": "changed on the command line",
    }
    assert about["settings"]["crop"]["known"] == "published"
    plain = open_clip.create_model(
        small_clip.NAMES[True], pretrained=str(out / "open_clip_model.safetensors")
    ).eval()
    ours = clip.load(small_clip.NAMES[True], checkpoint=out / "open_clip_model.safetensors")
    assert torch.equal(small_clip.logits(plain), small_clip.logits(ours.net))
    told = checkpoints.facts(out / "open_clip_model.safetensors")
    plain = open_clip.create_model(f"local-dir:{out}").eval()
    assert torch.equal(small_clip.logits(plain), small_clip.logits(ours.net))
    assert (out / "adapter" / "adapter_config.json").is_file() == (method == "lora")
    assert (
        told["recipe"] == "georsclip-b32"
        and told["run"] == about["run"]
        and told["architecture"] == ours.name
    )


def test_tune_begins_from_a_checkpoint_and_goes_on_where_it_stopped(
    small_recipes, data, tmp_path, capsys
):
    """Begun from two files, the first losses differ; a finished run, called again, takes no step
    and says the same.
    """
    first = []
    for seed in (1, 2):
        begin = checkpoints.export(
            small_clip.random(True, seed), tmp_path / f"begin{seed}.safetensors"
        )
        out = tmp_path / f"out{seed}"
        arguments = usual(data / "pub11-train-0000.tar", out, "--checkpoint", begin)
        assert cli.main(arguments) == 0
        first.append(json.loads((out / "run.json").read_text()))
        assert first[-1]["base"] == begin.name
    assert first[0]["losses"]["first"] != first[1]["losses"]["first"]
    assert first[0]["run"] != first[1]["run"]
    before = (out / "open_clip_model.safetensors").read_bytes()
    *lines, last = (out / "log.jsonl").read_text().splitlines()
    last = json.dumps(json.loads(last) | {"seconds": 1000.0})
    (out / "log.jsonl").write_text("\n".join([*lines, last, ""]))
    assert cli.main(arguments) == 0
    assert json.loads((out / "run.json").read_text())["seconds"] > 1000, "all processes count"
    assert (out / "open_clip_model.safetensors").read_bytes() == before
    assert len((out / "log.jsonl").read_text().splitlines()) == 4


def test_an_adapter_that_cannot_be_merged_is_kept_beside_the_model(small_recipes, data, tmp_path):
    from rs5m import adapters

    out = tmp_path / "out"
    begin = checkpoints.export(small_clip.random(True), tmp_path / "begin.safetensors")
    assert cli.main(usual(data, out, "method=adapter", "size=2", "--checkpoint", begin)) == 0
    assert not (out / "open_clip_model.safetensors").exists() and (out / "run.json").is_file()
    base = clip.load(small_clip.NAMES[True], checkpoint=begin)
    before = small_clip.logits(base.net)
    adapters.load(base.net, out / "adapter")
    assert not torch.equal(small_clip.logits(base.net), before)


@pytest.mark.parametrize("to", ["transformers", "open_clip"])
def test_export_writes_a_folder_that_is_loaded(tmp_path, capsys, to):
    from transformers import CLIPModel

    model = small_clip.random(True)
    begin, out = checkpoints.export(model, tmp_path / "begin.safetensors"), tmp_path / "out"
    words = ["export", "--model", model.name, "--checkpoint", begin, "--to", to, "--out", out]
    assert cli.main(list(map(str, words))) == 0
    assert str(out) in capsys.readouterr().out
    if to == "transformers":
        assert CLIPModel.from_pretrained(out).config.projection_dim == 32
        assert cli.main(list(map(str, words))) == 2
        assert "is not empty: name a new folder" in capsys.readouterr().err
    else:
        loaded = clip.load(f"local-dir:{out}")
        assert torch.equal(small_clip.logits(loaded.net), small_clip.logits(model.net))


def rsicd(folder: Path) -> Path:
    """Ten pictures with two captions each, as RSICD is laid out."""
    (folder / "rsicd" / "RSICD_images").mkdir(parents=True)
    rows = ["filename,title"]
    for record in pairs(10):
        (folder / "rsicd" / "RSICD_images" / record.name).write_bytes(record.image)
        rows += [
            f"{record.name},{record.caption}",
            f"{record.name},the other caption of {record.name}",
        ]
    (folder / "rsicd" / "rsicd_train.csv").write_text("\n".join(rows), encoding="gb18030")
    return folder


def test_a_set_in_the_official_layout_becomes_shards_first(small_recipes, tmp_path):
    folder, out = rsicd(tmp_path / "data"), tmp_path / "out"
    assert cli.main(usual(folder, out, recipe="georsclip-ft-rsicd")) == 0
    about = json.loads((out / "run.json").read_text())
    assert about["data"]["pairs"] == 20 and about["data"]["data"] == "rsicd"
    assert about["losses"]["steps"] == 4
    assert [p.name for p in (out / "shards").glob("*.tar")] == ["rsicd-train-0000.tar"]
    assert str(tmp_path) not in json.dumps(about), "a path of this machine would go to the hub"


def test_evaluate_hands_its_arguments_on(monkeypatch):
    asked = []
    monkeypatch.setitem(
        sys.modules,
        "rs5m.evaluate.official",
        SimpleNamespace(run=lambda *given: asked.append(given)),
    )
    monkeypatch.setattr(
        "rs5m.evaluate.official", sys.modules["rs5m.evaluate.official"], raising=False
    )
    assert cli.main(["evaluate", "--model", "pocket", "--data", "pocket", "--out", "a.json"]) == 0
    given = "--model ViT-H-14 --checkpoint h.pt --data d --tasks selo --out b.json --device cpu"
    given += " --batch-size 4 --workers 2 --precision bfloat16 --predictions p"
    assert cli.main(["evaluate", *given.split()]) == 0
    assert cli.main("evaluate --model RN50 --pretrained cc12m --data d --out c".split()) == 0
    tasks, how = "zeroshot,retrieval,selo", {"batch": 0, "workers": 0, "precision": "float32"}
    other = {"batch": 4, "workers": 2, "precision": "bfloat16"}
    assert asked == [
        ("pocket", "", ["pocket"], tasks, "a.json", "", prompts.NONE, how, ((), "", "")),
        ("ViT-H-14", "h.pt", ["d"], "selo", "b.json", "p", prompts.NONE, other, ((), "", "")),
        ("RN50", "cc12m", ["d"], tasks, "c", "", prompts.NONE, how, ((), "", "")),
    ]


EVALUATE = "evaluate --model pocket --data pocket --out a.json"
REFUSED = {
    f"{EVALUATE} --batch-size -1": "--batch-size -1: give a number from 1",
    f"{EVALUATE} --workers -2": "--workers -2: give a number from 1",
    f"{EVALUATE} --device tpu9": "--device tpu9 is not available here (",
    f"{EVALUATE} --pretrained openai --checkpoint a.pt": "both name weights: leave one out",
    f"{EVALUATE} --classnames absent.csv": "absent.csv",
    f"{EVALUATE} --model a@b --pretrained openai": "are for one model without a tag: name tags as",
    f"{EVALUATE} --model a b --checkpoint c.pt": "are for one model without a tag: name tags as",
    f"{EVALUATE} --model a:/b a@b": "two models would write a_b.json: give each once",
    f"{EVALUATE} --features a.npz --device cpu": "needs no --model or --data or --device: leave",
    "evaluate --out a.json": "give --model and --data, or --features with stored vectors",
}


@pytest.mark.parametrize("line", REFUSED)
def test_options_that_make_no_sense_are_one_sentence(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("rs5m: ") and REFUSED[line] in said and not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what the command says of itself


def every_parser() -> dict:
    return dict(reference.parsers(cli.parser()))


def test_the_version_has_the_commit_where_there_is_one(monkeypatch, capsys):
    for commit, said in (("ab12", ", commit ab12"), (None, "")):
        monkeypatch.setattr("rs5m.results.commit", lambda commit=commit: commit)
        with pytest.raises(SystemExit, match="0"):
            cli.main(["--version"])
        assert capsys.readouterr().out == f"rs5m {__version__}{said}\n"


def test_the_help_has_the_exit_codes_and_every_command_an_example():
    parsers = every_parser()
    codes = re.findall(r"^  (\d+) ", parsers["rs5m"].format_help(), re.M)
    assert codes == ["0", "1", "2", "130", "141"]
    for name in (name for name in parsers if name.count(" ") == 1):
        lines = parsers[name].format_help().partition("\nexample:\n")[2].replace("\\\n", "")
        words = [shlex.split(line) for line in lines.splitlines()]
        typed = [line[line.index(name.split()[1]) :] for line in words]
        assert typed and all(line[0] == name.split()[1] for line in typed)
        for line in typed:
            if line[-1] != "list":  # of recipes, printed at once
                assert cli.parser().parse_args(line).run


def test_every_option_is_a_sentence_with_its_default():
    metavars = {}
    for name, parser in every_parser().items():
        for action in parser._actions:
            if action.option_strings in (["-h", "--help"], ["--version"]) or not action.help:
                assert action.help or not action.option_strings, f"{name} {action.option_strings}"
                continue
            said = action.help % (vars(action) | {"prog": ""})
            assert re.fullmatch(r"[A-Z].*\.", said, re.S), f"{name}: {said}"
            if action.option_strings and not action.required and action.nargs != 0:
                assert "(default: " in said, f"{name}: {said}"
            if action.option_strings and action.nargs != 0:
                metavars.setdefault(action.option_strings[-1], set()).add(action.metavar)
    assert {"--model", "--checkpoint", "--data", "--out", "--workers"} <= set(metavars)
    assert not {name: found for name, found in metavars.items() if len(found) > 1}


BAD = {
    "recipe": (
        ["--recipe", "georsclip-b33"],
        "unknown recipe 'georsclip-b33': choose one of georsclip-b32, ",
    ),
    "setting": (["--set", "rank=3"], "--set rank=3: give field=value, the field one of method, "),
    "method": (["--set", "method=loro"], "unknown method 'loro': choose one of full, "),
    "data": (["--data", "absent.tar"], "absent.tar"),
    "batch": (["--set", "batch_size=21"], "a batch of 21 is larger than the data, 20 pairs"),
    "checkpoint": (["--checkpoint", "absent.pt"], "absent.pt is not there: give a checkpoint"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence(small_recipes, data, tmp_path, capsys, what):
    arguments, says = BAD[what]
    assert cli.main(usual(data, tmp_path / "out", *arguments)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rs5m: ") and says in error
    assert not (tmp_path / "out" / "open_clip_model.safetensors").exists()


def test_a_loss_that_is_not_finite_is_one_sentence_too(small_recipes, data, tmp_path, capsys):
    spoiled = small_clip.random(True)
    with torch.no_grad():
        spoiled.net.visual.proj.fill_(3e38)  # finite, its products are not
    begin = checkpoints.export(spoiled, tmp_path / "begin.safetensors")
    assert cli.main(usual(data, tmp_path / "out", "--checkpoint", begin)) == 2
    assert "rs5m: step 0: loss nan" in capsys.readouterr().err
    assert not (tmp_path / "out" / "open_clip_model.safetensors").exists()


def test_a_package_to_install_is_one_sentence_too(
    small_recipes, data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert cli.main(usual(data, tmp_path / "out", "--board")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rs5m: TensorBoard is not installed: pip install")


WORKER = """
import sys
sys.path[:0] = [{helpers!r}, {root!r}]
import small_clip
from dataclasses import replace
from pathlib import Path
from rs5m import cli
from rs5m.tune import recipes
small_clip.register(Path(sys.argv[1]))
real = recipes.get
recipes.get = lambda name: replace(real(name), model=small_clip.NAMES[True], pretrained=None)
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_two_processes_write_one_model(small_recipes, tmp_path):
    """By torchrun, the second waiting for the first one's shards; the model is the single
    process's, to rounding.
    """
    script, folder = tmp_path / "worker.py", rsicd(tmp_path / "data")
    (tmp_path / "names").mkdir()
    script.write_text(WORKER.format(helpers=str(ROOT / "tests/helpers"), root=str(ROOT)))
    begin = checkpoints.export(small_clip.random(True), tmp_path / "begin.safetensors")
    two, one = (
        usual(folder, tmp_path / name, "--checkpoint", begin, recipe="georsclip-ft-rsicd")
        for name in ("two", "one")
    )
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2".split()
    done = subprocess.run(
        [sys.executable, *torchrun, script, tmp_path / "names", *two],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("open_clip_model.safetensors: loss ") == 1
    assert cli.main(one) == 0
    two, one = (
        checkpoints.read(tmp_path / name / "open_clip_model.safetensors") for name in ("two", "one")
    )
    assert max(float((two[name] - one[name]).abs().max()) for name in one) < 1e-4


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted: run the same command again"),
        (KeyError("x"), 1, "KeyError"),
        (FileExistsError(17, "File exists", "out"), 2, "out cannot be used (File exists): name"),
        (RuntimeError("deep\ninside"), 1, "RuntimeError: deep inside"),
    ],
)
def test_whatever_goes_wrong_is_one_line(monkeypatch, capsys, error, code, sentence):
    def broken(arguments):
        raise error

    monkeypatch.setattr(evaluate, "run", broken)
    assert cli.main(["evaluate", "--out", "x.json"]) == code
    message = capsys.readouterr().err
    assert message.startswith("rs5m: ") and message.count("\n") == 1 and sentence in message


def test_the_last_line_stands_below_a_bar(monkeypatch, capsys):
    def stopped(arguments):
        for _ in tqdm(range(3), desc="encode"):
            raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "run", stopped)
    assert cli.main(["evaluate", "--out", "x.json"]) == 130
    said = capsys.readouterr().err
    assert "encode" in said and said.splitlines()[-1].startswith("rs5m: interrupted: ")


# ---------------------------------------------------------------- odd data

NAMES = [f"{i}.jpg" for i in range(10)]
CAPTIONS = [f"caption {i}" for i in range(10)]
ODD = {  # a table's columns, more arguments, what is said
    "columns.csv": (
        {"foo": NAMES, "bar": CAPTIONS},
        "",
        "columns.csv has no column 'image' or of a like name (it has foo, bar): name one with "
        "--image-column",
    ),
    "named.csv": (
        {"path": NAMES, "caption": CAPTIONS},
        "--caption-column nope",
        "named.csv has no column 'nope': --caption-column is one of path, caption",
    ),
    "two.csv": (
        {"path": NAMES, "caption": CAPTIONS, "text": CAPTIONS},
        "",
        "two.csv has 2 columns called 'text' (caption, text): choose one with --caption-column",
    ),
    "numbers.parquet": (
        {"path": NAMES, "caption": range(10)},
        "",
        "numbers.parquet has int64 in its column 'caption': give texts or lists of them there",
    ),
    "struct.parquet": (
        {"image": [{"width": 3}] * 10, "caption": CAPTIONS},
        "",
        "struct.parquet has struct<width: int64> in its column 'image': give paths, bytes",
    ),
}


def odd(folder: Path, name: str, columns: dict) -> Path:
    """Ten pictures and a table beside them."""
    for record, file in zip(pairs(10), NAMES, strict=True):
        (folder / file).write_bytes(record.image)
    frame = pd.DataFrame(columns)
    (frame.to_csv if name.endswith("csv") else frame.to_parquet)(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("name", ODD)
def test_a_table_that_cannot_be_read_is_one_sentence(small_recipes, tmp_path, capsys, name):
    columns, more, says = ODD[name]
    assert cli.main(usual(odd(tmp_path, name, columns), tmp_path / "out", *more.split())) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rs5m: ") and says in error
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("kind", ["parquet", "json", "toml", "folder"])
def test_half_of_what_is_needed_is_one_sentence(small_recipes, tmp_path, capsys, kind):
    data, more = odd(tmp_path, "a.parquet", {"path": NAMES, "caption": CAPTIONS}), ()
    says = "a.parquet is not a whole parquet file: fetch it again or leave it out"
    if kind == "parquet":
        data.write_bytes(data.read_bytes()[:-40])
    elif kind == "json":
        data, says = tmp_path / "coco.json", "coco.json is not COCO's captions"
        data.write_text(json.dumps({"annotations": [{"image_id": 1, "caption": "x"}]}))
    elif kind == "toml":
        (tmp_path / "own.toml").write_text('epochs = "many"\n')
        more, says = ("--recipe", tmp_path / "own.toml"), 'epochs = "many": give a whole number'
    else:
        (tmp_path / "empty").mkdir()
        more, says = ("--validate", tmp_path / "empty"), "empty has no class folders with images"
    assert cli.main(usual(data, tmp_path / "out", *more)) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_rows_without_a_caption_or_outside_the_folder_are_left_out_by_name(
    small_recipes, tmp_path, capsys
):
    captions = [["one", "two"]] * 6 + [None] * 2 + [["three"]] * 2
    data = odd(tmp_path, "a.parquet", {"path": [*NAMES[:9], "../../up.jpg"], "caption": captions})
    assert cli.main(usual(data, tmp_path / "out", "batch_size=4", "epochs=1")) == 0
    about = json.loads((tmp_path / "out" / "run.json").read_text())["data"]
    assert about["left_out"] == {"has no caption": 2, "is a path outside the folder": 1}
    left = json.loads((tmp_path / "out" / "left_out.json").read_text())
    assert sorted(map(len, left.values())) == [1, 2] and "7 of 10 pairs" in capsys.readouterr().out


def test_a_shell_that_asks_what_could_follow_gets_the_parser(monkeypatch):
    seen = []
    shell = SimpleNamespace(autocomplete=lambda root: seen.append(root.prog))
    monkeypatch.setitem(sys.modules, "argcomplete", shell)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert not seen
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert seen == ["rs5m"]


# ---------------------------------------------------------------- Ctrl-C at the start

START = """
import os, signal, sys

class Stop:
    def find_spec(name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stop)
from rs5m.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("command", ["models", "sets"])
def test_a_reader_that_has_had_enough_ends_a_command_without_a_word(command):
    line = f"{sys.executable} -m rs5m.cli {command} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


@pytest.mark.parametrize(
    "name",
    ["rs5m.commands", "rs5m.commands.detector", "rs5m.commands.tune", "rs5m.evaluate.validation"],
)
def test_an_interruption_is_heard_from_the_first_import_on(name):
    words = ["tune", "--data", "pairs.tar", "--out", "out"]
    command = [sys.executable, "-c", START.format(name=name), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "rs5m: interrupted: run the same command again to go on\n"
