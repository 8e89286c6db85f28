"""Figures have no ground of their own, and their colours are read on the two grounds of a page."""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from rs5m.book import plots

ROOT = Path(__file__).parents[2]
SITE = (ROOT / "_config.yml").read_text(encoding="utf-8")
GAMMA = {float(value) for value in re.findall(r'type="gamma" exponent="(.*?)"', SITE)}
WHITE, DARK = "#ffffff", "#121212"  # the theme's grounds


def test_a_role_has_one_colour_in_every_figure_and_no_two_share_one():
    first = plots.colours(["general", "tuned", "chance"])
    second = plots.colours(["somebody", "chance", "somebody else", "tuned"])
    assert first["chance"] == second["chance"] and first["tuned"] == second["tuned"]
    assert len(set(second.values())) == 4 and first["general"] in second.values()


def luminance(colour: str, gamma: float = 1) -> float:
    """As WCAG 2 defines it."""
    values = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255) ** gamma
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def contrast(colour: str, ground: str, gamma: float = 1) -> float:
    low, high = sorted((luminance(colour, gamma), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("colour", "least"), [(plots.INK, 4.5), *((colour, 3) for colour in plots.COLOURS)]
)
def test_colours_are_read_on_both_grounds(colour, least):
    assert contrast(colour, WHITE) >= least
    (gamma,) = GAMMA
    assert contrast(colour, DARK, gamma) >= least


def test_the_dark_theme_lifts_figures_by_the_filter_that_each_page_carries():
    style = (ROOT / "book" / "_static" / "rs5m.css").read_text(encoding="utf-8")
    assert 'filter: url("#lifted")' in style and 'id="lifted"' in SITE


def test_a_figure_lets_the_page_shine_through_and_inks_what_was_black():
    with plt.rc_context():
        plots.theme()
        drawn, file = plots.curves({"loss": [3, 2, 1]}, "step", "loss", chance=2), io.BytesIO()
        drawn.savefig(file, facecolor=drawn.get_facecolor())  # as a notebook does
        plt.close(drawn)
    pixels = np.asarray(Image.open(file).convert("RGBA"))
    assert (pixels[..., 3] == 0).mean() > 0.8
    solid = pixels[pixels[..., 3] == 255][:, :3]
    assert solid.min(axis=0).max() > 20, "nothing is black"
    assert (solid == [0x75] * 3).all(axis=1).any()


def test_dark_pictures_are_brightened_for_show_and_others_left_alone():
    dark, light = np.full((2, 2, 3), 30, np.uint8), np.full((2, 2, 3), 90, np.uint8)
    assert plots.lifted(light) is light
    assert abs(int(plots.lifted(dark).mean()) - 64) <= 1
    assert 0 < plots.lifted(np.full((2, 2, 3), 3, np.uint8)).mean() < 64, "not without limit"
    assert plots.lifted(np.zeros((2, 2, 3), np.uint8)).max() == 0
