"""Kind, likelihood and map of a column, inferred from its dtype and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

import numpy as np

from .columns import CATEGORY_KINDS, Column, is_whole, raise_infinite
from .schema import ColumnSchema
from .table import Table
from .transforms import (
    MAX_ROWS_FOR_CHOICE,
    Affine,
    PiecewiseLinear,
    fit_affine,
    fit_quantile,
    quantile_helps,
)
from .values import object_families

TRANSFORMS = ("auto", "standard", "quantile", "none")

#: What "auto" stands for, by kind of column.
AUTO_LIKELIHOODS = {
    "numeric": "student_t_heteroscedastic",
    "count": "poisson",
    "boolean": "bernoulli",
    "ordinal": "ordinal",
    "categorical": "categorical",
}

#: What "auto" gives to counts that vary more than a Poisson lets them.
OVERDISPERSED = "negative_binomial"

#: The dispersion shows in counts above 0: with fewer of them it is not judged.
MIN_CELLS_FOR_DISPERSION = 50

#: Encoded values are float32, which holds no larger whole numbers exactly.
LARGEST_COUNT = 2**24

#: What it must gain in nats per held-out cell, and twice the standard error of that,
#: over a Poisson: what is less is lost again where latent variables explain it.
LEAST_GAIN_OVER_POISSON = 0.1

#: And over a Normal, where that is better than a Poisson: scales per cell, heavy tails
#: and latent variables make up for less. With counts, models of ages, prices or home
#: runs, which gain up to 0.44 nats, got worse by 0.1 to 2 nats per cell; those of sums
#: of money that are often 0, which gain more than 2 nats, got better by 0.5 to 5
#: (benchmarks/results/counts_development.md).
LEAST_GAIN_OVER_NORMAL = 0.5

#: Values that stop where a negative binomial goes on, such as grey values of pixels,
#: have bounds and are no such counts: it expects more cells than this below the
#: smallest and above the largest. By chance that happens to one column in 150 of true
#: counts. Larger values have no such bounds, and sums up to them take time.
MOST_BEYOND, LARGEST_BOUND = 5.0, 2**16

#: A column of numbers repeats its values if it has at most so many different ones, and
#: at most this many per observed cell.
MOST_DISTINCT, MOST_REPEATED = 1_000, 0.5


#: Gives the log-density in nats of every value of a column, (n_values,).
LogDensity = Callable[[np.ndarray], np.ndarray]


class Likelihood(Protocol):
    """What must be known of a likelihood to choose it for columns.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of column that it models.
    takes_map : bool
        Whether numbers are mapped for it.
    fit_column : callable or None
        Fits it to values of one column with their weights (or None), and returns its
        log-density.
    """

    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def takes_map(self) -> bool: ...
    @property
    def fit_column(
        self,
    ) -> Callable[[np.ndarray, np.ndarray | None], LogDensity] | None: ...


Likelihoods = Mapping[str, Likelihood]


class ColumnFitter:
    """Find kind, likelihood and map of the columns of one training table.

    Parameters
    ----------
    likelihoods : mapping of str to Likelihood
        The likelihoods by name.
    table : Table
        The training table.
    types : list of ColumnSchema
        Its dtypes.
    declared : ndarray of bool or None
        Columns that the user declared categorical; None stands for "from_dtype".
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows.
    likelihoods_by_column, transforms_by_column : bool
        Whether the user asked by column, so that what does not fit is an error.
    """

    def __init__(
        self,
        likelihoods: Likelihoods,
        table: Table,
        types: list[ColumnSchema],
        declared: np.ndarray | None,
        weights: np.ndarray | None,
        *,
        likelihoods_by_column: bool,
        transforms_by_column: bool,
    ):
        self.likelihoods = likelihoods
        self.table = table
        self.types = types
        self.declared = declared
        self.weights = weights
        self.likelihoods_by_column = likelihoods_by_column
        self.transforms_by_column = transforms_by_column

    def fit(self, index: int, name: str, transform: str) -> Column:
        """Fit one column with the requested likelihood and transform."""
        column = Column(str(self.table.labels[index]))
        column.kind = self._kind(index, column.name)
        if not self.likelihoods_by_column and self._models_numbers(name):
            name = name if column.kind == "numeric" else "auto"
        if column.kind == "numeric":
            self._fit_numbers(column, index, name, transform)
        elif column.kind == "boolean":
            self._fit_booleans(column, index, name)
        else:
            self._fit_categories(column, index, name)
        if self.transforms_by_column and transform not in ("auto", "none"):
            self._check_transform_applies(column, transform)
        return column

    def _models(self, name: str, *kinds: str) -> bool:
        """Tell whether a likelihood is one of columns of these kinds."""
        return name != "auto" and not set(kinds).isdisjoint(
            self.likelihoods[name].kinds
        )

    def _models_numbers(self, name: str) -> bool:
        return self._models(name, "numeric", "count")

    def _models_categories(self, name: str) -> bool:
        return self._models(name, *CATEGORY_KINDS)

    def _kind(self, index: int, name: str) -> str:
        """Kind of a column by its dtype and declaration; a likelihood may change it."""
        type_ = self.types[index]
        if self.declared is not None and self.declared[index]:
            if type_.family == "other":
                _refuse_dtype(name, type_)
            if type_.family == "object":
                self._check_one_type(index, name)
            return "categorical"
        if type_.family in ("float", "integer", "null"):
            return "numeric"
        if type_.family == "boolean":
            return "boolean"
        if type_.family == "object":
            if self.table.library == "numpy":
                self._check_one_type(index, name)
            raise ValueError(
                f"Column {name!r} has the dtype {type_.name}. Cast it to a numeric, "
                "boolean, string or category dtype, or declare it in "
                "categorical_features."
            )
        if type_.family == "other":
            _refuse_dtype(name, type_)
        if self.declared is not None:
            raise ValueError(
                f"Column {name!r} has the dtype {type_.name}, but "
                "categorical_features does not declare it. Declare it or drop it."
            )
        return "ordinal" if type_.ordered else "categorical"

    def _check_one_type(self, index: int, name: str) -> None:
        """Refuse a column of objects that mixes types or holds something else."""
        found = object_families(self.table.objects(index))
        if "other" in found:
            raise TypeError(
                f"Column {name!r}: argument must be a string or a real number, "
                f"not {found['other']!r}."
            )
        if len(found) > 1:
            raise ValueError(
                f"Column {name!r} mixes values of the types "
                f"{', '.join(sorted(found.values()))}. Give it one type."
            )

    def _fit_categories(self, column: Column, index: int, name: str) -> None:
        """Choose categories and likelihood of a column that is not numeric."""
        codes, values = self.table.factorize(index)
        type_ = self.types[index]
        column.is_empty = bool((codes < 0).all())
        if type_.family == "category" and type_.categories is not None:
            categories = list(type_.categories)
        else:
            categories = [value for value in values if value == value]
        if not type_.ordered:
            categories = _sorted_categories(categories, column.name)
        if name == "auto":
            name = AUTO_LIKELIHOODS[column.kind]
        if self._models_categories(name):
            column.kind = self.likelihoods[name].kinds[0]
        elif not self._models(name, "boolean"):
            _refuse_likelihood(column, name, "it is not numeric")
        elif len(categories) == 2:
            column.kind = "boolean"
        else:
            reason = f"it has {len(categories)} categories, not 2"
            _refuse_likelihood(column, name, reason)
        column.likelihood = name
        _set_categories(column, categories)

    def _fit_booleans(self, column: Column, index: int, name: str) -> None:
        """Choose the likelihood of a column of booleans."""
        column.likelihood = AUTO_LIKELIHOODS["boolean"] if name == "auto" else name
        if self._models_categories(name):
            column.kind = self.likelihoods[name].kinds[0]
            _set_categories(column, [False, True])
        elif not self._models(column.likelihood, "boolean"):
            _refuse_likelihood(column, name, "it is boolean")
        column.is_empty = bool(np.isnan(self.table.numbers(index)).all())

    def _fit_numbers(
        self, column: Column, index: int, name: str, transform: str
    ) -> None:
        """Choose likelihood and map of a column of numbers."""
        values, weights = self._observed_numbers(column, index)
        column.is_empty = len(values) == 0
        if name == "auto":
            is_integer = self.types[index].family == "integer"
            name = self._choose_likelihood(values, weights, is_integer)
            column.is_automatic = True
        column.likelihood = name
        if self._models_categories(name):
            if not is_whole(values).all():
                reason = "it has values that are not whole numbers"
                _refuse_likelihood(column, name, reason)
            column.kind = self.likelihoods[name].kinds[0]
            _set_categories(column, np.unique(values).tolist())
        elif self._models(name, "count"):
            if not (is_whole(values) & (values >= 0)).all():
                reason = "it has values that are not non-negative whole numbers"
                _refuse_likelihood(column, name, reason)
            column.kind = "count"
        else:
            if len(values) and values.min() == values.max():
                column.constant = values[0].item()
            if self.likelihoods[name].takes_map:
                _fit_map(column, values, weights, transform)
            elif not ((values >= 0) & (values <= 1)).all():
                _refuse_likelihood(column, name, "it has values outside [0, 1]")

    def _observed_numbers(
        self, column: Column, index: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the observed cells of a column of numbers, and their weights."""
        values = self.table.numbers(index)
        if values.dtype.kind == "f":
            if np.isinf(values).any():
                raise_infinite(column.name)
            observed = ~np.isnan(values)
        else:
            observed = np.ones(len(values), dtype=bool)
        weights = None if self.weights is None else self.weights[observed]
        if weights is not None and not weights.any():
            weights = None
        return values[observed], weights

    def _choose_likelihood(
        self, values: np.ndarray, weights: np.ndarray | None, is_integer: bool
    ) -> str:
        """Return the likelihood that "auto" gives a column of numbers.

        Integers are counts where a Poisson describes the column as a whole at least as
        well as a Normal, whose density stands for the probability of a bin of width 1,
        or a negative binomial describes held-out cells clearly better.
        """
        if not is_integer or not _may_be_counts(values):
            return AUTO_LIKELIHOODS["numeric"]
        counts = AUTO_LIKELIHOODS["count"]
        poisson, normal = (
            np.average(self._fitted(name, values, weights)(values), weights=weights)
            for name in (counts, "normal")
        )
        is_count = bool(poisson >= normal)
        if self._is_negative_binomial(values, weights, is_count):
            return OVERDISPERSED
        return counts if is_count else AUTO_LIKELIHOODS["numeric"]

    def _is_negative_binomial(
        self, values: np.ndarray, weights: np.ndarray | None, is_count: bool
    ) -> bool:
        """Tell whether a negative binomial is clearly better than its competitors.

        They are fitted to one half of the cells and compared on the other. ``is_count``
        says which of them is chosen otherwise.
        """
        if weights is None:
            weights = np.ones(len(values))
        values, weights = values[weights > 0], weights[weights > 0]
        mean = np.average(values, weights=weights)
        variance = np.average((values - mean) ** 2, weights=weights)
        n_above = np.sum(values > 0)
        if variance <= mean or n_above < MIN_CELLS_FOR_DISPERSION:
            return False
        if values.max() > LARGEST_COUNT:
            return False
        rows = np.random.default_rng(0).permutation(len(values))[:MAX_ROWS_FOR_CHOICE]
        train, test = np.array_split(rows, 2)
        if not _may_be_counts(values[train]):
            return False
        ours, poisson, normal = (
            self._fitted(name, values[train], weights[train])(values[test])
            for name in (OVERDISPERSED, AUTO_LIKELIHOODS["count"], "normal")
        )
        least = LEAST_GAIN_OVER_POISSON
        if not _is_clear_gain(ours - poisson, weights[test], least):
            return False
        least = 0.0 if is_count else LEAST_GAIN_OVER_NORMAL
        if np.average(ours - normal, weights=weights[test]) < least:
            return False
        return not _has_bounds(values, self._fitted(OVERDISPERSED, values, weights))

    def _fitted(
        self, name: str, values: np.ndarray, weights: np.ndarray | None
    ) -> LogDensity:
        """Return the log-density of a likelihood that is fitted to a column."""
        fit_column = self.likelihoods[name].fit_column
        assert fit_column is not None, name
        return fit_column(values, weights)

    def _check_transform_applies(self, column: Column, transform: str) -> None:
        takes_map = self.likelihoods[column.likelihood].takes_map
        if column.kind != "numeric" or not takes_map:
            raise ValueError(
                f"numeric_transform asks for {transform!r} in column {column.name!r}, "
                f"but that column is {column.kind} with the likelihood "
                f"{column.likelihood!r}."
            )


def _may_be_counts(values: np.ndarray) -> bool:
    """Tell whether whole numbers are non-negative and have more than two values."""
    if len(values) == 0:
        return False
    smallest, largest = values.min(), values.max()
    has_between = np.any((values != smallest) & (values != largest))
    return bool(smallest >= 0 and has_between)


def _is_clear_gain(gains: np.ndarray, weights: np.ndarray, least: float) -> bool:
    """Tell whether a mean gain exceeds ``least`` and two standard errors."""
    gain = np.average(gains, weights=weights)
    error = np.sqrt(np.sum((weights * (gains - gain)) ** 2)) / weights.sum()
    return bool(gain > max(least, 2 * error))


def _has_bounds(values: np.ndarray, log_probability: LogDensity) -> bool:
    """Tell whether counts stop where their distribution goes on."""
    smallest, largest = int(values.min()), int(values.max())
    if largest >= LARGEST_BOUND:
        return False
    within = np.exp(log_probability(np.arange(smallest, largest + 1))).sum()
    return bool(len(values) * (1 - within) > MOST_BEYOND)


def _fit_map(
    column: Column, values: np.ndarray, weights: np.ndarray | None, transform: str
) -> None:
    """Fit the map of a numeric column."""
    distinct = np.unique(values)
    if 1 < len(distinct) <= min(MOST_DISTINCT, MOST_REPEATED * len(values)):
        column.support = distinct.astype(np.float64)
        codes = np.searchsorted(distinct, values)
        counts = np.bincount(codes, weights, minlength=len(distinct))
        column.shares = counts / counts.sum()
    if transform == "none":
        return
    weighted = values if weights is None else values[weights > 0]
    if transform == "auto":
        transform = "quantile" if quantile_helps(weighted) else "standard"
    if transform == "quantile":
        column.map = fit_quantile(weighted)
    else:
        column.map = fit_affine(values, weights)
    is_bent = isinstance(column.map, PiecewiseLinear)
    column.transform = "quantile" if is_bent else "standard"
    if column.constant is not None:
        # Exactly 0 stands for the constant.
        column.map = Affine(mean=float(column.constant))


def _set_categories(column: Column, categories: list) -> None:
    column.categories = categories
    # A column without an observed cell still needs outputs of some width.
    if column.kind in CATEGORY_KINDS:
        column.n_categories = max(1, len(categories))


def _sorted_categories(categories: list, name: str) -> list:
    try:
        return sorted(categories)
    except TypeError:
        types = sorted({type(value).__name__ for value in categories})
        raise ValueError(
            f"Column {name!r} mixes categories of the types {', '.join(types)}. Give "
            "it one type."
        ) from None


def _refuse_likelihood(column: Column, name: str, reason: str) -> NoReturn:
    raise ValueError(
        f"Column {column.name!r} cannot have the likelihood {name!r}: {reason}."
    )


def _refuse_dtype(name: str, type_: ColumnSchema) -> NoReturn:
    raise ValueError(
        f"Column {name!r} has the dtype {type_.name}, which is not supported. Cast it "
        "to a numeric, boolean, string or category dtype, or drop it."
    )
