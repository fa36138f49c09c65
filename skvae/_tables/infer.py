"""Kind, likelihood and map of a column, inferred from its dtype and data."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from .columns import CATEGORY_KINDS, Column, is_whole, raise_infinite
from .schema import ColumnSchema
from .table import Table
from .transforms import (
    Affine,
    PiecewiseLinear,
    fit_affine,
    fit_quantile,
    poisson_fits,
    quantile_helps,
)
from .values import object_families

NORMAL_HEADS = (
    "normal",
    "normal_heteroscedastic",
    "normal_isotropic",
    "student_t",
    "student_t_heteroscedastic",
)

CATEGORY_HEADS = ("categorical", "ordinal")

TRANSFORMS = ("auto", "standard", "quantile", "none")

AUTO_HEADS = {
    "numeric": "student_t_heteroscedastic",
    "count": "poisson",
    "boolean": "bernoulli",
    "ordinal": "ordinal",
    "categorical": "categorical",
}

#: A column of numbers repeats its values if it has at most so many different ones, and
#: at most this many per observed cell.
MOST_DISTINCT, MOST_REPEATED = 1_000, 0.5


NUMERIC_HEADS = (*NORMAL_HEADS, "poisson", "bernoulli")


HEADS = (*NUMERIC_HEADS, *CATEGORY_HEADS)


class ColumnFitter:
    """Find kind, head and map of the columns of one training table.

    Parameters
    ----------
    table : Table
        The training table.
    types : list of ColumnSchema
        Its dtypes.
    declared : ndarray of bool or None
        Columns that the user declared categorical; None stands for "from_dtype".
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows.
    heads_by_column, transforms_by_column : bool
        Whether the user asked by column, so that what does not fit is an error.
    """

    def __init__(
        self,
        table: Table,
        types: list[ColumnSchema],
        declared: np.ndarray | None,
        weights: np.ndarray | None,
        *,
        heads_by_column: bool,
        transforms_by_column: bool,
    ):
        self.table = table
        self.types = types
        self.declared = declared
        self.weights = weights
        self.heads_by_column = heads_by_column
        self.transforms_by_column = transforms_by_column

    def fit(self, index: int, head: str, transform: str) -> Column:
        """Fit one column with the requested head and transform."""
        column = Column(str(self.table.labels[index]))
        column.kind = self._kind(index, column.name)
        if not self.heads_by_column and head in NUMERIC_HEADS:
            head = head if column.kind == "numeric" else "auto"
        if column.kind == "numeric":
            self._fit_numbers(column, index, head, transform)
        elif column.kind == "boolean":
            _set_boolean_head(column, head)
            column.is_empty = bool(np.isnan(self.table.numbers(index)).all())
        else:
            self._fit_categories(column, index, head)
        if self.transforms_by_column and transform not in ("auto", "none"):
            _check_transform_applies(column, transform)
        return column

    def _kind(self, index: int, name: str) -> str:
        """Kind of a column by its dtype and declaration, before its head is known."""
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

    def _fit_categories(self, column: Column, index: int, head: str) -> None:
        """Settle categories and head of a column that is not numeric."""
        codes, values = self.table.factorize(index)
        type_ = self.types[index]
        column.is_empty = bool((codes < 0).all())
        if type_.family == "category" and type_.categories is not None:
            categories = list(type_.categories)
        else:
            categories = [value for value in values if value == value]
        if not type_.ordered:
            categories = _sorted_categories(categories, column.name)
        if head == "auto":
            head = AUTO_HEADS[column.kind]
        if head == "bernoulli":
            if len(categories) != 2:
                _refuse_head(
                    column, head, f"it has {len(categories)} categories, not 2"
                )
            column.kind = "boolean"
        elif head not in CATEGORY_HEADS:
            _refuse_head(column, head, "it is not numeric")
        else:
            column.kind = head
        column.likelihood = head
        _set_categories(column, categories)

    def _fit_numbers(
        self, column: Column, index: int, head: str, transform: str
    ) -> None:
        """Settle head and map of a column of numbers."""
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
        values = values[observed]
        column.is_empty = len(values) == 0
        if head == "auto":
            is_count = self.types[index].family == "integer" and poisson_fits(
                values, weights
            )
            head = AUTO_HEADS["count" if is_count else "numeric"]
            column.is_automatic = True
        column.likelihood = head
        if head in CATEGORY_HEADS:
            if not is_whole(values).all():
                _refuse_head(column, head, "it has values that are not whole numbers")
            column.kind = head
            _set_categories(column, np.unique(values).tolist())
        elif head == "poisson":
            if not (is_whole(values) & (values >= 0)).all():
                _refuse_head(
                    column,
                    head,
                    "it has values that are not non-negative whole numbers",
                )
            column.kind = "count"
        else:
            if len(values) and values.min() == values.max():
                column.constant = values[0].item()
            if head == "bernoulli":
                if not ((values >= 0) & (values <= 1)).all():
                    _refuse_head(column, head, "it has values outside [0, 1]")
            else:
                _fit_map(column, values, weights, transform)


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


def _set_boolean_head(column: Column, head: str) -> None:
    column.likelihood = AUTO_HEADS["boolean"] if head == "auto" else head
    if head in CATEGORY_HEADS:
        column.kind = head
        _set_categories(column, [False, True])
    elif column.likelihood != "bernoulli":
        _refuse_head(column, head, "it is boolean")


def _set_categories(column: Column, categories: list) -> None:
    column.categories = categories
    # A column without an observed cell still needs a head of some width.
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


def _check_transform_applies(column: Column, transform: str) -> None:
    if column.kind != "numeric" or column.likelihood not in NORMAL_HEADS:
        raise ValueError(
            f"numeric_transform asks for {transform!r} in column {column.name!r}, but "
            f"that column is {column.kind} with the head {column.likelihood!r}."
        )


def _refuse_head(column: Column, head: str, reason: str) -> NoReturn:
    raise ValueError(f"Column {column.name!r} cannot have the head {head!r}: {reason}.")


def _refuse_dtype(name: str, type_: ColumnSchema) -> NoReturn:
    raise ValueError(
        f"Column {name!r} has the dtype {type_.name}, which is not supported. Cast it "
        "to a numeric, boolean, string or category dtype, or drop it."
    )
