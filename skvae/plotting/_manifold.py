"""What the decoder makes of a plane of latent variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._validation import check_count, numpy_defaults
from ._axes import check_matplotlib, class_colors, few, one_axes, plot_mosaic
from ._columns import Selection
from ._latents import check_components, check_decoder, check_start, check_values, decode
from ._priors import move, quantiles


@dataclass(kw_only=True, eq=False, repr=False)
class LatentManifoldDisplay:
    """Picture of a plane of two latent variables, decoded.

    The plane is a grid of prior *quantiles*: each place stands for the same share of
    the prior's probability, so the picture shows what the model generates about as
    often as it generates it. An image is drawn at each place or, for a column of a
    table, its value as a colour.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    values : tuple of two array-like, of shape (n_across,) and (n_up,)
        Latent values along the horizontal and the vertical axis.
    decoded : array-like of shape (n_up, n_across) or (n_up, n_across, height, \
            width) or (n_up, n_across, height, width, 3)
        What the decoder gives at each place: a number, the place of a category in
        ``categories``, or an image.
    components : tuple of int, default=(0, 1)
        Which latent variables the axes are.
    feature_name : str or None, default=None
        Name of the column, None for images.
    categories : sequence or None, default=None
        Values that the column may have, None for numbers and images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the picture is in.
    figure_ : matplotlib Figure
        The figure of these axes.

    See Also
    --------
    LatentScatterDisplay : Where the rows of a table lie in that plane.
    LatentTraversalDisplay : One latent variable at a time.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skvae import VAETransformer
    >>> from skvae.datasets import load_penguins
    >>> from skvae.plotting import LatentManifoldDisplay
    >>> X = load_penguins().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = LatentManifoldDisplay.from_estimator(vae, feature="body_mass_g")
    >>> display.decoded.shape
    (15, 15)
    >>> plt.show()  # doctest: +SKIP
    """

    values: Any
    decoded: Any
    components: Any = (0, 1)
    feature_name: str | None = None
    categories: Sequence | None = None

    @classmethod
    @numpy_defaults()
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: Any = None,
        feature: str | int | None = None,
        components: Any = (0, 1),
        n_steps: int = 15,
        values: Any = None,
        start: Any = None,
        y: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
    ) -> LatentManifoldDisplay:
        """Decode a grid of latents and draw it.

        Parameters
        ----------
        estimator : VAETransformer or another fitted estimator that decodes latents
            The model, with at least two latent variables.
        image_shape : tuple of int or None, default=None
            (height, width[, 3]), if the columns are the pixels of an image.
        feature : str or int or None, default=None
            Name or position of the column to draw. Either this or ``image_shape`` has
            to be given.
        components : tuple of two int, default=(0, 1)
            The latent variables of the horizontal and the vertical axis.
        n_steps : int, default=15
            Places along each axis: the quantiles at (k + 1/2) / n_steps.
        values : pair of array-like or None, default=None
            Latent values along the two axes, in place of prior quantiles.
        start : array-like of shape (n_components_,) or None, default=None
            Latents that give the other components. None takes prior medians.
        y : label or None, default=None
            The label to decode with, for a model of labels.
        vmin, vmax : float or None, default=None
            Ends of the scale of colours or of greys. None takes the extremes
            of a column; of images it leaves out 1% of the pixels at each end.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LatentManifoldDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no latent variables that it can decode.
        ValueError
            If an argument does not fit the model, or the prior has no quantiles.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        check_decoder(estimator, caller)
        if (image_shape is None) == (feature is None):
            raise ValueError(
                "Give either image_shape, for images, or feature, for one column."
            )
        if estimator.n_components_ < 2:
            raise ValueError(
                f"{cls.__name__} needs two latent variables, but the model has one: "
                "use LatentTraversalDisplay."
            )
        components = check_components(components, estimator.n_components_, 2)
        if values is None:
            n_steps = check_count(n_steps, "n_steps", 2)
            probabilities = (np.arange(n_steps) + 0.5) / n_steps
            across, up = quantiles(estimator, components, probabilities)
        else:
            across, up = _check_pair(values)
        if start is None and estimator.n_components_ == 2:
            start = np.zeros(2)  # both are set anyway, even if the prior is learned
        start = check_start(estimator, start)
        plane = np.stack(np.meshgrid(across, up), -1)
        Z = move(estimator, start, components, plane)
        table = decode(estimator, Z.reshape(-1, len(start)), y)
        selection = Selection(estimator, image_shape, [feature])
        drawn = selection.decoded(table)
        display = cls(
            values=(across, up),
            decoded=drawn.values.reshape(*plane.shape[:2], *(selection.shape or ())),
            components=components,
            feature_name=drawn.feature_names[0] if drawn.feature_names else None,
            categories=drawn.categories[0] if drawn.categories else None,
        )
        return display.plot(ax=ax, vmin=vmin, vmax=vmax)

    @numpy_defaults()
    def plot(
        self, ax: Any = None, *, vmin: float | None = None, vmax: float | None = None
    ) -> LatentManifoldDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        vmin, vmax : float or None, default=None
            Ends of the scale of colours or of greys. None takes the extremes
            of a column; of images it leaves out 1% of the pixels at each end.

        Returns
        -------
        display : LatentManifoldDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        # pictures have their first row on top, the vertical axis its low values below
        rows = np.asarray(self.decoded)[::-1]
        if rows.ndim > 2:
            ax = plot_mosaic(ax, rows, vmin=vmin, vmax=vmax, cell=0.4)
        else:
            ax = one_axes(ax, (5.6, 4.6))
            self._plot_colors(ax, rows, vmin, vmax)
        across, up = self.values
        places = few(len(across))
        ax.set_xticks(places, [f"{across[place]:.2g}" for place in places])
        places = few(len(up))
        ax.set_yticks(len(up) - 1 - places, [f"{up[place]:.2g}" for place in places])
        names = [f"latent component {k}" for k in self.components]
        ax.set(xlabel=names[0], ylabel=names[1])
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _plot_colors(
        self, ax: Any, rows: np.ndarray, vmin: float | None, vmax: float | None
    ) -> None:
        """Draw one column as colours."""
        from matplotlib.colors import ListedColormap

        if self.categories is None:
            drawn = ax.imshow(rows, aspect="auto", vmin=vmin, vmax=vmax)
            ax.figure.colorbar(drawn, ax=ax, label=self.feature_name, pad=0.02)
            return
        n = len(self.categories)
        colors = ListedColormap(class_colors(n))
        drawn = ax.imshow(rows, aspect="auto", cmap=colors, vmin=-0.5, vmax=n - 0.5)
        bar = ax.figure.colorbar(drawn, ax=ax, label=self.feature_name, pad=0.02)
        bar.set_ticks(np.arange(n), labels=[str(value) for value in self.categories])
        bar.ax.tick_params(length=0)


def _check_pair(values: Any) -> tuple[np.ndarray, np.ndarray]:
    if len(values) != 2:
        raise ValueError(
            "values must be a pair, the latent values of the horizontal and of the "
            f"vertical axis, but has {len(values)} parts."
        )
    return check_values(values[0]), check_values(values[1])
