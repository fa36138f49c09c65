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


def columns_of(estimator: Any) -> list[Column]:
    """Return the columns of the training table; only here is an estimator opened."""
    return list(estimator._encoder.columns_)


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


def check_rows(rows: Any, n_rows: int, feature: str = "") -> np.ndarray:
    """Return positions of rows; errors name a feature that has to be missing there."""
    rows = np.atleast_1d(np.asarray(rows))
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        which = f" in which {feature} is missing" if feature else ""
        raise ValueError(
            f"rows must be positions of rows{which}, but got {rows.tolist()!r}."
        )
    outside = rows[(rows < 0) | (rows >= n_rows)]
    if len(outside):
        asked = f"{feature} was asked for in row" if feature else "got"
        raise ValueError(
            f"rows must lie between 0 and {n_rows - 1}, but {asked} {outside[0]}."
        )
    return rows


def has_categories(column: Column) -> bool:
    return column.has_categories or column.kind == "boolean"


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
        return np.array([np.nan if is_missing(c) else float(c) for c in cells])
    values = np.empty(len(cells), dtype=object)
    values[:] = [_category(cell, column) for cell in cells]
    return values


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


class Drawn(NamedTuple):
    """Rows of a table as they are drawn: columns, or images without names.

    Missing cells are NaN. Columns of categories hold their places in ``categories``,
    which are None for numbers.
    """

    values: np.ndarray  # (n_rows, n_features) or (n_rows, height, width[, 3])
    feature_names: list[str] | None = None
    categories: list | None = None


class Selection:
    """Images whose pixels are the columns of a table, or some of the columns.

    ``image_shape`` is None for columns; ``features`` names them, None takes the first.
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
        return self._drawn(library_of(table).read(table))

    def _drawn(self, table: Table) -> Drawn:
        if self.shape is not None:
            pixels = [table.numbers(index) for index in range(len(self.columns))]
            images = np.column_stack(pixels).astype(float)
            return Drawn(images.reshape(-1, *self.shape))
        names, kinds, numbers = [], [], []
        for position in self.positions:
            column = self.columns[position]
            values, missing = read(table, position, column)
            categories = categories_of(column, values[~missing])
            names.append(column.name)
            kinds.append(categories)
            numbers.append(places_of(values, categories))
        return Drawn(np.column_stack(numbers), names, kinds)
