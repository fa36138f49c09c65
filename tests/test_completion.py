"""The conditional mean: what it sees, how networks and normal share the work."""

import math
import warnings
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._imputation import conditional_mean
from skvae._imputation.blend import BlendSettings, choose_blend, choose_reach
from skvae._imputation.conditional_mean import ConditionalMean, Rows, member_of
from skvae._imputation.fit_mean import MeanSettings, train_conditional_mean
from skvae._imputation.masking import (
    has_patterns,
    hide,
    hide_like_others,
    judged,
    some_like_others,
)
from skvae._networks.mlp import HalfPrecision

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
    return MeanSettings(
        (8,), 3, most_hidden, 0.1, 64, n_steps, 1.0, 128, cross_fit=True
    )


@pytest.fixture
def trained():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
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


def patterned(n_rows=4_000):
    """Two kinds of rows: the first cell is missing, or the last two are."""
    observed = torch.ones(n_rows, 5, dtype=torch.bool)
    observed[::2, 0] = False
    observed[1::2, 3:] = False
    return observed


def kinds(masks):
    return {tuple(row) for row in masks.int().tolist()}


FIRST, LAST, BOTH = (0, 1, 1, 1, 1), (1, 1, 1, 0, 0), (0, 1, 1, 0, 0)


def test_patterns_of_other_rows():
    observed = patterned()
    visible = hide_like_others(observed, generator())
    assert kinds(visible) == {FIRST, LAST, BOTH}
    # half of the rows meet a pattern that is not theirs
    assert (visible != observed).any(1).float().mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(hide_like_others(observed, generator()), visible)
    assert not torch.equal(hide_like_others(observed, generator(1)), visible)


def test_half_of_the_rows_have_patterns_of_others():
    observed = patterned()
    nothing = torch.zeros_like(observed)
    visible = some_like_others(nothing, observed, generator())
    assert kinds(visible) == {FIRST, LAST, BOTH, (0, 0, 0, 0, 0)}
    kept = (visible == nothing).all(1).float().mean()
    assert kept == pytest.approx(0.5, abs=0.03)


def test_patterns_need_missing_cells():
    observed = torch.ones(100, 10, dtype=torch.bool)
    assert not has_patterns(observed)
    observed[:49, 0] = False  # 4.9%
    assert not has_patterns(observed)
    observed[:51, 0] = False
    assert has_patterns(observed)


def test_estimates_are_judged_on_patterns_of_the_table():
    observed = patterned()
    assert kinds(judged(observed, recipe().most_hidden, generator())) == {
        FIRST,
        LAST,
        BOTH,
    }
    # none to copy: at random
    complete = torch.ones(4_000, 5, dtype=torch.bool)
    visible = judged(complete, recipe().most_hidden, generator())
    assert len(kinds(visible)) == 2**5
    assert visible.float().mean() == pytest.approx(0.5, abs=0.02)


# -- what it says --------------------------------------------------------------------


def test_shapes():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
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
    trace = model.initialise(rows)
    assert len(trace) > 1
    expected = model.gaussian.condition(rows.y, rows.observed.float())
    assert torch.equal(model.expected(*rows[:3]), expected)
    assert model.share.tolist() == [0, 0, 0]
    assert model.ensemble is None


def test_wide_tables_have_no_normal():
    mixed = make_mean(widest_normal=4)  # seven inputs, three of them numbers
    assert len(mixed.slots) == 3
    neither = make_mean(widest_normal=2)
    assert len(neither.slots) == 0
    rows = make_rows()
    for model in (mixed, neither):
        model.initialise(rows)
        losses, _ = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
        assert losses[-1] < losses[0]
        assert torch.isfinite(model.expected(*rows[:3])).all()


def test_the_start_is_the_normal_and_the_marginals():
    """Before training networks say almost nothing."""
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    inputs, visible = model.gaussian_inputs(rows.y, rows.observed)
    normal = model.gaussian.condition(inputs, visible)
    outputs, start = model.members(rows.x, rows.y, rows.observed)
    torch.testing.assert_close(start[:, :3], normal[:, :3])
    chance = normal.clamp(
        conditional_mean.PROBABILITY_FLOOR, 1 - conditional_mean.PROBABILITY_FLOOR
    )
    torch.testing.assert_close(start[:, 3], chance[:, 3].logit())  # 0 or 1
    torch.testing.assert_close(start[:, 4:], chance[:, 4:].log())  # three categories
    assert (outputs - start).abs().mean() < 0.1


# -- training ------------------------------------------------------------------------


def test_training_reduces_the_loss(trained):
    _, _, losses, _ = trained
    assert len(losses) == recipe().n_scores
    assert min(losses) < losses[0]
    assert np.isfinite(losses).all()


def test_every_member_leaves_out_its_own_rows(trained):
    model, rows, _, folds = trained
    model = deepcopy(model)
    model.share.fill_(1)  # the networks alone
    counts = torch.bincount(folds)
    assert len(counts) == recipe().folds_per_member * model.n_members
    assert counts.min() >= 33
    outputs, _ = model.members(rows.x, rows.y, rows.observed, folds)
    own = model.context(rows.x, rows.y, rows.observed, folds)
    for i, fold in enumerate(folds):
        assert torch.equal(own[i, : outputs.shape[-1]], outputs[fold % 3, i])
    outputs, _ = model.members(rows.x, rows.y, rows.observed)
    average = model.context(rows.x, rows.y, rows.observed)
    torch.testing.assert_close(average[:, : outputs.shape[-1]], outputs.mean(0))
    # rows that all members have seen get the average, and the normal of all rows
    nobody = torch.full_like(folds, -1)
    again = model.context(rows.x, rows.y, rows.observed, nobody)
    torch.testing.assert_close(again, average)


def test_members_of_folds():
    folds = torch.arange(-1, 6)
    assert member_of(folds, 3).tolist() == [-1, 0, 1, 2, 0, 1, 2]


def test_training_rows_meet_normals_that_have_not_seen_them(trained):
    """A row's values change the estimates of no cell of its own fold."""
    model, rows, _, folds = trained
    model = deepcopy(model)
    _, start = model.members(rows.x, rows.y, rows.observed, folds)
    y = rows.y.clone()
    y[folds == 2] += 3 * rows.observed[folds == 2]
    inputs, visible = model.gaussian_inputs(y, rows.observed)
    model.gaussian.fit_folds(inputs, visible, rows.weight, folds, 6)
    _, moved = model.members(rows.x, rows.y, rows.observed, folds)
    changed = (start - moved).abs().amax(1) > 1e-6
    assert not changed[folds == 2].any()
    assert changed[folds != 2].float().mean() > 0.5


def test_half_precision_is_close():
    features = torch.randn(64, 200, generator=generator())
    ensemble = make_mean().ensemble
    results = {}
    for units in (False, True):
        ensemble.half_precision = HalfPrecision(units, least_work=0)
        results[units] = ensemble(features[:, : ensemble.weights[0].shape[1]])
    assert results[True].dtype == torch.float32
    torch.testing.assert_close(results[True], results[False], atol=3e-3, rtol=2e-2)
    assert not torch.equal(results[True], results[False])
    with torch.no_grad():  # outside training nothing is rounded
        exact = ensemble(features[:, : ensemble.weights[0].shape[1]])
    assert torch.equal(exact, results[False])


def test_large_tables_have_one_normal():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    once = replace(recipe(3), cross_fit=False)
    _, folds = train_conditional_mean(model, rows, once, 3e-3, generator())
    assert model.gaussian.fold_means is None
    v = rows.observed
    context = model.context(rows.x, rows.y, v, folds)
    assert context.shape == (200, model.n_context)


@pytest.mark.parametrize("heads", [HEADS, NUMBERS])
def test_deviations_in_the_context_are_centred(heads):
    """They are logs, less their average over hidden cells."""
    model, rows = make_mean(heads), make_rows(heads)
    model.initialise(rows)
    v = hide(rows.observed, 0.1, 0.9, generator())
    model.set_usual_deviation(rows, v)
    logs = model.context(rows.x, rows.y, v)[:, -3:]
    hidden = (rows.observed & ~v)[:, :3]
    means = (logs * hidden).sum(0) / hidden.sum(0)
    torch.testing.assert_close(means, torch.zeros(3), atol=1e-5, rtol=0)
    _, visible = model.gaussian_inputs(rows.y, v)
    expected = model.gaussian.deviation(visible, model.number_slots).log()
    torch.testing.assert_close(logs + model.usual_deviation, expected)


def test_left_out_rows_are_not_learned_from(monkeypatch):
    model, rows = make_mean(), make_rows()
    rows = rows._replace(weight=1 + torch.arange(200.0))  # tells rows apart
    model.initialise(rows)
    seen, plain = [], model.loss

    def loss(batch, v, kept):
        seen.append(((batch.weight - 1).long(), kept))
        return plain(batch, v, kept)

    monkeypatch.setattr(model, "loss", loss)
    _, folds = train_conditional_mean(model, rows, recipe(10), 3e-3, generator())
    members = torch.arange(3).unsqueeze(1)
    scored = [call for call in seen if len(call[0]) == 800]  # four patterns per row
    steps = [call for call in seen if len(call[0]) == 64]
    assert len(steps) == 10 and len(scored) == 10
    for index, kept in steps:
        assert torch.equal(kept.bool(), folds[index] % 3 != members)
    for index, kept in scored:
        assert torch.equal(kept.bool(), folds[index] % 3 == members)


def test_few_rows_are_left_out_by_nobody():
    model, rows = make_mean(), make_rows(n_rows=14)
    model.initialise(rows)
    losses, folds = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
    assert folds is None and np.isfinite(losses).all()


def test_training_is_reproducible(trained):
    model, rows, losses, _ = trained
    again = make_mean()
    again.initialise(rows)
    found, _ = train_conditional_mean(again, rows, recipe(), 3e-3, generator())
    assert found == losses
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    train_conditional_mean(model, rows, recipe(3), 3e-3, generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_without_weight_do_not_count():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    v = hide(rows.observed, 0.1, 0.9, generator())
    everyone = torch.ones(3, 200)
    weight = torch.ones(200)
    weight[50:] = 0
    found = model.loss(rows._replace(weight=weight), v, everyone).detach()
    first = Rows(*(t[:50] for t in rows[:4]))
    expected = model.loss(first, v[:50], everyone[:, :50]).detach()
    assert float(found * 4) == pytest.approx(float(expected), rel=1e-5)


# -- the blend -----------------------------------------------------------------------


def choose(monkeypatch, truth, start, outputs, v=None, heads=NUMBERS, **settings):
    """Return the shares for given outputs (members, rows, n_outputs)."""
    model = make_mean(heads, n_members=len(outputs))
    n_rows = len(truth)
    observed = torch.ones(truth.shape, dtype=torch.bool)
    folds = torch.arange(n_rows) % len(outputs)
    rows = Rows(truth, truth, observed, torch.ones(n_rows), folds)
    monkeypatch.setattr(model, "members", lambda x, y, v, fold: (outputs, start))
    v = ~observed if v is None else v
    choose_blend(model, rows, v, BlendSettings(**settings))
    return model.share


def test_shares_are_least_squares_on_a_grid(monkeypatch):
    normal, networks, noise = torch.randn(3, 500, 3, generator=generator())
    mixing = torch.tensor([0.3, 0.65, 0.95])
    truth = normal + mixing * (networks - normal) + 0.5 * noise
    three, alone = networks.expand(3, -1, -1), {"pooled_cells": 0.0, "least_gain": 0.0}
    share = choose(monkeypatch, truth, normal, three, **alone)
    a, b, t = (np.asarray(part)[..., None] for part in (normal, networks, truth))
    grid = np.linspace(0, 1, BlendSettings().n_shares)
    errors = ((t - a - grid * (b - a)) ** 2).sum(0)
    np.testing.assert_allclose(share, grid[errors.argmin(1)], atol=1e-6)


def test_shares_stay_between_0_and_1(monkeypatch):
    normal, networks = torch.randn(2, 500, 3, generator=generator())
    three = networks.expand(3, -1, -1)
    beyond = normal + 2 * (networks - normal)
    assert choose(monkeypatch, beyond, normal, three).tolist() == [1, 1, 1]
    short = normal - 2 * (networks - normal)
    assert choose(monkeypatch, short, normal, three).tolist() == [0, 0, 0]


def test_what_averaging_removes_does_not_count(monkeypatch):
    """Three networks with independent errors of variance 3/4, the normal's is 1.

    The share w leaves (1 - w)^2 + w^2 / 4, which is least at 0.8; judged by single
    networks it would be 0.57.
    """
    truth = torch.zeros(50_000, 3)
    start, *noise = torch.randn(4, 50_000, 3, generator=generator())
    outputs = math.sqrt(0.75) * torch.stack(noise)
    share = choose(monkeypatch, truth, start, outputs)
    torch.testing.assert_close(share, torch.full((3,), 0.8))


@pytest.mark.parametrize(("gain", "share"), [(0.009, 0), (0.011, 1)])
def test_small_gains_leave_the_normal_alone(monkeypatch, gain, share):
    """Errors of 1 and of less: the gain is half of what the variance falls by."""
    truth = torch.zeros(200, 3)
    start = torch.ones(200, 3)
    outputs = torch.full((3, 200, 3), math.sqrt(1 - 2 * gain))
    assert choose(monkeypatch, truth, start, outputs).tolist() == [share] * 3


def test_scales_of_columns_do_not_matter(monkeypatch):
    normal, networks, noise = torch.randn(3, 500, 3, generator=generator())
    truth = normal + 0.5 * (networks - normal) + noise
    three = networks.expand(3, -1, -1)
    expected = choose(monkeypatch, truth, normal, three)
    scale = torch.tensor([1e-2, 1.0, 1e2])
    share = choose(monkeypatch, truth * scale, normal * scale, three * scale)
    torch.testing.assert_close(share, expected)


@pytest.mark.parametrize("n_cells", [0, 3, 300])
@pytest.mark.parametrize("others_are_better", [True, False])
def test_few_cells_count_beside_those_of_other_columns(
    monkeypatch, n_cells, others_are_better
):
    """The first column has few cells, in which the networks are perfect."""
    truth = torch.zeros(300, 3)
    start = torch.ones(300, 3)
    outputs = torch.full((3, 300, 3), 0.0 if others_are_better else 2.0)
    outputs[..., 0] = 0
    v = torch.zeros(300, 3, dtype=torch.bool)
    v[n_cells:, 0] = True
    share = choose(monkeypatch, truth, start, outputs, v)
    assert share[1:].tolist() == [float(others_are_better)] * 2
    if others_are_better:
        assert share[0] == 1
    elif n_cells == 300:
        assert share[0] > 0.7
    else:  # few cells say little, none say nothing
        assert share[0] < 0.2


def test_categories_have_shares_of_their_own(monkeypatch):
    rows = make_rows(rate=0.0)
    right = torch.zeros(200, 7)
    right[:, :3] = rows.y[:, :3]
    right[:, 3] = 6 * rows.y[:, 3] - 3
    right[:, 4:] = 4 * torch.nn.functional.one_hot(rows.y[:, 4].long(), 3)
    wrong = torch.zeros(200, 7)
    # the networks are right in categories and wrong in numbers, and the other way round
    for numbers, categories in ((wrong, right), (right, wrong)):
        outputs = torch.cat([numbers[:, :3], categories[:, 3:]], 1)
        start = right + wrong - outputs
        share = choose(
            monkeypatch, rows.y, start, outputs.expand(3, -1, -1), heads=HEADS
        )
        expected = [0, 0, 0, 1, 1] if categories is right else [1, 1, 1, 0, 0]
        assert share.tolist() == expected


@pytest.mark.parametrize("heads", [NUMBERS, HEADS[1:]])
@pytest.mark.parametrize("n_members", [1, 2])
def test_nothing_is_said_of_one_network_or_no_numbers(monkeypatch, heads, n_members):
    rows = make_rows(HEADS, rate=0.0)
    y = rows.y[:, :3] if heads is NUMBERS else rows.y[:, 3:]
    n_outputs = 3 if heads is NUMBERS else 4
    outputs = torch.randn(n_members, 200, n_outputs, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        share = choose(
            monkeypatch, y, torch.zeros(200, n_outputs), outputs, heads=heads
        )
    assert torch.isfinite(share).all()


def test_estimates_of_noise_shrink_to_the_marginal():
    """Estimates with the same error of estimation, from none to much to tell."""
    n_rows, part = 4_000, 0.2
    signal, noise, error = torch.randn(3, n_rows, 3, generator=generator())
    strength = torch.tensor([0.0, 0.5, 3.0])
    truth = strength * signal + noise
    estimate = strength * signal + math.sqrt(part) * error
    weight = torch.ones(n_rows, 3)
    reach = choose_reach(truth, estimate, weight, torch.zeros(n_rows, 3))
    left, spread = 1 + part, strength**2 + part
    expected = (1 - part * 1.2 / left / spread).clamp(min=0)
    assert reach[0] < 0.1 and reach[2] > 0.97
    torch.testing.assert_close(reach[1], expected[1], atol=0.15, rtol=0)


def test_estimates_without_error_keep_their_reach():
    signal, noise = torch.randn(2, 4_000, 3, generator=generator())
    truth = torch.tensor([0.1, 0.5, 3.0]) * signal + noise
    weight = torch.ones(4_000, 3)
    reach = choose_reach(truth, truth - noise, weight, torch.zeros(4_000, 3))
    assert reach.tolist() == [1, 1, 1]


def test_one_outlier_is_no_reason_to_shrink():
    truth = torch.randn(200, 3, generator=generator())
    estimate = truth + 0.1
    estimate[0] = 50 * truth.sign()[0] + truth[0]
    nothing = torch.zeros(200, 3)
    assert (choose_reach(truth, estimate, nothing + 1, nothing) == 1).all()
    # what averaging removes is no error of the average
    error = torch.randn(200, 3, generator=generator(1))
    removed = nothing + 4
    assert (choose_reach(truth, 2 * error, nothing + 1, nothing) < 0.2).all()
    assert (choose_reach(truth, truth + 2 * error, nothing + 1, removed) == 1).all()


def test_the_share_of_every_column_is_used(trained):
    model, rows, _, _ = trained
    model = deepcopy(model)
    outputs, start = model.members(*rows[:3])
    model.share.copy_(torch.tensor([0.0, 0.5, 1.0, 0.5, 0.25]))
    model.reach.copy_(torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5]))
    of_outputs = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.25, 0.25, 0.25])
    reach = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5, 0.5, 0.5])
    mixed = (1 - of_outputs) * start + of_outputs * outputs.mean(0)
    mixed = model.start + reach * (mixed - model.start)
    context = model.context(*rows[:3])
    torch.testing.assert_close(context[:, :7], mixed, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        model.expected(*rows[:3]), model.joint.point(mixed), atol=1e-5, rtol=1e-5
    )
