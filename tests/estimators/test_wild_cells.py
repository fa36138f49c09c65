"""Estimators treat the body of a column as without its wild cells."""

import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

pytestmark = pytest.mark.filterwarnings("ignore:Values far beyond all others")

N_ROWS = 300
RNG = np.random.default_rng(0)
Z = RNG.normal(size=N_ROWS)
W = Z + 0.3 * RNG.normal(size=N_ROWS)
HIDDEN = np.arange(N_ROWS) % 5 == 0

WILD = {
    "none": [],
    "one": [999999.0],
    "both sides": [1e5, -1e6, 1e8, -1e300],
    "marker": [-999.0] * 3,
    "frequent marker": [-999.0] * 30,
}
TRANSFORMS = ["auto", "standard", "quantile"]
QUICK = {"max_iter": 8, "hidden_layer_sizes": (16,), "random_state": 0}


def spoiled(values, wild):
    values = values.copy()
    values[: len(wild)] = wild
    return values


@pytest.fixture(params=WILD.values(), ids=WILD)
def wild(request):
    return request.param


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_samples_are_those_of_the_body(wild, transform):
    table = np.column_stack([spoiled(Z, wild), W])
    model = VAETransformer(numeric_transform=transform, **QUICK).fit(table)
    drawn = model.sample(2_000, random_state=0)
    assert drawn.std(0) == pytest.approx([Z.std(), W.std()], rel=0.15)
    assert np.corrcoef(drawn.T)[0, 1] > 0.9
    scores = model.score_samples(table)
    assert np.isfinite(scores).all()
    # a density is that of all cells
    if wild:
        assert scores[: len(wild)].max() < scores[len(wild) :].min()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("layers", [(), (16,)], ids=["linear", "networks"])
def test_imputations_are_as_good_as_without(wild, transform, layers):
    table = np.column_stack([spoiled(Z, wild), W])
    table[HIDDEN, 1] = np.nan
    options = {**QUICK, "hidden_layer_sizes": layers, "numeric_transform": transform}
    completed = VAEImputer(**options).fit_transform(table)
    seen = ~HIDDEN
    np.testing.assert_array_equal(completed[seen], table[seen])
    # rows with a wild cell have nothing to go by
    told = HIDDEN & (np.arange(N_ROWS) >= len(wild))
    assert np.sqrt(np.mean((completed[told, 1] - W[told]) ** 2)) < 0.36
    assert np.abs(completed[HIDDEN, 1]).max() < 4


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_classes_are_found_as_without(wild, transform):
    labels = (Z + W > 0).astype(int)
    table = np.column_stack([spoiled(Z, wild), W])
    few = np.where(np.arange(N_ROWS) % 3 == 0, labels, -1)
    model = VAEClassifier(numeric_transform=transform, **QUICK).fit(table, few)
    assert model.score(table, labels) > 0.93


@pytest.mark.parametrize("transform", ["standard", "quantile"])
def test_outputs_are_predicted_as_without(wild, transform):
    clean = slice(len(wild), None)
    y = spoiled(Z, wild)
    model = VAERegressor(numeric_transform=transform, **QUICK).fit(W[:, None], y)
    assert model.score(W[clean, None], y[clean]) > 0.89
    mean, deviation = model.predict(W[:, None], return_std=True)
    assert np.abs(mean).max() < 4
    assert deviation.max() < 1
    lower, upper = model.predict_interval(W[:, None])
    assert np.mean(upper - lower) < 1.5
    covered = (lower <= y) & (y <= upper)
    assert covered[clean].mean() > 0.8


def test_features_are_used_as_without(wild):
    y = 2 * Z - W
    X = np.column_stack([spoiled(Z, wild), W])
    clean = slice(len(wild), None)
    model = VAERegressor(**QUICK).fit(X, y)
    assert model.score(X[clean], y[clean]) > 0.9


ESTIMATORS = {
    "transformer": (VAETransformer, lambda m, X: m.transform(X)),
    "imputer": (
        VAEImputer,
        lambda m, X: m.transform(np.where(HIDDEN_CELLS, np.nan, X)),
    ),
    "classifier": (VAEClassifier, lambda m, X: m.predict_proba(X)),
    "regressor": (VAERegressor, lambda m, X: m.predict(X)),
}
HIDDEN_CELLS = np.column_stack([np.zeros(N_ROWS, dtype=bool), HIDDEN])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_wild_cell_is_a_missing_one(name):
    """Fits and what they give are those of the table that marks the cells."""
    estimator, use = ESTIMATORS[name]
    table = np.column_stack([spoiled(Z, WILD["both sides"]), W])
    marked = table.copy()
    marked[:4, 0] = np.nan
    y = {"classifier": (Z > 0) * 1, "regressor": Z}.get(name)
    options = {**QUICK, "max_iter": 2}
    with pytest.warns(UserWarning, match="'x0': -1e.300") as caught:
        one = estimator(**options).fit(table, y)
    assert caught[0].filename == __file__
    other = estimator(**options).fit(marked, y)
    found, expected = use(one, table), use(other, marked)
    if name == "imputer":  # observed cells stay
        assert one.indicator_features_.tolist() == []
        np.testing.assert_array_equal(found[:4, 0], table[:4, 0])
        found[:4, 0] = expected[:4, 0]
    np.testing.assert_array_equal(found, expected)


def test_the_warning_of_outputs_names_them():
    y = spoiled(Z, [1e7])
    with pytest.warns(UserWarning, match="Column 'y0' of y: 10000000.0"):
        VAERegressor(**{**QUICK, "max_iter": 1}).fit(W[:, None], y)


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_columns_that_are_often_0_stay_as_they_are(share):
    table = np.column_stack([Z.clip(0) * (RNG.random(N_ROWS) > share), W])
    model = VAETransformer(**{**QUICK, "max_iter": 1}).fit(table)
    assert model._encoder.columns_[0].lowest is None
    assert model.numeric_transform_["x0"] == "standard"
    table[0, 0] = 1e9
    model = VAETransformer(**QUICK).fit(table)
    drawn = model.sample(500, random_state=0)
    assert np.isfinite(drawn).all()
    if share == 0.6:  # else too few cells tell what is far
        assert drawn[:, 0].std() < 3
