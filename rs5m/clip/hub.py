"""The hub: GeoRSCLIP's released files by name, a tuned model with a card written from its own run.
Chapter: clip.
"""

from __future__ import annotations

import html
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rs5m.clip.checkpoints import export

# ---------------------------------------------------------------- out


def push_to_hub(
    model, run: str | Path, repo: str, token: str | None = None, dry_run: str | Path | None = None
) -> str:
    """Upload a model with its configuration, its run's JSON and a card; returns the address of the
    commit.

    model: a `rs5m.clip.Model` of an architecture that open_clip knows. run: the folder that `rs5m
    tune` wrote, with run.json. repo: OWNER/NAME, made private if it is new. token: of the hub, else
    the one its own login keeps; never written. dry_run: a new or empty folder to write what would
    be uploaded into, instead of uploading; open_clip loads it as "local-dir:FOLDER", and what was
    uploaded as "hf-hub:OWNER/NAME". Chapter: clip.
    """
    about = _run(Path(run))
    if dry_run is not None:
        if Path(dry_run).is_dir() and any(Path(dry_run).iterdir()):
            raise ValueError(
                f"{dry_run} is not empty: name a new folder for what would be uploaded"
            )
        return str(_folder(model, about, repo, Path(dry_run)))
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as temporary:
        folder = _folder(model, about, repo, Path(temporary) / "model")
        api = HfApi(token=token)
        try:
            api.create_repo(repo, private=True, exist_ok=True)
            return str(
                api.upload_folder(
                    repo_id=repo, folder_path=folder, commit_message=f"rs5m: {_title(about, repo)}"
                )
            )
        except Exception as error:
            raise OSError(
                f"{repo} could not be uploaded ({type(error).__name__}: {str(error).splitlines()[0][:200]}): "
                "check the name, the token's right to write and the network"
            ) from error


def _run(folder: Path) -> dict:
    path = folder / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the folder that `rs5m tune` wrote")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no whole JSON text ({error}): tune again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a run: tune again")
    return found


def _folder(model, about: dict, repo: str, folder: Path) -> Path:
    """Weights, configuration, run and card, by the names under which open_clip looks for them."""
    from rs5m.clip.activation import uses
    from rs5m.clip.openclip import open_clip

    config = open_clip.get_model_config(model.name) if model.name else None
    if config is None:
        raise ValueError(
            f"{model.name or 'a network without a name'} is no architecture of open_clip, which could not "
            "load it from the hub: export it as a file instead"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if uses(model.net) is not None:
        config["quick_gelu"] = uses(model.net)
    known = {key: about[key] for key in ("recipe", "base", "run") if key in about}
    export(model, folder / "open_clip_model.safetensors", **known)
    interpolation = {"interpolation": "bicubic", "resize_mode": "shortest"}
    config = {
        "model_cfg": config,
        "preprocess_cfg": {"mean": model.mean, "std": model.std} | interpolation,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    (folder / "run.json").write_text(json.dumps(about, indent=1))
    (folder / "README.md").write_text(card(about, repo, model.name), encoding="utf-8")
    if hasattr(
        model.tokenizer, "save_pretrained"
    ):  # a Hugging Face tokenizer; CLIP's own comes with open_clip
        model.tokenizer.save_pretrained(str(folder))
    return folder


# ---------------------------------------------------------------- the card


def _title(about: Mapping, repo: str) -> str:
    return str(about.get("recipe") or repo.split("/")[-1])


def card(about: Mapping, repo: str, architecture: str) -> str:
    """The model card of a run, in Markdown: what its JSON holds, table by table, and nothing else.
    Chapter: clip.
    """
    tables = {name: value for name, value in about.items() if isinstance(value, Mapping) and value}
    single = {
        name: value
        for name, value in about.items()
        if name not in tables and value not in (None, {}, [])
    }
    lines = [
        "---",
        "library_name: open_clip",
        "pipeline_tag: zero-shot-image-classification",
        "tags:",
        "- clip",
        "- remote-sensing",
        "---",
        f"# {_title(about, repo)}",
        "",
        f"An open_clip model ({architecture}), written by `rs5m tune`. What follows is its `run.json`.",
        "",
    ]
    lines += _table(single, ("", ""))
    for name, values in tables.items():
        lines += ["", f"## {_words(name)}", "", *_table(values, ("name", "value"))]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import open_clip",
        "",
        f'model, _, preprocess = open_clip.create_model_and_transforms("hf-hub:{repo}")',
        f'tokenizer = open_clip.get_tokenizer("hf-hub:{repo}")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _table(values: Mapping, head: tuple[str, str]) -> list[str]:
    """Rows of a mapping; where every value is a mapping itself, a column for each of their keys."""
    if values and all(isinstance(value, Mapping) for value in values.values()):
        columns = list(dict.fromkeys(key for value in values.values() for key in value))
        rows = [
            [name, *(value.get(column, "") for column in columns)] for name, value in values.items()
        ]
        return _rows(["name", *map(_words, columns)], rows)
    return _rows(
        list(head),
        [[_words(name) if not head[0] else name, value] for name, value in values.items()],
    )


def _rows(head: list[str], rows: list[list]) -> list[str]:
    return [
        " | ".join(["", *map(_cell, row), ""]).strip() for row in (head, ["---"] * len(head), *rows)
    ]


def _cell(value: object) -> str:
    """One cell: no line break, bar, tag or link of a value becomes Markdown's."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", html.escape(text, quote=False))
