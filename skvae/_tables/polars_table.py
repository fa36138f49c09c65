"""polars data frames as tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import FillPlan, held_by, is_text, joined, numbers_of, objects_of


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


def read(X: Any, input_name: str = "X") -> PolarsTable:
    return PolarsTable(X, input_name)


def build(parts: Parts) -> Any:
    import polars as pl

    return pl.DataFrame([_polars_column(*part) for part in parts])


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


def fill(X: Any, completed: Any, plan: FillPlan) -> Any:
    import polars as pl

    columns = {index: X.to_series(index) for index in plan.kept}
    for index in plan.incomplete():
        trained = None if completed is None else completed.dtypes[index]
        columns[index] = _filled_column(columns[index], index, trained, plan)
    for index in plan.flagged:
        name = f"missingindicator_{X.columns[index]}"
        columns[-1 - index] = pl.Series(name, plan.mask[:, index])
    return pl.DataFrame(list(columns.values()))


def _filled_column(column: Any, index: int, trained: Any, plan: FillPlan) -> Any:
    import polars as pl

    masked = plan.mask[:, index]
    dtype: Any = column.dtype
    values = plan.values(index, dtype)
    new = _series(held_by(dtype, values))
    unfit = dtype.is_numeric() and is_text(values)
    if dtype == pl.Null or (masked.all() and unfit):
        is_empty = index in plan.empty or trained is None
        dtype = new.dtype if is_empty else trained
        column = pl.Series(column.name, [None] * len(column), dtype=dtype)
    plain = pl.String if dtype in (pl.Categorical, pl.Enum) else dtype
    if dtype == pl.Enum:
        known = trained.categories.to_list() if trained == pl.Enum else ()
        dtype = pl.Enum(joined(dtype.categories.to_list(), known, values[masked]))
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


def missing_mask(X: Any) -> np.ndarray:
    columns = [c.fill_nan(None) if c.dtype.is_float() else c for c in X]
    return np.column_stack([column.is_null().to_numpy() for column in columns])


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    import polars as pl

    return X.with_columns(
        pl.Series(column.name, [None], dtype=column.dtype)
        .new_from_index(0, len(column))
        .zip_with(pl.Series(mask), column)
        for column, mask in zip(X.get_columns(), masked.T, strict=True)
    )
