"""The same latents decoded with every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._validation import check_count, make_random_state, numpy_defaults
from ._axes import (
    bare,
    check_matplotlib,
    class_colors,
    name_categories,
    plot_mosaic,
    stack_categories,
)
from ._columns import Selection
from ._display import DecodedDisplay
from ._latents import check_decoder, check_latent_rows, decode, has_labels
from ._priors import prior_draws


@dataclass(kw_only=True, eq=False, repr=False)
class ConditionalGridDisplay(DecodedDisplay):
    """Picture of the same latents decoded with every label.

    A row of the grid is one value of the latent variables, a column one label. What
    stays along a row is what the latents carry ("style"), what changes is what the
    label decides. Images are drawn in a grid; of tables one panel per column shows the
    decoder's value for each label, with a line for each value of the latents.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    latents : array-like of shape (n_rows, n_components)
        The latent variables of each row of the grid.
    classes : array-like of shape (n_classes,)
        The label of each column of the grid.
    decoded : array-like of shape (n_rows, n_classes, n_features) or (n_rows, \
            n_classes, height, width) or (n_rows, n_classes, height, width, 3)
        What the decoder gives: columns (of categories, their places in ``categories``)
        or an image.
    feature_names : sequence of str or None, default=None
        Names of the columns, None for images.
    categories : sequence or None, default=None
        For each column the values it may have, or None for numbers.

    Attributes
    ----------
    ax_ : matplotlib Axes or None
        The axes that images are in.
    axes_ : ndarray of matplotlib Axes or None
        The panels of columns.
    figure_ : matplotlib Figure
        The figure of these axes.

    Notes
    -----
    The estimator has to have ``classes_``, ``n_components_`` and a method
    ``decode(Z, y)`` that returns a table like the training table: what the decoder
    expects for latents ``Z`` of shape (n_samples, n_components_) and labels ``y`` of
    shape (n_samples,).

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skvae.plotting import ConditionalGridDisplay
    >>> latents, classes = np.array([[-1.0], [1.0]]), ["a", "b", "c"]
    >>> decoded = latents[:, None] + np.arange(3.0)[:, None]
    >>> display = ConditionalGridDisplay(
    ...     latents=latents, classes=classes, decoded=decoded, feature_names=["size"]
    ... ).plot()
    >>> display.axes_[0].get_title()
    'size'
    >>> plt.show()  # doctest: +SKIP
    """

    latents: Any
    classes: Any
    decoded: Any
    feature_names: Sequence[str] | None = None
    categories: Sequence | None = None

    @classmethod
    @numpy_defaults()
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: Any = None,
        features: Any = None,
        n_rows: int = 5,
        latents: Any = None,
        classes: Any = None,
        random_state: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
    ) -> ConditionalGridDisplay:
        """Decode latents with every label and draw what that gives.

        Parameters
        ----------
        estimator : VAEClassifier or another fitted estimator, see Notes of the class
            The model.
        image_shape : tuple of int or None, default=None
            (height, width[, 3]) if columns are pixels of an image; None draws columns.
        features : str, int, sequence of these or None, default=None
            Names or positions of the columns to draw. None takes the first 12.
        n_rows : int, default=5
            Number of values of the latents, drawn from the prior.
        latents : array-like of shape (n_rows, n_components_) or None, default=None
            The latents themselves, such as rows of ``transform``, in place of draws.
        classes : array-like or None, default=None
            The labels. None takes all.
        random_state : int, RandomState instance or None, default=None
            Determines the draws.
        vmin, vmax : float or None, default=None
            White and black pixel values; None leaves out 1% of the pixels at each end.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; None makes a new figure. Columns divide one Axes.

        Returns
        -------
        display : ConditionalGridDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator cannot decode latents with a label.
        ValueError
            If an argument does not fit the model, or the prior is learned and no
            latents are given.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        if not has_labels(estimator):
            raise TypeError(
                f"{caller} needs an estimator with classes, such as VAEClassifier, but "
                f"got {type(estimator).__name__}."
            )
        check_decoder(estimator, caller)
        if latents is None:
            n_rows = check_count(n_rows, "n_rows")
            random_state = make_random_state(random_state)
            latents = prior_draws(estimator, n_rows, random_state)
        else:
            latents = check_latent_rows(estimator, latents, "latents")
        classes = np.atleast_1d(estimator.classes_ if classes is None else classes)
        table = decode(
            estimator,
            np.repeat(latents, len(classes), axis=0),
            np.tile(classes, len(latents)),
        )
        drawn = Selection(estimator, image_shape, features).decoded(table)
        n_cells = len(latents), len(classes)
        display = cls(
            latents=latents,
            classes=classes,
            decoded=drawn.values.reshape(*n_cells, *drawn.values.shape[1:]),
            feature_names=drawn.feature_names,
            categories=drawn.categories,
        )
        return display.plot(ax=ax, vmin=vmin, vmax=vmax)

    def _plot_images(self, ax: Any, vmin: float | None, vmax: float | None) -> Any:
        """Draw a row of images for each value of the latents."""
        ax = plot_mosaic(ax, np.asarray(self.decoded), vmin=vmin, vmax=vmax)
        name_categories(ax.xaxis, self.classes)
        ax.xaxis.tick_top()
        ax.set(yticks=[], ylabel="same latents along a row")
        return ax

    def _plot_column(self, ax: Any, place: int, categories: Sequence | None) -> None:
        """Draw a line over the labels for each value of the latents."""
        heights = np.asarray(self.decoded)[:, :, place]
        for row, color in zip(heights, class_colors(len(heights)), strict=True):
            ax.plot(row, "o-", ms=4, lw=1, color=color)
        name_categories(ax.xaxis, self.classes)
        ax.set_xlim(-0.4, len(self.classes) - 0.6)
        if categories is not None:
            stack_categories(ax, categories)
        bare(ax)
