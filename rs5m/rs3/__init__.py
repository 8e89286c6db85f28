"""RS3: from labelled images to pairs. Chapter: rs3."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline": [
            "DROPPED",
            "LEFT_OUT",
            "ORDERS",
            "PAIRS",
            "SHARD",
            "Settings",
            "choices",
            "join",
            "pairs",
            "run",
            "summary",
        ],
        "input": ["Metadata", "content", "facts", "listed", "read_records"],
        "stages": ["Rankers", "Shard", "TEXT", "choose", "read"],
    },
)
