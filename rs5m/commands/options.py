"""Words that several subcommands say."""

from pathlib import Path

NEW = "a new folder, or one of an interrupted run"


def print_left_out(out: Path) -> None:
    """How much of the input was not read, by reason; their names are in left_out.json."""
    from rs5m.data import runfolder

    for reason, names in runfolder.left_out(out).items():
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])})")
