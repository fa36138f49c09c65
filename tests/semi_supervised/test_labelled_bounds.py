"""Bounds with unknown labels, against closed forms, enumeration and draws."""

import pytest
import torch
import torch.nn.functional as F
from labelled_models import (
    KINDS,
    N_CLASSES,
    N_COLUMNS,
    N_LATENT,
    build,
    generator,
    one_hot,
    randn,
)
from linear_gaussian import cubature_noise
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from skvae._networks.batch import Batch
from skvae._networks.mlp import MLP
from skvae._semi_supervised import labelled_vae
from skvae._semi_supervised import objectives as semi
from skvae._semi_supervised.objectives import LabelOptions
from skvae._training.bounds import Terms


@pytest.fixture
def exact():
    """A linear-Gaussian model by class, its exact posteriors, and log p(x | y).

    x = b_y + W z + noise, so that every posterior is linear in x and the label, and
    log p(y | x) is linear in x.
    """
    vae = build("m2", ()).double()
    weight = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1], [0.7, 0.4]]).double()
    offset = randn(N_CLASSES, N_COLUMNS, seed=3).double()
    noise_sd = torch.tensor([0.5, 0.7, 0.4, 0.9]).double()
    eye = torch.eye(N_LATENT).double()
    precision = noise_sd**-2
    # the rotation that makes the posterior's components independent
    _, rotation = torch.linalg.eigh(weight.t() @ (weight * precision.unsqueeze(1)))
    weight = weight @ rotation
    covariance = torch.linalg.inv(eye + weight.t() @ (weight * precision.unsqueeze(1)))
    gain = covariance @ (weight * precision.unsqueeze(1)).t()
    marginal = weight @ weight.t() + noise_sd.square().diag()
    inverse = torch.linalg.inv(marginal)
    with torch.no_grad():
        vae.joint.heads[0].set_deviation(noise_sd)
        vae.decoder.output.weight.copy_(torch.cat([weight, offset.t()], 1))
        vae.decoder.output.bias.zero_()
        loc = torch.cat([gain, -gain @ offset.t()], 1)
        vae.encoder.output.weight.copy_(torch.cat([loc, torch.zeros_like(loc)]))
        scale = 0.5 * covariance.diagonal().log()
        vae.encoder.output.bias.copy_(torch.cat([torch.zeros(N_LATENT), scale]))
        vae.classifier.output.weight.copy_(offset @ inverse)
        bias = -0.5 * torch.einsum("ki,ij,kj->k", offset, inverse, offset)
        vae.classifier.output.bias.copy_(bias + vae.log_prior)

    def log_given_label(x):
        parts = [MultivariateNormal(b, marginal).log_prob(x) for b in offset]
        return torch.stack(parts, 1)

    return vae, log_given_label


def test_encoder_and_classifier_see_scaled_numbers():
    vae = build("m2", masked=True)
    x, spreads = randn(6, N_COLUMNS, seed=1), torch.tensor([0.1, 1.0, 2.0, 0.5])
    expected = vae.encode(x * spreads)
    vae.scale_inputs(spreads)
    torch.testing.assert_close(vae.encode(x).loc, expected.loc)
    observed = torch.ones_like(x, dtype=torch.bool)
    inputs = vae.inputs(x, observed)
    torch.testing.assert_close(inputs[:, :N_COLUMNS], x * spreads)
    assert not inputs[:, N_COLUMNS:].any()  # the mask is no number


def mean_of_m2(vae, batch, noise):
    """Average over draws of the bounds; each step takes one."""
    options = LabelOptions(1.0, 0.0, 0.0)
    values = [semi.m2(vae, batch, draw[None], options).objective for draw in noise]
    return torch.stack(values).mean(0)


def test_bounds_are_tight_at_the_exact_posterior(exact):
    vae, log_given_label = exact
    x = randn(5, N_COLUMNS, seed=1).double()
    expected = torch.logsumexp(log_given_label(x) + vae.log_prior, 1)
    noise = cubature_noise(5, N_LATENT)
    unknown = Batch(x, y=one_hot([-1] * 5).double())
    known = Batch(x, y=one_hot([0, 1, 2, 0, 1]).double())
    found = mean_of_m2(vae, unknown, noise)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    found = mean_of_m2(vae, known, noise)
    joint = ((log_given_label(x) + vae.log_prior) * known.y).sum(1)
    torch.testing.assert_close(found, joint, atol=1e-6, rtol=0)


def test_evidence_is_exact_at_the_exact_posterior(exact):
    vae, log_given_label = exact
    x = randn(5, N_COLUMNS, seed=1).double()
    expected = torch.logsumexp(log_given_label(x) + vae.log_prior, 1)
    for draw in semi.log_evidence(vae, x, None, randn(3, 1, N_LATENT).double()):
        torch.testing.assert_close(draw, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", ["classifier", "encoder"])
def test_bounds_lie_below_the_mixture_likelihood(exact, wrong):
    vae, log_given_label = exact
    with torch.no_grad():
        layer = getattr(vae, wrong).output
        layer.weight += 0.5 * randn(*layer.weight.shape, seed=4)
    x = randn(50, N_COLUMNS, seed=1).double()
    exact_value = torch.logsumexp(log_given_label(x) + vae.log_prior, 1)
    noise = cubature_noise(50, N_LATENT)
    batch = Batch(x, y=one_hot([-1] * 50).double())
    bound = mean_of_m2(vae, batch, noise)
    assert (bound < exact_value).all()
    assert bound.mean() < exact_value.mean() - 0.01


def test_summing_labels_out_agrees_with_drawing_them():
    """Value and gradient of the enumeration against Monte Carlo, score function."""
    logits = randn(2, N_CLASSES, seed=1).requires_grad_(True)
    bounds = 2 * randn(2, N_CLASSES, seed=2)
    vae = build("m2")
    log_q = F.log_softmax(logits, -1)
    terms = Terms(bounds, bounds, torch.zeros_like(bounds))
    value = semi.average_over_labels(vae, terms, one_hot([-1, -1]), log_q, 1.0)
    (gradient,) = torch.autograd.grad(value.objective.sum(), logits)

    torch.manual_seed(0)
    draws = Categorical(logits=logits.detach()).sample((200_000,))  # (draws, rows)
    reward = bounds + vae.log_prior - log_q.detach()
    rows = torch.arange(2)
    drawn = reward[rows, draws]
    score = F.one_hot(draws, N_CLASSES) - log_q.detach().exp()
    estimate = (drawn.unsqueeze(-1) * score).mean(0)
    torch.testing.assert_close(drawn.mean(0), value.objective, atol=0.02, rtol=0)
    torch.testing.assert_close(estimate, gradient, atol=0.02, rtol=0)


def test_a_known_label_does_not_ask_the_classifier():
    vae = build("m2")
    terms = Terms(*(randn(2, N_CLASSES, seed=seed) for seed in (1, 2, 3)))
    log_q = F.log_softmax(randn(2, N_CLASSES, seed=4), -1).requires_grad_(True)
    found = semi.average_over_labels(vae, terms, one_hot([1, 2]), log_q, 0.5)
    places = torch.arange(2), torch.tensor([1, 2])
    expected = (terms.reconstruction - 0.5 * terms.kl)[places] + vae.log_prior[1:]
    torch.testing.assert_close(found.objective, expected)
    (gradient,) = torch.autograd.grad(found.objective.sum(), log_q)
    assert not gradient.any()


@pytest.mark.parametrize("hidden_layer_sizes", [(), (5,), (6, 5)])
@pytest.mark.parametrize("linear_path", [False, True])
def test_every_label_at_once_is_one_after_the_other(hidden_layer_sizes, linear_path):
    network = MLP(
        N_COLUMNS + N_CLASSES,
        hidden_layer_sizes,
        2,
        "relu",
        generator(),
        linear_path=linear_path,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator(1))
    inputs = randn(7, N_COLUMNS)
    labels = torch.eye(N_CLASSES)
    rows = [torch.cat([inputs, y.expand(7, -1)], 1) for y in labels]
    found = labelled_vae.every_label(network, inputs.unsqueeze(0), N_CLASSES)
    torch.testing.assert_close(found, torch.stack([network(row) for row in rows]))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_by_label_are_those_of_a_conditional_vae(kind):
    vae, noise = build(kind), randn(1, 5, N_LATENT)
    x = randn(5, N_COLUMNS, seed=1)
    found = semi.label_bounds(vae, vae.inputs(x, None), Batch(x), noise)
    for label in range(1 if kind == "m1" else N_CLASSES):
        c = None if kind == "m1" else torch.eye(N_CLASSES)[label]
        qz = vae.encode(x, None, c)
        px = vae.decode(qz.rsample(noise), c)
        reconstruction = vae.joint.log_prob(px, x, None).mean(0)
        kl = kl_divergence(Normal(qz.loc, qz.log_scale.exp()), Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(found.reconstruction[:, label], reconstruction)
        torch.testing.assert_close(found.kl[:, label], kl)
        torch.testing.assert_close(found.objective[:, label], reconstruction - kl)


def test_only_m2_shows_the_label_to_the_encoder():
    x = randn(5, N_COLUMNS)
    for kind in KINDS:
        vae = build(kind)
        first, second = (vae.encode(x, None, y).loc for y in torch.eye(N_CLASSES)[:2])
        assert torch.equal(first, second) == (kind != "m2")


def test_the_prior_does_not_depend_on_the_label():
    for kind in KINDS:
        vae = build(kind)
        prior = vae.prior(torch.eye(N_CLASSES))
        torch.testing.assert_close(prior.rsample(x := randn(3, 2)), x)
