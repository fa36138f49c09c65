"""What every latent family keeps to, whichever it is.

Exact references (torch.distributions, scipy) stand in the tests of the families.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from linear_gaussian import normal_noise
from scipy import stats

from skvae._distributions.families import FAMILIES, check_support

N_LATENT, N_DRAWS = 3, 40_000

pytestmark = pytest.mark.parametrize("name", FAMILIES)


def values(name, *shape, seed=0):
    """Parameters by name, such that densities are smooth."""
    generator = torch.Generator().manual_seed(seed)
    draws = {
        parameter: torch.rand(*shape, generator=generator, dtype=torch.float64)
        for parameter in FAMILIES[name].default_prior
    }
    wide = {"loc": (-1.5, 1.5), "scale": (0.3, 1.2)}
    return {
        parameter: low + (high - low) * draw
        for parameter, draw in draws.items()
        for low, high in [wide.get(parameter, (1.2, 5.0))]
    }


def make(name, *shape, seed=0):
    return FAMILIES[name].distribution.from_parameters(values(name, *shape, seed=seed))


def noise(name, *shape, seed=0, n_latent=N_LATENT, dtype=torch.float64):
    width = n_latent * FAMILIES[name].noise_width
    return normal_noise(*shape, width, seed=seed, dtype=dtype)


def within_error(samples, expected):
    """Whether means over the first dimension are what they should be, by chance."""
    error = samples.std(0) / len(samples) ** 0.5
    return ((samples.mean(0) - expected).abs() <= 4.5 * error + 1e-9).all()


def close(one, other, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


# -- shapes and parameters -----------------------------------------------------------


def test_shapes(name):
    q, p = make(name, 5, N_LATENT), make(name, N_LATENT, seed=1)
    z = q.rsample(noise(name, 7, 5))
    assert z.shape == (7, 5, N_LATENT)
    assert q.log_prob(z).shape == q.log_jacobian(z).shape == (7, 5)
    assert q.mean.shape == q.variance.shape == (5, N_LATENT)
    assert q.entropy().shape == q.kl(p).shape == q.kl(q).shape == (5,)
    check_support(z.flatten(0, 1).numpy(), name)


def test_outputs_stand_for_a_distribution(name):
    family = FAMILIES[name]
    q = make(name, 5, N_LATENT)
    assert list(q.parameters()) == list(family.default_prior)
    for parameter, given in values(name, 5, N_LATENT).items():
        close(q.parameters()[parameter], given)
    assert q.to_outputs().shape == (5, N_LATENT * family.n_outputs)
    again = family.distribution.from_outputs(q.to_outputs())
    for parameter, given in q.parameters().items():
        close(again.parameters()[parameter], given)


def test_default_prior(name):
    family = FAMILIES[name]
    defaults = {k: torch.full((N_LATENT,), v) for k, v in family.default_prior.items()}
    prior = family.distribution.from_parameters(defaults)
    out = torch.zeros(5, N_LATENT * family.n_outputs)
    assert torch.isfinite(family.distribution.from_outputs(out).kl(prior)).all()


def test_detaching_stops_the_gradient(name):
    given = {k: v.requires_grad_() for k, v in values(name, N_LATENT).items()}
    q = FAMILIES[name].distribution.from_parameters(given)
    assert q.rsample(noise(name)).requires_grad
    detached = q.detach()
    assert type(detached) is type(q)
    assert not any(part.requires_grad for part in detached)
    for one, other in zip(detached, q, strict=True):
        assert torch.equal(one, other)


# -- draws and densities -------------------------------------------------------------


def test_draws_have_the_density(name):
    """It integrates to one, and draws follow it."""
    simplex = FAMILIES[name].support == "simplex"
    n_latent = 2 if simplex else 1
    q = make(name, n_latent, seed=3)
    z = q.rsample(noise(name, N_DRAWS, n_latent=n_latent, seed=3))[:, 0]
    line = torch.linspace(float(z.min()), float(z.max()), 20_001).double()
    height = q.log_prob(torch.stack([line, 1 - line], -1) if simplex else line[:, None])
    steps = line.diff()
    height = height.exp()
    below = F.pad(((height[1:] + height[:-1]) / 2 * steps).cumsum(0), (1, 0))
    levels = np.interp(z, line, below)
    assert stats.kstest(levels, "uniform").pvalue > 1e-3
    assert 1 - 30 / N_DRAWS < below[-1] < 1 + 1e-4


def test_moments_are_those_of_draws(name):
    q = make(name, N_LATENT, seed=1)
    z = q.rsample(noise(name, N_DRAWS))
    assert within_error(z, q.mean)
    assert within_error((z - q.mean).square(), q.variance)
    assert within_error(-q.log_prob(z), q.entropy())


def test_kl_is_an_average_of_log_ratios(name):
    q, p = make(name, N_LATENT), make(name, N_LATENT, seed=1)
    z = q.rsample(noise(name, N_DRAWS))
    assert q.kl(p) > 0.05
    assert within_error(q.log_prob(z) - p.log_prob(z), q.kl(p))
    assert q.kl(q).abs() < 1e-8


def test_a_draw_depends_on_its_row_and_its_noise(name):
    many = make(name, 5, N_LATENT)
    own = noise(name, 7, 5)
    one = type(many)(*(part[2:3] for part in many))
    # kernels may round a lone row in another way
    close(one.rsample(own[:, 2:3]), many.rsample(own)[:, 2:3])
    alike = type(many)(*(part[:1].expand(5, -1) for part in many))
    z = alike.rsample(noise(name, 7, 1))
    assert torch.equal(z, z[:, :1].expand_as(z))


def test_draws_are_differentiable(name):
    """Gradients of draws are on average those of the moments, for every parameter."""
    given = {
        parameter: value.expand(N_DRAWS, -1).clone().requires_grad_()
        for parameter, value in values(name, N_LATENT).items()
    }
    towards = torch.tensor([1.0, -0.5, 2.0]).double()

    def gradients(read):
        q = FAMILIES[name].distribution.from_parameters(given)
        total = (read(q) @ towards).sum()
        return torch.autograd.grad(total, [*given.values()])

    of_draws = gradients(lambda q: q.rsample(noise(name, N_DRAWS)).square())
    of_moments = gradients(lambda q: q.variance + q.mean.square())
    for one, other in zip(of_draws, of_moments, strict=True):
        assert within_error(one, other[0])
        assert (one.abs().sum(0) > 0).all()


def test_nothing_is_infinite_in_float32(name):
    family = FAMILIES[name]
    for level in (-1e4, -30.0, 0.0, 30.0, 1e4):
        out = torch.full((4, 3 * family.n_outputs), level, requires_grad=True)
        q = family.distribution.from_outputs(out)
        z = q.rsample(noise(name, 200, 4, dtype=torch.float32))
        kl = q.kl(family.distribution.from_outputs(torch.zeros_like(out)))
        values = [z, q.log_prob(z), kl, q.mean, q.entropy(), q.standardise(z)]
        for value in values:
            assert torch.isfinite(value).all()
        (z.clamp(max=1e3).sum() + kl.sum() + q.log_prob(z.detach()).mean()).backward()
        assert torch.isfinite(out.grad).all()


# -- the standardising map of G-REP --------------------------------------------------


def test_standardising_can_be_undone(name):
    q = make(name, N_LATENT)
    z = q.rsample(noise(name, 200))
    close(q.from_residual(q.standardise(z)), z)


def test_residuals_have_mean_zero_and_unit_variance(name):
    q = make(name, N_LATENT)
    residual = q.standardise(q.rsample(noise(name, N_DRAWS)))
    assert within_error(residual, 0)
    assert within_error(residual.square(), 1)
    off_diagonal = torch.cov(residual.t()) - torch.diag(residual.var(0))
    assert off_diagonal.abs().max() < 0.03


def test_log_jacobian_is_that_of_autograd(name):
    q = make(name, N_LATENT)
    for row in q.rsample(noise(name, 4)):
        residual = q.standardise(row)
        matrix = torch.autograd.functional.jacobian(q.from_residual, residual)
        matrix = matrix[: len(residual)]  # the last share follows from the others
        close(q.log_jacobian(row), torch.linalg.slogdet(matrix).logabsdet)
