"""VAEImputer: draws, intervals and scores of the missing cells."""

import numpy as np
import pytest
from imputed_cells import assert_observed_stay, cells, imputer
from mixed_tables import schema

from skvae import VAEImputer, VAETransformer, pool
from skvae._imputation.scales import widened_range
from skvae._imputation.settings import SETTINGS
from skvae.datasets import ampute

# -- methods -------------------------------------------------------------------------


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
        reach = SETTINGS.range_margin * (high - low)
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
    np.testing.assert_array_equal(widened_range(np.array([-1.0, 3.0]), 0.25), [-2, 4])
    np.testing.assert_array_equal(widened_range(np.array([1.0, 3.0]), 0.25), [0.5, 3.5])
    np.testing.assert_array_equal(widened_range(np.array([0.2, 4.2]), 0.25), [0, 5.2])
    np.testing.assert_array_equal(widened_range(np.array([-4.0, 0.0]), 0.25), [-5, 0])
    np.testing.assert_array_equal(widened_range(np.array([2.0, 2.0]), 0.25), [2, 2])


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
    model = imputer(numeric_transform="quantile", max_iter=30)
    mean = model.fit_transform(X)
    median = model.set_params(strategy="median").fit_transform(X)
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(median[seen], X[seen])
    assert median[~seen].mean() < 0.85 * mean[~seen].mean()
    assert np.corrcoef(median[~seen], mean[~seen])[0, 1] > 0.8


def test_score(holes):
    model = imputer(max_iter=5).fit(holes)
    scores = model.score_samples(holes)
    assert scores.shape == (80,) and scores.dtype == np.float64
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


# -- multiple imputation -------------------------------------------------------------


def test_draws_can_be_pooled():
    rng = np.random.default_rng(0)
    X = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=500)
    holes = ampute(X, rate=0.3, random_state=0)
    tables = imputer(hidden_layer_sizes=()).fit(holes).sample(holes, 10, random_state=0)
    estimates = [table[:, 0].mean() for table in tables]
    variances = [table[:, 0].var(ddof=1) / 500 for table in tables]
    pooled = pool(estimates, variances)
    assert pooled.estimate == pytest.approx(np.mean(estimates))
    assert pooled.estimate == pytest.approx(X[:, 0].mean(), abs=0.15)
    # missing cells widen the standard error of the complete table
    complete = X[:, 0].std(ddof=1) / np.sqrt(500)
    assert complete < pooled.standard_error < 1.5 * complete


def test_new_rows_have_the_parameters_of_their_table():
    """As other rows: tables differ by what few training rows leave open."""
    X = np.random.default_rng(0).normal(size=(25, 3)) @ np.ones((3, 3))
    X = X + np.random.default_rng(1).normal(size=X.shape)
    model = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    tables = model.sample(np.full((4000, 3), np.nan), 6, random_state=0)
    means = np.array([table.mean(0) for table in tables])
    expected = X.std(0) / 5
    assert (means.std(0) > 0.4 * expected).all()
