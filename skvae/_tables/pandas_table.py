"""pandas data frames as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from .pyarrow_table import arrow_from_plain, arrow_to_plain
from .schema import ColumnSchema, DecodedColumn, Parts
from .table import FrameTable
from .values import declared_codes, numbers_of, objects_of, plain_values, with_nan_cells


# ---------------------------------------------------------------------------
# pandas
# ---------------------------------------------------------------------------
def build_pandas(parts: Parts) -> Any:
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
        index = pd.IntervalIndex.from_arrays(
            details["left"], details["right"], closed=details["closed"]
        )
    else:
        index = pd.Index(type_.categories or []).astype(details["categories_dtype"])
    return pd.CategoricalDtype(index, ordered=type_.ordered)


class PandasTable(FrameTable):
    """Columns of a pandas DataFrame."""

    library = "pandas"

    def _holds_objects(self, index: int) -> bool:
        # narwhals calls a column of objects a string column where it finds text.
        return self._series(index).to_native().dtype == np.dtype(object)

    def column_type(self, index: int) -> ColumnSchema:
        """Describe the dtype of a column."""
        import pandas as pd

        dtype = self._series(index).to_native().dtype
        type_ = ColumnSchema(self._family(index), str(dtype))
        if isinstance(dtype, pd.CategoricalDtype):
            values = dtype.categories
            type_.ordered = bool(dtype.ordered)
            type_.categories = plain_values(values.tolist())
            if isinstance(values, pd.IntervalIndex):
                type_.details["left"] = values.left.tolist()
                type_.details["right"] = values.right.tolist()
                type_.details["closed"] = values.closed
            else:
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


def mask_pandas(frame: Any, hidden: np.ndarray) -> Any:
    result = frame.copy()
    for index in np.flatnonzero(hidden.any(axis=0)):
        column = frame.iloc[:, index]
        if column.dtype == np.dtype(bool):
            column = column.astype("boolean")
        elif isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
            column = column.astype(np.float64)
        else:
            column = column.copy()
        column.iloc[hidden[:, index]] = getattr(column.dtype, "na_value", np.nan)
        result.isetitem(index, column)
    return result
