"""What the other scales found, in a sentence or two for a page that runs at one of them: read from
results/, with date and device as far as they are known, never typed.
"""

import html
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from rs5m import results
from rs5m.book import scales
from rs5m.book.claims import NAMES

PROBE, ALL = (
    "linear probe",
    "transductive",
)  # of frozen vectors, as the chapter leaderboard has them


class Note(str):
    """HTML that a notebook shows as such; empty where no other scale has run."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return "what the other scales found" if self else ""


def others(chapter: str, scale: str) -> Note:
    """What is stored for a chapter at each scale but this page's."""
    parts = (note(chapter, name) for name in scales.SCALES if name != scale)
    return Note("".join(parts))


def note(chapter: str, scale: str) -> Note:
    """The stored run of a chapter at one scale; empty without one."""
    record = results.load(chapter, scale)
    said = list(lines(chapter, record["values"])) if record else []
    if not said:
        return Note()
    items = "".join(f"<li>{html.escape(line)}</li>" for line in said)
    made = html.escape(origin(chapter, scale, record))
    return Note(
        f'<div class="beside"><p><strong>At scale {scale}</strong> ({made}):</p>'
        f"<ul>{items}</ul></div>"
    )


def origin(chapter: str, scale: str, record: dict) -> str:
    """Where and when a result was made: the run's own date and device where it ran here, else the
    day that it was committed and what the build of torch tells.
    """
    ran, torch = record["ran"], record["provenance"]["versions"]["torch"]
    device = ran.get("device") or ("cpu" if torch.endswith("+cpu") else f"torch {torch}")
    when = (
        ran["date"][:10] if ran.get("date") else committed(results.stored(f"{chapter}.json", scale))
    )
    return f"{when or 'stored run'}, {device.replace('cpu', 'CPU')}"


def committed(path: Path) -> str:
    """The day of the commit that wrote a file; empty where git cannot tell (a shallow clone)."""
    command = ["git", "log", "-1", "--format=%cs %p", "--", path.name]
    try:
        said = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    day, *parents = said.stdout.split() or [""]
    return day if parents else ""


def lines(chapter: str, values: dict) -> Iterator[str]:
    """The sentences of a chapter whose numbers the values have; an older run may lack some."""
    for line in LINES.get(chapter, ()):
        try:
            yield from line(values)
        except KeyError:
            continue


def rate(one: dict) -> str:
    """A share with its interval."""
    return f"{one['rate']:.3g} % ({one['low']:.3g} to {one['high']:.3g})"


def gain(one: dict) -> str:
    """A gain in points with its interval."""
    return f"{one['gain']:+.1f} points ({one['low']:+.1f} to {one['high']:+.1f})"


def named(test: str) -> str:
    """A test set's name as pages print it."""
    return NAMES.get(test, test)


def _filters(values: dict) -> Iterator[str]:
    kept = values["real_images_kept"]
    yield (
        f"The pocket detector keeps {rate(kept['UC Merced'])} of UC Merced's images and "
        f"{rate(kept['EuroSAT'])} of EuroSAT's, all of which are views from above."
    )
    yield (
        f"Taught a part of UC Merced, it keeps {rate(kept['UC Merced, taught'])} of the rest and "
        f"{rate(kept['EuroSAT, taught UC Merced'])} of EuroSAT, and lets "
        f"{rate(kept['others, taught UC Merced'])} of the outliers pass."
    )


def _keywords(values: dict) -> Iterator[str]:
    judged = values["judged_precision"]
    for name, passed in values["passed"].items():
        yield (
            f"{rate(passed)} of {passed['texts']:,} texts of {name} pass; "
            f"{rate(judged[name])} of those read were judged right."
        )
    for name, found in values["captions"].items():
        yield f"{rate(found)} of the captions that people wrote for {name} pass."


def _dedup(values: dict) -> Iterator[str]:
    leaks = values["leaks"]
    yield (
        f"{leaks['with_copy']} of {leaks['test']} test images have a copy among the training "
        f"images ({leaks['set']})."
    )


def _pub11(values: dict) -> Iterator[str]:
    final = values["final"]
    yield (
        f"The same web: of the pairs that remain, {rate(final['precision'])} show views; "
        f"{rate(final['recall'])} of the views remain."
    )


def _captions(values: dict) -> Iterator[str]:
    right = values["greedy_right"]
    yield (
        f"The captioner's first sentence names the right class and no other for "
        f"{right['mean']:.1f} % ({right['low']:.1f} to {right['high']:.1f}) of "
        f"{values['images']:,} images."
    )
    own, other = values["scores"]["own image"], values["scores"]["shuffled"]
    yield (
        f"METEOR against what people wrote is {own['METEOR mean']:.1f}; "
        f"{other['METEOR mean']:.1f} for captions of other images."
    )


def _rotation(values: dict) -> Iterator[str]:
    for name, count in values["images"].items():
        found = values["gains"][f"{name} | all three | quarter turns | mean_minus_deviation"]
        yield (
            f"{named(name)}, {count} images, this scale's own ranker, quarter turns: right "
            f"captions chosen {gain(found)} against the upright image."
        )


def _rs3(values: dict) -> Iterator[str]:
    first = values["change"]["chosen by rotation, less the first candidate"]
    yield f"Captions chosen by rotation instead of the first candidate: {gain(first)} of accuracy."
    visual = values["remedy_gain"]["with the class | visual first"]
    yield f"Visual sentence before the metadata, where those name the class: {gain(visual)}."


def _tune(values: dict) -> Iterator[str]:
    worth = (f"{name} {gain(found)}" for name, found in values["worth"].items())
    yield f"What each half of the pairs is worth: {'; '.join(worth)}."


def _adapters(values: dict) -> Iterator[str]:
    ways = {name: one for name, one in values["gains"].items() if "share" not in name}
    best = sorted(ways, key=lambda name: -ways[name]["gain"])
    found = "; ".join(f"{name} {gain(ways[name])}" for name in best)
    yield f"Gains over the general model's {values['general']:.1f} %: {found}."


def _clip(values: dict) -> Iterator[str]:
    yield (
        f"The general model on {named(values['test'])}, {values['images']:,} images: balanced "
        f"accuracy {values['balanced']:.1f} % ({values['low']:.1f} to {values['high']:.1f}), "
        f"chance {values['chance']:.1f} %."
    )


def _data(values: dict) -> Iterator[str]:
    for name, found in values["folder"].items():
        apart = len(found["differences"])
        yield (
            f"{named(name)} as found on the disk: {found['images']:,} images of "
            f"{found['classes']} classes, {apart} differences from its description."
        )


def _leaderboard(values: dict) -> Iterator[str]:
    for name, of in values["models"].items():
        zero, frozen = next(iter(of["zeroshot"].values())), of["frozen"]
        used = {f"{key} {frozen[key]['top1']:.1f} %": key for key in (PROBE, ALL) if key in frozen}
        yield f"{named(values['test'])}, {name}: zero-shot {zero['top1']:.1f} %, {', '.join(used)}."


def _tested(level: Callable[[dict], float], unit: str) -> Callable[[dict], Iterator[str]]:
    """A line for each test set and each tuned model, from the general one."""

    def line(values: dict) -> Iterator[str]:
        for test, found in values["tests"].items():
            start = level(found["models"]["general"])
            tuned = (f"{gain(one)} tuned on {run}" for run, one in found["gain"].items())
            yield f"{named(test)}: {unit} {start:.3g} before tuning; {'; '.join(tuned)}."

    return line


LINES = {  # chapter -> what to say of its values
    "data": (_data,),
    "keywords": (_keywords,),
    "dedup": (_dedup,),
    "filters": (_filters,),
    "pub11": (_pub11,),
    "captions": (_captions,),
    "rotation": (_rotation,),
    "rs3": (_rs3,),
    "clip": (_clip,),
    "tune": (_tune,),
    "adapters": (_adapters,),
    "leaderboard": (_leaderboard,),
    "zeroshot": (_tested(lambda model: model["balanced"], "balanced accuracy, %,"),),
    "retrieval": (_tested(lambda model: model["mean_recall"], "mean recall, %,"),),
    "selo": (_tested(lambda model: 100 * model["rmi"], "Rmi, in hundredths,"),),
}
