"""What all pictures share: matplotlib on demand, axes, colours, mosaics of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Dark enough for thin lines, and apart for the colour-blind.
ORANGE, TEAL, VIOLET, GREY = "#d55e00", "#007a87", "#7b3f99", "0.72"

#: Pixels of an image that are missing.
MISSING_PIXEL = (0.97, 0.80, 0.68, 1.0)

#: Classes that have a colour each, at most.
MAX_COLORS = 20

#: Tick labels on an axis of numbers, at most.
MAX_TICKS = 7


def check_matplotlib(caller: str) -> None:
    """Refuse to go on without matplotlib, and say how to get it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib. Install it with `pip install matplotlib`, or "
            "skvae with its pictures: `pip install 'skvae[plot]'`."
        ) from error


def one_axes(
    ax: Any, size: tuple[float, float] | None = None, layout: str = "constrained"
) -> Any:
    """Return ``ax``, or the axes of a new figure of ``size`` inches."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout=layout, figsize=size)
    return ax


def panels(ax: Any, n_panels: int, n_columns: int, size: tuple[float, float]) -> Any:
    """Return axes for panels that fill a grid row by row, (n_panels,).

    If ``ax`` is None they are those of a new figure, whose panels have ``size`` inches;
    one Axes is divided, several are taken as they are.
    """
    import matplotlib.pyplot as plt
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    n_columns = min(n_columns, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    if ax is None:
        figure = plt.figure(
            figsize=(n_columns * size[0], n_rows * size[1]), layout="constrained"
        )
        grid: Any = figure.add_gridspec(n_rows, n_columns)
    elif np.ndim(ax) > 0:
        axes = np.ravel(ax)
        if len(axes) != n_panels:
            raise ValueError(
                f"The picture has {n_panels} panels, but ax holds {len(axes)} axes."
            )
        return axes
    else:
        figure, spec = ax.figure, ax.get_subplotspec()
        if spec is None:
            raise ValueError(
                "ax is not part of a grid, so it cannot be divided: make it "
                f"by plt.subplots, or give {n_panels} axes."
            )
        ax.set_axis_off()
        # without a layout engine, room for titles and labels has to be set aside
        room = {} if figure.get_layout_engine() else {"hspace": 0.8, "wspace": 0.45}
        grid = GridSpecFromSubplotSpec(n_rows, n_columns, subplot_spec=spec, **room)
    return np.array(
        [figure.add_subplot(grid[divmod(k, n_columns)]) for k in range(n_panels)]
    )


def columns_for(n_panels: int) -> int:
    """Return the number of columns in which panels look well."""
    return {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}.get(n_panels, 4)


def bare(ax: Any) -> None:
    """Leave out the frame's upper and right lines."""
    ax.spines[["top", "right"]].set_visible(False)


def name_categories(axis: Any, categories: Sequence) -> None:
    """Put the names of categories where their places are."""
    axis.set_ticks(np.arange(len(categories)), [str(value) for value in categories])


def stack_categories(ax: Any, categories: Sequence) -> None:
    """Make room for categories, one above the other, and name them."""
    name_categories(ax.yaxis, categories)
    ax.set_ylim(-0.4, len(categories) - 0.6)


def class_colors(n_classes: int) -> list:
    """Return one colour per class."""
    import matplotlib as mpl

    if n_classes <= 3:
        return [TEAL, ORANGE, VIOLET][:n_classes]
    if n_classes <= MAX_COLORS:
        colors = mpl.colormaps["tab10" if n_classes <= 10 else "tab20"]
        return list(colors(np.arange(n_classes)))
    return list(mpl.colormaps["turbo"](np.linspace(0, 1, n_classes)))


def plot_mosaic(
    ax: Any,
    images: np.ndarray,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cell: float = 0.75,
) -> Any:
    """Draw rows of images as one picture, with ticks at their centres; return the axes.

    A unit of the axes is an image: the first has its centre at 0.

    Parameters
    ----------
    ax : Axes or None
        Where to draw; None makes a new figure.
    images : ndarray of shape (n_rows, n_columns, height, width[, 3])
        Grey values or red, green and blue; NaN is a missing pixel.
    vmin, vmax : float or None
        White and black, or no light and full light with colours; None takes values
        that leave out 1% of the pixels each.
    cell : float
        Height of an image in a new figure, in inches.
    """
    import matplotlib as mpl

    n_rows, n_columns, height, width = images.shape[:4]
    if ax is None:
        ax = one_axes(None, _mosaic_size(images, cell), "compressed")
    # a decoder may overshoot in single pixels
    extremes = np.nanpercentile(images, [1, 99])
    low = extremes[0] if vmin is None else vmin
    high = extremes[1] if vmax is None else vmax
    light = np.clip((images - low) / (high - low if high > low else 1.0), 0, 1)
    if images.ndim == 4:
        pixels = mpl.colormaps["gray_r"](np.nan_to_num(light))
        missing = np.isnan(images)
    else:
        pixels = np.concatenate([light, np.ones_like(light[..., :1])], -1)
        missing = np.isnan(images).any(-1)
    pixels[missing] = MISSING_PIXEL
    margin = max(1, min(height, width) // 14)
    framed = np.ones((n_rows, n_columns, height + margin, width + margin, 4))
    framed[:, :, :height, :width] = pixels
    canvas = framed.swapaxes(1, 2).reshape(
        n_rows * (height + margin), n_columns * (width + margin), 4
    )
    # shift the gaps by a half: an image's centre is then a whole number
    right = n_columns - 0.5 + margin / 2 / (width + margin)
    bottom = n_rows - 0.5 + margin / 2 / (height + margin)
    ax.imshow(
        canvas,
        extent=(right - n_columns, right, bottom, bottom - n_rows),
        aspect=(height + margin) / (width + margin),
        interpolation="nearest",
    )
    ax.set(xticks=np.arange(n_columns), yticks=np.arange(n_rows))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _mosaic_size(images: np.ndarray, cell: float) -> tuple[float, float]:
    """Return the size of a figure for rows of images, in inches."""
    n_rows, n_columns, height, width = images.shape[:4]
    scale = min(cell, 11 / n_columns, 9 / n_rows)
    return (
        max(3.0, scale * n_columns * min(1.0, width / height) + 1.4),
        max(1.6, scale * n_rows * min(1.0, height / width) + 0.7),
    )


def few(n: int) -> np.ndarray:
    """Return at most ``MAX_TICKS`` places out of ``n``, evenly and with the middle."""
    step = max(1, math.ceil((n - 1) / (MAX_TICKS - 1)))
    return np.arange((n - 1) // 2 % step, n, step)
