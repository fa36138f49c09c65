"""Values of one column, whatever the library."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn


# ---------------------------------------------------------------------------
# Values of one column
# ---------------------------------------------------------------------------
def numbers_of(column: DecodedColumn, type_: ColumnSchema) -> np.ndarray:
    """Values as booleans, integers in the range of the dtype, or float64."""
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
    """NumPy dtype of an integer dtype of any library, found in its name."""
    match = re.search(r"(u?)int(\d+)", name.lower())
    assert match is not None, name
    return np.dtype(f"{match[1]}int{min(int(match[2]), 64)}")


def nearest_integers(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Nearest values that an integer dtype can hold."""
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
    """Values as Python objects, None where missing."""
    if column.categories is None:
        values = numbers_of(column, type_).astype(object)
    else:
        lookup = np.empty(max(1, len(column.categories)), dtype=object)
        lookup[: len(column.categories)] = column.categories
        values = lookup[column.values]
    values[column.missing] = None
    return values


def declared_codes(column: DecodedColumn, type_: ColumnSchema) -> np.ndarray:
    """Codes into the categories of the dtype, -1 where missing."""
    position = {value: code for code, value in enumerate(type_.categories or [])}
    codes = np.array([position[value] for value in column.categories or []] or [-1])
    return np.where(column.missing, -1, codes[column.values])


def with_nan_cells(
    label: Any, values: np.ndarray, missing: np.ndarray, dtype: np.dtype
):
    """Put NaN into the missing cells of a NumPy dtype that may not know it."""
    if not missing.any():
        return values.astype(dtype, copy=False)
    if dtype.kind != "f":
        raise ValueError(
            f"Column {label!r} has the dtype {dtype}, which cannot hold missing cells."
        )
    return np.where(missing, np.nan, values).astype(dtype)


# ---------------------------------------------------------------------------
# Values of one column
# ---------------------------------------------------------------------------
def is_missing_object(value: Any) -> bool:
    """Tell whether a Python object is None, NaN, pandas.NA or pandas.NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")


def object_families(values: np.ndarray) -> dict[str, str]:
    """Families of the observed objects, each with the name of one of its types."""
    types = {type(value) for value in values if not is_missing_object(value)}
    return {_object_family(type_): type_.__name__ for type_ in types}


def _object_family(type_: type) -> str:
    if issubclass(type_, bool | np.bool_):
        return "boolean"
    if issubclass(type_, numbers.Real):
        return "number"
    return "string" if issubclass(type_, str) else "other"


def numbers_of_objects(values: np.ndarray) -> np.ndarray:
    """Float column, or integer column where nothing is missing, from objects."""
    observed = np.array([not is_missing_object(value) for value in values])
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
    """Codes of the cells, -1 where missing, and values in order of appearance."""
    position: dict[Any, int] = {}
    codes = np.empty(len(values), dtype=np.intp)
    for row, value in enumerate(values):
        is_missing = is_missing_object(value)
        codes[row] = -1 if is_missing else position.setdefault(value, len(position))
    return codes, plain_values(list(position))


def factorize_numbers(values: np.ndarray) -> tuple[np.ndarray, list]:
    """Codes of the cells, -1 where missing, and the sorted distinct values."""
    observed = ~np.isnan(values)
    distinct, inverse = np.unique(values[observed], return_inverse=True)
    codes = np.full(len(values), -1)
    codes[observed] = inverse
    return codes, distinct.tolist()


def plain_values(values: list) -> list:
    """Category values as str, bool, int or float; anything else becomes its text.

    Fitted state must load from any serialiser, and dates or intervals would not.
    """
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    return [v if isinstance(v, str | bool | int | float) else str(v) for v in plain]
