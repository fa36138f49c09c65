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

from .levels import Key
from .schema import ColumnSchema
from .values import (
    factorize_objects,
    factorize_observed,
    numbers_of_objects,
    numpy_dtype,
    object_families,
    observed_of_objects,
)

#: Families of columns by the kind of their NumPy dtype.
NUMPY_FAMILIES = {"f": "float", "i": "integer", "u": "integer", "b": "boolean"}


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

    @property
    def names(self) -> list[str]:
        """Names of the columns: their labels as text."""
        return [str(label) for label in self.labels]

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
        """Values of a numeric or boolean column, NaN where missing.

        Integers beyond 2**53 are rounded where a cell of the column is missing.
        """

    @abstractmethod
    def observed(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact values of the observed cells of a numeric column, and their mask."""

    @abstractmethod
    def objects(self, index: int) -> np.ndarray:
        """Values of a column as Python objects."""

    def _factorize_objects(self, index: int) -> tuple[np.ndarray, list[Key]]:
        try:
            return factorize_objects(self.objects(index))
        except TypeError:  # not hashable
            found = object_families(self.objects(index)).get("other", "object")
            raise TypeError(
                f"{self.title(str(self.labels[index]))} holds values of the type "
                f"{found}, which is no category. Convert them to strings."
            ) from None

    @abstractmethod
    def factorize(self, index: int) -> tuple[np.ndarray, list[Key]]:
        """Codes of the cells, -1 where missing, and the keys of their levels."""


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

    def _dtype(self, index: int) -> Any:
        """Native dtype of a column."""
        return self._series(index).to_native().dtype

    def _family(self, index: int) -> str:
        if self._holds_objects(index):
            return "object" if object_families(self.objects(index)) else "null"
        # by name: narwhals does not know all, such as half floats
        own = numpy_dtype(self._dtype(index))
        if own is not None:
            return NUMPY_FAMILIES[own.kind]
        dtype = self._series(index).dtype
        if dtype == nw.String:
            return "string"
        return "category" if dtype in (nw.Categorical, nw.Enum) else "other"

    def numbers(self, index: int) -> np.ndarray:
        family = self._family(index)
        if self._holds_objects(index):
            return numbers_of_objects(self.objects(index))
        series = self._series(index)
        if family == "boolean":
            series = series.cast(nw.Float64)
        elif family not in ("float", "integer"):
            return np.full(self.n_rows, np.nan)  # a column of nulls
        return series.to_numpy()

    def observed(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._holds_objects(index):
            return observed_of_objects(self.objects(index))
        series = self._series(index)
        if self._family(index) not in NUMPY_FAMILIES.values():  # a column of nulls
            return np.empty(0), np.zeros(self.n_rows, dtype=bool)
        observed = ~series.is_null().to_numpy()
        # without nulls integers keep their dtype
        values = series.drop_nulls().to_numpy()
        if values.dtype.kind == "f":
            is_number = ~np.isnan(values)
            observed[observed] = is_number
            values = values[is_number]
        return values, observed

    def objects(self, index: int) -> np.ndarray:
        return np.asarray(self._series(index).to_numpy(), dtype=object)

    def factorize(self, index: int) -> tuple[np.ndarray, list[Key]]:
        if self._holds_objects(index):
            return self._factorize_objects(index)
        family = self.column_type(index).family
        if family in ("string", "category"):
            return self._factorize_native(self._series(index).to_native())
        if family == "other":
            raise ValueError(
                f"{self.title(str(self.labels[index]))} has the dtype "
                f"{self.column_type(index).name}, which is not supported."
            )
        return factorize_observed(*self.observed(index))

    @abstractmethod
    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list[Key]]:
        """Codes and keys of a native series of categories or text."""
