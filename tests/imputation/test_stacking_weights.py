"""The conditional mean: how networks and normal network_weight the work."""

import math
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from mean_models import HEADS, NUMBERS, generator, make_mean, make_rows

from skvae._imputation.conditional_mean import Rows
from skvae._imputation.settings import Settings
from skvae._imputation.stacking import choose_shrinkage, choose_stacking


def choose(monkeypatch, truth, baseline, outputs, mask=None, heads=NUMBERS, **settings):
    """Return the network weights for given outputs (members, rows, n_outputs)."""
    model = make_mean(heads, n_members=len(outputs), settings=Settings(**settings))
    n_rows = len(truth)
    observed = torch.ones(truth.shape, dtype=torch.bool)
    folds = torch.arange(n_rows) % len(outputs)
    rows = Rows(truth, truth, observed, torch.ones(n_rows), folds)
    monkeypatch.setattr(
        model, "members", lambda x, x_original, mask, fold: (outputs, baseline)
    )
    mask = ~observed if mask is None else mask
    choose_stacking(model, rows, mask)
    return model.network_weight


def test_weights_are_least_squares_on_a_grid(monkeypatch):
    normal, networks, noise = torch.randn(3, 500, 3, generator=generator())
    mixing = torch.tensor([0.3, 0.65, 0.95])
    truth = normal + mixing * (networks - normal) + 0.5 * noise
    three, alone = networks.expand(3, -1, -1), {"pooled_cells": 0.0, "min_gain": 0.0}
    network_weight = choose(monkeypatch, truth, normal, three, **alone)
    a, b, t = (np.asarray(part)[..., None] for part in (normal, networks, truth))
    grid = np.linspace(0, 1, Settings().n_weights)
    errors = ((t - a - grid * (b - a)) ** 2).sum(0)
    np.testing.assert_allclose(network_weight, grid[errors.argmin(1)], atol=1e-6)


def test_weights_stay_between_0_and_1(monkeypatch):
    normal, networks = torch.randn(2, 500, 3, generator=generator())
    three = networks.expand(3, -1, -1)
    beyond = normal + 2 * (networks - normal)
    assert choose(monkeypatch, beyond, normal, three).tolist() == [1, 1, 1]
    short = normal - 2 * (networks - normal)
    assert choose(monkeypatch, short, normal, three).tolist() == [0, 0, 0]


def test_what_averaging_removes_does_not_count(monkeypatch):
    """Three networks with independent errors of variance 3/4, the normal's is 1.

    The weight w leaves (1 - w)^2 + w^2 / 4, which is least at 0.8; for single networks
    it would be 0.57.
    """
    truth = torch.zeros(50_000, 3)
    baseline, *noise = torch.randn(4, 50_000, 3, generator=generator())
    outputs = math.sqrt(0.75) * torch.stack(noise)
    network_weight = choose(monkeypatch, truth, baseline, outputs)
    torch.testing.assert_close(network_weight, torch.full((3,), 0.8))


@pytest.mark.parametrize(("gain", "network_weight"), [(0.009, 0), (0.011, 1)])
def test_small_gains_leave_the_normal_alone(monkeypatch, gain, network_weight):
    """Errors of 1 and of less: the gain is half of what the variance falls by."""
    truth = torch.zeros(200, 3)
    baseline = torch.ones(200, 3)
    outputs = torch.full((3, 200, 3), math.sqrt(1 - 2 * gain))
    assert (
        choose(monkeypatch, truth, baseline, outputs).tolist() == [network_weight] * 3
    )


def test_scales_of_columns_do_not_matter(monkeypatch):
    normal, networks, noise = torch.randn(3, 500, 3, generator=generator())
    truth = normal + 0.5 * (networks - normal) + noise
    three = networks.expand(3, -1, -1)
    expected = choose(monkeypatch, truth, normal, three)
    scale = torch.tensor([1e-2, 1.0, 1e2])
    network_weight = choose(monkeypatch, truth * scale, normal * scale, three * scale)
    torch.testing.assert_close(network_weight, expected)


@pytest.mark.parametrize("n_cells", [0, 3, 300])
@pytest.mark.parametrize("others_are_better", [True, False])
def test_few_cells_count_beside_those_of_other_columns(
    monkeypatch, n_cells, others_are_better
):
    """The first column has few cells, in which the networks are perfect."""
    truth = torch.zeros(300, 3)
    baseline = torch.ones(300, 3)
    outputs = torch.full((3, 300, 3), 0.0 if others_are_better else 2.0)
    outputs[..., 0] = 0
    mask = torch.zeros(300, 3, dtype=torch.bool)
    mask[n_cells:, 0] = True
    network_weight = choose(monkeypatch, truth, baseline, outputs, mask)
    assert network_weight[1:].tolist() == [float(others_are_better)] * 2
    if others_are_better:
        assert network_weight[0] == 1
    elif n_cells == 300:
        assert network_weight[0] > 0.7
    else:  # few cells weigh little, none nothing
        assert network_weight[0] < 0.2


def test_categories_have_weights_of_their_own(monkeypatch):
    rows = make_rows(rate=0.0)
    right = torch.zeros(200, 7)
    right[:, :3] = rows.x_original[:, :3]
    right[:, 3] = 6 * rows.x_original[:, 3] - 3
    right[:, 4:] = 4 * torch.nn.functional.one_hot(rows.x_original[:, 4].long(), 3)
    wrong = torch.zeros(200, 7)
    # the networks are right in categories and wrong in numbers, and the other way round
    for numbers, categories in ((wrong, right), (right, wrong)):
        outputs = torch.cat([numbers[:, :3], categories[:, 3:]], 1)
        baseline = right + wrong - outputs
        network_weight = choose(
            monkeypatch,
            rows.x_original,
            baseline,
            outputs.expand(3, -1, -1),
            heads=HEADS,
        )
        expected = [0, 0, 0, 1, 1] if categories is right else [1, 1, 1, 0, 0]
        assert network_weight.tolist() == expected


@pytest.mark.parametrize("heads", [NUMBERS, HEADS[1:]])
@pytest.mark.parametrize("n_members", [1, 2])
def test_one_network_or_no_numbers_give_no_warning(monkeypatch, heads, n_members):
    rows = make_rows(HEADS, rate=0.0)
    x_original = rows.x_original[:, :3] if heads is NUMBERS else rows.x_original[:, 3:]
    n_outputs = 3 if heads is NUMBERS else 4
    outputs = torch.randn(n_members, 200, n_outputs, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network_weight = choose(
            monkeypatch, x_original, torch.zeros(200, n_outputs), outputs, heads=heads
        )
    assert (network_weight == 0).all()  # noise gains nothing


def test_estimates_of_noise_shrink_to_the_marginal():
    """Estimates with the same error of estimation, from none to much to tell."""
    n_rows, part = 4_000, 0.2
    signal, noise, error = torch.randn(3, n_rows, 3, generator=generator())
    strength = torch.tensor([0.0, 0.5, 3.0])
    truth = strength * signal + noise
    estimate = strength * signal + math.sqrt(part) * error
    weight = torch.ones(n_rows, 3)
    shrinkage = choose_shrinkage(truth, estimate, weight, torch.zeros(n_rows, 3))
    left, variance = 1 + part, strength**2 + part
    expected = (1 - part * 1.2 / left / variance).clamp(min=0)
    assert shrinkage[0] < 0.1 and shrinkage[2] > 0.97
    torch.testing.assert_close(shrinkage[1], expected[1], atol=0.15, rtol=0)


def test_estimates_without_error_are_not_shrunk():
    signal, noise = torch.randn(2, 4_000, 3, generator=generator())
    truth = torch.tensor([0.1, 0.5, 3.0]) * signal + noise
    weight = torch.ones(4_000, 3)
    shrinkage = choose_shrinkage(truth, truth - noise, weight, torch.zeros(4_000, 3))
    assert shrinkage.tolist() == [1, 1, 1]


def test_one_outlier_is_no_reason_to_shrink():
    truth = torch.randn(200, 3, generator=generator())
    estimate = truth + 0.1
    estimate[0] = 50 * truth.sign()[0] + truth[0]
    nothing = torch.zeros(200, 3)
    assert (choose_shrinkage(truth, estimate, nothing + 1, nothing) == 1).all()
    # the variance that averaging removes is no error of the average
    error = torch.randn(200, 3, generator=generator(1))
    removed = nothing + 4
    assert (choose_shrinkage(truth, 2 * error, nothing + 1, nothing) < 0.2).all()
    assert (choose_shrinkage(truth, truth + 2 * error, nothing + 1, removed) == 1).all()


def test_the_weight_of_every_column_is_used(trained):
    model, rows, _, _ = trained
    model = deepcopy(model)
    outputs, baseline = model.members(*rows[:3])
    model.network_weight.copy_(torch.tensor([0.0, 0.5, 1.0, 0.5, 0.25]))
    model.shrinkage.copy_(torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5]))
    of_outputs = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.25, 0.25, 0.25])
    shrinkage = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.5, 0.5, 0.5])
    mixed = (1 - of_outputs) * baseline + of_outputs * outputs.mean(0)
    mixed = model.marginal + shrinkage * (mixed - model.marginal)
    context = model.context(*rows[:3])
    torch.testing.assert_close(context[:, :7], mixed, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        model.expected(*rows[:3]),
        model.joint.point_estimate(mixed),
        atol=1e-5,
        rtol=1e-5,
    )
