"""Near-duplicates. Chapter: dedup."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "candidates": ["COARSE_FLOOR", "FLAT", "FLOOR"],
        "clusters": [
            "MAX_DISTANCE",
            "MIN_SCORE",
            "ROADS",
            "WEAK",
            "exact",
            "explain",
            "groups_of",
            "keep_largest",
            "links",
            "near_duplicates",
            "sides",
            "threshold_curve",
        ],
        "copies": ["CUT", "groups", "leaks", "looked", "scored_pairs"],
        "hamming": ["components", "hash_pairs", "merge"],
        "ondisk": ["bucket_pairs", "opened", "room"],
        "thumbnails": [
            "CROPS",
            "HALVES",
            "INVERSE",
            "SIDE",
            "VERSION",
            "image_hash",
            "orient",
            "signature",
            "signatures",
            "window_hashes",
        ],
        "structure": ["bold", "coarse", "local", "median", "paint"],
        "registration": ["look", "warp"],
    },
)
