"""Fill the missing cells of a table, and leave all others as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from skvae._tables import is_missing_object, open_table

#: What an empty column of text is filled with, as in SimpleImputer.
EMPTY_TEXT = "missing_value"


@dataclass
class Filling:
    """Which cells to fill, and which columns the result has.

    Attributes
    ----------
    mask : ndarray of bool of shape (n_samples, n_features)
        The cells to fill.
    kept : list of int
        Columns that the result has.
    empty : list of int
        Columns without an observed cell in training: zero, False or a placeholder.
    flagged : list of int
        Columns whose mask is appended.
    """

    mask: np.ndarray
    kept: list[int]
    empty: list[int]
    flagged: list[int]

    def fill(self, X: Any, completed: Any) -> Any:
        """Return ``X`` with the masked cells taken from ``completed``.

        Both have the same library and columns; all other cells, the dtypes, labels and
        the index are those of ``X``.
        """
        library = type(X).__module__.partition(".")[0]
        if library == "pandas":
            return self._fill_pandas(X, completed)
        if library == "polars":
            return self._fill_polars(X, completed)
        if library == "pyarrow":
            return self._fill_arrow(X, completed)
        return self._fill_array(np.asarray(X), completed)

    def _fill_array(self, X: np.ndarray, completed: np.ndarray) -> np.ndarray:
        filled = X.copy()
        if self.mask.any():
            filled[self.mask] = completed.astype(X.dtype)[self.mask]
        for index in self.empty:
            is_text = X.dtype.kind == "O" and isinstance(completed[0, index], str)
            filled[self.mask[:, index], index] = EMPTY_TEXT if is_text else 0
        filled = filled[:, self.kept]
        if self.flagged:
            flags = self.mask[:, self.flagged].astype(filled.dtype)
            filled = np.hstack([filled, flags])
        return filled

    def _fill_pandas(self, X: Any, completed: Any) -> Any:
        import pandas as pd

        columns = []
        for index in self.kept:
            column, cells = X.iloc[:, index], self.mask[:, index]
            if cells.any():
                values = completed.iloc[:, index].array[cells]
                if index in self.empty:
                    value = _placeholder(column.dtype, column.name)
                    values = pd.array([value] * int(cells.sum()), dtype=object)
                column = column.copy()
                if isinstance(column.dtype, pd.CategoricalDtype):
                    values = np.asarray(values.astype(object), dtype=object)
                    new = [
                        v for v in pd.unique(values) if v not in column.cat.categories
                    ]
                    column = column.cat.add_categories(new)
                elif column.dtype != object:
                    values = pd.Series(values).astype(column.dtype).array
                column.iloc[np.flatnonzero(cells)] = values
            columns.append(column)
        for index in self.flagged:
            name = f"missingindicator_{X.columns[index]}"
            columns.append(pd.Series(self.mask[:, index], index=X.index, name=name))
        return pd.concat(columns, axis=1)

    def _fill_polars(self, X: Any, completed: Any) -> Any:
        import polars as pl

        columns = []
        for index in self.kept:
            column, cells = X.to_series(index), pl.Series(self.mask[:, index])
            dtype = column.dtype
            if cells.any():
                values = completed.to_series(index)
                if index in self.empty:
                    value = _placeholder(dtype, column.name)
                    dtype = pl.Float64 if dtype == pl.Null else dtype
                    values = pl.Series(column.name, [value] * len(X))
                # categories of different columns only mix as text
                plain = pl.String if dtype in (pl.Categorical, pl.Enum) else dtype
                values, column = values.cast(plain), column.cast(plain)
                column = values.zip_with(cells, column).cast(dtype)
            columns.append(column)
        for index in self.flagged:
            name = f"missingindicator_{X.columns[index]}"
            columns.append(pl.Series(name, self.mask[:, index]))
        return pl.DataFrame(columns)

    def _fill_arrow(self, X: Any, completed: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        names, columns = [], []
        for index in self.kept:
            column, cells = X.column(index), self.mask[:, index]
            dtype = column.type
            if cells.any():
                values = completed.column(index)
                if index in self.empty:
                    value = _placeholder(dtype, X.column_names[index])
                    dtype = pa.float64() if pa.types.is_null(dtype) else dtype
                    values = pa.chunked_array([pa.array([value] * X.num_rows)])
                plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
                values, column = values.cast(plain), column.cast(plain)
                column = pc.if_else(pa.array(cells), values, column)
                if plain is not dtype:
                    column = column.dictionary_encode().cast(dtype)
            names.append(X.column_names[index])
            columns.append(column)
        for index in self.flagged:
            names.append(f"missingindicator_{X.column_names[index]}")
            columns.append(pa.array(self.mask[:, index]))
        return pa.table(columns, names=names)


def _placeholder(dtype: Any, name: Any) -> Any:
    """Return what fills a column without any observed cell in training."""
    text = str(dtype).lower()
    declared = getattr(dtype, "categories", None)
    if declared is not None and len(declared):
        return next(iter(declared))
    if "bool" in text:
        return False
    if text.startswith(
        ("str", "utf8", "large_string", "categor", "enum", "dictionary")
    ):
        return EMPTY_TEXT
    return 0


def with_nan(X: Any, missing_values: Any) -> Any:
    """Return the table with NaN or null where cells equal ``missing_values``."""
    if is_missing_object(missing_values):
        return X
    if hasattr(X, "columns"):
        frame = nw.from_native(X, eager_only=True)
        is_number = isinstance(missing_values, int | float | np.number)
        return frame.with_columns(
            nw.when(nw.col(name) != missing_values).then(nw.col(name)).alias(name)
            for name in frame.columns
            if frame[name].dtype.is_numeric() == is_number
            and (frame[name] == missing_values).any()
        ).to_native()
    X = np.asarray(X)
    if X.dtype.kind in "iub":
        X = X.astype(np.float64)
    return np.where(missing_values == X, np.nan, X)


def missing_mask(X: Any, owner: Any) -> np.ndarray:
    """Return the mask of the missing cells of a table, (n_samples, n_features)."""
    table = open_table(owner, X, reset=False)
    if table.array is not None:
        return np.isnan(table.array)
    mask = np.zeros((table.n_rows, table.n_columns), dtype=bool)
    for index in range(table.n_columns):
        if table.column_type(index).family in ("float", "integer", "boolean"):
            mask[:, index] = np.isnan(table.numbers(index).astype(np.float64))
        else:
            mask[:, index] = table.factorize(index)[0] < 0
    return mask
