"""Which library a table comes from, and how to open or build one of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
from sklearn.utils.validation import validate_data

from .numpy_table import ArrayTable, build_array
from .pandas_table import PandasTable, build_pandas
from .polars_table import PolarsTable, build_polars
from .pyarrow_table import ArrowTable, build_arrow
from .schema import ColumnSchema, DecodedColumn
from .table import FrameTable, Table


@dataclass
class TableSchema:
    """Library, column labels and dtypes of a table."""

    library: str
    labels: list
    types: list[ColumnSchema]

    def build(self, columns: list[DecodedColumn]) -> Any:
        """Put decoded columns together into a table of the library."""
        build = {
            "numpy": build_array,
            "pandas": build_pandas,
            "polars": build_polars,
            "pyarrow": build_arrow,
        }[self.library]
        return build(list(zip(self.labels, self.types, columns, strict=True)))


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
