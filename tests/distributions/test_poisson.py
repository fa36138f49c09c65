"""Counts of any size: the Poisson head, and the density of a whole column."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from skvae._distributions.registry import LIKELIHOODS, make_head


def counts_around(rate):
    low, high = stats.poisson(rate).ppf([1e-6, 1 - 1e-6])
    return np.unique(np.linspace(low, high, 41).round()).astype(np.float64)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 3.0, 100.0, 1e4, 1e6, 1e8])
def test_the_head_in_single_precision(rate):
    x = torch.from_numpy(counts_around(rate))[:, None]
    outputs = torch.full_like(x, math.log(rate), dtype=torch.float32)
    outputs.requires_grad_(True)
    log_p = make_head("poisson", 1, 0).log_prob(outputs, x.float())
    log_p.sum().backward()
    exact = float(outputs[0, 0].detach().double().exp())
    expected = stats.poisson(exact).logpmf(x.numpy())
    # the rounding of the rate itself, in standard deviations
    rounding = 1e-6 + 4e-6 * math.sqrt(rate)
    np.testing.assert_allclose(log_p.detach(), expected, rtol=1e-5, atol=rounding)
    np.testing.assert_allclose(
        outputs.grad, x - exact, rtol=1e-5, atol=1e-5 * (1 + rate / 10)
    )


def test_rates_beyond_their_limits():
    outputs = torch.tensor([[-50.0], [30.0]], requires_grad=True)
    log_p = make_head("poisson", 1, 0).log_prob(outputs, torch.tensor([[2.0], [0.0]]))
    assert log_p[0, 0].item() == pytest.approx(-100 - math.log(2), abs=1e-3)
    assert log_p[1, 0].item() == pytest.approx(-math.exp(20), rel=1e-5)
    log_p.sum().backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[0, 0].item() == pytest.approx(2)


@pytest.mark.parametrize("rate", [0.2, 7.0, 1e5, 1e9, 1e14, 1.6e18])
def test_the_density_of_a_column(rate):
    """Of large counts near their mean it is the normal density."""
    deviations = np.linspace(-3, 3, 31)
    values = np.maximum(np.rint(rate + deviations * math.sqrt(rate)), 0)
    whole = values.astype(np.int64)
    log_density = LIKELIHOODS["poisson"].fit_column(whole, None)(whole)
    mean = whole.astype(np.float64).mean()
    if rate < 1e6:
        # in scipy's sum terms of a million cancel
        expected = stats.poisson(mean).logpmf(whole)
        np.testing.assert_allclose(log_density, expected, rtol=1e-9)
    else:
        expected = stats.norm(mean, math.sqrt(mean)).logpdf(whole)
        np.testing.assert_allclose(log_density, expected, rtol=0, atol=1e-3)
