"""Parameter-efficient tuning. Chapter: adapters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "methods": [
            "Adapted",
            "FILE",
            "HEADS",
            "METHODS",
            "TOWERS",
            "formula",
            "identity",
            "load",
            "merge",
            "mergeable",
            "places",
            "prepare",
            "save",
        ],
        "towers": ["split"],
    },
)
