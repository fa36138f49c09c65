"""VAEImputer: what is filled, what stays, and what the numbers mean."""

import pickle
import warnings

import narwhals.stable.v2 as nw
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skvae import VAEImputer, VAETransformer, pool
from skvae._distributions.location_scale import SCALE_FLOOR
from skvae._estimators import imputer as module
from skvae._imputation.fit_mean import LARGE
from skvae._imputation.model import FLOOR_PER_GAP
from skvae._imputation.scales import RANGE_REACH, widened
from skvae.datasets import ampute

CONTAINERS = ["pandas", "polars", "pyarrow"]
SMALL = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}


def imputer(**kwargs):
    return VAEImputer(**(SMALL | kwargs))


def schema(table):
    """Names and dtypes of a data frame, with the categories that a dtype declares."""
    if hasattr(table, "schema") and hasattr(table.schema, "types"):  # pyarrow
        return dict(zip(table.schema.names, table.schema.types, strict=True))
    table = nw.from_native(table)
    return {name: table[name].to_native().dtype for name in table.columns}


def cells(table):
    """Cells of a table as rows of Python objects, None where missing."""
    rows = list(nw.from_native(table, eager_only=True).iter_rows())
    return np.array(
        [[None if _is_nothing(v) else v for v in row] for row in rows], dtype=object
    )


def _is_nothing(value):
    return value is None or type(value).__name__ == "NAType" or value != value


def assert_observed_stay(X, filled):
    """Observed cells are what they were, and nothing is missing any more."""
    before, after = cells(X), cells(filled)
    observed = before != np.array(None)
    assert not observed.all()
    np.testing.assert_array_equal(after[observed], before[observed])
    assert not (after == np.array(None)).any()


@pytest.fixture
def holes(numbers):
    """Eighty rows of five numbers, a quarter of the cells missing."""
    X = numbers.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.25] = np.nan
    return X


@pytest.fixture(params=CONTAINERS)
def mixed(request, mixed_table):
    return mixed_table(request.param)


# -- arrays --------------------------------------------------------------------------


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


# -- data frames ---------------------------------------------------------------------


def test_frames(mixed):
    model = imputer().fit(mixed)
    filled = model.transform(mixed)
    assert type(filled) is type(mixed)
    assert schema(filled) == schema(mixed)
    assert_observed_stay(mixed, filled)
    rows = cells(filled)
    assert set(rows[:, 1]) == {"Biscoe", "Dream", "Torgersen"}
    assert set(rows[:, 2]) == {"low", "mid", "high"}


def test_frames_are_not_modified(mixed_table):
    for container in CONTAINERS:
        X, same = mixed_table(container), mixed_table(container)
        model = imputer(add_indicator=True).fit(X)
        model.transform(X)
        model.sample(X, 1)
        model.predict_interval(X)
        assert cells(X).tolist() == cells(same).tolist()
        assert schema(X) == schema(same)


def test_libraries_agree(mixed_table):
    tables = [mixed_table(container) for container in CONTAINERS]
    filled = [cells(imputer().fit_transform(X)) for X in tables]
    assert filled[0].tolist() == filled[1].tolist() == filled[2].tolist()


@pytest.mark.parametrize("trained", CONTAINERS)
@pytest.mark.parametrize("given", CONTAINERS)
def test_trained_on_one_library_and_given_another(mixed_table, trained, given):
    model = imputer().fit(mixed_table(trained))
    X = mixed_table(given)
    filled = model.transform(X)
    assert type(filled) is type(X)
    assert schema(filled) == schema(X)
    assert cells(filled).tolist() == cells(model.transform(mixed_table())).tolist()


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_frames_and_arrays_together(holes):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(holes, columns=list("abcde"), index=range(80, 0, -1))
    of_array, of_frame = imputer().fit(holes), imputer().fit(frame)
    filled = of_array.transform(frame)
    # the model knows no other names
    assert filled.columns.tolist() == of_array.get_feature_names_out().tolist()
    assert filled.index.equals(frame.index)
    np.testing.assert_array_equal(filled, of_array.transform(holes))
    array = of_frame.transform(holes)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, of_frame.transform(frame))


def test_pandas_index_and_labels(holes):
    pd = pytest.importorskip("pandas")
    index = pd.MultiIndex.from_product([range(8), range(10)], names=["a", "b"])
    X = pd.DataFrame(holes, index=index, columns=[7, 3, 5, 1, 9])
    X.columns.name = "measure"
    filled = imputer().fit_transform(X)
    assert filled.index.equals(index)
    assert filled.columns.equals(X.columns)
    assert filled.columns.name == "measure"


def test_nullable_dtypes_of_pandas():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    level = rng.normal(size=60)
    X = pd.DataFrame(
        {
            "Int64": (100 * level).astype(int),
            "UInt8": rng.poisson(np.exp(1 + 0.3 * level)),
            "Float32": level + rng.normal(size=60),
            "boolean": level > 0,
        }
    )
    X = X.astype({name: name for name in X.columns})
    X["string"] = pd.Series(np.where(level > 0.5, "a", "b"), dtype="string")
    for place in range(5):
        X.iloc[place::7, place] = pd.NA
    model = imputer().fit(X)
    filled = model.transform(X)
    pd.testing.assert_series_equal(filled.dtypes, X.dtypes)
    assert_observed_stay(X, filled)
    assert model.likelihood_["UInt8"] == "poisson"


def test_set_output(holes, mixed_table):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    wanted = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    inputs = [holes, *(mixed_table(container) for container in CONTAINERS)]
    for X in inputs:
        model = imputer(add_indicator=True).fit(X)
        default = model.transform(X)
        for library, class_ in wanted.items():
            filled = model.set_output(transform=library).transform(X)
            assert isinstance(filled, class_)
            assert list(filled.columns) == model.get_feature_names_out().tolist()
            if isinstance(X, np.ndarray):
                np.testing.assert_array_equal(filled.to_numpy(), default)
            else:
                assert cells(filled).tolist() == cells(default).tolist()
    frame = mixed_table()
    frame.index = range(60, 120)
    filled = imputer().set_output(transform="pandas").fit_transform(frame)
    assert filled.index.equals(frame.index)
    assert filled["island"].dtype == frame["island"].dtype


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


def test_empty_columns_of_frames(mixed):
    frame = nw.from_native(mixed)
    for name in frame.columns:
        nulls = frame.with_columns(
            nw.when(nw.col(name).is_null()).then(nw.col(name)).alias(name)
        ).to_native()
        assert name not in imputer().fit_transform(nulls).columns or (
            hasattr(nulls, "column_names")
        )
        filled = imputer(keep_empty_features=True).fit_transform(nulls)
        rows = cells(filled)
        assert rows.shape == (60, 5)
        assert not (rows == np.array(None)).any()
        position = frame.columns.index(name)
        assert len(set(rows[:, position])) == 1


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


@pytest.mark.parametrize("container", CONTAINERS)
def test_unseen_categories(mixed_table, container):
    model = imputer().fit(mixed_table())
    pytest.importorskip(container)
    X = mixed_table("pandas").astype({"island": object, "size": object})
    X.loc[3, "island"] = "Atlantis"
    X = X.astype({"island": "string", "size": "string"})
    if container == "polars":
        X = pytest.importorskip("polars").from_pandas(X)
    elif container == "pyarrow":
        X = pytest.importorskip("pyarrow").Table.from_pandas(X)
    with pytest.warns(UserWarning, match="'island': 'Atlantis'"):
        filled = model.transform(X)
    assert_observed_stay(X, filled)
    assert cells(filled)[3, 1] == "Atlantis"
    # for the others it is a missing cell
    known = mixed_table()
    known.loc[3, "island"] = None
    score = model.score_samples(known)[3]
    with pytest.warns(UserWarning, match="Atlantis"):
        assert model.score_samples(X)[3] == pytest.approx(score, abs=1e-5)


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


@pytest.mark.parametrize("container", CONTAINERS)
def test_markers_in_text(mixed_table, container):
    frame = nw.from_native(mixed_table(container))
    text = frame["island"].cast(nw.String)
    plain = frame.with_columns(text.alias("island")).to_native()
    marked = frame.with_columns(text.fill_null("?").alias("island")).to_native()
    model = imputer(missing_values="?").fit(marked)
    filled = model.transform(marked)
    assert cells(filled).tolist() == cells(imputer().fit_transform(plain)).tolist()
    assert schema(filled) == schema(marked)


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


def test_indicators_of_frames(mixed):
    model = imputer(add_indicator=True).fit(mixed)
    filled = nw.from_native(model.transform(mixed), eager_only=True)
    names = ["mass", "island", "size", "flag", "visits"]
    flags = [f"missingindicator_{name}" for name in names[:4]]
    assert filled.columns == names + flags
    assert model.get_feature_names_out().tolist() == names + flags
    before = cells(mixed)
    for place, name in enumerate(flags):
        assert filled[name].dtype == nw.Boolean
        missing = before[:, place] == np.array(None)
        assert filled[name].to_list() == missing.tolist()
    for table in (*model.sample(mixed, 1), *model.predict_interval(mixed)):
        assert nw.from_native(table).columns == names + flags


# -- methods -------------------------------------------------------------------------


def test_fit_transform(holes, mixed_table):
    for X in (holes, mixed_table()):
        at_once = imputer().fit_transform(X)
        np.testing.assert_array_equal(at_once, imputer().fit(X).transform(X))


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_sample(holes, hidden_layer_sizes):
    model = imputer(hidden_layer_sizes=hidden_layer_sizes).fit(holes)
    assert len(model.sample(holes)) == 5
    tables = model.sample(holes, 3, random_state=1)
    seen = ~np.isnan(holes)
    for table in tables:
        assert np.isfinite(table).all()
        np.testing.assert_array_equal(table[seen], holes[seen])
    first, second, third = (table[~seen] for table in tables)
    assert (first != second).mean() > 0.9 and (second != third).mean() > 0.9
    again = model.sample(holes, 3, random_state=1)
    np.testing.assert_array_equal(again, tables)
    assert not np.array_equal(model.sample(holes, 3, random_state=2), tables)
    assert not np.array_equal(model.sample(holes, 1), model.sample(holes, 1))


def test_sample_of_frames(mixed):
    model = imputer().fit(mixed)
    for table in model.sample(mixed, 2, random_state=0):
        assert type(table) is type(mixed)
        assert schema(table) == schema(mixed)
        assert_observed_stay(mixed, table)


REPEATED = {  # pandas dtypes and values that columns repeat
    "float64": [0.1, 0.2, 0.35, 1.7, 12.3],
    "float32": [0.1, 0.2, 0.35, 1.7, 12.3],
    "int64": [-40, -7, 3, 12, 1_000],
    "Int64": [-40, -7, 3, 12, 1_000],
    "Float64": [0.1, 0.2, 0.35, 1.7, 12.3],
}


@pytest.mark.parametrize("numeric_transform", ["standard", "quantile", "none"])
@pytest.mark.parametrize("model_class", [VAEImputer, VAETransformer])
def test_draws_of_repeated_values_are_values_of_the_table(
    model_class, numeric_transform
):
    """Exactly, in every dtype; means are means."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    level = rng.normal(size=120)
    codes = np.digitize(level + 0.3 * rng.normal(size=120), [-1, -0.3, 0.3, 1])
    X = pd.DataFrame(
        {
            name: pd.Series(np.array(values)[codes], dtype=name)
            for name, values in REPEATED.items()
        }
    )
    X["level"] = level
    model = model_class(
        max_iter=2,
        hidden_layer_sizes=(8,),
        numeric_transform=numeric_transform,
        random_state=0,
    ).fit(X)
    if model_class is VAETransformer:
        tables = [model.sample(200, random_state=0)]
    else:
        # a model of a table without missing cells completes rows of nulls
        nulls = X.convert_dtypes().iloc[:40].copy()
        nulls.loc[:, :] = None
        nulls = nulls.astype({name: "Float64" for name in nulls.columns})
        tables = [*model.sample(nulls, 2), *model.predict_interval(nulls, 0.5)]
        points = model.transform(nulls)["float64"].to_numpy(dtype=float)
        assert not np.isin(points, REPEATED["float64"]).any()
    for table in tables:
        for name in REPEATED:
            known = X[name].to_numpy(dtype=np.float64)
            found = table[name].to_numpy(dtype=np.float64)
            if table[name].dtype != X[name].dtype:
                known = known.astype(str(table[name].dtype).lower())
            assert np.isin(found, known).all(), name
    spread = pd.concat(tables)["level"].to_numpy(dtype=float)
    assert not np.isin(spread, level).all()  # only what repeats


def test_ranges():
    """Draws may leave the observed range, by a quarter of it; means may not."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=200)
    X = np.column_stack(
        [
            common,
            np.exp(common + 0.3 * rng.normal(size=200)),
            -np.exp(common + 0.3 * rng.normal(size=200)),
        ]
    )
    for numeric_transform in ("standard", "quantile"):
        model = imputer(numeric_transform=numeric_transform).fit(X)
        low, high = X.min(axis=0), X.max(axis=0)
        reach = RANGE_REACH * (high - low)
        empty = np.full((1_000, 3), np.nan)
        draws = np.concatenate(model.sample(empty, 5, random_state=0))
        slack = 1e-4 * (high - low)
        assert (draws >= low - reach - slack).all()
        assert (draws <= high + reach + slack).all()
        # columns that are never negative, or never positive, stay so
        assert draws[:, 1].min() >= -slack[1] and draws[:, 2].max() <= slack[2]
        assert draws[:, 0].min() < low[0] and draws[:, 0].max() > high[0]
        far = np.full((2, 3), np.nan)
        far[:, 0] = 30, -30
        points = model.transform(far)[:, 1:]
        assert (points >= low[1:] - slack[1:]).all()
        assert (points <= high[1:] + slack[1:]).all()


def test_widened():
    np.testing.assert_array_equal(widened(np.array([-1.0, 3.0])), [-2, 4])
    np.testing.assert_array_equal(widened(np.array([1.0, 3.0])), [0.5, 3.5])
    np.testing.assert_array_equal(widened(np.array([0.2, 4.2])), [0, 5.2])
    np.testing.assert_array_equal(widened(np.array([-4.0, 0.0])), [-5, 0])
    np.testing.assert_array_equal(widened(np.array([2.0, 2.0])), [2, 2])


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_predict_interval(holes, hidden_layer_sizes):
    model = imputer(hidden_layer_sizes=hidden_layer_sizes, max_iter=20).fit(holes)
    lower, upper = model.predict_interval(holes)
    seen = ~np.isnan(holes)
    np.testing.assert_array_equal(lower[seen], holes[seen])
    np.testing.assert_array_equal(upper[seen], holes[seen])
    assert (lower[~seen] < upper[~seen]).all()
    point = model.transform(holes)
    assert ((lower <= point) & (point <= upper))[~seen].mean() > 0.95
    narrow = model.predict_interval(holes, coverage=0.5)
    assert (narrow[0] >= lower).all() and (narrow[1] <= upper).all()
    width = (upper - lower)[~seen].mean()
    assert 0.2 * width < (narrow[1] - narrow[0])[~seen].mean() < 0.7 * width
    np.testing.assert_array_equal(model.predict_interval(holes), (lower, upper))


def test_intervals_of_frames(mixed):
    model = imputer().fit(mixed)
    lower, upper = model.predict_interval(mixed)
    for bound in (lower, upper):
        assert type(bound) is type(mixed) and schema(bound) == schema(mixed)
        assert_observed_stay(mixed, bound)
    low, high = cells(lower), cells(upper)
    order = {"low": 0, "mid": 1, "high": 2}
    assert (low[:, 0] <= high[:, 0]).all()
    assert all(order[a] <= order[b] for a, b in zip(low[:, 2], high[:, 2], strict=True))
    # categories have no order: both are the most probable one
    assert low[:, [1, 3]].tolist() == high[:, [1, 3]].tolist()


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 90])
def test_coverage_is_a_share(holes, coverage):
    with pytest.raises(ValueError, match="coverage"):
        imputer().fit(holes).predict_interval(holes, coverage=coverage)


@pytest.mark.parametrize("n_draws", [0, 1.5, True])
def test_number_of_draws(holes, n_draws):
    with pytest.raises(ValueError, match="n_draws"):
        imputer().fit(holes).sample(holes, n_draws)


def test_median():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    X[:, 1] = np.exp(0.5 * X[:, 0] + rng.normal(size=400))  # skewed
    X[::3, 1] = np.nan
    model = imputer(numeric_transform="quantile", max_iter=30).fit(X)
    mean = model.transform(X)
    median = model.set_params(point="median").transform(X)  # nothing to learn anew
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(median[seen], X[seen])
    assert median[~seen].mean() < 0.85 * mean[~seen].mean()
    assert np.corrcoef(median[~seen], mean[~seen])[0, 1] > 0.8


def test_score(holes):
    model = imputer(max_iter=5).fit(holes)
    scores = model.score_samples(holes)
    assert scores.shape == (80,) and scores.dtype == np.float32
    assert model.score(holes) == pytest.approx(scores.mean(), rel=1e-5)
    weights = np.arange(80)
    expected = np.average(scores, weights=weights)
    assert model.score(holes, sample_weight=weights) == pytest.approx(expected)
    # rows of another kind score less
    strange = holes[:, ::-1] * 3
    assert model.score(strange) < model.score(holes) - 2
    one = np.full((2, 5), np.nan)
    one[0, 0], one[1, 0] = np.nanmean(holes[:, 0]), 20
    near, far = model.score_samples(one)
    assert far < near - 2


def test_scores_have_units(holes):
    """Densities of rows in other units differ by the log of the units, per cell."""
    for sizes in ((8,), ()):
        model = imputer(hidden_layer_sizes=sizes)
        scores = model.fit(holes).score_samples(holes)
        scaled = model.fit(1000 * holes).score_samples(1000 * holes)
        shift = np.log(1000) * (~np.isnan(holes)).sum(axis=1)
        np.testing.assert_allclose(scaled, scores - shift, atol=0.02)


# -- training ------------------------------------------------------------------------


def test_what_is_learned(mixed_table):
    X = mixed_table()
    model = imputer(n_components=3, max_iter=4).fit(X)
    assert model.n_components_ == 3
    assert model.n_features_in_ == 5
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert list(model.likelihood_) == X.columns.tolist()
    assert model.numeric_transform_ == {"mass": "standard"}
    assert set(model.blend_) == set(X.columns)
    for shares in model.blend_.values():
        assert list(shares) == ["marginal", "normal", "networks"]
        assert min(shares.values()) >= 0
        assert sum(shares.values()) == pytest.approx(1)
    assert model.missingness_slopes_ == {}
    assert model.indicator_features_.tolist() == [0, 1, 2, 3]
    assert np.isfinite(model.mean_losses_).all() and model.mean_losses_.ndim == 1
    assert model.n_iter_ == len(model.loss_curve_) == 4
    assert len(model.validation_scores_) == 4
    assert model.device_ == "cpu"


@pytest.mark.parametrize(
    ("n_rows", "given", "mean_widths", "vae_widths"),
    [
        (LARGE - 1, None, [128, 128], [128, 128]),
        (LARGE, None, [256, 256, 256], [128, 128]),
        (LARGE, (8,), [8], [8]),
    ],
)
def test_rows_widen_the_conditional_mean(holes, n_rows, given, mean_widths, vae_widths):
    X = np.resize(holes, (n_rows, holes.shape[1]))
    model = VAEImputer(hidden_layer_sizes=given, max_iter=1, random_state=0)
    model = pickle.loads(pickle.dumps(model.fit(X)))
    widths = [weight.shape[-1] for weight in model._mean.ensemble.weights]
    assert widths[:-1] == mean_widths
    layers = [m for m in model._module.decoder.hidden if hasattr(m, "out_features")]
    assert [layer.out_features for layer in layers] == vae_widths[::-1]


def test_networks_leave_out_rows_and_keep_the_best_weights(holes):
    model = imputer(max_iter=30).fit(holes)
    assert model.mean_losses_.min() < model.mean_losses_[0]
    assert model._mean.gaussian.fold_means is None  # of use in training alone


def test_scales_stay_above_a_part_of_the_gaps_between_values(holes):
    X = np.column_stack([holes, np.round(2 * holes[:, 0])])
    X[:5, 5] = 0  # observed where the first column is not
    model = imputer(likelihood="normal").fit(X)
    floor = model._module.joint.heads[0].floor.numpy()
    column = model._encoder.columns_[5]
    assert (np.diff(column.support) == 1).all()
    gap = 1 / column.map.scale  # in units of the encoded column
    np.testing.assert_allclose(floor, [*[SCALE_FLOOR] * 5, FLOOR_PER_GAP * gap])


def test_centres_are_locations_of_numbers(mixed_table):
    """Numbers whose mean is the location; not those with a bent map, nor counts."""
    rng = np.random.default_rng(0)
    X = mixed_table()
    X["normal"] = rng.normal(size=60)
    X["skewed"] = rng.lognormal(sigma=1.5, size=60)
    model = imputer(numeric_transform={"normal": "standard", "skewed": "quantile"})
    model.fit(X)
    outputs, sources = model._architecture["centres"]
    names = [model._encoder.columns_[i].name for i in model._order]
    columns, _, locations = model._module.joint.number_slots()
    of_output = dict(zip(locations.tolist(), columns.tolist(), strict=True))
    found = {names[of_output[output]] for output in outputs}
    assert "normal" in found and not found & {"skewed", "visits", "island"}
    mean = model._mean
    of_source = dict(zip(mean.outputs.tolist(), mean.columns.tolist(), strict=True))
    assert {names[of_source[source]] for source in sources} == found


def test_draws_vary_around_the_point_estimate(holes):
    """Over the nodes, locations average to the estimates, whatever was learned."""
    model = imputer(numeric_transform="standard", max_iter=10).fit(holes)
    data = model._encode(holes)
    mean, vae = model._mean, model._module
    with torch.no_grad():
        c = mean.context(data.x, data.y, data.observed)
        nodes = vae.prior(c).rsample(vae.nodes.expand(-1, len(holes), -1))
        px = vae.decode(nodes, c)
        expected = mean.expected(data.x, data.y, data.observed)
    locations = px[..., vae.joint.number_slots()[2]]
    torch.testing.assert_close(locations.mean(0), expected, atol=1e-5, rtol=0)
    assert locations.std(0).min() > 1e-3


def test_rows_of_weight_zero_are_not_there(mixed_table):
    X = mixed_table()
    weights = np.arange(len(X)) % 4
    X["whole"] = np.where(weights == 0, np.nan, np.arange(len(X)))
    X.loc[weights == 0, "mass"] = 1e6
    kept = X[weights > 0]
    model = imputer(add_indicator=True).fit(X, sample_weight=weights)
    removed = imputer(add_indicator=True).fit(kept, sample_weight=weights[weights > 0])
    np.testing.assert_array_equal(model.transform(kept), removed.transform(kept))
    np.testing.assert_array_equal(
        model.score_samples(kept), removed.score_samples(kept)
    )
    assert 5 not in model.indicator_features_


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_weights_count(hidden_layer_sizes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    X = np.column_stack([x, np.where(np.arange(200) < 100, x, -x)])
    model = imputer(hidden_layer_sizes=hidden_layer_sizes, max_iter=15)
    new = np.array([[1.0, np.nan]])
    for first, sign in ((10, 1), (0.1, -1)):
        weights = np.where(np.arange(200) < 100, first, 1.0)
        filled = model.fit(X, sample_weight=weights).transform(new)
        assert sign * filled[0, 1] > 0.3


@pytest.mark.parametrize("hidden_layer_sizes", [(8,), ()])
def test_warm_start(holes, hidden_layer_sizes):
    model = imputer(hidden_layer_sizes=hidden_layer_sizes, warm_start=True)
    first = model.fit(holes)
    n_iter, score = first.n_iter_, first.best_validation_score_
    model.fit(holes)
    assert np.isfinite(model.transform(holes)).all()
    if hidden_layer_sizes:
        assert model.n_iter_ == 2 * n_iter
        # losses of single epochs are of other hidden cells each
        assert model.best_validation_score_ > score
    else:
        assert model.n_iter_ == n_iter


def test_fit_again_forgets(holes):
    model = imputer().fit(3 * holes[:, :4] + 50)
    np.testing.assert_array_equal(
        model.fit(holes).transform(holes), imputer().fit_transform(holes)
    )


def test_a_failed_fit_changes_nothing(holes):
    model = imputer(warm_start=True).fit(holes)
    before = model.transform(holes)
    model.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError):
        model.fit(holes)
    np.testing.assert_array_equal(model.transform(holes), before)


def test_callbacks(holes, capsys):
    pytest.importorskip("rich")
    model = imputer(max_iter=3).set_callbacks(ProgressBar())
    filled = model.fit_transform(holes)
    np.testing.assert_array_equal(filled, imputer(max_iter=3).fit_transform(holes))
    imputer(hidden_layer_sizes=()).set_callbacks(ProgressBar()).fit(holes)


def test_verbose(holes, capsys):
    imputer(verbose=True).fit(holes)
    assert capsys.readouterr().out


def test_no_hidden_layer_needs_numbers(mixed_table):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(\).*numeric columns"):
        imputer(hidden_layer_sizes=()).fit(mixed_table())


def test_without_layers_counts_are_numbers():
    rng = np.random.default_rng(0)
    level = rng.normal(size=300)
    X = np.column_stack([10 * level, rng.poisson(np.exp(1.5 + 0.5 * level))])
    X = X.astype(int)
    model = imputer(hidden_layer_sizes=()).fit(X)
    assert set(model.likelihood_.values()) == {"normal"}
    filled = model.transform(np.array([[-20.0, np.nan], [0, np.nan], [20, np.nan]]))
    low, mid, high = filled[:, 1]
    assert 0 <= low < mid < high
    assert np.isfinite(model.score(X))


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_objectives(holes, objective):
    model = imputer(objective=objective, n_draws=2).fit(holes)
    assert np.isfinite(model.score(holes))


def test_likelihoods(holes):
    for likelihood in ("normal", "normal_heteroscedastic", "student_t"):
        model = imputer(likelihood=likelihood, max_iter=3).fit(holes)
        assert np.isfinite(model.transform(holes)).all()
        assert np.isfinite(model.sample(holes, 1)[0]).all()


def test_categories_only():
    rng = np.random.default_rng(0)
    level = rng.integers(3, size=300)
    noisy = np.where(rng.random(300) < 0.1, rng.integers(3, size=300), level)
    X = np.column_stack([level, noisy, (level + 1) % 3]).astype(float)
    truth = X.copy()
    X[rng.random(X.shape) < 0.2] = np.nan
    model = VAEImputer(
        categorical_features=[0, 1, 2],
        hidden_layer_sizes=(16,),
        max_iter=15,
        random_state=0,
    )
    filled = model.fit_transform(X)
    hidden = np.isnan(X) & (np.isnan(X).sum(axis=1, keepdims=True) < 3)
    assert (filled == truth)[hidden].mean() > 0.9
    assert list(model.blend_) == ["x0", "x1", "x2"]


def test_pipeline_and_search(holes):
    y = np.nan_to_num(holes[:, 0]) > 0
    pipeline = make_pipeline(imputer(), LogisticRegression())
    grid = {"vaeimputer__point": ["mean", "median"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(holes, y)
    assert search.best_score_ > 0.6
    density = GridSearchCV(imputer(), {"n_components": [1, 2]}, cv=2).fit(holes)
    assert np.isfinite(density.best_score_)


# -- exact answers: the multivariate normal ------------------------------------------


@pytest.fixture(scope="module")
def normal_table():
    """A thousand rows of a normal, a third of the cells missing; and the normal."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(5, 5))
    covariance = loadings @ loadings.T + 0.3 * np.eye(5)
    scale = np.array([1, 10, 0.1, 3, 1])
    covariance = covariance * np.outer(scale, scale)
    mean = np.array([0, 50, 1, -7, 0])
    truth = rng.multivariate_normal(mean, covariance, size=1000)
    X = truth.copy()
    X[rng.random(X.shape) < 0.33] = np.nan
    return X, truth, mean, covariance


def conditional(row, mean, covariance):
    """Mean and covariance of the missing cells of a row given the others."""
    hidden = np.isnan(row)
    inverse = np.linalg.pinv(covariance[np.ix_(~hidden, ~hidden)])
    gain = covariance[np.ix_(hidden, ~hidden)] @ inverse
    expected = mean[hidden] + gain @ (row - mean)[~hidden]
    left = covariance[np.ix_(hidden, hidden)]
    return expected, left - gain @ covariance[np.ix_(~hidden, hidden)]


def conditional_means(X, mean, covariance):
    filled = X.copy()
    for row in filled:
        row[np.isnan(row)] = conditional(row, mean, covariance)[0]
    return filled


def in_units(model, mean, covariance):
    """Parameters of the normal in the units of the table."""
    columns = model._encoder.columns_
    shift = np.array([c.map.mean for c in columns])
    scale = np.array([c.map.scale for c in columns])
    mean = mean.numpy().astype(np.float64)
    covariance = covariance.numpy().astype(np.float64)
    return shift + scale * mean, covariance * np.outer(scale, scale)


def learned_normal(model):
    """Mean and covariance of the fitted normal."""
    gaussian = model._mean.gaussian
    return in_units(model, gaussian.mean, gaussian.covariance)


def drawn_normals(model):
    """The same for every draw of the parameters."""
    gaussian = model._mean.gaussian
    draws = zip(gaussian.drawn_means, gaussian.drawn_covariances, strict=True)
    return [in_units(model, *draw) for draw in draws]


@pytest.fixture(scope="module")
def linear_model(normal_table):
    X = normal_table[0]
    model = VAEImputer(hidden_layer_sizes=(), numeric_transform="standard")
    return model.set_params(random_state=0).fit(X)


def test_without_layers_the_normal_is_near_the_truth(normal_table, linear_model):
    _, _, mean, covariance = normal_table
    found_mean, found = learned_normal(linear_model)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found_mean - mean) / scale, 0, atol=0.12)
    difference = (found - covariance) / np.outer(scale, scale)
    np.testing.assert_allclose(difference, 0, atol=0.15)


def test_without_layers_means_are_exact(normal_table, linear_model):
    X = normal_table[0]
    expected = conditional_means(X, *learned_normal(linear_model))
    scale = np.nanstd(X, axis=0)
    difference = (linear_model.transform(X) - expected) / scale
    np.testing.assert_allclose(difference, 0, atol=1e-4)


def test_without_layers_draws_are_exact(normal_table, linear_model):
    """A mixture of normals: of the conditionals by all draws of the parameters."""
    rows = np.vstack([normal_table[0][:4], np.full(5, np.nan)])
    fit, parts = learned_normal(linear_model), drawn_normals(linear_model)
    n_draws = 5_000  # as many by every draw of the parameters
    draws = np.array(linear_model.sample(rows, n_draws, random_state=0))
    for k, row in enumerate(rows):
        hidden = np.isnan(row)
        if not hidden.any():
            continue
        found = draws[:, k, hidden]
        means, lefts = map(
            np.array, zip(*(conditional(row, *p) for p in parts), strict=True)
        )
        expected = means.mean(axis=0)
        left = lefts.mean(axis=0) + np.atleast_2d(np.cov(means.T, ddof=0))
        scale = np.sqrt(np.diag(left))
        np.testing.assert_allclose(
            (found.mean(axis=0) - expected) / scale, 0, atol=5 / np.sqrt(n_draws)
        )
        difference = np.atleast_2d(np.cov(found.T)) - left
        np.testing.assert_allclose(
            difference / np.outer(scale, scale), 0, atol=8 / np.sqrt(n_draws)
        )
        # with a thousand rows the parameters add little to the fit's conditional
        exact, exact_left = conditional(row, *fit)
        np.testing.assert_allclose((expected - exact) / scale, 0, atol=0.06)
        difference = (left - exact_left) / np.outer(scale, scale)
        np.testing.assert_allclose(difference, 0, atol=0.08)


@pytest.mark.parametrize("numeric_transform", ["standard", "none", "quantile"])
def test_without_layers_scores_are_exact(normal_table, numeric_transform):
    X = normal_table[0][:, [0, 1, 3]] / [1, 10, 3]
    model = VAEImputer(hidden_layer_sizes=(), numeric_transform=numeric_transform)
    scores = model.fit(X).score_samples(X)
    reference = VAEImputer(hidden_layer_sizes=(), numeric_transform="standard").fit(X)
    mean, covariance = learned_normal(reference)
    expected = [
        multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(
            row[seen]
        )
        if seen.any()
        else 0.0
        for row, seen in zip(X, ~np.isnan(X), strict=True)
    ]
    np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_without_layers_intervals_are_those_of_the_normal(normal_table, linear_model):
    X = np.full((1, 5), np.nan)
    mean, covariance = learned_normal(linear_model)
    lower, upper = linear_model.predict_interval(X, coverage=0.8)
    scale = np.sqrt(np.diag(covariance))
    # 99 draws: the standard error of a quantile is about 0.17
    np.testing.assert_allclose((lower[0] - mean) / scale, -1.2816, atol=0.6)
    np.testing.assert_allclose((upper[0] - mean) / scale, 1.2816, atol=0.6)


def test_networks_find_the_linear_answer(normal_table):
    """With networks as well: near the best that can be, and honest about the rest."""
    X, truth, mean, covariance = normal_table
    model = VAEImputer(hidden_layer_sizes=(32,), max_iter=40, random_state=0).fit(X)
    hidden = np.isnan(X)
    scale = np.nanstd(X, axis=0)
    best = conditional_means(X, mean, covariance) / scale
    found = model.transform(X) / scale
    residual = np.square(found - best)[hidden].sum()
    spread = np.square(best - mean / scale)[hidden].sum()
    assert 1 - residual / spread > 0.97
    lower, upper = model.predict_interval(X)
    covered = ((lower <= truth) & (truth <= upper))[hidden].mean()
    assert 0.85 < covered < 0.95


# -- in the spirit of scikit-learn's tests -------------------------------------------


def test_rank_one_matrix_is_recovered():
    rng = np.random.default_rng(0)
    truth = rng.random((100, 1)) @ rng.random((1, 8))
    X = truth.copy()
    X[rng.random(X.shape) < 0.3] = np.nan
    hidden = np.isnan(X)
    for sizes in ((32,), ()):
        model = VAEImputer(hidden_layer_sizes=sizes, max_iter=30, random_state=0)
        error = np.abs(model.fit_transform(X) - truth)[hidden].mean()
        constant = np.abs(SimpleImputer().fit_transform(X) - truth)[hidden].mean()
        assert error < 0.1 * constant


def test_additive_matrix_is_recovered_out_of_sample():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 10))
    truth = np.empty((200, 10))
    mixing = rng.normal(size=(4, 10))
    truth = a[:, :4] @ mixing + 0.05 * b
    X = truth.copy()
    X[rng.random(X.shape) < 0.2] = np.nan
    train, test = X[:150], X[150:]
    hidden = np.isnan(test)
    model = VAEImputer(hidden_layer_sizes=(32,), max_iter=20, random_state=0)
    model.fit(train)
    error = (model.transform(test) - truth[150:])[hidden].std()
    assert error < 0.15 * truth[150:][hidden].std()


# -- cells that hide themselves ------------------------------------------------------


@pytest.fixture(scope="module")
def self_masked():
    """Three correlated columns; high values of the last are often missing."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1500, 1))
    truth = 0.7 * common + 0.7 * rng.normal(size=(1500, 3))
    X = truth.copy()
    chance = 1 / (1 + np.exp(1 - 2 * truth[:, 2]))
    X[rng.random(1500) < chance, 2] = np.nan
    return X, truth


@pytest.mark.parametrize("sizes", [(8,), ()])
def test_self_masking_removes_bias(self_masked, sizes):
    X, truth = self_masked
    hidden = np.isnan(X)
    target = truth[hidden].mean()

    def bias(**kwargs):
        model = VAEImputer(hidden_layer_sizes=sizes, random_state=0, max_iter=4)
        model.set_params(**kwargs).fit(X)
        filled = model.transform(X)
        np.testing.assert_array_equal(filled[~hidden], X[~hidden])
        drawn = np.mean([t[hidden] for t in model.sample(X, 5, random_state=0)])
        return abs(filled[hidden].mean() - target), abs(drawn - target), model

    ignorant, ignorant_drawn, model = bias()
    assert model.missingness_slopes_ == {}
    aware, aware_drawn, model = bias(
        missingness="self-masking", direction={"x2": "high"}
    )
    assert list(model.missingness_slopes_) == ["x2"]
    assert model.missingness_slopes_["x2"] > 0.5
    assert aware < 0.7 * ignorant
    assert aware_drawn < 0.7 * ignorant_drawn
    median, _, _ = bias(
        missingness="self-masking", direction={2: "high"}, point="median"
    )
    assert median < 0.8 * ignorant
    # the wrong sign is not found
    _, _, model = bias(missingness="self-masking", direction={"x2": "low"})
    assert model.missingness_slopes_["x2"] == pytest.approx(0, abs=1e-3)


def test_agnostic_finds_the_sign(self_masked):
    X, _ = self_masked
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic")
    model.set_params(random_state=0).fit(X)
    slopes = model.missingness_slopes_
    assert list(slopes) == ["x0", "x1", "x2"]
    assert slopes["x0"] == slopes["x1"] == 0  # nothing is missing there
    assert slopes["x2"] > 0.5


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ({"x9": "high"}, "'x9'"),
        ({9: "high"}, "9"),
        ({"x0": "up"}, "'high' or 'low'"),
    ],
)
def test_directions_are_checked_before_the_training(holes, direction, message):
    model = imputer(missingness="self-masking", direction=direction)
    with pytest.raises(ValueError, match=message):
        model.fit(holes)
    assert not hasattr(model, "_module")


# -- multiple imputation -------------------------------------------------------------


def test_draws_can_be_pooled():
    rng = np.random.default_rng(0)
    X = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=500)
    holes = ampute(X, rate=0.3, random_state=0)
    tables = imputer(hidden_layer_sizes=()).fit(holes).sample(holes, 10, random_state=0)
    estimates = [table[:, 0].mean() for table in tables]
    variances = [table[:, 0].var(ddof=1) / 500 for table in tables]
    pooled = pool(estimates, variances)
    assert pooled is not None
    assert abs(np.mean(estimates) - X[:, 0].mean()) < 0.15


# -- state ---------------------------------------------------------------------------


def test_pickle(holes, mixed):
    for X, sizes in ((holes, (8,)), (holes, ()), (mixed, (8,))):
        model = imputer(
            hidden_layer_sizes=sizes, missingness="agnostic", add_indicator=True
        ).fit(X)
        loaded = pickle.loads(pickle.dumps(model))
        for call in (
            lambda m, X=X: m.transform(X),
            lambda m, X=X: m.sample(X, 1, random_state=0)[0],
            lambda m, X=X: m.predict_interval(X)[0],
            lambda m, X=X: m.score_samples(X)[:, None],
        ):
            assert cells_of(call(loaded)).tolist() == cells_of(call(model)).tolist()


def cells_of(table):
    return table if isinstance(table, np.ndarray) else cells(table)


def test_clone_is_unfitted(holes):
    model = imputer().fit(holes)
    assert not hasattr(clone(model), "blend_")


def test_nothing_is_said(holes, mixed_table):
    """No warning in ordinary use."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X in (holes, *(mixed_table(container) for container in CONTAINERS)):
            model = VAEImputer(hidden_layer_sizes=(8,), max_iter=3).fit(X)
            model.transform(X)
            model.sample(X, 1)
            model.predict_interval(X)
            model.score(X)


def test_threads_are_left_alone(holes):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    imputer().fit_transform(holes)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


# -- what a review found -------------------------------------------------------------


def test_a_table_of_counts_alone():
    X = np.random.default_rng(0).poisson(2, (80, 3)).astype(float)
    X[::4, 0] = np.nan
    model = imputer(likelihood="poisson").fit(X)
    assert np.isfinite(model.transform(X)).all()


def test_slopes_of_a_sorted_table(self_masked, monkeypatch):
    """pandas sorts missing cells to the end: the first rows have none."""
    monkeypatch.setattr(module, "MISSINGNESS_ROWS", 400)
    X = self_masked[0]
    X = X[np.isnan(X[:, 2]).argsort(kind="stable")]
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic", random_state=0)
    assert model.fit(X).missingness_slopes_["x2"] > 0.5


def test_slopes_count_weights(self_masked):
    """High values are missing from half of the rows, low ones from the others."""
    X = self_masked[0][:800].copy()
    X[400:] *= -1
    model = VAEImputer(hidden_layer_sizes=(), missingness="agnostic", random_state=0)
    for weights in ((1.0, 0.02), (0.02, 1.0)):
        model.fit(X, sample_weight=np.repeat(weights, 400))
        assert (model.missingness_slopes_["x2"] > 0.3) == (weights[0] == 1)
        assert abs(model.missingness_slopes_["x2"]) > 0.3


@pytest.mark.parametrize("point", ["mean", "median"])
@pytest.mark.parametrize("sizes", [(8,), ()])
def test_self_masked_points_depend_on_no_other_row(self_masked, sizes, point):
    X = self_masked[0][:300]
    options = {"max_iter": 2, "random_state": 0, "missingness": "self-masking"}
    model = VAEImputer(hidden_layer_sizes=sizes, point=point, **options).fit(X)
    order = np.random.default_rng(0).permutation(300)
    filled = model.transform(X)
    assert model.missingness_slopes_["x2"] > 0
    np.testing.assert_allclose(model.transform(X[order]), filled[order], atol=1e-5)
    np.testing.assert_allclose(model.transform(X[:7]), filled[:7], atol=1e-5)


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


def test_both_parts_of_the_training_are_told(holes, capsys):
    imputer(verbose=True, max_iter=20).fit(holes)
    out = capsys.readouterr().out
    assert out.count("Conditional mean, step") == 10
    assert "Iteration 1, loss" in out


def test_mps_is_refused(holes, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="double precision, which MPS lacks"):
        imputer(device="mps").fit(holes)
    assert imputer(device="auto").fit(holes).device_ == "cpu"


def test_scores_without_layers_come_in_pieces(linear_model, normal_table, monkeypatch):
    X = normal_table[0][:50]
    scores = linear_model.score_samples(X)
    monkeypatch.setattr(module, "INFERENCE_FLOATS", 25 * 7)
    np.testing.assert_allclose(linear_model.score_samples(X), scores, rtol=1e-5)


def test_new_rows_have_the_parameters_of_their_table():
    """As other rows: tables differ by what few training rows leave open."""
    X = np.random.default_rng(0).normal(size=(25, 3)) @ np.ones((3, 3))
    X = X + np.random.default_rng(1).normal(size=X.shape)
    model = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    tables = model.sample(np.full((4000, 3), np.nan), 6, random_state=0)
    means = np.array([table.mean(0) for table in tables])
    expected = X.std(0) / 5
    assert (means.std(0) > 0.4 * expected).all()


def test_directions_by_any_label(self_masked):
    pd = pytest.importorskip("pandas")
    X = self_masked[0][:200]
    options = {"missingness": "self-masking", "hidden_layer_sizes": ()}
    for table, key in (
        (X, np.int64(2)),
        (X, -1),
        (pd.DataFrame(X, columns=[2020, 2021, 2022]), 2022),
        (pd.DataFrame(X, columns=list("abc")), "c"),
    ):
        model = VAEImputer(direction={key: "high"}, random_state=0, **options)
        assert next(iter(model.fit(table).missingness_slopes_.values())) > 0
