"""Filling tables: only the missing cells change, whatever the library and dtype."""

import numpy as np
import pytest

from skvae._tables.libraries import TableSchema, library_of
from skvae._tables.missing import fill_missing, missing_mask, replace_marker
from skvae._tables.schema import DecodedColumn
from skvae._tables.values import EMPTY_TEXT

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")


def fill(X, completed, *, mask=None, empty=None, keep=None, flagged=()):
    mask = missing_mask(X) if mask is None else mask
    kept = list(range(mask.shape[1])) if keep is None else keep
    decoded = columns_of(completed)
    return fill_missing(X, *decoded, mask, kept, empty or {}, list(flagged))


def columns_of(completed):
    """Schema and decoded columns of a completed table."""
    table = library_of(completed).read(completed)
    indices = range(table.n_columns)
    types, columns = [table.column_type(index) for index in indices], []
    for index, type_ in enumerate(types):
        categories = None
        if type_.family in ("string", "category", "object"):
            values, categories = table.factorize(index)
        else:
            values = table.numbers(index)
        missing = np.zeros(len(values), dtype=bool)
        columns.append(DecodedColumn(values, missing, categories))
    return TableSchema(table.library, table.labels, types), columns


# -- which cells are missing ---------------------------------------------------------


def test_missing_cells_of_every_kind():
    expected = [[0, 1, 0], [0, 0, 1]]
    X = np.array([[1, np.nan, 3], [4, 5, np.nan]])
    assert missing_mask(X).tolist() == expected
    assert missing_mask(X.tolist()).tolist() == expected
    objects = np.array([["a", None, True], [4, 0, pd.NA]], dtype=object)
    assert missing_mask(objects).tolist() == expected
    assert not missing_mask(np.ones((2, 3), int)).any()
    assert not missing_mask(np.array([["a", "nan"]])).any()
    for table, n_columns in ((pandas_table(), 10), (polars_table(), 7)):
        # the second row, but for a column of integers in pandas
        found = missing_mask(table)
        assert found.sum(axis=1).tolist() == [0, n_columns - (n_columns == 10), 0]
    assert missing_mask(arrow_table()).sum(axis=1).tolist() == [0, 6, 0]


def test_nan_in_a_nullable_column():
    column = pd.array([1.0, 0.0, None], dtype="Float64") / pd.array([1.0, 0.0, 1.0])
    assert missing_mask(pd.DataFrame({"a": column}))[:, 0].tolist() == [0, 1, 1]
    arrow = pd.array([1.0, None, 2.0], dtype=pd.ArrowDtype(pa.float64()))
    assert missing_mask(pd.DataFrame({"a": arrow}))[:, 0].tolist() == [0, 1, 0]


# -- arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_arrays_keep_their_dtype_and_their_bits(dtype):
    X = np.array([[0.1, np.nan], [np.nan, 1 / 3]], dtype)
    before = X.copy()
    filled = fill(X, np.array([[9.0, 5], [7, 9]], np.float32))
    assert filled.dtype == dtype
    np.testing.assert_array_equal(filled, np.array([[0.1, 5], [7, 1 / 3]], dtype))
    np.testing.assert_array_equal(X, before)


def test_arrays_of_objects():
    X = np.array([["a", 1, None], [None, np.nan, True]], dtype=object)
    completed = np.array([["z", 9.0, False], ["b", 2.5, False]], dtype=object)
    filled = fill(X, completed, flagged=[0, 2])
    assert filled.tolist() == [["a", 1, False, False, True], ["b", 2.5, True, True, 0]]


def test_text_is_not_cut_off():
    X = np.array([["a", "?"], ["?", "b"]])
    mask = X == "?"
    completed = np.array([["a", "longer"], ["c", "b"]], dtype=object)
    filled = fill(X, completed, mask=mask)
    assert filled.tolist() == [["a", "longer"], ["c", "b"]]
    assert filled.dtype.kind == "U"
    flagged = fill(X, completed, mask=mask, keep=[0], flagged=[1])
    assert flagged.tolist() == [["a", True], ["c", False]]


def test_integers_are_rounded():
    X = np.array([[1, -1], [-1, 2]])
    completed = np.array([[0, 3.6], [2.4, 0]])
    filled = fill(X, completed, mask=X == -1)
    assert filled.dtype == X.dtype
    assert filled.tolist() == [[1, 4], [2, 2]]


def test_lists():
    X, completed = [[np.nan, 1.0], [2.0, np.nan]], np.full((2, 2), 7.0)
    filled = fill(X, completed, mask=np.eye(2, dtype=bool))
    assert isinstance(filled, np.ndarray)
    assert filled.tolist() == [[7, 1], [2, 7]]


# -- pandas --------------------------------------------------------------------------


def pandas_table():
    index = pd.Index([7, 7, 3], name="id")
    size = pd.CategoricalDtype(["low", "mid", "high"], ordered=True)
    return pd.DataFrame(
        {
            "float": pd.array([0.1, np.nan, 0.3], dtype="float64"),
            "float32": pd.array([0.1, np.nan, 0.3], dtype="float32"),
            "Float64": pd.array([0.1, None, 0.3], dtype="Float64"),
            "Int64": pd.array([2**60 + 1, None, 3], dtype="Int64"),
            "uint8": pd.array([1, 2, 3], dtype="uint8"),
            "string": pd.array(["a", None, "b"], dtype="string"),
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "size": pd.Categorical(["low", None, "high"], dtype=size),
            "arrow": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int16())),
            "object": np.array(["x", None, "y"], dtype=object),
        },
        index=index,
    )


FILLED = [1.5, 1.5, 1.5, 5, 2, "c", True, "mid", 7, "z"]


def test_pandas_dtypes():
    X = pandas_table()
    before = X.copy(deep=True)
    completed = X.copy()
    for place, value in enumerate(FILLED):
        completed.isetitem(place, [value] * 3)
    completed["size"] = completed["size"].astype(X["size"].dtype)
    filled = fill(X, completed.reset_index(drop=True))
    pd.testing.assert_frame_equal(X, before)
    pd.testing.assert_series_equal(filled.dtypes, X.dtypes)
    pd.testing.assert_index_equal(filled.index, X.index)
    pd.testing.assert_frame_equal(filled.iloc[[0, 2]], X.iloc[[0, 2]])
    assert filled.iloc[1].tolist() == FILLED
    assert filled["Int64"].iloc[0] == 2**60 + 1


def test_pandas_categories_of_training_come_in():
    X = pd.DataFrame({"size": pd.Categorical(["b", None], ["b"], ordered=True)})
    order = pd.CategoricalDtype(["c", "b", "a"], ordered=True)
    completed = pd.DataFrame({"size": pd.Categorical(["b", "a"], dtype=order)})
    filled = fill(X, completed)["size"]
    assert filled.tolist() == ["b", "a"]
    assert filled.dtype == order
    # and beside those that training does not know
    X = pd.DataFrame({"size": pd.Categorical(["q", None], ["q"])})
    assert fill(X, completed)["size"].cat.categories.tolist() == ["q", "a"]


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("value", ["text", 1.5, True])
def test_pandas_row_without_a_dtype(nothing, value):
    X = pd.DataFrame({"a": [nothing], "b": [1.0]})
    completed = pd.DataFrame({"a": [value], "b": [0.0]})
    filled = fill(X, completed)
    assert filled["a"].tolist() == [value]
    assert filled["b"].tolist() == [1.0]


def test_pandas_labels_and_indicators():
    X = pd.DataFrame([[np.nan, 1.0, 2.0]], columns=[5, 4, 3])
    filled = fill(X, np.zeros((1, 3)), keep=[0, 2], flagged=[0, 1])
    names = ["missingindicator_5", "missingindicator_4"]
    assert filled.columns.tolist() == [5, 3, *names]
    assert filled.iloc[0].tolist() == [0, 2, True, False]
    assert filled.dtypes.tolist()[2:] == [bool, bool]


# -- polars --------------------------------------------------------------------------


def polars_table():
    return pl.DataFrame(
        {
            "float": [0.1, None, 0.3],
            "nan": [0.1, float("nan"), 0.3],
            "int": [2**60 + 1, None, 3],
            "string": ["a", None, "b"],
            "boolean": [True, None, False],
            "island": ["B", None, "D"],
            "size": ["low", None, "high"],
        },
        schema_overrides={
            "float": pl.Float32,
            "island": pl.Categorical,
            "size": pl.Enum(["low", "mid", "high"]),
        },
    )


def test_polars_dtypes():
    X = polars_table()
    values = [1.5, 1.5, 5, "c", True, "T", "mid"]
    completed = pl.DataFrame(
        [
            pl.Series(name, [value] * 3).cast(dtype)
            for (name, dtype), value in zip(X.schema.items(), values, strict=True)
        ]
    )
    filled = fill(X, completed)
    assert filled.schema == X.schema
    assert filled.row(1) == tuple(values)
    assert filled[[0, 2]].rows() == X[[0, 2]].rows()
    assert X["float"].null_count() == 1


def test_polars_enum_that_lacks_a_value():
    X = pl.DataFrame({"size": pl.Series(["b", None], dtype=pl.Enum(["b"]))})
    known = pl.Enum(["c", "b", "a"])
    completed = pl.DataFrame({"size": pl.Series(["b", "a"], dtype=known)})
    filled = fill(X, completed)["size"]
    assert filled.to_list() == ["b", "a"]
    assert filled.dtype == known


def test_polars_nulls_and_indicators():
    X = pl.DataFrame({"a": [None], "b": [None]})
    completed = pl.DataFrame({"a": ["x"], "b": pl.Series([2], dtype=pl.Int8)})
    filled = fill(X, completed, flagged=[1])
    assert filled.schema == {
        "a": pl.String,
        "b": pl.Int8,
        "missingindicator_b": pl.Boolean,
    }
    assert filled.row(0) == ("x", 2, True)


# -- pyarrow -------------------------------------------------------------------------


def arrow_table():
    order = pa.DictionaryArray.from_arrays(
        pa.array([2, None, 0], pa.int8()), ["low", "mid", "high"], ordered=True
    )
    table = pa.table(
        {
            "float": pa.array([0.1, None, 0.3], pa.float32()),
            "nan": [0.1, float("nan"), 0.3],
            "int": [2**60 + 1, None, 3],
            "string": pa.array(["a", None, "b"], pa.large_string()),
            "boolean": [True, None, False],
            "size": order,
        }
    )
    return table.replace_schema_metadata({"origin": "here"})


def test_arrow_dtypes():
    X = arrow_table()
    values = [1.5, 1.5, 5, "c", True, "mid"]
    completed = pa.table(
        {
            name: pa.array([value] * 3)
            for name, value in zip(X.column_names, values, strict=True)
        }
    )
    filled = fill(X, completed)
    assert filled.schema.equals(X.schema, check_metadata=True)
    assert filled["size"].chunk(0).dictionary.to_pylist() == ["low", "mid", "high"]
    assert filled.slice(1, 1).to_pylist() == [
        dict(zip(X.column_names, values, strict=True))
    ]
    assert filled.take([0, 2]).to_pylist() == X.take([0, 2]).to_pylist()


def test_arrow_chunks_nulls_and_indicators():
    X = pa.concat_tables([pa.table({"a": [1.0, None]}), pa.table({"a": [None, 4.0]})])
    X = X.append_column("b", pa.nulls(4))
    completed = pa.table({"a": [9.0, 2, 3, 9], "b": ["x"] * 4})
    filled = fill(X, completed, flagged=[0])
    assert filled["a"].to_pylist() == [1, 2, 3, 4]
    assert filled["b"].to_pylist() == ["x"] * 4
    assert filled["missingindicator_a"].to_pylist() == [False, True, True, False]


# -- from one library to another -----------------------------------------------------


FRAMES = {
    "numpy": lambda t: np.array(list(t.values()), dtype=object).T,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


def rows_of(table):
    if isinstance(table, np.ndarray):
        return table.tolist()
    if isinstance(table, pa.Table):
        return [list(row.values()) for row in table.to_pylist()]
    return (table.to_numpy() if hasattr(table, "to_numpy") else table).tolist()


@pytest.mark.parametrize("trained", FRAMES)
@pytest.mark.parametrize("given", FRAMES)
def test_every_library_fills_every_other(given, trained):
    X = FRAMES[given]({"a": [1.0, None], "b": ["x", None], "c": [None, True]})
    completed = FRAMES[trained]({"a": [8.0, 2.0], "b": ["z", "y"], "c": [False, True]})
    filled = fill(X, completed)
    assert type(filled) is type(X)
    assert rows_of(filled) == [[1.0, "x", False], [2.0, "y", True]]


# -- columns without an observed cell ------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", 0),
        ("Int64", 0),
        ("boolean", False),
        ("string", EMPTY_TEXT),
        ("category", EMPTY_TEXT),
        (pd.CategoricalDtype(["low", "high"]), "low"),
        (object, 0),
    ],
)
def test_placeholders_of_pandas(dtype, expected):
    X = pd.DataFrame({"a": pd.Series([None, None], dtype=dtype), "b": [1.0, 2.0]})
    filled = fill(X, X, empty={0: False})
    assert filled["a"].tolist() == [expected] * 2
    assert filled["a"].dtype == X["a"].dtype or dtype == "category"
    assert fill(X, X, empty={0: False}, keep=[1]).columns.tolist() == ["b"]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Float32, 0),
        (pl.Int8, 0),
        (pl.Boolean, False),
        (pl.String, EMPTY_TEXT),
        (pl.Categorical, EMPTY_TEXT),
        (pl.Enum(["low", "high"]), "low"),
        (pl.Null, 0),
    ],
)
def test_placeholders_of_polars(dtype, expected):
    X = pl.DataFrame({"a": pl.Series([None, None], dtype=dtype)})
    filled = fill(X, X, empty={0: False})
    assert filled["a"].to_list() == [expected] * 2
    assert filled["a"].dtype == X["a"].dtype or dtype == pl.Null


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pa.float32(), 0),
        (pa.int8(), 0),
        (pa.bool_(), False),
        (pa.string(), EMPTY_TEXT),
        (pa.dictionary(pa.int8(), pa.string()), EMPTY_TEXT),
        (pa.null(), 0),
    ],
)
def test_placeholders_of_arrow(dtype, expected):
    X = pa.table({"a": pa.nulls(2, dtype)})
    filled = fill(X, X, empty={0: False})
    assert filled["a"].to_pylist() == [expected] * 2
    assert filled["a"].type == dtype or pa.types.is_null(dtype)


def test_placeholders_of_arrays():
    X = np.full((2, 2), np.nan)
    assert fill(X, X, empty={0: False, 1: True}).tolist() == [[0, 0]] * 2
    X = X.astype(object)
    found = fill(X, X, empty={0: False, 1: True})
    assert found.tolist() == [[0, EMPTY_TEXT]] * 2


# -- markers of missing cells --------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_number_as_the_marker_in_an_array(dtype):
    X = np.array([[1, 99], [99, 2]], dtype)
    found = replace_marker(X, 99)
    np.testing.assert_array_equal(found, [[1, np.nan], [np.nan, 2]])
    assert found.dtype == (dtype if np.dtype(dtype).kind == "f" else np.float64)
    np.testing.assert_array_equal(replace_marker(X, "99"), X)


def test_a_marker_among_objects():
    X = np.array([["?", 1, None], ["a", "?", pd.NA]], dtype=object)
    assert missing_mask(replace_marker(X, "?")).tolist() == [[1, 0, 1], [0, 1, 1]]
    text = np.array([["?", "b"], ["a", "?"]])
    assert missing_mask(replace_marker(text, "?")).tolist() == [[1, 0], [0, 1]]


def test_a_marker_in_pandas():
    X = pd.DataFrame(
        {
            "int": [1, -1, 3],
            "float": [-1.0, np.nan, 3],
            "Int8": pd.array([None, -1, 3], dtype="Int8"),
            "cat": pd.Categorical([-1, 2, 2]),
            "text": ["-1", "a", "b"],
            "bool": [True, False, True],
        },
        index=[4, 4, 2],
    )
    before = X.copy(deep=True)
    found = replace_marker(X, -1)
    expected = [[0, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0], [0] * 3, [0] * 3]
    np.testing.assert_array_equal(missing_mask(found).T, expected)
    assert str(found["int"].dtype) == "Int64"
    assert found["cat"].cat.categories.tolist() == [2]
    assert found.index.tolist() == [4, 4, 2]
    pd.testing.assert_frame_equal(X, before)


def test_a_marker_in_polars():
    order = pl.Enum(["?", "low", "high"])
    X = pl.DataFrame(
        {"text": ["?", "a"], "size": ["high", "?"], "int": [1, 2], "c": ["?", "x"]},
        schema_overrides={"size": order, "c": pl.Categorical},
    )
    found = replace_marker(X, "?")
    expected = [[1, 0], [0, 1], [0, 0], [1, 0]]
    np.testing.assert_array_equal(missing_mask(found).T, expected)
    assert found["size"].dtype == pl.Enum(["low", "high"])
    assert missing_mask(replace_marker(X, 2)).sum() == 1


def test_a_marker_in_arrow():
    size = pa.DictionaryArray.from_arrays(
        pa.array([2, 0], pa.int8()), ["?", "low", "high"], ordered=True
    )
    X = pa.table({"text": ["?", "a"], "size": size, "int": [1, 2]})
    found = replace_marker(X, "?")
    np.testing.assert_array_equal(missing_mask(found).T, [[1, 0], [0, 1], [0, 0]])
    assert found["size"].chunk(0).dictionary.to_pylist() == ["low", "high"]
    assert missing_mask(replace_marker(X, 2)).sum() == 1


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
def test_nan_needs_no_marker(nothing):
    X = pandas_table()
    assert replace_marker(X, nothing) is X


# -- what a dtype holds --------------------------------------------------------------


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("dtype", ["UInt8", "Int8"])
def test_values_beyond_a_dtype_go_to_its_ends(library, dtype):
    completed = np.array([[1.0], [-3000.0], [3000.4]])
    limits = np.iinfo(dtype.lower())
    if library == "numpy":
        X = np.array([[1], [0], [0]], dtype=dtype.lower())
        mask = np.array([[False], [True], [True]])
        filled = fill(X, completed, mask=mask)[:, 0].tolist()
    else:
        X = pd.DataFrame({"a": pd.array([1, None, None], dtype=dtype)})
        if library == "polars":
            X = pl.DataFrame({"a": [1, None, None]}, schema={"a": getattr(pl, dtype)})
        elif library == "pyarrow":
            X = pa.table({"a": pa.array([1, None, None], getattr(pa, dtype.lower())())})
        filled = fill(X, completed)["a"].to_numpy().tolist()
    assert filled == [1, limits.min, limits.max]


def test_short_floats_stay_finite():
    X = np.array([[1.0], [np.nan], [np.nan]], dtype=np.float16)
    filled = fill(X, np.array([[1.0], [1e6], [-1e6]]))
    assert filled[:, 0].tolist() == [1.0, 65504.0, -65504.0]


def test_a_number_marks_no_booleans():
    X = pd.DataFrame({"flag": [True, False], "count": [0, 1]})
    found = missing_mask(replace_marker(X, 0))
    assert found.tolist() == [[False, True], [False, False]]
