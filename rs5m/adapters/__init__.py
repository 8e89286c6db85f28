"""Parameter-efficient tuning. Chapter: adapters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "methods": [
            "Adapted",
            "HEADS",
            "METHODS",
            "TOWERS",
            "formula",
            "identity",
            "merge",
            "mergeable",
            "places",
            "prepare",
        ],
        "saved": ["FILE", "load", "save"],
        "towers": ["split"],
    },
)
