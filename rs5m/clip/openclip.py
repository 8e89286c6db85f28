"""The one import of open_clip, and what lets it be imported beside a CPU-only torch."""

import torch


def declare_vision_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a CPU-only torch.

    Its Python files register shapes for two operators of its compiled half and stop the import when
    that half did not load. We use neither operator, so declaring their names is enough; where the
    compiled half loaded, nothing happens.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # the declaration lives as long as this object


declare_vision_operators()

import open_clip  # noqa: E402, F401  (imports torchvision; everyone else takes it from here)


def quiet_transformers() -> None:
    """Keep transformers from reporting the pooler weights that a sentence encoder does not use."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
