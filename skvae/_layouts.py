"""What a table looked like, in plain values, and how to build another like it.

A layout holds no object of a data frame library, so that any serialiser can store it.
"""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ColumnType:
    """Plain description of the dtype of one column.

    Attributes
    ----------
    family : {"float", "integer", "boolean", "string", "category", "object", \
            "null", "other"}
        What the column can hold. "null" holds missing cells only, "other" is not
        supported.
    name : str
        The dtype as its library prints it.
    ordered : bool
        Whether the categories of the dtype have an order.
    categories : list or None
        The categories that the dtype declares, in its order.
    details : dict
        What else the library needs to build the dtype.
    """

    family: str
    name: str
    ordered: bool = False
    categories: list | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecodedColumn:
    """Values of one column on their way back into a table.

    Attributes
    ----------
    values : ndarray of shape (n_rows,)
        Numbers, or, where there are categories, their integer codes.
    missing : ndarray of bool of shape (n_rows,)
        Cells without a value; ``values`` holds anything there.
    categories : list or None
        What the codes stand for.
    """

    values: np.ndarray
    missing: np.ndarray
    categories: list | None = None


@dataclass
class TableLayout:
    """Library, column labels and dtypes of a table."""

    library: str
    labels: list
    types: list[ColumnType]

    def build(self, columns: list[DecodedColumn]) -> Any:
        """Put decoded columns together into a table of the library."""
        build = {
            "numpy": _build_array,
            "pandas": _build_pandas,
            "polars": _build_polars,
            "pyarrow": _build_arrow,
        }[self.library]
        return build(list(zip(self.labels, self.types, columns, strict=True)))


Parts = list[tuple[Any, ColumnType, DecodedColumn]]


# ---------------------------------------------------------------------------
# Values of one column
# ---------------------------------------------------------------------------
def _numbers(column: DecodedColumn, type_: ColumnType) -> np.ndarray:
    """Values as booleans, integers in the range of the dtype, or float64."""
    values = column.values
    if column.categories is not None:
        # A column without categories is missing altogether.
        values = np.asarray(column.categories or [0])[values]
    if type_.family == "boolean":
        return values.astype(np.float64) >= 0.5
    if type_.family == "integer":
        return nearest_integers(values, integer_dtype(type_.name))
    return values.astype(np.float64, copy=False)


def integer_dtype(name: str) -> np.dtype:
    """NumPy dtype of an integer dtype of any library, found in its name."""
    match = re.search(r"(u?)int(\d+)", name.lower())
    assert match is not None, name
    return np.dtype(f"{match[1]}int{min(int(match[2]), 64)}")


def nearest_integers(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Nearest values that an integer dtype can hold."""
    info = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        own = np.iinfo(values.dtype)
        ends = max(info.min, own.min), min(info.max, own.max)
        return np.clip(values, *ends).astype(dtype)
    # float(2**63 - 1) is 2**63, which the cast cannot hold.
    upper = float(info.max)
    if upper > info.max:
        upper = np.nextafter(upper, 0)
    return np.clip(np.rint(values), float(info.min), upper).astype(dtype)


def _objects(column: DecodedColumn, type_: ColumnType) -> np.ndarray:
    """Values as Python objects, None where missing."""
    if column.categories is None:
        values = _numbers(column, type_).astype(object)
    else:
        lookup = np.empty(max(1, len(column.categories)), dtype=object)
        lookup[: len(column.categories)] = column.categories
        values = lookup[column.values]
    values[column.missing] = None
    return values


def _declared_codes(column: DecodedColumn, type_: ColumnType) -> np.ndarray:
    """Codes into the categories of the dtype, -1 where missing."""
    position = {value: code for code, value in enumerate(type_.categories or [])}
    codes = np.array([position[value] for value in column.categories or []] or [-1])
    return np.where(column.missing, -1, codes[column.values])


def _with_nan(label: Any, values: np.ndarray, missing: np.ndarray, dtype: np.dtype):
    """Put NaN into the missing cells of a NumPy dtype that may not know it."""
    if not missing.any():
        return values.astype(dtype, copy=False)
    if dtype.kind != "f":
        raise ValueError(
            f"Column {label!r} has the dtype {dtype}, which cannot hold missing cells."
        )
    return np.where(missing, np.nan, values).astype(dtype)


# ---------------------------------------------------------------------------
# NumPy
# ---------------------------------------------------------------------------
def _build_array(parts: Parts) -> np.ndarray:
    first_type = parts[0][1]
    dtype = np.dtype(first_type.details.get("array", first_type.name))
    result = np.empty((len(parts[0][2].values), len(parts)), dtype=dtype)
    for index, (label, type_, column) in enumerate(parts):
        if dtype.kind == "O":
            values = _objects(column, type_)
            if type_.family in ("float", "integer", "null"):
                values[column.missing] = np.nan
        elif dtype.kind == "U":
            values = _with_nan(label, _objects(column, type_), column.missing, dtype)
        else:
            values = _with_nan(label, _numbers(column, type_), column.missing, dtype)
        result[:, index] = values
    return result


# ---------------------------------------------------------------------------
# pandas
# ---------------------------------------------------------------------------
def _build_pandas(parts: Parts) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {label: _pandas_column(label, type_, column) for label, type_, column in parts},
        copy=False,
    )


def _pandas_column(label: Any, type_: ColumnType, column: DecodedColumn) -> Any:
    import pandas as pd

    if type_.family == "category" and "arrow" not in type_.details:
        return pd.Categorical.from_codes(
            _declared_codes(column, type_), dtype=_pandas_category(type_)
        )
    dtype = _pandas_dtype(type_)
    if type_.family in ("string", "category", "object", "null"):
        return pd.Series(_objects(column, type_), dtype=dtype)
    values = _numbers(column, type_)
    if isinstance(dtype, np.dtype):
        return _with_nan(label, values, column.missing, dtype)
    result = pd.array(values, dtype=dtype)
    if column.missing.any():
        result[column.missing] = pd.NA
    return result


def _pandas_dtype(type_: ColumnType) -> Any:
    import pandas as pd

    if "arrow" in type_.details:
        return pd.ArrowDtype(_arrow_from_plain(type_.details["arrow"]))
    if "storage" in type_.details:
        # pandas before 2.3 knows no other missing value of strings than NA.
        other = {} if type_.details["na_value"] == "NA" else {"na_value": np.nan}
        return pd.StringDtype(type_.details["storage"], **other)
    return pd.api.types.pandas_dtype(type_.name)


def _pandas_category(type_: ColumnType) -> Any:
    import pandas as pd

    details = type_.details
    if "closed" in details:
        index = pd.IntervalIndex.from_arrays(
            details["left"], details["right"], closed=details["closed"]
        )
    else:
        index = pd.Index(type_.categories or []).astype(details["categories_dtype"])
    return pd.CategoricalDtype(index, ordered=type_.ordered)


# ---------------------------------------------------------------------------
# polars
# ---------------------------------------------------------------------------
def _build_polars(parts: Parts) -> Any:
    import polars as pl

    return pl.DataFrame([_polars_column(*part) for part in parts])


def _polars_column(label: str, type_: ColumnType, column: DecodedColumn) -> Any:
    import polars as pl

    dtype = _polars_dtype(type_)
    if type_.family in ("string", "category"):
        text = pl.Series(label, _objects(column, type_), dtype=pl.String)
        return text.cast(dtype)
    if type_.family in ("object", "null"):
        return pl.Series(label, _objects(column, type_).tolist(), dtype=dtype)
    values = pl.Series(label, _numbers(column, type_)).cast(dtype)
    if not column.missing.any():
        return values
    nulls = pl.Series(label, [None], dtype=dtype).new_from_index(0, len(values))
    return nulls.zip_with(pl.Series(column.missing), values)


def _polars_dtype(type_: ColumnType) -> Any:
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


# ---------------------------------------------------------------------------
# pyarrow
# ---------------------------------------------------------------------------
def _build_arrow(parts: Parts) -> Any:
    import pyarrow as pa

    arrays = [_arrow_column(type_, column) for _, type_, column in parts]
    return pa.table(arrays, names=[label for label, _, _ in parts])


def _arrow_column(type_: ColumnType, column: DecodedColumn) -> Any:
    import pyarrow as pa

    dtype = _arrow_from_plain(type_.details["arrow"])
    if type_.family == "category":
        codes = _declared_codes(column, type_)
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, mask=codes < 0).cast(dtype.index_type),
            pa.array(type_.categories, type=dtype.value_type),
            ordered=dtype.ordered,
        )
    if type_.family in ("string", "null"):
        return pa.array(_objects(column, type_), type=dtype)
    values = pa.array(_numbers(column, type_), mask=column.missing)
    # float64 to a narrower float is not exact, and not meant to be.
    return values.cast(dtype, safe=False)


def arrow_to_plain(dtype: Any) -> list:
    """Describe a pyarrow type: its name, or value type, index type and order."""
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        return [str(dtype.value_type), str(dtype.index_type), bool(dtype.ordered)]
    return [str(dtype)]


def _arrow_from_plain(plain: list) -> Any:
    import pyarrow as pa

    if len(plain) == 1:
        return pa.type_for_alias(plain[0])
    value_type, index_type = (pa.type_for_alias(name) for name in plain[:2])
    return pa.dictionary(index_type, value_type, ordered=plain[2])
