"""Bounds on log p(x) against linear-Gaussian models, where log p(x) is known."""

import math
from itertools import pairwise

import pytest
import torch
from linear_gaussian import (
    cubature_noise,
    decoder_parts,
    draw_rows,
    joint_head,
    log_evidence,
    make_linear_vae,
    noise_variance,
    normal_noise,
    repeat_rows,
    set_posterior,
)

from skvae._density.evidence import log_weights
from skvae._distributions.joint import Joint
from skvae._distributions.normal import DiagonalNormal
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._training.bounds import OBJECTIVES, elbo, iwae

GRADIENTS = ["pathwise", "stl", "dreg"]


def assert_equal(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def posterior_kl(vae, x):
    """KL of q to the exact posterior, which factorises in these models."""
    loadings, _, bias = decoder_parts(vae)
    weighted = loadings / noise_variance(vae).unsqueeze(1)
    precision = 1 + (loadings * weighted).sum(0)
    loc = (x - bias) @ weighted / precision
    exact = DiagonalNormal(loc, (-0.5 * precision.log()).expand_as(loc))
    return vae.encode(x).kl(exact).detach()


# -- importance-weighted bound --------------------------------------------------


def importance_weighted_bound(vae, x, noise, n_draws):
    """Average of iwae() over all blocks of ``n_draws`` of the draws in ``noise``."""
    n_blocks = len(noise) // n_draws
    blocks = noise.unflatten(0, (n_blocks, n_draws)).permute(1, 2, 0, 3).flatten(1, 2)
    bound = iwae(vae, repeat_rows(x, n_blocks), blocks).objective
    return bound.unflatten(0, (len(x), n_blocks)).mean(1)


@torch.no_grad()
def test_bound_rises_with_the_number_of_draws_up_to_the_evidence():
    vae = make_linear_vae()
    set_posterior(vae, shift=0.3, log_stretch=0.3)
    x = draw_rows(vae, 32)
    evidence = log_evidence(vae, x)
    noise = normal_noise(5000, 32, vae.n_latent)
    counts = [1, 5, 50, 5000]
    bounds = [importance_weighted_bound(vae, x, noise, k) for k in counts]
    for lower, higher in pairwise(bounds):
        assert (lower < higher).all()
    gaps = [float((evidence - bound).mean()) for bound in bounds]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0
    assert abs(gaps[3]) < 0.01
    # L_1 is the evidence lower bound, whose gap is KL(q || posterior)
    gap = evidence - bounds[0]
    torch.testing.assert_close(gap, posterior_kl(vae, x), rtol=0, atol=0.1)


@torch.no_grad()
def test_every_draw_gives_the_evidence_at_the_exact_posterior():
    vae = make_linear_vae()
    set_posterior(vae)
    x = draw_rows(vae, 8)
    noise = normal_noise(5, 8, vae.n_latent)
    evidence = log_evidence(vae, x)
    assert_equal(iwae(vae, Batch(x), noise).objective, evidence)
    assert_equal(
        log_weights(vae, Batch(x), vae.encode(x), noise), evidence.expand(5, -1)
    )


@torch.no_grad()
def test_log_weights_are_those_of_the_bound():
    vae = make_linear_vae()
    batch, noise = Batch(draw_rows(vae, 8)), normal_noise(6, 8, vae.n_latent)
    log_weight = log_weights(vae, batch, vae.encode(batch.x), noise)
    expected = torch.logsumexp(log_weight, 0) - math.log(6)
    assert_equal(iwae(vae, batch, noise).objective, expected)


@torch.no_grad()
def test_iwae_weighs_the_log_ratio():
    vae = make_linear_vae()
    batch, noise = Batch(draw_rows(vae, 8)), normal_noise(1, 8, vae.n_latent)
    qz, z, pz, px = vae(batch, noise[0])
    reconstruction = vae.joint.log_prob(px, batch.x, None)
    log_ratio = qz.log_prob(z) - pz.log_prob(z)
    for kl_weight in (0.0, 0.3, 1.0):
        terms = iwae(vae, batch, noise, kl_weight=kl_weight)
        assert_equal(terms.objective, reconstruction - kl_weight * log_ratio)
        assert_equal(terms.reconstruction, reconstruction)
        assert_equal(terms.kl, qz.kl(pz))


# -- evidence lower bound -------------------------------------------------------


@torch.no_grad()
def test_elbo_equals_its_closed_form():
    vae = make_linear_vae()  # the encoder as it was initialised
    x = draw_rows(vae, 8)
    terms = elbo(vae, Batch(x), cubature_noise(8, vae.n_latent))
    loadings, _, bias = decoder_parts(vae)
    variance = noise_variance(vae)
    qz = vae.encode(x)
    q_variance = torch.exp(2 * qz.log_scale)
    residual = x - qz.loc @ loadings.t() - bias
    expected = -0.5 * (
        residual.square() / variance + torch.log(2 * math.pi * variance)
    ).sum(1) - 0.5 * q_variance @ (loadings.square() / variance.unsqueeze(1)).sum(0)
    assert_equal(terms.reconstruction, expected)
    kl = 0.5 * (qz.loc.square() + q_variance - q_variance.log() - 1).sum(1)
    assert_equal(terms.kl, kl)
    assert_equal(terms.objective, expected - kl)
    assert_equal(terms.objective, log_evidence(vae, x) - posterior_kl(vae, x))


@torch.no_grad()
def test_elbo_is_the_evidence_at_the_exact_posterior():
    vae = make_linear_vae()
    set_posterior(vae)
    x = draw_rows(vae, 8)
    terms = elbo(vae, Batch(x), cubature_noise(8, vae.n_latent))
    assert_equal(terms.objective, log_evidence(vae, x))


@torch.no_grad()
@pytest.mark.parametrize("gradient", ["pathwise", "stl"])
def test_elbo_averages_over_draws(gradient):
    vae = make_linear_vae()
    batch, noise = Batch(draw_rows(vae, 8)), normal_noise(5, 8, vae.n_latent)
    together = elbo(vae, batch, noise, gradient=gradient)
    one_by_one = [elbo(vae, batch, n[None], gradient=gradient) for n in noise]
    for name in together._fields:
        mean = torch.stack([getattr(terms, name) for terms in one_by_one]).mean(0)
        assert_equal(getattr(together, name), mean)


@torch.no_grad()
@pytest.mark.parametrize("gradient", ["pathwise", "stl"])
@pytest.mark.parametrize("n_draws", [1, 3])
def test_kl_weight(gradient, n_draws):
    vae = make_linear_vae()
    batch, noise = Batch(draw_rows(vae, 8)), normal_noise(n_draws, 8, vae.n_latent)
    plain = elbo(vae, batch, noise, gradient=gradient)
    assert_equal(plain.objective, plain.reconstruction - plain.kl)
    for kl_weight in (0.0, 0.3, 4.0, torch.tensor(0.3, dtype=torch.float64)):
        terms = elbo(vae, batch, noise, kl_weight=kl_weight, gradient=gradient)
        expected = plain.reconstruction - kl_weight * plain.kl
        assert_equal(terms.objective, expected)
        assert_equal(terms.kl, plain.kl)


@torch.no_grad()
def test_stl_kl_is_an_average_of_log_ratios():
    vae = make_linear_vae()
    x = draw_rows(vae, 1)
    batch, n_draws = Batch(x), 20_000
    noise = normal_noise(n_draws, 1, vae.n_latent)
    qz = vae.encode(x)
    z = qz.rsample(noise)
    log_ratio = qz.log_prob(z) - vae.prior().log_prob(z)
    stl = elbo(vae, batch, noise, gradient="stl").kl
    assert_equal(stl, log_ratio.mean(0))
    standard_error = log_ratio.std(0) / math.sqrt(n_draws)
    assert (stl - qz.kl(vae.prior())).abs() < 4.5 * standard_error


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("n_draws", [1, 3])
def test_terms_have_one_value_per_row(objective, gradient, n_draws):
    vae = make_linear_vae()
    noise = normal_noise(n_draws, 8, vae.n_latent)
    terms = OBJECTIVES[objective](
        vae, Batch(draw_rows(vae, 8)), noise, gradient=gradient
    )
    assert terms.objective.requires_grad
    for term in terms:
        assert term.shape == (8,)
        assert torch.isfinite(term).all()


# -- missing cells --------------------------------------------------------------


@torch.no_grad()
def test_bound_with_a_missing_column_is_the_marginal_likelihood():
    vae = make_linear_vae(n_latent=1)
    x = draw_rows(vae, 8)
    pattern = torch.tensor([True, False, True, True, False, True])
    observed = pattern.expand(8, -1)
    set_posterior(vae, observed=pattern)
    expected = log_evidence(vae, x, observed)
    batch = Batch(torch.where(observed, x, 0.0), observed)
    terms = elbo(vae, batch, cubature_noise(8, 1))
    assert_equal(terms.objective, expected)
    assert_equal(iwae(vae, batch, normal_noise(3, 8, 1)).objective, expected)


@torch.no_grad()
def test_many_draws_give_the_marginal_likelihood_of_scattered_cells():
    vae = make_linear_vae()
    x = draw_rows(vae, 8)
    observed = normal_noise(8, 6, seed=4) > -0.5
    observed[0] = False  # a row without any cell
    assert not observed.all(1).all()
    set_posterior(vae, log_stretch=0.8)
    batch = Batch(torch.where(observed, x, 0.0), observed)
    expected = log_evidence(vae, x, observed)
    assert expected[0] == 0
    noise = normal_noise(20_000, 8, vae.n_latent)
    bound = iwae(vae, batch, noise).objective
    torch.testing.assert_close(bound, expected, rtol=0, atol=0.06)
    one_draw = elbo(vae, batch, noise[:200]).objective
    assert (one_draw < expected).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_missing_cells_change_neither_bound_nor_gradient(objective):
    joint = Joint([make_head("normal", 3, 0), make_head("categorical", 2, 3)])
    observed = normal_noise(8, 5, seed=4) > 0
    zeros = torch.zeros(8, 5, dtype=torch.float64)
    zeros[observed] = 1.0
    filled = torch.where(observed, zeros, 2.0)
    generator = torch.Generator().manual_seed(0)
    vae = VAE(joint, 2, (7,), "tanh", generator, masked=True).double()
    results = []
    for x in (zeros, filled):
        terms = OBJECTIVES[objective](vae, Batch(x, observed), normal_noise(4, 8, 2))
        gradients = torch.autograd.grad(terms.objective.sum(), list(vae.parameters()))
        results.append([*terms, *gradients])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


# -- context --------------------------------------------------------------------


def conditional_vae():
    vae = make_linear_vae(n_latent=1, n_context=2)
    with torch.no_grad():  # a prior whose location alone depends on the context
        vae.prior_net.output.weight[1:] = 0.0
        vae.prior_net.output.bias[:] = torch.tensor([0.3, -0.4])
    return vae


@torch.no_grad()
def set_conditional_posterior(vae):
    """Set the encoder to the exact p(z | x, c) of a model with one latent variable."""
    loadings, from_context, bias = decoder_parts(vae)
    prior_weight = vae.prior_net.output.weight[0]
    prior_loc, prior_log_scale = vae.prior_net.output.bias
    weighted = loadings[:, 0] / noise_variance(vae)
    precision = torch.exp(-2 * prior_log_scale) + weighted @ loadings[:, 0]
    shrink = torch.exp(-2 * prior_log_scale) / precision
    output = vae.encoder.output
    output.weight.zero_()
    output.weight[0, : len(bias)] = weighted / precision
    output.weight[0, len(bias) :] = (
        shrink * prior_weight - weighted @ from_context / precision
    )
    output.bias[0] = shrink * prior_loc - weighted @ bias / precision
    output.bias[1] = -0.5 * precision.log()


@torch.no_grad()
def test_conditional_bound_is_the_conditional_likelihood():
    vae = conditional_vae()
    set_conditional_posterior(vae)
    x, c = 2 * normal_noise(8, 6, seed=2), normal_noise(8, 2, seed=3)
    batch = Batch(x, c=c)
    expected = log_evidence(vae, x, c=c)
    terms = elbo(vae, batch, cubature_noise(8, 1))
    assert_equal(terms.objective, expected)
    assert_equal(iwae(vae, batch, normal_noise(3, 8, 1)).objective, expected)
    # the context is used: with another row's context the evidence is another
    permuted = elbo(vae, Batch(x, c=c.roll(1, 0)), cubature_noise(8, 1))
    difference = (permuted.objective - terms.objective).abs()
    assert (difference > 1e-3).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("n_draws", [1, 4])
def test_learned_prior(objective, gradient, n_draws):
    joint = Joint([make_head("normal", 4, 0), make_head("categorical", 1, 3)])
    generator = torch.Generator().manual_seed(0)
    vae = VAE(joint, 2, (8,), "tanh", generator, n_context=3).double()
    x = torch.cat([normal_noise(6, 4), torch.ones(6, 1).double()], 1)
    batch = Batch(x, c=normal_noise(6, 3, seed=2))
    noise = normal_noise(n_draws, 6, 2)
    bound = OBJECTIVES[objective]
    terms = bound(vae, batch, noise, gradient=gradient)
    qz, pz = vae.encode(batch.x, None, batch.c), vae.prior(batch.c)
    if objective == "iwae" or gradient == "pathwise":
        assert (terms.kl >= 0).all()
        expected = torch.distributions.kl_divergence(
            torch.distributions.Normal(qz.loc, qz.log_scale.exp()),
            torch.distributions.Normal(pz.loc, pz.log_scale.exp()),
        ).sum(-1)
        assert_equal(terms.kl, expected)
    terms.objective.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters())
    other_context = Batch(x, c=batch.c.roll(1, 0))
    permuted = bound(vae, other_context, noise, gradient=gradient)
    assert ((permuted.objective - terms.objective).abs() > 1e-6).all()


def test_helper_reads_the_scale_of_the_head():
    """The helper's noise is the head's, so that the exact figures are of this model."""
    for isotropic in (False, True):
        vae = make_linear_vae(isotropic=isotropic)
        assert_equal(noise_variance(vae), torch.full((6,), 0.49, dtype=torch.float64))
        assert joint_head(vae).raw_log_scale.numel() == (1 if isotropic else 6)
