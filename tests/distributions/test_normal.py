"""Normal latent variables against torch.distributions."""

import math

import pytest
import torch
from random_heads import random

from skvae._distributions.normal import DiagonalNormal, StandardNormal


def random_normal(seed, n_latent=4):
    loc, log_scale = random(2, 5, n_latent, seed=seed)
    return DiagonalNormal(loc, 0.5 * log_scale)


def torch_normal(normal):
    base = torch.distributions.Normal(normal.loc, normal.log_scale.exp())
    return torch.distributions.Independent(base, 1)


def test_diagonal_normal_density_and_draws():
    normal, z = random_normal(0), random(7, 5, 4, seed=3)
    torch.testing.assert_close(normal.log_prob(z), torch_normal(normal).log_prob(z))
    expected = normal.loc + normal.log_scale.exp() * z
    torch.testing.assert_close(normal.rsample(z), expected)


def test_standard_normal_density_and_draws():
    z = random(5, 4)
    same = DiagonalNormal(torch.zeros_like(z), torch.zeros_like(z))
    torch.testing.assert_close(StandardNormal().log_prob(z), same.log_prob(z))
    assert StandardNormal().rsample(z) is z


@pytest.mark.parametrize("conditional", [False, True])
def test_kl_equals_torch_and_monte_carlo(conditional):
    posterior = random_normal(0)
    prior = random_normal(1) if conditional else StandardNormal()
    zeros = torch.zeros_like(posterior.loc)
    reference = torch_normal(prior if conditional else DiagonalNormal(zeros, zeros))
    kl = posterior.kl(prior)
    assert kl.shape == (5,)
    torch.testing.assert_close(
        kl, torch.distributions.kl_divergence(torch_normal(posterior), reference)
    )
    z = posterior.rsample(random(20_000, 5, 4, seed=2))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    standard_error = log_ratio.std(0) / math.sqrt(len(z))
    assert ((log_ratio.mean(0) - kl).abs() < 4.5 * standard_error).all()


def test_kl_to_itself_is_zero():
    normal = random_normal(0)
    assert torch.equal(normal.kl(normal), torch.zeros(5, dtype=torch.float64))
