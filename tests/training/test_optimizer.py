"""The step and the schedule that all training loops share."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skvae._training.optimizer import (
    LEAST_GRADIENT,
    Adam,
    cosine,
    flatten_parameters,
    minimise,
    non_finite,
    unflatten_parameters,
)

# -- the schedule --------------------------------------------------------------------


@pytest.mark.parametrize("end", [0.0, 0.01, 1.0])
def test_ends_and_middle_of_the_wave(end):
    assert cosine(0, 200, initial=3.0, end=end) == 3.0
    assert cosine(100, 200, initial=3.0, end=end) == pytest.approx(1.5 * (1 + end))
    assert cosine(200, 200, initial=3.0, end=end) == pytest.approx(3 * end, abs=1e-15)


def test_it_is_the_schedule_of_torch():
    """CosineAnnealingLR, without a warm-up."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.03)
    for step in range(51):
        ours = cosine(step, 50, initial=0.3, end=0.1)
        assert ours == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_the_warm_up_rises_in_equal_parts():
    rates = [cosine(step, 100, warmup=10, phase_from=10) for step in range(12)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1.0  # the wave begins here
    assert rates[11] < 1.0
    assert cosine(55, 100, warmup=10, phase_from=10) == pytest.approx(0.5)


def test_warm_up_and_wave_multiply():
    step, n_steps = 4, 100
    wave = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    assert cosine(step, n_steps, warmup=10) == pytest.approx(0.5 * wave)


@given(st.integers(1, 60), st.integers(1, 80), st.floats(0, 1), st.integers(0, 80))
def test_rates_stay_between_nothing_and_the_first(n_steps, warmup, end, phase_from):
    options = {"warmup": warmup, "end": end, "phase_from": phase_from}
    rates = np.array([cosine(step, n_steps, **options) for step in range(n_steps)])
    assert (rates >= 0).all() and (rates <= 1).all()
    assert rates[0] > 0 or end == 0


# -- the step ------------------------------------------------------------------------


def make_network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return network


def losses(network, n_steps):
    """Yield losses of other rows at every step; the first ones are steep."""
    generator = torch.Generator().manual_seed(7)
    for step in range(n_steps):
        x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
        yield step, (10 if step < 5 else 1) * network(x).square().sum()


@pytest.mark.parametrize("clip", [None, 2.0])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_torch(clip, decay):
    ours, theirs = make_network(), make_network()
    flat = flatten_parameters(ours)
    adam = Adam(flat, 1.0, torch.ones_like(flat) if decay else None, decay)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    reference = kind(theirs.parameters(), weight_decay=decay)
    norms = []
    for (step, loss), (_, expected) in zip(
        losses(ours, 30), losses(theirs, 30), strict=True
    ):
        rate = cosine(step, 30, initial=0.05, warmup=3)
        minimise(loss, adam, rate, clip=clip)
        reference.zero_grad()
        expected.backward()
        gradients = [p.grad for p in theirs.parameters()]
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        for gradient in gradients if clip else []:
            gradient.mul_(min(1.0, clip / norms[-1]))
        reference.param_groups[0]["lr"] = rate
        reference.step()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    assert clip is None or min(norms) < clip < max(norms)  # else this shows nothing


def test_the_rate_stays_without_another():
    flat = flatten_parameters(make_network())
    adam = Adam(flat, 0.5)
    minimise(flat.square().sum(), adam)
    assert adam.learning_rate == 0.5
    minimise(flat.square().sum(), adam, 0.25)
    assert adam.learning_rate == 0.25


def test_every_parameter_has_its_own_decay():
    """A loss without a gradient: weights shrink by rate, share and step alone."""
    flat = nn.Parameter(torch.ones(3, dtype=torch.float64))
    flat.grad = torch.zeros_like(flat)
    adam = Adam(flat, 0.1, torch.tensor([0.0, 1.0, 2.0]).double(), decay_rate=0.5)
    for _ in range(4):
        minimise(0 * flat.sum(), adam, least_gradient=0.0)
    expected = (1 - 0.1 * 0.5 * np.array([0.0, 1.0, 2.0])) ** 4
    np.testing.assert_allclose(flat.detach(), expected, rtol=1e-12)


def test_gradients_do_not_add_up_over_steps():
    flat = nn.Parameter(torch.ones(2))
    flat.grad = torch.zeros_like(flat)
    adam = Adam(flat, 1e-3)
    for _ in range(3):
        minimise((3 * flat).sum(), adam)
        torch.testing.assert_close(flat.grad, torch.full((2,), 3.0))


def test_a_gradient_of_nothing_is_no_denormal_number():
    """A thousand steps without a gradient leave averages far from 1e-38."""
    flat = nn.Parameter(torch.ones(2))
    flat.grad = torch.zeros_like(flat)
    adam = Adam(flat, 0.0)
    minimise(flat[0] ** 2, adam)
    for _ in range(1_000):
        minimise(0 * flat.sum(), adam)
    smallest = torch.finfo(torch.float32).tiny
    assert (adam.state["exp_avg"] > smallest).all()
    torch.testing.assert_close(adam.state["exp_avg"][1].item(), LEAST_GRADIENT)


def test_leaves_outside_get_no_gradient():
    flat = nn.Parameter(torch.ones(2))
    flat.grad = torch.zeros_like(flat)
    other = torch.ones(2, requires_grad=True)
    minimise((flat * other).sum(), Adam(flat, 1e-3), inputs=[flat])
    assert other.grad is None
    torch.testing.assert_close(flat.grad, torch.ones(2))


def test_parameters_are_views_until_they_own_their_memory_again():
    network = make_network()
    before = [p.detach().clone() for p in network.parameters()]
    flat = flatten_parameters(network)
    with torch.no_grad():
        flat.mul_(2)
    for p, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, 2 * old)
    unflatten_parameters(network)
    with torch.no_grad():
        flat.zero_()
    for p, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, 2 * old)
        assert p.grad is None


def test_errors_name_stage_and_remedy():
    error = non_finite("The loss became non-finite in epoch 3", 0.01)
    assert str(error) == (
        "The loss became non-finite in epoch 3. Lower learning_rate_init (now 0.01), "
        "or look for extreme values in X and set numeric_transform='quantile'."
    )
    assert str(non_finite("The loss of A became non-finite")) == (
        "The loss of A became non-finite. Look for extreme values in X and set "
        "numeric_transform='quantile'."
    )
