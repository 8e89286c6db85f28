"""The pocket world. Chapter: data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "wheels": ["WHEELS", "cache_folder", "download", "member", "sha256", "unpacked", "wheel"],
        "world": [
            "BLUE_MARBLE",
            "CAP",
            "CAPTIONS",
            "CHIP",
            "COVER",
            "Chips",
            "FLOOR",
            "LAND_COVER",
            "MAJORITY",
            "TEST_CONTINENTS",
            "beside",
            "blue_marble",
            "captions",
            "chip",
            "chips",
            "class_names",
            "climate",
            "continent",
            "land_cover",
            "majority",
        ],
    },
)
