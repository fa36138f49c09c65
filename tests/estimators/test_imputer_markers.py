"""VAEImputer: markers of missing cells, in the type of their column."""

import numpy as np
import pytest
from imputed_cells import imputer

from skvae._tables.libraries import library_of
from skvae._tables.missing import missing_mask, replace_marker

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

FLOATS = {
    "numpy": lambda values: np.array(values, np.float32)[:, None],
    "numpy-half": lambda values: np.array(values, np.float16)[:, None],
    "numpy-object": lambda values: np.array([*map(np.float32, values)], object)[
        :, None
    ],
    "pandas": lambda values: pd.DataFrame({"a": np.array(values, np.float32)}),
    "pandas-Float32": lambda values: pd.DataFrame(
        {"a": pd.array(values, dtype="Float32")}
    ),
    "pandas-arrow": lambda values: pd.DataFrame(
        {"a": pd.array(values, dtype="float[pyarrow]")}
    ),
    "pandas-half": lambda values: pd.DataFrame(
        {"a": pd.array(np.array(values, np.float16))}
    ),
    "pandas-object": lambda values: pd.DataFrame(
        {"a": pd.Series([*map(np.float32, values)], dtype=object)}
    ),
    "pandas-category": lambda values: pd.DataFrame(
        {"a": pd.Categorical(np.array(values, np.float32))}
    ),
    "polars": lambda values: pl.DataFrame({"a": values}, schema={"a": pl.Float32}),
    "polars-object": lambda values: pl.DataFrame(
        {"a": pl.Series([*map(np.float32, values)], dtype=pl.Object)}
    ),
    "pyarrow": lambda values: pa.table({"a": pa.array(values, pa.float32())}),
    "pyarrow-half": lambda values: pa.table(
        {"a": pa.array(np.array(values, np.float16))}
    ),
    "pyarrow-dictionary": lambda values: pa.table(
        {"a": pa.array(values, pa.float32()).dictionary_encode()}
    ),
}


@pytest.mark.parametrize("container", FLOATS)
@pytest.mark.parametrize("marker", [-999.9, np.float64(-999.9), np.float32(-999.9)])
def test_a_number_is_found_in_short_floats(container, marker):
    X = FLOATS[container]([1.5, -999.9, 2.5, -999.9])
    found = missing_mask(replace_marker(X, marker))
    assert found[:, 0].tolist() == [False, True, False, True]
    assert not missing_mask(X).any()


TYPES = ["int8", "uint8", "int64", "uint64", "float32", "float64"]


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("marker", [7, 7.0, np.int8(7), 263, -249, 7.5, 1e300, np.inf])
def test_numbers_are_compared_in_the_type_of_the_column(library, type_, marker):
    values = np.array([1, 7, 3], dtype=type_)
    build = {
        "numpy": lambda v: v[:, None],
        "pandas": lambda v: pd.DataFrame({"a": v}),
        "polars": lambda v: pl.DataFrame({"a": v}),
        "pyarrow": lambda v: pa.table({"a": v}),
    }[library]
    found = missing_mask(replace_marker(build(values), marker))[:, 0]
    assert found.tolist() == [False, marker == 7, False]


@pytest.mark.parametrize("marker", [2**53 + 1, -(2**63), 2**63 - 1])
def test_large_integers_are_exact(marker):
    values = np.array([2**53 + 1, -(2**63), 2**63 - 1, 2**53])
    expected = [value == marker for value in values.tolist()]
    for X in (
        values[:, None],
        values.astype(object)[:, None],
        pd.DataFrame({"a": values}),
        pd.DataFrame({"a": pd.array(values, dtype="Int64")}),
        pl.DataFrame({"a": values}),
        pa.table({"a": values}),
    ):
        replaced = replace_marker(X, marker)
        assert missing_mask(replaced)[:, 0].tolist() == expected
        kept, _ = library_of(replaced).read(replaced).observed(0)
        assert kept.tolist() == [v for v in values.tolist() if v != marker]


FLAGS = [True, False, True, False]


@pytest.mark.parametrize(
    "X",
    [
        np.array(FLAGS)[:, None],
        np.array(FLAGS, dtype=object)[:, None],
        pd.DataFrame({"a": FLAGS}),
        pd.DataFrame({"a": pd.array(FLAGS, dtype="boolean")}),
        pd.DataFrame({"a": pd.array(FLAGS, dtype="bool[pyarrow]")}),
        pd.DataFrame({"a": pd.Series(FLAGS, dtype=object)}),
        pd.DataFrame({"a": pd.Categorical(FLAGS)}),
        pl.DataFrame({"a": FLAGS}),
        pa.table({"a": FLAGS}),
        pa.table({"a": pa.array(FLAGS).dictionary_encode()}),
    ],
    ids=lambda X: f"{type(X).__module__}-{str(getattr(X, 'dtypes', ''))[:20]}",
)
def test_a_boolean_marks_booleans(X):
    assert missing_mask(replace_marker(X, True))[:, 0].tolist() == FLAGS
    assert missing_mask(replace_marker(X, np.True_))[:, 0].tolist() == FLAGS
    for number in (1, 0, 1.0, "True"):
        assert not missing_mask(replace_marker(X, number)).any()
    numbers = np.ones((3, 1))
    assert not missing_mask(replace_marker(numbers, True)).any()
    assert not missing_mask(replace_marker(numbers.astype(object), True)).any()


def test_a_boolean_marker_in_a_fit():
    flags = np.array([True, False] * 20)
    X = pd.DataFrame({"flag": flags, "x": np.arange(40.0)})
    filled = imputer(missing_values=True).fit_transform(X)
    assert filled["flag"].tolist() == [False] * 40
    assert filled["flag"].dtype == bool
    array = np.column_stack([flags, flags[::-1]])
    filled = imputer(missing_values=True).fit_transform(array)
    assert filled.dtype == bool and not filled.any()


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_text_markers_in_text_of_every_kind(library):
    words = ["?", "a", "b", "?"]
    if library == "pandas":
        types = ["str", "string", "category", object, pd.ArrowDtype(pa.string())]
        types += [pd.ArrowDtype(pa.string_view()), pd.ArrowDtype(pa.large_string())]
        frames = [pd.DataFrame({"a": pd.Series(words, dtype=t)}) for t in types]
    elif library == "polars":
        types = [pl.String, pl.Categorical, pl.Enum(["b", "?", "a"]), pl.Object]
        frames = [pl.DataFrame({"a": pl.Series(words, dtype=t)}) for t in types]
    else:
        plain = [pa.string(), pa.large_string(), pa.string_view()]
        arrays = [pa.array(words, t) for t in plain]
        arrays += [array.dictionary_encode() for array in arrays]
        arrays += [pa.chunked_array([a[:1], a[1:]]) for a in arrays]
        frames = [pa.table({"a": array}) for array in arrays]
    for frame in frames:
        found = replace_marker(frame, "?")
        assert missing_mask(found)[:, 0].tolist() == [True, False, False, True]
        assert not missing_mask(replace_marker(frame, 1)).any()
        assert not missing_mask(replace_marker(frame, "")).any()


@pytest.mark.parametrize(
    "marker",
    [
        [-1, -9],
        (-1,),
        {"a": -1},
        {-1},
        np.array([-1]),
        pd.Timestamp("2020-01-01"),
        pd.NaT,
        np.datetime64("2020-01-01"),
        1j,
        b"?",
        object(),
        max,
    ],
    ids=lambda marker: type(marker).__name__,
)
def test_what_is_no_marker_is_refused(holes, marker):
    with pytest.raises(TypeError, match=r"missing_values must be one number, string"):
        imputer(missing_values=marker).fit(holes)


@pytest.mark.parametrize("marker", [-7, 3.5, "?", True, None, np.nan, pd.NA, np.inf])
def test_every_marker_fits(holes, marker):
    model = imputer(missing_values=marker)
    np.testing.assert_array_equal(
        model.fit(holes).transform(holes), imputer().fit_transform(holes)
    )


def test_integers_beyond_floats_beside_a_marker():
    X = np.array([[2**60 + k, k] for k in range(40)])
    X[::5, 1] = -1
    filled = imputer(missing_values=-1).fit_transform(X)
    assert filled.dtype == X.dtype
    np.testing.assert_array_equal(filled[X != -1], X[X != -1])
