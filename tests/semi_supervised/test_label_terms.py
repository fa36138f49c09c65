"""What the objectives ask of the classifier: consistency, entropy, class balance."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_models import KINDS, N_CLASSES, N_COLUMNS, N_LATENT, build, one_hot, randn
from torch.distributions import Categorical, Normal, kl_divergence

from skvae._distributions.normal import DiagonalNormal
from skvae._networks.batch import Batch
from skvae._semi_supervised import objectives as semi
from skvae._semi_supervised.objectives import LabelOptions


def labelled_batch(vae, n_rows=6, n_labelled=4):
    noise = semi.batch_noise_width(vae)
    codes = torch.arange(n_rows) % (N_CLASSES + 1) - 1
    some = Batch(
        randn(n_labelled, N_COLUMNS, seed=5),
        y=one_hot(torch.arange(n_labelled) % N_CLASSES),
        noise=randn(n_labelled, noise, seed=6),
    )
    x = randn(n_rows, N_COLUMNS, seed=7)
    noise = randn(n_rows, noise, seed=8)
    return Batch(x, y=one_hot(codes), noise=noise, labelled=some)


# -- the classifier's terms ----------------------------------------------------------


def test_classification_is_cross_entropy():
    vae = build("m2")
    batch = labelled_batch(vae)
    some = batch.labelled
    logits = vae.logits(vae.inputs(some.x, None))
    found = semi.classification(vae, batch, LabelOptions(1.0, 0.0, 0.0))
    expected = -F.cross_entropy(logits, some.y.argmax(1))
    torch.testing.assert_close(found, expected)


def test_classification_is_weighted():
    vae = build("m2")
    batch = labelled_batch(vae, n_labelled=2)
    weight = torch.tensor([3.0, 1.0])
    repeated = batch.labelled.take(torch.tensor([0, 0, 0, 1]))
    weighted = batch.replace(labelled=batch.labelled.replace(weight=weight))
    options = LabelOptions(1.0, 0.0, 0.0)
    torch.testing.assert_close(
        semi.classification(vae, weighted, options),
        semi.classification(vae, batch.replace(labelled=repeated), options),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_weights_weigh(kind):
    """The objective is linear in the classification and the consistency weight."""
    vae = build(kind)
    batch, noise = labelled_batch(vae), randn(1, 6, N_LATENT)

    def value(weight, consistency_weight):
        options = LabelOptions(weight, consistency_weight, 0.5, total_steps=1, step=1)
        return semi.OBJECTIVES[kind](vae, batch, noise, options).objective

    plain = value(0.0, 0.0)
    expected = semi.classification(vae, batch, LabelOptions(1.0, 0.0, 0.0))
    torch.testing.assert_close(value(2.0, 0.0) - plain, (2 * expected).expand(6))
    loss = value(2.0, 0.0) - value(2.0, 1.5)
    assert loss.mean() > 0
    torch.testing.assert_close(loss, 3 * (value(1.0, 0.0) - value(1.0, 1.0)))


def test_masked_cells_are_seen_as_missing_by_the_classifier():
    vae = build("m2", masked=True)
    batch = labelled_batch(vae)
    _, cells, _ = semi.split_noise(vae, batch.noise)
    observed = torch.special.ndtr(cells) >= 0.4
    assert 0 < (~observed).float().mean() < 1
    expected = F.log_softmax(vae.logits(vae.inputs(batch.x, observed)), -1)
    torch.testing.assert_close(semi.log_label(vae, batch, 0.4), expected)
    # and a cell that is missing stays so
    observed[0] = False
    incomplete = batch.replace(observed=observed)
    expected = F.log_softmax(vae.logits(vae.inputs(batch.x, observed)), -1)
    torch.testing.assert_close(semi.log_label(vae, incomplete, 0.4), expected)
    assert not torch.equal(semi.log_label(vae, batch, 0.0), expected)


# -- consistency ---------------------------------------------------------------------


@pytest.mark.parametrize("consistency_weight", [0.0, 1.0])
def test_bounds_train_the_classifier_with_consistency_alone(consistency_weight):
    vae = build("m2")
    batch = Batch(randn(6, N_COLUMNS), y=one_hot([-1] * 6))
    noise = randn(1, 6, N_LATENT, seed=1)
    terms = semi.m2(vae, batch, noise, LabelOptions(1.0, consistency_weight, 0.5))
    terms.objective.sum().backward()
    gradient = vae.classifier.output.weight.grad
    assert (gradient is not None) == (consistency_weight > 0)
    assert vae.decoder.output.weight.grad.abs().max() > 0


def test_the_vat_loss_looks_in_the_worst_direction():
    vae = build("m2", ())
    with torch.no_grad():  # two classes in effect: the worst direction is known
        weight = torch.tensor([1.0, -2.0, 0.5, 0.0])
        vae.classifier.output.weight.copy_(torch.stack([weight, -weight, 0 * weight]))
        vae.classifier.output.bias.copy_(torch.tensor([0.3, 0.1, -50.0]))
    inputs, radius = randn(6, N_COLUMNS, seed=1), 0.3
    log_q = F.log_softmax(vae.logits(inputs), -1)

    def change(direction):
        shift = radius * direction / direction.norm()
        moved = Categorical(logits=vae.logits(inputs + shift))
        return kl_divergence(Categorical(logits=log_q), moved)

    found = semi.vat_loss(
        vae.logits, inputs, log_q, randn(6, N_COLUMNS, seed=2), radius
    )
    # to first order both ends of the axis are alike
    both = torch.stack([change(weight), change(-weight)])
    nearest = (found - both).abs().min(0).values
    assert (nearest < 1e-3 * both.max(0).values + 1e-5).all()
    for seed in range(5):
        assert found.sum() > change(randn(N_COLUMNS, seed=seed)).sum()


def test_the_vat_loss_of_no_distance_is_nothing():
    vae, inputs = build("m2"), randn(6, N_COLUMNS)
    log_q = F.log_softmax(vae.logits(inputs), -1)
    found = semi.vat_loss(vae.logits, inputs, log_q, randn(6, N_COLUMNS, seed=1), 0.0)
    torch.testing.assert_close(found, torch.zeros(6))


def test_the_vat_loss_teaches_the_neighbour_not_the_row():
    """The target of the divergence is held fixed."""
    vae, inputs = build("m2", ()), randn(6, N_COLUMNS)
    log_q = F.log_softmax(vae.logits(inputs), -1).detach().requires_grad_(True)
    found = semi.vat_loss(vae.logits, inputs, log_q, randn(6, N_COLUMNS, seed=1), 1.0)
    assert found.requires_grad  # by the classifier's weights
    assert torch.autograd.grad(found.sum(), log_q, allow_unused=True) == (None,)


@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_and_balance_of_the_labels(weighted):
    logits = randn(6, N_CLASSES, seed=1).double().requires_grad_(True)
    log_q = F.log_softmax(logits, -1)
    log_prior = torch.tensor([0.2, 0.3, 0.5]).double().log()
    weight = torch.tensor([1.0, 2, 3, 0.5, 1, 4]).double() if weighted else None
    share = (
        torch.full((6,), 1 / 6).double() if weight is None else weight / weight.sum()
    )
    mean = (share.unsqueeze(1) * log_q.exp()).sum(0)
    entropy = (share * Categorical(logits=log_q).entropy()).sum()
    expected = entropy + (mean * (mean.log() - log_prior)).sum()
    found = (share * semi.entropy_and_balance(log_q, log_prior, weight)).sum()
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


@settings(max_examples=25, deadline=None)
@given(
    n_rows=st.integers(2, 12), n_latent=st.integers(1, 4), seed=st.integers(0, 2**16)
)
def test_the_nearest_partner(n_rows, n_latent, seed):
    loc = randn(n_rows, n_latent, seed=seed).double()
    log_scale = 0.5 * randn(n_rows, n_latent, seed=seed + 1).double()
    partner = semi.nearest_partners(DiagonalNormal(loc, log_scale))
    q = Normal(loc.unsqueeze(1), log_scale.exp().unsqueeze(1))
    p = Normal(loc.unsqueeze(0), log_scale.exp().unsqueeze(0))
    divergence = kl_divergence(q, p).sum(-1).fill_diagonal_(math.inf)
    assert (partner != torch.arange(n_rows)).all()
    rows = torch.arange(n_rows)
    torch.testing.assert_close(divergence[rows, partner], divergence.min(1).values)


def test_interpolation_mixes_a_row_with_the_nearest():
    vae = build("shot", ())
    inputs, y = randn(3, N_COLUMNS), one_hot([0, 1, 2])
    log_q = F.log_softmax(vae.logits(inputs), -1)
    # noise so large that the share is 1: a mixture that is the row itself
    itself = semi.interpolation(vae, inputs, y, log_q, torch.full((3, 3), 9.0))
    torch.testing.assert_close(itself, F.cross_entropy(log_q, y, reduction="none"))
    other = semi.interpolation(vae, inputs, y, log_q, torch.full((3, 3), -9.0))
    partner = semi.nearest_partners(vae.encode_inputs(inputs, None))
    torch.testing.assert_close(other, itself[partner])
    mixed = semi.interpolation(vae, inputs, y, log_q, randn(3, 3))
    assert (mixed >= 0).all()


def test_interpolation_of_a_single_row_is_nothing():
    vae, inputs = build("shot"), randn(1, N_COLUMNS)
    log_q = F.log_softmax(vae.logits(inputs), -1)
    found = semi.interpolation(vae, inputs, one_hot([-1]), log_q, randn(1, 3))
    assert found.tolist() == [0.0]


def test_weights_of_a_mixture_follow_beta_2_2():
    weight = semi.mixing_weight(randn(200_000, 3))
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(weight.var()) == pytest.approx(0.05, abs=0.001)


def test_shot_charges_known_labels_for_their_surprise_too():
    vae = build("shot")
    x, noise = randn(3, N_COLUMNS), randn(1, 3, N_LATENT)
    batch = Batch(x, y=one_hot([0, 1, 2]))
    found = semi.shot(vae, batch, noise, LabelOptions(1.0, 0.0, 0.0)).objective
    bounds = semi.label_bounds(vae, vae.inputs(x, None), batch, noise)
    log_q = semi.log_label(vae, batch)
    label_kl = kl_divergence(
        Categorical(logits=log_q), Categorical(logits=vae.log_prior)
    )
    expected = bounds.objective.diagonal() - label_kl
    torch.testing.assert_close(found, expected)


def test_the_ramp_rises_to_one():
    options = LabelOptions(1.0, 1.0, 0.0, total_steps=100)
    values = []
    for options.step in range(100):
        values.append(options.ramp())
    assert values[0] == pytest.approx(math.exp(-5))
    assert np.all(np.diff(values) >= 0) and values[-1] == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    vae = build(kind)
    batch, noise = labelled_batch(vae), randn(1, 6, N_LATENT)
    options = LabelOptions(1.0, 1.0, 0.5, masking_rate=0.2, step=1)
    value = semi.OBJECTIVES[kind](vae, batch, noise, options)
    assert all(part.shape == (6,) for part in value)
    value.objective.sum().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_mix(kind):
    """A row's value depends on no other row, apart from the consistency loss."""
    vae = build(kind)
    batch, noise = labelled_batch(vae), randn(1, 6, N_LATENT)
    options = LabelOptions(1.0, 0.0, 0.0)
    before = semi.OBJECTIVES[kind](vae, batch, noise, options).objective
    x = batch.x.clone()
    x[3] += 1
    after = semi.OBJECTIVES[kind](vae, batch.replace(x=x), noise, options).objective
    changed = (before != after).nonzero().flatten().tolist()
    assert changed == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_made_where_the_batch_lies(kind):
    """On the meta device nothing is computed, but a tensor elsewhere fails."""
    vae = build(kind, masked=True).to("meta")
    batch = labelled_batch(vae)._map(lambda tensor: tensor.to("meta"))
    some = batch.labelled._map(lambda tensor: tensor.to("meta"))
    observed = torch.ones(6, N_COLUMNS, dtype=torch.bool, device="meta")
    batch = batch.replace(labelled=some, observed=observed)
    noise = torch.zeros(2, 6, N_LATENT, device="meta")
    options = LabelOptions(1.0, 1.0, 0.5, masking_rate=0.2)
    value = semi.OBJECTIVES[kind](vae, batch, noise[:1], options)
    assert value.objective.device.type == "meta"
    evidence = semi.log_evidence(vae, batch.x, observed, noise[:, :1])
    assert evidence.shape == (2, 6) and evidence.device.type == "meta"
