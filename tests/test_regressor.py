"""VAERegressor: exact linear answers first, then tables of every kind, then images."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from linear_gaussian import cubature_noise
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from skvae import VAERegressor
from skvae._networks.batch import Batch
from skvae._tables.numpy_table import ArrayTable
from skvae._training.bounds import elbo

N_ROWS, N_FEATURES, N_OUTPUTS, N_FACTORS = 3000, 4, 5, 2


def linear_rows(n_rows, seed):
    """Rows of a linear model with two common factors in the outputs' noise."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(N_FEATURES, N_OUTPUTS))
    loadings = rng.normal(size=(N_FACTORS, N_OUTPUTS))
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, N_FEATURES)) * [1, 2, 0.5, 1] + [0, 1, 0, -3]
    noise = rng.normal(size=(n_rows, N_FACTORS)) @ loadings
    y = X @ weights + noise + 0.5 * rng.normal(size=(n_rows, N_OUTPUTS)) + 2
    covariance = loadings.T @ loadings + 0.25 * np.eye(N_OUTPUTS)
    return X, y, X @ weights + 2, covariance


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
        gradient="stl",  # no noise at the optimum
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
    data = linear._batch(*linear._encoder.encode(ArrayTable(y)), None)
    c = linear._contexts(*linear._encode_features(X))
    data = type(data)(data.x, None, None, c)
    noise = cubature_noise(len(X), N_FACTORS, torch.float32)
    with torch.no_grad():
        bound = elbo(linear._module, data, noise).objective
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
    model.spread_ = np.asarray(spread, dtype=float)
    return model


def test_a_spread_stretches_everything_around_the_mean(table, linear):
    X = table[0][:3]
    wide = with_spread(linear, [2.0, 1, 1, 1, 3])
    mean, deviation = linear.predict(X, return_std=True)
    wide_mean, wide_deviation = wide.predict(X, return_std=True)
    np.testing.assert_array_equal(wide_mean, mean)
    np.testing.assert_allclose(wide_deviation, deviation * wide.spread_)
    draws, wide_draws = (m.sample(X, 20, random_state=0) for m in (linear, wide))
    expected = mean + (draws - mean) * wide.spread_
    np.testing.assert_allclose(wide_draws, expected, atol=1e-4)
    np.testing.assert_array_equal(wide_draws[..., 1:4], draws[..., 1:4])
    for bound, wide_bound in zip(
        linear.predict_interval(X), wide.predict_interval(X), strict=True
    ):
        expected = mean + (bound - mean) * wide.spread_
        np.testing.assert_allclose(wide_bound, expected, atol=1e-4)


def test_the_density_of_a_stretched_output_integrates_to_one(linear):
    wide = with_spread(linear, [2.0, 1, 1, 1, 1])
    grid = np.linspace(-60, 60, 2001)
    outputs = np.full((len(grid), N_OUTPUTS), np.nan)
    outputs[:, 0] = grid  # the others are integrated out, stretched or not
    X = np.zeros((len(grid), N_FEATURES))
    density = np.exp(wide.score_samples(X, outputs).astype(float))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    centre = wide.predict(X[:1])[0, 0]
    deviation = wide.predict(X[:1], return_std=True)[1][0, 0]
    variance = np.trapezoid(density * (grid - centre) ** 2, grid)
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
    data = model._batch(y.astype(np.float32), observed, weight)
    c = model._contexts(*model._encode_features(X))
    model._widen(Batch(data.x, data.observed, data.weight, c))
    np.testing.assert_allclose(model.spread_[:3], [3, 1, 1], rtol=0.15)
    assert model.spread_[3] == 1 < model.spread_[4]
    lower, upper = model.predict_interval(X)
    covered = np.average((lower <= y) & (y <= upper), axis=0, weights=weight)
    assert 0.88 < covered[0] < 0.92


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
        np.testing.assert_array_equal(model.spread_, [1])


# -- what the networks add -----------------------------------------------------------


def wave(n_rows, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n_rows, 2))
    mean = np.sin(2 * X[:, 0]) * X[:, 1]
    return X, mean + 0.1 * rng.normal(size=n_rows), mean


def test_a_curved_mean_is_learned():
    X, y, _ = wave(600, 0)
    vae = VAERegressor(hidden_layer_sizes=(64, 64), max_iter=60, random_state=0)
    X_test, y_test, _ = wave(400, 1)
    assert vae.fit(X, y).score(X_test, y_test) > 0.85
    assert LinearRegression().fit(X, y).score(X_test, y_test) < 0.2


def test_two_answers_are_drawn():
    # y is x or -x: the mean says nothing, draws do
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 2, size=(600, 1))
    sign = rng.choice([-1, 1], size=(600, 1))
    y = sign * X + 0.05 * rng.normal(size=(600, 2))
    vae = VAERegressor(1, hidden_layer_sizes=(32,), max_iter=40, random_state=0)
    draws = vae.fit(X, y).sample([[1.5]], n_draws=500, random_state=0)[:, 0]
    assert np.mean(np.sign(draws[:, 0]) == np.sign(draws[:, 1])) > 0.95
    assert np.abs(draws).mean() == pytest.approx(1.5, abs=0.5)
    assert np.abs(vae.predict([[1.5]])).max() < 0.4


def test_means_of_transformed_outputs_are_means_of_y():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 1))
    y = np.exp(0.5 * X[:, 0] + rng.normal(size=3000))
    vae = VAERegressor(
        hidden_layer_sizes=(), numeric_transform="quantile", max_iter=5, random_state=0
    ).fit(X, y)
    mean, deviation = vae.predict([[0.0]], return_std=True)
    assert mean[0] == pytest.approx(np.exp(0.5), rel=0.2)
    assert deviation[0] == pytest.approx(np.exp(0.5) * np.sqrt(np.e - 1), rel=0.35)


@pytest.mark.parametrize(
    "likelihood", ["normal_heteroscedastic", "student_t", "student_t_heteroscedastic"]
)
def test_likelihoods_of_numbers(likelihood):
    X, y, _ = wave(200, 0)
    vae = VAERegressor(likelihood=likelihood, max_iter=3, random_state=0).fit(X, y)
    mean, deviation = vae.predict(X, return_std=True)
    assert np.isfinite(mean).all() and (deviation > 0).all()
    draws = vae.sample(X[:1], n_draws=4000, random_state=0)
    assert draws.std() == pytest.approx(deviation[0], rel=0.25)


def test_counts_and_rates():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = np.column_stack([rng.poisson(np.exp(X[:, 0])), rng.random(400) < 0.3])
    heads = {0: "poisson", 1: "bernoulli"}
    vae = VAERegressor(likelihood=heads, max_iter=30, random_state=0).fit(X, y)
    assert vae.likelihood_ == {"y0": "poisson", "y1": "bernoulli"}
    mean = vae.predict([[1.0, 0], [-1.0, 0]])
    assert mean[0, 0] > 2 * mean[1, 0]
    assert mean[:, 1] == pytest.approx(0.3, abs=0.15)
    for temperature in (0.0, 0.5, 1.0):
        draws = vae.sample(X, 2, temperature=temperature, random_state=0)
        assert draws.dtype == y.dtype and draws.min() >= 0


# -- containers ----------------------------------------------------------------------


def one_output(container, y):
    if container == "list":
        return y.tolist()
    if container == "pandas":
        return pd.Series(y, name="price")
    if container == "polars":
        return pytest.importorskip("polars").Series("price", y)
    if container == "pyarrow":
        return pytest.importorskip("pyarrow").chunked_array([y])
    return y


@pytest.mark.parametrize("container", ["array", "list", "pandas", "polars", "pyarrow"])
def test_one_output_in_one_dimension(container):
    X, y, _ = wave(80, 0)
    outputs = one_output(container, y)
    vae = VAERegressor(max_iter=2, random_state=0).fit(X, outputs)
    expected = VAERegressor(max_iter=2, random_state=0).fit(X, y)
    mean, deviation = vae.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, expected.predict(X))
    assert mean.shape == deviation.shape == (80,) and mean.dtype == np.float64
    assert vae.sample(X, 3).shape == (3, 80)
    assert [bound.shape for bound in vae.predict_interval(X)] == [(80,)] * 2
    assert vae.score(X, outputs) == pytest.approx(r2_score(y, mean))
    assert vae.score_samples(X, outputs).shape == (80,)


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
def test_mixed_tables(mixed_table, container):
    outputs = mixed_table(container)
    features = mixed_table(container)
    vae = VAERegressor(max_iter=2, random_state=0).fit(features, outputs)
    predicted = vae.predict(features)
    assert type(predicted) is type(outputs) and predicted.shape == outputs.shape
    for draw in vae.sample(features, 2, temperature=0.7, random_state=0):
        assert type(draw) is type(outputs)
        if container == "pandas":
            assert (draw.dtypes == outputs.dtypes).all()
            assert draw.notna().to_numpy().all()
    lower, upper = vae.predict_interval(features)
    if container == "pandas":
        assert (lower["mass"] <= upper["mass"]).all()
        assert (lower["size"] <= upper["size"]).all()
        assert lower["island"].equals(predicted["island"])
    assert np.isfinite(vae.score_samples(features, outputs)).all()
    with pytest.raises(ValueError, match=r"return_std needs numeric outputs.*'island'"):
        vae.predict(features, return_std=True)
    with pytest.raises(ValueError, match="R² needs numeric outputs"):
        vae.score(features, outputs)


def test_numeric_frames_give_arrays_and_draws_like_them():
    X, y, *_ = linear_rows(100, seed=0)
    frame = pd.DataFrame(y, columns=list("abcde"))
    vae = VAERegressor(max_iter=2, random_state=0).fit(X, frame)
    assert isinstance(vae.predict(X), np.ndarray)
    assert list(vae.likelihood_) == list("abcde")
    (draw,) = vae.sample(X)
    assert list(draw) == list("abcde")
    assert vae.score(X, frame) == pytest.approx(r2_score(y, vae.predict(X)))


def test_missing_and_unknown_features():
    X, y, _ = wave(200, 0)
    X[::4, 0] = np.nan
    vae = VAERegressor(max_iter=3, random_state=0).fit(X, y)
    assert vae._context.masked
    nothing = np.full((2, 2), np.nan)
    assert np.isfinite(vae.predict(nothing)).all()
    # missing for the first time in a new row
    vae = VAERegressor(max_iter=3, random_state=0).fit(X[1::4], y[1::4])
    assert not vae._context.masked
    assert np.isfinite(vae.predict(nothing)).all()
    frame = pd.DataFrame({"kind": ["a", "b"] * 100, "size": X[:, 1]})
    frame = frame.astype({"kind": "category"})
    vae = VAERegressor(max_iter=3, random_state=0).fit(frame, y)
    new = pd.DataFrame({"kind": ["c"], "size": [0.0]}).astype({"kind": "category"})
    with pytest.warns(UserWarning, match="not seen in training"):
        assert np.isfinite(vae.predict(new)).all()


def test_constants():
    X, y, _ = wave(60, 0)
    Y = np.column_stack([y, np.full(60, 7.0)])
    mean, deviation = (
        VAERegressor(max_iter=2, random_state=0).fit(X, Y).predict(X, return_std=True)
    )
    assert (mean[:, 1] == 7).all() and (deviation[:, 1] == 0).all()
    vae = VAERegressor(max_iter=2, random_state=0).fit(np.ones((60, 1)), y)
    assert vae.predict([[1.0]])[0] == pytest.approx(y.mean(), abs=0.2)


# -- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y"),
        (np.zeros((20, 2, 2)), "one- or two-dimensional"),
        (np.full(20, np.nan), "Input y contains NaN only"),
        (
            np.column_stack([np.ones(20), np.full(20, np.nan)]),
            "without any value: 'y1'",
        ),
        (np.r_[np.inf, np.ones(19)], "outputs y: Input y contains infinity"),
        (np.ones(19), "inconsistent numbers of samples"),
    ],
)
def test_outputs_that_cannot_be_used(y, message):
    with pytest.raises(ValueError, match=message):
        VAERegressor(max_iter=1).fit(np.arange(40.0).reshape(20, 2), y)


def test_arguments_that_cannot_be_used():
    X, y, _ = wave(40, 0)
    vae = VAERegressor(max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="coverage must lie between 0 and"):
        vae.predict_interval(X, 1.0)
    with pytest.raises(ValueError, match="n_draws must be an int"):
        vae.sample(X, 0)
    for temperature in (-1, np.nan, np.inf, "hot", True):
        with pytest.raises(ValueError, match="temperature must be a number"):
            vae.sample(X, temperature=temperature)
    with pytest.warns(UserWarning, match="y is None"):
        assert not vae.score_samples(X).any()
    before = vars(vae).copy()
    with pytest.raises(ValueError, match="outputs y"):
        vae.fit(X, np.r_[np.inf, y[1:]])
    assert vars(vae) == before


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 3), {}, "stands for 6 outputs, but y has 16"),
        ((16,), {}, "must be .height, width."),
        ((4, 4), {"likelihood": {0: "bernoulli"}}, "pixels of one kind"),
        ((4, 4), {"numeric_transform": "quantile"}, "pixels of one kind"),
    ],
)
def test_images_that_are_none(shape, options, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        VAERegressor(image_shape=shape, max_iter=1, **options).fit(
            rng.random((30, 4)), rng.random((30, 16))
        )


# -- estimator -----------------------------------------------------------------------


def test_results_do_not_depend_on_neighbours_and_inputs_stay():
    X, y, _ = wave(60, 0)
    kept_X, kept_y = X.copy(), y.copy()
    vae = VAERegressor(max_iter=3, random_state=0).fit(X, y)
    one_by_one = [vae.predict(row[None])[0] for row in X]
    np.testing.assert_allclose(vae.predict(X), one_by_one, rtol=1e-9)
    np.testing.assert_allclose(vae.predict(X.astype(np.float32)), one_by_one, rtol=1e-3)
    np.testing.assert_array_equal(X, kept_X)
    np.testing.assert_array_equal(y, kept_y)


@pytest.mark.parametrize("image", [False, True])
def test_pickles_and_clones_agree(image):
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 4)), rng.random((40, 16))
    shape = (4, 4) if image else None
    vae = VAERegressor(3, image_shape=shape, max_iter=2, random_state=0).fit(X, y)
    state = torch.get_rng_state()
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(loaded.predict(X), vae.predict(X))
    np.testing.assert_array_equal(loaded.score_samples(X, y), vae.score_samples(X, y))
    np.testing.assert_array_equal(
        loaded.sample(X, random_state=1), vae.sample(X, random_state=1)
    )
    again = clone(vae).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), vae.predict(X))
    assert torch.equal(torch.get_rng_state(), state)


def test_warm_start_goes_on():
    X, y, _ = wave(200, 0)
    vae = VAERegressor(max_iter=2, warm_start=True, random_state=0)
    vae.set_params(early_stopping=False).fit(X, y)
    first = vae.score(X, y)
    for _ in range(4):
        vae.fit(X, y)
    assert vae.n_iter_ == 10 and vae.score(X, y) > first


def test_weights_count():
    X, y, _ = wave(100, 0)
    weights = np.arange(100) % 2
    vae = VAERegressor(max_iter=2, random_state=0)
    weighted = vae.fit(X, y, sample_weight=weights).predict(X)
    kept = weights > 0
    np.testing.assert_array_equal(weighted, vae.fit(X[kept], y[kept]).predict(X))
    weighted = vae.score(X, y, sample_weight=weights)
    assert weighted == pytest.approx(vae.score(X[kept], y[kept]))


@pytest.mark.parametrize(
    "options",
    [
        {"latent": "gamma"},
        {"latent": "lognormal"},
        {"latent": "beta"},
        {"latent": "dirichlet", "n_components": 3},
        {"prior": "mixture", "n_prior_components": 3},
        {"prior": "vamp", "n_prior_components": 3},
        {"prior": (1.0, 2.0)},
    ],
)
def test_latent_families_and_priors(options):
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 2))
    Y = X @ [[1.0, 0.5], [0.0, 1.0]] + 0.3 * random.normal(size=(120, 2))
    holes = Y.copy()
    holes[::7, 0] = np.nan
    model = VAERegressor(max_iter=15, random_state=0, **options).fit(X, holes)
    assert model.score(X, Y) > 0.5
    assert np.isfinite(model.score_samples(X, holes)).all()
    centre = model.sample(X, 1, temperature=0, random_state=0)
    cool = model.sample(X, 50, temperature=0.5, random_state=0)
    warm = model.sample(X, 50, random_state=0)
    assert np.isfinite(centre).all()
    assert cool.std(0).mean() < warm.std(0).mean()
    if options.get("latent", "normal") != "normal":
        with pytest.raises(ValueError, match="leave the range of latent"):
            model.sample(X, 1, temperature=1.5)


# -- what a review found -------------------------------------------------------------


def test_intervals_of_high_coverage(linear):
    X, y, *_ = linear_rows(2000, seed=3)
    widths = []
    for coverage in (0.9, 0.99, 0.999):
        lower, upper = linear.predict_interval(X, coverage)
        covered = ((lower <= y) & (y <= upper)).mean()
        assert covered == pytest.approx(coverage, abs=0.015)
        widths.append((upper - lower).mean())
    assert widths[0] < 0.8 * widths[1] < 0.8 * widths[2]


def test_scores_are_of_the_outputs_of_training():
    X, y, _ = wave(60, 0)
    table = pd.DataFrame({"a": y, "b": -y})
    model = VAERegressor(max_iter=2, random_state=0).fit(X, table)
    score = model.score(X, table)
    with pytest.raises(ValueError, match="outputs y"):
        model.score(X, table[["b", "a"]])
    with pytest.raises(ValueError, match="outputs y"):
        model.score(X, table[["a"]])
    nothing = table.assign(b=np.nan)
    alone = VAERegressor(max_iter=2, random_state=0).fit(X, table).score(X, nothing)
    assert alone > 0 and np.isfinite(score)
    with pytest.raises(ValueError, match="no observed value"):
        model.score(X, table * np.nan)


def test_the_name_of_a_series_does_not_matter():
    X, y, _ = wave(60, 0)
    model = VAERegressor(max_iter=2, random_state=0).fit(X, pd.Series(y, name="a"))
    other = pd.Series(y, name="b")
    assert np.isfinite(model.score_samples(X, other)).all()
    plain = VAERegressor(max_iter=2, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain.score(X, other) == plain.score(X, y)
    assert model.score(X, other) == model.score(X, pd.Series(y, name="a"))


def test_nullable_booleans_are_scored():
    X, y, _ = wave(60, 0)
    flags = pd.Series(np.where(y > 1, None, y > 0), dtype="boolean")
    model = VAERegressor(max_iter=2, random_state=0).fit(X, flags)
    assert np.isfinite(model.score(X, flags))


@pytest.mark.parametrize("likelihood", ["categorical", {0: "categorical"}])
def test_arrays_of_strings(likelihood):
    X = np.random.default_rng(0).normal(size=(60, 1))
    labels = np.where(X[:, 0] > 0, "up", "down")
    with pytest.raises(ValueError, match="give it likelihood='categorical'"):
        VAERegressor(max_iter=2).fit(X, labels)
    model = VAERegressor(likelihood=likelihood, max_iter=30, random_state=0)
    predicted = model.fit(X, labels).predict(X)
    assert (predicted == labels).mean() > 0.8


def test_shares_need_two_latent_variables():
    X, y, _ = wave(60, 0)
    model = VAERegressor(latent="dirichlet", max_iter=2, random_state=0).fit(X, y)
    assert model.n_components_ == 2
    with pytest.raises(ValueError, match="at least 2 with latent='dirichlet'"):
        model.set_params(n_components=1).fit(X, y)


def test_sides_of_images_may_be_numpy_integers():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(30, 16))
    model = VAERegressor(image_shape=np.array([4, 4]), max_iter=1, random_state=0)
    assert model.fit(Y[:, :4], Y).predict(Y[:2, :4]).shape == (2, 16)


def test_frames_have_the_index_of_the_features(mixed_table):
    Y = mixed_table("pandas")
    X = pd.DataFrame({"x": np.arange(len(Y)) * 1.0}, index=[f"r{i}" for i in Y.index])
    model = VAERegressor(max_iter=1, random_state=0).fit(X, Y)
    assert model.predict(X).index.equals(X.index)
    assert model.sample(X)[0].index.equals(X.index)
    assert model.predict_interval(X)[1].index.equals(X.index)
