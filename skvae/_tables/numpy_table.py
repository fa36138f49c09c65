"""NumPy arrays as tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .levels import Key
from .schema import ColumnSchema, Parts
from .table import NUMPY_FAMILIES, Table
from .values import (
    FillPlan,
    equals_marker,
    factorize_observed,
    held_by,
    is_beyond_floats,
    is_missing,
    marker_of,
    numbers_of,
    numbers_of_objects,
    object_families,
    objects_of,
    observed_of_objects,
    with_nan_cells,
)


class ArrayTable(Table):
    """Columns of a two-dimensional NumPy array."""

    library = "numpy"
    # Text in an array needs a declaration, as objects do: it may be a mistake.
    FAMILIES = NUMPY_FAMILIES | {"U": "object"}

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
            family, name = self._type_of_numbers(index)
        return ColumnSchema(family, name, details={"array": "object"})

    def _type_of_numbers(self, index: int) -> tuple[str, str]:
        """Return family and dtype of a column of numeric objects."""
        try:
            dtype = self.observed(index)[0].dtype
        except OverflowError:
            return "object", "object of integers beyond 64 bits"
        return self.FAMILIES[dtype.kind], str(dtype)

    def numbers(self, index: int) -> np.ndarray:
        values = self._values[:, index]
        return numbers_of_objects(values) if values.dtype.kind == "O" else values

    def observed(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        values = self._values[:, index]
        if values.dtype.kind == "O":
            return observed_of_objects(values)
        observed = ~np.isnan(values)
        return values[observed], observed

    def objects(self, index: int) -> np.ndarray:
        return self._values[:, index].astype(object)

    def factorize(self, index: int) -> tuple[np.ndarray, list[Key]]:
        if self.array is not None:
            return factorize_observed(*self.observed(index))
        return self._factorize_objects(index)


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


def levels(type_: ColumnSchema) -> list:
    """Return the levels of a dtype; arrays have none that declares them."""
    return list(type_.categories or [])


def fill(X: Any, plan: FillPlan) -> np.ndarray:
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
    if X.dtype.kind not in "fiub":
        return X
    own = marker_of(X.dtype, marker)
    if own is None:
        return X
    marked = own == X
    if X.dtype.kind != "f":
        is_flag = X.dtype.kind == "b"
        X = X.astype(object if is_flag or is_beyond_floats(X) else np.float64)
    return np.where(marked, X.dtype.type(np.nan), X)


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
    kind = X.dtype.kind
    for index, column in enumerate(X.T if kind in "iu" else ()):
        if is_beyond_floats(column):
            raise ValueError(
                f"Column 'x{index}' holds integers beyond 2**53, which an array of "
                "float64 with missing cells does not hold exactly. Give X as a data "
                "frame or with dtype=object."
            )
    if kind in "OfmM":
        dtype = X.dtype
    else:
        dtype = np.dtype(np.float64 if kind in "iub" else object)
    result = np.array(X, dtype=dtype)
    result[masked] = np.array("NaT", dtype) if kind in "mM" else np.nan
    return result
