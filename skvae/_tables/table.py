"""Read access to the columns of a table of any library.

A column is read as an array of numbers, or as integer codes and the values that they
stand for. narwhals covers what the libraries have in common; each has a file for what
differs, such as how it declares and stores categories.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from .schema import ColumnSchema
from .values import (
    factorize_numbers,
    factorize_objects,
    numbers_of_objects,
    object_families,
    plain_values,
)


class Table(ABC):
    """Read access to the columns of a table, by position.

    Attributes
    ----------
    library : str
        "numpy", "pandas", "polars" or "pyarrow".
    labels : list
        Labels of the columns; "x0", "x1", ... for an array X, "y0", ... for y.
    n_rows, n_columns : int
        Shape of the table.
    array : ndarray of shape (n_rows, n_columns) or None
        The table itself where it is a numeric array.
    input_name : {"X", "y"}
        The argument that the table was given as, for errors.
    """

    library: str
    labels: list
    n_rows: int
    n_columns: int
    array: np.ndarray | None = None
    input_name: str = "X"

    def title(self, name: str) -> str:
        """Return how errors refer to a column."""
        return f"Column {name!r}" + ("" if self.input_name == "X" else " of y")

    @property
    def declaration(self) -> str:
        """How a user declares that a column holds categories, for errors."""
        if self.input_name == "X":
            return "declare it in categorical_features"
        return "give it likelihood='categorical'"

    @abstractmethod
    def column_type(self, index: int) -> ColumnSchema:
        """Describe the dtype of a column."""

    @abstractmethod
    def numbers(self, index: int) -> np.ndarray:
        """Values of a numeric or boolean column, NaN where missing."""

    @abstractmethod
    def objects(self, index: int) -> np.ndarray:
        """Values of a column as Python objects."""

    @abstractmethod
    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        """Codes of the cells, -1 where missing, and the values they stand for."""


class FrameTable(Table):
    """Columns of a data frame; every library has a subclass."""

    def __init__(self, frame: Any, input_name: str = "X"):
        self.input_name = input_name
        self.labels = self.labels_of(frame)
        self._refuse_duplicates()
        self._frame = nw.from_native(frame, eager_only=True)
        self.n_rows, self.n_columns = self._frame.shape
        self._columns: dict[int, Any] = {}

    def _series(self, index: int) -> Any:
        # kept: to take a column costs more than to read the few cells of one row
        if index not in self._columns:
            self._columns[index] = self._frame[:, index]
        return self._columns[index]

    @staticmethod
    def labels_of(frame: Any) -> list:
        """Column labels of a native frame."""
        return list(frame.columns)

    def _refuse_duplicates(self) -> None:
        counts = Counter(self.labels)
        if len(counts) < len(self.labels):
            repeated = [label for label, count in counts.items() if count > 1]
            raise ValueError(
                f"Column names of {self.input_name} must be unique, but these repeat: "
                f"{', '.join(map(repr, repeated))}."
            )

    def _holds_objects(self, index: int) -> bool:
        return self._series(index).dtype == nw.Object

    def _family(self, index: int) -> str:
        dtype = self._series(index).dtype
        if self._holds_objects(index):
            return "object" if object_families(self.objects(index)) else "null"
        if dtype.is_float():
            return "float"
        if dtype.is_integer():
            return "integer"
        if dtype == nw.Boolean:
            return "boolean"
        if dtype == nw.String:
            return "string"
        return "category" if dtype in (nw.Categorical, nw.Enum) else "other"

    def numbers(self, index: int) -> np.ndarray:
        if self._holds_objects(index):
            return numbers_of_objects(self.objects(index))
        series = self._series(index)
        if series.dtype == nw.Boolean:
            series = series.cast(nw.Float64)
        elif not series.dtype.is_numeric():  # a column of nulls has no other dtype
            return np.full(self.n_rows, np.nan)
        return series.to_numpy()

    def objects(self, index: int) -> np.ndarray:
        return np.asarray(self._series(index).to_numpy(), dtype=object)

    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        if self._holds_objects(index):
            return factorize_objects(self.objects(index))
        family = self._family(index)
        if family in ("string", "category"):
            codes, values = self._factorize_native(self._series(index).to_native())
            return codes, plain_values(values)
        if family == "other":
            # Null dtypes; the values of unsupported dtypes are refused in fit.
            return np.full(self.n_rows, -1), []
        return factorize_numbers(self.numbers(index))

    @abstractmethod
    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        """Codes and values of a native series of categories or text."""
