"""Labels and outputs: y of classifiers and regressors, in containers of every kind."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from fuzz.columns import (
    Column,
    DType,
    arrow_column,
    draw_column,
    numpy_column,
    pandas_column,
    polars_column,
)
from fuzz.tables import Hostile, pick

LABELS = [
    *(DType("object", family) for family in ("integer", "string", "boolean", "float")),
    DType("int64", "integer", holds_missing=False),
    DType("U", "string", holds_missing=False),
    DType("bool", "boolean", holds_missing=False),
    DType("float64", "float"),
]


def draw_labels(rng, n_rows):
    """Return a column of labels of up to four classes, some missing, or odd ones."""
    dtype = pick(rng, LABELS)
    if rng.random() < 0.12:
        return draw_column(rng, "y", dtype, n_rows)
    pools = {
        "integer": [0, 1, 2, 3],
        "string": ["a", "b", "nan", ""],
        "boolean": [False, True],
        "float": [0.0, 1.0, 3.0, 1e9],
    }
    pool = pools[dtype.family][: int(rng.integers(1, 5))]
    values = [pool[k] for k in rng.integers(0, len(pool), n_rows)]
    if rng.random() < 0.5:
        gaps = rng.random(n_rows) < 0.4
        mark = -1 if dtype.family == "integer" else None
        if mark is not None or dtype.holds_missing:
            values = [mark if g else v for v, g in zip(values, gaps, strict=True)]
    marker = None if rng.random() < 0.5 else float("nan")
    return Column("y", dtype, tuple(values), (), "labels", marker)


def oddities_of_labels(y):
    known = [v for v in y.values if v is not None and v != -1]
    if not known:
        return ["no label"]
    if y.kind != "labels":
        return ["odd labels"]
    return []


CONTAINERS = ["array", "list", "series", "polars", "arrow"]


def build_y(y, container):
    """Return labels or outputs in a container."""
    if y is None:
        return None
    if isinstance(y, Hostile):
        table = y.build()
        if container == "series" and len(y.columns) == 1:
            return _first_column(table)
        return table
    if container == "list":
        return numpy_column(y).tolist()
    if container == "series":
        return pd.Series(pandas_column(y))
    if container in ("polars", "arrow") and y.dtype.family != "float":
        names = {"integer": "int64", "string": "string", "boolean": "bool"}
        plain = replace(y, dtype=replace(y.dtype, name=names[y.dtype.family], plain=""))
        return polars_column(plain) if container == "polars" else arrow_column(plain)
    return numpy_column(y)


def _first_column(table):
    if isinstance(table, pd.DataFrame):
        return table.iloc[:, 0]
    if isinstance(table, pl.DataFrame):
        return table[:, 0]
    if isinstance(table, pa.Table):
        return table.column(0)
    return table[:, 0] if isinstance(table, np.ndarray) else [row[0] for row in table]
