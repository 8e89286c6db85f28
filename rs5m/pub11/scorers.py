"""What a user brings to judge pairs: a function, or a linear head on a CLIP's vectors; and the
language of texts. Chapter: pub11.

A function is named by whoever types the command, never by a file that was fetched; a head is
numbers alone (safetensors), which run nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from rs5m import files

HEAD = ".safetensors"
EXTRA = "languages need py3langid: pip install 'rs5m[language]', or leave --language out"


def identity(name: str) -> list[str]:
    """The scorer's name with a digest of its file; errors where it is not available."""
    if name.endswith(HEAD):
        if not Path(name).is_file():
            raise FileNotFoundError(f"--scorer {name} is not a file: check the spelling")
        return [Path(name).name, files.sha256(name)]
    source = getattr(_function(name)[0], "__file__", None)
    return [name, files.sha256(source) if source else ""]


def load(name: str, width: int = 0) -> Callable:
    """A function from vectors (n, dim), or from pictures and texts, to scores (n,).

    width: the dimension of the vectors, for a head; 0: not checked here.
    """
    return _head(Path(name), width) if name.endswith(HEAD) else _checked(name, _function(name)[1])


def _function(name: str):
    """The module and the function of `module:function`."""
    place, _, attribute = name.partition(":")
    if not (place and attribute):
        raise ValueError(
            f"--scorer {name} is neither module:function nor a {HEAD} file: name one of them"
        )
    try:
        module = import_module(place)
    except Exception as error:  # whatever a user's own module does on import
        raise ValueError(
            f"--scorer {name}: {place} cannot be imported ({type(error).__name__}: {error}): put "
            "its folder on PYTHONPATH"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"--scorer {name}: {place} has no function {attribute}: check the name")
    return module, function


def _checked(name: str, function: Callable) -> Callable:
    def score(pictures: list[np.ndarray], texts: list[str]) -> np.ndarray:
        try:
            values = np.asarray(function(pictures, texts), float)
        except Exception as error:  # a user's own code
            raise ValueError(
                f"--scorer {name} failed on {len(texts)} pairs ({type(error).__name__}: {error}): "
                "it takes pictures (h, w, 3) uint8 and texts, and gives a number for each"
            ) from error
        if values.shape != (len(texts),) or np.isnan(values).any():
            raise ValueError(
                f"--scorer {name} gave an array {values.shape} for {len(texts)} pairs, "
                f"{int(np.isnan(values).sum())} of it not a number: it has to give one number each"
            )
        return values

    return score


def _head(path: Path, width: int) -> Callable:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from rs5m.vectors import normalise

    try:
        held = load_file(path)
        weight = held["weight"].astype(float).ravel()
        bias = float(held.get("bias", np.zeros(1)).ravel()[0])
    except (SafetensorError, KeyError, IndexError) as error:
        raise ValueError(
            f"--scorer {path} holds no linear head ({error}): it needs weight (dim,) and may have "
            "bias (1,)"
        ) from error
    if width and len(weight) != width:
        raise ValueError(
            f"--scorer {path} weighs {len(weight)} numbers, the model's vectors have {width}: fit "
            "it on this model"
        )
    return lambda vectors: normalise(vectors).astype(float) @ weight + bias


# ---------------------------------------------------------------- language


@cache
def _identifier():
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ImportError(EXTRA) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)


def language_check(wanted: Sequence[str]) -> None:
    """ValueError for a code that the library does not know; ImportError without the library."""
    known = set(_identifier().labels)
    if strange := next((code for code in wanted if code not in known), None):
        raise ValueError(f"--language {strange} is not known: give codes such as en, de, zh or pt")


def languages(texts: Sequence[str]) -> list[str]:
    """The likeliest language of each text, a code of ISO 639-1."""
    return [_identifier().classify(text)[0] for text in texts]
