"""TableEncoder: the round trip of every container, and what it refuses."""

import narwhals.stable.v2 as nw
import numpy as np
import pytest
from mixed_frames import (
    N_ROWS,
    assert_tables_equal,
    kinds,
    likelihoods,
    mixed_columns,
    mixed_frame,
    round_trip,
    transforms,
)
from opening_encoder import TableEncoder
from scipy import sparse

from skvae._tables.numpy_table import ArrayTable

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
skops_io = pytest.importorskip("skops.io")

# polars has them from version 1.31 on
NAMED_CATEGORIES = [
    pl.Series(["b", None, "a", "b"], dtype=pl.Categorical(pl.Categories("letters")))
    for _ in range(hasattr(pl, "Categories"))
]

FRAMES = ["pandas", "pandas-nullable", "pandas-arrow", "polars", "pyarrow"]

CONTAINERS = ["numpy", "numpy-object", *FRAMES]


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
    assert likelihoods(encoder) == {
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
    assert likelihoods(encoder) == {"3": "student_t", "7": "categorical"}
    assert_tables_equal(round_trip(encoder, frame), frame)


def test_pandas_result_has_a_plain_index():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=["p", "q"])
    result = round_trip(TableEncoder().fit(frame), frame)
    assert result.index.equals(pd.RangeIndex(2))


def assert_survives(table):
    """Check that decoding gives the table back, before and after a round trip."""
    encoder = TableEncoder().fit(table)
    for either in (encoder, skops_round_trip(encoder)):
        assert_tables_equal(round_trip(either, table), table)


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
    assert_survives(frame)


@pytest.mark.parametrize(
    "series",
    [
        pl.Series(["b", None, "a", "b"], dtype=pl.Enum(["b", "unused", "a"])),
        pl.Series(["b", None, "a", "b"], dtype=pl.Categorical),
        *NAMED_CATEGORIES,
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
    assert_survives(frame)


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
        pa.array(np.float16([1.5, 0, 3, 2]), mask=np.arange(4) == 1),
        pa.array([True, None, False, True]),
        pa.nulls(4),
        pa.nulls(4, pa.float64()),
        pa.nulls(4, pa.string()),
    ],
    ids=lambda array: str(array.type)[:30],
)
def test_arrow_types_survive(array):
    table = pa.table({"a": pa.chunked_array([array[:2], array[2:]])})
    assert_survives(table)


def test_nan_inside_polars_and_arrow_floats_is_missing():
    values = [1.0, float("nan"), None, 4.0]
    for table in (pl.DataFrame({"a": values}), pa.table({"a": values})):
        _, observed = TableEncoder().fit(table).encode(table)
        assert observed[:, 0].tolist() == [True, False, False, True]


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
    assert encoder.encode(np.array([[0.0, 1e300]]))[0][0, 1] == np.float32(1e15)
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


def test_names_are_forgotten_when_fitted_on_an_array():
    encoder = TableEncoder().fit(pd.DataFrame({"a": [1.0, 2.0]}))
    encoder.fit(np.ones((2, 3)))
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.n_features_in_ == 3


# ---- an owner, persistence, size ----------------------------------------------


def test_the_owner_is_named_and_gets_the_feature_names():
    class Owner(TableEncoder):
        pass

    owner = Owner().fit(pd.DataFrame({"a": [1.0, 2.0]}))
    assert owner.feature_names_in_.tolist() == ["a"]
    assert owner.n_features_in_ == 1
    with pytest.warns(UserWarning, match=r"Owner was fitted with feature names"):
        owner.encode(np.ones((2, 1)))


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
