"""Base class of displays of images in one mosaic, or of columns in a panel each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from .._validation import numpy_defaults
from ._axes import check_matplotlib, columns_for, panels


class DecodedDisplay(ABC):
    """Display of decoded rows: one mosaic of images, or a panel for each column."""

    #: Width and height of a panel of a new figure, in inches.
    _panel_size: ClassVar[tuple[float, float]] = (3.2, 2.5)

    feature_names: Sequence[str] | None
    categories: Sequence | None

    @numpy_defaults()
    def plot(
        self, ax: Any = None, *, vmin: float | None = None, vmax: float | None = None
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; None makes a new figure. Columns divide one Axes.
        vmin, vmax : float or None, default=None
            White and black pixel values; None leaves out 1% of the pixels at each end.

        Returns
        -------
        display : display
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the number of axes is wrong.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        names = self.feature_names
        self.ax_ = self.axes_ = None
        if names is None:
            self.ax_ = self._plot_images(ax, vmin, vmax)
            self.figure_ = self.ax_.figure
            return self
        self.axes_ = panels(ax, len(names), columns_for(len(names)), self._panel_size)
        for k, (panel, name) in enumerate(zip(self.axes_, names, strict=True)):
            self._plot_column(
                panel, k, None if self.categories is None else self.categories[k]
            )
            panel.set_title(name)
        self.figure_ = self.axes_[0].figure
        return self

    @abstractmethod
    def _plot_images(self, ax: Any, vmin: float | None, vmax: float | None) -> Any:
        """Draw a mosaic on ``ax`` and return its axes."""

    @abstractmethod
    def _plot_column(self, ax: Any, place: int, categories: Sequence | None) -> None:
        """Draw a column; ``categories`` is None for numbers."""
