"""Rows beside what encoder and decoder make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._tables.libraries import take_rows
from .._validation import numpy_defaults
from ._axes import GREY, TEAL, bare, check_matplotlib, name_categories, plot_mosaic
from ._columns import Selection, check_rows
from ._display import DecodedDisplay
from ._latents import check_decoder, check_latents, decode, has_labels

#: Images that are drawn if no rows are chosen, at most.
MAX_IMAGES = 10

#: Categories whose shares are written into the picture, at most.
MAX_WRITTEN = 6


@dataclass(kw_only=True, eq=False, repr=False)
class ReconstructionDisplay(DecodedDisplay):
    """Picture of rows and their reconstructions.

    A reconstruction is what the decoder expects at the posterior mean of a row's
    latents. Images are drawn one above the other. Columns of numbers are drawn as
    points, the reconstruction over the original; columns of categories as a table of
    shares: what became of each original category.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    original, reconstructed : array-like of shape (n_rows, n_features) or (n_rows, \
            height, width) or (n_rows, height, width, 3)
        Columns (of categories, their places in ``categories``) or images. Missing
        cells are NaN.
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

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skvae import VAETransformer
    >>> from skvae.datasets import load_penguins
    >>> from skvae.plotting import ReconstructionDisplay
    >>> X = load_penguins().data
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(vae, X, features=["sex"])
    >>> display.reconstructed.shape
    (344, 1)
    >>> plt.show()  # doctest: +SKIP
    """

    _panel_size = (3.0, 2.8)

    original: Any
    reconstructed: Any
    feature_names: Sequence[str] | None = None
    categories: Sequence | None = None

    @classmethod
    @numpy_defaults()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        image_shape: Any = None,
        features: Any = None,
        rows: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
    ) -> ReconstructionDisplay:
        """Reconstruct rows and draw them beside the originals.

        Parameters
        ----------
        estimator : VAETransformer or another fitted estimator that decodes latents
            The model. One of labels reconstructs with the label that it predicts.
        X : array-like or data frame of shape (n_samples, n_features)
            The rows, best some that the model was not trained on.
        image_shape : tuple of int or None, default=None
            (height, width[, 3]) if columns are pixels of an image; None draws columns.
        features : str, int, sequence of these or None, default=None
            Names or positions of the columns to draw. None takes the first 12.
        rows : array-like of int or None, default=None
            Positions of the rows to draw. None takes the first 10 images, or all rows
            of other tables.
        vmin, vmax : float or None, default=None
            White and black pixel values; None leaves out 1% of the pixels at each end.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; None makes a new figure. Columns divide one Axes.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no latent variables that it can decode.
        ValueError
            If an argument does not fit the model or the table.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        check_decoder(estimator, caller)
        check_latents(estimator, caller)
        selection = Selection(estimator, image_shape, features)
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if rows is not None:
            X = take_rows(X, check_rows(rows, n_rows))
        elif selection.shape is not None and n_rows > MAX_IMAGES:
            X = take_rows(X, np.arange(MAX_IMAGES))
        labels = estimator.predict(X) if has_labels(estimator) else None
        table = decode(estimator, np.asarray(estimator.transform(X)), labels)
        given = selection.read(X)
        display = cls(
            original=given.values,
            # places mean the same in both: categories that only X has come last
            reconstructed=selection.decoded(table).values,
            feature_names=given.feature_names,
            categories=given.categories,
        )
        return display.plot(ax=ax, vmin=vmin, vmax=vmax)

    def _plot_images(self, ax: Any, vmin: float | None, vmax: float | None) -> Any:
        """Draw the reconstructions below the originals."""
        images = np.stack([np.asarray(self.original), np.asarray(self.reconstructed)])
        ax = plot_mosaic(ax, images, vmin=vmin, vmax=vmax, cell=0.9)
        ax.set(xticks=[], yticks=[0, 1], yticklabels=["original", "reconstruction"])
        return ax

    def _plot_column(self, ax: Any, place: int, categories: Sequence | None) -> None:
        """Draw the reconstruction of a column over the original."""
        original = np.asarray(self.original)[:, place]
        reconstructed = np.asarray(self.reconstructed)[:, place]
        if categories is None:
            _plot_numbers(ax, original, reconstructed)
        else:
            _plot_shares(ax, original, reconstructed, categories)
        ax.set(xlabel="original", ylabel="reconstruction")


def _plot_numbers(ax: Any, original: np.ndarray, reconstructed: np.ndarray) -> None:
    """Draw points, and the line on which reconstructions are perfect."""
    known = np.isfinite(original)
    if known.any():
        ends = [original[known].min(), original[known].max()]
        ax.plot(ends, ends, color=GREY, lw=1, zorder=0)
    ax.scatter(original[known], reconstructed[known], s=10, color=TEAL, alpha=0.6, lw=0)
    bare(ax)


def _plot_shares(
    ax: Any, original: np.ndarray, reconstructed: np.ndarray, categories: Sequence
) -> None:
    """Draw, for every original category, the shares of what became of it."""
    n = len(categories)
    known = np.isfinite(original) & np.isfinite(reconstructed)
    counts = np.zeros((n, n))
    places = np.stack([reconstructed, original])[:, known].astype(int)
    np.add.at(counts, tuple(places), 1)
    totals = counts.sum(0)
    shares = counts / np.where(totals > 0, totals, 1)
    # the first category is below, as on the axis of numbers
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
    if n <= MAX_WRITTEN:
        for (up, across), share in np.ndenumerate(shares):
            if totals[across]:
                color = "white" if share > 0.5 else "black"
                ax.text(
                    across, up, f"{share:.0%}", color=color, ha="center", va="center"
                )
    name_categories(ax.xaxis, categories)
    name_categories(ax.yaxis, categories)
    ax.tick_params(length=0)
    if max(len(str(value)) for value in categories) * n > 24:
        ax.tick_params(axis="x", labelrotation=30)
