"""Tables in parquet, csv, tsv or jsonl, told apart by content: their columns, and their rows in
order, a batch at a time.

Of csv and tsv the text is UTF-8, with a byte-order mark or without; a quoted field may hold line
breaks. Lines above the header that begin with # and a blank, or are # alone, are comments; below
the header such a line is a row like any other, kept or left out with its reason. Empty lines are no
rows. A table without a header is known by its first row: two fields, of which one is a URL
(Google's Conceptual Captions are like this); there a quotation mark is a letter like any other.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "kinds": [
            "CAPTION_NAMES",
            "ENDINGS",
            "KINDS",
            "Table",
            "column",
            "is_bytes",
            "is_text",
            "look",
            "of_list",
            "plain",
            "squeezed",
            "strings",
        ],
        "reading": ["FAULT", "batches", "rows"],
    },
)
