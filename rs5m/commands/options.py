"""Words that several subcommands say."""

from pathlib import Path

NEW = "The folder to write, a new one or that of an interrupted run."
WORK = ("run.json", "log.txt", "answers.sqlite")  # sent first, and not at all
LAYOUTS = ("webdataset", "rs5m")  # records.LAYOUTS, which --help does not wait for
LAYOUT = (
    "The members' names in the shards: webdataset's (jpg, txt, json), or those of RS5M's release "
    "(img_content, img_name, caption) (default: %(default)s)."
)


def add_weights(parser) -> None:
    """--model and --checkpoint of a command that needs a model with weights."""
    name = (
        "The model: one of `rs5m models`, ViT-B-32-quickgelu, RN50x64-quickgelu or ViT-H-14 with "
        "their general weights, another of open_clip's as NAME@TAG, local-dir:FOLDER, or pocket."
    )
    file = "A file with the model's weights (default: those that belong to its name)."
    parser.add_argument("--model", required=True, metavar="NAME", help=name)
    parser.add_argument("--checkpoint", default="", metavar="FILE", help=file)


def add_upload(parser) -> None:
    """--upload of a command that makes a run's folder."""
    there = (
        "An address such as s3://bucket/run or hf://datasets/OWNER/NAME/run to which the finished "
        "run is copied: tables, shards, card and report, not what it rests on; what is there is "
        "not sent again (default: none)."
    )
    parser.add_argument("--upload", default="", metavar="URL", help=there)


def check_upload(url: str) -> None:
    """OSError, before any work, where nothing can be sent to the address of --upload."""
    if url:
        _store(url).check(url)


def _store(url: str):
    """The module that copies to an address."""
    from rs5m.data import remote, tohub

    return tohub if url.startswith("hf://") else remote


def upload(out: Path, url: str) -> None:
    """Copy what a run ends with to an object store."""
    if url:
        made = [*sorted(out.iterdir()), *sorted(out.glob("unmatched/*"))]
        shown = [path for path in made if path.is_file() and path.name[0] != "."]
        names = [path.relative_to(out).as_posix() for path in shown if path.name not in WORK]
        sent = _store(url).send(out, names, url)
        print(f"{url}: {sent:,} of {len(names) + 1:,} files sent, the others were there")


def print_left_out(out: Path) -> None:
    """How much of the input was not read, by reason; their names are in left_out.json."""
    from rs5m.data import runfolder

    for reason, names in runfolder.left_out(out).items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")
