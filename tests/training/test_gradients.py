"""Gradient estimators: their means, their spread, and zero at the exact posterior."""

import math

import pytest
import torch
from encoder_gradients import encoder_gradients
from linear_gaussian import (
    draw_rows,
    make_linear_vae,
    normal_noise,
    set_posterior,
)

from skvae._density.evidence import log_weights
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._training.bounds import elbo, iwae
from skvae._training.gradients import doubly_reparameterised, importance_weighted

N_LATENT = 2


def small_vae():
    """A nonlinear model of mixed columns, far from its posterior."""
    joint = Joint([make_head("normal", 4, 0), make_head("bernoulli", 2, 0)])
    generator = torch.Generator().manual_seed(0)
    return VAE(joint, N_LATENT, (8,), "tanh", generator).double()


def small_rows(n_rows=3):
    numbers = normal_noise(n_rows, 4, seed=7)
    return torch.cat([numbers, (normal_noise(n_rows, 2, seed=8) > 0).double()], 1)


def assert_same_mean(one, other, n_errors=4.5):
    """Compare means over copies that were made with the same noise."""
    difference = one - other
    n_copies = difference.shape[1]
    standard_error = difference.std(1) / math.sqrt(n_copies)
    assert (difference.mean(1).abs() < n_errors * standard_error + 1e-12).all()


def assert_mean_is_resolved(gradients, n_errors=4.5):
    """The means are away from zero, or equality would say little."""
    standard_error = gradients.std(1) / math.sqrt(gradients.shape[1])
    resolved = gradients.mean(1).abs() > n_errors * standard_error
    assert resolved.double().mean() > 0.5


@pytest.mark.parametrize("n_draws", [2, 64])
def test_dreg_and_iwae_gradients_have_the_same_mean(n_draws):
    vae, x = small_vae(), small_rows()
    n_copies = 60_000 // n_draws
    dreg, plain = (
        encoder_gradients(vae, iwae, x, n_copies, n_draws, gradient)
        for gradient in ("dreg", "pathwise")
    )
    assert_mean_is_resolved(dreg)
    assert_same_mean(dreg, plain)


def test_dreg_has_a_far_smaller_deviation():
    vae = make_linear_vae()
    set_posterior(vae, shift=0.05, log_stretch=0.05)
    x = draw_rows(vae, 3)
    dreg, plain = (
        encoder_gradients(vae, iwae, x, 300, 64, gradient).std(1)
        for gradient in ("dreg", "pathwise")
    )
    assert (dreg < plain / 100).all()


def test_stl_and_elbo_gradients_have_the_same_mean():
    vae, x = small_vae(), small_rows()
    stl, plain = (
        encoder_gradients(vae, elbo, x, 20_000, 1, gradient)
        for gradient in ("stl", "pathwise")
    )
    assert_mean_is_resolved(plain)
    assert_same_mean(stl, plain)


@pytest.mark.parametrize(
    "objective, gradient, n_draws",
    [(elbo, "stl", 1), (elbo, "stl", 4), (iwae, "stl", 1), (iwae, "dreg", 8)],
)
def test_gradient_vanishes_at_the_exact_posterior(objective, gradient, n_draws):
    vae = make_linear_vae()
    set_posterior(vae)
    x = draw_rows(vae, 5)
    ours = encoder_gradients(vae, objective, x, 20, n_draws, gradient)
    assert ours.abs().max() < 1e-12
    plain = encoder_gradients(vae, objective, x, 20, n_draws, "pathwise")
    assert (plain.std(1) > 0.01).all()
    # away from the posterior the estimator does not vanish
    set_posterior(vae, shift=0.2)
    shifted = encoder_gradients(vae, objective, x, 20, n_draws, gradient)
    assert shifted.abs().max() > 0.1


@pytest.mark.parametrize("objective, gradient", [(elbo, "stl"), (iwae, "dreg")])
def test_gradient_vanishes_in_float32(objective, gradient):
    vae = make_linear_vae()
    set_posterior(vae)
    x = draw_rows(vae, 5).float()
    vae.float()
    noise = normal_noise(8, 5, N_LATENT, dtype=torch.float32)
    terms = objective(vae, Batch(x), noise, gradient=gradient)
    terms.objective.mean().backward()
    # rounding alone: log w has some 20 nats, with 7 digits
    for p in vae.encoder.parameters():
        assert p.grad.abs().max() < 5e-6


@pytest.mark.parametrize("objective, gradient", [(elbo, "stl"), (iwae, "dreg")])
def test_decoder_gradient_is_the_plain_one(objective, gradient):
    x, noise = small_rows(), normal_noise(6, 3, N_LATENT)
    gradients = []
    for name in (gradient, "pathwise"):
        vae = small_vae()
        objective(vae, Batch(x), noise, gradient=name).objective.sum().backward()
        parameters = [*vae.decoder.parameters(), *vae.joint.parameters()]
        gradients.append([p.grad for p in parameters])
    for ours, plain in zip(*gradients, strict=True):
        assert plain.any()
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gradient", ["dreg", "stl"])
@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_value_is_the_importance_weighted_bound(gradient, kl_weight):
    vae, batch = small_vae(), Batch(small_rows())
    noise = normal_noise(16, 3, N_LATENT)
    ours = iwae(vae, batch, noise, kl_weight=kl_weight, gradient=gradient)
    plain = iwae(vae, batch, noise, kl_weight=kl_weight)
    torch.testing.assert_close(ours.objective, plain.objective, rtol=0, atol=1e-12)
    if kl_weight == 1.0:
        log_weight = log_weights(vae, batch, vae.encode(batch.x), noise)
        bound = log_weight.exp().mean(0).log()
        torch.testing.assert_close(ours.objective, bound, rtol=0, atol=1e-12)
        # what is often reported instead lies above the bound
        weighted = (torch.softmax(log_weight, 0) * log_weight).sum(0)
        assert (weighted > bound + 0.1).all()


def test_importance_weighted_is_stable():
    log_weight = torch.tensor([[-2000.0, 800.0], [-2001.0, 799.0]])
    expected = torch.tensor([-2000.0, 800.0]) + math.log((1 + math.exp(-1)) / 2)
    torch.testing.assert_close(importance_weighted(log_weight), expected)


def test_importance_weighted_gradient_holds_normalised_weights():
    log_weight = normal_noise(5, 3).requires_grad_()
    importance_weighted(log_weight).sum().backward()
    torch.testing.assert_close(log_weight.grad, torch.softmax(log_weight.detach(), 0))


def test_dreg_squares_the_weights_along_the_path():
    z = normal_noise(5, 3, N_LATENT).requires_grad_()
    factor = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    log_weight = factor * z.square().sum(-1)
    doubly_reparameterised(log_weight, z).sum().backward()
    weight = torch.softmax(log_weight.detach(), 0)
    torch.testing.assert_close(z.grad, (weight**2).unsqueeze(-1) * 2 * z.detach())
    torch.testing.assert_close(factor.grad, weight * z.detach().square().sum(-1))


def test_dreg_has_a_value_without_gradients():
    vae, batch = small_vae(), Batch(small_rows())
    noise = normal_noise(8, 3, N_LATENT)
    expected = iwae(vae, batch, noise).objective.detach()
    with torch.inference_mode():
        ours = iwae(vae, batch, noise, gradient="dreg").objective
    torch.testing.assert_close(ours, expected)
