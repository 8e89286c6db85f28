"""Stage 1 of PUB11: which alt-texts speak of a picture taken from above. Chapter: keywords.

The terms stand in ``keywords.toml``: our own list, since the paper's was not published with its
code; a second list, off by default, that finds what the first misses; and phrases that are traps.
The filter is for recall; a satellite dish passes here and is the later stages' work.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "listed": ["groups", "terms", "trap_terms"],
        "expressions": ["pattern"],
        "texts": ["as_strings", "explain", "expression", "matches", "traps"],
        "choice": ["Keywords", "REPORT", "choose"],
    },
)
