"""Draws of cells: every imputed table has its own parameters of the normal."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from skvae import VAEImputer
from skvae._distributions.intervals import repeated_interval, sorted_quantiles
from skvae._imputation.conditional_mean import Rows
from skvae._imputation.gaussian import Gaussian, draw_moments
from skvae._imputation.settings import SETTINGS, Settings

# enough draws of the parameters to tell their variance
MANY = Settings(max_draws=400, max_rounds=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def half_observed(n_rows, seed=0):
    """Two columns; the second, y = 1 + x + noise, is missing in half of the rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_rows)
    X = np.column_stack([x, 1 + x + rng.normal(size=n_rows)])
    X[rng.random(n_rows) < 0.5, 1] = np.nan
    return X


def regression(X):
    """Intercept, slope, residual variance and design of y on x, observed rows."""
    rows = X[~np.isnan(X[:, 1])]
    design = np.column_stack([np.ones(len(rows)), rows[:, 0]])
    coefficients, squares, *_ = np.linalg.lstsq(design, rows[:, 1], rcond=None)
    return coefficients, squares[0] / (len(rows) - 2), design


# -- parameters ----------------------------------------------------------------------


def test_posterior_given_complete_rows():
    n_rows, n_draws = 50, 4_000
    x = torch.randn(n_rows, 3, generator=generator(), dtype=torch.float64)
    x[:, 1] += 2 * x[:, 0]
    weight = torch.ones(n_rows)
    seeded = generator(1)
    draws = [draw_moments(x, weight, seeded, ridge=0.0) for _ in range(n_draws)]
    means = np.array([mean.numpy() for mean, _ in draws])
    covariances = np.array([covariance.numpy() for _, covariance in draws])
    centre, scatter = x.numpy().mean(axis=0), np.cov(x.numpy().T, ddof=0)
    scale = np.sqrt(np.diag(scatter))
    error = 5 / np.sqrt(n_draws)
    # inverse Wishart of n - 1 degrees of freedom, d columns: mean n S / (n - d - 2)
    expected = scatter * n_rows / (n_rows - 5)
    relative = (covariances.mean(axis=0) - expected) / np.outer(scale, scale)
    np.testing.assert_allclose(relative, 0, atol=error * np.sqrt(2 / n_rows))
    variance = 2 * n_rows**2 / ((n_rows - 5) ** 2 * (n_rows - 7))
    found = covariances.var(axis=0).diagonal() / scale**4
    np.testing.assert_allclose(found, variance, rtol=3 * error)
    # the mean given the covariance is normal with a covariance of S / n
    off = (means.mean(axis=0) - centre) / scale
    np.testing.assert_allclose(off, 0, atol=error / np.sqrt(n_rows))
    relative = (np.cov(means.T) * n_rows - expected) / np.outer(scale, scale)
    np.testing.assert_allclose(relative, 0, atol=2 * error)


def test_weights_are_repeated_rows():
    x = torch.randn(20, 3, generator=generator(), dtype=torch.float64)
    weight = 1.0 + torch.arange(20) % 2
    repeated = x.repeat_interleave(weight.long(), 0)
    for ours, theirs in zip(
        draw_moments(x, weight, generator(1), 0.01),
        draw_moments(x, 3 * weight, generator(1), 0.01),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)  # their unit does not matter
    seeded = generator(1)
    centre = torch.stack([draw_moments(x, weight, seeded, 0.01)[0] for _ in range(200)])
    expected = repeated.mean(0)
    torch.testing.assert_close(centre.mean(0), expected, atol=0.08, rtol=0)


@pytest.mark.parametrize(("n_observed", "rel"), [(400, 0.25), (100, 0.4)])
def test_posterior_given_incomplete_rows(n_observed, rel):
    """The mean of y is as uncertain as regression theory predicts.

    Half of y is missing, and then all but an eighth: the chain has to go on from draw
    to draw, as a few rounds from the fit leave most of the variance out.
    """
    X = half_observed(400)
    X[n_observed:, 1] = np.nan
    mask = torch.tensor(~np.isnan(X)).double()
    x = torch.tensor(np.nan_to_num(X))
    gaussian = Gaussian(2, replace(MANY, ridge=0.0)).double()
    gaussian.fit(x, mask)
    gaussian.draw_parameters(x, mask, torch.ones(400), generator())
    coefficients, variance, design = regression(X)
    at_mean = np.array([1, X[:, 0].mean()])
    from_coefficients = at_mean @ np.linalg.inv(design.T @ design) @ at_mean * variance
    from_x = coefficients[1] ** 2 * X[:, 0].var() / 400
    found = gaussian.drawn_means[:, 1].var().item()
    assert found == pytest.approx(from_coefficients + from_x, rel=rel)
    slopes = gaussian.drawn_covariances[:, 0, 1] / gaussian.drawn_covariances[:, 0, 0]
    expected = variance * np.linalg.inv(design.T @ design)[1, 1]
    assert slopes.var().item() == pytest.approx(expected, rel=rel)
    error = np.sqrt(expected)
    assert slopes.mean().item() == pytest.approx(coefficients[1], abs=0.4 * error)


@pytest.mark.parametrize("n_rows", [2, 5, 60])
def test_degenerate_tables(n_rows):
    """Fewer rows than columns, a constant and a copy, a row without any cell."""
    x = torch.randn(n_rows, 8, generator=generator())
    x[:, 1], x[:, 2] = x[:, 0], 0
    mask = (torch.rand(n_rows, 8, generator=generator(1)) < 0.7).float()
    mask[0] = 0
    x = x * mask
    gaussian = Gaussian(8)
    gaussian.fit(x, mask)
    gaussian.draw_parameters(x, mask, torch.ones(n_rows), generator())
    torch.linalg.cholesky(gaussian.drawn_covariances)
    scale = max(1.0, x.abs().max().item())
    for draw in (0, len(gaussian.drawn_means) - 1):
        filled = gaussian.sample(x, mask, torch.zeros_like(x), draw)
        assert torch.equal(filled[mask.bool()], x[mask.bool()])
        assert filled.abs().max() < 10 * scale


def test_wide_tables_have_fewer_draws():
    sizes = [len(Gaussian(n).drawn_means) for n in (0, 3, 90, 128)]
    assert sizes[:2] == [SETTINGS.max_draws] * 2
    assert sizes[2] in range(SETTINGS.min_draws + 1, SETTINGS.max_draws)
    assert sizes[3] == SETTINGS.min_draws


# -- tables --------------------------------------------------------------------------


def test_tables_differ_by_what_the_training_rows_leave_open():
    """The variance of a mean over tables is that of multiple imputation's theory."""
    X = half_observed(300)
    model = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    gaussian = Gaussian(2, MANY)
    data = model._model.batch(model._encode(X))
    gaussian.mean.copy_(model._model.mean.gaussian.mean)
    gaussian.covariance.copy_(model._model.mean.gaussian.covariance)
    model._model.mean.gaussian = gaussian
    rows = Rows(data.x, data.x_original, data.observed, torch.ones(300))
    model._model.mean.draw_parameters(rows, generator())
    tables = model.sample(X, 400, random_state=0)
    found = np.var([table[:, 1].mean() for table in tables])
    _, variance, design = regression(X)
    missing = np.isnan(X[:, 1])
    fraction, at_mean = missing.mean(), np.array([1, X[missing, 0].mean()])
    from_noise = variance * missing.sum() / 300**2
    parameters = at_mean @ np.linalg.inv(design.T @ design) @ at_mean * variance
    expected = fraction**2 * parameters + from_noise
    assert expected > 1.8 * from_noise
    assert found == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("sizes", [(), (8,)])
@pytest.mark.parametrize("missingness", ["mar", "agnostic"])
def test_one_draw_of_the_parameters_for_a_whole_table(sizes, missingness):
    """Like rows are moved by the same amount, and not every table the same way."""
    X = half_observed(200)
    model = VAEImputer(
        hidden_layer_sizes=sizes, missingness=missingness, max_iter=2, random_state=0
    ).fit(X)
    gaussian = model._model.mean.gaussian
    gaussian.drawn_means.zero_()
    gaussian.drawn_means[:, 1] = torch.arange(-10.0, 10) / 2
    gaussian.drawn_covariances.copy_(1e-4 * torch.eye(2))
    far = np.tile([X[:, 0].mean(), np.nan], (500, 1))
    tables = np.array(model.sample(far, 4, random_state=0))[:, :, 1]
    if not sizes:
        assert (tables.std(axis=1) < 0.05 * np.nanstd(X[:, 1])).all()
    moves = tables.mean(axis=1)
    assert np.ptp(moves) > 0.5
    again = np.array(model.sample(far, 4, random_state=0))[:, :, 1]
    np.testing.assert_array_equal(again, tables)
    other = np.array(model.sample(far, 4, random_state=1))[:, :, 1].mean(axis=1)
    assert np.abs(other - moves).max() > 0.1


def test_contexts_follow_the_normal():
    """Estimates and deviations of masked cells move as the normal's do."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    X[:, 3] = X[:, 0] > 0
    X[rng.random(X.shape) < 0.3] = np.nan
    model = VAEImputer(
        hidden_layer_sizes=(8,),
        likelihood={"x3": "bernoulli"},
        numeric_transform="standard",
        max_iter=2,
        random_state=0,
    ).fit(X)
    data, mean = model._model.batch(model._encode(X)), model._model.mean
    shrinkage = torch.tensor([1, 0.5, 0.8])
    mean.shrinkage[mean.columns] = (
        shrinkage  # estimates that stay nearer to the marginal
    )
    with torch.no_grad():
        c = mean.context(data.x, data.x_original, data.observed)
        same, moved = mean.contexts_by_draw(
            c, data.x_original, data.observed, [None, 3]
        )
        assert same is c
        inputs, given = mean.gaussian_inputs(data.x_original, data.observed)
        old = mean.gaussian.condition(inputs, given)
        new = mean.gaussian.condition(inputs, given, draw=3)
    numbers = mean.columns
    expected = shrinkage * (new - old)[:, mean.indices.locations]
    found = (moved - c)[:, mean.outputs]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found[~data.observed[:, numbers]] != 0).all()
    assert (found[data.observed[:, numbers]] == 0).all()
    n_outputs, n_deviations = mean.joint.n_outputs, len(mean.indices.locations)
    between = slice(n_outputs, -n_deviations)
    assert torch.equal(moved[:, between], c[:, between])
    gaussian, indices = mean.gaussian, mean.indices.locations
    ratio = gaussian.deviation(given, indices, draw=3) / gaussian.deviation(
        given, indices
    )
    found = (moved - c)[:, -n_deviations:]
    torch.testing.assert_close(found, ratio.log(), atol=1e-5, rtol=0)
    assert found.abs().max() > 0.01


def test_parameters_survive():
    X = half_observed(60)
    model = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(X)
    loaded = pickle.loads(pickle.dumps(model))
    ours, theirs = model._model.mean.gaussian, loaded._model.mean.gaussian
    assert torch.equal(ours.drawn_means, theirs.drawn_means)
    assert torch.equal(ours.drawn_covariances, theirs.drawn_covariances)
    assert len(torch.unique(ours.drawn_means, dim=0)) == SETTINGS.max_draws


# -- intervals -----------------------------------------------------------------------


def test_intervals_without_repeated_values_are_the_usual_quantiles():
    x = np.random.default_rng(0).normal(size=(99, 50))
    for coverage in (0.5, 0.8, 0.9):
        levels = [(1 - coverage) / 2, (1 + coverage) / 2]
        expected = sorted_quantiles(x, levels)
        np.testing.assert_allclose(repeated_interval(x, coverage), expected)


@pytest.mark.parametrize(("mean", "slack"), [(2, 0.08), (20, 0.04), (200, 0.03)])
def test_coverage_of_repeated_values_is_near(mean, slack):
    rng = np.random.default_rng(0)
    x, truth = rng.poisson(mean, (99, 4_000)), rng.poisson(mean, 4_000)
    for coverage in (0.5, 0.9):
        lower, upper = repeated_interval(x.astype(float), coverage)
        covered = ((lower <= truth) & (truth <= upper)).mean()
        assert abs(covered - coverage) < slack


def test_ends_are_the_values_nearest_in_probability():
    x = np.repeat([0.0, 1, 2, 3], [10, 40, 30, 19])[:, None]
    # 50%: 10 draws below 1 and 50 up to it, of 25; 19 above 2 of 25
    np.testing.assert_array_equal(repeated_interval(x, 0.5)[:, 0], [1, 2])
    np.testing.assert_array_equal(repeated_interval(x, 0.9)[:, 0], [0, 3])
    constant = np.zeros((99, 1))
    np.testing.assert_array_equal(repeated_interval(constant, 0.5), [[0], [0]])
    two = np.repeat([0.0, 1], [50, 49])[:, None]  # neither end may pass the other
    lower, upper = repeated_interval(two, 0.1)
    assert lower <= upper


def test_ends_of_columns_that_repeat_values_are_values():
    rng = np.random.default_rng(0)
    common = rng.normal(size=200)
    X = np.column_stack([common, np.round(2 * common + rng.normal(size=200)) / 2])
    X[rng.random(X.shape) < 0.2] = np.nan
    model = VAEImputer(hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X)
    known = np.unique(X[~np.isnan(X[:, 1]), 1])
    for bound in model.predict_interval(X, coverage=0.5):
        assert np.isin(bound[:, 1].astype(np.float32), known.astype(np.float32)).all()


def test_new_rows_depend_as_the_rows_of_the_table_do():
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    X = np.column_stack([a, np.sin(2 * a) + 0.1 * rng.normal(size=400), a**2])
    X[rng.random(X.shape) < 0.1] = np.nan
    model = VAEImputer(max_iter=40, random_state=0).fit(X)
    drawn = model.sample(np.full((500, 3), np.nan), n_draws=2, random_state=0)
    for table in drawn:
        residual = table[:, 1] - np.sin(2 * table[:, 0])
        assert np.median(np.abs(residual)) < 0.35  # 0.7 of independent columns
        # ranks: a few large squares would decide a correlation of values
        assert spearmanr(table[:, 0] ** 2, table[:, 2])[0] > 0.5  # else within 0.2
    assert not np.array_equal(*drawn)
