"""The prompts of a labelled set's classes."""

import numpy as np

from rs5m import clip, paper
from rs5m.clip import Model
from rs5m.data.datasets import Classes, Labelled

UCM_WORDS = {  # folder names that run words together
    "baseballdiamond": "baseball diamond",
    "denseresidential": "dense residential area",
    "golfcourse": "golf course",
    "mediumresidential": "medium residential area",
    "mobilehomepark": "mobile home park",
    "parkinglot": "parking lot",
    "sparseresidential": "sparse residential area",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}


def class_prompt(set_name: str, folder: str) -> str:
    """The class name as it stands in prompts: UC Merced's folder names are parted into words."""
    own = UCM_WORDS.get(folder) if set_name == "ucm" else None
    return own or paper.class_name(folder)


def prompts(data: Classes | Labelled) -> list[list[str]]:
    """The paper's 105 prompts for each class of a test set."""
    names = [class_prompt(data.name, name) for name in data.classes]
    return [[prompt.format(name) for prompt in paper.prompts()] for name in names]


def class_text(model: Model, data: Classes | Labelled) -> np.ndarray:
    """Un-normalised vectors of every prompt of every class: (classes, prompts, dim)."""
    texts = prompts(data)
    flat = clip.encode_texts(model, [text for group in texts for text in group])
    return flat.reshape(len(texts), len(texts[0]), -1)
