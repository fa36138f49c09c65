"""polars data frames as tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .levels import Key, joined, keys_of
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import (
    FillPlan,
    cannot_hold,
    equals_marker,
    held_by,
    indicator_name,
    is_missing,
    is_text,
    marker_of,
    numbers_of,
    numpy_dtype,
    objects_of,
    text_of,
)


class PolarsTable(FrameTable):
    """Columns of a polars DataFrame."""

    library = "polars"

    def column_type(self, index: int) -> ColumnSchema:
        import polars as pl

        dtype = self._series(index).to_native().dtype
        type_ = ColumnSchema(self._family(index), str(dtype))
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

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list[Key]]:
        import polars as pl

        if series.dtype == pl.Enum:
            codes = series.to_physical().cast(pl.Int64).fill_null(-1)
            return codes.to_numpy(), series.dtype.categories.to_list()
        text = series.cast(pl.String)
        values = text.drop_nulls().unique()
        positions = pl.Series(range(len(values)), dtype=pl.Int64)
        codes = text.replace_strict(values, positions, default=-1)
        return codes.to_numpy(), keys_of(values.to_list())


def read(X: Any, input_name: str = "X") -> PolarsTable:
    return PolarsTable(X, input_name)


def build(parts: Parts) -> Any:
    return _frame([_polars_column(*part) for part in parts])


def _frame(columns: list) -> Any:
    """Return a frame of columns; from a list, polars would rename the column ""."""
    import polars as pl

    named = {column.name: column for column in columns}
    return pl.DataFrame(named if len(named) == len(columns) else columns)


def _polars_column(label: str, type_: ColumnSchema, column: DecodedColumn) -> Any:
    import polars as pl

    dtype = _polars_dtype(type_)
    if type_.family in ("string", "category"):
        text = pl.Series(label, objects_of(column, type_), dtype=pl.String)
        return text.cast(dtype)
    if type_.family in ("object", "null"):
        return pl.Series(label, objects_of(column, type_).tolist(), dtype=dtype)
    values = pl.Series(label, numbers_of(column, type_)).cast(dtype)
    if not column.missing.any():
        return values
    nulls = pl.Series(label, [None], dtype=dtype).new_from_index(0, len(values))
    return nulls.zip_with(pl.Series(column.missing), values)


def _polars_dtype(type_: ColumnSchema) -> Any:
    import polars as pl

    if type_.family == "category":
        if type_.categories is not None:
            return pl.Enum(type_.categories)
        if "categories" in type_.details:
            name, namespace, physical = type_.details["categories"]
            shared = pl.Categories(name, namespace, getattr(pl, physical))
            return pl.Categorical(shared)
        return pl.Categorical
    return getattr(pl, type_.name)


def levels(type_: ColumnSchema) -> list:
    """Return the levels of a dtype, which are strings."""
    return list(type_.categories or [])


def fill(X: Any, plan: FillPlan) -> Any:
    import polars as pl

    columns = {index: X.to_series(index) for index in plan.kept}
    for index in plan.incomplete():
        with cannot_hold(X.columns[index], X.dtypes[index]):
            columns[index] = _filled_column(columns[index], index, plan)
    for index in plan.flagged:
        name = indicator_name(X.columns[index])
        columns[-1 - index] = pl.Series(name, plan.mask[:, index])
    return _frame(list(columns.values()))


def _filled_column(column: Any, index: int, plan: FillPlan) -> Any:
    import polars as pl

    masked = plan.mask[:, index]
    dtype: Any = column.dtype
    declared = dtype.categories.to_list() if dtype == pl.Enum else []
    values, trained = plan.values(index, dtype, declared), plan.trained(index)
    if dtype == pl.Object:
        cells = np.where(masked, values, np.array(column.to_list(), dtype=object))
        return pl.Series(column.name, cells.tolist(), dtype=pl.Object)
    unfit = dtype.is_numeric() and is_text(values)
    if dtype == pl.Null or (masked.all() and unfit):
        dtype = _series(values).dtype if trained is None else _polars_dtype(trained)
        column = pl.Series(column.name, [None] * len(column), dtype=dtype)
    is_level = dtype in (pl.Categorical, pl.Enum)
    if is_level or dtype == pl.String:
        values = text_of(values)
    new = _series(held_by(dtype, values))
    plain = pl.String if is_level else dtype
    if dtype == pl.Enum:
        known = trained.categories if trained is not None else None
        dtype = pl.Enum(joined(declared, known or [], values[masked]))
    # categories of different columns only mix as text
    filled = column.cast(plain).zip_with(~pl.Series(masked), new.cast(plain))
    return filled.cast(dtype).alias(column.name)


def _series(values: np.ndarray) -> Any:
    import polars as pl

    return pl.Series(values.tolist() if values.dtype.kind == "O" else values)


def replace_marker(X: Any, marker: Any) -> Any:
    import polars as pl

    columns = []
    for column in X.get_columns():
        marked = _equal_to(column, marker)
        if marked.any():
            dtype = column.dtype
            if dtype == pl.Enum:
                kept = [c for c in dtype.categories.to_list() if c != marker]
                column = _with_nulls(column.cast(pl.String), marked).cast(pl.Enum(kept))
            else:
                column = _with_nulls(column, marked)
        columns.append(column)
    return _frame(columns)


def _equal_to(column: Any, marker: Any) -> np.ndarray:
    """Return the mask of the cells of a column that equal a marker."""
    import polars as pl

    dtype, own, value = column.dtype, numpy_dtype(column.dtype), None
    if dtype == pl.Object:
        return np.array([equals_marker(cell, marker) for cell in column], dtype=bool)
    if own is not None:
        value = marker_of(own, marker)
    elif dtype in (pl.String, pl.Categorical, pl.Enum) and isinstance(marker, str):
        column, value = column.cast(pl.String), marker
    if value is None:
        return np.zeros(len(column), dtype=bool)
    # a literal would be compared in a wider type
    like = pl.Series([value], dtype=column.dtype)
    return (column == like).fill_null(False).to_numpy()


def _with_nulls(column: Any, masked: np.ndarray) -> Any:
    """Return a column with nulls in the masked cells."""
    import polars as pl

    if column.dtype == pl.Object:
        cells = np.array(column.to_list(), dtype=object)
        cells[masked] = None
        return pl.Series(column.name, cells.tolist(), dtype=pl.Object)
    nulls = pl.Series([None], dtype=column.dtype).new_from_index(0, len(column))
    return nulls.zip_with(pl.Series(masked), column).alias(column.name)


def missing_mask(X: Any) -> np.ndarray:
    return np.column_stack([_is_missing(column) for column in X])


def _is_missing(column: Any) -> np.ndarray:
    import polars as pl

    if column.dtype == pl.Object:
        return np.array([is_missing(cell) for cell in column], dtype=bool)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    mask: np.ndarray = column.is_null().to_numpy()
    return mask


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    columns = zip(X.get_columns(), masked.T, strict=True)
    return _frame([_with_nulls(column, mask) for column, mask in columns])
