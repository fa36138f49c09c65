"""Rows as points in the plane of two latent variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from .._tables.values import is_missing
from .._validation import numpy_defaults
from ._axes import GREY, MAX_COLORS, bare, check_matplotlib, class_colors, one_axes
from ._latents import check_components, check_latents


@dataclass(kw_only=True, eq=False, repr=False)
class LatentScatterDisplay:
    """Scatter of the rows of a table over two latent variables, coloured by ``y``.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    latents : array-like of shape (n_samples, 2)
        Two latent variables of every row.
    y : array-like of shape (n_samples,) or None, default=None
        Labels or numbers that give the colours. Rows without one are grey.
    components : tuple of int, default=(0, 1)
        Which latent variables they are.

    Attributes
    ----------
    classes_ : ndarray or None
        The labels in the order of the legend; None for numbers and without ``y``.
    ax_ : matplotlib Axes
        The axes that the picture is in.
    figure_ : matplotlib Figure
        The figure of these axes.

    See Also
    --------
    LatentManifoldDisplay : What the decoder makes of every place of that plane.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> from skvae.plotting import LatentScatterDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = LatentScatterDisplay.from_estimator(vae, X, y)
    >>> display.latents.shape
    (150, 2)
    >>> plt.show()  # doctest: +SKIP
    """

    latents: Any
    y: Any = None
    components: Any = (0, 1)

    @classmethod
    @numpy_defaults()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        components: Any = (0, 1),
        ax: Any = None,
    ) -> LatentScatterDisplay:
        """Draw the latents of a table.

        Parameters
        ----------
        estimator : VAETransformer or another fitted transformer
            Its ``transform`` gives the latents.
        X : array-like or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,) or None, default=None
            Labels or numbers that give the colours. Text, booleans and up to 20
            different whole numbers are labels.
        components : tuple of two int, default=(0, 1)
            The latent variables of the horizontal and the vertical axis.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LatentScatterDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no latent variables.
        ValueError
            If there are no such components, or ``y`` has another length than X.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        check_latents(estimator, caller)
        Z = np.asarray(estimator.transform(X))
        components = check_components(components, Z.shape[1], 2)
        if y is not None:
            y = _as_array(y)
            if y.shape != (len(Z),):
                raise ValueError(
                    f"y must have the shape ({len(Z)},), one value for each row of X, "
                    f"but has the shape {y.shape}."
                )
        display = cls(latents=Z[:, list(components)], y=y, components=components)
        return display.plot(ax=ax)

    @numpy_defaults()
    def plot(self, ax: Any = None) -> LatentScatterDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LatentScatterDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        ax = one_axes(ax, (6.2, 4.8))
        Z = np.asarray(self.latents)
        style: dict[str, Any] = {
            "s": float(np.clip(12_000 / max(1, len(Z)), 3, 22)),
            "alpha": 0.75,
            "lw": 0,
        }
        self.classes_: np.ndarray | None = None
        if self.y is None:
            ax.scatter(*Z.T, color=GREY, **style)
        else:
            self._plot_colored(ax, Z, style)
        names = [f"latent component {k}" for k in self.components]
        ax.set(xlabel=names[0], ylabel=names[1])
        bare(ax)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _plot_colored(self, ax: Any, Z: np.ndarray, style: dict) -> None:
        """Draw classes in colours of their own, or numbers on a scale of colours."""
        y = np.asarray(self.y)
        known = np.array([not is_missing(value) for value in y], dtype=bool)
        if not known.all():
            ax.scatter(*Z[~known].T, color=GREY, **style, label="unknown")
        labels = y[known]
        if _are_numbers(labels):
            drawn = ax.scatter(*Z[known].T, c=labels.astype(float), **style)
            ax.figure.colorbar(drawn, ax=ax, label="y", pad=0.02)
            return
        classes = sorted(set(labels.tolist()), key=_order)
        self.classes_ = _as_objects(classes)
        for value, color in zip(classes, class_colors(len(classes)), strict=True):
            label = f"{value:g}" if isinstance(value, float) else str(value)
            points = Z[known][labels == value]
            ax.scatter(*points.T, color=color, **style, label=label)
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        legend = ax.legend(frameon=False, **place, handletextpad=0.1, borderaxespad=0)
        for handle in legend.legend_handles:
            handle.set(sizes=[30], alpha=1)


def _as_array(y: Any) -> np.ndarray:
    """Return labels as objects or numbers as floats, whatever holds them."""
    y = nw.from_native(y, series_only=True, pass_through=True)
    if not isinstance(y, nw.Series):
        return np.asarray(y)
    cells = _as_objects(y.to_list())
    known = [cell for cell in cells if not is_missing(cell)]
    if any(isinstance(c, bool) or not isinstance(c, int | float) for c in known):
        return cells
    if len(known) == len(cells) and all(isinstance(c, int) for c in known):
        return cells.astype(int)
    cells[[is_missing(cell) for cell in cells]] = np.nan
    return cells.astype(float)


def _as_objects(values: list) -> np.ndarray:
    """Return an array that leaves numbers and text as they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _are_numbers(labels: np.ndarray) -> bool:
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        return True
    return labels.dtype.kind in "fiu" and len(np.unique(labels)) > MAX_COLORS


def _order(label: Any) -> tuple:
    """Sort numbers by value, ahead of text."""
    number = isinstance(label, int | float)
    return (not number, label if number else 0, str(label))
