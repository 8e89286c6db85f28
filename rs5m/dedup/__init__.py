"""Near-duplicates. Chapter: dedup."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "copies": [
            "COARSE_FLOOR",
            "CUT",
            "FLAT",
            "FLOOR",
            "MAX_DISTANCE",
            "MIN_SCORE",
            "exact",
            "groups",
            "groups_of",
            "keep_largest",
            "leaks",
            "near_duplicates",
            "scored_pairs",
            "threshold_curve",
        ],
        "hamming": ["components", "hash_pairs", "merge"],
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
        "registration": ["bold", "coarse", "local", "look", "median", "paint", "warp"],
    },
)
