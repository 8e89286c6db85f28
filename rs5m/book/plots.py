"""Every figure of the book in one style. Each function draws and returns a matplotlib figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from rs5m import selo

# general model, domain model, a second domain model
BEFORE, AFTER, THIRD = "#8794aa", "#1b6ca8", "#dc753a"
# more models, on the scorecard
COLOURS = (BEFORE, AFTER, THIRD, "#3a8f5c", "#8e5ea2", "#b18b16", "#b23a48", "#6b6b6b")
ROLES = {  # what has one colour in every figure; anything else takes what is left of COLOURS
    "general": COLOURS[0],
    "CLIP": COLOURS[0],
    "tuned": COLOURS[1],
    "tuned, three seeds": COLOURS[1],
    "tuned on pub11+rs3": COLOURS[1],
    "GeoRSCLIP": COLOURS[1],
    "colour": COLOURS[2],
    "six colour numbers, same captions": COLOURS[2],
    "labels": COLOURS[3],
    "linear probe of the general model, labels": COLOURS[3],
    "not tuned": COLOURS[3],
    "RemoteCLIP": COLOURS[4],
    "six colour numbers, labels": COLOURS[5],
    "tuned on ucm": COLOURS[6],
    "chance": COLOURS[7],
}
COVERS = {  # of the pocket world's land covers; any other takes one of the book's colours
    "open water": "#2b5f9e",
    "evergreen needleleaf forest": "#0b4f3c",
    "evergreen broadleaf forest": "#13854e",
    "deciduous needleleaf forest": "#5f8f3e",
    "deciduous broadleaf forest": "#7fb069",
    "mixed forest": "#4a7c59",
    "closed shrubland": "#8a6d3b",
    "open shrubland": "#b7a57a",
    "woody savanna": "#8e5ea2",
    "savanna": "#d9b310",
    "grassland": "#a4d65e",
    "permanent wetland": "#3fa7a0",
    "cropland": "#e07a3f",
    "cropland and natural vegetation mosaic": "#eab08a",
    "urban area": "#c1121f",
    "barren desert": "#e9d8a6",
    "snow and ice": "#9bd3e6",
}
INK = "#757575"  # of text, axes and what is black on paper: read on white and on the dark theme


def colours(names: Sequence[str]) -> dict[str, str]:
    """name -> its colour, in every figure the same where `ROLES` has it."""
    fixed = {name: ROLES[name] for name in names if name in ROLES}
    left = [colour for colour in COLOURS if colour not in fixed.values()]
    return dict(zip([name for name in names if name not in fixed], left, strict=False)) | fixed


def theme() -> None:
    """The book's look: seaborn's whitegrid, text that stays readable on a phone, no ground of its
    own: a page, light or dark, shines through.
    """
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    clear = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc=dict.fromkeys(inked, INK)
        | dict.fromkeys(clear, "none")
        | {"figure.dpi": 110, "axes.titlesize": 11, "font.size": 11}
        | {"grid.color": INK, "grid.alpha": 0.25, "axes.linewidth": 0.8}
        | {"patch.force_edgecolor": False},
    )


def lifted(image: np.ndarray, level: int = 64) -> np.ndarray:
    """A picture uint8 whose mean is below the level, brightened towards it (a gamma of 0.4 at
    least), so that forests and water are not black squares; any other as it is.
    """
    mean = max(float(image.mean()), 1) / 255
    if image.dtype != np.uint8 or mean >= level / 255:
        return image
    gamma = max(0.4, np.log(level / 255) / np.log(mean))
    return (255 * (image / 255) ** gamma).round().astype(np.uint8)


def chip_grid(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 6, lift: bool = True
) -> plt.Figure:
    """Images in a grid, each under its title.

    Args:
        images: (h, w, 3).
        titles: one for each; they wrap at 18 letters, earlier where pictures are narrow.
        columns: of the grid.
        lift: dark ones are `lifted`; not where their brightness is what is compared.
    """
    rows = -(-len(images) // columns)
    side = min(1.6, 7.5 / columns)  # inches: a wider figure is made small, its titles too
    size = (side * columns, (side + 0.8) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        shown = lifted(np.asarray(image)) if lift else image
        axis.imshow(shown, interpolation="nearest")
        axis.set_title(wrap(title, min(18, int(13 * side))), fontsize=9)
    figure.tight_layout()
    return figure


def wrap(text: str, width: int = 18) -> str:
    """The text broken between words so that no line is much longer than `width`."""
    import textwrap

    lines = textwrap.wrap(text, width, break_long_words=False, max_lines=4, placeholder=" …")
    return "\n".join(lines)


def matrix(
    values, rows: Sequence[str], columns: Sequence[str], label: str, digits=0, signed=False
) -> plt.Figure:
    """A table of numbers as a heat map.

    Args:
        values: (rows, columns).
        rows, columns: their names.
        label: of the colour bar.
        digits: after the point, in the cells.
        signed: changes, red below zero and blue above.
    """
    figure, axis = plt.subplots(figsize=(2.2 + 0.55 * len(columns), 1.6 + 0.42 * len(rows)))
    colours = {"cmap": "RdBu", "center": 0} if signed else {"cmap": "Blues"}
    sns.heatmap(
        values,
        annot=True,
        fmt=f".{digits}f",
        **colours,
        cbar_kws={"label": label},
        ax=axis,
        xticklabels=columns,
        yticklabels=rows,
        annot_kws={"size": 8},
    )
    axis.tick_params(axis="x", rotation=60)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    figure.tight_layout()
    return figure


def curves(
    series: dict[str, Sequence[float]], x: str, y: str, chance: float | None = None
) -> plt.Figure:
    """Lines over their index, smoothed over a twentieth of their length.

    Args:
        series: up to three lines by name.
        x, y: labels of the axes.
        chance: the level of chance, a dotted line; None: not drawn.
    """
    figure, axis = plt.subplots(figsize=(7, 3.4))
    for (name, values), colour in zip(series.items(), (AFTER, THIRD, BEFORE), strict=False):
        width = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        axis.plot(values, color=colour, alpha=0.25)
        axis.plot(np.arange(len(smooth)) + (width - 1) / 2, smooth, color=colour, label=name)
    if chance is not None:
        axis.axhline(chance, color=INK, linestyle=":", label="chance")
    axis.set(xlabel=x, ylabel=y)
    axis.legend()
    figure.tight_layout()
    return figure


def bars(values: dict[str, Sequence[float]], labels: Sequence[str], x: str) -> plt.Figure:
    """Horizontal bars, one group for each label and one colour for each key of `values`."""
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.5 * len(labels)))
    height = 0.8 / len(values)
    for i, ((name, lengths), colour) in enumerate(
        zip(values.items(), (BEFORE, AFTER, THIRD), strict=False)
    ):
        axis.barh(np.arange(len(labels)) + i * height, lengths, height, label=name, color=colour)
    axis.set_yticks(np.arange(len(labels)) + height * (len(values) - 1) / 2, labels)
    axis.invert_yaxis()
    axis.set_xlabel(x)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(values), frameon=False)
    figure.tight_layout()
    return figure


def intervals(
    rows: Sequence[tuple[str, str, float, float, float]], x: str, limits=(0, 100)
) -> plt.Figure:
    """Points with their confidence intervals: rows of (line, model, value, low, high); one colour
    for each model.

    limits: of the x axis; None: what the points need, and zero.
    """
    lines, models = list(dict.fromkeys(r[0] for r in rows)), list(dict.fromkeys(r[1] for r in rows))
    colour = colours(models)
    columns = len(models) if len(models) < 5 else 2  # of the legend
    below = 0.25 * (-(-len(models) // columns) - 1)  # inches that further rows of it take
    many = max(0, len(models) - 5)
    step, height = min(0.16, 0.8 / len(models)), 0.7 + 0.12 * many
    figure, axis = plt.subplots(figsize=(7.5, 1.3 + below + height * len(lines)))
    for line, model, value, low, high in rows:
        y = lines.index(line) + step * (models.index(model) - (len(models) - 1) / 2)
        error = [[max(value - low, 0)], [max(high - value, 0)]]
        axis.errorbar(value, y, xerr=error, fmt="o", color=colour[model], capsize=3, label=model)
    axis.set_yticks(range(len(lines)), lines)
    axis.set_ylim(len(lines) - 0.5, -0.5)
    if limits is None:
        axis.axvline(0, color=INK, linestyle=":", linewidth=1)
    axis.set(xlabel=x, xlim=limits)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=columns, frameon=False
    )
    figure.tight_layout(rect=(0, 0.08 + below / figure.get_figheight(), 1, 1))
    return figure


def heat_map(
    image: np.ndarray, probability_map=None, regions: Sequence = (), title: str = "", axis=None
):
    """Draw an image, or a heat map over its grey, with the polygons' outlines and the attention
    centres; the axis. Chapter: selo.

    Args:
        image: uint8 (h, w, 3).
        probability_map: uint8 (h, w), or None.
        regions: polygons of (x, y).
        title: above it.
        axis: where to draw; None: a figure of its own.
    """
    height, width = image.shape[:2]
    axis = axis or plt.subplots(figsize=(7.5, 7.5 * height / width))[1]
    # more pixels than a screen shows take seconds to draw
    every, box = max(1, width // 900), (0, width, height, 0)
    small = image[::every, ::every]
    if probability_map is None:
        axis.imshow(small, extent=box)
    else:
        # grey: the colours are the map's own
        axis.imshow(small.mean(2), extent=box, cmap="gray", vmin=0, vmax=255)
        axis.imshow(
            probability_map[::every, ::every],
            extent=box,
            cmap="inferno",
            alpha=0.65,
            vmin=0,
            vmax=255,
        )
        for x, y in selo.attention_centres(probability_map):
            axis.plot(x, y, "*", color="cyan", markeredgecolor=INK, markersize=13)
    for region in regions:
        axis.add_patch(
            plt.Polygon(np.asarray(region), fill=False, edgecolor="white", linewidth=1.6)
        )
    axis.set_title(wrap(title, 40), fontsize=9)
    axis.set(xticks=[], yticks=[], xlim=box[:2], ylim=box[2:])
    return axis
