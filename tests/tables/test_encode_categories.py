"""TableEncoder: declared, unknown and missing categories, empty columns."""

import warnings

import numpy as np
import pytest
from mixed_frames import assert_tables_equal, kinds, mixed_frame, round_trip
from opening_encoder import TableEncoder

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


# ---- containers -------------------------------------------------------------


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
