"""Pictures of images in one mosaic, or of columns in a panel each."""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._axes import check_matplotlib, columns_for, panels


def plot_mosaic_or_panels(
    display: Any,
    ax: Any,
    plot_images: Callable[[Any], Any],
    plot_column: Callable[[Any, int, Sequence | None], None],
    size: tuple[float, float],
) -> tuple[Any, np.ndarray | None, Any]:
    """Draw a display: images if its columns have no names, else the columns.

    Parameters
    ----------
    display : display
        Its ``feature_names`` and ``categories`` are read.
    ax : Axes, sequence of Axes or None
        Where to draw; None makes a new figure.
    plot_images : callable
        Draws a mosaic on ``ax`` and returns its axes.
    plot_column : callable
        Draws a column into a panel, given the panel, the position of the column
        among the drawn ones and its categories (None for numbers).
    size : (float, float)
        Width and height of a panel of a new figure, in inches.

    Returns
    -------
    ax_ : Axes or None
        The axes of the images.
    axes_ : ndarray of Axes or None
        The panels of the columns.
    figure_ : Figure
        The figure of these axes.
    """
    check_matplotlib(f"{type(display).__name__}.plot")
    names = display.feature_names
    if names is None:
        ax = plot_images(ax)
        return ax, None, ax.figure
    axes = panels(ax, len(names), columns_for(len(names)), size)
    for k, (panel, name) in enumerate(zip(axes, names, strict=True)):
        categories = None if display.categories is None else display.categories[k]
        plot_column(panel, k, categories)
        panel.set_title(name)
    return None, axes, axes[0].figure
