"""TableEncoder: kinds, heads, maps, and the round trip of every container."""

import warnings

import narwhals.stable.v2 as nw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opening_encoder import TableEncoder
from scipy import sparse
from scipy.stats import norm

from skvae._tables.numpy_table import ArrayTable
from skvae._tables.repeated_values import relative_spreads
from skvae._tables.transforms import Affine, PiecewiseLinear, fit_affine, fit_quantile

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pl_testing = pytest.importorskip("polars.testing")
pa = pytest.importorskip("pyarrow")
skops_io = pytest.importorskip("skops.io")

N_ROWS = 12
LEVELS = ["low", "mid", "high"]
FRAMES = ["pandas", "pandas-nullable", "pandas-arrow", "polars", "pyarrow"]
CONTAINERS = ["numpy", "numpy-object", *FRAMES]


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
        pl_testing.assert_frame_equal(left, right, rel_tol=1e-5)
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


def heads(encoder):
    return {column.name: column.likelihood for column in encoder.columns_}


def transforms(encoder):
    return [column.transform for column in encoder.columns_]


# ---- containers -------------------------------------------------------------


@pytest.mark.parametrize("container", FRAMES)
def test_round_trip_of_a_mixed_frame(container):
    frame = mixed_frame(container)
    encoder = TableEncoder().fit(frame)
    assert kinds(encoder) == {
        "mass": "numeric",
        "flag": "boolean",
        "island": "categorical",
        "size": "ordinal",
        "count": "count",
        "whole": "numeric",
    }
    assert heads(encoder) == {
        "mass": "student_t_heteroscedastic",
        "flag": "bernoulli",
        "island": "categorical",
        "size": "ordinal",
        "count": "poisson",
        "whole": "student_t_heteroscedastic",
    }
    values, observed = encoder.encode(frame)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.shape == observed.shape == (N_ROWS, 6)
    assert observed.dtype == bool
    assert np.argwhere(~observed).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert (values[~observed] == 0).all()
    assert_tables_equal(round_trip(encoder, frame), frame)
    assert encoder.feature_names_in_.tolist() == list(mixed_columns())
    assert encoder.n_features_in_ == 6


@pytest.mark.parametrize("container", FRAMES[1:])
def test_containers_give_equal_values(container):
    reference = TableEncoder().fit(mixed_frame("pandas"))
    expected_values, expected_observed = reference.encode(mixed_frame("pandas"))
    frame = mixed_frame(container)
    values, observed = TableEncoder().fit(frame).encode(frame)
    np.testing.assert_allclose(values, expected_values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(observed, expected_observed)
    # A model fitted on one library reads the tables of another.
    values, observed = reference.encode(frame)
    np.testing.assert_allclose(values, expected_values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(observed, expected_observed)


def test_round_trip_of_an_object_array():
    columns = mixed_columns()
    array = np.array(list(columns.values()), dtype=object).T
    encoder = TableEncoder(categorical_features=[2, 3]).fit(array)
    assert list(kinds(encoder).values()) == [
        "numeric",
        "boolean",
        "categorical",
        "categorical",
        "count",
        "numeric",
    ]
    result = round_trip(encoder, array)
    assert result.dtype == object
    array[0, 0] = np.nan  # the missing value of a numeric column
    for row, decoded in zip(array, result, strict=True):
        assert decoded[0] == pytest.approx(row[0], rel=1e-6, nan_ok=True)
        assert decoded[1:].tolist() == row[1:].tolist()
        assert [type(v) for v in decoded] == [type(v) for v in row]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8"])
def test_round_trip_of_an_array(dtype):
    array = np.random.default_rng(0).uniform(1, 200, (50, 4)).astype(dtype)
    encoder = TableEncoder(numeric_transform="standard").fit(array)
    values, observed = encoder.encode(array)
    assert observed is None
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-2)
    result = encoder.decode(values)
    assert result.dtype == array.dtype
    np.testing.assert_allclose(result, array, rtol=1e-3 if dtype == "float16" else 1e-5)
    assert not hasattr(encoder, "feature_names_in_")
    assert [column.name for column in encoder.columns_] == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("numeric_transform", ["standard", "quantile", "none"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "Int64", "Float32"])
def test_drawn_values_of_a_column_that_repeats_them(dtype, numeric_transform):
    """The nearest value of the table, bit for bit."""
    values = [-7, 0, 3, 12, 100] if "nt" in dtype else [-0.7, 0.1, 0.35, 1.2, 9.9]
    rng = np.random.default_rng(0)
    column = pd.Series(rng.choice(values, 80), dtype=dtype)
    frame = pd.DataFrame({"a": column, "b": rng.normal(size=80)})
    encoder = TableEncoder(numeric_transform=numeric_transform).fit(frame)
    assert encoder.columns_[0].support is not None
    encoded, _ = encoder.encode(frame)
    noisy = encoded + rng.normal(scale=0.3, size=encoded.shape).astype(np.float32)
    noisy[0], noisy[1] = 50, -50  # far outside
    drawn, plain = encoder.decode(noisy, drawn=True), encoder.decode(noisy)
    assert drawn.dtypes.tolist() == frame.dtypes.tolist()
    support = np.unique(frame["a"].to_numpy(dtype=np.float64))
    exact = encoder.columns_[0].map.inverse(noisy[:, 0].astype(np.float64))
    nearest = support[np.abs(exact[:, None] - support).argmin(axis=1)]
    np.testing.assert_array_equal(drawn["a"].to_numpy(dtype=np.float64), nearest)
    # means and columns without repeats are left alone
    assert not plain["a"].equals(drawn["a"])
    pd.testing.assert_series_equal(plain["b"], drawn["b"])
    # missing cells stay missing where the dtype has them
    noisy[3] = np.nan
    if dtype != "int16":
        assert encoder.decode(noisy, drawn=True)["a"].isna().tolist() == (
            np.isnan(noisy[:, 0]).tolist()
        )


def test_which_columns_repeat_their_values():
    array = np.random.default_rng(0).normal(size=(4_000, 6))
    array[:, 1] = np.arange(4_000) // 2  # too many
    array[:, 2] = np.arange(4_000) // 4
    array[:, 3] = 5  # a constant has no other value
    array[:, 4] = np.where(np.arange(4_000) < 3_990, np.nan, np.arange(4_000) % 6)
    array[:, 5] = np.where(np.arange(4_000) < 3_990, np.nan, np.arange(4_000) % 5)
    columns = TableEncoder().fit(array).columns_
    supports = [column.support for column in columns]
    assert [support is not None for support in supports] == [
        False,
        False,
        True,
        False,
        False,  # six values in ten cells
        True,
    ]
    np.testing.assert_array_equal(supports[2], np.arange(1_000))
    np.testing.assert_array_equal(supports[5], np.arange(5))


def test_round_trip_of_a_boolean_array_and_of_a_string_array():
    flags = np.array([[True, False], [False, False], [True, True]])
    encoder = TableEncoder().fit(flags)
    assert set(kinds(encoder).values()) == {"boolean"}
    np.testing.assert_array_equal(round_trip(encoder, flags), flags)
    text = np.array([["a", "x"], ["bb", "y"], ["a", "z"]])
    encoder = TableEncoder(categorical_features=[0, 1]).fit(text)
    result = round_trip(encoder, text)
    assert result.dtype == text.dtype
    np.testing.assert_array_equal(result, text)


def test_lists_are_arrays():
    encoder = TableEncoder().fit([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_array_equal(encoder.encode([[1.0, 5.0]])[0], [[-1, 1]])


def test_pandas_labels_that_are_not_strings():
    frame = pd.DataFrame({3: [1.0, 2.0, 4.0], 7: ["a", "b", "a"]})
    encoder = TableEncoder(likelihood={0: "student_t"}).fit(frame)
    assert heads(encoder) == {"3": "student_t", "7": "categorical"}
    assert_tables_equal(round_trip(encoder, frame), frame)


def test_pandas_result_has_a_plain_index():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=["p", "q"])
    result = round_trip(TableEncoder().fit(frame), frame)
    assert result.index.equals(pd.RangeIndex(2))


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(pd.cut(np.array([1.0, 2.0, np.nan, 9.0]), [0, 1.5, 5, 10])),
        pd.Series(pd.Categorical([3, 1, None, 3], categories=[5, 3, 1])),
        pd.Series(pd.Categorical([2.5, 1.0, None, 2.5])),
        pd.Series(
            pd.Categorical(pd.to_datetime(["2020-01-01", "2021-05-05", None, None]))
        ),
        pd.Series(["a", None, "b", "a"], dtype=pd.StringDtype("python")),
        pd.Series(["a", None, "b", "a"], dtype="str"),
        pd.Series(["a", None, "b", "a"], dtype=pd.ArrowDtype(pa.large_string())),
        pd.Series(
            ["a", None, "b", "a"],
            dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())),
        ),
        pd.Series([1, None, 3, 2], dtype="Int16"),
        pd.Series([1.5, None, 3, 2], dtype="double[pyarrow]"),
        pd.Series([None] * 4, dtype=pd.ArrowDtype(pa.null())),
        pd.Series([True, False, True, True], dtype="bool"),
        pd.Series([None, None, None, None], dtype="object"),
    ],
    ids=lambda series: str(series.dtype),
)
def test_pandas_dtypes_survive(series):
    frame = pd.DataFrame({"a": series})
    encoder = TableEncoder().fit(frame)
    assert_tables_equal(round_trip(encoder, frame), frame)
    restored = skops_round_trip(encoder)
    assert_tables_equal(round_trip(restored, frame), frame)


@pytest.mark.parametrize(
    "series",
    [
        pl.Series(["b", None, "a", "b"], dtype=pl.Enum(["b", "unused", "a"])),
        pl.Series(["b", None, "a", "b"], dtype=pl.Categorical),
        pl.Series(
            ["b", None, "a", "b"], dtype=pl.Categorical(pl.Categories("letters"))
        ),
        pl.Series(["b", None, "a", "b"], dtype=pl.String),
        pl.Series([1, None, 3, 2], dtype=pl.UInt16),
        pl.Series([1.0, None, 3, 2], dtype=pl.Float32),
        pl.Series([True, None, False, True]),
        pl.Series([None, None, None, None], dtype=pl.Null),
        pl.Series([None, None, None, None], dtype=pl.Float64),
    ],
    ids=lambda series: str(series.dtype)[:12],
)
def test_polars_dtypes_survive(series):
    frame = series.alias("a").to_frame()
    encoder = TableEncoder().fit(frame)
    assert_tables_equal(round_trip(encoder, frame), frame)
    restored = skops_round_trip(encoder)
    assert_tables_equal(round_trip(restored, frame), frame)


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["b", None, "a", "b"], pa.string()),
        pa.array(["b", None, "a", "b"], pa.large_string()),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(
            pa.array([1, None, 0, 1], pa.int16()), [30, 10, 20], ordered=True
        ),
        pa.array([1, None, 3, 2], pa.uint16()),
        pa.array([1.5, None, 3, 2], pa.float32()),
        pa.array([1.5, None, 3, 2], pa.float16()),
        pa.array([True, None, False, True]),
        pa.nulls(4),
        pa.nulls(4, pa.float64()),
        pa.nulls(4, pa.string()),
    ],
    ids=lambda array: str(array.type)[:30],
)
def test_arrow_types_survive(array):
    table = pa.table({"a": pa.chunked_array([array[:2], array[2:]])})
    encoder = TableEncoder().fit(table)
    assert_tables_equal(round_trip(encoder, table), table)
    restored = skops_round_trip(encoder)
    assert_tables_equal(round_trip(restored, table), table)


def test_nan_inside_polars_and_arrow_floats_is_missing():
    values = [1.0, float("nan"), None, 4.0]
    for table in (pl.DataFrame({"a": values}), pa.table({"a": values})):
        _, observed = TableEncoder().fit(table).encode(table)
        assert observed[:, 0].tolist() == [True, False, False, True]


def test_order_of_categories():
    # Unordered categories are sorted, so that every library gives the same codes.
    frame = pd.DataFrame({"a": pd.Categorical(["x", "z", "x"], ["z", "y", "x"])})
    column = TableEncoder().fit(frame).columns_[0]
    assert column.categories == ["x", "y", "z"]
    assert column.n_categories == 3
    ordered = frame.astype(pd.CategoricalDtype(["z", "y", "x"], ordered=True))
    column = TableEncoder().fit(ordered).columns_[0]
    assert column.kind == "ordinal"
    assert column.categories == ["z", "y", "x"]
    assert TableEncoder().fit(ordered).encode(ordered)[0].tolist() == [[2], [0], [2]]


@pytest.mark.parametrize("container", CONTAINERS)
def test_input_is_not_changed(container):
    if container == "numpy":
        table = np.array([[1.0, np.nan], [2.0, 3.0], [5.0, 4.0]])
        before = table.copy()
    elif container == "numpy-object":
        table = np.array([[1.0, None], [2, np.nan], [5.0, 4.0]], dtype=object)
        before = table.copy()
    else:
        table, before = mixed_frame(container), mixed_frame(container)
    encoder = TableEncoder().fit(table)
    values, _ = encoder.encode(table)
    kept = values.copy()
    encoder.decode(values)
    encoder.log_jacobian(values)
    np.testing.assert_array_equal(values, kept)
    assert_tables_equal(table, before)


def test_narwhals_frames_are_unwrapped_and_lazy_ones_refused():
    frame = mixed_frame("polars")
    encoder = TableEncoder().fit(nw.from_native(frame))
    assert_tables_equal(round_trip(encoder, nw.from_native(frame)), frame)
    with pytest.raises(TypeError, match=r"LazyFrame. Call its collect method"):
        TableEncoder().fit(frame.lazy())


# ---- declared categories ----------------------------------------------------


@pytest.mark.parametrize("declared", [["b"], [1], [False, True], [-1]])
def test_declared_by_name_index_and_mask(declared):
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": [10, 30, 10]})
    encoder = TableEncoder(categorical_features=declared).fit(frame)
    assert kinds(encoder) == {"a": "numeric", "b": "categorical"}
    assert encoder.columns_[1].categories == [10, 30]
    assert_tables_equal(round_trip(encoder, frame), frame)


def test_declared_columns_of_objects():
    frame = pd.DataFrame(
        {"s": ["u", None, "v"], "n": [1, 2, None], "b": [True, None, False]},
        dtype=object,
    )
    encoder = TableEncoder(categorical_features=["s", "n", "b"]).fit(frame)
    assert encoder.columns_[2].categories == [False, True]
    assert_tables_equal(round_trip(encoder, frame), frame)


def test_declared_column_of_a_polars_object_dtype():
    frame = pl.DataFrame({"a": pl.Series(["x", None, "y"], dtype=pl.Object)})
    encoder = TableEncoder(categorical_features=[0]).fit(frame)
    assert round_trip(encoder, frame)["a"].to_list() == ["x", None, "y"]


def test_declared_ordered_dtype_is_categorical():
    frame = mixed_frame("polars").select("size")
    encoder = TableEncoder(categorical_features=["size"]).fit(frame)
    assert kinds(encoder) == {"size": "categorical"}


# ---- unknown categories, constant and empty columns -------------------------


def test_unknown_categories_are_missing_with_one_warning():
    train = pd.DataFrame({"a": ["x", "y", "x"], "b": ["p", "q", "p"], "c": [1.0, 2, 3]})
    new = pd.DataFrame(
        {"a": ["x", "new", None], "b": list("stu"), "c": [1.0, 2.0, 3.0]}
    )
    encoder = TableEncoder().fit(train)
    with pytest.warns(UserWarning) as record:
        values, observed = encoder.encode(new)
    assert len(record) == 1
    assert str(record[0].message) == (
        "Categories that were not seen in training are treated as missing: "
        "column 'a': 'new'; column 'b': 's', 't', 'u'"
    )
    assert observed.tolist() == [
        [True, False, True],
        [False, False, True],
        [False, False, True],
    ]
    assert values[1, 0] == 0


def test_the_warning_shows_five_values():
    encoder = TableEncoder().fit(pl.DataFrame({"a": ["x", "y"]}))
    with pytest.warns(UserWarning, match=r"column 'a': ('\w', ){5}\.\.\.$"):
        encoder.encode(pl.DataFrame({"a": list("abcdefg")}))


def test_declared_but_absent_categories_do_not_warn():
    encoder = TableEncoder().fit(pd.DataFrame({"a": ["x", "y"]}))
    new = pd.DataFrame({"a": pd.Categorical(["x", "y"], ["x", "y", "z"])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.encode(new)[1] is None


@pytest.mark.parametrize("transform", ["auto", "standard", "quantile", "none"])
def test_constant_columns(transform):
    frame = pd.DataFrame(
        {"f": [0.1, 0.1, np.nan], "i": [10**17 + 1] * 3, "s": ["a", "a", "a"]}
    )
    encoder = TableEncoder(numeric_transform=transform).fit(frame)
    values, _ = encoder.encode(frame)
    if transform != "none":
        assert (values == 0).all()
    assert_tables_equal(round_trip(encoder, frame), frame)
    other = encoder.decode(np.full((2, 3), 0.7))
    assert other["f"].tolist() == [0.1, 0.1]
    assert other["i"].tolist() == [10**17 + 1] * 2
    assert np.isfinite(encoder.log_jacobian(values)).all()


def test_empty_columns():
    frame = pd.DataFrame(
        {
            "f": np.full(3, np.nan, dtype=np.float32),
            "I": pd.array([None] * 3, dtype="Int8"),
            "B": pd.array([None] * 3, dtype="boolean"),
            "s": pd.array([None] * 3, dtype="str"),
            "c": pd.Categorical([None] * 3, ["u", "v"]),
            "x": [1.0, 2.0, 3.0],
        }
    )
    encoder = TableEncoder().fit(frame)
    values, observed = encoder.encode(frame)
    assert not observed[:, :5].any()
    assert observed[:, 5].all()
    assert (values[:, :5] == 0).all()
    assert [column.is_empty for column in encoder.columns_] == [True] * 5 + [False]
    assert [column.n_categories for column in encoder.columns_] == [0, 0, 0, 1, 2, 0]
    assert_tables_equal(encoder.decode(values), frame)
    # What was never seen in training stays missing.
    later = frame.assign(f=np.float32(1), s="t", c=pd.Categorical(["u"] * 3))
    assert not encoder.encode(later)[1][:, :5].any()


def test_empty_column_of_an_array():
    array = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    encoder = TableEncoder().fit(array)
    values, observed = encoder.encode(array)
    assert observed.tolist() == [[False, True]] * 2
    np.testing.assert_allclose(encoder.decode(values), array)


# ---- heads ------------------------------------------------------------------


def test_counts_by_data():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "poisson": rng.poisson(4, 500),
            "overdispersed": rng.negative_binomial(1, 0.02, 500),
            "two_values": rng.integers(0, 2, 500) * 3,
            "negative": rng.poisson(4, 500) - 1 - 4,
            "floats": rng.poisson(4, 500).astype(float),
        }
    )
    encoder = TableEncoder().fit(frame)
    assert kinds(encoder) == {
        "poisson": "count",
        "overdispersed": "numeric",
        "two_values": "numeric",
        "negative": "numeric",
        "floats": "numeric",
    }
    values, _ = encoder.encode(frame)
    np.testing.assert_array_equal(values[:, 0], frame["poisson"])
    decoded = encoder.decode(np.full((1, 5), -3.4))
    assert decoded["poisson"][0] == 0
    assert (encoder.log_jacobian(values)[:, 0] == 0).all()


def test_one_head_for_every_numeric_column():
    frame = mixed_frame("pandas").drop(columns="count")
    encoder = TableEncoder(likelihood="normal_isotropic").fit(frame)
    assert heads(encoder) == {
        "mass": "normal_isotropic",
        "flag": "bernoulli",
        "island": "categorical",
        "size": "ordinal",
        "whole": "normal_isotropic",
    }


def test_heads_by_column():
    frame = pd.DataFrame(
        {
            "grey": [0.0, 0.25, np.nan, 1.0],
            "yes": pd.Categorical(["n", "y", "n", None]),
            "n": [0.0, 3.0, np.nan, 2.0],
            "grade": [3, 1, 2, 3],
            "flag": [True, False, True, True],
            "free": [0.1, 0.5, 2.0, 4.0],
        }
    )
    likelihood = {
        "grey": "bernoulli",
        "yes": "bernoulli",
        "n": "poisson",
        "grade": "ordinal",
        4: "categorical",
    }
    encoder = TableEncoder(likelihood=likelihood).fit(frame)
    assert kinds(encoder) == {
        "grey": "numeric",
        "yes": "boolean",
        "n": "count",
        "grade": "ordinal",
        "flag": "categorical",
        "free": "numeric",
    }
    assert transforms(encoder) == ["none"] * 5 + ["standard"]
    values, _ = encoder.encode(frame)
    np.testing.assert_array_equal(values[:, 0], [0, 0.25, 0, 1])
    np.testing.assert_array_equal(values[:, 1], [0, 1, 0, 0])
    np.testing.assert_array_equal(values[:, 2], [0, 3, 0, 2])
    np.testing.assert_array_equal(values[:, 3], [2, 0, 1, 2])
    np.testing.assert_array_equal(values[:, 4], [1, 0, 1, 1])
    assert_tables_equal(round_trip(encoder, frame), frame)


@pytest.mark.parametrize(
    ("values", "head", "reason"),
    [
        ([0.5, 1.5], "bernoulli", r"outside \[0, 1\]"),
        ([0.5, 1.0], "poisson", "non-negative whole"),
        ([-1, 1], "poisson", "non-negative whole"),
        ([0.5, 1.0], "categorical", "not whole numbers"),
        ([0.5, 1.0], "ordinal", "not whole numbers"),
        (["a", "b"], "normal", "not numeric"),
        (["a", "b"], "poisson", "not numeric"),
        (["a", "a"], "bernoulli", "1 categories, not 2"),
        ([True, False], "student_t", "boolean"),
    ],
)
def test_heads_that_do_not_fit(values, head, reason):
    frame = pd.DataFrame({"col": values})
    with pytest.raises(
        ValueError, match=f"'col' cannot have the likelihood '{head}'.*{reason}"
    ):
        TableEncoder(likelihood={"col": head}).fit(frame)


@pytest.mark.parametrize(
    ("head", "train", "new", "message"),
    [
        ("poisson", [1, 2, 3], [1.0, -1.0], "'a' has the likelihood 'poisson'.*-1"),
        ("poisson", [1, 2, 3], [1.0, 0.5], "'a' has the likelihood 'poisson'.*0.5"),
        ("bernoulli", [0.0, 1.0], [2.0, 1.0], "'a' has the likelihood 'bernoulli'.*2"),
        ("bernoulli", [True, False], [2, 1], "the likelihood 'bernoulli'.*0 or 1"),
        ("bernoulli", [0.0, 1.0], [np.inf, 1.0], "infinity"),
    ],
)
def test_new_values_outside_the_head(head, train, new, message):
    encoder = TableEncoder(likelihood=head).fit(pd.DataFrame({"a": train}))
    with pytest.raises(ValueError, match=message):
        encoder.encode(pd.DataFrame({"a": new}))


def test_what_is_no_count_is_missing_where_nobody_asked_for_counts():
    train = pd.DataFrame({"a": pd.array([0, 3, 1, 2, 2, 1, 0, 4, 1, 2], dtype="Int64")})
    encoder = TableEncoder().fit(train)
    assert encoder.columns_[0].kind == "count"
    new = pd.DataFrame({"a": [2.0, 2.5, -1.0, np.nan]})
    with pytest.warns(UserWarning, match=r"no count has.*missing.*'a': -1.0, 2.5"):
        values, observed = encoder.encode(new)
    assert observed[:, 0].tolist() == [True, False, False, False]
    assert values[:, 0].tolist() == [2, 0, 0, 0]
    assert new["a"].tolist()[:3] == [2.0, 2.5, -1.0]


# ---- numeric maps -----------------------------------------------------------


def test_transform_by_data():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=2000)
    array = np.column_stack(
        [
            normal,
            np.exp(2 * normal),
            np.where(normal > 0, normal + 5, normal - 5),
            np.round(np.exp(2 * normal)),  # ties
        ]
    )
    encoder = TableEncoder().fit(array)
    assert transforms(encoder) == ["standard", "quantile", "quantile", "standard"]
    few = TableEncoder().fit(array[:99])
    assert set(transforms(few)) == {"standard"}
    array[::2, 1] = np.nan
    assert transforms(TableEncoder().fit(array))[1] == "quantile"


def test_transforms_by_column():
    array = np.random.default_rng(0).lognormal(size=(600, 3))
    by_column = {0: "none", "x1": "standard"}
    encoder = TableEncoder(numeric_transform=by_column).fit(array)
    assert transforms(encoder) == ["none", "standard", "quantile"]
    values, _ = encoder.encode(array)
    np.testing.assert_allclose(values[:, 0], array[:, 0], rtol=1e-6)


def test_standard_map_uses_the_weights():
    array = np.random.default_rng(0).normal(3, 2, (40, 2))
    array[0, 0] = np.nan
    weights = np.random.default_rng(1).integers(0, 4, 40)
    encoder = TableEncoder(numeric_transform="standard")
    weighted = encoder.fit(array, sample_weight=weights).columns_
    repeated = encoder.fit(np.repeat(array, weights, axis=0)).columns_
    for left, right in zip(weighted, repeated, strict=True):
        assert left.map.mean == pytest.approx(right.map.mean)
        assert left.map.scale == pytest.approx(right.map.scale)


finite = st.floats(-1e6, 1e6, allow_nan=False)


@settings(deadline=None, max_examples=60)
@given(st.lists(finite, min_size=2, max_size=60), st.lists(finite, min_size=1))
def test_quantile_map_has_an_inverse_and_a_slope(train, points):
    train = np.array(train)
    map_ = fit_quantile(train)
    if isinstance(map_, Affine):
        assert len(np.unique(train)) < 2 or np.ptp(train) < 1e-6
        return
    assert (np.diff(map_.knots) > 0).all()
    assert (np.diff(map_.scores) > 0).all()
    # Around a steep segment the inverse loses the digits that the slope eats.
    encoded = np.clip(map_.forward(np.array(points)), -20, 20)
    again = map_.forward(map_.inverse(encoded))
    steepest = np.exp(map_.log_slope(encoded))
    size = np.abs(map_.inverse(encoded)) + np.abs(map_.knots).max() + 1
    assert (np.abs(again - encoded) <= 1e-9 + 1e-14 * size * steepest.max()).all()
    # Both ends of a short step inside one segment.
    middle = (map_.scores[1:] + map_.scores[:-1]) / 2
    step = np.diff(map_.scores) / 8
    rise = map_.inverse(middle + step) - map_.inverse(middle - step)
    expected = 2 * step / np.exp(map_.log_slope(middle))
    np.testing.assert_allclose(rise, expected, rtol=1e-6, atol=1e-9 * size.max())


def test_log_jacobian_against_finite_differences():
    rng = np.random.default_rng(0)
    array = np.column_stack([rng.normal(10, 3, 800), rng.lognormal(0, 1, 800)])
    encoder = TableEncoder().fit(array)
    assert transforms(encoder) == ["standard", "quantile"]
    probe = np.array([[-6.0, -6.0], [-0.4, -0.41], [0.3, 0.33], [5.0, 5.0]])
    step = 1e-6
    rise = encoder.decode(probe + step) - encoder.decode(probe - step)
    expected = -np.log(rise / (2 * step))
    log_slopes = encoder.log_jacobian(probe)
    assert log_slopes.dtype == np.float64
    np.testing.assert_allclose(log_slopes, expected, atol=1e-4)


def test_density_of_the_original_values_integrates_to_one():
    array = np.random.default_rng(0).lognormal(0, 1, (600, 1))
    encoder = TableEncoder(numeric_transform="quantile").fit(array)
    grid = np.linspace(-20, 60, 400_001)[:, None]
    values, _ = encoder.encode(grid)
    density = np.exp(norm.logpdf(values) + encoder.log_jacobian(values))
    assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-3)


def test_quantile_map_extends_beyond_the_training_range():
    map_ = fit_quantile(np.random.default_rng(0).exponential(size=1000))
    assert isinstance(map_, PiecewiseLinear)
    outside = np.array([-1.0, 50.0])
    np.testing.assert_allclose(map_.inverse(map_.forward(outside)), outside)
    assert map_.scores[0] == pytest.approx(norm.ppf(0.5 / 1000))


def test_mean_and_scale_are_computed_in_float64():
    values = (1e6 + np.random.default_rng(0).normal(size=200_000)).astype(np.float32)
    map_ = fit_affine(values)
    assert map_.mean == pytest.approx(values.astype(np.float64).mean(), rel=1e-12)
    assert map_.scale == pytest.approx(values.astype(np.float64).std(), rel=1e-6)
    assert fit_affine(np.array([1e300, -1e300])).scale == pytest.approx(1e300)
    assert fit_affine(np.full(10, 0.1)).scale == 1


def test_integers_are_rounded_and_kept_in_range():
    array = np.array([[0, -128], [200, 5], [255, 127]])
    frame = pd.DataFrame({"u": array[:, 0].astype("u1"), "i": array[:, 1].astype("i1")})
    encoder = TableEncoder(likelihood="normal").fit(frame)
    low, high = encoder.decode(np.array([[-50.0, -50], [50, 50]])).to_numpy().tolist()
    assert low == [0, -128]
    assert high == [255, 127]
    wide = TableEncoder(likelihood="normal").fit(np.array([[0], [2**62]]))
    assert wide.decode([[1e9]])[0, 0] > 2**62


def test_blocks_of_rows_join_up():
    array = np.random.default_rng(0).normal(size=(9001, 3))
    array[8999, 1] = np.nan
    values, observed = TableEncoder().fit(array).encode(array)
    expected = (array - np.nanmean(array, axis=0)) / np.nanstd(array, axis=0)
    np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(observed, ~np.isnan(array))


def test_many_columns_of_a_frame_join_up():
    array = np.random.default_rng(0).normal(size=(50, 40))
    frame = pd.DataFrame(array).rename(columns=str)
    frame.insert(20, "c", ["a", "b"] * 25)
    values, observed = TableEncoder().fit(frame).encode(frame)
    assert observed is None
    expected, _ = TableEncoder().fit(array).encode(array)
    np.testing.assert_allclose(np.delete(values, 20, axis=1), expected, rtol=1e-6)


# ---- bad input --------------------------------------------------------------


def frame_of(container, columns):
    build = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    return build[container](columns)


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
class TestBadFrames:
    def test_infinity(self, container):
        frame = frame_of(container, {"a": [1.0, 2.0], "b": [1.0, float("inf")]})
        good = frame_of(container, {"a": [1.0, 2.0], "b": [1.0, 3.0]})
        with pytest.raises(ValueError, match=r"infinity.*'b'"):
            TableEncoder().fit(frame)
        with pytest.raises(ValueError, match=r"infinity.*'b'"):
            TableEncoder().fit(good).encode(frame)

    def test_rows(self, container):
        frame = frame_of(container, {"a": [1.0, 2.0]})
        with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 2"):
            TableEncoder().fit(frame[:0])
        with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2"):
            TableEncoder().fit(frame[:1])
        encoder = TableEncoder().fit(frame)
        with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1"):
            encoder.encode(frame[:0])
        assert encoder.encode(frame[:1])[0].shape == (1, 1)

    def test_columns(self, container):
        encoder = TableEncoder().fit(frame_of(container, {"a": [1, 2], "b": [3, 5]}))
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- z"):
            encoder.encode(frame_of(container, {"a": [1], "z": [3]}))
        with pytest.raises(ValueError, match=r"now missing:\n- b"):
            encoder.encode(frame_of(container, {"a": [1]}))
        with pytest.raises(ValueError, match=r"same order"):
            encoder.encode(frame_of(container, {"b": [1], "a": [3]}))

    def test_strings_without_a_declaration(self, container):
        frame = frame_of(container, {"a": [1, 2], "b": ["u", "v"]})
        for declared in (None, ["a"]):
            with pytest.raises(ValueError, match=r"Column 'b'.*does not declare it"):
                TableEncoder(categorical_features=declared).fit(frame)

    def test_dates(self, container):
        dates = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[us]")
        frame = frame_of(container, {"a": [1, 2], "b": dates})
        with pytest.raises(ValueError, match=r"Column 'b'.*not supported"):
            TableEncoder().fit(frame)

    def test_strings_where_training_had_numbers(self, container):
        encoder = TableEncoder().fit(frame_of(container, {"a": [1.5, 2, 4]}))
        with pytest.raises(ValueError, match=r"Column 'a' was numeric in training"):
            encoder.encode(frame_of(container, {"a": ["u", "v"]}))


def test_duplicate_names():
    frames = [
        pd.DataFrame([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]], columns=["a", "b", "a"]),
        pa.table([[1.0, 2.0]] * 3, names=["a", "b", "a"]),
    ]
    for frame in frames:
        with pytest.raises(ValueError, match=r"unique, but these repeat: 'a'"):
            TableEncoder().fit(frame)


def test_objects_without_a_declaration():
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Series(["u", "v"], dtype=object)})
    with pytest.raises(ValueError, match=r"Column 'b'.*object.*declare it"):
        TableEncoder().fit(frame)
    with pytest.raises(ValueError, match=r"Column 'x1'.*object.*declare it"):
        TableEncoder().fit(frame.to_numpy(dtype=object))
    with pytest.raises(ValueError, match=r"Column 'x0'.*declare it"):
        TableEncoder().fit(np.array([["a"], ["b"]]))


@pytest.mark.parametrize("values", [["u", 1], [True, 1], [True, "u", None]])
def test_mixed_types_in_a_column(values):
    array = np.array([values, values], dtype=object).T
    with pytest.raises(ValueError, match=r"Column 'x0' mixes"):
        TableEncoder().fit(array)
    with pytest.raises(ValueError, match=r"Column 'x0' mixes"):
        TableEncoder(categorical_features=[0]).fit(array)
    frame = pd.DataFrame(array, columns=["a", "b"])
    with pytest.raises(ValueError, match=r"Column 'a' mixes"):
        TableEncoder(categorical_features=["a"]).fit(frame)


def test_mixed_category_dtype():
    frame = pd.DataFrame({"a": pd.Categorical(["u", 1])})
    with pytest.raises(ValueError, match=r"Column 'a' mixes categories"):
        TableEncoder().fit(frame)


def test_objects_that_are_no_values():
    array = np.array([[1.0, 2.0], [{"foo": "bar"}, 3.0]], dtype=object)
    with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
        TableEncoder().fit(array)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones(3), ValueError, "Reshape your data"),
        (np.ones((3, 0)), ValueError, r"0 feature\(s\)"),
        (np.ones((0, 3)), ValueError, r"0 sample\(s\)"),
        (np.ones((1, 3)), ValueError, r"1 sample\(s\).*minimum of 2"),
        (np.ones((2, 2, 2)), ValueError, "dim 3"),
        (np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
        (sparse.eye(3, format="csr"), TypeError, "[Ss]parse"),
        (np.array([[1.0], [np.inf]]), ValueError, "infinity.*'x0'"),
        (np.array([[1.0], [-np.inf]], dtype=np.float32), ValueError, "infinity.*'x0'"),
        (np.array([[1.0], [np.inf]], dtype=object), ValueError, "infinity.*'x0'"),
    ],
)
def test_bad_arrays(X, error, message):
    with pytest.raises(error, match=message):
        TableEncoder().fit(X)


def test_bad_arrays_at_encode():
    encoder = TableEncoder().fit(np.arange(6.0).reshape(3, 2))
    with pytest.raises(
        ValueError, match=r"X has 1 features, but TableEncoder is expec"
    ):
        encoder.encode(np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"infinity.*'x1'"):
        encoder.encode(np.array([[np.nan, np.inf]]))
    curved = TableEncoder(numeric_transform="quantile").fit(np.arange(200.0)[:, None])
    for value in (np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"infinity.*'x0'"):
            curved.encode(np.array([[1.0], [value]]))
    with pytest.raises(ValueError, match=r"too large.*'x1'"):
        encoder.encode(np.array([[0.0, 1e300]]))
    with pytest.raises(ValueError, match=r"Expected encoded values of shape"):
        encoder.decode(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"likelihood": "gauss"}, "likelihood must be one of auto, normal"),
        ({"likelihood": {"a": "gauss"}}, "likelihood must be one of"),
        ({"likelihood": {"z": "normal"}}, "likelihood names the unknown column 'z'"),
        ({"likelihood": {5: "normal"}}, "likelihood names the column index 5"),
        ({"numeric_transform": "log"}, "numeric_transform must be one of auto"),
        ({"numeric_transform": {"z": "none"}}, "numeric_transform names.*'z'"),
        ({"numeric_transform": {"s": "quantile"}}, "'s'.*that column is categorical"),
        ({"categorical_features": ["z"]}, "categorical_features names.*'z'"),
        ({"categorical_features": [True]}, "mask of 1 values, but.*2 columns"),
        ({"categorical_features": "s"}, "categorical_features must be 'from_dtype'"),
    ],
)
def test_bad_parameters(params, message):
    frame = pd.DataFrame({"a": [1.0, 2.0], "s": ["u", "v"]})
    with pytest.raises(ValueError, match=message):
        TableEncoder(**params).fit(frame)


def test_bad_weights():
    array = np.ones((3, 2))
    for weights in ([1, -1, 1], [1, 1], [0, 0, 0]):
        with pytest.raises(ValueError, match=r"[Ww]eight"):
            TableEncoder().fit(array, sample_weight=weights)


def test_a_failed_fit_changes_nothing():
    encoder = TableEncoder().fit(pd.DataFrame({"a": [1.0, 2.0]})).encoder
    before = vars(encoder).copy()
    with pytest.raises(ValueError, match=r"infinity"):
        encoder.fit(ArrayTable(np.array([[1.0, np.inf], [1.0, 2.0]])))
    assert vars(encoder) == before


# ---- persistence, size ----------------------------------------------------------


def skops_round_trip(encoder):
    """Store the state with skops, which need not trust anything, and restore it."""
    payload = skops_io.dumps(encoder.to_state())
    assert skops_io.get_untrusted_types(data=payload) == []
    return encoder.restored(skops_io.loads(payload))


@pytest.mark.parametrize("container", FRAMES)
def test_skops_round_trip(container):
    frame = mixed_frame(container)
    encoder = TableEncoder().fit(frame)
    restored = skops_round_trip(encoder)
    values, _ = encoder.encode(frame)
    np.testing.assert_array_equal(restored.encode(frame)[0], values)
    assert_tables_equal(restored.decode(values), encoder.decode(values))


def test_skops_round_trip_of_quantile_maps():
    array = np.random.default_rng(0).lognormal(size=(600, 2))
    encoder = TableEncoder().fit(array)
    assert transforms(encoder) == ["quantile"] * 2
    values, _ = encoder.encode(array)
    restored = skops_round_trip(encoder)
    np.testing.assert_array_equal(restored.decode(values), encoder.decode(values))


def test_encode_allocates_little_more_than_its_output():
    import tracemalloc

    array = np.random.default_rng(0).normal(size=(100_000, 10)).astype(np.float32)
    encoder = TableEncoder()
    tracemalloc.start()
    try:
        encoder.fit(array)
        _, peak_of_fit = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        values, _ = encoder.encode(array)
        _, peak_of_encode = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_of_encode < 1.3 * values.nbytes
    # A few float64 columns, not a copy of the table.
    assert peak_of_fit < array.nbytes


# -- units -----------------------------------------------------------------------------


def pixels(n_rows=60, n_columns=40, highest=16):
    """Whole numbers from 0 to ``highest``, reached by every column."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, highest + 1, (n_rows, n_columns)).astype(float)
    X[0], X[1] = 0, highest
    return X


def spreads_of(X, **options):
    return relative_spreads(TableEncoder(**options).fit(X).columns_)


def test_columns_of_one_unit_keep_their_relative_spread():
    X = pixels()
    X[:, 0] = X[:, 0] > 12  # grey at most, and rarely
    X[:, 1] = np.random.default_rng(1).normal(size=len(X))
    spreads = spreads_of(X)
    sharing = np.delete(np.arange(40), 1)
    expected = X[:, sharing].std(0)
    expected /= np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(spreads[sharing], expected)
    assert spreads[0] < 0.2
    assert spreads[1] == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda X: X[:, :31], id="few columns"),
        pytest.param(lambda X: X * np.arange(1, 41), id="ranges of their own"),
        pytest.param(
            lambda X: np.hstack([X[:, :36], X[:, :37] * np.arange(2, 39)]),
            id="few of them",
        ),
        pytest.param(lambda X: X + np.linspace(0, 1, 2400).reshape(X.shape), id="rare"),
    ],
)
def test_other_columns_have_units_of_their_own(change):
    X = change(pixels())
    assert np.array_equal(spreads_of(X), np.ones(X.shape[1]))


def test_maps_that_are_asked_for_leave_no_common_unit():
    assert np.array_equal(spreads_of(pixels(), numeric_transform="none"), np.ones(40))
