"""The runs that several chapters share, at the scales mini and local: made once, kept in runs/.
Chapters: pub11 to rs3.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "web": [
            "WEB_SEED",
            "LIMITS",
            "crawl",
            "web_records",
            "web_pairs",
            "pub11_shards",
            "elsewhere",
        ],
        "captioning": [
            "ANNOTATED",
            "annotated",
            "captioner_folder",
            "captioner",
            "rankers_folder",
            "RANKERS",
            "rankers",
        ],
        "labelled": ["PER_CLASS", "labelled_records", "labelled_set"],
    },
)
