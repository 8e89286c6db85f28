"""What was released: GeoRSCLIP's files by name, and how they are fetched. Chapter: clip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from rs5m.files import refuse_full
from rs5m.web import hub

REPO = "Zilun/GeoRSCLIP"


class Release(NamedTuple):
    """A file in the folder ckpt/ of the hub's model, and the architecture that it must be loaded
    into.

    quick_gelu: what the weights were trained with; None where that was not published and the
    architecture is our guess. sha256: of the file, None where it is not known.
    """

    file: str
    architecture: str
    quick_gelu: bool | None
    sha256: str | None = None


RELEASED = {  # ViT-B/32 began from OpenAI's weights, ViT-H/14 from LAION's
    "GeoRSCLIP-ViT-B-32": Release("RS5M_ViT-B-32.pt", "ViT-B-32-quickgelu", True),
    "GeoRSCLIP-ViT-B-32-RET-2": Release("RS5M_ViT-B-32_RET-2.pt", "ViT-B-32-quickgelu", True),
    "GeoRSCLIP-ViT-B-32-RSICD": Release("RS5M_ViT-B-32_RSICD.pt", "ViT-B-32-quickgelu", True),
    "GeoRSCLIP-ViT-L-14": Release("RS5M_ViT-L-14.pt", "ViT-L-14-quickgelu", None),
    "GeoRSCLIP-ViT-L-14-336": Release("RS5M_ViT-L-14-336.pt", "ViT-L-14-336-quickgelu", None),
    "GeoRSCLIP-ViT-H-14": Release("RS5M_ViT-H-14.pt", "ViT-H-14", False),
}


def fetch(name: str) -> Path:
    """The file of a released model: from ckpt/ in the folder RS5M_DATA if it is there, else from
    the hub's cache.

    OSError that says what to put where if it is available from neither.
    """
    file, folder = RELEASED[name].file, Path(os.environ.get("RS5M_DATA") or "data")
    for path in (folder / "ckpt" / file, folder / "GeoRSCLIP" / "ckpt" / file):
        if path.is_file():
            return path
    from huggingface_hub import constants

    try:
        return hub.fetch(REPO, f"ckpt/{file}")
    except Exception as error:  # the hub's library raises its own, its HTTP client's and plain ones
        refuse_full(error, constants.HF_HUB_CACHE)
        raise OSError(
            f"{name} could not be fetched from the hub ({hub.why(error)}): download "
            f"ckpt/{file} of its model {REPO} and put it into {folder / 'ckpt'} (RS5M_DATA names "
            "the folder)"
        ) from error
