"""Words that several subcommands say."""

from pathlib import Path

NEW = "The folder to write, a new one or that of an interrupted run."
LAYOUTS = ("webdataset", "rs5m")  # records.LAYOUTS, which --help does not wait for
LAYOUT = (
    "The members' names in the shards: webdataset's (jpg, txt, json), or those of RS5M's release "
    "(img_content, img_name, caption) (default: %(default)s)."
)


def print_left_out(out: Path) -> None:
    """How much of the input was not read, by reason; their names are in left_out.json."""
    from rs5m.data import runfolder

    for reason, names in runfolder.left_out(out).items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")
