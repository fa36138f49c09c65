"""The negative binomial head against scipy, the Poisson and its gamma mixture."""

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from skvae._distributions.discrete import (
    LARGEST_INITIAL_DISPERSION,
    LOG_DISPERSION_RANGE,
)
from skvae._distributions.registry import LIKELIHOODS, make_head

DISPERSIONS = [1e-3, 0.03, 1.0, 7.9, 40.0, 1e3, 1e6]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def head_of(r, dtype=torch.float64):
    head = make_head("negative_binomial", 1, 0).to(dtype)
    with torch.no_grad():
        head.log_dispersion.fill_(np.log(r))
    return head


def log_probability(x, r, mean):
    """In float64, where log-gammas may cancel; scipy's 1 - p loses small means."""
    nats = special.gammaln(x + r) - special.gammaln(r) - special.gammaln(x + 1)
    return nats - x * np.log1p(r / mean) - r * np.log1p(mean / r)


def test_the_reference_is_that_of_scipy():
    x, r, mean = np.arange(20), 1.7, 4.0
    exact = stats.nbinom.logpmf(x, r, r / (r + mean))
    np.testing.assert_allclose(log_probability(x, r, mean), exact)


def cells(log_mean, dtype):
    """Counts small, near the mean and far from it, with their decoder outputs."""
    near = np.exp(log_mean) * np.array([0.1, 0.5, 0.9, 1.0, 1.1, 2.0])
    some = [0, 1, 2, 3, 7, 8, 9, 20, 1e3, 1e6]
    x = np.unique(np.append(some, near.round()).clip(0, 1e6))
    outputs = torch.full((len(x), 1), log_mean, dtype=dtype, requires_grad=True)
    return outputs, torch.tensor(x, dtype=dtype).unsqueeze(-1)


@pytest.mark.parametrize("log_mean", [-8.0, -1.0, 2.0, 6.0, 13.0])
@pytest.mark.parametrize("r", DISPERSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_and_gradients_are_accurate(dtype, r, log_mean):
    head, (outputs, x) = head_of(r, dtype), cells(log_mean, dtype)
    found = head.log_prob(outputs, x)
    by_output, by_dispersion = torch.autograd.grad(
        found.sum(), [outputs, head.log_dispersion]
    )
    r, mean, count = head.dispersion().item(), np.exp(log_mean), x.double().numpy()
    exact = log_probability(count, r, mean)
    # float32 knows the mean to its seventh digit, which moves a count's deviation by
    # as much; of float64 the reference loses some
    digits = 1e-6 if dtype == torch.float32 else 1e-12
    error = digits * (1 + np.abs(count - mean) + np.abs(exact)) + 1e-7
    assert (np.abs(found.detach().numpy() - exact) <= error).all()
    slope = (count - mean) * r / (r + mean)
    error = 2 * digits * (1 + np.abs(slope) + mean)
    assert (np.abs(by_output.numpy() - slope) <= error).all()
    share = special.digamma(count + r) - special.digamma(r) - np.log1p(mean / r)
    slope = float((r * (share + (mean - count) / (r + mean))).sum())
    assert by_dispersion.item() == pytest.approx(slope, rel=2e-5, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_limit(dtype):
    outputs = torch.full((8, 1), 1.0, dtype=dtype)
    x = torch.arange(8).to(dtype).unsqueeze(-1)
    poisson = make_head("poisson", 1, 0).to(dtype).log_prob(outputs, x)
    nearest = head_of(1e6, dtype).log_prob(outputs, x)
    torch.testing.assert_close(nearest, poisson, rtol=0, atol=1e-5)
    # the first term of the difference in 1 / r
    r, mean = 1e4, np.e
    difference = (head_of(r, dtype).log_prob(outputs, x) - poisson).detach()
    expected = ((x - mean).square() - x) / (2 * r)
    torch.testing.assert_close(difference, expected, rtol=2e-3, atol=2e-6)


def test_gamma_mixture_of_poissons():
    r, mean = 0.7, 3.0
    head, outputs = head_of(r), torch.full((6, 1), np.log(mean), dtype=torch.float64)
    counts = torch.arange(6.0, dtype=torch.float64).unsqueeze(-1)
    found = head.log_prob(outputs, counts).exp().detach().squeeze(-1)
    rates = stats.gamma(r, scale=mean / r)

    def mixture(count):
        # over probabilities: the density of a small rate has no bound
        return integrate.quad(
            lambda p: stats.poisson.pmf(count, rates.ppf(p)), 0, 1, limit=400
        )[0]

    expected = [mixture(count) for count in range(6)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("r", [1e-3, 0.05, 2.0, 1e6])
def test_moments_of_draws(r):
    head = head_of(r, torch.float32)
    outputs = torch.full((200_000, 1), np.log(5.0))
    with torch.no_grad():
        draws = head.sample(outputs, generator(1)).double()
        point, variance = head.point_estimate(outputs)[0], head.variance(outputs)[0]
    assert point.item() == pytest.approx(5, rel=1e-6)
    assert variance.item() == pytest.approx(5 + 25 / r, rel=1e-5)
    assert torch.equal(draws, draws.round()) and draws.min() >= 0
    error = float(draws.std()) / len(draws) ** 0.5
    assert abs(float(draws.mean()) - 5) < 4.5 * error
    squares = (draws - 5).square()
    error = float(squares.std()) / len(draws) ** 0.5
    assert abs(float(squares.mean()) - variance.item()) < 4.5 * error
    # the spike at 0, which moments say little of
    at_zero = stats.nbinom.pmf(0, r, r / (r + 5))
    error = np.sqrt(at_zero * (1 - at_zero) / len(draws))
    assert abs(float((draws == 0).double().mean()) - at_zero) < 4.5 * error + 1e-5


def test_draws_of_wild_means_are_counts():
    head, outputs = head_of(1e-3, torch.float32), torch.full((20_000, 1), 1e4)
    with torch.no_grad():
        draws = head.sample(outputs, generator())
    assert torch.isfinite(draws).all() and draws.min() >= 0


def test_outputs_below_the_limit_keep_their_gradient():
    head, x = head_of(2.0), torch.tensor([[3.0]], dtype=torch.float64)
    low = torch.tensor([[-30.0]], dtype=torch.float64, requires_grad=True)
    found = head.log_prob(low, x)
    exact = log_probability(3.0, 2.0, np.exp(-30))
    assert found.item() == pytest.approx(exact, abs=1e-6)
    assert torch.autograd.grad(found.sum(), low)[0].item() == pytest.approx(3)


def test_start_has_the_moments_of_the_data():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.poisson(rng.gamma(0.5, 8, (500, 3)))).double()
    weight = torch.rand(x.shape, generator=generator()).double()
    weight[::7] = 0
    head = make_head("negative_binomial", 3, 0).double()
    biases = head.initialise(x, weight)
    mean = (weight * x).sum(0) / weight.sum(0)
    variance = (weight * (x - mean).square()).sum(0) / weight.sum(0)
    torch.testing.assert_close(head.point_estimate(biases), mean)
    torch.testing.assert_close(head.variance(biases).detach(), variance)


def test_start_is_bounded():
    alike = torch.full((50, 3), 4.0)  # no variance; hardly any; one wild count
    alike[0, 1], alike[:, 2], alike[0, 2] = 5, 0, 1e6
    head = make_head("negative_binomial", 3, 0)
    head.initialise(alike, torch.ones_like(alike))
    r = head.dispersion().tolist()
    assert r[:2] == pytest.approx([LARGEST_INITIAL_DISPERSION] * 2, rel=1e-4)
    assert np.exp(LOG_DISPERSION_RANGE[0]) <= r[2] < 0.05


@pytest.mark.parametrize("weighted", [False, True])
def test_density_of_a_whole_column_is_the_maximum_likelihood(weighted):
    rng = np.random.default_rng(0)
    values, new = rng.poisson(rng.gamma(0.5, 8, 400)), np.arange(30)
    weights = rng.integers(0, 3, 400) if weighted else np.ones(400, dtype=int)
    fit = LIKELIHOODS["negative_binomial"].fit_column
    found = fit(values, weights if weighted else None)
    repeated = np.repeat(values, weights)

    def score(log_r, log_mean):
        r = np.exp(log_r)
        return stats.nbinom.logpmf(repeated, r, r / (r + np.exp(log_mean))).sum()

    log_mean = np.log(repeated.mean())
    grid = np.linspace(-2, 1, 3_001)
    best = grid[np.argmax([score(log_r, log_mean) for log_r in grid])]
    r = np.exp(best)
    exact = stats.nbinom.logpmf(new, r, r / (r + repeated.mean()))
    np.testing.assert_allclose(found(new), exact, atol=2e-3)
    top = (weights * found(values)).sum()
    for step in (-0.02, 0.02):
        assert score(best + step, log_mean) < top
        assert score(best, log_mean + step) < top


def test_density_of_an_even_column_is_nearly_poisson():
    values = np.tile([3, 4, 5], 100)
    found = LIKELIHOODS["negative_binomial"].fit_column(values, None)
    expected = stats.poisson(4).logpmf(np.arange(10))
    np.testing.assert_allclose(found(np.arange(10)), expected, atol=1e-4)
