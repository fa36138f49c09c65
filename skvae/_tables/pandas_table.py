"""pandas data frames as tables, with the functions of :class:`Library`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from . import pyarrow_table as arrow
from .levels import Key, joined, keys_of, object_from_plain, object_to_plain
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import (
    FillPlan,
    cannot_hold,
    declared_codes,
    equals_marker,
    held_by,
    indicator_name,
    is_beyond_floats,
    is_text,
    marker_of,
    numbers_of,
    numpy_dtype,
    objects_of,
    text_of,
    with_nan_cells,
)


class PandasTable(FrameTable):
    """Columns of a pandas DataFrame."""

    library = "pandas"

    def _holds_objects(self, index: int) -> bool:
        # narwhals calls a column of objects a string column where it finds text.
        return self._series(index).to_native().dtype == np.dtype(object)

    def column_type(self, index: int) -> ColumnSchema:
        import pandas as pd

        series = self._series(index).to_native()
        if isinstance(series.dtype, pd.CategoricalDtype):
            return _type_of_categories(series.dtype)
        if isinstance(series.dtype, pd.ArrowDtype):
            return arrow.type_of(arrow.chunks(series), self._family(index))
        type_ = ColumnSchema(self._family(index), str(series.dtype))
        type_.details = _dtype_to_plain(series.dtype)
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list[Key]]:
        import pandas as pd

        if isinstance(series.dtype, pd.CategoricalDtype):
            levels = series.cat.categories.tolist()
            return series.cat.codes.to_numpy(np.intp), keys_of(levels)
        if isinstance(series.dtype, pd.ArrowDtype):
            return arrow.factorize(arrow.chunks(series))
        codes, values = pd.factorize(series)
        return codes, keys_of(values.tolist())


def read(X: Any, input_name: str = "X") -> PandasTable:
    return PandasTable(X, input_name)


# -- dtypes and levels as plain values -----------------------------------------------
def _type_of_categories(dtype: Any) -> ColumnSchema:
    """Describe a dtype of categories; "other" where its levels cannot be stored."""
    levels = dtype.categories
    keys = keys_of(levels.tolist())
    try:
        plain = _levels_to_plain(levels)
        is_exact = _levels_from_plain(plain).equals(levels)
    # pandas raises any error for a dtype that it cannot read from its name
    except Exception:
        is_exact = False
    if not is_exact or len(set(keys)) < len(keys):
        kinds = sorted({type(level).__name__ for level in levels})
        return ColumnSchema("other", f"category of {' and '.join(kinds)}")
    details = {"levels": plain}
    return ColumnSchema("category", str(dtype), bool(dtype.ordered), keys, details)


def _levels_to_plain(levels: Any) -> dict[str, Any]:
    """Return an index of levels as plain values."""
    import pandas as pd

    dtype = levels.dtype
    if isinstance(dtype, pd.IntervalDtype):
        left, right = map(_levels_to_plain, (levels.left, levels.right))
        return {"closed": levels.closed, "left": left, "right": right}
    values: list
    if isinstance(dtype, pd.ArrowDtype):
        values = arrow.levels_to_plain(arrow.chunks(levels).combine_chunks())
    elif isinstance(dtype, pd.PeriodDtype) or dtype.kind in "mM":
        values = levels.asi8.tolist()
    else:
        values = [object_to_plain(level) for level in levels.tolist()]
    return {"name": str(dtype), **_dtype_to_plain(dtype), "values": values}


def _levels_from_plain(plain: dict[str, Any]) -> Any:
    """Return the index that :func:`_levels_to_plain` was called on."""
    import pandas as pd

    if "closed" in plain:
        left, right = (_levels_from_plain(plain[end]) for end in ("left", "right"))
        return pd.IntervalIndex.from_arrays(left, right, closed=plain["closed"])
    values, dtype = plain["values"], _dtype_from_plain(plain["name"], plain)
    if isinstance(dtype, pd.ArrowDtype):
        levels = arrow.levels_from_plain(values, dtype.pyarrow_dtype)
        return pd.Index(pd.arrays.ArrowExtensionArray(levels))
    if isinstance(dtype, pd.PeriodDtype):
        index: Any = pd.PeriodIndex  # whose stubs lack the method
        return index.from_ordinals(values, freq=dtype.freq)
    if isinstance(dtype, pd.DatetimeTZDtype):
        stamps = np.array(values, dtype=np.int64).view(f"M8[{dtype.unit}]")
        return pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(dtype.tz)
    if dtype.kind in "mM":
        return pd.Index(np.array(values, dtype=np.int64).view(dtype))
    return pd.Index([object_from_plain(value) for value in values], dtype=dtype)


def _dtype_to_plain(dtype: Any) -> dict[str, Any]:
    """Return what a dtype has beside its name."""
    import pandas as pd

    if isinstance(dtype, pd.StringDtype):
        na_value = "NA" if dtype.na_value is pd.NA else "nan"
        return {"storage": dtype.storage, "na_value": na_value}
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": arrow.type_to_plain(dtype.pyarrow_dtype)}
    return {}


def _dtype_from_plain(name: str, details: dict[str, Any]) -> Any:
    import pandas as pd

    if "arrow" in details:
        return pd.ArrowDtype(arrow.type_from_plain(details["arrow"]))
    if "storage" in details:
        # pandas before 2.3 knows no other missing value of strings than NA.
        other = {} if details["na_value"] == "NA" else {"na_value": np.nan}
        return pd.StringDtype(details["storage"], **other)
    return pd.api.types.pandas_dtype(name)


def _dtype_of(type_: ColumnSchema) -> Any:
    """Return the dtype that a schema describes."""
    import pandas as pd

    if type_.family == "category" and "arrow" not in type_.details:
        return pd.CategoricalDtype(_index_of(type_), ordered=type_.ordered)
    return _dtype_from_plain(type_.name, type_.details)


def _index_of(type_: ColumnSchema) -> Any:
    """Return the index of the levels of a dtype of categories."""
    plain = type_.details.get("levels")
    if plain is None:  # saved by version 0.1.0
        name = type_.details["categories_dtype"]
        plain = {"name": name, "values": type_.categories}
    return _levels_from_plain(plain)


def levels(type_: ColumnSchema) -> list:
    if "arrow" in type_.details:
        return arrow.levels(type_)
    return _index_of(type_).tolist()


# -- building and filling ------------------------------------------------------------
def build(parts: Parts) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {label: _pandas_column(label, type_, column) for label, type_, column in parts},
        copy=False,
    )


def _pandas_column(label: Any, type_: ColumnSchema, column: DecodedColumn) -> Any:
    import pandas as pd

    if "arrow" in type_.details:
        return pd.arrays.ArrowExtensionArray(arrow.decoded_column(type_, column))
    dtype = _dtype_of(type_)
    if type_.family == "category":
        return pd.Categorical.from_codes(declared_codes(column, type_), dtype=dtype)
    if type_.family in ("string", "object", "null"):
        return pd.Series(objects_of(column, type_), dtype=dtype)
    values = numbers_of(column, type_)
    if isinstance(dtype, np.dtype):
        return with_nan_cells(label, values, column.missing, dtype)
    result = pd.array(values, dtype=dtype)
    if column.missing.any():
        result[column.missing] = pd.NA
    return result


def fill(X: Any, plan: FillPlan) -> Any:
    import pandas as pd

    filled = X.iloc[:, plan.kept].copy()
    for index in plan.incomplete():
        with cannot_hold(X.columns[index], X.dtypes.iloc[index]):
            values = _filled_column(X.iloc[:, index], index, plan)
        filled.isetitem(plan.kept.index(index), values)
    if not plan.flagged:
        return filled
    names = [indicator_name(X.columns[index]) for index in plan.flagged]
    columns = pd.Index(names, name=X.columns.name)
    flags = pd.DataFrame(plan.mask[:, plan.flagged], X.index, columns)
    result = pd.concat([filled, flags], axis=1)
    result.attrs = copy.deepcopy(X.attrs)
    return result


def _filled_column(original: Any, index: int, plan: FillPlan) -> Any:
    import pandas as pd

    dtype, masked = original.dtype, plan.mask[:, index]
    if isinstance(dtype, pd.ArrowDtype):
        return _from_arrow(
            arrow.filled_column(arrow.chunks(original), index, plan), original
        )
    if isinstance(dtype, pd.CategoricalDtype):
        return _filled_categories(original, index, plan)
    column = original.copy()
    values = plan.values(index, dtype)[masked]
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and not is_text(values):
        numbers = column.to_numpy(copy=True)  # pandas takes ten times as long
        numbers[masked] = held_by(dtype, values)
        return numbers
    is_open = pd.api.types.is_object_dtype(dtype)
    unfit = pd.api.types.is_numeric_dtype(dtype) and is_text(values)
    if masked.all() and (is_open or unfit) and index not in plan.empty:
        trained = plan.trained(index)
        known = None if trained is None else _dtype_of(trained)
        return pd.Series(values, column.index, known, name=column.name)
    if isinstance(dtype, pd.StringDtype):
        values = text_of(values)
    if not is_open:
        values = pd.Series(held_by(dtype, values)).astype(dtype).array
    column.iloc[np.flatnonzero(masked)] = values
    return column


def _filled_categories(column: Any, index: int, plan: FillPlan) -> Any:
    """Fill a column of categories; levels that it lacks are added to its dtype."""
    import pandas as pd

    dtype, masked = column.dtype, plan.mask[:, index]
    own, trained = dtype.categories, plan.trained(index)
    codes, found = plan.coded(index, dtype, own)
    codes, keys = codes[masked], keys_of(found)
    declared = keys_of(own.tolist())
    known = []
    if trained is not None and "arrow" not in trained.details:
        known = trained.categories or []
    used = [keys[code] for code in np.unique(codes)]
    order = joined(declared, known, used)
    if len(order) > len(declared) and order == known:
        assert trained is not None
        own = _index_of(trained)
    elif len(order) > len(declared):
        level = dict(zip(keys, found, strict=True))
        own = own.append(pd.Index([level[key] for key in order[len(declared) :]]))
    position = {key: place for place, key in enumerate(order)}
    filled = column.cat.set_categories(own).cat.codes.to_numpy(np.intp, copy=True)
    filled[masked] = np.array([position.get(key, -1) for key in keys])[codes]
    values = pd.Categorical.from_codes(filled, own, ordered=dtype.ordered)
    return pd.Series(values, column.index, name=column.name)


def _from_arrow(values: Any, like: Any) -> Any:
    """Return an Arrow column as a series with the index and name of another."""
    import pandas as pd

    array = pd.arrays.ArrowExtensionArray(values)
    return pd.Series(array, like.index, name=like.name)


def plain_series(values: Any) -> Any:
    """Return a series, index or array as what narwhals turns into values."""
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        return values
    series = values if isinstance(values, pd.Series) else pd.Series(values)
    if isinstance(series.dtype, pd.ArrowDtype):
        return arrow.plain_column(arrow.chunks(series))
    return series


# -- missing cells -------------------------------------------------------------------
def replace_marker(X: Any, marker: Any) -> Any:
    import pandas as pd

    replaced = X.copy(deep=False)
    for index in range(X.shape[1]):
        column = X.iloc[:, index]
        if isinstance(column.dtype, pd.ArrowDtype):
            values = arrow.without_marker(arrow.chunks(column), marker)
            if values is not None:
                replaced.isetitem(index, _from_arrow(values, column))
            continue
        marked = _equal_to(column, marker)
        if not marked.any():
            continue
        if isinstance(column.dtype, pd.CategoricalDtype):
            own = column.cat.categories
            found = own[_marked_levels(own, marker)]
            column = column.cat.remove_categories(found)
        else:
            column = _nullable(column).mask(marked)
        replaced.isetitem(index, column)
    return replaced


def _equal_to(column: Any, marker: Any) -> np.ndarray:
    """Return the mask of the cells of a column that equal a marker."""
    import pandas as pd

    dtype, own = column.dtype, numpy_dtype(column.dtype)
    if isinstance(dtype, pd.CategoricalDtype):
        flags = _marked_levels(dtype.categories, marker)
        return np.append(flags, False)[column.cat.codes.to_numpy()]
    if own is not None:
        value = marker_of(own, marker)
    elif isinstance(dtype, pd.StringDtype) and isinstance(marker, str):
        value = marker
    elif dtype == np.dtype(object):
        return np.array([equals_marker(cell, marker) for cell in column], dtype=bool)
    else:
        value = None
    if value is None:
        return np.zeros(len(column), dtype=bool)
    return (column == value).fillna(False).to_numpy(dtype=bool)


def _marked_levels(levels: Any, marker: Any) -> np.ndarray:
    """Return the mask of the levels that equal a marker."""
    own = numpy_dtype(levels.dtype)
    value = None if own is None else marker_of(own, marker)
    if value is not None:
        return np.asarray(levels == value)
    flags = [own is None and equals_marker(level, marker) for level in levels]
    return np.array(flags, dtype=bool)


def _nullable(column: Any) -> Any:
    """Return a column of booleans or integers with a dtype that has missing cells."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        name = str(dtype).replace("i", "I").replace("u", "U")
        return column.astype("boolean" if dtype.kind == "b" else name)
    return column


def missing_mask(X: Any) -> np.ndarray:
    import pandas as pd

    mask: np.ndarray = X.isna().to_numpy(dtype=bool, copy=True)
    for index, dtype in enumerate(X.dtypes):
        # nullable floats may hold NaN beside NA
        if isinstance(dtype, np.dtype):
            continue
        if isinstance(dtype, pd.ArrowDtype):
            mask[:, index] = arrow.is_missing(arrow.chunks(X.iloc[:, index]))
        elif pd.api.types.is_float_dtype(dtype):
            numbers = X.iloc[:, index].to_numpy(np.float64, na_value=np.nan)
            mask[:, index] |= np.isnan(numbers)
    return mask


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    """Return a copy with the masked cells missing; dtypes change where they must."""
    import pandas as pd

    result = X.copy()
    for index in np.flatnonzero(masked.any(axis=0)):
        column = X.iloc[:, index]
        if isinstance(column.dtype, pd.ArrowDtype):
            values = arrow.with_nulls(arrow.chunks(column), masked[:, index])
            result.isetitem(index, _from_arrow(values, column))
            continue
        is_number = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu"
        if is_number and not is_beyond_floats(column.to_numpy()):
            column = column.astype(np.float64)
        column = _nullable(column).copy()
        column.iloc[masked[:, index]] = getattr(column.dtype, "na_value", np.nan)
        result.isetitem(index, column)
    return result
