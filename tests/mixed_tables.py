"""One mixed table with missing cells, in the container of any library."""

import numpy as np
import pytest

CONTAINERS = ("pandas", "polars", "pyarrow")
LEVELS = ["low", "mid", "high"]


def make_mixed_table(container="pandas", n_rows=60):
    rng = np.random.default_rng(1)
    size = rng.integers(3, size=n_rows)
    columns = {
        "mass": (rng.normal(40, 5, n_rows) + 10 * size).round(2).tolist(),
        "island": rng.choice(["Biscoe", "Dream", "Torgersen"], n_rows).tolist(),
        "size": [LEVELS[code] for code in size],
        "flag": (rng.random(n_rows) < 0.2 + 0.3 * size).tolist(),
    }
    for place, values in enumerate(columns.values()):
        for row in range(place, n_rows, 9):
            values[row] = None
    columns["visits"] = rng.poisson(2 + size).tolist()
    build = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}
    return build[container](columns)


def _pandas(columns):
    pd = pytest.importorskip("pandas")
    flag = pd.array(columns["flag"], dtype="boolean")
    size = pd.Categorical(columns["size"], LEVELS, ordered=True)
    table = pd.DataFrame(columns | {"flag": flag, "size": size})
    return table.astype({"mass": "float32", "island": "category", "visits": "uint8"})


def _polars(columns):
    pl = pytest.importorskip("polars")
    schema = {
        "mass": pl.Float32,
        "island": pl.Categorical,
        "size": pl.Enum(LEVELS),
        "visits": pl.UInt8,
    }
    return pl.DataFrame(columns, schema_overrides=schema)


def _pyarrow(columns):
    pa = pytest.importorskip("pyarrow")
    codes = [None if v is None else LEVELS.index(v) for v in columns["size"]]
    size = pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int8()), LEVELS, ordered=True
    )
    island = pa.array(columns["island"]).dictionary_encode()
    mass = pa.array(columns["mass"], pa.float32())
    visits = pa.array(columns["visits"], pa.uint8())
    return pa.table(
        columns | {"mass": mass, "island": island, "size": size, "visits": visits}
    )
