"""Values of one column of any library."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn

#: Names of the floats with a smaller range than float64, in all libraries.
FLOATS = {"float16": ("float16", "halffloat"), "float32": ("float32", "float")}

#: Fill value of a text column without an observed cell, as in SimpleImputer.
EMPTY_TEXT = "missing_value"


# -- decoded columns -----------------------------------------------------------------
def numbers_of(column: DecodedColumn, type_: ColumnSchema) -> np.ndarray:
    """Return values as booleans, integers in the range of the dtype, or float64."""
    values = column.values
    if column.categories is not None:
        # A column without categories is missing altogether.
        values = np.asarray(column.categories or [0])[values]
    if type_.family == "boolean":
        return values.astype(np.float64) >= 0.5
    if type_.family == "integer":
        return nearest_integers(values, integer_dtype(type_.name))
    return values.astype(np.float64, copy=False)


def integer_dtype(name: str) -> np.dtype:
    """Return the NumPy dtype of an integer dtype of any library, by its name."""
    match = re.search(r"(u?)int(\d+)", name.lower())
    assert match is not None, name
    return np.dtype(f"{match[1]}int{min(int(match[2]), 64)}")


def nearest_integers(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the nearest values that an integer dtype can hold."""
    info = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        own = np.iinfo(values.dtype)
        ends = max(info.min, own.min), min(info.max, own.max)
        return np.clip(values, *ends).astype(dtype)
    # float(2**63 - 1) is 2**63, which the cast cannot hold.
    upper = float(info.max)
    if upper > info.max:
        upper = np.nextafter(upper, 0)
    return np.clip(np.rint(values), float(info.min), upper).astype(dtype)


def objects_of(column: DecodedColumn, type_: ColumnSchema) -> np.ndarray:
    """Return values as Python objects, None where missing."""
    if column.categories is None:
        values = numbers_of(column, type_).astype(object)
    else:
        lookup = np.empty(max(1, len(column.categories)), dtype=object)
        lookup[: len(column.categories)] = column.categories
        values = lookup[column.values]
    values[column.missing] = None
    return values


def declared_codes(column: DecodedColumn, type_: ColumnSchema) -> np.ndarray:
    """Return codes into the categories of the dtype, -1 where missing."""
    position = {value: code for code, value in enumerate(type_.categories or [])}
    codes = np.array([position[value] for value in column.categories or []] or [-1])
    return np.where(column.missing, -1, codes[column.values])


def with_nan_cells(
    label: Any, values: np.ndarray, missing: np.ndarray, dtype: np.dtype
):
    """Return values with NaN in the missing cells; raise if the dtype has no NaN."""
    if not missing.any():
        return values.astype(dtype, copy=False)
    if dtype.kind != "f":
        raise ValueError(
            f"Column {label!r} has the dtype {dtype}, which cannot hold missing cells."
        )
    return np.where(missing, np.nan, values).astype(dtype)


# -- Python objects, and codes of the distinct values --------------------------------
def is_missing(value: Any) -> bool:
    """Tell whether a Python object is a missing value.

    That is None, NaN of any numeric type, NaT or pandas.NA.
    """
    if value is None or type(value).__name__ == "NAType":
        return True
    try:
        differs = value != value
    except ArithmeticError:  # a signaling NaN of Decimal refuses to be compared
        return True
    # an array in a cell is a value, which is refused later
    return isinstance(differs, bool | np.bool_) and bool(differs)


def object_families(values: np.ndarray) -> dict[str, str]:
    """Return the families of the observed objects, each with the name of a type."""
    types = {type(value) for value in values if not is_missing(value)}
    return {_object_family(type_): type_.__name__ for type_ in types}


def _object_family(type_: type) -> str:
    if issubclass(type_, bool | np.bool_):
        return "boolean"
    if issubclass(type_, numbers.Real):
        return "number"
    return "string" if issubclass(type_, str) else "other"


def numbers_of_objects(values: np.ndarray) -> np.ndarray:
    """Return a float array, or integers where no cell is missing, from objects."""
    observed = np.array([not is_missing(value) for value in values])
    kept = values[observed]
    if observed.all() and all(isinstance(value, numbers.Integral) for value in kept):
        try:
            return kept.astype(np.int64)
        except OverflowError:
            pass
    result = np.full(len(values), np.nan)
    result[observed] = kept.astype(np.float64)
    return result


def factorize_objects(values: np.ndarray) -> tuple[np.ndarray, list]:
    """Return codes, -1 where missing, and the values in order of appearance."""
    position: dict[Any, int] = {}
    codes = np.empty(len(values), dtype=np.intp)
    for row, value in enumerate(values):
        observed = not is_missing(value)
        codes[row] = position.setdefault(value, len(position)) if observed else -1
    return codes, plain_values(list(position))


def factorize_numbers(values: np.ndarray) -> tuple[np.ndarray, list]:
    """Return codes, -1 where missing, and the sorted distinct values."""
    observed = ~np.isnan(values)
    distinct, inverse = np.unique(values[observed], return_inverse=True)
    codes = np.full(len(values), -1)
    codes[observed] = inverse
    return codes, distinct.tolist()


def plain_values(values: list) -> list:
    """Return category values as str, bool, int or float; others become text.

    Fitted state must load from any serialiser, which dates or intervals do not.
    """
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    return [v if isinstance(v, str | bool | int | float) else str(v) for v in plain]


# -- missing cells that are filled or marked -----------------------------------------
@dataclass(frozen=True)
class FillPlan:
    """The cells of a table to fill, their values, and the columns of the result.

    Attributes
    ----------
    mask : ndarray of bool of shape (n_samples, n_features)
        The cells to fill.
    kept : list of int
        Columns that the result has.
    empty : dict of int to bool
        Columns without an observed cell in training, and whether they were declared to
        hold categories: they are filled with zero, False or a placeholder.
    flagged : list of int
        Columns whose mask is appended.
    cells : callable
        Gives the cells of a column of the completed table, (n_samples,), by its index.
    """

    mask: np.ndarray
    kept: list[int]
    empty: dict[int, bool]
    flagged: list[int]
    cells: Callable[[int], np.ndarray]

    def incomplete(self) -> list[int]:
        """Return the columns with cells to fill."""
        return [index for index in self.kept if self.mask[:, index].any()]

    def values(self, index: int, dtype: Any) -> np.ndarray:
        """Return the fill values of a column: completed cells, or placeholders."""
        if index not in self.empty:
            return self.cells(index)
        value = placeholder(dtype, self.empty[index])
        kind = type(value) if isinstance(value, bool | int) else object
        return np.full(len(self.mask), value, dtype=kind)


def is_text(values: np.ndarray) -> bool:
    """Tell whether some of the values are strings."""
    return values.dtype.kind in "OU" and any(isinstance(v, str) for v in values)


def held_by(dtype: Any, values: np.ndarray) -> np.ndarray:
    """Return the nearest numbers that the dtype of a column, of any library, holds."""
    name = str(dtype).lower()
    if values.dtype.kind not in "fiu":
        return values
    if re.match(r"u?int\d", name):
        return nearest_integers(values, integer_dtype(name))
    for own, names in FLOATS.items():
        if name.removesuffix("[pyarrow]") in names:
            limit = float(np.finfo(np.dtype(own)).max)
            return np.clip(values, -limit, limit)
    return values


def joined(declared: list, trained: Any, values: np.ndarray) -> list:
    """Return the declared categories with those that the values add.

    If the categories of training include all of them, these are returned, in their
    order.
    """
    new = [v for v in dict.fromkeys(values.tolist()) if v not in declared]
    if new and set(declared) | set(new) <= set(trained):
        return list(trained)
    return [*declared, *new]


def placeholder(dtype: Any, holds_categories: bool) -> Any:
    """Return the fill value of a column without an observed cell in training."""
    text = str(dtype).lower()
    declared: Any = getattr(dtype, "categories", None)
    if hasattr(declared, "__len__") and len(declared):
        return next(iter(declared))
    if "bool" in text:
        return False
    holds_text = text.startswith(
        ("<u", "str", "utf8", "large_string", "categor", "enum", "dictionary")
    )
    # a dtype that can hold anything follows the declaration of the user
    is_open = text.startswith(("object", "null"))
    return EMPTY_TEXT if holds_text or (is_open and holds_categories) else 0


def equals_marker(cell: Any, marker: Any) -> bool:
    """Tell whether an object equals the marker of missing cells."""
    if isinstance(cell, str) != isinstance(marker, str) or is_missing(cell):
        return False
    return bool(cell == marker)
