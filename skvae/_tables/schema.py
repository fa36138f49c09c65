"""Schema of a column: its dtype as plain values, which any serialiser can store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ColumnSchema:
    """Dtype of one column, as plain values.

    Attributes
    ----------
    family : {"float", "integer", "boolean", "string", "category", "object", \
            "null", "other"}
        Family of the dtype. "null" holds missing cells only, "other" is not
        supported.
    name : str
        The dtype as its library prints it.
    ordered : bool
        Whether the categories of the dtype have an order.
    categories : list or None
        The categories that the dtype declares, in its order.
    details : dict
        Further properties that the library needs to build the dtype.
    """

    family: str
    name: str
    ordered: bool = False
    categories: list | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecodedColumn:
    """Decoded values of one column.

    Attributes
    ----------
    values : ndarray of shape (n_rows,)
        Numbers, or, where there are categories, their integer codes.
    missing : ndarray of bool of shape (n_rows,)
        Cells without a value; ``values`` holds anything there.
    categories : list or None
        The categories of the codes.
    """

    values: np.ndarray
    missing: np.ndarray
    categories: list | None = None


Parts = list[tuple[Any, ColumnSchema, DecodedColumn]]


def column_positions(
    keys: Iterable[Any], names: list[str], parameter: str, input_name: str = "X"
) -> list[int]:
    """Return the positions of columns: strings are names, integers positions.

    A name is the label of the column as text, whatever its type.

    Raises
    ------
    ValueError
        If there is no such column. ``parameter`` is named, and the table.
    """
    position = {name: place for place, name in enumerate(names)}
    found = []
    for key in keys:
        if isinstance(key, str) and key in position:
            found.append(position[key])
        elif not isinstance(key, int | np.integer) or isinstance(key, bool):
            raise ValueError(f"{parameter} names the unknown column {key!r}.")
        elif -len(names) <= key < len(names):
            found.append(int(key) % len(names))
        else:
            raise ValueError(
                f"{parameter} names the column index {key}, but {input_name} has "
                f"{len(names)} columns. Integers are positions, labels are given as "
                "strings."
            )
    return found


def by_column(
    values: dict[Any, Any], names: list[str], parameter: str, input_name: str = "X"
) -> dict[int, Any]:
    """Return the values of a parameter by the position of their column.

    Raises
    ------
    ValueError
        If a key is no column, or two keys are the same column.
    """
    positions = column_positions(values, names, parameter, input_name)
    found: dict[int, Any] = {}
    for place, value in zip(positions, values.values(), strict=True):
        if place in found:
            raise ValueError(f"{parameter} names the column {names[place]!r} twice.")
        found[place] = value
    return found
