"""Writes the scorecard block of README.md and results/scorecard.png from results/.

python tools/readme.py            write the block and the figure python tools/readme.py --check
change nothing, fail when the block is out of date (seconds and days aside)
"""

import argparse
import re
from pathlib import Path

from rs5m import paper, results
from rs5m.book import scales, scorecard

CURE = "python tools/readme.py"
START, END = "<!-- scorecard:start -->", "<!-- scorecard:end -->"
BLOCK = re.compile(f"{START}\n.*?{END}\n?", re.DOTALL)
FIGURE = "results/scorecard.png"
VOLATILE = re.compile(
    r"\d[\d.,]* (?:minutes|GB)|\d{4}-\d\d-\d\d"
)  # differ between two runs that found the same
SIZES = (".venv", "runs", "_build")


def records(scale: str) -> list[dict]:
    """Every chapter's result of a scale, in the order of the files' names; reports of `rs5m
    evaluate` are none.
    """
    paths = sorted((results.root() / "results" / scale).glob("*.json"))
    return [record for path in paths if "values" in (record := results.load(path.stem, scale))]


def time_needed() -> list[str]:
    """One line for each scale that has run: the chapters' seconds and the machine they were taken
    on.
    """
    lines = []
    for name, scale in scales.SCALES.items():
        if found := records(name):
            minutes = sum(record["seconds"] for record in found) / 60
            devices = ", ".join(sorted({record["provenance"]["device"] for record in found}))
            day = max(record["date"] for record in found)[:10]
            lines.append(
                f"- `{name}`: about {minutes:.0f} minutes for the chapters (device {devices}, {day}; "
                f"meant for {scale.machine})."
            )
    return lines


def disk_needed(root: Path) -> float:
    """Gigabytes of the environment and of what a run writes, as `du` counts them."""
    files = (
        path
        for name in SIZES
        for path in (root / name).rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    return sum(path.stat().st_blocks * 512 for path in files) / 1e9


def scales_table() -> str:
    lines = ["| scale | model | tested on | machine | data to fetch |", "|---|---|---|---|---|"]
    for name, scale in scales.SCALES.items():
        tests = ", ".join(scale.tests)
        lines.append(
            f"| `{name}` | {scale.model} | {tests} | {scale.machine} | {scale.needs or 'none'} |"
        )
    return "\n".join(lines)


def published() -> str:
    """One sentence on the paper's published numbers; the chapter's page has their table."""
    numbers = paper.compare(scorecard.published())
    ran = (numbers["verdict"] != "not attempted").sum()
    count = len(paper.table("results"))
    return (
        f"Of the paper's {count} published numbers, {ran} have been measured again with the published weights; "
        "[the chapter](book/scorecard.md) lists each with what it needs."
    )


def block(root: Path, disk: str) -> str:
    """The text between the markers; `disk` is the sentence on disk space, measured or kept."""
    frame = paper.compare(scorecard.rows()).drop(columns=["difference"])
    parts = [
        START,
        paper.to_markdown(frame),
        "",
        published(),
        "",
        "Time, from the stored results:",
        "",
        *time_needed(),
        "",
        disk,
        "",
        "The scales:",
        "",
        scales_table(),
        END,
        "",
    ]
    return "\n".join(parts)


def measured(root: Path) -> str:
    from datetime import UTC, datetime

    day = datetime.now(UTC).date().isoformat()
    return (
        f"Disk: about {disk_needed(root):.1f} GB for the environment and one run (measured {day})."
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail when the block is out of date"
    )
    options = parser.parse_args(arguments)
    root = results.root()
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    held = BLOCK.search(text)
    if not held:
        raise SystemExit(
            f"README.md has no block between {START} and {END}: put the two lines back"
        )
    if options.check:
        wanted = block(
            root, next((line for line in held[0].splitlines() if line.startswith("Disk:")), "")
        )
        if VOLATILE.sub("", wanted) != VOLATILE.sub("", held[0]):
            raise SystemExit(
                f"README.md does not show what results/ holds: run `{CURE}` and commit the result"
            )
        return
    kept = next((line for line in held[0].splitlines() if line.startswith("Disk:")), "")
    if (root / FIGURE).exists() and VOLATILE.sub("", block(root, kept)) == VOLATILE.sub(
        "", held[0]
    ):
        return print("README.md   up to date")
    wanted = block(root, measured(root))
    path.write_text(text[: held.start()] + wanted + text[held.end() :], encoding="utf-8")
    if scorecard.found():
        scorecard.figure(root / FIGURE)
    print(f"README.md  written, {len(scorecard.rows())} rows")


if __name__ == "__main__":
    main()
