"""The prompts of a labelled set's classes."""

import numpy as np

from rs5m import clip, paper
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.data.datasets import Labelled


def prompts(data: Labelled) -> list[list[str]]:
    """The paper's 105 prompts for each class of a test set."""
    names = [datasets.class_prompt(data.name, name) for name in data.classes]
    return [[prompt.format(name) for prompt in paper.prompts()] for name in names]


def class_text(model: Model, data: Labelled) -> np.ndarray:
    """Un-normalised vectors of every prompt of every class: (classes, prompts, dim)."""
    texts = prompts(data)
    flat = clip.encode_texts(model, [text for group in texts for text in group])
    return flat.reshape(len(texts), len(texts[0]), -1)
