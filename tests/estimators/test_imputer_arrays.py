"""VAEImputer on arrays: what is filled, what stays, and which columns come out."""

import warnings

import narwhals.stable.v2 as nw
import numpy as np
import pytest
from imputed_cells import cells, imputer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays(holes, dtype):
    X = holes.astype(dtype)
    before = X.copy()
    filled = imputer().fit(X).transform(X)
    assert filled.dtype == dtype and filled.shape == X.shape
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(X, before)
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    assert np.unique(filled[~seen]).size > 50  # no constants


def test_arrays_of_objects(mixed_table):
    X = np.array(mixed_table("polars").rows(), dtype=object)
    before = X.copy()
    model = imputer(categorical_features=[1, 2]).fit(X)
    filled = model.transform(X)
    assert filled.dtype == object
    assert X.tolist() == before.tolist()
    seen = np.array(None) != X
    assert (filled[seen] == X[seen]).all()
    assert {type(v) for v in filled[:, 0]} == {float}
    assert {type(v) for v in filled[:, 3]} == {bool}
    assert set(filled[:, 1]) == {"Biscoe", "Dream", "Torgersen"}


def test_lists(holes):
    model = imputer().fit(holes.tolist())
    np.testing.assert_array_equal(
        model.transform(holes.tolist()), imputer().fit_transform(holes)
    )


def test_integers_without_missing_cells_train_a_model_for_those_with():
    X = np.random.default_rng(0).integers(0, 40, size=(60, 3))
    model = imputer().fit(X)
    np.testing.assert_array_equal(model.transform(X), X)
    assert model.transform(X).dtype == X.dtype
    holes = X.astype(float)
    holes[3, 1] = np.nan
    filled = model.transform(holes)
    assert filled[3, 1] == round(filled[3, 1])  # a column of integers


# -- which cells, rows and columns are there -----------------------------------------


def test_nothing_is_missing(numbers):
    model = imputer().fit(numbers)
    np.testing.assert_array_equal(model.transform(numbers), numbers)
    for table in (*model.sample(numbers, 2), *model.predict_interval(numbers)):
        np.testing.assert_array_equal(table, numbers)
    assert model.indicator_features_.size == 0


def test_missing_for_the_first_time_at_transform(numbers, holes):
    model = imputer().fit(numbers)
    filled = model.transform(holes)
    seen = ~np.isnan(holes)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[seen], holes[seen])


def test_rows_without_any_cell(holes, mixed):
    model = imputer().fit(holes)
    empty = np.full((3, 5), np.nan)
    filled = model.transform(empty)
    np.testing.assert_array_equal(filled[0], filled[1])
    spread = np.nanstd(holes, axis=0)
    assert (np.abs(filled[0] - np.nanmean(holes, axis=0)) < spread).all()
    draws = np.array(model.sample(empty, 3, random_state=0))
    assert len(np.unique(draws[..., 0])) == 9
    np.testing.assert_allclose(model.score_samples(empty), 0, atol=1e-3)
    # and as part of the training table
    X = np.vstack([holes, empty])
    assert np.isfinite(imputer().fit_transform(X)).all()
    frame = nw.from_native(mixed)
    nulls = frame.with_columns(
        nw.when(nw.col(name).is_null()).then(nw.col(name)).alias(name)
        for name in frame.columns
    )
    nulls = nulls.to_native()
    filled = imputer().fit(mixed).transform(nulls)
    assert not (cells(filled) == np.array(None)).any()


@pytest.mark.filterwarnings("ignore:Columns without any observed value")
def test_columns_without_any_cell(holes):
    X = holes.copy()
    X[:, [1, 3]] = np.nan
    model = imputer().fit(X)
    assert model.transform(X).shape == (80, 3)
    assert model.get_feature_names_out().tolist() == ["x0", "x2", "x4"]
    for table in (*model.sample(X, 2), *model.predict_interval(X)):
        assert table.shape == (80, 3)
    keeping = imputer(keep_empty_features=True).fit(X)
    filled = keeping.transform(X)
    np.testing.assert_array_equal(filled[:, [1, 3]], 0)
    np.testing.assert_array_equal(filled[:, [0, 2, 4]], model.transform(X))
    assert keeping.get_feature_names_out().tolist() == [f"x{i}" for i in range(5)]
    # cells that are there now stay
    filled = keeping.transform(holes)
    np.testing.assert_array_equal(filled[:, 1], np.nan_to_num(holes[:, 1]))


@pytest.mark.filterwarnings("ignore:Columns without any observed value")
@pytest.mark.parametrize("keep", [True, False])
def test_a_table_without_any_cell(keep):
    X = np.full((5, 3), np.nan)
    filled = imputer(keep_empty_features=keep).fit_transform(X)
    np.testing.assert_array_equal(filled, np.zeros((5, 3 if keep else 0)))


def test_single_rows_are_filled_as_in_the_table(holes, mixed):
    model = imputer().fit(holes)
    table = model.transform(holes)
    for row in range(5):
        alone = model.transform(holes[[row]])
        np.testing.assert_allclose(alone, table[[row]], rtol=1e-5, atol=1e-6)
    model = imputer().fit(mixed)
    filled = cells(model.transform(mixed[:1]))
    assert filled[0, 1:].tolist() == cells(model.transform(mixed))[0, 1:].tolist()


def test_row_of_python_values():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=40), "b": rng.choice(["x", "y"], 40)})
    model = imputer().fit(X)
    for row in ({"a": None, "b": "x"}, {"a": 1.5, "b": None}, {"a": None, "b": None}):
        filled = model.transform(pd.DataFrame([row]))
        assert isinstance(filled["a"].iloc[0], float)
        assert filled["b"].iloc[0] in {"x", "y"}


def test_two_rows_and_one_column():
    X = np.array([[1.0, np.nan], [3.0, 5.0]])
    filled = imputer().fit_transform(X)
    assert np.isfinite(filled).all() and filled[0, 0] == 1
    X = np.array([[1.0], [np.nan], [2.0], [4.0]] * 5)
    for model in (imputer(), imputer(hidden_layer_sizes=())):
        filled = model.fit_transform(X)
        assert 1 <= filled[1, 0] <= 4
        assert len(np.unique(np.array(model.sample(X, 5, random_state=0))[:, 1])) > 1


def test_constant_columns(holes):
    X = np.column_stack([holes, np.full(80, 7.5), np.full(80, np.nan)])
    X[::3, 5] = np.nan
    X[0, 6] = -2
    model = imputer().fit(X)
    for table in (model.transform(X), *model.sample(X, 2), *model.predict_interval(X)):
        np.testing.assert_array_equal(table[:, 5], 7.5)
        np.testing.assert_array_equal(table[:, 6], -2)
    constants = np.array([[1.0, np.nan], [np.nan, 2], [1, 2]])
    np.testing.assert_array_equal(
        imputer().fit_transform(constants), [[1, 2], [1, 2], [1, 2]]
    )


# -- markers -------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [-1, 1e6, -1.5])
def test_a_number_stands_for_missing_cells(holes, marker):
    X = np.where(np.isnan(holes), marker, holes)
    expected = imputer().fit(holes)
    model = imputer(missing_values=marker).fit(X)
    np.testing.assert_array_equal(model.transform(X), expected.transform(holes))
    np.testing.assert_array_equal(model.score_samples(X), expected.score_samples(holes))
    # NaN is missing all the same
    np.testing.assert_array_equal(model.transform(holes), expected.transform(holes))


def test_markers_in_integers():
    X = np.random.default_rng(0).integers(0, 40, size=(60, 3))
    X[::4, 1] = -1
    filled = imputer(missing_values=-1).fit_transform(X)
    assert filled.dtype == X.dtype
    assert (filled >= 0).all()
    pd = pytest.importorskip("pandas")
    filled = imputer(missing_values=-1).fit_transform(pd.DataFrame(X))
    assert (filled.dtypes == X.dtype).all()
    assert (filled >= 0).all(axis=None)


def test_none_is_nan(holes):
    expected = imputer().fit_transform(holes)
    np.testing.assert_array_equal(
        imputer(missing_values=None).fit_transform(holes), expected
    )


# -- indicators and names ------------------------------------------------------------


def test_indicators(holes, numbers):
    X = holes.copy()
    X[:, 2] = numbers[:, 2]  # complete in training
    model = imputer(add_indicator=True).fit(X)
    assert model.indicator_features_.tolist() == [0, 1, 3, 4]
    filled = model.transform(holes)  # column 2 has missing cells now: no error
    assert filled.shape == (80, 9)
    np.testing.assert_array_equal(filled[:, 5:], np.isnan(holes)[:, [0, 1, 3, 4]])
    expected = imputer().fit(X).transform(holes)
    np.testing.assert_array_equal(filled[:, :5], expected)
    reference = SimpleImputer(add_indicator=True).fit(X)
    names = model.get_feature_names_out().tolist()
    assert names == reference.get_feature_names_out().tolist()
    given = model.get_feature_names_out(list("abcde")).tolist()
    assert given == reference.get_feature_names_out(list("abcde")).tolist()


@pytest.mark.filterwarnings("ignore:Columns without any observed value")
def test_indicators_and_empty_columns(holes):
    X = holes.copy()
    X[:, 1] = np.nan
    for keep in (True, False):
        ours = imputer(add_indicator=True, keep_empty_features=keep).fit(X)
        theirs = SimpleImputer(
            strategy="constant",
            fill_value=0,
            add_indicator=True,
            keep_empty_features=keep,
        )
        if keep:
            theirs.fit(X)
            names = theirs.get_feature_names_out().tolist()
            assert ours.get_feature_names_out().tolist() == names
            np.testing.assert_array_equal(
                ours.transform(X)[:, 5:], theirs.transform(X)[:, 5:]
            )
        else:
            assert ours.get_feature_names_out().tolist()[:4] == ["x0", "x2", "x3", "x4"]
            assert ours.transform(X).shape == (80, 9)


# -- methods -------------------------------------------------------------------------


def test_fit_transform(holes, mixed_table):
    for X in (holes, mixed_table()):
        at_once = imputer().fit_transform(X)
        np.testing.assert_array_equal(at_once, imputer().fit(X).transform(X))


def test_indicators_beside_numbered_columns(holes):
    pd = pytest.importorskip("pandas")
    model = imputer(add_indicator=True)
    table = model.fit_transform(pd.DataFrame(holes))
    assert table.columns.tolist() == model.get_feature_names_out().tolist()
    make_pipeline(model, LogisticRegression()).fit(
        pd.DataFrame(holes), np.arange(len(holes)) % 2
    )


def test_dropped_columns_are_named(holes):
    X = np.column_stack([holes, np.full(len(holes), np.nan)])
    name = f"'x{holes.shape[1]}'"
    with pytest.warns(UserWarning, match=f"without any observed value.*{name}"):
        imputer().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imputer(keep_empty_features=True).fit(X)
