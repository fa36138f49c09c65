"""VAERegressor: the linear model has exact answers."""

import copy

import numpy as np
import pytest
import torch
from linear_gaussian import cubature_noise
from linear_rows import N_FACTORS, N_FEATURES, N_OUTPUTS, N_ROWS, linear_rows
from scipy.integrate import trapezoid
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from skvae import VAERegressor
from skvae._density.rows import Encoded
from skvae._training.bounds import elbo


@pytest.fixture(scope="module")
def table():
    return linear_rows(N_ROWS, seed=1)


@pytest.fixture(scope="module")
def linear(table):
    """The linear model: isotropic noise in the units of y, so that it is pPCA."""
    X, y, *_ = table
    return VAERegressor(
        N_FACTORS,
        hidden_layer_sizes=(),
        likelihood="normal_isotropic",
        numeric_transform="none",
        early_stopping=False,
        max_iter=150,
        batch_size=1000,
        learning_rate_init=1e-2,
        random_state=0,
    ).fit(X, y)


# -- the linear conditional VAE is a regression with pPCA of the residuals ------------


def test_linear_mean_is_least_squares(table, linear):
    X, y, *_ = table
    expected = LinearRegression().fit(X, y).predict(X)
    np.testing.assert_allclose(linear.predict(X), expected, atol=0.05)


def test_linear_density_is_ppca_of_the_residuals(table, linear):
    X, y, *_ = table
    ols = LinearRegression().fit(X, y)
    residuals = y - ols.predict(X)
    ppca = PCA(N_FACTORS).fit(residuals)
    expected = ppca.score_samples(residuals)
    scores = linear.score_samples(X, y)
    assert scores.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert np.corrcoef(scores, expected)[0, 1] > 0.998
    _, deviation = linear.predict(X[:3], return_std=True)
    expected = np.sqrt(np.diag(ppca.get_covariance()))
    np.testing.assert_allclose(deviation, np.tile(expected, (3, 1)), rtol=0.02)


def test_linear_bound_is_the_exact_likelihood(table, linear):
    X, y, *_ = table
    features = linear._encode_features(X)
    outputs = y.astype(np.float32)  # as they come: numeric_transform is "none"
    data = linear._model.batch(Encoded(linear._encoder, outputs, features=features))
    noise = cubature_noise(len(X), N_FACTORS, torch.float32)
    with torch.no_grad():
        bound = elbo(linear._model.module, data, noise).objective
    evidence = linear.score_samples(X, y)
    # draws of p(z | x) beside those of the exact q(z | y, x) make it vary a little
    assert -0.005 < evidence.mean() - float(bound.mean()) < 0.02


def test_linear_model_is_the_lmmse_estimator(table, linear):
    X, y, mean, covariance = linear_rows(4000, seed=2)
    error = np.square(y - linear.predict(X)).sum(1).mean()
    assert error == pytest.approx(np.trace(covariance), rel=0.03)
    likelihood = multivariate_normal(np.zeros(N_OUTPUTS), covariance).logpdf(y - mean)
    assert linear.score_samples(X, y).mean() == pytest.approx(
        likelihood.mean(), abs=0.02
    )


def test_calibrated_draws_have_twice_the_least_error(linear):
    X, y, *_ = linear_rows(4000, seed=3)
    least = np.square(y - linear.predict(X)).mean()
    for draw in linear.sample(X, n_draws=2, random_state=0):
        assert np.square(y - draw).mean() == pytest.approx(2 * least, rel=0.05)
    # without the noise of the outputs a draw is nearer, at temperature 0 nearest
    latent = linear.sample(X, random_state=0, add_noise=False)[0]
    centre = linear.sample(X, random_state=0, temperature=0.0)[0]
    assert least < np.square(y - latent).mean() < 1.95 * least
    np.testing.assert_allclose(centre, linear.predict(X), atol=1e-3)


def test_draws_have_the_covariance_of_the_residuals(linear):
    X, _, _, covariance = linear_rows(1, seed=4)
    draws = linear.sample(X, n_draws=20_000, random_state=0)[:, 0]
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.25)
    np.testing.assert_allclose(draws.mean(0), linear.predict(X)[0], atol=0.05)


def test_intervals_cover(linear):
    X, y, *_ = linear_rows(2000, seed=5)
    for coverage in (0.5, 0.9):
        lower, upper = linear.predict_interval(X, coverage)
        inside = ((lower <= y) & (y <= upper)).mean()
        assert inside == pytest.approx(coverage, abs=0.03)


def test_the_features_and_the_latents_are_used(linear):
    X, y, *_ = linear_rows(500, seed=6)
    shuffled = np.random.default_rng(0).permutation(X)
    assert linear.score_samples(X, y).mean() > (
        linear.score_samples(shuffled, y).mean() + 5
    )
    assert linear.history_["kl"][-1] > 1


def test_missing_outputs_are_integrated_out(linear):
    X, y, mean, covariance = linear_rows(300, seed=7)
    y[:, 2:] = np.nan
    normal = multivariate_normal(np.zeros(2), covariance[:2, :2])
    expected = normal.logpdf((y - mean)[:, :2])
    # q is exact for complete rows only; draws of the prior make up for the rest
    scores = linear.score_samples(X, y)
    assert scores.mean() == pytest.approx(expected.mean(), abs=0.05)
    y[0] = np.nan
    assert linear.score_samples(X, y)[0] == 0


def test_rows_without_output_are_left_out(table):
    X, y, *_ = table
    X, y = X[:200], y[:200].copy()
    y[::3] = np.nan
    vae = VAERegressor(max_iter=2, random_state=0)
    kept = ~np.isnan(y[:, 0])
    predicted = vae.fit(X, y).predict(X)
    np.testing.assert_array_equal(predicted, vae.fit(X[kept], y[kept]).predict(X))


def test_the_start_is_the_regression_with_missing_outputs(table):
    X, y, *_ = table
    y = y.copy()
    seen = np.random.default_rng(0).random(y.shape) < 0.8
    y[~seen] = np.nan
    vae = VAERegressor(
        N_FACTORS,
        hidden_layer_sizes=(),
        max_iter=1,
        learning_rate_init=1e-6,
        random_state=0,
    )
    predicted = vae.fit(X, y).predict(X)
    for column in range(N_OUTPUTS):
        rows = seen[:, column]
        ols = LinearRegression().fit(X[rows], y[rows, column])
        np.testing.assert_allclose(predicted[:, column], ols.predict(X), atol=0.15)


# -- outputs of rows that were held out widen the distribution -----------------------


def with_spread(model, spread):
    """The model with other factors."""
    model = copy.copy(model)
    model._model.interval_scale = np.asarray(spread, dtype=float)
    return model


def test_a_spread_stretches_everything_around_the_mean(table, linear):
    X = table[0][:3]
    wide = with_spread(linear, [2.0, 1, 1, 1, 3])
    mean, deviation = linear.predict(X, return_std=True)
    wide_mean, wide_deviation = wide.predict(X, return_std=True)
    np.testing.assert_array_equal(wide_mean, mean)
    np.testing.assert_allclose(wide_deviation, deviation * wide._model.interval_scale)
    draws, wide_draws = (m.sample(X, 20, random_state=0) for m in (linear, wide))
    expected = mean + (draws - mean) * wide._model.interval_scale
    np.testing.assert_allclose(wide_draws, expected, atol=1e-4)
    np.testing.assert_array_equal(wide_draws[..., 1:4], draws[..., 1:4])
    for bound, wide_bound in zip(
        linear.predict_interval(X), wide.predict_interval(X), strict=True
    ):
        expected = mean + (bound - mean) * wide._model.interval_scale
        np.testing.assert_allclose(wide_bound, expected, atol=1e-4)


def test_the_density_of_a_stretched_output_integrates_to_one(linear):
    wide = with_spread(linear, [2.0, 1, 1, 1, 1])
    grid = np.linspace(-60, 60, 2001)
    outputs = np.full((len(grid), N_OUTPUTS), np.nan)
    outputs[:, 0] = grid  # the others are integrated out, stretched or not
    X = np.zeros((len(grid), N_FEATURES))
    density = np.exp(wide.score_samples(X, outputs).astype(float))
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    centre = wide.predict(X[:1])[0, 0]
    deviation = wide.predict(X[:1], return_std=True)[1][0, 0]
    variance = trapezoid(density * (grid - centre) ** 2, grid)
    # log p comes from draws, which are few in the tails
    assert variance == pytest.approx(deviation**2, rel=0.05)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_spread_covers_what_was_held_out(linear, weighted):
    """Errors of three deviations in place of one: three times the reach."""
    X, _, mean, covariance = linear_rows(500, seed=7)
    rng = np.random.default_rng(8)
    noise = rng.multivariate_normal(np.zeros(N_OUTPUTS), covariance, size=500)
    y = mean + noise * [3, 1, 0.2, 3, 3]
    weight = rng.uniform(0.1, 2, 500) if weighted else None
    model = with_spread(linear, np.ones(N_OUTPUTS))
    observed = np.ones(y.shape, dtype=bool)
    observed[19:, 3] = observed[20:, 4] = False  # 19 rows decide nothing
    features = model._encode_features(X)
    outputs = y.astype(np.float32)
    data = Encoded(model._encoder, outputs, observed, weight, features=features)
    model._model._calibrate(model._model.batch(data))
    spread = model._model.interval_scale
    np.testing.assert_allclose(spread[:3], [3, 1, 1], rtol=0.15)
    assert spread[3] == 1 < spread[4]
    lower, upper = model.predict_interval(X)
    covered = np.average((lower <= y) & (y <= upper), axis=0, weights=weight)
    # within two standard errors of 375 rows, what 500 of these weights are worth
    assert 0.87 < covered[0] < 0.93


def test_where_nothing_widens():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 30))
    y = X[:, 0] + rng.standard_t(2, size=100)
    options = {"max_iter": 30, "random_state": 0}
    for other in (
        {"early_stopping": False},
        {"numeric_transform": "quantile"},
        {"validation_fraction": 19 / 100},
        {"likelihood": "poisson"},
    ):
        model = VAERegressor(**options | other).fit(X, np.abs(y.round()))
        np.testing.assert_array_equal(model.interval_scale_, [1])


def test_intervals_of_high_coverage(linear):
    X, y, *_ = linear_rows(2000, seed=3)
    widths = []
    for coverage in (0.9, 0.99, 0.999):
        lower, upper = linear.predict_interval(X, coverage)
        covered = ((lower <= y) & (y <= upper)).mean()
        assert covered == pytest.approx(coverage, abs=0.015)
        widths.append((upper - lower).mean())
    assert widths[0] < 0.8 * widths[1] < 0.8 * widths[2]
