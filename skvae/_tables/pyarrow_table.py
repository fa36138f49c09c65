"""pyarrow tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import declared_codes, numbers_of, objects_of, plain_values


# ---------------------------------------------------------------------------
# pyarrow
# ---------------------------------------------------------------------------
def build_arrow(parts: Parts) -> Any:
    import pyarrow as pa

    arrays = [_arrow_column(type_, column) for _, type_, column in parts]
    return pa.table(arrays, names=[label for label, _, _ in parts])


def _arrow_column(type_: ColumnSchema, column: DecodedColumn) -> Any:
    import pyarrow as pa

    dtype = arrow_from_plain(type_.details["arrow"])
    if type_.family == "category":
        codes = declared_codes(column, type_)
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, mask=codes < 0).cast(dtype.index_type),
            pa.array(type_.categories, type=dtype.value_type),
            ordered=dtype.ordered,
        )
    if type_.family in ("string", "null"):
        return pa.array(objects_of(column, type_), type=dtype)
    values = pa.array(numbers_of(column, type_), mask=column.missing)
    # float64 to a narrower float is not exact, and not meant to be.
    return values.cast(dtype, safe=False)


def arrow_to_plain(dtype: Any) -> list:
    """Describe a pyarrow type: its name, or value type, index type and order."""
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        return [str(dtype.value_type), str(dtype.index_type), bool(dtype.ordered)]
    return [str(dtype)]


def arrow_from_plain(plain: list) -> Any:
    import pyarrow as pa

    if len(plain) == 1:
        return pa.type_for_alias(plain[0])
    value_type, index_type = (pa.type_for_alias(name) for name in plain[:2])
    return pa.dictionary(index_type, value_type, ordered=plain[2])


class ArrowTable(FrameTable):
    """Columns of a pyarrow Table."""

    library = "pyarrow"

    @staticmethod
    def labels_of(frame: Any) -> list:
        """Column labels of a native table."""
        return list(frame.column_names)

    def column_type(self, index: int) -> ColumnSchema:
        """Describe the dtype of a column."""
        import pyarrow as pa

        column = self._series(index).to_native()
        type_ = ColumnSchema(self._family(index), str(column.type))
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


def mask_arrow(table: Any, hidden: np.ndarray) -> Any:
    import pyarrow as pa

    rows = np.arange(table.num_rows)
    unified = table.unify_dictionaries()
    # Taking the row "null" gives null, for every type.
    columns = [
        column.take(pa.array(rows, mask=mask))
        for column, mask in zip(unified.columns, hidden.T, strict=True)
    ]
    fields = [field.with_nullable(True) for field in table.schema]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    return pa.Table.from_arrays(columns, schema=schema)
