"""Fetching from the web, safely. Chapter: pub11."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "crawl": ["fetch", "fetch_many"],
        "limits": ["FAULTS", "LIMITS", "Limits", "status_of"],
        "request": ["get"],
        "tally": ["Tally"],
        "task": ["Fetched"],
        "urls": ["normalise", "opted_out", "refused"],
    },
)
