"""PUB11: from web pairs to remote-sensing pairs. Chapter: pub11."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline": ["SHARD", "run"],
        "outcome": ["COLUMNS", "Judge", "attrition", "decide", "finish"],
        "input": ["inputs", "listed", "select", "shards"],
        "words": ["keyword_table"],
        "stages": ["FETCHED", "LOOKED", "Looker", "STAGES"],
        "download": ["content"],
    },
)
