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
            "continents",
            "annotated",
            "captioner_folder",
            "captioner",
            "captioner_name",
            "blip2_folder",
            "rankers_folder",
            "RANKERS",
            "rankers",
        ],
        "labelled": ["PER_CLASS", "some_of_each", "labelled_records", "labelled_set"],
    },
)
