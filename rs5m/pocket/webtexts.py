"""What the pages of the pocket web say: an alt-text for each pair, and the source it is from.
Chapter: pub11.
"""

import tomllib
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from rs5m import keywords
from rs5m.pocket.world import CHIP, COVER, class_names, land_cover

UNLISTED = 0.02  # of the views, texts that speak of the sky without any listed keyword
MISLEADING = 0.15  # of the ground photos, texts that promise a view from above


@cache
def words() -> dict:
    """The shares of the sources and the phrases."""
    return tomllib.loads((files("rs5m.pocket") / "webtexts.toml").read_text(encoding="utf-8"))


def _places(pictures: pd.DataFrame) -> list[dict]:
    """Words about the place of each picture: its nearest city, country, state and majority land
    cover.
    """
    import reverse_geocode  # builds its tree at first use

    x, y = pictures.x + pictures.side / 2, pictures.y + pictures.side / 2
    places = reverse_geocode.search(list(zip(90 - y / CHIP, x / CHIP - 180, strict=True)))
    names, scale, cover = class_names(), COVER / CHIP, land_cover()
    found = []
    for place, left, top, side in zip(places, pictures.x, pictures.y, pictures.side, strict=True):
        box = [int(v * scale) for v in (top, top + max(side, 1), left, left + max(side, 1))]
        code = np.bincount(cover[box[0] : box[1] + 1, box[2] : box[3] + 1].ravel(), minlength=17)[
            :17
        ].argmax()
        state = place.get("state") or place["country"]
        found.append(
            {
                "city": place["city"],
                "country": place["country"],
                "state": state,
                "name": names[code],
            }
        )
    return found


def alt_texts(
    pairs: pd.DataFrame, pictures: pd.DataFrame, generator: np.random.Generator
) -> list[str]:
    """One alt-text per pair; sets the truth column text_is_remote_sensing. An ordinary text holds
    no keyword.
    """
    phrases, places, texts, about = words()["texts"], _places(pictures), [], []
    shown = [p for p, kind in zip(places, pictures.kind, strict=True) if kind == "satellite"]
    luck = generator.random(len(pairs))
    for role, kind, picture, chance in zip(
        pairs.role, pairs.kind, pairs.picture, luck, strict=True
    ):
        key = (
            role if role in phrases else {"satellite": "view", "photo": "photo"}.get(kind, "drawn")
        )
        key = {"photo": "misleading" if chance < MISLEADING else "trap"}.get(key, key)
        key = "unlisted" if key == "view" and role == "view" and chance < UNLISTED else key
        key = "lettering" if kind in ("banner", "gradient") else key
        place = places[picture] if kind == "satellite" else shown[generator.integers(len(shown))]
        fields = {
            w: phrases[w][generator.integers(len(phrases[w]))] for w in ("adjective", "thing")
        }
        fields |= place | {
            "other": phrases["thing"][generator.integers(22)],
            "number": generator.integers(1, 9999),
        }
        texts.append(phrases[key][generator.integers(len(phrases[key]))].format(**fields))
        about.append(key in ("view", "unlisted", "misleading", "drawn"))
    pairs["text_is_remote_sensing"] = about
    ordinary = (pairs.role == "ordinary").to_numpy()
    return np.where(ordinary & keywords.matches(texts), "a small house", texts).tolist()


def sources(role: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A collection for each page (n,), drawn by the shares that each has of the page's role."""
    shares = dict(words()["sources"])
    roles, names = shares.pop("roles"), list(shares)
    table = np.array([shares[name] for name in names]).T.cumsum(1)
    where = np.array([roles.index(r) for r in role])
    return np.array(names)[
        (generator.random(len(role))[:, None] > table[where] / table[where, -1:]).sum(1)
    ]
