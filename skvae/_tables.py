"""Access to the columns of NumPy, pandas, polars and pyarrow tables.

Whatever the library, a column is read as an array of numbers, or as integer codes
with the values that they stand for. narwhals covers what the libraries share; how they
declare and store categories differs, and is read from each directly.
"""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import math
import numbers
from collections import Counter
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import validate_data

from skvae._layouts import ColumnType, arrow_to_plain


def open_table(owner: Any, X: Any, *, reset: bool) -> Table:
    """Check a table and give access to its columns.

    Parameters
    ----------
    owner : estimator
        It is named in errors, and its ``n_features_in_`` and ``feature_names_in_``
        are set or checked.
    X : array-like or data frame of shape (n_samples, n_features)
        The table.
    reset : bool
        Whether this is the training table, which needs two rows.

    Returns
    -------
    table : Table
        Access to the columns of X, or of the array that X converts to.
    """
    X = nw.to_native(X, pass_through=True)
    if nw.dependencies.is_polars_lazyframe(X):
        raise TypeError("X is a polars LazyFrame. Call its collect method first.")
    min_rows = 2 if reset else 1
    open_frame = _frame_class(X)
    if open_frame is None:
        # dtype=None leaves integers, booleans and objects as they are. Infinities are
        # looked for later, where the name of the column is known.
        array = validate_data(
            owner,
            X,
            reset=reset,
            dtype=None,
            ensure_all_finite=False,
            ensure_min_samples=min_rows,
        )
        return ArrayTable(array)
    _refuse_duplicates(open_frame.labels_of(X))
    validate_data(owner, X, reset=reset, skip_check_array=True)
    table = open_frame(X)
    _check_size(table, min_rows, type(owner).__name__)
    return table


def _frame_class(X: Any) -> type[FrameTable] | None:
    if nw.dependencies.is_pandas_dataframe(X):
        return PandasTable
    if nw.dependencies.is_polars_dataframe(X):
        return PolarsTable
    if nw.dependencies.is_pyarrow_table(X):
        return ArrowTable
    return None


def _refuse_duplicates(labels: list) -> None:
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        names = ", ".join(repr(label) for label in repeated)
        raise ValueError(f"Column names must be unique, but these repeat: {names}.")


def _check_size(table: Table, min_rows: int, owner_name: str) -> None:
    """Ask of a frame what check_array asks of an array, in the same words."""
    for count, what, minimum in (
        (table.n_rows, "sample", min_rows),
        (table.n_columns, "feature", 1),
    ):
        if count < minimum:
            raise ValueError(
                f"Found array with {count} {what}(s) (shape=({table.n_rows}, "
                f"{table.n_columns})) while a minimum of {minimum} is required by "
                f"{owner_name}."
            )


class Table:
    """Read access to the columns of a table, by position.

    Attributes
    ----------
    library : str
        "numpy", "pandas", "polars" or "pyarrow".
    labels : list
        Labels of the columns; "x0", "x1", ... for an array.
    n_rows, n_columns : int
        Shape of the table.
    array : ndarray of shape (n_rows, n_columns) or None
        The table itself where it is an array of numbers.
    """

    library: str
    labels: list
    n_rows: int
    n_columns: int
    array: np.ndarray | None = None

    def column_type(self, index: int) -> ColumnType:
        """Describe the dtype of a column."""
        raise NotImplementedError

    def numbers(self, index: int) -> np.ndarray:
        """Values of a numeric or boolean column, NaN where missing."""
        raise NotImplementedError

    def objects(self, index: int) -> np.ndarray:
        """Values of a column as Python objects."""
        raise NotImplementedError

    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        """Codes of the cells, -1 where missing, and the values they stand for."""
        raise NotImplementedError


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

    def column_type(self, index: int) -> ColumnType:
        """Describe a column; objects of one plain type count as that type."""
        dtype = self._values.dtype
        if dtype.kind != "O":
            return ColumnType(self.FAMILIES.get(dtype.kind, "other"), str(dtype))
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
        return ColumnType(family, name, details={"array": "object"})

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


class FrameTable(Table):
    """Columns of a data frame; subclasses know one library each."""

    def __init__(self, frame: Any):
        self.labels = self.labels_of(frame)
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
        """Column labels of a native frame; narwhals refuses duplicates."""
        return list(frame.columns)

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
        """Values of a numeric or boolean column, NaN where missing."""
        if self._holds_objects(index):
            return numbers_of_objects(self.objects(index))
        series = self._series(index)
        if series.dtype == nw.Boolean:
            series = series.cast(nw.Float64)
        elif not series.dtype.is_numeric():  # a column of nulls has no other dtype
            return np.full(self.n_rows, np.nan)
        return series.to_numpy()

    def objects(self, index: int) -> np.ndarray:
        """Values of a column as Python objects."""
        return np.asarray(self._series(index).to_numpy(), dtype=object)

    def factorize(self, index: int) -> tuple[np.ndarray, list]:
        """Codes of the cells, -1 where missing, and the values they stand for."""
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

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        raise NotImplementedError


class PandasTable(FrameTable):
    """Columns of a pandas DataFrame."""

    library = "pandas"

    def _holds_objects(self, index: int) -> bool:
        # narwhals calls a column of objects a string column where it finds text.
        return self._series(index).to_native().dtype == np.dtype(object)

    def column_type(self, index: int) -> ColumnType:
        """Describe the dtype of a column."""
        import pandas as pd

        dtype = self._series(index).to_native().dtype
        type_ = ColumnType(self._family(index), str(dtype))
        if isinstance(dtype, pd.CategoricalDtype):
            values = dtype.categories
            type_.ordered = bool(dtype.ordered)
            type_.categories = plain_values(values.tolist())
            if isinstance(values, pd.IntervalIndex):
                type_.details["left"] = values.left.tolist()
                type_.details["right"] = values.right.tolist()
                type_.details["closed"] = values.closed
            else:
                type_.details["categories_dtype"] = str(values.dtype)
        elif isinstance(dtype, pd.StringDtype):
            type_.details["storage"] = dtype.storage
            type_.details["na_value"] = "NA" if dtype.na_value is pd.NA else "nan"
        elif isinstance(dtype, pd.ArrowDtype):
            type_.details["arrow"] = arrow_to_plain(dtype.pyarrow_dtype)
            if type_.name == "null[pyarrow]":
                type_.family = "null"
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        import pandas as pd

        if isinstance(series.dtype, pd.CategoricalDtype):
            return series.cat.codes.to_numpy(np.intp), series.cat.categories.tolist()
        codes, values = pd.factorize(series)
        return codes, values.tolist()


class PolarsTable(FrameTable):
    """Columns of a polars DataFrame."""

    library = "polars"

    def column_type(self, index: int) -> ColumnType:
        """Describe the dtype of a column."""
        import polars as pl

        dtype = self._series(index).to_native().dtype
        type_ = ColumnType(self._family(index), str(dtype))
        if dtype == pl.Enum:
            type_.ordered = True
            type_.categories = dtype.categories.to_list()
        elif dtype == pl.Null:
            type_.family = "null"
        elif isinstance(dtype, pl.Categorical) and hasattr(pl, "Categories"):
            shared = dtype.categories
            if shared.name():  # else the categories that all columns share
                names = [shared.name(), shared.namespace(), str(shared.physical())]
                type_.details["categories"] = names
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        import polars as pl

        if series.dtype == pl.Enum:
            codes = series.to_physical().cast(pl.Int64).fill_null(-1)
            return codes.to_numpy(), series.dtype.categories.to_list()
        text = series.cast(pl.String)
        values = text.drop_nulls().unique()
        positions = pl.Series(range(len(values)), dtype=pl.Int64)
        codes = text.replace_strict(values, positions, default=-1)
        return codes.to_numpy(), values.to_list()


class ArrowTable(FrameTable):
    """Columns of a pyarrow Table."""

    library = "pyarrow"

    @staticmethod
    def labels_of(frame: Any) -> list:
        """Column labels of a native table."""
        return list(frame.column_names)

    def column_type(self, index: int) -> ColumnType:
        """Describe the dtype of a column."""
        import pyarrow as pa

        column = self._series(index).to_native()
        type_ = ColumnType(self._family(index), str(column.type))
        type_.details["arrow"] = arrow_to_plain(column.type)
        if pa.types.is_null(column.type):
            type_.family = "null"
        elif pa.types.is_dictionary(column.type):
            type_.ordered = bool(column.type.ordered)
            # After unification every chunk has the dictionary of the whole column.
            chunks = column.unify_dictionaries().chunks
            declared = chunks[0].dictionary.to_pylist() if chunks else []
            type_.categories = plain_values([v for v in declared if v is not None])
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        import pyarrow as pa

        if pa.types.is_dictionary(series.type):
            series = series.cast(series.type.value_type)
        # One chunk, so one dictionary.
        encoded = pa.chunked_array([series.combine_chunks()]).dictionary_encode()
        encoded = encoded.chunk(0)
        return encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary.to_pylist()


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
