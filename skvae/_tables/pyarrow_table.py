"""pyarrow tables, with the functions of :class:`Library`.

pandas keeps columns of pyarrow too: the functions of one column, a ChunkedArray, serve
both libraries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from .levels import Key, joined, keys_of
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import (
    EMPTY_TEXT,
    FillPlan,
    cannot_hold,
    declared_codes,
    held_by,
    indicator_name,
    is_text,
    marker_of,
    numbers_of,
    numpy_dtype,
    objects_of,
    text_of,
)
from .values import is_missing as is_missing_object


class ArrowTable(FrameTable):
    """Columns of a pyarrow Table."""

    library = "pyarrow"

    @staticmethod
    def labels_of(frame: Any) -> list:
        return list(frame.column_names)

    def _dtype(self, index: int) -> Any:
        return self._series(index).to_native().type

    def column_type(self, index: int) -> ColumnSchema:
        return type_of(self._series(index).to_native(), self._family(index))

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list[Key]]:
        return factorize(series)


def read(X: Any, input_name: str = "X") -> ArrowTable:
    return ArrowTable(X, input_name)


def chunks(series: Any) -> Any:
    """Return a series or index of pandas with a dtype of pyarrow as a ChunkedArray."""
    import pyarrow as pa

    column = pa.array(series.array)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


# -- reading -------------------------------------------------------------------------
def type_of(column: Any, family: str) -> ColumnSchema:
    """Describe the dtype of a column of a family, as narwhals names it."""
    import pyarrow as pa

    dtype = column.type
    type_ = ColumnSchema(family, str(dtype), details={"arrow": type_to_plain(dtype)})
    if pa.types.is_null(_value_type(dtype)):
        type_.family = "null"
    elif pa.types.is_dictionary(dtype):
        plain = _plain_if_exact(column)
        if plain is None:
            type_.family = "other"
        else:
            type_.ordered = bool(dtype.ordered)
            type_.categories, type_.details["levels"] = plain
    return type_


def factorize(column: Any) -> tuple[np.ndarray, list[Key]]:
    """Return codes, -1 where missing, and keys of a column of categories or text."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        codes, _, keys = _read_dictionary(column)
        return codes, keys
    # One chunk, so one dictionary.
    encoded = pa.chunked_array([column.combine_chunks()]).dictionary_encode().chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy()
    return codes, keys_of(encoded.dictionary.to_pylist())


def _value_type(dtype: Any) -> Any:
    """Return the type of the values of a dictionary, of another type itself."""
    import pyarrow as pa

    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _dictionary(column: Any) -> tuple[np.ndarray, Any]:
    """Return the codes of a column, -1 where null, and the dictionary as it is."""
    import pyarrow as pa

    value_type = column.type.value_type
    if not column.num_chunks:
        return np.empty(0, dtype=np.int64), pa.array([], value_type)
    if column.num_chunks > 1:
        parts = [
            pa.DictionaryArray.from_arrays(part.indices, _computable(part.dictionary))
            for part in column.chunks
        ]
        # After unification every chunk has the dictionary of the whole column.
        column = pa.chunked_array(parts).unify_dictionaries()
    parts = column.chunks
    codes = [part.indices.cast(pa.int64()).fill_null(-1).to_numpy() for part in parts]
    return np.concatenate(codes), parts[0].dictionary.cast(value_type)


def _read_dictionary(column: Any) -> tuple[np.ndarray, Any, list[Key]]:
    """Return codes, -1 where missing, and the distinct levels with their keys."""
    codes, dictionary = _dictionary(column)
    values = dictionary.to_pylist()
    position: dict[Any, int] = {}
    places, first = np.full(len(values) + 1, -1), []
    for place, value in enumerate(values):
        if is_missing_object(value):
            continue
        if value not in position:
            first.append(place)
        places[place] = position.setdefault(value, len(position))
    if len(first) < len(values):
        dictionary = _taken(dictionary, first)
    return places[codes], dictionary, keys_of(position)


def is_missing(column: Any) -> np.ndarray:
    """Return the mask of the missing cells of a column."""
    import pyarrow as pa

    dtype = column.type
    if pa.types.is_null(_value_type(dtype)):
        return np.ones(len(column), dtype=bool)
    if pa.types.is_dictionary(dtype) and not pa.types.is_nested(dtype.value_type):
        codes, dictionary = _dictionary(column)
        flags = [is_missing_object(value) for value in dictionary.to_pylist()]
        return np.array([*flags, True])[codes]
    is_float = pa.types.is_floating(dtype)
    return _computable(column).is_null(nan_is_null=is_float).to_numpy()


# -- types and levels as plain values ------------------------------------------------
def type_to_plain(dtype: Any) -> list:
    """Describe a pyarrow type: its name, or value type, index type and order."""
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        return [str(dtype.value_type), str(dtype.index_type), bool(dtype.ordered)]
    return [str(dtype)]


def type_from_plain(plain: list) -> Any:
    """Return the type that :func:`type_to_plain` was called on."""
    import pyarrow as pa

    if len(plain) == 1:
        return _type_from_name(plain[0])
    value_type, index_type = map(_type_from_name, plain[:2])
    return pa.dictionary(index_type, value_type, ordered=plain[2])


def _type_from_name(name: str) -> Any:
    import pyarrow as pa

    if match := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", name):
        return pa.timestamp(*match.groups())
    if match := re.fullmatch(r"(decimal\d+)\((\d+), (-?\d+)\)", name):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    if match := re.fullmatch(r"fixed_size_binary\[(\d+)\]", name):
        return pa.binary(int(match[1]))
    return pa.type_for_alias(name)


def levels_to_plain(levels: Any) -> list:
    """Return an array of levels as plain values."""
    import pyarrow as pa

    dtype, values = levels.type, levels.to_pylist()
    if pa.types.is_interval(dtype):
        return [list(value) for value in values]
    if pa.types.is_temporal(dtype):
        return levels.view(pa.type_for_alias(f"int{dtype.bit_width}")).to_pylist()
    if pa.types.is_decimal(dtype):
        return [str(value) for value in values]
    if "binary" in str(dtype):
        return [value.hex() for value in values]
    return keys_of(values)


def levels_from_plain(plain: list, dtype: Any) -> Any:
    """Return the array that :func:`levels_to_plain` was called on."""
    import pyarrow as pa

    if pa.types.is_interval(dtype):
        return pa.array([tuple(value) for value in plain], dtype)
    if pa.types.is_temporal(dtype):
        integers = pa.type_for_alias(f"int{dtype.bit_width}")
        return pa.array(plain, integers).view(dtype)
    if pa.types.is_decimal(dtype):
        return pa.array([Decimal(value) for value in plain], dtype)
    if "binary" in str(dtype):
        return pa.array([bytes.fromhex(value) for value in plain], dtype)
    if pa.types.is_float16(dtype):
        return pa.array(plain, pa.float32()).cast(dtype)
    return pa.array(plain, dtype)


def _plain_if_exact(column: Any) -> tuple[list[Key], list] | None:
    """Return keys and levels as plain values, None where these are not exact."""
    import pyarrow as pa

    value_type = column.type.value_type
    try:
        if _type_from_name(str(value_type)) != value_type:
            return None
        _, levels, keys = _read_dictionary(column)
        plain = levels_to_plain(levels)
        # Python objects lack the nanoseconds of some types
        same = (
            pa.array(levels.to_pylist(), value_type),
            levels_from_plain(plain, value_type),
        )
    except (pa.ArrowException, TypeError, ValueError):
        return None
    is_exact = len(set(keys)) == len(keys) and all(map(levels.equals, same))
    return (keys, plain) if is_exact else None


def _levels_of(type_: ColumnSchema) -> Any:
    """Return the levels that a dtype declares, as an array."""
    value_type = type_from_plain(type_.details["arrow"]).value_type
    plain = type_.details.get("levels", type_.categories) or []
    return levels_from_plain(plain, value_type)


def levels(type_: ColumnSchema) -> list:
    values: list = _levels_of(type_).to_pylist()
    return values


# -- building ------------------------------------------------------------------------
def build(parts: Parts) -> Any:
    import pyarrow as pa

    arrays = [decoded_column(type_, column) for _, type_, column in parts]
    return pa.table(arrays, names=[label for label, _, _ in parts])


def decoded_column(type_: ColumnSchema, column: DecodedColumn) -> Any:
    """Return a decoded column as an array of its type in training."""
    import pyarrow as pa

    dtype = type_from_plain(type_.details["arrow"])
    if type_.family == "category":
        return _coded(declared_codes(column, type_), _levels_of(type_), dtype)
    if type_.family == "null":
        return pa.nulls(len(column.values), dtype)
    if type_.family == "string":
        return pa.array(objects_of(column, type_), type=dtype)
    values = pa.array(numbers_of(column, type_), mask=column.missing)
    # float64 to a narrower float is not exact, and not meant to be.
    return values.cast(dtype, safe=False)


def _coded(codes: np.ndarray, dictionary: Any, dtype: Any) -> Any:
    """Return an array of a dictionary type; large dictionaries get wider indices."""
    import pyarrow as pa

    indices = pa.array(codes, mask=codes < 0)
    largest = np.iinfo(dtype.index_type.to_pandas_dtype()).max
    fits = len(dictionary) <= largest + 1
    indices = indices.cast(dtype.index_type if fits else pa.int32())
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=dtype.ordered)


# -- filling -------------------------------------------------------------------------
def fill(X: Any, plan: FillPlan) -> Any:
    import pyarrow as pa

    filled = X
    for index in plan.incomplete():
        with cannot_hold(X.column_names[index], X.column(index).type):
            column = filled_column(X.column(index), index, plan)
        field = X.schema.field(index).with_type(column.type)
        filled = filled.set_column(index, field, column)
    filled = filled.select(plan.kept)
    for index in plan.flagged:
        name = indicator_name(X.column_names[index])
        filled = filled.append_column(name, pa.array(plan.mask[:, index]))
    return filled


def filled_column(column: Any, index: int, plan: FillPlan) -> Any:
    """Return a column with its masked cells filled."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dtype, masked = column.type, plan.mask[:, index]
    if pa.types.is_null(_value_type(dtype)):
        dtype = pa.null()
    elif pa.types.is_dictionary(dtype):
        return _filled_dictionary(column, index, plan)
    values = plan.values(index, dtype)
    unfit = masked.all() and is_text(values) and _is_number(dtype)
    if pa.types.is_null(dtype) or unfit:
        trained = plan.trained(index)
        if trained is not None and "arrow" in trained.details:
            dtype = type_from_plain(trained.details["arrow"])
        else:
            dtype = pa.array(values.tolist()).type
        column = pa.chunked_array([pa.nulls(len(values), dtype)])
        if pa.types.is_dictionary(dtype):
            return _filled_dictionary(column, index, plan)
    if _is_text(dtype):
        values = text_of(values)
    values = held_by(dtype, values)
    if values.dtype.kind == "O":
        new = pa.array(values.tolist(), type=dtype)
    else:
        new = pa.array(values).cast(dtype, safe=False)
    cells = _computable(new), _computable(column)
    return pc.if_else(pa.array(masked), *cells).cast(dtype)


def _filled_dictionary(column: Any, index: int, plan: FillPlan) -> Any:
    """Fill a column of categories; levels that it lacks are added to its dictionary."""
    import pyarrow as pa

    dtype, masked = column.type, plan.mask[:, index]
    codes, dictionary = _dictionary(column)
    own = dictionary.to_pylist()
    declared = [level for level in own if not is_missing_object(level)]
    example = declared or [_zero(dtype.value_type)]
    new, found = plan.coded(index, dtype, example)
    keys, own_keys = keys_of(found), keys_of(own)
    trained = plan.trained(index)
    known = []
    if trained is not None and "arrow" in trained.details:
        known = trained.categories or []
    used = [keys[code] for code in np.unique(new[masked])]
    place = {key: code for code, key in reversed(list(enumerate(own_keys)))}
    added = [key for key in used if key not in place]
    if added and joined(keys_of(declared), known, used) == known:
        place = {key: code for code, key in enumerate(known)}
        codes = np.array([*(place.get(key, -1) for key in own_keys), -1])[codes]
        assert trained is not None
        dictionary = _levels_of(trained)
    elif added:
        level = dict(zip(keys, found, strict=True))
        place |= {key: len(own) + code for code, key in enumerate(added)}
        more = pa.array([level[key] for key in added], type=dtype.value_type)
        dictionary = pa.concat_arrays([dictionary, more])
    # of the levels of training only those that are used have a place
    codes = np.where(masked, np.array([place.get(key, -1) for key in keys])[new], codes)
    return pa.chunked_array([_coded(codes, dictionary, dtype)])


def _zero(dtype: Any) -> Any:
    """Return the fill value of a dictionary that declares no level."""
    import pyarrow as pa

    if _is_text(dtype):
        return EMPTY_TEXT
    if pa.types.is_boolean(dtype):
        return False
    zeros: list = [[0, 0, 0]] if pa.types.is_interval(dtype) else [0]
    if "binary" in str(dtype):
        zeros = [EMPTY_TEXT.encode().hex()]
    return levels_from_plain(zeros, dtype)[0].as_py()


# -- missing cells -------------------------------------------------------------------
def replace_marker(X: Any, marker: Any) -> Any:
    replaced = X
    for index, column in enumerate(X.columns):
        values = without_marker(column, marker)
        if values is not None:
            replaced = replaced.set_column(index, X.schema.field(index), values)
    return replaced


def without_marker(column: Any, marker: Any) -> Any:
    """Return a column with nulls where it equals the marker, None if it never does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dtype = _value_type(column.type)
    own, value = numpy_dtype(dtype), None
    if own is not None:
        value = marker_of(own, marker)
    elif _is_text(dtype) and isinstance(marker, str):
        value = marker
    if value is None:
        return None

    def equal(values: Any) -> np.ndarray:
        values = _computable(values)
        scalar = pa.scalar(value, values.type)
        return pc.equal(values, scalar).fill_null(False).to_numpy(zero_copy_only=False)

    if not pa.types.is_dictionary(column.type):
        marked = equal(pa.chunked_array(column.chunks, dtype).combine_chunks())
        return with_nulls(column, marked) if marked.any() else None
    codes, dictionary = _dictionary(column)
    marked = np.array([*equal(dictionary), False])
    if not marked[codes].any():
        return None
    places = np.where(marked, -1, np.cumsum(~marked) - 1)
    places[-1] = -1
    kept = _taken(dictionary, np.flatnonzero(~marked[:-1]))
    return pa.chunked_array([_coded(places[codes], kept, column.type)])


def missing_mask(X: Any) -> np.ndarray:
    return np.column_stack([is_missing(column) for column in X.columns])


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    import pyarrow as pa

    columns = [
        with_nulls(column, mask)
        for column, mask in zip(X.columns, masked.T, strict=True)
    ]
    fields = [field.with_nullable(True) for field in X.schema]
    schema = pa.schema(fields, metadata=X.schema.metadata)
    return pa.Table.from_arrays(columns, schema=schema)


def with_nulls(column: Any, masked: np.ndarray) -> Any:
    """Return a column with nulls in the masked cells."""
    import pyarrow as pa

    # Taking the row "null" gives null, for every type.
    return _taken(column, pa.array(np.arange(len(column)), mask=masked))


def take_rows(X: Any, rows: np.ndarray) -> Any:
    import pyarrow as pa

    columns = [_taken(column, rows) for column in X.columns]
    return pa.Table.from_arrays(columns, schema=X.schema)


def plain_column(values: Any) -> Any:
    """Return an array or a column as a ChunkedArray of a type that NumPy has."""
    import pyarrow as pa

    column = values
    if not isinstance(values, pa.ChunkedArray):
        column = pa.chunked_array([values])
    if pa.types.is_dictionary(column.type) and len(column):
        codes, dictionary = _dictionary(column)
        rows = pa.array(codes, mask=codes < 0)
        column = pa.chunked_array([_taken(dictionary, rows)])
    if str(column.type) == "halffloat":
        return column
    return pa.chunked_array([_computable(part) for part in column.chunks])


# -- types that pyarrow computes less with -------------------------------------------
def _taken(values: Any, rows: Any) -> Any:
    """Return some rows of an array or a column of any type."""
    import pyarrow as pa

    dtype = values.type
    rows = rows if isinstance(rows, pa.Array) else pa.array(rows, pa.int64())
    if pa.types.is_dictionary(dtype):
        if pa.types.is_null(dtype.value_type):
            return pa.chunked_array([pa.nulls(len(rows), dtype)])
        codes, dictionary = _dictionary(values)
        codes = pa.array(codes).take(rows).fill_null(-1).to_numpy()
        return pa.chunked_array([_coded(codes, dictionary, dtype)])
    return _computable(values).take(rows).cast(dtype)


def _computable(values: Any) -> Any:
    """Return values of a type that all functions take, and that holds them exactly."""
    import pyarrow as pa

    others: dict[str, Callable[[], Any]] = {
        "string_view": pa.string,
        "binary_view": pa.binary,
        "halffloat": pa.float32,
    }
    other = others.get(str(values.type))
    return values if other is None else values.cast(other())


def _is_text(dtype: Any) -> bool:
    return str(dtype) in ("string", "large_string", "string_view")


def _is_number(dtype: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(dtype) or pa.types.is_integer(dtype)
