"""Fetching from the web, safely. Chapter: pub11."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "crawl": ["Fetched", "fetch", "fetch_many"],
        "request": ["FAULTS", "LIMITS", "Limits", "get", "status_of"],
        "tally": ["Tally"],
        "urls": ["normalise", "opted_out", "refused"],
    },
)
