"""One latent variable at a time, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.stats

from .._validation import check_count, numpy_defaults
from ._axes import (
    bare,
    check_matplotlib,
    class_colors,
    columns_for,
    few,
    name_categories,
    plot_mosaic,
    stack_categories,
)
from ._columns import Selection
from ._display import DecodedDisplay
from ._latents import check_components, check_decoder, check_start, check_values, decode
from ._priors import move, quantiles

#: A traversal goes as far as a standard normal's value of this size is unusual.
REACH = 2.5

#: Latent variables that are drawn if none are chosen, at most.
MAX_COMPONENTS = 8


@dataclass(kw_only=True, eq=False, repr=False)
class LatentTraversalDisplay(DecodedDisplay):
    """Picture of what each latent variable does to a row.

    One latent variable after the other runs from a low to a high quantile of its
    prior, while the others stay where they are. Of images each step is drawn; of
    tables one panel per column shows the decoder's value as a function of the latent
    variable.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    components : tuple of int
        The latent variables that move.
    values : array-like of shape (n_moved, n_steps)
        Their values.
    decoded : array-like of shape (n_moved, n_steps, n_features) or (n_moved, \
            n_steps, height, width) or (n_moved, n_steps, height, width, 3)
        What the decoder gives at each step: columns (of categories, their places in
        ``categories``) or an image.
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

    See Also
    --------
    LatentManifoldDisplay : Two latent variables at a time.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> from skvae.plotting import LatentTraversalDisplay
    >>> X = load_iris(as_frame=True).data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = LatentTraversalDisplay.from_estimator(vae)
    >>> display.decoded.shape
    (2, 11, 4)
    >>> plt.show()  # doctest: +SKIP
    """

    components: Any
    values: Any
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
        components: Any = None,
        n_steps: int = 11,
        values: Any = None,
        start: Any = None,
        y: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
    ) -> LatentTraversalDisplay:
        """Decode paths along single latent variables and draw them.

        Parameters
        ----------
        estimator : VAETransformer or another fitted estimator that decodes latents
            The model.
        image_shape : tuple of int or None, default=None
            (height, width[, 3]) if columns are pixels of an image; None draws columns.
        features : str, int, sequence of these or None, default=None
            Names or positions of the columns to draw. None takes the first 12.
        components : int, sequence of int or None, default=None
            The latent variables that move. None takes those that change the decoder's
            output most, at most 8, the strongest first.
        n_steps : int, default=11
            Steps of each path: prior quantiles that would be evenly spread over
            (-2.5, 2.5) for a normal prior.
        values : array-like of shape (n_steps,) or None, default=None
            Latent values of the steps, in place of prior quantiles.
        start : array-like of shape (n_components_,) or None, default=None
            Where the others stay, such as a row of ``transform``. None takes the
            prior medians.
        y : label or None, default=None
            The label to decode with, for a model of labels.
        vmin, vmax : float or None, default=None
            White and black pixel values; None leaves out 1% of the pixels at each end.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; None makes a new figure. Columns divide one Axes.

        Returns
        -------
        display : LatentTraversalDisplay
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
        n = estimator.n_components_
        start = check_start(estimator, start)
        chosen = check_components(range(n) if components is None else components, n)
        selection = Selection(estimator, image_shape, features)
        if values is None:
            n_steps = check_count(n_steps, "n_steps", 2)
            steps = scipy.stats.norm.cdf(np.linspace(-REACH, REACH, n_steps))
            # each alone: the paths do not depend on each other
            values = [quantiles(estimator, (k,), steps)[0] for k in chosen]
        else:
            values = [check_values(values)] * len(chosen)
        Z = [
            move(estimator, start, (k,), v[:, None])
            for k, v in zip(chosen, values, strict=True)
        ]
        drawn = selection.decoded(decode(estimator, np.concatenate(Z), y))
        values = np.array(values)
        decoded = drawn.values.reshape(*values.shape, *drawn.values.shape[1:])
        if components is None:
            order = _strongest(decoded, is_image=selection.shape is not None)
            strongest = order[:MAX_COMPONENTS]
            chosen = tuple(int(chosen[k]) for k in strongest)
            values, decoded = values[strongest], decoded[strongest]
        display = cls(
            components=chosen,
            values=values,
            decoded=decoded,
            feature_names=drawn.feature_names,
            categories=drawn.categories,
        )
        return display.plot(ax=ax, vmin=vmin, vmax=vmax)

    @numpy_defaults()
    def plot(
        self, ax: Any = None, *, vmin: float | None = None, vmax: float | None = None
    ) -> Self:
        super().plot(ax, vmin=vmin, vmax=vmax)
        if self.axes_ is not None:
            n_panels = len(self.axes_)
            right_end = self.axes_[min(columns_for(n_panels), n_panels) - 1]
            right_end.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return self

    plot.__doc__ = DecodedDisplay.plot.__doc__

    def _plot_images(self, ax: Any, vmin: float | None, vmax: float | None) -> Any:
        """Draw a row of images for each latent variable."""
        values = np.asarray(self.values)
        ax = plot_mosaic(ax, np.asarray(self.decoded), vmin=vmin, vmax=vmax)
        name_categories(ax.yaxis, [f"component {k}" for k in self.components])
        if (values == values[0]).all():
            places = few(values.shape[1])
            ax.set_xticks(places, [f"{values[0, place]:.2g}" for place in places])
            ax.set_xlabel("value of the latent component")
        else:  # priors that differ
            ax.set(xticks=[], xlabel="latent component, from low to high")
        return ax

    def _plot_column(self, ax: Any, place: int, categories: Sequence | None) -> None:
        """Draw a line for each latent variable."""
        heights = np.asarray(self.decoded)[:, :, place]
        colors = class_colors(len(self.components))
        for k, component in enumerate(self.components):
            ax.plot(
                self.values[k],
                heights[k],
                color=colors[k],
                lw=1.8,
                drawstyle="default" if categories is None else "steps-mid",
                label=f"component {component}",
            )
        if categories is not None:
            stack_categories(ax, categories)
        ax.set_xlabel("latent value")
        bare(ax)


def _strongest(decoded: np.ndarray, *, is_image: bool) -> np.ndarray:
    """Return the order of the paths by how much the decoder's output changes."""
    change = decoded.var(1)  # (n_moved, features or pixels)
    if not is_image:  # columns have units of their own
        scale = decoded.var((0, 1))
        change = change / np.where(scale > 0, scale, 1)
    # a column that training has not seen has no values to change
    total = np.nan_to_num(change).reshape(len(decoded), -1).sum(1)
    return np.argsort(-total, kind="stable")
