"""pyarrow tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import (
    FillPlan,
    declared_codes,
    held_by,
    is_text,
    joined,
    numbers_of,
    objects_of,
    plain_values,
)


class ArrowTable(FrameTable):
    """Columns of a pyarrow Table."""

    library = "pyarrow"

    @staticmethod
    def labels_of(frame: Any) -> list:
        return list(frame.column_names)

    def column_type(self, index: int) -> ColumnSchema:
        import pyarrow as pa

        column = self._series(index).to_native()
        type_ = ColumnSchema(self._family(index), str(column.type))
        type_.details["arrow"] = arrow_to_plain(column.type)
        if pa.types.is_null(column.type):
            type_.family = "null"
        elif pa.types.is_dictionary(column.type):
            type_.ordered = bool(column.type.ordered)
            type_.categories = plain_values(_categories(column))
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        import pyarrow as pa

        if pa.types.is_dictionary(series.type):
            series = series.cast(series.type.value_type)
        # One chunk, so one dictionary.
        encoded = pa.chunked_array([series.combine_chunks()]).dictionary_encode()
        encoded = encoded.chunk(0)
        return encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary.to_pylist()


def read(X: Any, input_name: str = "X") -> ArrowTable:
    return ArrowTable(X, input_name)


def build(parts: Parts) -> Any:
    import pyarrow as pa

    arrays = [_decoded_column(type_, column) for _, type_, column in parts]
    return pa.table(arrays, names=[label for label, _, _ in parts])


def _decoded_column(type_: ColumnSchema, column: DecodedColumn) -> Any:
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


def fill(X: Any, completed: Any, plan: FillPlan) -> Any:
    import pyarrow as pa

    filled = X
    for index in plan.incomplete():
        trained = None if completed is None else completed.column(index)
        column = _filled_column(X.column(index), index, trained, plan)
        field = X.schema.field(index).with_type(column.type)
        filled = filled.set_column(index, field, column)
    filled = filled.select(plan.kept)
    for index in plan.flagged:
        name = f"missingindicator_{X.column_names[index]}"
        filled = filled.append_column(name, pa.array(plan.mask[:, index]))
    return filled


def _filled_column(column: Any, index: int, trained: Any, plan: FillPlan) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    masked = plan.mask[:, index]
    dtype = column.type
    values = plan.values(index, dtype)
    unfit = masked.all() and is_text(values) and _is_number(dtype)
    if pa.types.is_null(dtype) or unfit:
        dtype = pa.array(values.tolist()).type
        if trained is not None and index not in plan.empty:
            dtype = trained.type
        column = pa.chunked_array([pa.nulls(len(values), dtype)])
    is_dictionary = pa.types.is_dictionary(dtype)
    plain = dtype.value_type if is_dictionary else dtype
    values = held_by(plain, values)
    new = values.tolist() if values.dtype.kind == "O" else values
    new = pa.array(new).cast(plain, safe=False)
    filled = pc.if_else(pa.array(masked), new, column.cast(plain))
    if not is_dictionary:
        return filled
    known = [] if trained is None else _categories(trained)
    declared = joined(_categories(column), known, values[masked])
    return _dictionary_array(filled, declared, dtype)


def _is_number(dtype: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(dtype) or pa.types.is_integer(dtype)


def _categories(column: Any) -> list:
    """Return the values that the dictionary of a column declares."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return []
    # After unification every chunk has the dictionary of the whole column.
    chunks = column.unify_dictionaries().chunks
    declared = chunks[0].dictionary.to_pylist() if chunks else []
    return [value for value in declared if value is not None]


def _dictionary_array(plain: Any, categories: list, dtype: Any) -> Any:
    """Encode a column of values with the given dictionary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dictionary = pa.array(categories, dtype.value_type)
    codes = pc.index_in(plain, dictionary).cast(dtype.index_type)
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(codes, dictionary, ordered=dtype.ordered)]
    )


def replace_marker(X: Any, marker: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    replaced = X
    for index, column in enumerate(X.columns):
        dtype = column.type
        is_dictionary = pa.types.is_dictionary(dtype)
        plain = dtype.value_type if is_dictionary else dtype
        is_number = _is_number(plain)
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
            kept = [v for v in _categories(column) if v != marker]
            values = _dictionary_array(values, kept, dtype)
        replaced = replaced.set_column(index, X.schema.field(index), values)
    return replaced


def missing_mask(X: Any) -> np.ndarray:
    columns = [c.is_null(nan_is_null=True).to_numpy() for c in X.columns]
    return np.column_stack(columns)


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    import pyarrow as pa

    rows = np.arange(X.num_rows)
    unified = X.unify_dictionaries()
    # Taking the row "null" gives null, for every type.
    columns = [
        column.take(pa.array(rows, mask=mask))
        for column, mask in zip(unified.columns, masked.T, strict=True)
    ]
    fields = [field.with_nullable(True) for field in X.schema]
    schema = pa.schema(fields, metadata=X.schema.metadata)
    return pa.Table.from_arrays(columns, schema=schema)
