"""pandas data frames as tables, with the functions of :class:`Library`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .pyarrow_table import arrow_from_plain, arrow_to_plain
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

        dtype = self._series(index).to_native().dtype
        type_ = ColumnSchema(self._family(index), str(dtype))
        if isinstance(dtype, pd.CategoricalDtype):
            values = dtype.categories
            type_.ordered = bool(dtype.ordered)
            type_.categories = plain_values(values.tolist())
            if isinstance(values, pd.IntervalIndex):
                type_.details["left"] = plain_values(values.left.tolist())
                type_.details["right"] = plain_values(values.right.tolist())
                type_.details["closed"] = values.closed
                values = values.left
            type_.details["categories_dtype"] = str(values.dtype)
        elif isinstance(dtype, pd.StringDtype):
            type_.details["storage"] = dtype.storage
            type_.details["na_value"] = "NA" if dtype.na_value is pd.NA else "nan"
        elif isinstance(dtype, pd.ArrowDtype):
            type_.details["arrow"] = arrow_to_plain(dtype.pyarrow_dtype)
            if type_.name == "null[pyarrow]":
                type_.family = "null"
        return type_

    def _factorize_native(self, series: Any) -> tuple[np.ndarray, list]:
        import pandas as pd

        if isinstance(series.dtype, pd.CategoricalDtype):
            return series.cat.codes.to_numpy(np.intp), series.cat.categories.tolist()
        codes, values = pd.factorize(series)
        return codes, values.tolist()


def read(X: Any, input_name: str = "X") -> PandasTable:
    return PandasTable(X, input_name)


def build(parts: Parts) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {label: _pandas_column(label, type_, column) for label, type_, column in parts},
        copy=False,
    )


def _pandas_column(label: Any, type_: ColumnSchema, column: DecodedColumn) -> Any:
    import pandas as pd

    if type_.family == "category" and "arrow" not in type_.details:
        return pd.Categorical.from_codes(
            declared_codes(column, type_), dtype=_pandas_category(type_)
        )
    dtype = _pandas_dtype(type_)
    if type_.family in ("string", "category", "object", "null"):
        return pd.Series(objects_of(column, type_), dtype=dtype)
    values = numbers_of(column, type_)
    if isinstance(dtype, np.dtype):
        return with_nan_cells(label, values, column.missing, dtype)
    result = pd.array(values, dtype=dtype)
    if column.missing.any():
        result[column.missing] = pd.NA
    return result


def _pandas_dtype(type_: ColumnSchema) -> Any:
    import pandas as pd

    if "arrow" in type_.details:
        return pd.ArrowDtype(arrow_from_plain(type_.details["arrow"]))
    if "storage" in type_.details:
        # pandas before 2.3 knows no other missing value of strings than NA.
        other = {} if type_.details["na_value"] == "NA" else {"na_value": np.nan}
        return pd.StringDtype(type_.details["storage"], **other)
    return pd.api.types.pandas_dtype(type_.name)


def _pandas_category(type_: ColumnSchema) -> Any:
    import pandas as pd

    details = type_.details
    if "closed" in details:
        left, right = (
            pd.Index(details[end]).astype(details["categories_dtype"])
            for end in ("left", "right")
        )
        index = pd.IntervalIndex.from_arrays(left, right, closed=details["closed"])
    else:
        index = pd.Index(type_.categories or []).astype(details["categories_dtype"])
    return pd.CategoricalDtype(index, ordered=type_.ordered)


def fill(X: Any, completed: Any, plan: FillPlan) -> Any:
    import pandas as pd

    filled = X.iloc[:, plan.kept].copy()
    for index in plan.incomplete():
        trained = None if completed is None else completed.dtypes.iloc[index]
        values = _filled_column(X.iloc[:, index], index, trained, plan)
        filled.isetitem(plan.kept.index(index), values)
    if not plan.flagged:
        return filled
    names = [f"missingindicator_{X.columns[index]}" for index in plan.flagged]
    flags = pd.DataFrame(plan.mask[:, plan.flagged], X.index, names)
    return pd.concat([filled, flags], axis=1)


def _filled_column(original: Any, index: int, trained: Any, plan: FillPlan) -> Any:
    import pandas as pd

    column, masked = original.copy(), plan.mask[:, index]
    dtype = column.dtype
    values = plan.values(index, dtype)[masked]
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and not is_text(values):
        numbers = column.to_numpy(copy=True)  # pandas takes ten times as long
        numbers[masked] = held_by(dtype, values)
        return numbers
    is_open = pd.api.types.is_object_dtype(dtype)
    unfit = pd.api.types.is_numeric_dtype(dtype) and is_text(values)
    if masked.all() and (is_open or unfit) and index not in plan.empty:
        return pd.Series(values, column.index, trained, name=column.name)
    if isinstance(dtype, pd.CategoricalDtype):
        declared = list(dtype.categories)
        more = joined(declared, getattr(trained, "categories", ()), values)
        if len(more) > len(declared):
            column = column.cat.set_categories(more)
        values = values.astype(object)
    elif not is_open:
        values = pd.Series(held_by(dtype, values)).astype(dtype).array
    column.iloc[np.flatnonzero(masked)] = values
    return column


def replace_marker(X: Any, marker: Any) -> Any:
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


def missing_mask(X: Any) -> np.ndarray:
    import pandas as pd

    mask: np.ndarray = X.isna().to_numpy(dtype=bool, copy=True)
    for index, dtype in enumerate(X.dtypes):
        # nullable floats may hold NaN beside NA
        if isinstance(dtype, np.dtype):
            continue
        if pd.api.types.is_float_dtype(dtype):
            numbers = X.iloc[:, index].to_numpy(np.float64, na_value=np.nan)
            mask[:, index] |= np.isnan(numbers)
    return mask


def mask_cells(X: Any, masked: np.ndarray) -> Any:
    """Return a copy with the masked cells missing; dtypes change where they must."""
    result = X.copy()
    for index in np.flatnonzero(masked.any(axis=0)):
        column = X.iloc[:, index]
        if column.dtype == np.dtype(bool):
            column = column.astype("boolean")
        elif isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
            column = column.astype(np.float64)
        else:
            column = column.copy()
        column.iloc[masked[:, index]] = getattr(column.dtype, "na_value", np.nan)
        result.isetitem(index, column)
    return result
