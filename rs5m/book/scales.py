"""The one dial of the project: what each scale runs on. Chapter: setup."""

import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Scale:
    """Everything that differs between two sizes of the same run."""

    name: str
    model: str  # "pocket" or an open_clip architecture
    pretrained: str | None  # open_clip's name for the general weights
    runs: tuple[tuple[str, ...], ...]  # the pairs of each tuning run; the first run is the headline
    tests: tuple[str, ...]  # what the models are tested on, never seen in tuning
    image_size: int  # pixels at the network's input
    batch_size: int
    epochs: int
    learning_rate: float
    machine: str
    needs: str  # what to fetch when the data folder lacks it; empty: nothing
    # of every tuning run, in place of epochs: runs of other sizes then take equally many
    steps: int = 0
    every: int = 1  # image of EuroSAT is tested; more than 1 to save time

    @property
    def lock_text(self) -> bool:
        """Whether tuning leaves the text tower as it is: the pocket's, while CLIP's own is tuned
        with the images.
        """
        return self.model == "pocket"

    @property
    def towers(self) -> str:
        """What a reason says of the model beside the paper's: by name where it is CLIP's."""
        return "other towers" if self.lock_text else self.model

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every tuning run that is repeated: no scale takes three of a run that lasts hours."""
        return (0, 1, 2) if self.steps else (0,)

    def expect(self, holds: bool, what: str) -> None:
        """A claim on quality: an assertion where the run is known, a printed verdict at the scales
        whose runs take hours and whose data are the reader's.
        """
        assert holds or not self.lock_text, what
        if not holds:
            print(f"not so in this run: {what}")


_HUB = (
    "`rs5m fetch tests shards --out FOLDER` puts the hub's rs5m_test_data/ and RS5M's shards "
    "({pub11,rs3}-train-NNNN.tar, in a folder rs5m/) into a folder: name it in RS5M_DATA"
)

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "mini",
            "pocket",
            None,
            (("pub11", "rs3"),),
            ("pocket",),
            96,
            128,
            0,
            2e-3,
            "2 CPU cores",
            "",
            40,
        ),
        Scale(
            "local",
            "pocket",
            None,
            (("pub11", "rs3"), ("ucm",)),
            ("eurosat", "ucm"),
            96,
            128,
            0,
            2e-3,
            "2 CPU cores",
            "`rs5m fetch eurosat ucm --out FOLDER` fetches both sets (eurosat_rgb.zip and "
            "ucm_q92.zip are read as well): put captions/ucm_captions.json beside them, and name "
            "the folder in RS5M_DATA",
            40,
            every=5,
        ),
        Scale(
            "colab",
            "ViT-B-32-quickgelu",
            "openai",
            (("rs5m",),),
            ("eurosat",),
            224,
            256,
            1,
            2e-4,
            "one GPU",
            _HUB,
            300,
        ),
        Scale(
            "paper",
            "ViT-H-14",
            "laion2b_s32b_b79k",
            (("rs5m",),),
            ("eurosat",),
            224,
            600,
            1,
            2e-4,
            "cluster",
            _HUB,
        ),
    )
}


# at the scales with towers of CLIP's, whose GPUs and patience differ
DIALS = {"RS5M_STEPS": "steps", "RS5M_BATCH": "batch_size"}


def get(name: str) -> Scale:
    """The scale of that name, at colab and paper with the length that the environment asks for
    (DIALS). Raises ValueError, naming the four, for any other.
    """
    if name not in SCALES:
        raise ValueError(f"unknown scale {name!r}: choose one of {', '.join(SCALES)}")
    scale = SCALES[name]
    if scale.lock_text:
        return scale
    for variable, field in DIALS.items():
        if word := os.environ.get(variable):
            if not word.isdecimal() or int(word) < 1:
                raise ValueError(f"{variable} is {word!r}: give a whole number, 1 or more")
            scale = replace(scale, **{field: int(word)})
    return scale


def data_folder(scale: Scale) -> Path:
    """The folder that RS5M_DATA names. Raises FileNotFoundError that says what to put where."""
    folder = Path(os.environ.get("RS5M_DATA") or "data")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"scale {scale.name!r} reads {folder}, which does not exist: {scale.needs}"
        )
    return folder
