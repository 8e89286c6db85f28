"""Semantic localization through a model: windows cut from a decoded image, their vectors, the
scores of scenes. Chapter: selo.

The official code writes every window, and every map, as a JPEG file and reads it back, the windows
for each query anew. Here the windows of an image are cut and encoded once for all its queries, in
memory; with `jpeg` they go through JPEG as well, without it they keep the pixels they were cut to.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm.auto import tqdm

from rs5m import clip, selo
from rs5m.clip import Model
from rs5m.data import datasets
from rs5m.data.datasets import Images
from rs5m.device import processors
from rs5m.evaluate import features
from rs5m.evaluate.features import Store
from rs5m.evaluate.testsets import Query, Scene
from rs5m.vectors import normalise

SIZE = 256  # pixels of a window before the model's own preprocessing
METRICS = ("rsu", "rda", "ras", "rmi")


class Scores(NamedTuple):
    """A scene through a model: windows int (n, 4), cosines (queries, n), and the scene's height and
    width.
    """

    windows: np.ndarray
    cosines: np.ndarray
    shape: tuple[int, int]


def cut(image: np.ndarray, windows: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Windows (n, 4: r0, r1, c0, c1) of a uint8 image (h, w, 3), resized (cubic) to uint8 (n, size,
    size, 3).
    """
    found = np.empty((len(windows), size, size, 3), np.uint8)
    for i, (r0, r1, c0, c1) in enumerate(windows):
        found[i] = cv2.resize(image[r0:r1, c0:c1], (size, size), interpolation=cv2.INTER_CUBIC)
    return found


def window_vectors(
    model: Model, image: np.ndarray, windows: np.ndarray, jpeg: bool = False, **how
) -> np.ndarray:
    """Un-normalised vectors (n, dim) of an image's windows, cut and encoded batch by batch.

    Args:
        model: in float32 on every device.
        image: uint8 (h, w, 3).
        windows: (n, 4), each r0, r1, c0, c1.
        jpeg: each window goes through JPEG, as in the official evaluation.
        how: keywords for `features.encode`.
    """
    clip.check_images([image])
    names = ["_".join(map(str, window)) for window in windows]

    def read(i: int) -> bytes:
        window = cut(image, windows[i : i + 1])
        return selo.as_jpeg(window[0]) if jpeg else datasets.held(window, names).read(0)

    return features.encode(model, Images(names, read), "windows", **how).vectors


def scores(
    model: Model, image: np.ndarray, texts: Sequence[str], steps: Sequence[int] = selo.STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Windows int (n, 4) of an image and the cosines (texts, n) of each text with each window.

    Args:
        model: its vectors are not kept.
        image: uint8 (h, w, 3).
        texts: the queries.
        steps: sides of the windows in pixels.
    """
    windows = selo.windows(*image.shape[:2], steps)
    vectors = normalise(window_vectors(model, image, windows))
    return windows, normalise(clip.encode_texts(model, list(texts))) @ vectors.T


def scene_scores(store: Store, scenes: list[Scene], name: str, jpeg: bool = False) -> list[Scores]:
    """The cosines of every window of every scene with every query of it.

    Args:
        store: makes the vectors and keeps them.
        scenes: to read, window by window.
        name: of the set, in the store.
        jpeg: like that of `window_vectors`.
    """
    bar = tqdm(scenes, desc=f"{name}, reading", unit="scene", leave=False)
    data = [(scene.name, datasets.fingerprint([scene.read()])) for scene in bar]

    def make(folder: Path) -> None:
        model = store.make_model()
        for i, scene in enumerate(tqdm(scenes, desc=name, unit="scene")):
            image = scene.read()
            windows = selo.windows(*image.shape[:2])
            vectors = window_vectors(model, image, windows, jpeg, quiet=True, **store.how)
            np.savez(folder / f"{i}.npz", windows=windows, vectors=vectors, shape=image.shape[:2])

    store.digests[f"images-{name}"] = features.texts_digest([" ".join(one) for one in data])
    folder = store.kept(f"windows-{name}", (data, jpeg), make)
    captions = [query.caption for scene in scenes for query in scene.queries]
    texts = iter(normalise(store.texts(captions, f"selo-{name}")))
    found = []
    for i, scene in enumerate(scenes):
        kept, asked = np.load(folder / f"{i}.npz"), np.stack([next(texts) for _ in scene.queries])
        cosines = asked @ normalise(kept["vectors"]).T
        found.append(Scores(kept["windows"], cosines, tuple(kept["shape"].tolist())))
    return found


def measure(scenes: list[Scene], scored: list[Scores], jpeg: bool = False) -> dict[str, np.ndarray]:
    """Each of METRICS of every query (n,), scene after scene.

    jpeg: each map goes through JPEG, as in the official evaluation.
    """
    jobs = [
        (one, cosines, query, jpeg)
        for scene, one in zip(scenes, scored, strict=True)
        for cosines, query in zip(one.cosines, scene.queries, strict=True)
    ]
    with ThreadPoolExecutor(processors()) as pool:  # filters and sums leave Python's lock
        bar = tqdm(pool.map(_of_query, jobs), desc="maps", unit="query", total=len(jobs))
        values = list(bar)
    return {key: np.array([value[key] for value in values]) for key in METRICS}


def _of_query(job: tuple[Scores, np.ndarray, Query, bool]) -> dict[str, float]:
    one, cosines, query, jpeg = job
    heat = selo.probability_map(one.windows, cosines, *one.shape, jpeg)
    return selo.metrics(heat, query.regions)
