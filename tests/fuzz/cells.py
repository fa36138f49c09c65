"""Cells of tables of any library, as text that tells every value from every other."""

from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


@dataclass(frozen=True)
class Cells:
    """One column of a table: its dtype as text, its values, and which are missing."""

    label: Any
    dtype: str
    values: list
    missing: np.ndarray

    @property
    def texts(self):
        """Values as text, bit for bit: -0.0 differs from 0.0, 1 from 1.0 and True."""
        return list(map(repr, self.values))

    @property
    def observed(self):
        return [v for v, gap in zip(self.values, self.missing, strict=True) if not gap]


def read(table):
    """Return the columns of a table, an array, a series or a list of rows."""
    table = nw.to_native(table, pass_through=True)
    if isinstance(table, pd.Series | pl.Series):
        table = table.to_frame()
    if isinstance(table, pd.DataFrame):
        columns = (table.iloc[:, place] for place in range(table.shape[1]))
        return [
            Cells(label, str(c.dtype), _values(c), _gaps(c))
            for label, c in zip(table.columns, columns, strict=True)
        ]
    if isinstance(table, pl.DataFrame):
        return [
            Cells(c.name, str(c.dtype), c.to_list(), missing_values(c.to_list()))
            for c in table.get_columns()
        ]
    if isinstance(table, pa.Table):
        pairs = zip(table.column_names, table.columns, strict=True)
        lists = [(name, str(c.type), c.to_pylist()) for name, c in pairs]
        return [Cells(*parts, missing_values(parts[-1])) for parts in lists]
    return _read_array(table)


def _read_array(table):
    array = np.asarray(table)
    array = array[:, None] if array.ndim == 1 else array
    columns = [array[:, place].tolist() for place in range(array.shape[1])]
    if array.dtype.kind in "mM":  # tolist gives integers
        columns = [list(array[:, place]) for place in range(array.shape[1])]
    return [
        Cells(place, str(array.dtype), values, missing_values(values))
        for place, values in enumerate(columns)
    ]


def _values(column):
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return column.tolist()
    levels = [*column.cat.categories, None]  # a gap would turn integers into floats
    return [levels[code] for code in column.cat.codes]


def _gaps(column):
    missing = column.isna().to_numpy(dtype=bool)
    return missing | missing_values(column.tolist())


def is_missing(value):
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return False


def missing_values(values):
    return np.array([is_missing(value) for value in values], dtype=bool)


def is_finite(values):
    """Whether no number is NaN or infinite."""
    return not any(isinstance(v, float) and not np.isfinite(v) for v in values)


def fingerprint(value):
    """Return text or bytes that change if anything of an argument changes."""
    if isinstance(value, np.ndarray):
        kind = type(value).__name__, str(value.dtype), value.shape, value.strides
        cells = repr(value.tolist()) if value.dtype == object else value.tobytes()
        return kind, value.flags.writeable, cells
    if isinstance(value, pd.DataFrame | pd.Series):
        index = repr(value.index.tolist()), repr(value.index.names)
        cells = [(c.label, c.dtype, c.texts) for c in read(value)]
        labels = repr(getattr(value, "columns", value.index).names)
        return cells, index, labels, repr(value.attrs), _categories(value)
    if isinstance(value, pl.DataFrame | pl.Series | pa.Table):
        chunks = getattr(value, "n_chunks", lambda: 0)()
        return [(c.label, c.dtype, c.texts) for c in read(value)], chunks
    if isinstance(value, nw.DataFrame | nw.Series):
        return fingerprint(nw.to_native(value))
    if isinstance(value, dict):
        return [(key, fingerprint(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, list(map(fingerprint, value))
    return repr(value)


def _categories(value):
    columns = [value] if isinstance(value, pd.Series) else map(value.get, [])
    if isinstance(value, pd.DataFrame):
        columns = (value.iloc[:, place] for place in range(value.shape[1]))
    return [repr(c.cat.categories) for c in columns if hasattr(c, "cat")]
