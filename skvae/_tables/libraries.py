"""Which library a table is of: the one place that tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import validate_data

from . import numpy_table, pandas_table, polars_table, pyarrow_table
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import Table
from .values import FillPlan


class Library(Protocol):
    """What the file of a library offers; tables are native ones of this library."""

    def read(self, X: Any) -> Table:
        """Give access to the columns of a table."""

    def build(self, parts: Parts) -> Any:
        """Put decoded columns together into a table."""

    def cells(self, completed: Any, index: int) -> np.ndarray:
        """Return the cells of a column of a completed table."""

    def fill(self, X: Any, completed: Any, plan: FillPlan) -> Any:
        """Return a table with the masked cells taken from the plan.

        ``completed`` is a table of this library with the dtypes of training, or None.
        """

    def replace_marker(self, X: Any, marker: Any) -> Any:
        """Return a table with missing cells where cells equal the marker."""

    def missing_mask(self, X: Any) -> np.ndarray:
        """Return the mask of the missing cells, (n_samples, n_features)."""

    def mask_cells(self, X: Any, hidden: np.ndarray) -> Any:
        """Return a table without the hidden cells."""


LIBRARIES: dict[str, Library] = {
    "numpy": numpy_table,
    "pandas": pandas_table,
    "polars": polars_table,
    "pyarrow": pyarrow_table,
}


def library_of(X: Any) -> Library:
    """Return the library of a native table; what is no frame counts as an array."""
    if nw.dependencies.is_pandas_dataframe(X):
        return pandas_table
    if nw.dependencies.is_polars_dataframe(X):
        return polars_table
    if nw.dependencies.is_pyarrow_table(X):
        return pyarrow_table
    return numpy_table


def native(X: Any) -> Any:
    """Return a table as its own library has it, not wrapped by narwhals."""
    return nw.to_native(X, pass_through=True)


def refuse_lazy(X: Any) -> None:
    """Raise where the rows of a table are still to be computed."""
    if nw.dependencies.is_polars_lazyframe(X):
        raise TypeError("X is a polars LazyFrame. Call its collect method first.")


@dataclass
class TableSchema:
    """Library, column labels and dtypes of a table."""

    library: str
    labels: list
    types: list[ColumnSchema]

    def build(self, columns: list[DecodedColumn]) -> Any:
        """Put decoded columns together into a table of the library."""
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
    X = native(X)
    refuse_lazy(X)
    min_rows = 2 if reset else 1
    library = library_of(X)
    if library is numpy_table:
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
        return library.read(array)
    table = library.read(X)
    validate_data(owner, X, reset=reset, skip_check_array=True)
    _check_size(table, min_rows, type(owner).__name__)
    return table


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
