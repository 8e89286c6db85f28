"""The one reader of labelled and captioned sets, from a folder or straight from the zip: names
first, bytes on demand, so that 10 GB of pixels never lie in memory. Chapter: data.

Layouts as published (`rs5m_test_data/` or the folder above it). What a folder holds is kept, or
left out for a reason that is counted. What is in the bytes is judged by who decodes them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "labelled": [
            "Classes",
            "ENDINGS",
            "Images",
            "LAYOUTS",
            "LeftOut",
            "NO_FILE",
            "UNREAD",
            "classes",
            "in_words",
            "listed",
            "of_folder",
            "sort_out",
        ],
        "patches": ["BAND", "content", "sources"],
        "captioned": [
            "CAPTIONED",
            "COLUMNS",
            "Captions",
            "base_of",
            "captions",
            "table_rows",
            "text_of",
            "ucm_captions",
        ],
        "memory": [
            "Decoded",
            "Labelled",
            "Pairs",
            "decode",
            "decoded",
            "eurosat",
            "fingerprint",
            "held",
            "on_demand",
            "subset",
            "tell_skipped",
            "ucm",
        ],
    },
)
