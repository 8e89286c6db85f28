"""One pair of a shard, by the kinds of its members, in both layouts and under the names that others
give. Chapter: data.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping

from rs5m import files

OFFICIAL = ("img_content", "img_name", "caption")
PICTURES = (
    *("jpg", "jpeg", "png", "webp", "tif", "tiff", "gif", "bmp"),
    *("jfif", "jpe", "jp2", "j2k"),
)
# where captions may stand; an Index refers to them by position
TEXTS = ("caption", "txt", "json", "text", "cap")
PLAIN = ("txt", "caption", "text", "cap")  # that are a caption as they are; the first counts
READ = (*TEXTS, "img_name")  # members whose bytes an index reads
# how programs write that a value is missing, in small letters: SQL, pandas, Python, spreadsheets, R
ABSENT = ("", "null", "nan", "none", "n/a", "na", "<na>")
NO_CAPTION = "has no caption"
KINDS = frozenset((*OFFICIAL, *PICTURES, *TEXTS))


def parts(sample: Mapping[str, object]) -> tuple[str, str, str | None]:
    """The kinds of the image and of the text that holds the captions, and what the sample lacks or
    why its text is none (else None).

    sample: members by kind; those of TEXTS as bytes. A json with several "captions" goes before the
    txt, and the txt, or what stands for it, before a json with one "caption" or "text".
    """
    if "img_content" in sample or "img_name" in sample:
        missing = sorted(set(OFFICIAL) - sample.keys())
        fault = f"lacks {', '.join(missing)}" if missing else _no_text(sample["caption"])
        return "img_content", "caption", fault
    image = next((kind for kind in PICTURES if kind in sample), None)
    in_json = captions("json", sample.get("json", b""))
    text = "json"
    if len(in_json) < 2:
        text = next((kind for kind in PLAIN if kind in sample), text)
    lacking = ["an image"] * (image is None) + ["a caption (txt or json)"] * (
        text == "json" and not in_json
    )
    fault = f"lacks {' and '.join(lacking)}" if lacking else _no_text(sample[text])
    return image, text, fault


def joined(samples: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Stems of texts alone, each with the stem of the image alone that it belongs to, as in
    x.image.jpg and x.text.txt; none where a second image or text would do as well.

    samples: the kinds of the members by stem.
    """
    alone: dict[str, list[str]] = defaultdict(list)
    for stem, kinds in samples.items():
        base, _, word = stem.rpartition(".")
        whole = any(kind in PICTURES for kind in kinds) and any(kind in TEXTS for kind in kinds)
        released = not {"img_content", "img_name"}.isdisjoint(kinds)
        if base and word.isalpha() and not whole and not released:
            alone[base].append(stem)
    found = {}
    for stems in alone.values():
        images = [one for one in stems if any(kind in PICTURES for kind in samples[one])]
        if len(stems) == 2 and len(images) == 1:
            found[next(one for one in stems if one != images[0])] = images[0]
    return found


def _no_text(data: bytes) -> str | None:
    """Why the bytes of a caption are none, or None."""
    return "has a pointer of Git LFS for a caption" if data.startswith(files.POINTER) else None


def is_caption(text: str) -> bool:
    """Whether a text says anything: it is neither empty nor one of ABSENT, in any case and between
    any white space.
    """
    return text.strip().lower() not in ABSENT


def captions(kind: str, data: bytes) -> tuple[str, ...]:
    """The captions in a member of that kind: one, or for a json those of its "captions", else of
    its "caption" or "text", each a text or a list of texts; () where none `is_caption`.
    """
    text = spelled(data)
    if kind != "json":
        return (text,) if is_caption(text) else ()
    value = _object(text)
    for key in ("captions", "caption", "text"):
        given = value.get(key)
        if isinstance(given, list):
            given = [one for one in given if isinstance(one, str) and is_caption(one)]
        elif isinstance(given, str) and key != "captions":
            given = [given] if is_caption(given) else []
        else:
            given = []
        if given:
            return tuple(given)
    return ()


def spelled(data: bytes) -> str:
    """A caption's bytes as text, those that no text has replaced."""
    return files.decoded(data) or data.decode("utf-8-sig", "replace")


def name(sample: Mapping[str, object], stem: str) -> str:
    """The file name of a sample's image: its own word for it, else the member's name."""
    if "img_name" in sample:
        return sample["img_name"].decode("utf-8-sig", "replace")
    given = _object(sample.get("json", b"").decode("utf-8-sig", "replace")).get("img_name")
    return given if isinstance(given, str) else f"{stem}.{parts(sample)[0]}"


def _object(text: str) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no json, or nested to break the parser
        return {}
    return value if isinstance(value, dict) else {}
