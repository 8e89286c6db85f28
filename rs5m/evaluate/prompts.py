"""The prompts of a labelled set's classes."""

import numpy as np

from rs5m import clip, paper
from rs5m.clip import Model
from rs5m.data.datasets import Classes, Labelled

WORDS = {  # folder names that run words together, by set
    "ucm": {
        "baseballdiamond": "baseball diamond",
        "denseresidential": "dense residential area",
        "golfcourse": "golf course",
        "mediumresidential": "medium residential area",
        "mobilehomepark": "mobile home park",
        "parkinglot": "parking lot",
        "sparseresidential": "sparse residential area",
        "storagetanks": "storage tanks",
        "tenniscourt": "tennis court",
    },
    "whurs19": {"footballfield": "football field", "railwaystation": "railway station"},
}


def class_prompt(set_name: str, folder: str) -> str:
    """The class name as it stands in prompts: the folder names of WORDS are parted into words."""
    return WORDS.get(set_name, {}).get(folder) or paper.class_name(folder)


def prompts(data: Classes | Labelled) -> list[list[str]]:
    """The paper's 105 prompts for each class of a test set."""
    names = [class_prompt(data.name, name) for name in data.classes]
    return [[prompt.format(name) for prompt in paper.prompts()] for name in names]


def class_text(model: Model, data: Classes | Labelled) -> np.ndarray:
    """Un-normalised vectors of every prompt of every class: (classes, prompts, dim)."""
    texts = prompts(data)
    flat = clip.encode_texts(model, [text for group in texts for text in group])
    return flat.reshape(len(texts), len(texts[0]), -1)
