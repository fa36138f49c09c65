"""NumPy arrays as tables."""

from __future__ import annotations

import numpy as np

from .schema import ColumnSchema, Parts
from .table import Table
from .values import (
    factorize_numbers,
    factorize_objects,
    numbers_of,
    numbers_of_objects,
    object_families,
    objects_of,
    with_nan_cells,
)


# ---------------------------------------------------------------------------
# NumPy
# ---------------------------------------------------------------------------
def build_array(parts: Parts) -> np.ndarray:
    first_type = parts[0][1]
    dtype = np.dtype(first_type.details.get("array", first_type.name))
    result = np.empty((len(parts[0][2].values), len(parts)), dtype=dtype)
    for index, (label, type_, column) in enumerate(parts):
        if dtype.kind == "O":
            values = objects_of(column, type_)
            if type_.family in ("float", "integer", "null"):
                values[column.missing] = np.nan
        elif dtype.kind == "U":
            values = with_nan_cells(
                label, objects_of(column, type_), column.missing, dtype
            )
        else:
            values = with_nan_cells(
                label, numbers_of(column, type_), column.missing, dtype
            )
        result[:, index] = values
    return result


class ArrayTable(Table):
    """Columns of a two-dimensional NumPy array."""

    library = "numpy"
    FAMILIES = {  # noqa: RUF012
        "f": "float",
        "i": "integer",
        "u": "integer",
        "b": "boolean",
        # Text in an array needs a declaration as objects do: it may be an accident.
        "U": "object",
    }

    def __init__(self, array: np.ndarray):
        self._values = array
        self.array = array if array.dtype.kind in "fiub" else None
        self.n_rows, self.n_columns = array.shape
        self.labels = [f"x{index}" for index in range(self.n_columns)]

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
        """Values of a numeric or boolean column, NaN where missing."""
        values = self._values[:, index]
        return numbers_of_objects(values) if values.dtype.kind == "O" else values

    def objects(self, index: int) -> np.ndarray:
        """Values of a column as Python objects."""
        return self._values[:, index].astype(object)

    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        """Codes of the cells, -1 where missing, and the values they stand for."""
        if self.array is not None:
            return factorize_numbers(self.array[:, index])
        return factorize_objects(self.objects(index))


def mask_array(array: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    dtype = {"i": np.float64, "u": np.float64, "b": np.float64, "U": object}
    result = np.array(array, dtype=dtype.get(array.dtype.kind, array.dtype))
    result[hidden] = np.nan
    return result
