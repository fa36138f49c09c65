"""NumPy arrays as tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import ColumnSchema, Parts
from .table import Table
from .values import (
    FillPlan,
    equals_marker,
    factorize_numbers,
    factorize_objects,
    held_by,
    is_missing,
    numbers_of,
    numbers_of_objects,
    object_families,
    objects_of,
    with_nan_cells,
)


class ArrayTable(Table):
    """Columns of a two-dimensional NumPy array."""

    library = "numpy"
    FAMILIES = {  # noqa: RUF012
        "f": "float",
        "i": "integer",
        "u": "integer",
        "b": "boolean",
        # Text in an array needs a declaration, as objects do: it may be a mistake.
        "U": "object",
    }

    def __init__(self, array: np.ndarray, input_name: str = "X"):
        self.input_name = input_name
        self._values = array
        self.array = array if array.dtype.kind in "fiub" else None
        self.n_rows, self.n_columns = array.shape
        self.labels = [f"{input_name.lower()}{k}" for k in range(self.n_columns)]

    def column_type(self, index: int) -> ColumnSchema:
        """Describe a column; objects of one plain type count as that type."""
        dtype = self._values.dtype
        if dtype.kind != "O":
            return ColumnSchema(self.FAMILIES.get(dtype.kind, "other"), str(dtype))
        values = self._values[:, index]
        found = list(object_families(values))
        family, name = "object", "object"
        if not found:
            family = "null"
        elif found == ["boolean"]:
            family, name = "boolean", "bool"
        elif found == ["number"]:
            number_dtype = numbers_of_objects(values).dtype
            family, name = self.FAMILIES[number_dtype.kind], str(number_dtype)
        return ColumnSchema(family, name, details={"array": "object"})

    def numbers(self, index: int) -> np.ndarray:
        values = self._values[:, index]
        return numbers_of_objects(values) if values.dtype.kind == "O" else values

    def objects(self, index: int) -> np.ndarray:
        return self._values[:, index].astype(object)

    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        if self.array is not None:
            return factorize_numbers(self.array[:, index])
        return factorize_objects(self.objects(index))


def read(X: np.ndarray, input_name: str = "X") -> ArrayTable:
    return ArrayTable(X, input_name)


def build(parts: Parts) -> np.ndarray:
    """Build from decoded columns one array of their common dtype."""
    first_type = parts[0][1]
    dtype = np.dtype(first_type.details.get("array", first_type.name))
    result = np.empty((len(parts[0][2].values), len(parts)), dtype=dtype)
    for index, (label, type_, column) in enumerate(parts):
        if dtype.kind == "O":
            values = objects_of(column, type_)
            if type_.family in ("float", "integer", "null"):
                values[column.missing] = np.nan
        else:
            decoded = objects_of if dtype.kind == "U" else numbers_of
            values = decoded(column, type_)
            values = with_nan_cells(label, values, column.missing, dtype)
        result[:, index] = values
    return result


def cells(completed: np.ndarray, index: int) -> np.ndarray:
    """Return the cells of a column of a completed array."""
    values = completed[:, index]
    is_flag = values.dtype.kind == "O" and all(isinstance(v, bool) for v in values)
    return values.astype(bool) if is_flag and len(values) else values


def fill(X: Any, completed: Any, plan: FillPlan) -> np.ndarray:
    X = np.asarray(X)
    filled = X.copy()
    for index in plan.incomplete():
        masked = plan.mask[:, index]
        dtype = X.dtype
        if dtype.kind == "O" and any(isinstance(v, str) for v in X[:, index]):
            dtype = np.dtype(str)
        values = plan.values(index, dtype)[masked]
        if filled.dtype.kind == "U":  # of a fixed length
            values = values.astype(str)
            filled = filled.astype(np.result_type(filled, values))
        filled[masked, index] = held_by(filled.dtype, values)
    filled = filled[:, plan.kept]
    if not plan.flagged:
        return filled
    flags = plan.mask[:, plan.flagged]
    if filled.dtype.kind == "U":  # beside text a flag would become text
        filled = filled.astype(object)
    if filled.dtype.kind != "O":
        flags = flags.astype(filled.dtype)
    return np.hstack([filled, flags])


def replace_marker(X: Any, marker: Any) -> Any:
    if not isinstance(X, np.ndarray | list | tuple):
        return X  # sparse matrices and the like are refused later
    X = np.asarray(X)
    if X.dtype.kind in "OU":
        flags = [equals_marker(cell, marker) for cell in X.ravel()]
        marked = np.reshape(np.array(flags, bool), X.shape)
        return np.where(marked, np.nan, X.astype(object)) if marked.any() else X
    if isinstance(marker, str):
        return X
    if X.dtype.kind in "iub":
        X = X.astype(np.float64)
    return np.where(marker == X, X.dtype.type(np.nan), X)


def missing_mask(X: Any) -> np.ndarray:
    X = np.asarray(X)
    if X.dtype.kind == "f":
        return np.isnan(X)
    if X.dtype.kind != "O":
        return np.zeros(X.shape, dtype=bool)
    flags = [is_missing(value) for value in X.ravel()]
    return np.reshape(np.array(flags, dtype=bool), X.shape)


def mask_cells(X: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Return a copy with the masked cells missing; integers become floats."""
    dtype = {"i": np.float64, "u": np.float64, "b": np.float64, "U": object}
    result = np.array(X, dtype=dtype.get(X.dtype.kind, X.dtype))
    result[masked] = np.nan
    return result
