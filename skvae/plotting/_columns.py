"""What is drawn of a table: columns as numbers, or rows as images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._tables.columns import Column
from .._tables.libraries import library_of, open_table
from .._tables.table import Table
from .._tables.values import is_missing

#: Columns that are drawn if none are chosen, at most.
MAX_FEATURES = 12


# ---------------------------------------------------------------------------
# Columns that are chosen
# ---------------------------------------------------------------------------
def columns_of(estimator: Any) -> list[Column]:
    """Return the columns of the training table.

    Nothing else in the pictures looks inside an estimator.
    """
    columns: list[Column] = estimator._encoder.columns_
    return columns


def position_of(feature: str | int, columns: list[Column]) -> int:
    """Return the position of the column that ``feature`` names."""
    names = [column.name for column in columns]
    if isinstance(feature, str):
        if feature not in names:
            raise ValueError(f"There is no feature {feature!r}; the table has {names}.")
        return names.index(feature)
    if isinstance(feature, bool) or not isinstance(feature, int | np.integer):
        raise TypeError(
            "feature must be the name or the position of a column, but got "
            f"{feature!r}."
        )
    if not -len(names) <= feature < len(names):
        raise ValueError(
            f"There is no feature {feature}; the table has {len(names)} columns."
        )
    return int(feature) % len(names)


def choose_features(features: Any, columns: list[Column]) -> list[int]:
    """Return positions of columns; None takes the first ones."""
    if features is None:
        return list(range(min(len(columns), MAX_FEATURES)))
    single = isinstance(features, str) or np.ndim(features) == 0
    names = [features] if single else list(features)
    if not names:
        raise ValueError("features is empty: give at least one column, or None.")
    return [position_of(name, columns) for name in names]


def check_image_shape(image_shape: Any, columns: list[Column]) -> tuple[int, ...]:
    """Return the shape of an image whose pixels are the columns of the table."""
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or np.prod(shape) != len(columns) or shape[2:] > (3,):
        raise ValueError(
            "image_shape must be (height, width) or (height, width, 3), with "
            f"{len(columns)} pixel values like the training table, but got {shape}."
        )
    words = [column.name for column in columns if column.has_categories]
    if words:
        raise ValueError(f"Column {words[0]!r} holds categories, which are no pixels.")
    return shape


# ---------------------------------------------------------------------------
# Values of one column
# ---------------------------------------------------------------------------
def has_categories(column: Column) -> bool:
    return column.has_categories or column.kind == "boolean"


def decoded_table(table: Any) -> Table:
    """Give access to the columns of a table that an estimator has made."""
    return library_of(table).read(table)


def read(table: Table, index: int, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a column, and where they are missing."""
    if not has_categories(column):
        numbers = np.asarray(table.numbers(index), dtype=float)
        return numbers, np.isnan(numbers)
    codes, found = table.factorize(index)
    # one more, for the code -1
    values = np.append(values_of(found, column), values_of([None], column))
    return values[codes], codes < 0


def values_of(cells: list, column: Column) -> np.ndarray:
    """Numbers as floats; categories as objects; what is missing is NaN or None."""
    if not has_categories(column):
        return np.array([_number(cell) for cell in cells], dtype=float)
    values = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        values[place] = _category(cell, column)
    return values


def _number(cell: Any) -> float:
    return float("nan") if is_missing(cell) else float(cell)


def _category(cell: Any, column: Column) -> Any:
    if is_missing(cell):
        return None
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if column.kind == "boolean" and isinstance(cell, int | float) and cell in (0, 1):
        return bool(cell)
    # as in the fitted columns: other types are known by their text
    if isinstance(cell, str | bool | int | float):
        return cell
    return str(cell)


def categories_of(column: Column, observed: np.ndarray) -> list | None:
    """Return the categories of a column, then those that training has not seen."""
    if not has_categories(column):
        return None
    known = column.categories if column.has_categories else [False, True]
    return list(dict.fromkeys([*known, *observed]))


def places_of(values: Any, categories: Sequence | None) -> np.ndarray:
    """Return numbers as they are, categories as their places in the order."""
    if categories is None:
        return np.asarray(values, dtype=float)
    places = {value: place for place, value in enumerate(categories)}
    return np.array([places.get(value, np.nan) for value in values], dtype=float)


# ---------------------------------------------------------------------------
# Rows of a table
# ---------------------------------------------------------------------------
class Drawn(NamedTuple):
    """Rows of a table as they are drawn; missing cells are NaN.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_features) or (n_rows, height, width[, 3])
        Columns (of categories, their places in ``categories``) or images.
    feature_names : list of str or None
        Names of the columns, None for images.
    categories : list or None
        For each column the values it may have, or None for numbers.
    """

    values: np.ndarray
    feature_names: list[str] | None = None
    categories: list | None = None


class Selection:
    """Images, or some of the columns of a table.

    Parameters
    ----------
    estimator : estimator
        It knows the columns of the table.
    image_shape : tuple of int or None
        Shape of an image whose pixels are the columns; None selects columns.
    features : str, int, sequence of these or None
        Names or positions of the columns; None takes the first ones.
    """

    def __init__(self, estimator: Any, image_shape: Any, features: Any):
        self.estimator = estimator
        self.columns = columns_of(estimator)
        self.shape: tuple[int, ...] | None = None
        if image_shape is not None:
            self.shape = check_image_shape(image_shape, self.columns)
        else:
            self.positions = choose_features(features, self.columns)

    def read(self, X: Any) -> Drawn:
        """Return what is drawn of a table that was given by the user."""
        return self._drawn(open_table(self.estimator, X, reset=False))

    def decoded(self, table: Any) -> Drawn:
        """Return what is drawn of a table that the estimator has decoded."""
        return self._drawn(decoded_table(table))

    def _drawn(self, table: Table) -> Drawn:
        if self.shape is not None:
            indices = range(len(self.columns))
            pixels = [np.asarray(table.numbers(i), dtype=float) for i in indices]
            return Drawn(np.column_stack(pixels).reshape(-1, *self.shape))
        names, kinds, numbers = [], [], []
        for position in self.positions:
            column = self.columns[position]
            values, missing = read(table, position, column)
            categories = categories_of(column, values[~missing])
            names.append(column.name)
            kinds.append(categories)
            numbers.append(places_of(values, categories))
        return Drawn(np.column_stack(numbers), names, kinds)
