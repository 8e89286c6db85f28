"""The prompts of a labelled set's classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rs5m import clip, files, paper
from rs5m.data.datasets import Classes, Labelled

if TYPE_CHECKING:  # names and protocols need no torch
    from rs5m.clip import Model

NUMBER = re.compile(r"\d+([.]\d*)?")  # as a table with empty cells spells it
WORDS = {  # folder names of UC Merced and WHU-RS19 that run words together
    "baseballdiamond": "baseball diamond",
    "denseresidential": "dense residential area",
    "footballfield": "football field",
    "golfcourse": "golf course",
    "mediumresidential": "medium residential area",
    "mobilehomepark": "mobile home park",
    "parkinglot": "parking lot",
    "railwaystation": "railway station",
    "sparseresidential": "sparse residential area",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}


def class_prompt(folder: str) -> str:
    """The class name as it stands in prompts: the folder names of WORDS are parted into words."""
    return WORDS.get(folder) or paper.class_name(folder)


class Words(NamedTuple):
    """What stands in place of the folders' names in prompts, and prompts in place of the paper's;
    empty: none.
    """

    names: dict[str, str]
    templates: tuple[str, ...]

    def of_class(self, folder: str) -> str:
        """The name given for a class folder, else `class_prompt` of it."""
        return self.names.get(folder) or class_prompt(folder)

    def check(self, set_name: str, classes: list[str], others: list[str] = ()) -> None:
        """ValueError where there are names, and not for these very classes; where two classes would
        have one name in prompts; and where classes are numbers without names.

        others: classes of other sets, which names may be for, in part or all of them.
        """
        fewer, more = set(classes) - set(self.names), set(self.names) - {*classes, *others}
        unnamed = len(fewer) == len(classes) and not more
        if self.names and not unnamed and (fewer or more):
            told = {"no name for": fewer, "no folder of": more}
            wrong = [f"{say} {', '.join(sorted(some))}" for say, some in told.items() if some]
            raise ValueError(f"--classnames: {'; '.join(wrong)}: give a line for each class folder")
        if unnamed and all(NUMBER.fullmatch(name) for name in classes):
            raise ValueError(
                f"{set_name} has the numbers {classes[0]} to {classes[-1]} for classes: give their "
                "names with --classnames, a line each"
            )
        by_name: dict[str, list[str]] = {}
        for one in classes:
            by_name.setdefault(self.of_class(one), []).append(one)
        if alike := [(name, some) for name, some in by_name.items() if len(some) > 1]:
            name, some = alike[0]
            raise ValueError(
                f"{set_name}: the classes {' and '.join(some)} would "
                f"{'both' if len(some) == 2 else 'all'} be called {name!r} in "
                "prompts: give each a name of its own with --classnames"
            )


NONE = Words({}, ())


def words(classnames: str | Path = "", templates: str | Path = "") -> Words:
    """The words of two files, "" for none; ValueError that names the line.

    Args:
        classnames: a line for each class, its folder or label, a comma or tab, its name in
            prompts; or names alone, of the labels 0, 1, 2 and so on.
        templates: a line for each prompt, with {} where the class stands.
    """
    names, prompts = {}, []
    given = _lines(classnames)
    if given and not any(re.search(r"[,\t]", line) for _, line in given):
        given = [(number, f"{i}\t{line}") for i, (number, line) in enumerate(given)]
    for number, line in given:
        parts = re.fullmatch(r"([^,\t]+)[,\t](.*\S)", line)
        folder, name = (part.strip() for part in parts.groups()) if parts else ("", "")
        if not (folder and name) or folder in names:
            raise ValueError(
                f"{classnames}, line {number}: give each folder once, a comma or tab, and its name"
            )
        names[folder] = name
    for number, line in _lines(templates):
        if line.count("{}") != 1 or re.search(r"[{}]", line.replace("{}", "")):
            raise ValueError(f"{templates}, line {number}: write {{}} once, where the class stands")
        prompts.append(line)
    return Words(names, tuple(prompts))


def _lines(path: str | Path) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers; ValueError where there is none."""
    if not path:
        return []
    lines = enumerate(files.text(path).split("\n"), 1)
    found = [(i, line.strip()) for i, line in lines if line.strip()]
    if not found:
        raise ValueError(f"{path} is empty: leave the option out, or write a line for each")
    return found


def prompts(data: Classes | Labelled, words: Words = NONE) -> list[list[str]]:
    """The paper's 105 prompts, or one's own, for each class of a test set."""
    names = [words.of_class(name) for name in data.classes]
    templates = words.templates or paper.prompts()
    return [[prompt.format(name) for prompt in templates] for name in names]


def class_text(model: Model, data: Classes | Labelled) -> np.ndarray:
    """Un-normalised vectors of every prompt of every class: (classes, prompts, dim)."""
    texts = prompts(data)
    flat = clip.encode_texts(model, [text for group in texts for text in group])
    return flat.reshape(len(texts), len(texts[0]), -1)
