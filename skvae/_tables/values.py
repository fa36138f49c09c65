"""Values of one column of any library."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .levels import Key, key_of, keys_of
from .schema import ColumnSchema, DecodedColumn

#: Names of NumPy dtypes whose names differ in other libraries.
DTYPES = {
    "boolean": "bool",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
}

#: Largest integer up to which float64 holds all.
LARGEST_EXACT = 2**53

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
    return held_by(type_.name, values.astype(np.float64, copy=False))


def numpy_dtype(dtype: Any) -> np.dtype | None:
    """Return the NumPy dtype of numbers or booleans of any library, else None."""
    name = str(dtype).lower().removesuffix("[pyarrow]")
    name = DTYPES.get(name, name)
    is_number = re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", name)
    return np.dtype(name) if is_number else None


def integer_dtype(name: str) -> np.dtype:
    """Return the NumPy dtype of an integer dtype of any library, by its name."""
    dtype = numpy_dtype(name)
    assert dtype is not None, name
    return dtype


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


def is_beyond_floats(integers: np.ndarray) -> bool:
    """Tell whether float64 does not hold all integers exactly: some exceed 2**53."""
    if integers.dtype.itemsize < 8 or not integers.size:
        return False
    return bool(integers.max() > LARGEST_EXACT or integers.min() < -LARGEST_EXACT)


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


def observed_of_objects(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the observed numbers among objects, and the mask of their cells.

    Integers are int64 or uint64; other numbers, and with them integers, are float64.

    Raises
    ------
    OverflowError
        If there are integers alone, and neither dtype holds all.
    """
    observed = np.array([not is_missing(value) for value in values], dtype=bool)
    kept = values[observed]
    if len(kept) and all(isinstance(value, numbers.Integral) for value in kept):
        signed = min(kept) < 0 or max(kept) <= np.iinfo(np.int64).max
        return kept.astype(np.int64 if signed else np.uint64), observed
    return kept.astype(np.float64), observed


def numbers_of_objects(values: np.ndarray) -> np.ndarray:
    """Return an array of floats with NaN, or integers where no cell is missing."""
    try:
        kept, observed = observed_of_objects(values)
    except OverflowError:
        return values.astype(np.float64)
    return with_gaps(kept, observed)


def with_gaps(kept: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the observed values in their cells, NaN in the others."""
    if observed.all():
        return kept
    result = np.full(len(observed), np.nan)
    result[observed] = kept
    return result


def factorize_objects(values: np.ndarray) -> tuple[np.ndarray, list[Key]]:
    """Return codes, -1 where missing, and the keys in order of appearance."""
    position: dict[Any, int] = {}
    codes = np.empty(len(values), dtype=np.intp)
    for row, value in enumerate(values):
        observed = not is_missing(value)
        codes[row] = position.setdefault(value, len(position)) if observed else -1
    return codes, keys_of(position)


def factorize_observed(
    values: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, list[Key]]:
    """Return codes, -1 where missing, and the sorted distinct numbers.

    ``values`` are those of the observed cells.
    """
    distinct, inverse = np.unique(values, return_inverse=True)
    codes = np.full(len(observed), -1)
    codes[observed] = inverse
    return codes, distinct.tolist()


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
    columns : list of DecodedColumn
        The columns of the completed table.
    types : list of ColumnSchema
        Their dtypes in training.
    is_own : bool
        Whether the table to fill is of the library of training.
    levels : callable
        Gives the levels of a dtype of training, as Python objects.
    """

    mask: np.ndarray
    kept: list[int]
    empty: dict[int, bool]
    flagged: list[int]
    columns: list[DecodedColumn]
    types: list[ColumnSchema]
    is_own: bool
    levels: Callable[[ColumnSchema], list]

    def incomplete(self) -> list[int]:
        """Return the columns with cells to fill."""
        return [index for index in self.kept if self.mask[:, index].any()]

    def trained(self, index: int) -> ColumnSchema | None:
        """Return the dtype of training where it may replace that of the column."""
        is_known = self.is_own and index not in self.empty
        return self.types[index] if is_known else None

    def values(self, index: int, dtype: Any, declared: Sequence = ()) -> np.ndarray:
        """Return the fill values of a column, (n_samples,).

        They are numbers, booleans, or objects, among them levels; a column that was
        empty in training gets a placeholder, which depends on its ``dtype`` and the
        levels that this declares.
        """
        if index in self.empty:
            value = placeholder(dtype, self.empty[index], declared)
            kind = type(value) if isinstance(value, bool | int) else object
            values = np.empty(len(self.mask), dtype=kind)
            values[:] = value
            return values
        column, type_ = self.columns[index], self.types[index]
        if type_.family in ("boolean", "integer", "float"):
            return numbers_of(column, type_)
        if type_.family == "category":
            column = replace(column, categories=self._levels(index))
        return objects_of(column, type_)

    def coded(
        self, index: int, dtype: Any, declared: Sequence
    ) -> tuple[np.ndarray, list]:
        """Return the fill values of a column as codes, (n_samples,), and levels."""
        if index not in self.empty and self.types[index].family == "category":
            return self.columns[index].values, self._levels(index)
        values = self.values(index, dtype, declared)
        position = {value: code for code, value in enumerate(set(values.tolist()))}
        codes = [position[value] for value in values.tolist()]
        return np.array(codes, dtype=np.intp), list(position)

    def _levels(self, index: int) -> list:
        """Return the levels of the codes of a column, as Python objects."""
        type_, keys = self.types[index], self.columns[index].categories or []
        levels = dict(zip(type_.categories or [], self.levels(type_), strict=False))
        return [levels.get(key, key) for key in keys]


def indicator_name(label: Any) -> str:
    """Return the name of the indicator of a column, as scikit-learn's imputers do."""
    return f"missingindicator_{label}"


def is_text(values: np.ndarray) -> bool:
    """Tell whether some of the values are strings."""
    return values.dtype.kind in "OU" and any(isinstance(v, str) for v in values)


def text_of(values: np.ndarray) -> np.ndarray:
    """Return values as strings: the keys of levels, as text."""
    return np.array([str(key) for key in keys_of(values)], dtype=object)


@contextmanager
def cannot_hold(label: Any, dtype: Any) -> Iterator[None]:
    """Context manager that names the column whose dtype cannot hold a fill value."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"Column {label!r} has the dtype {dtype}, which cannot hold the values of "
            "its column in training. Give it the dtype of training."
        ) from error


def held_by(dtype: Any, values: np.ndarray) -> np.ndarray:
    """Return the nearest numbers that the dtype of a column, of any library, holds."""
    own = numpy_dtype(dtype)
    if values.dtype.kind not in "fiu" or own is None:
        return values
    if own.kind in "iu":
        return nearest_integers(values, own)
    if own.kind == "f" and own.itemsize <= values.itemsize:
        limit = float(np.finfo(own).max)
        return np.clip(values, -limit, limit)
    return values


def placeholder(dtype: Any, holds_categories: bool, declared: Sequence = ()) -> Any:
    """Return the fill value of a column without an observed cell in training."""
    if len(declared):
        return declared[0]
    text = str(dtype).lower()
    if "bool" in text:
        return False
    holds_text = text.startswith(
        ("<u", "str", "utf8", "large_string", "categor", "enum")
    )
    # a dtype that can hold anything follows the declaration of the user
    is_open = text.startswith(("object", "null"))
    return EMPTY_TEXT if holds_text or (is_open and holds_categories) else 0


def marker_of(dtype: np.dtype, marker: Any) -> Any:
    """Return the marker of missing cells as a value of a NumPy dtype.

    None, if the dtype has no such value: booleans are no numbers.
    """
    if isinstance(marker, str) or (dtype.kind == "b") != isinstance(marker, bool):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = dtype.type(marker)
        return None if np.isinf(value) and not np.isinf(marker) else value
    if dtype.kind == "b":
        return marker
    is_whole = np.isfinite(marker) and marker == int(marker)
    info = np.iinfo(dtype)
    if not is_whole or not info.min <= marker <= info.max:
        return None
    return dtype.type(int(marker))


def equals_marker(cell: Any, marker: Any) -> bool:
    """Tell whether an object or a level equals the marker of missing cells."""
    if is_missing(cell):
        return False
    key = key_of(cell)
    for type_ in (str, bool):
        if isinstance(key, type_) != isinstance(marker, type_):
            return False
    if isinstance(key, str):
        return isinstance(cell, str) and key == marker
    if isinstance(cell, np.floating):
        return bool(cell == marker_of(cell.dtype, marker))
    return bool(key == marker)
