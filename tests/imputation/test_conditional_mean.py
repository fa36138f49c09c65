"""The conditional mean: inputs, outputs and training."""

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from mean_models import HEADS, NUMBERS, generator, make_mean, make_rows, mean_settings

from skvae._imputation.conditional_mean import Rows, held_out_member
from skvae._imputation.fit_mean import train_conditional_mean
from skvae._imputation.masking import (
    random_mask,
)
from skvae._imputation.settings import SETTINGS

# -- estimates --------------------------------------------------------------------


def test_estimates_are_weighted_means_of_networks_and_normal():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    outputs, baseline = model.members(rows.x, rows.x_original, rows.observed)
    assert outputs.shape == (3, 200, model.joint.n_outputs)
    for network_weight, expected in ((0.0, baseline), (1.0, outputs.mean(0))):
        model.network_weight.fill_(network_weight)
        found = model.expected(rows.x, rows.x_original, rows.observed)
        torch.testing.assert_close(found, model.joint.point_estimate(expected))
    context = model.context(rows.x, rows.x_original, rows.observed)
    assert context.shape == (200, model.n_context)


def test_estimates_depend_on_no_masked_cell(trained):
    model, rows, _, folds = trained
    mask = random_mask(rows.observed, 0.1, 0.9, generator())
    other = torch.where(mask, rows.x, torch.tensor([5.0, -7, 9, 1, 2]))
    for call in (
        lambda x: model.expected(x, x, mask),
        lambda x: model.context(x, x, mask),
        lambda x: model.context(x, x, mask, folds),
    ):
        assert torch.equal(call(rows.x), call(other))


def test_estimates_depend_on_input_cells(trained):
    model, rows, _, _ = trained
    mask = rows.observed
    before = model.expected(rows.x, rows.x_original, mask)
    moved = rows.x_original.clone()
    moved[:, 0] += 1
    after = model.expected(moved, moved, mask)
    changed = (after != before).any(1)
    assert torch.equal(changed, mask[:, 0])


def test_rows_do_not_depend_on_each_other(trained):
    model, rows, _, _ = trained
    together = model.expected(rows.x, rows.x_original, rows.observed)
    alone = [
        model.expected(*(t[i : i + 1] for t in rows[:3])) for i in range(len(rows.x))
    ]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-5)


def test_without_layers_it_is_the_normal():
    model, rows = make_mean(NUMBERS, ()), make_rows(NUMBERS)
    trace = model.initialise(rows)
    assert len(trace) > 1
    expected = model.gaussian.condition(rows.x_original, rows.observed.float())
    assert torch.equal(model.expected(*rows[:3]), expected)
    assert model.network_weight.tolist() == [0, 0, 0]
    assert model.ensemble is None


def test_wide_tables_have_no_normal():
    mixed = make_mean(widest_normal=4)  # seven inputs, three of them numbers
    assert len(mixed.indices.inputs) == 3
    neither = make_mean(widest_normal=2)
    assert len(neither.indices.inputs) == 0
    rows = make_rows()
    for model in (mixed, neither):
        model.initialise(rows)
        losses, _ = train_conditional_mean(
            model, rows, mean_settings(), 3e-3, generator()
        )
        assert losses[-1] < losses[0]
        assert torch.isfinite(model.expected(*rows[:3])).all()


def test_it_is_initialised_at_the_normal_and_the_marginals():
    """Before training the corrections by the networks are small."""
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    inputs, given = model.gaussian_inputs(rows.x_original, rows.observed)
    normal = model.gaussian.condition(inputs, given)
    outputs, baseline = model.members(rows.x, rows.x_original, rows.observed)
    torch.testing.assert_close(baseline[:, :3], normal[:, :3])
    chance = normal.clamp(SETTINGS.probability_floor, 1 - SETTINGS.probability_floor)
    torch.testing.assert_close(baseline[:, 3], chance[:, 3].logit())  # 0 or 1
    torch.testing.assert_close(baseline[:, 4:], chance[:, 4:].log())  # three categories
    assert (outputs - baseline).abs().mean() < 0.1


# -- training ------------------------------------------------------------------------


def test_training_reduces_the_loss(trained):
    _, _, losses, _ = trained
    assert len(losses) == SETTINGS.n_scores
    assert min(losses) < losses[0]
    assert np.isfinite(losses).all()


def test_every_member_holds_out_its_own_rows(trained):
    model, rows, _, folds = trained
    model = deepcopy(model)
    model.network_weight.fill_(1)  # the networks alone
    counts = torch.bincount(folds)
    assert len(counts) == SETTINGS.folds_per_member * model.n_members
    assert counts.min() >= 33
    outputs, _ = model.members(rows.x, rows.x_original, rows.observed, folds)
    own = model.context(rows.x, rows.x_original, rows.observed, folds)
    for i, fold in enumerate(folds):
        assert torch.equal(own[i, : outputs.shape[-1]], outputs[fold % 3, i])
    outputs, _ = model.members(rows.x, rows.x_original, rows.observed)
    average = model.context(rows.x, rows.x_original, rows.observed)
    torch.testing.assert_close(average[:, : outputs.shape[-1]], outputs.mean(0))
    # rows that all members have calls get the average, and the normal of all rows
    nobody = torch.full_like(folds, -1)
    again = model.context(rows.x, rows.x_original, rows.observed, nobody)
    torch.testing.assert_close(again, average)


def test_members_of_folds():
    folds = torch.arange(-1, 6)
    assert held_out_member(folds, 3).tolist() == [-1, 0, 1, 2, 0, 1, 2]


def test_training_rows_are_conditioned_by_normals_without_their_fold(trained):
    """A row's values change the estimates of no cell of its own fold."""
    model, rows, _, folds = trained
    model = deepcopy(model)
    _, baseline = model.members(rows.x, rows.x_original, rows.observed, folds)
    x_original = rows.x_original.clone()
    x_original[folds == 2] += 3 * rows.observed[folds == 2]
    inputs, given = model.gaussian_inputs(x_original, rows.observed)
    model.gaussian.fit_folds(inputs, given, rows.weight, folds, 6)
    _, moved = model.members(rows.x, rows.x_original, rows.observed, folds)
    changed = (baseline - moved).abs().amax(1) > 1e-6
    assert not changed[folds == 2].any()
    assert changed[folds != 2].float().mean() > 0.5


def test_half_precision_is_close():
    features = torch.randn(64, 200, generator=generator())
    ensemble = make_mean().ensemble
    results = {}
    for is_used in (False, True):
        ensemble.least_work = 0 if is_used else math.inf
        results[is_used] = ensemble(features[:, : ensemble.weights[0].shape[1]])
    assert results[True].dtype == torch.float32
    torch.testing.assert_close(results[True], results[False], atol=3e-3, rtol=2e-2)
    assert not torch.equal(results[True], results[False])
    with torch.no_grad():  # outside training nothing is rounded
        exact = ensemble(features[:, : ensemble.weights[0].shape[1]])
    assert torch.equal(exact, results[False])


def test_large_tables_have_one_normal():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    once = replace(mean_settings(3), cross_fit=False)
    _, folds = train_conditional_mean(model, rows, once, 3e-3, generator())
    assert model.gaussian.folds is None
    mask = rows.observed
    context = model.context(rows.x, rows.x_original, mask, folds)
    assert context.shape == (200, model.n_context)


@pytest.mark.parametrize("heads", [HEADS, NUMBERS])
def test_deviations_in_the_context_are_centred(heads):
    """They are logs, less their average over masked cells."""
    model, rows = make_mean(heads), make_rows(heads)
    model.initialise(rows)
    mask = random_mask(rows.observed, 0.1, 0.9, generator())
    model.set_mean_log_deviation(rows, mask)
    logs = model.context(rows.x, rows.x_original, mask)[:, -3:]
    masked = (rows.observed & ~mask)[:, :3]
    means = (logs * masked).sum(0) / masked.sum(0)
    torch.testing.assert_close(means, torch.zeros(3), atol=1e-5, rtol=0)
    _, mask = model.gaussian_inputs(rows.x_original, mask)
    expected = model.gaussian.deviation(mask, model.indices.locations).log()
    torch.testing.assert_close(logs + model.mean_log_deviation, expected)


def test_held_out_rows_are_not_trained_on(monkeypatch):
    model, rows = make_mean(), make_rows()
    rows = rows._replace(weight=1 + torch.arange(200.0))  # tells rows apart
    model.initialise(rows)
    calls, plain = [], model.loss

    def loss(batch, mask, member_weight):
        calls.append(((batch.weight - 1).long(), member_weight))
        return plain(batch, mask, member_weight)

    monkeypatch.setattr(model, "loss", loss)
    _, folds = train_conditional_mean(model, rows, mean_settings(10), 3e-3, generator())
    members = torch.arange(3).unsqueeze(1)
    scored = [call for call in calls if len(call[0]) == 800]  # four patterns per row
    steps = [call for call in calls if len(call[0]) == 64]
    assert len(steps) == 10 and len(scored) == 10
    for index, member_weight in steps:
        assert torch.equal(member_weight.bool(), folds[index] % 3 != members)
    for index, member_weight in scored:
        assert torch.equal(member_weight.bool(), folds[index] % 3 == members)


def test_of_few_rows_none_are_held_out():
    model, rows = make_mean(), make_rows(n_rows=14)
    model.initialise(rows)
    losses, folds = train_conditional_mean(
        model, rows, mean_settings(), 3e-3, generator()
    )
    assert folds is None
    assert min(losses) < losses[0]  # all rows train every network


def test_training_is_reproducible(trained):
    model, rows, losses, _ = trained
    again = make_mean()
    again.initialise(rows)
    found, _ = train_conditional_mean(again, rows, mean_settings(), 3e-3, generator())
    assert found == losses
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    train_conditional_mean(model, rows, mean_settings(3), 3e-3, generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_without_weight_do_not_count():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    mask = random_mask(rows.observed, 0.1, 0.9, generator())
    everyone = torch.ones(3, 200)
    weight = torch.ones(200)
    weight[50:] = 0
    found = model.loss(rows._replace(weight=weight), mask, everyone).detach()
    first = Rows(*(t[:50] for t in rows[:4]))
    expected = model.loss(first, mask[:50], everyone[:, :50]).detach()
    assert float(found * 4) == pytest.approx(float(expected), rel=1e-5)
