"""The same mixed table in every container."""

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pl_testing = pytest.importorskip("polars.testing")
pa = pytest.importorskip("pyarrow")

N_ROWS = 12

LEVELS = ["low", "mid", "high"]


def mixed_columns():
    """Plain lists with a missing cell in every column but the last two."""
    rng = np.random.default_rng(0)
    columns = {
        "mass": np.round(rng.normal(4000, 800, N_ROWS), 1).tolist(),
        "flag": [True, False, True, True] * 3,
        "island": ["Dream", "Biscoe", "Torgersen", "Dream"] * 3,
        "size": ["low", "high", "mid", "low"] * 3,
    }
    for row, values in enumerate(columns.values()):
        values[row] = None
    columns["count"] = rng.poisson(3, N_ROWS).tolist()
    columns["whole"] = [-5, 7, 7, 100, 3, 8, -9, 0, 1, 2, 50, -20]
    return columns


def mixed_frame(container):
    columns = mixed_columns()
    if container == "pandas":
        columns["mass"] = np.array(columns["mass"], dtype=np.float32)
        columns["flag"] = pd.array(columns["flag"], dtype="boolean")
        columns["size"] = pd.Categorical(columns["size"], LEVELS, ordered=True)
        return pd.DataFrame(columns).astype({"count": "uint8", "island": "category"})
    if container == "pandas-nullable":
        frame = pd.DataFrame(columns).convert_dtypes()
        levels = pd.CategoricalDtype(LEVELS, ordered=True)
        return frame.astype({"size": levels, "mass": "Float32"})
    if container == "pandas-arrow":
        frame = pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")
        return frame.astype({"size": pd.CategoricalDtype(LEVELS, ordered=True)})
    if container == "polars":
        schema = {"size": pl.Enum(LEVELS), "island": pl.Categorical, "count": pl.UInt8}
        return pl.DataFrame(columns, schema_overrides=schema)
    position = {level: code for code, level in enumerate(LEVELS)}
    size = pa.DictionaryArray.from_arrays(
        pa.array([position.get(value) for value in columns["size"]], pa.int8()),
        LEVELS,
        ordered=True,
    )
    island = pa.array(columns["island"]).dictionary_encode()
    table = pa.table(columns | {"island": island, "size": size})
    return table.set_column(4, "count", table["count"].cast(pa.uint16()))


def assert_tables_equal(left, right):
    assert type(left) is type(right)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, rtol=1e-5)
    elif isinstance(left, pl.DataFrame):
        pl_testing.assert_frame_equal(left, right)
    elif isinstance(left, pa.Table):
        assert left.schema.equals(right.schema)
        pd.testing.assert_frame_equal(left.to_pandas(), right.to_pandas(), rtol=1e-5)
    else:
        assert left.dtype == right.dtype
        pd.testing.assert_frame_equal(
            pd.DataFrame(left), pd.DataFrame(right), rtol=1e-5
        )


def round_trip(encoder, table):
    """Decode encoded values, with NaN where a cell was missing."""
    values, observed = encoder.encode(table)
    if observed is not None:
        values = np.where(observed, values, np.nan)
    return encoder.decode(values)


def kinds(encoder):
    return {column.name: column.kind for column in encoder.columns_}


def likelihoods(encoder):
    return {column.name: column.likelihood for column in encoder.columns_}


def transforms(encoder):
    return [column.transform for column in encoder.columns_]
