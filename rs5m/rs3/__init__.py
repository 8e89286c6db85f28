"""RS3: from labelled images to pairs. Chapter: rs3."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline": ["DROPPED", "LEFT_OUT", "PAIRS", "join", "run"],
        "settings": ["ORDERS", "SHARD", "Settings"],
        "documents": ["Metadata", "read_records"],
        "input": ["content", "facts", "listed"],
        "finished": ["choices", "pairs", "summary"],
        "stages": ["Rankers", "Shard", "TEXT", "choose", "read"],
    },
)
