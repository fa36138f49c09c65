"""The conditional mean: what it sees, how networks and normal share the work."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from skvae import _completion
from skvae._completion import (
    ConditionalMean,
    Recipe,
    Rows,
    choose_blend,
    hide,
    train_conditional_mean,
)
from skvae._distributions import Joint, make_head

HEADS = [("normal", 3, 0), ("bernoulli", 1, 0), ("categorical", 1, 3)]
NUMBERS = HEADS[:1]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_mean(heads=HEADS, hidden_layer_sizes=(8,), n_members=3, widest_normal=128):
    joint = Joint([make_head(*head) for head in heads])
    return ConditionalMean(
        joint, hidden_layer_sizes, n_members, "silu", generator(), widest_normal
    )


def make_rows(heads=HEADS, n_rows=200, rate=0.2, seed=0):
    """Correlated rows; hidden cells hold 0."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(n_rows, 1))
    numbers = 0.9 * level + 0.45 * rng.normal(size=(n_rows, 3))
    columns = [numbers]
    if len(heads) > 1:
        columns += [level > 0, np.digitize(level, [-0.5, 0.5])]
    x = torch.tensor(np.hstack(columns), dtype=torch.float32)
    observed = torch.tensor(rng.random(x.shape) > rate)
    x = x * observed
    return Rows(x, x.clone(), observed, torch.ones(n_rows))


def recipe(n_steps=60, most_hidden=0.9):
    return Recipe((8,), 3, most_hidden, 0.1, 64, n_steps, 128)


@pytest.fixture
def trained():
    model, rows = make_mean(), make_rows()
    model.start_at(rows)
    losses, folds = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
    return model, rows, losses, folds


# -- hiding --------------------------------------------------------------------------


def test_hide():
    observed = torch.rand(4_000, 10, generator=generator()) < 0.8
    visible = hide(observed, 0.1, 0.9, generator())
    assert not (visible & ~observed).any()
    shares = visible.sum(1) / observed.sum(1)
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    # the rate varies from row to row: more than binomial noise
    assert shares.std() > 0.25
    assert torch.equal(hide(observed, 0.1, 0.9, generator()), visible)
    assert not hide(observed, 1, 1, generator()).any()
    assert torch.equal(hide(observed, 0, 0, generator()), observed)


# -- what it says --------------------------------------------------------------------


def test_shapes():
    model, rows = make_mean(), make_rows()
    model.start_at(rows)
    outputs, start = model.members(rows.x, rows.y, rows.observed)
    assert outputs.shape == (3, 200, model.joint.n_outputs)
    assert start.shape == (200, model.joint.n_outputs)
    assert model.expected(rows.x, rows.y, rows.observed).shape == (200, 5)
    context = model.context(rows.x, rows.y, rows.observed)
    assert context.shape == (200, model.n_context)


def test_hidden_cells_are_not_seen(trained):
    model, rows, _, folds = trained
    v = hide(rows.observed, 0.1, 0.9, generator())
    other = torch.where(v, rows.x, torch.tensor([5.0, -7, 9, 1, 2]))
    for call in (
        lambda x: model.expected(x, x, v),
        lambda x: model.context(x, x, v),
        lambda x: model.context(x, x, v, folds),
    ):
        assert torch.equal(call(rows.x), call(other))


def test_visible_cells_are_seen(trained):
    model, rows, _, _ = trained
    v = rows.observed
    before = model.expected(rows.x, rows.y, v)
    moved = rows.y.clone()
    moved[:, 0] += 1
    after = model.expected(moved, moved, v)
    changed = (after != before).any(1)
    assert torch.equal(changed, v[:, 0])


def test_rows_do_not_depend_on_each_other(trained):
    model, rows, _, _ = trained
    together = model.expected(rows.x, rows.y, rows.observed)
    alone = [
        model.expected(*(t[i : i + 1] for t in rows[:3])) for i in range(len(rows.x))
    ]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-5)


def test_without_layers_it_is_the_normal():
    model, rows = make_mean(NUMBERS, ()), make_rows(NUMBERS)
    trace = model.start_at(rows)
    assert len(trace) > 1
    expected = model.gaussian.condition(rows.y, rows.observed.float())
    assert torch.equal(model.expected(*rows[:3]), expected)
    assert model.blend.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert model.ensemble is None


def test_wide_tables_have_no_normal():
    mixed = make_mean(widest_normal=4)  # seven inputs, three of them numbers
    assert len(mixed.slots) == 3
    neither = make_mean(widest_normal=2)
    assert len(neither.slots) == 0
    rows = make_rows()
    for model in (mixed, neither):
        model.start_at(rows)
        losses, _ = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
        assert losses[-1] < losses[0]
        assert torch.isfinite(model.expected(*rows[:3])).all()


def test_the_start_is_the_normal_and_the_marginals():
    """Before training networks say almost nothing."""
    model, rows = make_mean(), make_rows()
    model.start_at(rows)
    inputs, visible = model.gaussian_inputs(rows.y, rows.observed)
    normal = model.gaussian.condition(inputs, visible)
    outputs, start = model.members(rows.x, rows.y, rows.observed)
    torch.testing.assert_close(start[:, model.outputs], normal[:, :3])
    assert (outputs - start).abs().mean() < 0.1


# -- training ------------------------------------------------------------------------


def test_training_reduces_the_loss(trained):
    _, _, losses, _ = trained
    assert len(losses) == _completion.N_SCORES + 1  # the start is scored too
    assert min(losses) < losses[0]
    assert np.isfinite(losses).all()


def test_every_member_leaves_out_its_own_rows(trained):
    model, rows, _, folds = trained
    model = deepcopy(model)
    model.blend[0], model.blend[1] = 0, 1  # the networks alone
    counts = torch.bincount(folds)
    assert len(counts) == model.n_members and counts.min() >= 66
    outputs, _ = model.members(rows.x, rows.y, rows.observed)
    own = model.context(rows.x, rows.y, rows.observed, folds)
    for i, fold in enumerate(folds):
        assert torch.equal(own[i, : outputs.shape[-1]], outputs[fold, i])
    average = model.context(rows.x, rows.y, rows.observed)
    torch.testing.assert_close(average[:, : outputs.shape[-1]], outputs.mean(0))
    # rows that all members have seen get the average
    nobody = torch.full_like(folds, -1)
    again = model.context(rows.x, rows.y, rows.observed, nobody)
    torch.testing.assert_close(again, average)


def test_left_out_rows_are_not_learned_from(monkeypatch):
    model, rows = make_mean(), make_rows()
    rows = rows._replace(weight=1 + torch.arange(200.0))  # tells rows apart
    model.start_at(rows)
    seen, plain = [], model.loss

    def loss(batch, v, kept):
        seen.append(((batch.weight - 1).long(), kept))
        return plain(batch, v, kept)

    monkeypatch.setattr(model, "loss", loss)
    _, folds = train_conditional_mean(model, rows, recipe(10), 3e-3, generator())
    members = torch.arange(3).unsqueeze(1)
    scored = [call for call in seen if len(call[0]) == 200]
    steps = [call for call in seen if len(call[0]) == 64]
    assert len(steps) == 10 and len(scored) == 11
    for index, kept in steps:
        assert torch.equal(kept.bool(), folds[index] != members)
    for index, kept in scored:
        assert torch.equal(kept.bool(), folds[index] == members)


def test_few_rows_are_left_out_by_nobody():
    model, rows = make_mean(), make_rows(n_rows=14)
    model.start_at(rows)
    losses, folds = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
    assert folds is None and np.isfinite(losses).all()


def test_training_is_reproducible(trained):
    model, rows, losses, _ = trained
    again = make_mean()
    again.start_at(rows)
    found, _ = train_conditional_mean(again, rows, recipe(), 3e-3, generator())
    assert found == losses
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    model, rows = make_mean(), make_rows()
    model.start_at(rows)
    train_conditional_mean(model, rows, recipe(3), 3e-3, generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_without_weight_do_not_count():
    model, rows = make_mean(), make_rows()
    model.start_at(rows)
    v = hide(rows.observed, 0.1, 0.9, generator())
    everyone = torch.ones(3, 200)
    weight = torch.ones(200)
    weight[50:] = 0
    found = model.loss(rows._replace(weight=weight), v, everyone).detach()
    first = Rows(*(t[:50] for t in rows))
    expected = model.loss(first, v[:50], everyone[:, :50]).detach()
    assert float(found * 4) == pytest.approx(float(expected), rel=1e-5)


# -- the blend -----------------------------------------------------------------------


def blend_with(monkeypatch, normal, networks, truth):
    """Choose the blend of given estimates, (rows, numbers), of the hidden cells."""
    model = make_mean(NUMBERS)
    n_rows = len(truth)
    observed = torch.ones(truth.shape, dtype=torch.bool)
    rows = Rows(truth, truth, observed, torch.ones(n_rows))
    start = torch.zeros(n_rows, model.joint.n_outputs)
    start[:, model.outputs] = normal
    outputs = start.expand(3, -1, -1).clone()
    outputs[..., model.outputs] = networks
    monkeypatch.setattr(model, "members", lambda x, y, v: (outputs, start))
    choose_blend(model, rows, ~observed, torch.arange(n_rows) % 3)
    return model.blend


def test_the_blend_is_the_constrained_least_squares(monkeypatch):
    monkeypatch.setattr(_completion, "BLEND_SHARE", 0.0)
    monkeypatch.setattr(_completion, "BLEND_CELLS", 0.0)
    normal, networks, noise = torch.randn(3, 500, 3, generator=generator())
    mixed = 0.3 * normal + 0.7 * networks + 0.5 * noise
    blend = blend_with(monkeypatch, normal, networks, mixed)
    expected = []
    for j in range(3):  # a grid of shares, in NumPy
        shares = np.linspace(0, 1, 10_001)
        a, b, t = (np.asarray(part[:, j]) for part in (normal, networks, mixed))
        cost = [((t - (1 - w) * a - w * b) ** 2).sum() for w in shares]
        expected.append(shares[int(np.argmin(cost))])
    np.testing.assert_allclose(blend[1], expected, atol=2e-4)
    np.testing.assert_allclose(blend.sum(0), 1, rtol=1e-6)


def test_shares_stay_between_0_and_1(monkeypatch):
    normal, networks = torch.randn(2, 500, 3, generator=generator())
    beyond = normal + 2 * (networks - normal)
    assert blend_with(monkeypatch, normal, networks, beyond)[1].min() > 0.9
    short = normal - 2 * (networks - normal)
    assert blend_with(monkeypatch, normal, networks, short)[1].max() == 0


def test_few_cells_are_pulled_to_the_prior(monkeypatch):
    normal, networks = torch.randn(2, 2, 3, generator=generator())
    share = blend_with(monkeypatch, normal, networks, normal)[1]
    prior = _completion.BLEND_PRIOR
    assert (share > 0.8 * prior).all() and (share < prior).all()


@pytest.mark.parametrize("better", ["normal", "networks"])
def test_the_better_one_gets_the_weight(better, monkeypatch):
    model, rows = make_mean(NUMBERS), make_rows(NUMBERS, 2_000, rate=0.0)
    model.start_at(rows)
    truth, noise = rows.y, torch.randn(rows.y.shape, generator=generator())
    start = torch.zeros(2_000, model.joint.n_outputs)
    outputs = torch.zeros(3, 2_000, model.joint.n_outputs)
    good, bad = (start, outputs) if better == "normal" else (outputs, start)
    good[..., model.outputs], bad[..., model.outputs] = truth, noise
    monkeypatch.setattr(model, "members", lambda x, y, v: (outputs, start))
    v = hide(rows.observed, 0.5, 0.5, generator())
    choose_blend(model, rows, v, torch.arange(2_000) % 3)
    linear, network = model.blend
    winner, loser = (linear, network) if better == "normal" else (network, linear)
    assert winner.min() > 0.8 and loser.max() < 0.2
