"""The multivariate normal: EM on incomplete rows, conditionals and draws."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from skvae import VAEImputer
from skvae._imputation.em import ExpectationMaximisation
from skvae._imputation.gaussian import Gaussian
from skvae._imputation.settings import SETTINGS, Settings
from skvae._training.progress import Progress

# EM without shrinkage, until nothing changes
EXACT = Settings(ridge=0.0, em_iterations=500, fold_iterations=500, em_tolerance=1e-9)


def make_rows(n_rows=200, n_columns=4, rate=0.3, seed=0):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(n_columns, n_columns))
    mean, covariance = rng.normal(size=n_columns), loadings @ loadings.T + np.eye(4)
    x = rng.multivariate_normal(mean, covariance / 4, size=n_rows)
    mask = rng.random(x.shape) > rate
    return x, mask.astype(float)


def as_tensors(*arrays):
    return [torch.tensor(array, dtype=torch.float64) for array in arrays]


def fitted(x, mask, weight=None, settings=SETTINGS):
    gaussian = Gaussian(x.shape[1], settings).double()
    tensors = as_tensors(x, mask) + ([] if weight is None else as_tensors(weight))
    trace = gaussian.fit(*tensors)
    return gaussian, np.array(trace)


def normal_density(row, mean, covariance):
    return multivariate_normal(mean, covariance).logpdf(row) if len(row) else 0.0


def log_likelihood(x, mask, mean, covariance):
    """Mean log-density of the given cells, one row after another."""
    rows = [
        normal_density(row[given], mean[given], covariance[np.ix_(given, given)])
        for row, given in zip(x, mask > 0, strict=True)
    ]
    return np.array(rows)


# -- fit -----------------------------------------------------------------------------


def test_without_missing_cells_it_is_mean_and_covariance():
    x, _ = make_rows()
    gaussian, _ = fitted(x, np.ones_like(x), settings=EXACT)
    np.testing.assert_allclose(gaussian.mean, x.mean(axis=0), atol=1e-10)
    covariance = np.cov(x.T, bias=True)
    # a ridge of a millionth keeps the matrix invertible
    np.testing.assert_allclose(gaussian.covariance, covariance, atol=1e-5)


def test_ridge():
    """The diagonal grows with columns by rows, so small tables are shrunk more."""
    x, _ = make_rows(40)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    gaussian, _ = fitted(x, np.ones_like(x))
    ridge = SETTINGS.ridge * 4 / 40 + 1e-6
    expected = np.cov(x.T, bias=True) + ridge * np.eye(4)
    np.testing.assert_allclose(gaussian.covariance, expected, atol=1e-8)


def test_weights_are_repeated_rows():
    x, mask = make_rows(60)
    times = np.arange(60) % 3
    weighted, _ = fitted(x, mask, times, EXACT)
    rows = x.repeat(times, axis=0), mask.repeat(times, axis=0)
    repeated, _ = fitted(*rows, settings=EXACT)
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=1e-6)
    np.testing.assert_allclose(weighted.covariance, repeated.covariance, atol=1e-6)


def test_every_iteration_raises_the_likelihood():
    x, mask = make_rows()
    gaussian, trace = fitted(x, mask, settings=EXACT)
    assert len(trace) > 5
    assert (np.diff(trace) > -1e-9).all()
    mean, covariance = gaussian.mean.numpy(), gaussian.covariance.numpy()
    reached = log_likelihood(x, mask, mean, covariance).mean()
    assert reached == pytest.approx(trace[-1], abs=1e-4)


def test_em_finds_the_maximum():
    """A direct search over Cholesky factors finds no better normal."""
    x, mask = make_rows(40)
    x, mask = x[:, :2], mask[:, :2]
    gaussian, trace = fitted(x, mask, settings=EXACT)

    def loss(parameters):
        factor = np.array(
            [[np.exp(parameters[2]), 0], [parameters[3], np.exp(parameters[4])]]
        )
        return -log_likelihood(x, mask, parameters[:2], factor @ factor.T).mean()

    best = minimize(loss, np.zeros(5), method="BFGS")
    assert trace[-1] == pytest.approx(-best.fun, abs=1e-5)
    np.testing.assert_allclose(gaussian.mean, best.x[:2], atol=1e-3)


def test_values_of_missing_cells_do_not_matter():
    x, mask = make_rows()
    expected, _ = fitted(x, mask)
    found, _ = fitted(np.where(mask > 0, x, 1e9), mask)
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.covariance, expected.covariance)


def test_rows_in_chunks():
    x, mask = make_rows()
    weight = 1 + np.arange(200) % 2
    expected, _ = fitted(x, mask, weight)
    found, _ = fitted(x, mask, weight, Settings(solve_floats=16 * 7))
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-12)


@pytest.mark.parametrize(
    "case", ["constant", "copy", "empty column", "empty row", "two"]
)
def test_degenerate_tables(case):
    x, mask = make_rows()
    if case == "constant":
        x[:, 1] = 3.0
    elif case == "copy":
        x[:, 1] = x[:, 0]
    elif case == "empty column":
        mask[:, 1] = 0
    elif case == "empty row":
        mask[:5] = 0
    else:
        x, mask = x[:2], mask[:2]
    gaussian, trace = fitted(x, mask)
    assert np.isfinite(trace).all()
    assert torch.linalg.eigvalsh(gaussian.covariance).min() > 0
    filled = gaussian.condition(*as_tensors(x, mask))
    assert torch.isfinite(filled).all()


# -- normals without a fold ----------------------------------------------------------


def fold_fits(x, mask, weight, fold, n_folds, settings=SETTINGS):
    gaussian, _ = fitted(x, mask, weight, settings)
    tensors = as_tensors(x, mask, weight)
    gaussian.fit_folds(*tensors, torch.tensor(fold), n_folds)
    return gaussian


def test_folds_are_fitted_without_their_rows():
    x, mask = make_rows()
    weight = 1 + np.arange(200) % 2
    fold = np.arange(200) % 4 - 1  # -1 belongs to none
    gaussian = fold_fits(x, mask, weight, fold, 3, EXACT)
    for k in range(3):
        others = fold != k
        expected, _ = fitted(x[others], mask[others], weight[others], EXACT)
        mean, covariance = gaussian.folds.means[k], gaussian.folds.covariances[k]
        np.testing.assert_allclose(mean, expected.mean, atol=1e-6)
        np.testing.assert_allclose(covariance, expected.covariance, atol=1e-5)
    assert torch.equal(gaussian.folds.means[-1], gaussian.mean)
    assert torch.equal(gaussian.folds.covariances[-1], gaussian.covariance)


def test_few_iterations_are_enough():
    x, mask = make_rows(400)
    fold = np.arange(400) % 8
    gaussian = fold_fits(x, mask, np.ones(400), fold, 8)
    for k in range(8):
        expected, _ = fitted(x[fold != k], mask[fold != k])
        found = gaussian.folds.covariances[k]
        np.testing.assert_allclose(found, expected.covariance, atol=0.01)


def test_rows_are_conditioned_by_the_normal_of_their_fold():
    x, mask = make_rows()
    fold = np.arange(200) % 4 - 1
    gaussian = fold_fits(x, mask, np.ones(200), fold, 3)
    tensors, folds = as_tensors(x, mask), torch.tensor(fold)
    filled = gaussian.condition(*tensors, folds)
    columns = torch.arange(4)
    deviation = gaussian.deviation(tensors[1], columns, folds)
    plain = gaussian.condition(*tensors)
    for k in range(-1, 3):
        rows = folds == k
        alone = Gaussian(4).double()
        alone.mean.copy_(gaussian.folds.means[k])
        alone.covariance.copy_(gaussian.folds.covariances[k])
        part = [t[rows] for t in tensors]
        torch.testing.assert_close(filled[rows], alone.condition(*part))
        torch.testing.assert_close(deviation[rows], alone.deviation(part[1], columns))
        assert torch.allclose(filled[rows], plain[rows]) == (k == -1)
    gaussian.drop_folds()
    torch.testing.assert_close(gaussian.condition(*tensors, folds), plain)


# -- conditionals --------------------------------------------------------------------


@pytest.fixture
def gaussian():
    model = Gaussian(4).double()
    rng = np.random.default_rng(3)
    loadings = rng.normal(size=(4, 4))
    model.mean.copy_(torch.tensor(rng.normal(size=4)))
    model.covariance.copy_(torch.tensor(loadings @ loadings.T + 0.1 * np.eye(4)))
    return model


def conditional(gaussian, row, given):
    """Mean and covariance of the missing cells, by NumPy."""
    m, s = gaussian.mean.numpy(), gaussian.covariance.numpy()
    gain = s[np.ix_(~given, given)] @ np.linalg.pinv(s[np.ix_(given, given)])
    expected = m[~given] + gain @ (row - m)[given]
    return expected, s[np.ix_(~given, ~given)] - gain @ s[np.ix_(given, ~given)]


def test_condition(gaussian):
    x, mask = make_rows(30)
    filled = gaussian.condition(*as_tensors(x, mask)).numpy()
    for row, given, found in zip(x, mask > 0, filled, strict=True):
        np.testing.assert_array_equal(found[given], row[given])
        expected, _ = conditional(gaussian, row, given)
        np.testing.assert_allclose(found[~given], expected, atol=1e-9)


def test_deviation(gaussian):
    """Against the dense conditional covariance; given cells have the marginal one."""
    x, mask = make_rows(30)
    mask[0] = 0
    columns = torch.tensor([0, 3, 1])
    found = gaussian.deviation(*as_tensors(mask), columns).numpy()
    marginal = np.diag(gaussian.covariance.numpy())
    for row, given, deviation in zip(x, mask > 0, found, strict=True):
        variance = marginal.copy()
        if not given.all():
            variance[~given] = np.diag(conditional(gaussian, row, given)[1])
        variance = np.maximum(variance, 1e-3 * marginal)
        np.testing.assert_allclose(deviation, np.sqrt(variance[columns]), rtol=1e-8)


def test_deviation_of_a_copy(gaussian):
    """What is known exactly keeps a deviation that has a logarithm."""
    gaussian.covariance.copy_(torch.ones(4, 4) + 1e-9 * torch.eye(4))
    mask = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    found = gaussian.deviation(mask, torch.arange(1, 4))
    torch.testing.assert_close(found, torch.full_like(found, 1e-3**0.5))


def test_sample(gaussian):
    x, mask = make_rows(3)
    mask[0], mask[1] = [1, 0, 0, 1], [0, 0, 0, 0]
    n_draws = 4_000
    noise = torch.randn(
        n_draws, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    tensors = as_tensors(x, mask)
    draws = torch.stack([gaussian.sample(*tensors, part) for part in noise]).numpy()
    for k, given in enumerate(mask > 0):
        assert (draws[:, k, given] == x[k, given]).all()
        if given.all():
            continue
        expected, left = conditional(gaussian, x[k], given)
        found = draws[:, k, ~given]
        scale = np.sqrt(np.diag(left))
        tolerance = 5 / np.sqrt(n_draws)
        difference = (found.mean(axis=0) - expected) / scale
        np.testing.assert_allclose(difference, 0, atol=tolerance)
        difference = (np.atleast_2d(np.cov(found.T)) - left) / np.outer(scale, scale)
        np.testing.assert_allclose(difference, 0, atol=2 * tolerance)


def test_log_prob(gaussian):
    x, mask = make_rows(30)
    mask[0] = 0
    found = gaussian.log_prob(*as_tensors(x, mask))
    m, s = gaussian.mean.numpy(), gaussian.covariance.numpy()
    np.testing.assert_allclose(found, log_likelihood(x, mask, m, s), atol=1e-9)
    assert found[0] == 0


@pytest.mark.parametrize("with_folds", [False, True])
def test_rows_of_wide_tables_are_conditioned_as_those_of_narrow_ones(with_folds):
    x, mask = (torch.tensor(part, dtype=torch.float32) for part in make_rows(100))
    gaussian = Gaussian(x.shape[1])
    gaussian.fit(x, mask)
    fold = None
    if with_folds:
        fold = torch.arange(100) % 4 - 1
        gaussian.fit_folds(x, mask, torch.ones(100), fold, 3)
    mask[::7] = 1  # rows without a missing cell, and without a given one
    mask[::9] = 0
    expected = gaussian.condition(x, mask, fold)
    gaussian.settings = Settings(wide=0)
    torch.testing.assert_close(gaussian.condition(x, mask, fold), expected)
    for few in (x[:0], x[:1], x[1:4]):
        rows = slice(len(few)) if len(few) != 3 else slice(1, 4)
        part = None if fold is None else fold[rows]
        found = gaussian.condition(x[rows], mask[rows], part)
        torch.testing.assert_close(found, expected[rows])


# -- the end of EM -------------------------------------------------------------------


def test_ctrl_c_keeps_what_em_has_found(monkeypatch):
    tensors = as_tensors(*make_rows())
    expected = Gaussian(4).double()
    trace = expected.fit(*tensors, max_iter=3)
    assert len(trace) == 3
    expect, calls = ExpectationMaximisation._expect, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return expect(self, *args)

    monkeypatch.setattr(ExpectationMaximisation, "_expect", interrupted)
    gaussian, progress = Gaussian(4).double(), Progress()
    with pytest.warns(UserWarning, match="interrupted by user"):
        assert gaussian.fit(*tensors, progress=progress) == trace
    assert torch.equal(gaussian.covariance, expected.covariance)
    assert progress.interrupted


def test_max_iter_bounds_the_imputer_without_layers():
    x, mask = make_rows()
    X = np.where(mask > 0, x, np.nan)
    assert VAEImputer(hidden_layer_sizes=()).fit(X).n_iter_ > 3
    assert VAEImputer(hidden_layer_sizes=(), max_iter=3).fit(X).n_iter_ == 3


def test_ctrl_c_in_the_fits_of_folds_is_known_to_the_fit(monkeypatch):
    x, mask = make_rows()
    gaussian, _ = fitted(x, mask)
    tensors = as_tensors(x, mask, np.ones(len(x)))
    progress = Progress()

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ExpectationMaximisation, "_expect", interrupted)
    fold = torch.arange(len(x)) % 3
    with pytest.warns(UserWarning, match="interrupted by user"):
        gaussian.fit_folds(*tensors, fold, 3, progress=progress)
    assert progress.interrupted
    assert torch.isfinite(gaussian.folds.precisions).all()


# -- matrices that have no Cholesky factor -------------------------------------------

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wide", [0, 24])
def test_a_covariance_that_is_not_positive_definite_is_an_error(device, wide):
    """It is found on every device, also where the matrix is that of some rows alone."""
    gaussian = Gaussian(4, Settings(wide=wide)).to(device)
    gaussian.covariance[0, 1] = gaussian.covariance[1, 0] = 2.0
    mask = torch.zeros(4, 4, device=device)
    mask[:, 2], mask[1::2, :2] = 1, 1
    mask[1::2, 2] = 0
    columns = torch.arange(4, device=device)
    with pytest.raises(torch.linalg.LinAlgError, match="2 of 4 covariance matrices"):
        gaussian.deviation(mask, columns)
    with pytest.raises(torch.linalg.LinAlgError, match="not positive definite"):
        gaussian.condition(mask, mask)
    with pytest.raises(torch.linalg.LinAlgError, match="1 of 1 covariance matrices"):
        gaussian.sample(mask, mask, mask)
