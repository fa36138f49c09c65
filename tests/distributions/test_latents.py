"""Latent families against torch.distributions, scipy and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_gaussian import normal_noise
from scipy import stats
from torch import distributions as D

from skvae._distributions.families import (
    FAMILIES,
    check_support,
    resolve_parameters,
    resolve_prior,
)
from skvae._distributions.gamma import (
    CONCENTRATION_FLOOR,
    GAMMA_NOISE,
    Beta,
    Dirichlet,
    Gamma,
)
from skvae._distributions.normal import (
    DiagonalNormal,
    LogNormal,
    Mixture,
    StandardNormal,
)

NAMES = list(FAMILIES)
CONCENTRATIONS = st.floats(0.1, 200.0)


def make(name, first=(0.7, 2.0, 9.0), second=(1.5, 0.4, 3.0), dtype=torch.float64):
    """A distribution with three latent variables."""
    first, second = (torch.tensor(v, dtype=dtype) for v in (first, second))
    names = list(FAMILIES[name].default_prior)
    values = dict(zip(names, (first, second), strict=False))
    return FAMILIES[name].distribution.from_parameters(values)


def reference(q):
    """The same distribution in torch, one batch entry per latent variable."""
    if isinstance(q, DiagonalNormal):
        return D.Normal(q.loc, q.log_scale.exp())
    if isinstance(q, LogNormal):
        return D.LogNormal(q.loc, q.log_scale.exp())
    if isinstance(q, Gamma):
        return D.Gamma(q.concentration, q.rate)
    if isinstance(q, Beta):
        return D.Beta(q.a, q.b)
    return D.Dirichlet(q.concentration)


def summed(q, values):
    return values if isinstance(q, Dirichlet) else values.sum(-1)


def draw(q, name, *shape, seed=0, dtype=torch.float64):
    width = 3 * FAMILIES[name].noise_width
    return q.rsample(normal_noise(*shape, width, seed=seed, dtype=dtype))


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# -- closed forms --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_density_and_moments_are_those_of_torch(name):
    q = make(name)
    expected, z = reference(q), draw(q, name, 50)
    assert_equal(q.log_prob(z), summed(q, expected.log_prob(z)))
    assert_equal(q.entropy(), summed(q, expected.entropy()))
    assert_equal(q.mean, expected.mean)
    assert_equal(q.variance, expected.variance)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(values=st.lists(CONCENTRATIONS, min_size=12, max_size=12))
def test_kl_is_that_of_torch(name, values):
    q, p = make(name, values[:3], values[3:6]), make(name, values[6:9], values[9:])
    expected = summed(q, D.kl_divergence(reference(q), reference(p)))
    torch.testing.assert_close(q.kl(p), expected, rtol=1e-8, atol=1e-8)
    assert (q.kl(q).abs() < 1e-8).all()


def test_kl_to_the_standard_normal():
    q = make("normal")
    same = make("normal", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert_equal(q.kl(StandardNormal()), q.kl(same))


# -- draws ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("concentration", [0.1, 0.5, 1.0, 4.0, 300.0])
def test_gamma_draws_have_their_distribution(concentration, dtype):
    n = 40_000
    q = Gamma(torch.full((1,), concentration, dtype=dtype), torch.full((1,), 2.0))
    z = q.rsample(normal_noise(n, GAMMA_NOISE, dtype=dtype))[:, 0].double()
    expected = stats.gamma(concentration, scale=0.5)
    assert stats.kstest(z, expected.cdf).pvalue > 0.001
    # the tails too: shares beyond the outermost hundredths
    for level in (0.01, 0.99):
        share = float((z <= expected.ppf(level)).double().mean())
        assert abs(share - level) < 4.5 * math.sqrt(0.0099 / n)


@pytest.mark.parametrize("a, b", [(0.1, 0.3), (1.0, 1.0), (3.0, 0.7), (50.0, 80.0)])
def test_beta_draws_have_their_distribution(a, b):
    q = Beta(torch.tensor([a]).double(), torch.tensor([b]).double())
    z = q.rsample(normal_noise(40_000, 2 * GAMMA_NOISE, seed=3))[:, 0]
    assert stats.kstest(z, stats.beta(a, b).cdf).pvalue > 0.001


def test_dirichlet_draws_have_their_distribution():
    concentration = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)
    z = draw(Dirichlet(concentration), "dirichlet", 40_000)
    assert_equal(z.sum(-1), torch.ones(40_000).double())
    for k, shape in enumerate(concentration):
        marginal = stats.beta(shape, concentration.sum() - shape)
        assert stats.kstest(z[:, k], marginal.cdf).pvalue > 0.001
    mean = concentration / concentration.sum()
    covariance = (torch.diag(mean) - mean.outer(mean)) / (concentration.sum() + 1)
    torch.testing.assert_close(torch.cov(z.t()), covariance, rtol=0, atol=1e-3)


def test_the_floor_keeps_float32_draws_apart():
    out = torch.full((1, 6), -1e4)
    assert FAMILIES["beta"].distribution.from_outputs(out).a.min() == pytest.approx(
        CONCENTRATION_FLOOR
    )
    q = FAMILIES["dirichlet"].distribution.from_outputs(out[:, :3])
    z = draw(q, "dirichlet", 10_000, 1, dtype=torch.float32)[:, 0]
    # no vector is uniform because everything underflowed
    assert (z.max(-1).values > 0.34).all()
    q = Gamma(torch.full((1, 3), CONCENTRATION_FLOOR), torch.ones(1, 3))
    z = draw(q, "gamma", 10_000, 1, dtype=torch.float32)
    assert (z > 1e-30).double().mean() > 0.99


# -- implicit gradients --------------------------------------------------------------


def quantile_slope(distribution, z, value, step=1e-5):
    """d z / d value at a fixed level of the distribution function."""
    level = distribution(value).cdf(z)
    upper, lower = distribution(value + step), distribution(value - step)
    return (upper.ppf(level) - lower.ppf(level)) / (2 * step)


@pytest.mark.parametrize("concentration", [0.4, 2.0, 30.0])
def test_gamma_gradient_is_that_of_the_quantile(concentration):
    shape = torch.full((20, 1), concentration, dtype=torch.float64).requires_grad_()
    rate = torch.full((20, 1), 1.7, dtype=torch.float64).requires_grad_()
    z = Gamma(shape, rate).rsample(normal_noise(20, GAMMA_NOISE))
    z.sum().backward()
    values = z.detach().numpy()[:, 0]
    ours = shape.grad.numpy()[:, 0]
    expected = quantile_slope(
        lambda a: stats.gamma(a, scale=1 / 1.7), values, concentration
    )
    # far in the tails scipy's quantiles are the less exact ones
    inside = values > 1e-3
    assert inside.sum() > 10
    np.testing.assert_allclose(ours[inside], expected[inside], rtol=1e-3)
    np.testing.assert_allclose(rate.grad.numpy()[:, 0], -values / 1.7, rtol=1e-9)


def test_beta_gradient_is_that_of_the_quantile():
    a = torch.full((20, 1), 2.5, dtype=torch.float64).requires_grad_()
    b = torch.full((20, 1), 0.8, dtype=torch.float64).requires_grad_()
    z = Beta(a, b).rsample(normal_noise(20, 2 * GAMMA_NOISE))
    z.sum().backward()
    values = z.detach().numpy()[:, 0]
    by_a = quantile_slope(lambda v: stats.beta(v, 0.8), values, 2.5)
    by_b = quantile_slope(lambda v: stats.beta(2.5, v), values, 0.8)
    np.testing.assert_allclose(a.grad.numpy()[:, 0], by_a, rtol=1e-3)
    np.testing.assert_allclose(b.grad.numpy()[:, 0], by_b, rtol=1e-3)


def test_dirichlet_of_two_is_beta():
    both = torch.tensor([[1.4, 3.0]]).double().requires_grad_()
    noise = normal_noise(6, 2 * GAMMA_NOISE)
    z = Dirichlet(both).rsample(noise)
    beta = Beta(both[:, :1], both[:, 1:]).rsample(noise)
    assert_equal(z[:, :1], beta)
    (one,) = torch.autograd.grad(z[:, 0].sum(), both)
    (other,) = torch.autograd.grad(beta.sum(), both)
    assert_equal(one, other)


def test_shared_parameters_collect_the_gradients_of_all_draws():
    shape = torch.full((3,), 2.0).double().requires_grad_()
    noise = normal_noise(4, 5, 3 * GAMMA_NOISE)
    Gamma(shape, torch.ones(3).double()).rsample(noise).sum().backward()
    copies = torch.full((4, 5, 3), 2.0).double().requires_grad_()
    Gamma(copies, torch.ones(3).double()).rsample(noise).sum().backward()
    assert_equal(shape.grad, copies.grad.sum((0, 1)))


# -- mixtures ------------------------------------------------------------------------


@pytest.fixture
def mixture():
    weight = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    loc = normal_noise(3, 2) * 3
    return Mixture(weight.log(), DiagonalNormal(loc, normal_noise(3, 2, seed=1) / 3))


def torch_mixture(mixture):
    log_weight, (loc, log_scale) = mixture
    components = D.Independent(D.Normal(loc, log_scale.exp()), 1)
    return D.MixtureSameFamily(D.Categorical(logits=log_weight), components)


def test_density_of_a_mixture(mixture):
    z = normal_noise(5, 4, 2, seed=2)
    assert_equal(mixture.log_prob(z), torch_mixture(mixture).log_prob(z))


def test_draws_of_a_mixture(mixture):
    z = mixture.rsample(normal_noise(40_000, 3))
    expected = torch_mixture(mixture)
    error = (expected.variance / len(z)).sqrt()
    assert ((z.mean(0) - expected.mean).abs() < 4.5 * error).all()
    torch.testing.assert_close(z.var(0), expected.variance, rtol=0.03, atol=0)


# -- what users give -----------------------------------------------------------------


def test_priors_are_resolved():
    assert resolve_prior("gamma", None, 2) is None
    assert resolve_prior("normal", "vamp", 2) == {"vamp": 10}
    assert resolve_prior("normal", {"mixture": 3}, 2) == {"mixture": 3}
    found = resolve_prior("normal", {"vamp": np.int64(1)}, 2)
    assert found == {"vamp": 1} and type(found["vamp"]) is int
    expected = {"concentration": [0.3, 0.3], "rate": [1.0, 2.0]}
    assert resolve_prior("gamma", (0.3, [1, 2]), 2) == expected
    assert resolve_prior("gamma", {"concentration": 0.3}, 1)["rate"] == [1.0]
    assert resolve_prior("dirichlet", [0.5], 2) == {"concentration": [0.5, 0.5]}


@pytest.mark.parametrize(
    "latent, prior, message",
    [
        ("gamma", "vamp", "use latent='normal'"),
        ("beta", {"mixture": 3}, "prior='mixture' is a mixture of normal"),
        ("normal", "other", "prior='other' is unknown"),
        ("normal", {"mixture": 0}, "number of components, at least 1, but got"),
        ("normal", {"mixture": -2}, "at least 1"),
        ("normal", {"mixture": True}, "at least 1, but got {'mixture': True}"),
        ("normal", {"vamp": 2.0}, "at least 1"),
        ("normal", {"vamp": None}, "at least 1"),
        ("normal", {"mixture": 3, "vamp": 3}, "A learned prior is"),
        ("normal", {"mixture": 3, "scale": 2.0}, "A learned prior is"),
        ("normal", {"scale": 2.0, "vamp": 3}, "A learned prior is"),
        ("normal", 3, "takes loc, scale, but got 3"),
        ("gamma", (1.0,), "takes concentration, rate"),
        ("gamma", {"shape": 1.0}, "takes concentration, rate, but got 'shape'"),
        ("gamma", (0.0, 1.0), "concentration must be positive"),
        ("normal", (math.nan, 1.0), "loc must be finite"),
        ("normal", (0.0, -1.0), "scale must be positive"),
        ("beta", ([1.0, 2.0, 3.0], 1.0), "one for each of the 2"),
        ("beta", ("many", 1.0), "a must be a number"),
    ],
)
def test_impossible_priors_are_refused(latent, prior, message):
    with pytest.raises(ValueError, match=message):
        resolve_prior(latent, prior, 2)


def test_parameters_are_resolved():
    assert resolve_parameters("gamma", {}, 2, "start") == {
        "concentration": [1.0, 1.0],
        "rate": [1.0, 1.0],
    }
    assert resolve_parameters("normal", (1, [0.5, 2]), 2, "start") == {
        "loc": [1.0, 1.0],
        "scale": [0.5, 2.0],
    }
    for wrong in ("vamp", b"loc", {"mixture": 3}, 1.0):  # a name is no sequence
        with pytest.raises(ValueError, match="The start of a normal distribution"):
            resolve_parameters("normal", wrong, 2, "start")


@pytest.mark.parametrize(
    "latent, row, message",
    [
        ("gamma", [-0.1, 1.0], "positive"),
        ("lognormal", [-0.1, 1.0], "positive"),
        ("beta", [0.5, 1.1], "between 0 and 1"),
        ("dirichlet", [0.5, 0.6], "sum to 1"),
        ("dirichlet", [-0.5, 1.5], "non-negative"),
    ],
)
def test_support_is_checked(latent, row, message):
    with pytest.raises(ValueError, match=message):
        check_support(np.array([row]), latent)
    check_support(np.array([[0.25, 0.75]]), latent)
