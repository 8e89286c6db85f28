"""Contrastive tuning on pairs. Chapter: tune."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loop": [
            "BETAS",
            "EPSILON",
            "HOTTEST",
            "PRECISIONS",
            "Texts",
            "autocast",
            "backward",
            "contrastive_loss",
            "cut",
            "encode",
            "fit",
            "optimiser",
        ],
        "schedule": ["Settings", "draws", "items", "plan", "rate"],
        "distributed": ["agree", "gather", "rank", "world"],
        "log": ["Log", "load_checkpoint", "save_checkpoint"],
    },
)
