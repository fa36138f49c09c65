"""VAEImputer against exact answers of the multivariate normal."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.impute import SimpleImputer

from skvae import VAEImputer
from skvae._imputation.settings import SETTINGS
from skvae._networks.batch import rows_at_once

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
    gaussian = model._model.mean.gaussian
    return in_units(model, gaussian.mean, gaussian.covariance)


def drawn_normals(model):
    """The same for every draw of the parameters."""
    gaussian = model._model.mean.gaussian
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


def test_scores_without_layers_come_in_pieces(linear_model, normal_table):
    X = normal_table[0][:50]
    n_rows = 2 * rows_at_once(X.shape[1] ** 2) + 7
    scores = linear_model.score_samples(np.resize(X, (n_rows, X.shape[1])))
    expected = np.resize(linear_model.score_samples(X), n_rows)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_without_layers_the_normal_is_fitted_to_all_rows():
    """More rows than those that the normal beside networks is fitted to."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(SETTINGS.max_normal_rows + 1_000, 2))
    X[:, 1] += X[:, 0]
    model = VAEImputer(hidden_layer_sizes=(), numeric_transform="standard")
    model.set_params(random_state=0).fit(X)
    found_mean, found = learned_normal(model)
    np.testing.assert_allclose(found_mean, X.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found, np.cov(X.T, ddof=0), rtol=1e-3)
    # draws of the parameters vary by the standard errors of all rows
    means = np.array([mean for mean, _ in drawn_normals(model)])
    expected = np.diag(found) / len(X)
    np.testing.assert_allclose(means.var(axis=0), expected, rtol=0.6)
