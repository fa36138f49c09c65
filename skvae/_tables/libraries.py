"""Dispatch to the library of a table: opening, building and converting tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import check_array, validate_data

from .._validation import check_weights
from . import numpy_table, pandas_table, polars_table, pyarrow_table
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import Table
from .values import FillPlan


class Library(Protocol):
    """Functions of the file of a library; tables are native ones of this library."""

    def read(self, X: Any, input_name: str = "X") -> Table:
        """Return read access to the columns of a table."""

    def build(self, parts: Parts) -> Any:
        """Build a table from decoded columns."""

    def levels(self, type_: ColumnSchema) -> list:
        """Return the levels that a dtype declares, as Python objects."""

    def fill(self, X: Any, plan: FillPlan) -> Any:
        """Return a table with the masked cells taken from the plan."""

    def replace_marker(self, X: Any, marker: Any) -> Any:
        """Return a table with missing cells where cells equal the marker."""

    def missing_mask(self, X: Any) -> np.ndarray:
        """Return the mask of the missing cells, (n_samples, n_features)."""

    def mask_cells(self, X: Any, masked: np.ndarray) -> Any:
        """Return a table whose masked cells are missing."""


LIBRARIES: dict[str, Library] = {
    "numpy": numpy_table,
    "pandas": pandas_table,
    "polars": polars_table,
    "pyarrow": pyarrow_table,
}


def library_of(X: Any) -> Library:
    """Return the library of a native table; any other object counts as an array."""
    if nw.dependencies.is_pandas_dataframe(X):
        return pandas_table
    if nw.dependencies.is_polars_dataframe(X):
        return polars_table
    if nw.dependencies.is_pyarrow_table(X):
        return pyarrow_table
    return numpy_table


def native(X: Any) -> Any:
    """Return a table without the wrapper of narwhals, if it has one."""
    return nw.to_native(X, pass_through=True)


def refuse_lazy(X: Any, input_name: str = "X") -> None:
    """Raise if a table is a query whose rows are not computed yet."""
    if nw.dependencies.is_polars_lazyframe(X):
        raise TypeError(
            f"{input_name} is a polars LazyFrame. Call its collect method first."
        )


def refuse_no_rows(X: Any, input_name: str) -> None:
    """Raise TypeError for what has no rows, such as a number, a set or a function."""
    has_rows = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    is_other = isinstance(X, str | bytes | Mapping)
    is_array = hasattr(X, "__array__") or hasattr(X, "shape")
    if getattr(X, "shape", None) == () or not (is_array or (has_rows and not is_other)):
        raise TypeError(
            f"{input_name} must be an array-like or a data frame, but is "
            f"{'None' if X is None else f'of the type {type(X).__name__}'}."
        )


def check_same_length(X: Any, y: Any) -> None:
    """Raise unless X and y have rows, and as many."""
    refuse_no_rows(X, "X")
    refuse_no_rows(y, "y")
    check_consistent_length(X, y)


def as_array(data: Any, input_name: str) -> Any:
    """Return a sequence as an array; what has a dtype or a shape stays as it is.

    Raises
    ------
    ValueError
        If rows differ in length, or cells are sequences or of types without a common
        dtype.
    """
    refuse_no_rows(data, input_name)
    if hasattr(data, "shape") or hasattr(data, "dtype"):
        return data
    try:
        return np.asarray(data)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{input_name} does not convert to an array: {error}"
        ) from None


def checked_array(data: Any, input_name: str, **options: Any) -> np.ndarray:
    """Return scikit-learn's ``check_array``, whose errors name the argument here."""
    if options.get("ensure_2d", True):
        data = as_array(data, input_name)
    try:
        with np.errstate(over="ignore"):  # refused as infinity
            return check_array(data, input_name=input_name, **options)
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{input_name}\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{input_name} cannot be used: {error}") from None


@dataclass
class TableSchema:
    """Library, column labels and dtypes of a table."""

    library: str
    labels: list
    types: list[ColumnSchema]

    def build(self, columns: list[DecodedColumn]) -> Any:
        """Build a table of the library from decoded columns."""
        parts = list(zip(self.labels, self.types, columns, strict=True))
        return LIBRARIES[self.library].build(parts)

    def to_state(self) -> dict[str, Any]:
        """Return plain containers that hold the schema.

        Labels become text where they are no plain values, as dates do.
        """
        return asdict(self) | {"labels": [_plain_label(label) for label in self.labels]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TableSchema:
        """Return the schema that :meth:`to_state` was called on."""
        types = [ColumnSchema(**type_) for type_ in state["types"]]
        labels = [_label_of_plain(label) for label in state["labels"]]
        return cls(state["library"], labels, types)


def _plain_label(label: Any) -> Any:
    """Return a label as a plain value; a list stands for a tuple."""
    if isinstance(label, tuple):
        return [_plain_label(part) for part in label]
    if isinstance(label, np.generic):
        label = label.item()
    is_plain = label is None or isinstance(label, str | bool | int | float)
    return label if is_plain else str(label)


def _label_of_plain(plain: Any) -> Any:
    return tuple(map(_label_of_plain, plain)) if isinstance(plain, list) else plain


def checked_table(X: Any, owner_name: str, input_name: str, min_rows: int) -> Table:
    """Check the type and the size of a table and return read access to its columns.

    ``owner_name`` and ``input_name`` ("X" or "y") are named in errors. The names and
    the number of columns are not checked.
    """
    X = native(X)
    refuse_lazy(X, input_name)
    library = library_of(X)
    if library is numpy_table:
        # dtype=None leaves integers, booleans and objects as they are. Infinities are
        # looked for later, where the name of the column is known.
        X = checked_array(
            X,
            input_name,
            dtype=None,
            ensure_all_finite=False,
            ensure_min_samples=min_rows,
            estimator=owner_name,
        )
        return library.read(X, input_name)
    table = library.read(X, input_name)
    _check_size(table, min_rows, owner_name)
    return table


def open_table(owner: Any, X: Any, *, reset: bool) -> Table:
    """Check a table of features and return read access to its columns.

    X is a data frame or converts to an array. ``reset`` is True for the training table,
    which needs two rows and sets ``n_features_in_`` and ``feature_names_in_`` of its
    owner, the estimator; other tables are checked against these.
    """
    table = checked_table(X, type(owner).__name__, "X", min_rows=2 if reset else 1)
    validate_data(owner, native(X), reset=reset, skip_check_array=True)
    return table


def _check_size(table: Table, min_rows: int, owner_name: str) -> None:
    """Check the size of a frame as check_array does, with the same message."""
    shape = table.n_rows, table.n_columns
    sizes = zip(shape, ("sample", "feature"), (min_rows, 1), strict=True)
    for count, what, minimum in sizes:
        if count < minimum:
            raise ValueError(
                f"Found array with {count} {what}(s) (shape={shape}) while a minimum "
                f"of {minimum} is required by {owner_name}."
            )


# -- rows ----------------------------------------------------------------------------
def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of a table of any library, or of a list."""
    if library_of(native(X)) is pyarrow_table:
        return pyarrow_table.take_rows(native(X), rows)
    return _safe_indexing(X, rows)


def weighted_rows(sample_weight: Any, *tables: Any) -> tuple[Any, ...]:
    """Return weights, None if all equal, and the rows of positive weight of tables."""
    if sample_weight is None:
        return None, *tables
    weights = check_weights(sample_weight, tables[0])
    if not weights.all():
        rows = np.flatnonzero(weights)
        tables = tuple(take_rows(table, rows) for table in tables)
        weights = weights[rows]
    return None if (weights == weights[0]).all() else weights, *tables


# -- conversions ---------------------------------------------------------------------
class Container(NamedTuple):
    """The container of ``y``: predictions come in one of the same kind."""

    is_1d: bool
    is_frame: bool


def as_table(y: Any, name: Any = None) -> tuple[Any, Container]:
    """Return ``y`` as a two-dimensional table, and the container that it came in.

    ``name`` replaces the name of a series.
    """
    y = native(y)
    refuse_lazy(y, "y")
    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        if name is not None:
            series = series.rename(name)
        return series.to_frame().to_native(), Container(True, True)
    if nw.dependencies.is_into_dataframe(y):
        return y, Container(False, True)
    array = np.asarray(as_array(y, "y"))
    if array.ndim == 1:
        return array.reshape(-1, 1), Container(True, False)
    if array.ndim != 2:
        raise ValueError(
            f"y must be one- or two-dimensional, but has {array.ndim} dimensions."
        )
    return array, Container(False, False)


def to_array(table: Any) -> np.ndarray:
    """Return a table as an array."""
    if isinstance(table, np.ndarray):
        return table
    return nw.from_native(table, eager_only=True).to_numpy()


def column_of(table: Any, index: int) -> np.ndarray:
    """Return a column of a table as an array."""
    if isinstance(table, np.ndarray):
        return table[:, index]
    return nw.from_native(table, eager_only=True)[:, index].to_numpy()


def to_library(table: Any, library: str) -> Any:
    """Return a data frame as one of "pandas" or "polars"."""
    frame = nw.from_native(table, eager_only=True)
    return frame.to_pandas() if library == "pandas" else frame.to_polars()


def has_text_labels(table: Any) -> bool:
    """Tell whether all column labels are strings, which only pandas does not ensure."""
    if not nw.dependencies.is_pandas_dataframe(table):
        return True
    return all(isinstance(label, str) for label in table.columns)


def rename_columns(table: Any, names: list[str]) -> Any:
    """Return a table with other column names; arrays have none."""
    if isinstance(table, np.ndarray):
        return table
    frame = nw.from_native(table, eager_only=True)
    return frame.rename(dict(zip(frame.columns, names, strict=True))).to_native()


def with_index_of(table: Any, X: Any) -> Any:
    """Give a new table the index of ``X``, where both have one, and return it."""
    X = native(X)
    if all(map(nw.dependencies.is_pandas_dataframe, (table, X))):
        table.index = X.index
    return table


def observed_values(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the observed values of a sequence or series, and the mask of the others.

    The values have the type that they have in the column: without missing cells,
    integers and booleans keep theirs.
    """
    y = native(y)
    library = type(y).__module__.split(".")[0]
    if library == "pyarrow":
        y = pyarrow_table.plain_column(y)
    elif library == "pandas":
        y = pandas_table.plain_series(y)
    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        missing = series.is_null().to_numpy()
        return series.drop_nulls().to_numpy(), np.array(missing, dtype=bool)
    values = np.asarray(as_array(y, "y"))
    is_text = values.dtype.kind == "U" and not isinstance(y, np.ndarray)
    if is_text and not all(isinstance(value, str) for value in y):
        values = np.asarray(y, dtype=object)  # NaN and -1 are no strings
    if values.dtype.kind == "T":  # which may hold its own missing value
        values = values.astype(object)
    return values, np.zeros(len(values) if values.ndim else 0, dtype=bool)


def declared_categories(y: Any) -> list[Any]:
    """Return the categories that a pandas series declares."""
    categories: Any = getattr(getattr(y, "dtype", None), "categories", None)
    return categories.tolist() if hasattr(categories, "tolist") else []
