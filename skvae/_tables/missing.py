"""Fill the missing cells of a table, and leave all others as they are.

The table to fill and the completed one may come from different libraries: a model of a
pandas table completes a polars table, or an array. What is exchanged between them are
the cells of one column, as an array.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from .values import integer_dtype, is_missing_object, nearest_integers

#: What the libraries call floats with less range than double ones.
FLOATS = {"float16": ("float16", "halffloat"), "float32": ("float32", "float")}

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
    empty : dict of int to bool
        Columns without an observed cell in training, and whether they were declared to
        hold categories: they are filled with zero, False or a placeholder.
    flagged : list of int
        Columns whose mask is appended.
    """

    mask: np.ndarray
    kept: list[int]
    empty: dict[int, bool]
    flagged: list[int]

    def fill(self, X: Any, completed: Any) -> Any:
        """Return ``X`` with the masked cells taken from ``completed``.

        All other cells, the library, the dtypes, labels and the index are those of
        ``X``. A dtype changes only where it cannot hold the cells: categories that it
        does not declare are added, a column of nulls gets the dtype of training.
        """
        X = nw.to_native(X, pass_through=True)
        if nw.dependencies.is_pandas_dataframe(X):
            return self._fill_pandas(X, completed)
        if nw.dependencies.is_polars_dataframe(X):
            return self._fill_polars(X, completed)
        if nw.dependencies.is_pyarrow_table(X):
            return self._fill_arrow(X, completed)
        return self._fill_array(np.asarray(X), completed)

    def _incomplete(self) -> list[int]:
        """Return the columns with cells to fill."""
        return [index for index in self.kept if self.mask[:, index].any()]

    def _values(self, completed: Any, index: int, dtype: Any) -> np.ndarray:
        """Return the cells of a column of the completed table, or placeholders."""
        if index in self.empty:
            value = _placeholder(dtype, self.empty[index])
            kind = type(value) if isinstance(value, bool | int) else object
            return np.full(len(self.mask), value, dtype=kind)
        if isinstance(completed, np.ndarray):
            values = completed[:, index]
            if values.dtype.kind == "O" and _only(values, bool):
                values = values.astype(bool)
            return values
        series = nw.from_native(completed, eager_only=True)[:, index]
        if series.dtype in (nw.Categorical, nw.Enum) and not _is_pandas(completed):
            series = series.cast(nw.String)
        return series.to_numpy()

    def _fill_array(self, X: np.ndarray, completed: Any) -> np.ndarray:
        filled = X.copy()
        for index in self._incomplete():
            cells = self.mask[:, index]
            dtype = X.dtype
            if dtype.kind == "O" and any(isinstance(v, str) for v in X[:, index]):
                dtype = np.dtype(str)
            values = self._values(completed, index, dtype)[cells]
            if filled.dtype.kind == "U":  # of a fixed length
                values = values.astype(str)
                filled = filled.astype(np.result_type(filled, values))
            filled[cells, index] = _held_by(filled.dtype, values)
        filled = filled[:, self.kept]
        if not self.flagged:
            return filled
        flags = self.mask[:, self.flagged]
        if filled.dtype.kind == "U":  # beside text a flag would become text
            filled = filled.astype(object)
        if filled.dtype.kind != "O":
            flags = flags.astype(filled.dtype)
        return np.hstack([filled, flags])

    def _fill_pandas(self, X: Any, completed: Any) -> Any:
        import pandas as pd

        filled = X.iloc[:, self.kept].copy()
        for index in self._incomplete():
            column, cells = X.iloc[:, index].copy(), self.mask[:, index]
            dtype = column.dtype
            values = self._values(completed, index, dtype)[cells]
            trained = completed.dtypes.iloc[index] if _is_pandas(completed) else None
            if (
                isinstance(dtype, np.dtype)
                and dtype.kind == "f"
                and not _is_text(values)
            ):
                numbers = column.to_numpy(copy=True)  # pandas takes ten times as long
                numbers[cells] = _held_by(dtype, values)
                filled.isetitem(self.kept.index(index), numbers)
                continue
            is_open = pd.api.types.is_object_dtype(dtype)
            unfit = pd.api.types.is_numeric_dtype(dtype) and _is_text(values)
            if cells.all() and (is_open or unfit) and index not in self.empty:
                column = pd.Series(values, X.index, trained, name=column.name)
                filled.isetitem(self.kept.index(index), column)
                continue
            if isinstance(dtype, pd.CategoricalDtype):
                declared = list(dtype.categories)
                more = _joined(declared, getattr(trained, "categories", ()), values)
                if len(more) > len(declared):
                    column = column.cat.set_categories(more)
                values = values.astype(object)
            elif not is_open:
                values = pd.Series(_held_by(dtype, values)).astype(dtype).array
            column.iloc[np.flatnonzero(cells)] = values
            filled.isetitem(self.kept.index(index), column)
        if not self.flagged:
            return filled
        names = [f"missingindicator_{X.columns[index]}" for index in self.flagged]
        flags = pd.DataFrame(self.mask[:, self.flagged], X.index, names)
        return pd.concat([filled, flags], axis=1)

    def _fill_polars(self, X: Any, completed: Any) -> Any:
        import polars as pl

        columns = {index: X.to_series(index) for index in self.kept}
        for index in self._incomplete():
            column, cells = columns[index], pl.Series(self.mask[:, index])
            dtype: Any = column.dtype
            values = self._values(completed, index, dtype)
            new = _polars_series(_held_by(dtype, values))
            trained: Any = None
            if nw.dependencies.is_polars_dataframe(completed):
                trained = completed.dtypes[index]
            unfit = dtype.is_numeric() and _is_text(values)
            if dtype == pl.Null or (cells.all() and unfit):
                is_empty = index in self.empty or trained is None
                dtype = new.dtype if is_empty else trained
                column = pl.Series(column.name, [None] * len(column), dtype=dtype)
            plain = pl.String if dtype in (pl.Categorical, pl.Enum) else dtype
            if dtype == pl.Enum:
                known = trained.categories.to_list() if trained == pl.Enum else ()
                declared = dtype.categories.to_list()
                dtype = pl.Enum(_joined(declared, known, values[self.mask[:, index]]))
            # categories of different columns only mix as text
            filled = column.cast(plain).zip_with(~cells, new.cast(plain))
            columns[index] = filled.cast(dtype).alias(column.name)
        for index in self.flagged:
            name = f"missingindicator_{X.columns[index]}"
            columns[-1 - index] = pl.Series(name, self.mask[:, index])
        return pl.DataFrame(list(columns.values()))

    def _fill_arrow(self, X: Any, completed: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        filled = X
        for index in self._incomplete():
            column, cells = X.column(index), self.mask[:, index]
            dtype = column.type
            values = self._values(completed, index, dtype)
            is_null = pa.types.is_null(dtype)
            if is_null or (
                cells.all() and _is_text(values) and _is_arrow_number(dtype)
            ):
                dtype = pa.array(values.tolist()).type
                if nw.dependencies.is_pyarrow_table(completed) and (
                    index not in self.empty
                ):
                    dtype = completed.column(index).type
                column = pa.chunked_array([pa.nulls(len(values), dtype)])
            is_dictionary = pa.types.is_dictionary(dtype)
            plain = dtype.value_type if is_dictionary else dtype
            values = _held_by(plain, values)
            new = values.tolist() if values.dtype.kind == "O" else values
            new = pa.array(new).cast(plain, safe=False)
            known = _arrow_categories(column) if is_dictionary else []
            column = pc.if_else(pa.array(cells), new, column.cast(plain))
            if is_dictionary:
                trained: list = []
                if nw.dependencies.is_pyarrow_table(completed):
                    trained = _arrow_categories(completed.column(index))
                known = _joined(known, trained, values[cells])
                column = _arrow_dictionary(column, known, dtype)
            field = X.schema.field(index).with_type(column.type)
            filled = filled.set_column(index, field, column)
        filled = filled.select(self.kept)
        for index in self.flagged:
            name = f"missingindicator_{X.column_names[index]}"
            filled = filled.append_column(name, pa.array(self.mask[:, index]))
        return filled


# ---------------------------------------------------------------------------
# Cells of one column
# ---------------------------------------------------------------------------
def _is_pandas(table: Any) -> bool:
    return nw.dependencies.is_pandas_dataframe(table)


def _only(values: np.ndarray, type_: type) -> bool:
    return len(values) > 0 and all(isinstance(value, type_) for value in values)


def _is_text(values: np.ndarray) -> bool:
    return values.dtype.kind in "OU" and any(isinstance(v, str) for v in values)


def _held_by(dtype: Any, values: np.ndarray) -> np.ndarray:
    """Return numbers as near as the dtype of a column, of any library, holds them."""
    name = str(dtype).lower()
    if values.dtype.kind not in "fiu":
        return values
    if re.match(r"u?int\d", name):
        return nearest_integers(values, integer_dtype(name))
    for own, names in FLOATS.items():
        if name.removesuffix("[pyarrow]") in names:
            limit = float(np.finfo(np.dtype(own)).max)
            return np.clip(values, -limit, limit)
    return values


def _joined(declared: list, trained: Any, values: np.ndarray) -> list:
    """Return the declared categories and, if they lack a value, more of them.

    Those of training replace them where they include them: their order is known.
    """
    new = [v for v in dict.fromkeys(values.tolist()) if v not in declared]
    if new and set(declared) | set(new) <= set(trained):
        return list(trained)
    return [*declared, *new]


def _placeholder(dtype: Any, holds_categories: bool) -> Any:
    """Return what fills a column without any observed cell in training."""
    text = str(dtype).lower()
    declared: Any = getattr(dtype, "categories", None)
    if hasattr(declared, "__len__") and len(declared):
        return next(iter(declared))
    if "bool" in text:
        return False
    is_text = text.startswith(
        ("<u", "str", "utf8", "large_string", "categor", "enum", "dictionary")
    )
    # what has no dtype of its own is what it was declared to be
    is_open = text.startswith(("object", "null"))
    return EMPTY_TEXT if is_text or (is_open and holds_categories) else 0


def _polars_series(values: np.ndarray) -> Any:
    import polars as pl

    return pl.Series(values.tolist() if values.dtype.kind == "O" else values)


def _is_arrow_number(dtype: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(dtype) or pa.types.is_integer(dtype)


def _arrow_categories(column: Any) -> list:
    """Return the values that the dictionary of a column declares."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return []
    chunks = column.unify_dictionaries().chunks
    declared = chunks[0].dictionary.to_pylist() if chunks else []
    return [value for value in declared if value is not None]


def _arrow_dictionary(plain: Any, categories: list, dtype: Any) -> Any:
    """Encode a column of values with the given dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dictionary = pa.array(categories, dtype.value_type)
    codes = pc.index_in(plain, dictionary).cast(dtype.index_type)
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(codes, dictionary, ordered=dtype.ordered)]
    )


# ---------------------------------------------------------------------------
# Which cells are missing
# ---------------------------------------------------------------------------
def with_nan(X: Any, missing_values: Any) -> Any:
    """Return the table with NaN or null also where cells equal ``missing_values``.

    The marker is no category any more, and integers may become floats.
    """
    X = nw.to_native(X, pass_through=True)
    if is_missing_object(missing_values):
        return X
    if nw.dependencies.is_pandas_dataframe(X):
        return _pandas_with_nan(X, missing_values)
    if nw.dependencies.is_polars_dataframe(X):
        return _polars_with_nan(X, missing_values)
    if nw.dependencies.is_pyarrow_table(X):
        return _arrow_with_nan(X, missing_values)
    if not isinstance(X, np.ndarray | list | tuple):
        return X  # sparse matrices and the like are refused later
    X = np.asarray(X)
    if X.dtype.kind in "OU":
        flags = [_equal(cell, missing_values) for cell in X.ravel()]
        marked = np.reshape(np.array(flags, bool), X.shape)
        return np.where(marked, np.nan, X.astype(object)) if marked.any() else X
    if isinstance(missing_values, str):
        return X
    if X.dtype.kind in "iub":
        X = X.astype(np.float64)
    return np.where(missing_values == X, X.dtype.type(np.nan), X)


def _equal(cell: Any, marker: Any) -> bool:
    if isinstance(cell, str) != isinstance(marker, str) or is_missing_object(cell):
        return False
    return bool(cell == marker)


def _pandas_with_nan(X: Any, marker: Any) -> Any:
    import pandas as pd

    replaced = X.copy(deep=False)
    for index in range(X.shape[1]):
        column = X.iloc[:, index]
        if pd.api.types.is_bool_dtype(column.dtype) and not isinstance(marker, bool):
            continue  # 0 and 1 are numbers
        marked = (column == marker).fillna(False).to_numpy(dtype=bool)
        if not marked.any():
            continue
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.cat.remove_categories([marker])
        elif isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
            # stays a column of integers: the nullable dtype
            name = str(column.dtype).replace("i", "I").replace("u", "U")
            column = column.astype(name)
        replaced.isetitem(index, column.mask(marked))
    return replaced


def _polars_with_nan(X: Any, marker: Any) -> Any:
    import polars as pl

    columns = []
    for column in X.get_columns():
        dtype = column.dtype
        if isinstance(marker, str):
            fits = dtype in (pl.String, pl.Categorical, pl.Enum)
        else:
            fits = dtype.is_numeric()
        if fits:
            plain = column.cast(pl.String) if isinstance(marker, str) else column
            marked = (plain == marker).fill_null(False)
            nulls = pl.Series([None], dtype=plain.dtype).new_from_index(0, len(plain))
            if marked.any():
                if dtype == pl.Enum:
                    kept = [c for c in dtype.categories.to_list() if c != marker]
                    dtype = pl.Enum(kept)
                column = plain.zip_with(~marked, nulls).cast(dtype).alias(column.name)
        columns.append(column)
    return pl.DataFrame(columns)


def _arrow_with_nan(X: Any, marker: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    replaced = X
    for index, column in enumerate(X.columns):
        dtype = column.type
        is_dictionary = pa.types.is_dictionary(dtype)
        plain = dtype.value_type if is_dictionary else dtype
        is_number = _is_arrow_number(plain)
        if is_number == isinstance(marker, str):
            continue
        if not (is_number or str(plain) in ("string", "large_string", "string_view")):
            continue
        values = column.cast(plain)
        marked = pc.fill_null(pc.equal(values, pa.scalar(marker)), False)
        if not pc.any(marked).as_py():
            continue
        values = pc.if_else(marked, pa.scalar(None, plain), values)
        if is_dictionary:
            kept = [v for v in _arrow_categories(column) if v != marker]
            values = _arrow_dictionary(values, kept, dtype)
        replaced = replaced.set_column(index, X.schema.field(index), values)
    return replaced


def missing_mask(X: Any) -> np.ndarray:
    """Return the mask of the missing cells of a table, (n_samples, n_features)."""
    X = nw.to_native(X, pass_through=True)
    if nw.dependencies.is_pandas_dataframe(X):
        import pandas as pd

        mask = X.isna().to_numpy(dtype=bool, copy=True)
        for index, dtype in enumerate(X.dtypes):
            # nullable floats may hold NaN beside NA
            if isinstance(dtype, np.dtype):
                continue
            if pd.api.types.is_float_dtype(dtype):
                numbers = X.iloc[:, index].to_numpy(np.float64, na_value=np.nan)
                mask[:, index] |= np.isnan(numbers)
        return mask
    if nw.dependencies.is_polars_dataframe(X):
        columns = [c.fill_nan(None) if c.dtype.is_float() else c for c in X]
        return np.column_stack([column.is_null().to_numpy() for column in columns])
    if nw.dependencies.is_pyarrow_table(X):
        columns = [c.is_null(nan_is_null=True).to_numpy() for c in X.columns]
        return np.column_stack(columns)
    X = np.asarray(X)
    if X.dtype.kind == "f":
        return np.isnan(X)
    if X.dtype.kind != "O":
        return np.zeros(X.shape, dtype=bool)
    flags = [is_missing_object(value) for value in X.ravel()]
    return np.reshape(np.array(flags, dtype=bool), X.shape)
