"""Cells of single columns, as the pictures need them."""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from .._tables.columns import Column
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
