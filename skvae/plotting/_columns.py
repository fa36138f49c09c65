"""Columns of tables as numbers, and rows of tables as images."""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np

from .._tables.columns import Column
from .._tables.libraries import open_table
from .._tables.table import Table
from .._tables.values import is_missing


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


def categories_of(column: Column, observed: np.ndarray) -> list | None:
    """Return the categories of a column, then those that training has not seen."""
    if not has_categories(column):
        return None
    known = column.categories if column.has_categories else [False, True]
    return list(dict.fromkeys([*known, *observed]))


def cells_of(table: Any, position: int) -> list:
    """Return a column of a completed table as Python objects."""
    frame = nw.from_native(table, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return frame[:, position].to_list()
    if hasattr(table, "iloc"):  # a pandas frame whose labels are not text
        return table.iloc[:, position].tolist()
    return np.asarray(table)[:, position].tolist()


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


class Feature(NamedTuple):
    """A column of the table, as it is drawn."""

    name: str
    position: int
    categories: list | None  # None for numbers


def columns_of(estimator: Any) -> list:
    """Return what the estimator knows of its columns."""
    return estimator._encoder.columns_


def choose_features(estimator: Any, features: Any, most: int) -> list[int]:
    """Return positions of columns; None takes the first ones, at most ``most``."""
    columns = columns_of(estimator)
    if features is None:
        return list(range(min(len(columns), most)))
    single = isinstance(features, str) or np.ndim(features) == 0
    names = [features] if single else list(features)
    if not names:
        raise ValueError("features is empty: give at least one column, or None.")
    return [position_of(name, columns) for name in names]


def check_image_shape(estimator: Any, image_shape: Any) -> tuple[int, ...]:
    """Return the shape of an image whose pixels are the columns of the table."""
    shape = tuple(image_shape)
    columns = columns_of(estimator)
    if len(shape) not in (2, 3) or np.prod(shape) != len(columns) or shape[2:] > (3,):
        raise ValueError(
            "image_shape must be (height, width) or (height, width, 3), with "
            f"{len(columns)} pixel values like the training table, but got {shape}."
        )
    words = [column.name for column in columns if column.has_categories]
    if words:
        raise ValueError(f"Column {words[0]!r} holds categories, which are no pixels.")
    return shape


def read_images(estimator: Any, X: Any, shape: tuple) -> np.ndarray:
    """Return the rows of a table given by the user as images, missing cells as NaN."""
    table = open_table(estimator, X, reset=False)
    columns = range(len(columns_of(estimator)))
    pixels = np.column_stack([np.asarray(table.numbers(i), float) for i in columns])
    return pixels.reshape(-1, *shape)


def decoded_images(table: Any, shape: tuple) -> np.ndarray:
    """Return the rows of a decoded table as images."""
    if isinstance(table, np.ndarray):
        return table.astype(float).reshape(-1, *shape)
    cells = [cells_of(table, position) for position in range(int(np.prod(shape)))]
    return np.column_stack([np.array(c, dtype=float) for c in cells]).reshape(
        -1, *shape
    )


def read_features(
    estimator: Any, X: Any, positions: list[int]
) -> tuple[list[Feature], np.ndarray]:
    """Return columns of a table given by the user as numbers, (n_rows, n_features)."""
    table = open_table(estimator, X, reset=False)
    features, numbers = [], []
    for position in positions:
        column = columns_of(estimator)[position]
        values, missing = read(table, position, column)
        categories = categories_of(column, values[~missing])
        features.append(Feature(column.name, position, categories))
        numbers.append(places_of(values, categories))
    return features, np.column_stack(numbers)


def decoded_features(
    estimator: Any, table: Any, positions: list[int]
) -> tuple[list[Feature], np.ndarray]:
    """Return columns of a decoded table as numbers, (n_rows, n_features)."""
    features, numbers = [], []
    for position in positions:
        column = columns_of(estimator)[position]
        cells: Any = cells_of(table, position)
        categories = None
        if has_categories(column):
            cells = values_of(cells, column)
            categories = categories_of(column, cells)
        features.append(Feature(column.name, position, categories))
        numbers.append(places_of(cells, categories))
    return features, np.column_stack(numbers)


def places_of(values: Any, categories: list | None) -> np.ndarray:
    """Return numbers as they are, categories as their places in the order."""
    if categories is None:
        return np.asarray(values, dtype=float)
    places = {value: place for place, value in enumerate(categories)}
    return np.array([places.get(value, np.nan) for value in values], dtype=float)
