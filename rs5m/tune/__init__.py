"""Contrastive tuning on pairs. Chapter: tune."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loop": [
            "BETAS",
            "EPSILON",
            "MAX_LOGIT_SCALE",
            "PRECISIONS",
            "TextEncoder",
            "adamw",
            "autocast",
            "backward",
            "contrastive_loss",
            "encode",
            "fit",
            "text_features",
        ],
        "schedule": ["Settings", "draws", "items", "plan", "rate"],
        "distributed": ["agree", "gather", "rank", "world"],
    },
)
