"""Columns of every dtype of every library, built from Python values."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from fuzz.values import LARGEST, draw_missing, draw_values

ROOM = {  # ends of the integers, largest floats
    **{f"int{bits}": 2 ** (bits - 1) - 1 for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": 2**bits - 1 for bits in (8, 16, 32, 64)},
    "float16": 65504.0,
    "float32": float(np.finfo(np.float32).max),
    "float64": LARGEST,
}
NUMBERS = list(ROOM)


@dataclass(frozen=True)
class DType:
    """A dtype of a library, as this folder names it.

    ``served`` means that a table with such columns must be accepted; others may be
    refused, by a message that names the column.
    """

    name: str
    family: str
    served: bool = True
    holds_missing: bool = True
    is_category: bool = False
    is_ordered: bool = False
    plain: str = ""  # the number that it stores

    @property
    def ends(self) -> tuple[Any, Any]:
        high = ROOM.get(self.plain, 2**63 - 1)
        if self.plain.startswith("float"):
            return -high, high
        return (0, high) if self.plain.startswith("u") else (-high - 1, high)


@dataclass(frozen=True)
class Column:
    """A column: label, dtype, and Python values with None in missing cells."""

    label: Hashable
    dtype: DType
    values: tuple
    levels: tuple = ()
    kind: str = ""
    marker: Any = field(default=None, compare=False)  # of missing cells in objects

    def take(self, rows):
        return replace(self, values=tuple(self.values[row] for row in rows))

    @property
    def is_infinite(self):
        return any(isinstance(v, float) and np.isinf(v) for v in self.values)

    def __repr__(self):
        levels = f", levels={list(self.levels)!r}" if self.levels else ""
        return f"{self.label!r}: {self.dtype.name} {list(self.values)!r}{levels}"


# -- the dtypes of each library --------------------------------------------------------


def _numbers(pattern="{}", *, skip=(), **options):
    return [
        DType(
            pattern.format(name),
            "float" if name.startswith("f") else "integer",
            plain=name,
            **options,
        )
        for name in NUMBERS
        if name not in skip
    ]


def _plain(*names, family=None, **options):
    return [DType(name, family or name, **options) for name in names]


LEVEL_FAMILIES = ["string", "integer", "float", "boolean", "date", "datetime"]


def _categories(pattern, families, served=True):
    return [
        DType(
            pattern.format(family) + (", ordered" if ordered else ""),
            family,
            served=served,
            is_category=True,
            is_ordered=ordered,
        )
        for family in families
        for ordered in (False, True)
    ]


def _numpy_dtypes():
    objects = [
        DType("object", family, plain="float64" if family == "float" else "")
        for family in ("float", "integer", "boolean", "string")
        for _ in range(3)
    ]
    odd = [DType("object", f, served=False) for f in ("mixture", "date", "decimal")]
    big_endian = [DType(">f8", "float", plain="float64")]
    big_endian += [DType(">i4", "integer", plain="int32")]
    no_gaps = [
        replace(t, holds_missing=t.family == "float")
        for t in [*_numbers(), *big_endian, DType("bool", "boolean")]
    ]
    texts = [DType("U", "string", holds_missing=False)]
    others = _plain(
        "datetime", "duration", "complex", served=False, holds_missing=False
    )
    others += [DType("g", "float", served=False, plain="float64")]
    others += [DType("S", "binary", served=False, holds_missing=False)]
    return no_gaps * 2 + objects + odd + texts + others


def _list_dtypes():
    families = ("integer", "boolean", "string")
    floats = DType("python", "float", plain="float64")
    return [floats, *(DType("python", family) for family in families)]


def _pandas_dtypes():
    own = [replace(t, holds_missing=t.family == "float") for t in _numbers()]
    own += [DType("bool", "boolean", holds_missing=False)]
    nullable = [
        replace(t, name=t.name.replace("i", "I", 1).replace("u", "U").replace("f", "F"))
        for t in _numbers(skip=("float16",))
    ] + [DType("boolean", "boolean")]
    arrow = _numbers("{}[pyarrow]", skip=("float16",))
    arrow += _plain("bool[pyarrow]", family="boolean")
    arrow += _plain("string[pyarrow type]", "large_string[pyarrow]", family="string")
    texts = _plain("string[python]", "string[pyarrow]", family="string")
    texts += _plain("str", family="string")
    categories = _categories("category<{}>", LEVEL_FAMILIES)
    categories += _categories(
        "category<{}>", ["duration", "decimal", "interval"], False
    )
    objects = [DType("object", "string")] * 2
    odd = [DType("object", f, served=False) for f in ("float", "integer", "boolean")]
    odd += _plain("datetime", "duration", "period", "interval", served=False)
    odd += _plain("datetime[tz]", "datetime[s]", family="datetime", served=False)
    odd += [DType("object", f, served=False) for f in ("mixture", "date", "decimal")]
    odd += [DType("object", f, served=False) for f in ("list", "struct", "null")]
    odd += [DType("sparse", "float", served=False, plain="float64")]
    odd += [DType("float16[pyarrow]", "float", served=False, plain="float16")]
    odd += _odd_arrow("{}[pyarrow]")
    odd += _categories("dictionary<{}>[pyarrow]", ["string", "integer"], served=False)
    return own * 2 + nullable * 2 + arrow + texts * 4 + categories + objects + odd


def _odd_arrow(pattern):
    families = {"date32": "date", "date64": "date", "timestamp": "datetime"}
    families |= {"duration": "duration", "time32": "time", "time64": "time"}
    families |= {"decimal128": "decimal", "decimal256": "decimal", "binary": "binary"}
    families |= {"null": "null", "list": "list", "struct": "struct"}
    families |= {"timestamp[tz]": "datetime", "string_view": "string"}
    return [DType(pattern.format(n), f, served=False) for n, f in families.items()]


def _polars_dtypes():
    numbers = _numbers(skip=("float16",))
    common = [*_plain("bool", family="boolean"), *_plain("string")]
    categories = _categories("categorical<{}>", ["string"])
    categories = [t for t in categories if not t.is_ordered]
    enum = [DType("enum", "string", is_category=True, is_ordered=True)]
    odd = _plain("date", "datetime", "duration", "time", "decimal", served=False)
    odd += _plain("binary", "list", "struct", "null", served=False)
    odd += [DType("int128", "integer", served=False, plain="int64")]
    odd += [DType("object", "mixture", served=False)]
    return (numbers + (common + categories + enum) * 4) * 2 + odd


def _arrow_dtypes():
    numbers = _numbers(skip=("float16",))
    common = _plain("bool", family="boolean")
    common += _plain("string", "large_string", family="string")
    dictionaries = _categories("dictionary<{}>", LEVEL_FAMILIES)
    odd = _odd_arrow("{}")
    odd += [DType("float16", "float", served=False, plain="float16")]
    odd += _categories("dictionary<{}>", ["decimal", "duration"], served=False)
    return (numbers + common * 3 + dictionaries) * 2 + odd


DTYPES = {
    "numpy": _numpy_dtypes(),
    "list": _list_dtypes(),
    "pandas": _pandas_dtypes(),
    "polars": _polars_dtypes(),
    "pyarrow": _arrow_dtypes(),
}


# -- drawing ---------------------------------------------------------------------------


def draw_column(rng, label, dtype, n_rows):
    """Return a column of a dtype with values of some kind."""
    if dtype.is_category:
        return _draw_category(rng, label, dtype, n_rows)
    kind, values = _draw_family(rng, dtype.family, n_rows, *dtype.ends)
    if dtype.holds_missing:
        missing = draw_missing(rng, n_rows)
        values = [None if m else v for v, m in zip(values, missing, strict=True)]
    markers = [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")]
    marker = markers[rng.integers(2) if rng.random() < 0.9 else rng.integers(5)]
    return Column(label, dtype, tuple(values), (), kind, marker)


def _draw_family(rng, family, n, *ends):
    if family == "interval":
        return family, [pd.Interval(k, k + 1) for k in rng.integers(0, 3, n).tolist()]
    if family == "period":
        return family, [pd.Period(f"{2000 + k}", "Y") for k in rng.integers(0, 3, n)]
    return draw_values(rng, family, n, *ends)


def _draw_category(rng, label, dtype, n_rows):
    n_drawn = int(rng.choice([1, 3, 12, max(1, n_rows)]))
    kind, pool = _draw_family(rng, dtype.family, n_drawn)
    pool = [v for v in pool if v == v and v not in (np.inf, -np.inf)] or [0.5]
    levels = list(dict.fromkeys(pool))
    if dtype.name == "enum" and rng.random() < 0.3:
        levels.append("never seen")
    if dtype.family == "float":  # -0.0 and 0.0 are one level
        levels = [float(v) for v in dict.fromkeys(v + 0.0 for v in levels)]
    used = levels if rng.random() < 0.7 else levels[: max(1, len(levels) - 1)]
    if len(used) < len(levels):
        kind += ", a level without rows"
    codes = rng.integers(0, len(used), n_rows)
    missing = draw_missing(rng, n_rows)
    values = [None if m else used[c] for c, m in zip(codes, missing, strict=True)]
    return Column(label, dtype, tuple(values), tuple(levels), kind)


# -- building --------------------------------------------------------------------------


def numpy_column(column):
    """Return an array of one column."""
    name, values = column.dtype.name, column.values
    if name in ("object", "python"):
        return object_array([column.marker if v is None else v for v in values])
    if name in ("datetime", "duration"):
        return np.array(values, "M8[us]" if name == "datetime" else "m8[us]")
    if column.dtype.family == "float":
        with np.errstate(over="ignore"):
            return np.array([np.nan if v is None else v for v in values], dtype=name)
    return np.array(values, dtype={"complex": "c16"}.get(name, name))


def object_array(values):
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):  # a list in a cell must stay one
        array[row] = value
    return array


def pandas_column(column):
    """Return an extension array or an array for a pandas data frame."""
    dtype, values = column.dtype, column.values
    name = dtype.name
    if dtype.is_category and not name.startswith("dictionary"):
        places = {level: code for code, level in enumerate(column.levels)}
        codes = [-1 if value is None else places[value] for value in values]
        index = pd.Index(column.levels)
        return pd.Categorical.from_codes(codes, index, ordered=dtype.is_ordered)
    if "[pyarrow" in name and name != "string[pyarrow]":
        return pd.arrays.ArrowExtensionArray(pa.chunked_array([arrow_column(column)]))
    if (name[0] in "IUF" and name != "U") or name == "boolean":
        return _masked(dtype, values)
    if name == "sparse":
        return pd.arrays.SparseArray(numpy_column(replace(column, dtype=FLOAT)))
    if name in ("datetime", "datetime[s]", "datetime[tz]", "duration"):
        units = {"datetime": "datetime64[ns]", "datetime[s]": "datetime64[s]"}
        units |= {"datetime[tz]": "datetime64[ns, UTC]", "duration": "timedelta64[ns]"}
        return pd.array(list(values), dtype=units[name])
    if name == "interval":
        return pd.arrays.IntervalArray(list(values) or [pd.Interval(0, 1)][:0])
    if name == "period":
        return pd.array(list(values), dtype="period[Y-DEC]")
    if name == "str" and pd.__version__ < "3":
        name = "string[python]"
    if dtype.family == "string" and name != "object":
        return pd.array(list(values), dtype=name)
    return numpy_column(column)


FLOAT = DType("float64", "float", plain="float64")


def _masked(dtype, values):
    mask = np.array([value is None for value in values], dtype=bool)
    filled = [False if value is None else value for value in values]
    data = np.array(filled, dtype=dtype.plain or bool)
    if dtype.family == "boolean":
        return pd.arrays.BooleanArray(data, mask)
    is_float = dtype.family == "float"
    kind = pd.arrays.FloatingArray if is_float else pd.arrays.IntegerArray
    return kind(data, mask)


ARROW_LEVELS = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "duration": pa.duration("us"),
    "decimal": pa.decimal128(12, 2),
}
ARROW_TYPES = {
    **{name: getattr(pa, name)() for name in NUMBERS},
    "bool": pa.bool_(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "timestamp": pa.timestamp("ns"),
    "timestamp[tz]": pa.timestamp("us", tz="UTC"),
    "duration": pa.duration("us"),
    "time32": pa.time32("s"),
    "time64": pa.time64("us"),
    "decimal128": pa.decimal128(12, 2),
    "decimal256": pa.decimal256(40, 2),
    "null": pa.null(),
    "list": pa.list_(pa.int64()),
    "struct": pa.struct([("k", pa.int64())]),
}


def arrow_column(column):
    """Return an Arrow array."""
    dtype, values = column.dtype, list(column.values)
    if dtype.is_category:
        places = {level: code for code, level in enumerate(column.levels)}
        codes = [None if value is None else places[value] for value in values]
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int16()),
            pa.array(list(column.levels), ARROW_LEVELS[dtype.family]),
            ordered=dtype.is_ordered,
        )
    type_ = ARROW_TYPES[dtype.name.split("[pyarrow")[0]]
    if dtype.family == "float":
        with np.errstate(over="ignore"):
            cells = [
                None if v is None else np.dtype(dtype.plain).type(v) for v in values
            ]
        return pa.array(cells, type_)
    return pa.array(values, type_)


POLARS_TYPES = {
    "bool": pl.Boolean,
    "string": pl.String,
    "categorical<string>": pl.Categorical,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
    "duration": pl.Duration("us"),
    "time": pl.Time,
    "decimal": pl.Decimal(12, 2),
    "binary": pl.Binary,
    "list": pl.List(pl.Int64),
    "struct": pl.Struct({"k": pl.Int64}),
    "null": pl.Null,
    "object": pl.Object,
    **{
        name: getattr(
            pl, name.replace("int", "Int").replace("u", "U").replace("f", "F")
        )
        for name in [*NUMBERS, "int128"]
        if name != "float16"
    },
}


def polars_column(column):
    """Return a polars series; its name is the label as text."""
    name = column.dtype.name
    type_ = pl.Enum(list(column.levels)) if name == "enum" else POLARS_TYPES[name]
    values = list(column.values)
    return pl.Series(str(column.label), values, dtype=type_, strict=name != "float32")
