"""polars data frames as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import numbers_of, objects_of


# ---------------------------------------------------------------------------
# polars
# ---------------------------------------------------------------------------
def build_polars(parts: Parts) -> Any:
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


class PolarsTable(FrameTable):
    """Columns of a polars DataFrame."""

    library = "polars"

    def column_type(self, index: int) -> ColumnSchema:
        """Describe the dtype of a column."""
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


def mask_polars(frame: Any, hidden: np.ndarray) -> Any:
    import polars as pl

    return frame.with_columns(
        pl.Series(column.name, [None], dtype=column.dtype)
        .new_from_index(0, len(column))
        .zip_with(pl.Series(mask), column)
        for column, mask in zip(frame.get_columns(), hidden.T, strict=True)
    )
