"""Kind, likelihood and transform of a column, inferred from its dtype and data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from .._validation import warn
from .choice import AUTO_LIKELIHOODS, Likelihoods, choose_likelihood
from .columns import CATEGORY_KINDS, Column, is_whole, raise_infinite
from .encoding import LARGEST, shown_values
from .outliers import body_range
from .rare_levels import modelled_levels
from .schema import ColumnSchema
from .settings import Settings
from .table import Table
from .transforms import (
    Affine,
    PiecewiseLinear,
    constant_of,
    fit_affine,
    fit_quantile,
    fit_robust,
    quantile_helps,
)
from .values import object_families

TRANSFORMS = ("auto", "standard", "quantile", "none")


@dataclass(frozen=True)
class ColumnFitter:
    """Inference of kind, likelihood and transform of the columns of a training table.

    Attributes
    ----------
    table : Table
        The training table.
    types : list of ColumnSchema
        Its dtypes.
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows.
    declared : ndarray of bool or None
        Columns that the user declared categorical; None stands for "from_dtype".
    likelihoods : mapping of str to Likelihood
        The likelihoods by name.
    numeric_likelihood : str or None
        The likelihood that "auto" gives to numeric columns; None: chosen by the data.
    likelihoods_by_column, transforms_by_column : bool
        Whether the user gave names by column: a name that does not apply is an error
        then.
    settings : Settings
        Thresholds of the choices by data.
    outliers : dict of str to ndarray
        The cells of every column that count as missing because they are outliers.
    tails : dict of str to tuple of float
        Lowest and highest value of every column whose tails are compressed.
    """

    table: Table
    types: list[ColumnSchema]
    weights: np.ndarray | None
    declared: np.ndarray | None
    likelihoods: Likelihoods
    numeric_likelihood: str | None
    likelihoods_by_column: bool
    transforms_by_column: bool
    settings: Settings
    outliers: dict[str, np.ndarray] = field(default_factory=dict)
    tails: dict[str, tuple[float, float]] = field(default_factory=dict)

    def fit(self, index: int, name: str, transform: str) -> Column:
        """Fit one column with the requested likelihood and transform."""
        column = Column(str(self.table.labels[index]))
        column.kind = self._kind(index, self.table.title(column.name))
        if not self.likelihoods_by_column and self._models(name, "numeric", "count"):
            name = name if column.kind == "numeric" else "auto"
        if column.kind == "numeric":
            self._fit_numeric(column, index, name, transform)
        elif column.kind == "boolean":
            self._fit_booleans(column, index, name)
        else:
            self._fit_categories(column, index, name)
        column.domain = self.likelihoods[column.likelihood].domain
        if self.transforms_by_column and transform not in ("auto", "none"):
            self._check_transform_applies(column, transform)
        return column

    def _models(self, name: str, *kinds: str) -> bool:
        """Tell whether a likelihood models columns of one of these kinds."""
        return name != "auto" and not set(kinds).isdisjoint(
            self.likelihoods[name].kinds
        )

    def _models_categories(self, name: str) -> bool:
        return self._models(name, *CATEGORY_KINDS)

    def _kind(self, index: int, title: str) -> str:
        """Return the kind of a column by its dtype and declaration."""
        type_ = self.types[index]
        if self.declared is not None and self.declared[index]:
            if type_.family == "other":
                _refuse_dtype(title, type_)
            if type_.family == "object":
                self._check_one_type(index, title)
            return "categorical"
        if type_.family in ("float", "integer", "null"):
            return "numeric"
        if type_.family == "boolean":
            return "boolean"
        if type_.family == "object":
            if self.table.library == "numpy":
                self._check_one_type(index, title)
            raise ValueError(
                f"{title} has the dtype {type_.name}. Cast it to a numeric, boolean, "
                f"string or category dtype, or {self.table.declaration}."
            )
        if type_.family == "other":
            _refuse_dtype(title, type_)
        if self.declared is not None:
            raise ValueError(
                f"{title} has the dtype {type_.name}, but categorical_features does "
                "not declare it. Declare it or drop it."
            )
        return "ordinal" if type_.ordered else "categorical"

    def _check_one_type(self, index: int, title: str) -> None:
        """Refuse a column of objects of several types or of an unsupported one."""
        found = object_families(self.table.objects(index))
        if "other" in found:
            raise TypeError(
                f"{title}: argument must be a string or a real number, "
                f"not {found['other']!r}."
            )
        if len(found) > 1:
            raise ValueError(
                f"{title} mixes values of the types "
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
            categories = _sorted_categories(categories, self.table.title(column.name))
        if name == "auto":
            name = AUTO_LIKELIHOODS[column.kind]
        if self._models_categories(name):
            column.kind = self.likelihoods[name].kinds[0]
        elif not self._models(name, "boolean"):
            self._refuse_likelihood(column, name, "it is not numeric")
        elif len(categories) == 2:
            column.kind = "boolean"
        else:
            reason = f"it has {len(categories)} categories, not 2"
            self._refuse_likelihood(column, name, reason)
        column.likelihood = name
        cells = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
        counts = dict(zip(values, cells, strict=True))
        counts_of = np.array([counts.get(level, 0) for level in categories])
        _set_categories(column, categories, counts_of, self.settings)

    def _fit_booleans(self, column: Column, index: int, name: str) -> None:
        """Choose the likelihood of a column of booleans."""
        column.likelihood = AUTO_LIKELIHOODS["boolean"] if name == "auto" else name
        if self._models_categories(name):
            column.kind = self.likelihoods[name].kinds[0]
            _set_categories(column, [False, True], np.ones(2), self.settings)
        elif not self._models(column.likelihood, "boolean"):
            self._refuse_likelihood(column, name, "it is boolean")
        column.is_empty = bool(np.isnan(self.table.numbers(index)).all())

    def _fit_numeric(
        self, column: Column, index: int, name: str, transform: str
    ) -> None:
        """Choose likelihood and transform of a numeric column."""
        cells, cell_weights = self._observed_values(index)
        column.is_empty = len(cells) == 0
        column.is_whole = bool(is_whole(cells).all())
        if name == "auto":
            column.is_automatic = self.numeric_likelihood is None
            name = self.numeric_likelihood or AUTO_LIKELIHOODS["numeric"]
        values, weights = cells, cell_weights
        if self.likelihoods[name].domain in ("real", "counts"):
            values, weights = self._set_outliers_aside(column, cells, cell_weights)
        if column.is_automatic and self.types[index].family == "integer":
            name = choose_likelihood(values, weights, self.likelihoods, self.settings)
        column.likelihood, some = name, "it has values that are not"
        if self._models_categories(name):
            if not is_whole(values).all():
                self._refuse_likelihood(column, name, f"{some} whole numbers")
            column.kind = self.likelihoods[name].kinds[0]
            distinct, counts = np.unique(values, return_counts=True)
            _set_categories(column, distinct.tolist(), counts, self.settings)
        elif self._models(name, "count"):
            column.kind = "count"
            self._check_counts(column, values if column.is_automatic else cells, values)
        else:
            column.constant = constant_of(values, self.settings)
            if self.likelihoods[name].domain == "real":
                if transform == "none" and column.constant is None:
                    self._check_size(column, values)
                _find_repeats(column, cells, cell_weights, self.settings)
                _fit_map(column, values, weights, transform, self.settings)
                if column.transform == "robust":
                    ends = values.min().item(), values.max().item()
                    self.tails[self.table.title(column.name)] = ends
            elif not ((values >= 0) & (values <= 1)).all():
                self._refuse_likelihood(column, name, "it has values outside [0, 1]")

    def warn(self) -> None:
        """Warn of outliers, and of tails that are compressed."""
        if self.outliers:
            n_rows = self.table.n_rows
            listed = "; ".join(
                f"{title}: {shown_values(np.unique(cells).tolist())} ({len(cells)} of "
                f"{n_rows} cells)"
                for title, cells in self.outliers.items()
            )
            warn(
                "Values far beyond all others of their column count as missing for the "
                f"model: {listed}. Correct them, or mark them as missing cells."
            )
        if self.tails:
            listed = "; ".join(
                f"{title}: from {lowest!r} to {highest!r}"
                for title, (lowest, highest) in self.tails.items()
            )
            warn(
                "The tails of columns are compressed, as they would hide all other "
                f"values: {listed}."
            )

    def _check_counts(
        self, column: Column, cells: np.ndarray, body: np.ndarray
    ) -> None:
        """Raise ValueError if cells, or those without outliers, cannot be counts."""
        name = column.likelihood
        if not (is_whole(cells) & (cells >= 0)).all():
            reason = "it has values that are not non-negative whole numbers"
            self._refuse_likelihood(column, name, reason)
        largest = self.likelihoods[name].largest
        if len(body) and body.max() > largest:
            reason = f"it has counts beyond {largest:.3g}; 'normal' takes them"
            self._refuse_likelihood(column, name, reason)

    def _check_size(self, column: Column, values: np.ndarray) -> None:
        """Raise ValueError if values are too large to be used as they are."""
        if np.any(np.abs(values.astype(np.float64)) > LARGEST):
            raise ValueError(
                f"{self.table.title(column.name)} holds values that are too large for "
                f"numeric_transform='none', beyond {LARGEST:.0e}. Use 'standard'."
            )

    def _set_outliers_aside(
        self, column: Column, values: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the values without outliers, and their weights."""
        limits = body_range(values, self.settings)
        if limits is None:
            return values, weights
        column.lowest, column.highest = limits
        is_outlier = column.is_outlier(values)
        self.outliers[self.table.title(column.name)] = values[is_outlier]
        kept = ~is_outlier
        return values[kept], None if weights is None else weights[kept]

    def _observed_values(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the observed cells of a numeric column, and their weights."""
        values, observed = self.table.observed(index)
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise_infinite(self.table.input_name, str(self.table.labels[index]))
        weights = None if self.weights is None else self.weights[observed]
        if weights is not None and not weights.any():
            weights = None
        return values, weights

    def _check_transform_applies(self, column: Column, transform: str) -> None:
        if column.kind != "numeric" or column.domain != "real":
            raise ValueError(
                f"numeric_transform asks for {transform!r} in column {column.name!r}, "
                f"but that column is {column.kind} with the likelihood "
                f"{column.likelihood!r}."
            )

    def _refuse_likelihood(self, column: Column, name: str, reason: str) -> NoReturn:
        raise ValueError(
            f"{self.table.title(column.name)} cannot have the likelihood {name!r}: "
            f"{reason}."
        )


def _find_repeats(
    column: Column,
    values: np.ndarray,
    weights: np.ndarray | None,
    settings: Settings,
) -> None:
    """Set the values that a column repeats; an outlier is one if it repeats itself."""
    if column.constant is not None:
        return
    distinct = np.unique(values)
    most = min(settings.max_distinct, settings.max_distinct_fraction * len(values))
    if len(distinct) > most + settings.max_outlier_fraction * len(values):
        return
    codes = np.searchsorted(distinct, values)
    is_single = np.bincount(codes) == 1
    kept = ~(column.is_outlier(distinct) & is_single)
    if not 1 < kept.sum() <= most:
        return
    is_integer = distinct.dtype.kind in "iu"
    column.support = distinct[kept] if is_integer else distinct[kept].astype(float)
    shares = np.bincount(codes, weights, minlength=len(distinct))[kept]
    column.frequencies = shares / shares.sum()


def _fit_map(
    column: Column,
    values: np.ndarray,
    weights: np.ndarray | None,
    transform: str,
    settings: Settings,
) -> None:
    """Fit the map of a numeric column."""
    if transform == "none":
        return
    weighted = values if weights is None else values[weights > 0]
    if transform == "auto":
        helps = quantile_helps(weighted, settings)
        transform = "quantile" if helps else "standard"
    if transform == "quantile":
        column.map = fit_quantile(weighted, settings)
    else:
        robust = fit_robust(weighted, settings)
        column.map = robust or fit_affine(values, weights, settings)
        transform = "robust"
    is_nonlinear = isinstance(column.map, PiecewiseLinear)
    column.transform = transform if is_nonlinear else "standard"
    if column.constant is not None:
        # the encoded value of the constant is exactly 0
        column.map = Affine(mean=float(column.constant))


def _set_categories(
    column: Column, categories: list, counts: np.ndarray, settings: Settings
) -> None:
    """Set the categories of a column, given the number of cells of each."""
    column.categories = modelled_levels(categories, counts, settings)
    if len(column.categories) < len(categories):
        column.n_levels = len(categories)
    # A column without an observed cell still needs outputs of some width.
    if column.kind in CATEGORY_KINDS:
        column.n_categories = max(1, len(column.categories))


def _sorted_categories(categories: list, title: str) -> list:
    try:
        return sorted(categories)
    except TypeError:
        types = sorted({type(value).__name__ for value in categories})
        raise ValueError(
            f"{title} mixes categories of the types {', '.join(types)}. Give it one "
            "type."
        ) from None


def _refuse_dtype(title: str, type_: ColumnSchema) -> NoReturn:
    raise ValueError(
        f"{title} has the dtype {type_.name}, which is not supported. Cast it to a "
        "numeric, boolean, string or category dtype, or drop it."
    )
