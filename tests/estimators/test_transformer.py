"""VAETransformer: what every method returns, on mixed tables with missing cells."""

import warnings

import narwhals.stable.v2 as nw
import numpy as np
import pytest
import torch
from mixed_tables import CONTAINERS, schema
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skvae import VAETransformer

KINDS = {
    "mass": ("normal", "student_t"),  # or the same with a scale per cell
    "island": "categorical",
    "size": "ordinal",
    "flag": "bernoulli",
    "visits": "poisson",
}


@pytest.fixture(params=CONTAINERS)
def fitted(request, mixed_table):
    """A model and its training table, in each container."""
    X = mixed_table(request.param)
    return VAETransformer(n_components=3, max_iter=5, random_state=0).fit(X), X


# -- shapes, dtypes, names -----------------------------------------------------------


def test_what_is_learned_of_the_columns(fitted):
    vae, _ = fitted
    assert list(vae.likelihood_) == list(KINDS)
    for name, kind in KINDS.items():
        assert vae.likelihood_[name].startswith(kind)
    assert vae.numeric_transform_ == {"mass": "standard"}
    assert vae.n_features_in_ == 5
    assert vae.feature_names_in_.tolist() == list(KINDS)
    assert vae.n_components_ == 3
    assert vae.device_ == "cpu"


def test_transform(fitted):
    vae, X = fitted
    Z = vae.transform(X)
    assert Z.shape == (60, 3)
    assert Z.dtype == np.float32
    assert np.isfinite(Z).all()
    assert Z.std(axis=0).max() > 0.01
    np.testing.assert_array_equal(clone(vae).fit_transform(X), Z)


@pytest.mark.parametrize("method", ["sample", "inverse_transform"])
def test_tables_come_back_like_the_training_table(fitted, method):
    vae, X = fitted
    if method == "sample":
        rows = vae.sample(40, random_state=0)
    else:
        rows = vae.inverse_transform(np.random.default_rng(0).normal(size=(40, 3)))
    assert type(rows) is type(X)
    assert rows.shape == (40, 5)
    assert schema(rows) == schema(X)
    table = nw.from_native(rows)
    for name in table.columns:
        assert table[name].null_count() == 0
    assert set(table["island"].to_list()) <= {"Biscoe", "Dream", "Torgersen"}
    assert set(table["flag"].to_list()) <= {True, False}
    assert np.isfinite(table["mass"].to_numpy()).all()


def test_default_sample_is_one_row(mixed_vae):
    row = mixed_vae.sample(random_state=3)
    assert len(row) == 1
    assert row.equals(mixed_vae.sample(1, random_state=3))


def test_sample_posterior(fitted):
    vae, X = fitted
    draws = vae.sample_posterior(X, n_draws=400, random_state=0)
    assert draws.shape == (400, 60, 3)
    assert draws.dtype == np.float32
    # the draws scatter around the posterior means, each in its own place
    error = draws.std(axis=0, ddof=1) / 20
    assert (error > 0).all()
    assert np.abs((draws.mean(axis=0) - vae.transform(X)) / error).max() < 5
    noise = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    correlation = np.corrcoef(noise[:, 0, 0], noise[:, 1, 0])[0, 1]
    assert abs(correlation) < 0.2


def test_scores(fitted):
    vae, X = fitted
    scores = vae.score_samples(X)
    assert scores.shape == (60,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert vae.score(X) == pytest.approx(scores.mean(), rel=1e-6)
    weights = np.arange(60)
    expected = np.average(scores, weights=weights)
    assert vae.score(X, sample_weight=weights) == pytest.approx(expected, rel=1e-6)
    assert isinstance(vae.score(X), float)


def test_containers_give_equal_results(mixed_table):
    vae = VAETransformer(n_components=3, max_iter=3, random_state=0)
    latents, scores = [], []
    for container in CONTAINERS:
        X = mixed_table(container)
        latents.append(vae.fit(X).transform(X))
        scores.append(vae.score_samples(X))
    for others in (latents, scores):
        np.testing.assert_allclose(others[1], others[0], atol=1e-4)
        np.testing.assert_allclose(others[2], others[0], atol=1e-4)


def test_an_array_comes_back_as_an_array(numbers):
    X = numbers.astype(np.float32)
    vae = VAETransformer(max_iter=2, random_state=0).fit(X)
    assert vae.n_components_ == 4
    rows = vae.sample(3, random_state=0)
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (3, 5)
    assert rows.dtype == np.float32
    assert not hasattr(vae, "feature_names_in_")


def test_samples_look_like_the_table(numbers):
    vae = VAETransformer(random_state=0, max_iter=60).fit(numbers)
    rows = vae.sample(2000, random_state=1)
    scale = numbers.std(axis=0)
    assert np.abs((rows.mean(axis=0) - numbers.mean(axis=0)) / scale).max() < 0.4
    gap = np.corrcoef(rows.T) - np.corrcoef(numbers.T)
    assert np.abs(gap).max() < 0.25


def test_reconstructions_beat_the_means(numbers):
    vae = VAETransformer(2, max_iter=60, random_state=0).fit(numbers)
    error = numbers - vae.inverse_transform(vae.transform(numbers))
    assert error.var() < 0.3 * numbers.var(axis=0).mean()


def test_feature_names_out(mixed_vae):
    names = mixed_vae.get_feature_names_out()
    assert names.tolist() == ["vaetransformer0", "vaetransformer1", "vaetransformer2"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(mixed_table, library):
    X = mixed_table("pandas").iloc[::-1]
    vae = VAETransformer(n_components=3, max_iter=2, random_state=0)
    plain = vae.fit(X).transform(X)
    vae.set_output(transform=library)
    for frame in (vae.transform(X), vae.fit_transform(X)):
        assert type(frame).__module__.split(".")[0] == library
        assert list(frame.columns) == vae.get_feature_names_out().tolist()
        np.testing.assert_array_equal(frame.to_numpy(), plain)
    if library == "pandas":
        assert frame.index.equals(X.index)
        assert (frame.dtypes == np.float32).all()
    # what set_output gives goes back in
    assert vae.inverse_transform(frame).shape == X.shape


# -- inside scikit-learn -------------------------------------------------------------


def test_search_over_components_by_its_own_score(numbers):
    vae = VAETransformer(max_iter=3, random_state=0)
    search = GridSearchCV(vae, {"n_components": [1, 2]}, cv=2).fit(numbers)
    assert search.best_params_["n_components"] == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score(numbers) == search.best_estimator_.score(numbers)


def test_search_with_a_classifier(mixed_table):
    X = mixed_table()
    y = X["mass"].fillna(40).to_numpy() > 48
    vae = VAETransformer(max_iter=20, early_stopping=False, random_state=0)
    pipeline = make_pipeline(vae, LogisticRegression())
    grid = {"vaetransformer__n_components": [1, 4]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.7


# -- missing cells and odd columns ---------------------------------------------------


def test_missing_cells_only_after_training(numbers):
    vae = VAETransformer(max_iter=5, random_state=0).fit(numbers)
    X = numbers[:6].copy()
    X[np.arange(5), np.arange(5)] = np.nan
    assert np.isfinite(vae.transform(X)).all()
    scores = vae.score_samples(X)
    assert np.isfinite(scores).all()
    # the complete row is as before
    assert scores[5] == pytest.approx(vae.score_samples(numbers[:6])[5], rel=1e-5)
    assert np.isfinite(vae.inverse_transform(vae.transform(X))).all()


def test_missing_cells_are_integrated_out():
    # p(x1) of a linear model is a Normal with the column's own mean and variance
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + [1.0, 2.0, 3.0]
    X[rng.random(X.shape) < 0.2] = np.nan
    vae = VAETransformer(2, hidden_layer_sizes=(), max_iter=60, random_state=0).fit(X)
    one = np.array([[np.nan, 2.5, np.nan]])
    column = X[:, 1][~np.isnan(X[:, 1])]
    mean, variance = column.mean(), column.var()
    expected = -0.5 * np.log(2 * np.pi * variance) - (2.5 - mean) ** 2 / (2 * variance)
    assert vae.score_samples(one, 5_000)[0] == pytest.approx(expected, abs=0.15)


def test_a_row_without_any_cell(fitted):
    vae, X = fitted
    table = nw.from_native(X)
    nothing = table.select(
        nw.when(nw.col(name) != nw.col(name)).then(nw.col(name)).alias(name)
        for name in table.columns
    )
    row = nothing.head(1).to_native()
    assert np.isfinite(vae.transform(row)).all()
    # the probability of nothing in particular is 1
    assert vae.score_samples(row, 2_000)[0] == pytest.approx(0, abs=0.3)


def test_one_row_is_as_the_same_row_among_others(fitted, calls):
    vae, X = fitted
    one = nw.from_native(X)[7:8].to_native()
    for method in ("transform", "score_samples"):
        alone, among = calls[method](vae, one), calls[method](vae, X)[7:8]
        np.testing.assert_allclose(alone, among, rtol=1e-4, atol=1e-5)
    assert vae.sample_posterior(one, 2).shape == (2, 1, 3)


def test_constant_and_empty_columns(mixed_table):
    X = mixed_table().assign(constant=7.5, only="a", empty=np.nan)
    X = X.astype({"only": "category"})
    vae = VAETransformer(max_iter=3, random_state=0).fit(X)
    rows = vae.sample(5, random_state=0)
    assert (rows["constant"] == 7.5).all()
    assert (rows["only"] == "a").all()
    assert rows["empty"].isna().all()
    assert list(rows.columns) == list(X.columns)
    # they say nothing about a row
    scores = vae.score_samples(X)
    assert np.isfinite(scores).all()
    changed = X.assign(constant=8.0, empty=1.0)
    np.testing.assert_array_equal(vae.score_samples(changed), scores)


def test_nothing_but_constants():
    X = np.full((20, 3), 2.0)
    vae = VAETransformer(max_iter=2, random_state=0).fit(X)
    assert np.isfinite(vae.transform(X)).all()
    assert np.isfinite(vae.score(X))
    np.testing.assert_array_equal(vae.sample(4), X[:4])


@pytest.mark.parametrize("method", ["transform", "score_samples", "sample_posterior"])
def test_unknown_categories_are_missing_with_one_warning(fitted, calls, method):
    vae, X = fitted
    table = nw.from_native(X).with_columns(nw.col("island").cast(nw.String))
    missing = table.with_columns(nw.lit(None, nw.String).alias("island")).to_native()
    unknown = table.with_columns(nw.lit("Atlantis").alias("island")).to_native()
    with pytest.warns(UserWarning, match="'island': 'Atlantis'") as record:
        found = calls[method](vae, unknown)
    assert len(record) == 1
    np.testing.assert_array_equal(found, calls[method](vae, missing))


@pytest.mark.parametrize(
    "table",
    {
        "repeated": lambda a: np.repeat(a, 2, axis=1),
        "collinear": lambda a: a[:, :1] * [1.0, -2.0, 3.0, 0.5],
        "wide": lambda a: np.resize(a, (8, 37)),
        "constant": lambda a: np.ones((20, 3)),
        "hardly any variation": lambda a: np.eye(40, 3, k=-3),
        "hardly any cell": lambda a: np.where(np.abs(a) < 2, np.nan, a),
        "two rows": lambda a: a[:2],
        "three rows": lambda a: a[:3],
    }.items(),
    ids=lambda item: item[0],
)
def test_odd_tables_give_no_warning(table):
    X = table[1](np.random.default_rng(0).normal(size=(100, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = VAETransformer(max_iter=2, random_state=0).fit(X)
        rows = vae.inverse_transform(vae.transform(X))
        assert np.isfinite(vae.score_samples(X)).all()
    # what the latents say of a row is nearer to it than the means of the columns
    left, variance = np.nanmean((rows - X) ** 2), np.nanvar(X, axis=0).mean()
    assert left < variance or left == variance == 0


def test_one_column():
    X = np.random.default_rng(0).normal(size=(40, 1))
    vae = VAETransformer(max_iter=3, random_state=0).fit(X)
    assert vae.transform(X).shape == (40, 1)
    expected = norm.logpdf(X[:, 0], X.mean(), X.std())
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=0.5)
    assert vae.score(X) == pytest.approx(expected.mean(), abs=0.1)


def test_two_rows(numbers):
    """They are told apart, and other rows are new."""
    vae = VAETransformer(max_iter=2, random_state=0).fit(numbers[:2])
    rows = vae.inverse_transform(vae.transform(numbers[:2]))
    np.testing.assert_allclose(rows, numbers[:2], atol=1e-3)
    assert vae.score_samples(numbers[2:]).max() < vae.score_samples(numbers[:2]).min()


def test_many_components(numbers):
    """Latents beyond the number of columns stay unused, and cost nothing."""
    vae = VAETransformer(n_components=9, max_iter=2, random_state=0).fit(numbers)
    assert vae.transform(numbers).shape == (80, 9)
    assert 0 < vae.history_["active_units"].max() <= 5
    few = VAETransformer(n_components=5, max_iter=2, random_state=0).fit(numbers)
    assert vae.score(numbers) == pytest.approx(few.score(numbers), abs=0.1)


# -- nothing else changes ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_not_modified(numbers, calls, dtype, order):
    X = np.array(numbers, dtype=dtype, order=order)
    X[0, 0] = np.nan
    X.flags.writeable = False
    before = X.copy()
    weights = np.arange(80.0)
    weights.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = VAETransformer(max_iter=2, random_state=0).fit(X, sample_weight=weights)
        vae.partial_fit(X, sample_weight=weights)
        for call in calls.values():
            call(vae, X)
        Z = vae.transform(X)
        Z.flags.writeable = False
        before_decoding = Z.copy()
        vae.inverse_transform(Z)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(Z, before_decoding)
    np.testing.assert_array_equal(weights, np.arange(80))


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_are_not_modified(mixed_table, calls, container):
    X = mixed_table(container)
    vae = VAETransformer(n_components=3, max_iter=2, random_state=0).fit(X)
    for call in calls.values():
        call(vae, X)
    expected = mixed_table(container)
    assert schema(X) == schema(expected)
    assert X.equals(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_latents_are_not_modified(mixed_vae, dtype):
    Z = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    Z.flags.writeable = False
    before = Z.copy()
    torch.set_warn_always(True)  # else torch warns of read-only arrays only once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mixed_vae.inverse_transform(Z)
    finally:
        torch.set_warn_always(False)
    np.testing.assert_array_equal(Z, before)
