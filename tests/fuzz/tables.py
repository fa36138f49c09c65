"""Hostile tables of every library, drawn from a seed, and variants of them."""

from dataclasses import dataclass, replace
from functools import partial

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from fuzz.columns import (
    DTYPES,
    arrow_column,
    draw_column,
    numpy_column,
    object_array,
    pandas_column,
    polars_column,
)

LIBRARIES = ["numpy", "list", "pandas", "polars", "pyarrow"]

#: Numbers of rows and of columns, with their weights.
ROWS = {0: 1, 1: 2, 2: 3, 3: 3, 5: 6, 12: 20, 25: 45, 40: 20}
COLUMNS = {0: 0.3, 1: 8, 2: 20, 3: 30, 4: 20, 6: 15, 9: 5, 40: 0.7}

LABELS = {
    "letters": lambda n: [f"c{k}" for k in range(n)],
    "odd": lambda n: (
        ["", "nan", "x0", "a b", "ä", "'", "missingindicator_x0", "y"] * 9
    )[:n],
    "long": lambda n: ["name " * 50 + str(k) for k in range(n)],
    "duplicates": lambda n: ["a"] * n,
    "integers": lambda n: list(range(n)),
    "reversed integers": lambda n: list(range(n))[::-1],
    "floats": lambda n: [k + 0.5 for k in range(n)],
    "tuples": lambda n: [("a", k) for k in range(n)],
    "levels": lambda n: [("a", k) for k in range(n)],  # a MultiIndex
    "None": lambda n: [None, *(f"c{k}" for k in range(1, n))][:n],
    "mixed": lambda n: [0 if k == 1 else f"c{k}" for k in range(n)],
    "dates": lambda n: [pd.Timestamp(2020, 1, 1 + k % 28) for k in range(n)],
}
OF_LIBRARY = {"pandas": list(LABELS), "polars": ["odd", "long"]}
OF_LIBRARY["pyarrow"] = ["odd", "long", "duplicates"]

INDEXES = {
    "range": lambda n: pd.RangeIndex(n),
    "letters": lambda n: pd.Index([f"r{k}" for k in range(n)]),
    "duplicates": lambda n: pd.Index([0] * n),
    "reversed": lambda n: pd.RangeIndex(n - 1, -1, -1),
    "dates": lambda n: pd.date_range("2024-01-01", periods=n, name="day"),
    "two levels": lambda n: pd.MultiIndex.from_arrays([range(n), ["a"] * n]),
    "missing": lambda n: pd.Index([np.nan] * n),
}
LAYOUTS = {
    "numpy": ["C", "F", "strided", "readonly", "reversed"],
    "list": ["C", "tuples"],
    "pandas": [*INDEXES, "attrs", "narwhals"],
    "polars": ["one chunk", "chunks", "narwhals"],
    "pyarrow": ["one chunk", "chunks", "narwhals"],
}


@dataclass(frozen=True)
class Hostile:
    """A table as Python values, which is built as a table of its library.

    It can be cut to some rows and columns, to make a failure small.
    """

    library: str
    columns: tuple
    n_rows: int
    labels: str = "letters"
    layout: str = ""

    def __len__(self):
        return self.n_rows

    def rows(self, rows):
        columns = tuple(column.take(rows) for column in self.columns)
        return replace(self, columns=columns, n_rows=len(rows))

    def only(self, places):
        return replace(self, columns=tuple(self.columns[k] for k in places))

    def mapped(self, change):
        """Return the table with every column changed by a function."""
        return replace(self, columns=tuple(map(change, self.columns)))

    def build(self):
        return BUILD[self.library](self)

    @property
    def names(self):
        """Labels as skvae's messages print them."""
        if self.library in ("numpy", "list"):
            return [f"x{k}" for k in range(len(self.columns))]
        return [column.label for column in self.columns]

    @property
    def texts(self):
        """Places of columns that must be declared as categories."""
        return [
            place
            for place, column in enumerate(self.columns)
            if column.dtype.family == "string" and column.dtype.name in OPEN_TEXT
        ]

    @property
    def categories(self):
        """Places of all columns that hold categories."""
        places = range(len(self.columns))
        dtypes = [column.dtype for column in self.columns]
        return [
            k for k in places if dtypes[k].is_category or dtypes[k].family == "string"
        ]

    @property
    def oddities(self):
        """Reasons for which the table may be refused; without one it must not be."""
        found = [] if self.columns else ["no column"]
        if self.labels not in ("letters", "odd", "long"):
            found.append(f"labels: {self.labels}")
        for column in self.columns:
            if not column.dtype.served:
                found.append(f"dtype {column.dtype.name} of {column.dtype.family}")
            if column.is_infinite:
                found.append("infinity")
        return found

    def __str__(self):
        lines = [f"{self.library} table of {self.n_rows} rows, layout {self.layout!r}:"]
        return "\n".join(lines + [f"    {column!r}" for column in self.columns])


OPEN_TEXT = ("object", "python", "U")


# -- drawing ---------------------------------------------------------------------------


def choice(rng, weights):
    keys = list(weights)
    p = np.array([weights[key] for key in keys], dtype=float)
    return keys[rng.choice(len(keys), p=p / p.sum())]


def pick(rng, values):
    return values[rng.integers(len(values))]


def draw_table(rng, library=None, n_rows=None, n_columns=None, *, odd=None):
    """Return a table; without ``odd``, of dtypes that must be served."""
    library = library or pick(rng, LIBRARIES)
    n_rows = choice(rng, ROWS) if n_rows is None else n_rows
    n_columns = choice(rng, COLUMNS) if n_columns is None else n_columns
    odd = rng.random() < 0.25 if odd is None else odd
    labels = "letters"
    if odd and rng.random() < 0.4:
        labels = pick(rng, OF_LIBRARY.get(library, ["letters"]))
    dtypes = _draw_dtypes(rng, library, n_columns, odd)
    columns = [
        draw_column(rng, label, dtype, n_rows)
        for label, dtype in zip(LABELS[labels](n_columns), dtypes, strict=False)
    ]
    if not odd:
        columns = [_finite(column) for column in columns]
    columns = _related(rng, columns)
    layout = pick(rng, LAYOUTS[library]) if rng.random() < 0.4 else ""
    return Hostile(library, tuple(columns), n_rows, labels, layout)


def _draw_dtypes(rng, library, n_columns, odd):
    known = [t for t in DTYPES[library] if odd or t.served]
    if library in ("numpy", "list"):  # one dtype for all columns, but for objects
        name = pick(rng, known)
        known = [t for t in known if t.name == name.name]
        if library == "list" or name.name != "object":
            known = [name]
    return [pick(rng, known) for _ in range(n_columns)]


def _finite(column):
    if not column.is_infinite:
        return column
    values = [0.0 if v in (np.inf, -np.inf) else v for v in column.values]
    return replace(column, values=tuple(values))


def _related(rng, columns):
    """Sometimes repeat the values of the first column in the last ones."""
    if len(columns) > 1 and rng.random() < 0.1:
        first = columns[0]
        columns[-1] = replace(first, label=columns[-1].label)
    return columns


# -- variants: rows that a fitted model may be given -----------------------------------


def _with_gaps(column, rng):
    if not column.dtype.holds_missing:
        return column
    gaps = rng.random(len(column.values)) < 0.5
    cells = zip(column.values, gaps, strict=True)
    return replace(column, values=tuple(None if gap else v for v, gap in cells))


def _all_missing(column):
    if not column.dtype.holds_missing:
        return column
    return replace(column, values=(None,) * len(column.values))


def _shuffled(column, rng):
    return column.take(rng.permutation(len(column.values)))


def _unseen(column):
    """Give the first row a category that was not there."""
    is_text = column.dtype.family == "string" and column.dtype.name != "enum"
    if not is_text or not column.values:
        return column
    levels = (*column.levels, "unseen") if column.levels else ()
    return replace(column, values=("unseen", *column.values[1:]), levels=levels)


def _extreme(column, rng):
    """Put an end of the dtype into a column of numbers."""
    if column.dtype.is_category or not column.dtype.plain or not column.values:
        return column
    value = pick(rng, [*column.dtype.ends, 0])
    value = float(value) if column.dtype.family == "float" else value
    return replace(column, values=(value, *column.values[1:]))


def variants(rng):
    """Functions of a table, by name; each gives rows that must be served."""
    return {
        "same": lambda table: table,
        "first row": lambda table: table.rows([0]),
        "reversed": lambda table: table.rows(range(len(table))[::-1]),
        "repeated": lambda table: table.rows([0] * 3),
        "gaps": lambda table: table.mapped(partial(_with_gaps, rng=rng)),
        "all missing": lambda table: table.mapped(_all_missing),
        "shuffled columns": lambda table: table.mapped(partial(_shuffled, rng=rng)),
        "unseen": lambda table: table.mapped(_unseen),
        "extreme": lambda table: table.mapped(partial(_extreme, rng=rng)),
    }


def wrong_tables(table):
    """Objects that are no rows of a table, by name: each must be refused."""
    X = table.build()
    extra = [replace(column, label="extra") for column in table.columns[:1]]
    return {
        "no row": table.rows([]).build(),
        "one column less": table.only(range(1, len(table.columns))).build(),
        "one column more": replace(table, columns=(*table.columns, *extra)).build(),
        "None": None,
        "text": "X",
        "number": 3,
        "function": len,
        "one-dimensional": np.zeros(len(table)),
        "three-dimensional": np.zeros((2, 2, 2)),
        "dict": {"a": [1, 2]},
        "set": {1, 2},
        "ragged": [[1, 2], [3]],
        "itself in a list": [X],
    }


# -- building --------------------------------------------------------------------------


def _numpy(table):
    arrays = [numpy_column(column) for column in table.columns]
    if not arrays:
        return np.empty((table.n_rows, 0))
    X = np.column_stack(arrays) if arrays[0].dtype != object else _objects(arrays)
    if table.layout == "F":
        return np.asfortranarray(X)
    if table.layout == "strided":
        return np.repeat(X, 2, axis=0)[::2]
    if table.layout == "reversed":
        return X[::-1].copy()[::-1]
    X.setflags(write=table.layout != "readonly")
    return X


def _objects(arrays):
    X = np.empty((len(arrays[0]), len(arrays)), dtype=object)
    for place, array in enumerate(arrays):
        X[:, place] = array
    return X


def _list(table):
    columns = [numpy_column(column).tolist() for column in table.columns]
    make = tuple if table.layout == "tuples" else list
    return make(make(row) for row in zip(*columns, strict=True))


def _pandas(table):
    index = INDEXES.get(table.layout, INDEXES["range"])(table.n_rows)
    arrays = {k: pandas_column(column) for k, column in enumerate(table.columns)}
    frame = pd.DataFrame(arrays, index=index, copy=False)
    labels = [column.label for column in table.columns]
    if table.labels == "levels" and labels:
        frame.columns = pd.MultiIndex.from_tuples(labels)
    elif table.labels == "letters":
        frame.columns = pd.Index(
            labels, name="names" if table.layout == "attrs" else None
        )
    else:
        frame.columns = pd.Index(object_array(labels), tupleize_cols=False)
    if table.layout == "attrs":
        frame.attrs["source"] = {"year": 2024}
    return wrapped(table, frame)


def wrapped(table, frame):
    """Return a frame in the wrapper of narwhals, where that accepts its names."""
    is_asked = table.layout == "narwhals" and table.labels in ("letters", "odd", "long")
    return nw.from_native(frame) if is_asked else frame


def _polars(table):
    columns = {str(column.label): polars_column(column) for column in table.columns}
    frame = pl.DataFrame(columns)
    middle = table.n_rows // 2
    if table.layout == "chunks" and columns:
        frame = pl.concat([frame[:middle], frame[middle:]], rechunk=False)
    return wrapped(table, frame)


def _pyarrow(table):
    names = [str(column.label) for column in table.columns]
    middle, end = table.n_rows // 2, table.n_rows
    parts = [range(end)]
    if table.layout == "chunks":  # each with a dictionary of its own
        parts = [range(middle), range(middle), range(middle, end)]
        parts[1] = range(0)
    arrays = []
    for column in table.columns:
        pieces = [arrow_column(column.take(rows)) for rows in parts]
        arrays.append(pa.chunked_array(pieces))
    frame = pa.Table.from_arrays(arrays, names=names)
    return wrapped(table, frame)


BUILD = {
    "numpy": _numpy,
    "list": _list,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
}
