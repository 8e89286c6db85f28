"""Captions of labelled images: candidates, ranking, metadata sentences. Chapter: captions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "nucleus": ["LONGEST", "Nucleus", "TOP_K", "TOP_P", "image_seeds", "sampling"],
        "candidates": [
            "CANDIDATES",
            "Captioner",
            "Cleaned",
            "Images",
            "KEEP",
            "Named",
            "check",
            "clean",
            "named",
            "rank",
            "words",
        ],
        "blip2": ["BLIP2", "Blip2Captioner", "LORA"],
    },
)
