"""Imputed cells of a column beside the observed ones, and intervals of single cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._estimators.imputer import VAEImputer
from .._imputation.scales import is_number
from .._tables.columns import Column
from .._tables.libraries import library_of, open_table, take_rows
from .._tables.missing import replace_marker
from .._tables.values import is_missing
from .._validation import numpy_defaults
from ._axes import GREY, ORANGE, TEAL, bare, check_matplotlib, name_categories, one_axes
from ._columns import (
    categories_of,
    check_rows,
    columns_of,
    places_of,
    position_of,
    read,
    values_of,
)
from ._priors import given

KINDS = ("distribution", "intervals")

#: Intervals that are drawn if no rows are chosen.
DEFAULT_ROWS = 20

#: Bars of a histogram, at most. Whole numbers get one each if that is enough for them.
MAX_BINS = 40

OBSERVED, IMPUTED, TRUTH = GREY, ORANGE, TEAL


@dataclass(kw_only=True, eq=False, repr=False)
class ImputationDisplay:
    """Picture of the imputed cells of one column.

    There are two kinds. "distribution" compares all observed cells of the column with
    draws of its missing ones: a histogram of numbers and counts, shares of categories
    and booleans. The two may differ, and should where the rows with missing cells are
    unlike the others. "intervals" shows point estimates and prediction intervals of
    single missing cells.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    feature_name : str
        Name of the column.
    observed : array-like of shape (n_observed,)
        Values of the observed cells.
    imputed : array-like of shape (n_draws, n_missing)
        Draws of the missing cells.
    categories : sequence or None, default=None
        Values that the column may have, in the order in which they are shown, or None
        for numbers.
    rows : array-like of int of shape (n_intervals,) or None, default=None
        Rows of the table whose cells have intervals.
    point, lower, upper : array-like of shape (n_intervals,) or None, default=None
        Point estimates of these cells and the bounds of their intervals.
    coverage : float, default=0.9
        Probability of the intervals.
    true_imputed : array-like of shape (n_known,) or None, default=None
        What the missing cells truly hold, as far as that is known.
    true_point : array-like of shape (n_intervals,) or None, default=None
        What the cells with intervals truly hold; NaN or None where that is not known.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the picture is in.
    figure_ : matplotlib Figure
        The figure of these axes.

    See Also
    --------
    skvae.VAEImputer : The estimator whose imputations are shown.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skvae import VAEImputer
    >>> from skvae.datasets import ampute, load_penguins
    >>> from skvae.plotting import ImputationDisplay
    >>> X = ampute(load_penguins().data.iloc[:, 1:5], random_state=0)
    >>> imputer = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    >>> display = ImputationDisplay.from_estimator(
    ...     imputer, X, "body_mass_g", kind="intervals", random_state=0
    ... )
    >>> display.ax_.get_ylabel()
    'body_mass_g'
    >>> plt.show()  # doctest: +SKIP
    """

    feature_name: str
    observed: Any
    imputed: Any
    categories: Sequence | None = None
    rows: Any = None
    point: Any = None
    lower: Any = None
    upper: Any = None
    coverage: float = 0.9
    true_imputed: Any = None
    true_point: Any = None

    @classmethod
    @numpy_defaults()
    def from_estimator(
        cls,
        imputer: VAEImputer,
        X: Any,
        feature: str | int,
        *,
        kind: str = "distribution",
        n_draws: int = 5,
        rows: Any = None,
        coverage: float = 0.9,
        truth: Any = None,
        random_state: Any = None,
        ax: Any = None,
    ) -> ImputationDisplay:
        """Impute a table and draw what became of one column.

        Parameters
        ----------
        imputer : VAEImputer
            A fitted imputer.
        X : array-like or data frame of shape (n_samples, n_features)
            A table with missing cells in the column.
        feature : str or int
            Name or position of the column. The columns of an array have the names
            "x0", "x1" and so on.
        kind : {"distribution", "intervals"}, default="distribution"
            The picture. Intervals exist for numbers, counts and ordered categories.
        n_draws : int, default=5
            Number of draws of every missing cell, for the distribution.
        rows : array-like of int or None, default=None
            Positions of the rows whose intervals are drawn; the column must be missing
            there. None takes the first 20 such rows.
        coverage : float, default=0.9
            Probability of the intervals, between 0 and 1.
        truth : array-like of shape (n_samples,) or None, default=None
            The column before cells were hidden on purpose, as by
            :func:`skvae.datasets.ampute`. It is drawn too, as far as it is known.
        random_state : int, RandomState instance or None, default=None
            Determines the draws of the distribution; the intervals are always the
            same.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ImputationDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such column, nothing was observed of it in training, it has
            no missing cells, or no intervals can be drawn of it or of the rows.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        _check_kind(kind)
        check_is_fitted(imputer)
        X = replace_marker(X, given(imputer, "missing_values", None))
        table = open_table(imputer, X, reset=False)
        columns = columns_of(imputer)
        index = position_of(feature, columns)
        column = columns[index]
        name = column.name
        if column.is_empty:
            raise ValueError(
                f"Feature {name!r} had no observed cell in training, so there is no "
                "model of it."
            )
        values, missing = read(table, index, column)
        where = np.flatnonzero(missing)
        if not len(where):
            raise ValueError(
                f"Feature {name!r} has no missing cell in X, so nothing was imputed."
            )
        true_values = None if truth is None else _true_values(truth, missing, column)

        # columns that were empty in training may be left out of the completed tables
        place = index
        if not given(imputer, "keep_empty_features", False):
            place -= sum(c.is_empty for c in columns[:index])

        def completed(of_table: Any) -> np.ndarray:
            return read(library_of(of_table).read(of_table), place, column)[0]

        tables = imputer.sample(
            take_rows(X, where), n_draws=n_draws, random_state=random_state
        )
        imputed = np.stack([completed(drawn) for drawn in tables])
        display = cls(
            feature_name=name,
            observed=values[~missing],
            imputed=imputed,
            categories=categories_of(column, values[~missing]),
            coverage=coverage,
            true_imputed=None if true_values is None else _known(true_values[where]),
        )
        if is_number(column) or column.kind == "ordinal":
            rows = _checked_rows(rows, missing, name)
            chosen = take_rows(X, rows)
            lower, upper = imputer.predict_interval(chosen, coverage=coverage)
            display.rows = rows
            display.lower, display.upper = completed(lower), completed(upper)
            display.point = completed(imputer.transform(chosen))
            if true_values is not None:
                display.true_point = true_values[rows]
        return display.plot(ax=ax, kind=kind)

    @numpy_defaults()
    def plot(self, ax: Any = None, *, kind: str = "distribution") -> ImputationDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        kind : {"distribution", "intervals"}, default="distribution"
            The picture.

        Returns
        -------
        display : ImputationDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the display has no intervals.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        _check_kind(kind)
        if kind == "intervals" and self.rows is None:
            raise ValueError(
                f"Feature {self.feature_name!r} has no intervals: its values have no "
                "order, or none were given. Use kind='distribution'."
            )
        ax = one_axes(ax)
        if kind == "intervals":
            self._plot_intervals(ax)
        elif self.categories is None:
            self._plot_histogram(ax)
        else:
            self._plot_shares(ax)
        bare(ax)
        # room for the legend, above what is drawn
        low, high = ax.get_ylim()
        share = 0.15 if kind == "intervals" else 0.3
        ax.set_ylim(low, high + share * (high - low))
        columns = 3 if kind == "intervals" else 1
        ax.legend(frameon=False, loc="upper right", ncols=columns)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _groups(self) -> list[tuple[Any, str, str]]:
        """Return values, colour and label of the observed cells, the draws, the truth.

        The last of them is left out where it is not known.
        """
        n_draws = len(self.imputed)
        draws = f"missing cells, {n_draws} draw{'s' if n_draws > 1 else ''}"
        groups = [
            (self.observed, OBSERVED, f"{len(self.observed)} observed cells"),
            (np.ravel(self.imputed), IMPUTED, draws),
            (self.true_imputed, TRUTH, "truth of the missing cells"),
        ]
        return groups if self.true_imputed is not None else groups[:2]

    def _plot_histogram(self, ax: Any) -> None:
        """Draw densities of the observed cells and of the draws."""
        groups = self._groups()
        edges = _bin_edges([np.asarray(values, dtype=float) for values, _, _ in groups])
        styles: list[dict[str, Any]] = [
            {},
            {"histtype": "step", "lw": 2},
            {"histtype": "step", "lw": 1.5, "ls": "--"},
        ]
        for (values, color, label), style in zip(groups, styles, strict=False):
            if len(values):
                style = {"color": color, "label": label, **style}
                ax.hist(values, bins=edges, density=True, **style)
        ax.set(xlabel=self.feature_name, ylabel="density")

    def _plot_shares(self, ax: Any) -> None:
        """Draw the shares of categories in the observed cells and in the draws."""
        groups = self._groups()
        assert self.categories is not None
        places = np.arange(len(self.categories))
        width = 0.8 / len(groups)
        for k, (values, color, label) in enumerate(groups):
            counts = Counter(values)
            shares = [counts[c] / max(1, len(values)) for c in self.categories]
            left = places + (k - (len(groups) - 1) / 2) * width
            ax.bar(left, shares, width=0.92 * width, color=color, label=label)
        name_categories(ax.xaxis, self.categories)
        ax.set(xlabel=self.feature_name, ylabel="share")

    def _plot_intervals(self, ax: Any) -> None:
        """Draw point estimates and intervals, one beside the other."""
        point, lower, upper = (
            places_of(values, self.categories)
            for values in (self.point, self.lower, self.upper)
        )
        places = np.arange(len(point))
        style = {"color": IMPUTED, "lw": 2.5, "alpha": 0.45}
        label = f"{100 * self.coverage:g}% interval"
        ax.vlines(places, lower, upper, **style, label=label)
        ax.plot(places, point, "o", ms=5, color=IMPUTED, label="point estimate")
        if self.true_point is not None:
            truth = places_of(self.true_point, self.categories)
            style = {"ms": 5, "mew": 1.5, "mfc": "none", "color": TRUTH}
            ax.plot(places, truth, "D", **style, label="truth")
        assert self.rows is not None
        ax.set_xticks(places, [str(row) for row in self.rows])
        if len(places) > 12:
            ax.tick_params(axis="x", labelrotation=90)
        if self.categories is not None:
            name_categories(ax.yaxis, self.categories)
        ax.set(xlabel="row", ylabel=self.feature_name)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, but got {kind!r}.")


def _checked_rows(rows: Any, missing: np.ndarray, name: str) -> np.ndarray:
    """Return positions of rows in which the column is missing."""
    if rows is None:
        return np.flatnonzero(missing)[:DEFAULT_ROWS]
    rows = check_rows(rows, len(missing), f"feature {name!r}")
    if not missing[rows].all():
        raise ValueError(
            f"Feature {name!r} is observed in row {rows[~missing[rows]][0]}: intervals "
            "are for missing cells."
        )
    return rows


def _true_values(truth: Any, missing: np.ndarray, column: Column) -> np.ndarray:
    truth = nw.from_native(truth, series_only=True, pass_through=True)
    truth = truth.to_list() if isinstance(truth, nw.Series) else np.asarray(truth)
    if np.shape(truth) != missing.shape:
        raise ValueError(
            f"truth must be the complete column {column.name!r}, of shape "
            f"{missing.shape}, but has the shape {np.shape(truth)}."
        )
    return values_of(list(truth), column)


def _known(values: np.ndarray) -> np.ndarray:
    """Leave out what is missing."""
    return values[[not is_missing(value) for value in values]]


def _bin_edges(groups: list[np.ndarray]) -> np.ndarray:
    """Return edges that all histograms of a picture share."""
    values = np.concatenate(groups)
    low, high = values.min(), values.max()
    if low == high:
        margin = 0.5 * abs(low) or 0.5
        return np.array([low - margin, low + margin])
    whole = (values == np.floor(values)).all()
    if whole and high - low < MAX_BINS:
        return np.arange(low - 0.5, high + 1)
    widest = groups[0] if len(groups[0]) > 1 else values
    n_bins = len(np.histogram_bin_edges(widest, "auto")) - 1
    return np.linspace(low, high, min(max(n_bins, 8), MAX_BINS) + 1)
