"""Heads: initialisation at the marginals, scales, gradients and extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_heads import (
    CODES,
    COUNTS,
    HEADS,
    N_CATEGORIES,
    N_COLUMNS,
    NUMBERS,
    generator,
    parts,
    random_head,
    simulated_table,
)
from scipy import stats

from skvae._distributions.joint import Joint
from skvae._distributions.location_scale import (
    LOG_SCALE_RANGE,
    SCALE_FLOOR,
)
from skvae._distributions.registry import make_head

# -- the marginal start --------------------------------------------------------


def marginal_log_likelihood(head, biases, x, weight):
    cells = head.log_prob(biases.expand(len(x), -1), x)
    return float((weight * cells).sum().detach())


BY_MOMENTS = ["student_t", "student_t_heteroscedastic", "negative_binomial"]


@pytest.mark.parametrize("name", [n for n in HEADS if n not in BY_MOMENTS])
def test_start_is_the_marginal_maximum_likelihood(name):
    x = simulated_table(name)
    weight = (torch.rand(x.shape, generator=generator()) < 0.8).double()
    head = make_head(name, N_COLUMNS, N_CATEGORIES).double()
    biases = head.initialise(x, weight)
    assert biases.shape == (head.n_outputs,)
    at_start = marginal_log_likelihood(head, biases, x, weight)
    for index in range(head.n_outputs):
        for step in (-0.1, 0.1):
            moved = biases.clone()
            moved[index] += step
            assert marginal_log_likelihood(head, moved, x, weight) < at_start
    for p in head.parameters():
        for index in range(p.numel()):
            for step in (-0.1, 0.1):
                with torch.no_grad():
                    p.view(-1)[index] += step
                moved = marginal_log_likelihood(head, biases, x, weight)
                with torch.no_grad():
                    p.view(-1)[index] -= step
                assert moved < at_start


@pytest.mark.parametrize("name", NUMBERS)
def test_start_has_the_moments_of_the_data(name):
    x = simulated_table(name)
    head = make_head(name, N_COLUMNS, 0).double()
    biases = head.initialise(x, torch.ones_like(x))
    loc, scale, freedom = parts(name, head, biases.detach())
    deviation = scale * (1 if freedom is None else np.sqrt(freedom / (freedom - 2)))
    expected = x.var(0, correction=0).numpy()
    if name == "normal_isotropic":
        expected = expected.mean()
    np.testing.assert_allclose(loc, x.mean(0).numpy())
    np.testing.assert_allclose(deviation**2, expected, rtol=1e-6)


# -- scales, gradients and extremes --------------------------------------------


@pytest.mark.parametrize(
    "name", ["normal_heteroscedastic", "student_t_heteroscedastic"]
)
def test_scale_per_cell(name):
    head = random_head(name)
    column_scale = head.floor + head.raw_log_scale.exp()
    outputs = torch.zeros(3, head.n_outputs, dtype=torch.float64)
    outputs[1, N_COLUMNS:], outputs[2, N_COLUMNS:] = 0.5, 1e6
    scale = head.scale(outputs)
    assert scale.shape == (3, N_COLUMNS)
    torch.testing.assert_close(scale[0], column_scale)
    assert (scale[1] > 1.5 * column_scale).all()  # near zero: a change of log-scale
    assert (scale[2] <= 1.001 * math.exp(LOG_SCALE_RANGE) * column_scale).all()
    head.gate.zero_()
    torch.testing.assert_close(head.scale(outputs), column_scale.expand(3, -1))


def test_shared_and_column_scales():
    assert make_head("normal_isotropic", N_COLUMNS, 0).raw_log_scale.numel() == 1
    assert make_head("normal", N_COLUMNS, 0).raw_log_scale.numel() == N_COLUMNS


def test_scale_stays_above_its_floor():
    head = make_head("normal", N_COLUMNS, 0)
    with torch.no_grad():
        head.raw_log_scale.fill_(-100.0)
    assert (head.scale(torch.zeros(1, N_COLUMNS)) >= SCALE_FLOOR).all()
    floor = torch.tensor([0.2, 0.3, 0.4])
    Joint([head]).set_floor(floor)
    torch.testing.assert_close(head.scale(torch.zeros(1, N_COLUMNS)), floor)


def test_floors_of_columns():
    """They go to the columns of numbers in turn; a shared scale has the smallest."""
    heads = [make_head(name, N_COLUMNS, N_CATEGORIES) for name in HEADS]
    joint = Joint(heads)
    joint.set_floor(torch.arange(1.0, 16.0))
    number_heads = heads[: len(NUMBERS)]
    expected = [[1, 2, 3], [4, 5, 6], [7], [10, 11, 12], [13, 14, 15]]
    assert [head.floor.tolist() for head in number_heads] == expected
    assert all("floor" in head.state_dict() for head in number_heads)


@pytest.mark.parametrize("name", NUMBERS)
def test_deviations_are_set_above_the_floor(name):
    head = make_head(name, N_COLUMNS, 0).double()
    n = head.raw_log_scale.numel()
    head.floor.fill_(0.1)
    wanted = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[:n]
    with torch.no_grad():
        head.set_deviation(wanted)
    scale = head.scale(torch.zeros(head.n_outputs, dtype=torch.float64))
    found = scale * head.deviation_per_scale()
    torch.testing.assert_close(found.detach().flatten(), wanted)


@pytest.mark.parametrize("name", HEADS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_extremes_stay_finite_in_float32(name, data):
    head = make_head(name, 1, N_CATEGORIES)
    with torch.no_grad():
        for p in head.parameters():
            value = data.draw(st.floats(-30, 10, width=32))
            p.fill_(value)
    outputs = torch.tensor(
        data.draw(
            st.lists(
                st.floats(-1e4, 1e4, width=32),
                min_size=head.n_outputs,
                max_size=head.n_outputs,
            )
        )
    ).requires_grad_()
    if name in CODES:
        cells = st.integers(0, N_CATEGORIES - 1).map(float)
    elif name == "bernoulli":
        cells = st.sampled_from([0.0, 0.5, 1.0])
    elif name in COUNTS:
        cells = st.integers(0, 10**6).map(float)
    else:
        cells = st.floats(-(2.0**20), 2.0**20, width=32)
    log_prob = head.log_prob(outputs, torch.tensor([data.draw(cells)]))
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    for tensor in (outputs, *head.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()
    with torch.no_grad():
        assert torch.isfinite(head.point_estimate(outputs)).all()
        draws = head.sample(outputs.expand(3, -1), generator())
        assert torch.isfinite(draws).all()
    if name in (*CODES, "bernoulli", *COUNTS):
        assert log_prob.max() <= 1e-5  # of a probability
        assert draws.min() >= 0 and torch.equal(draws, draws.round())


@pytest.mark.parametrize("raw", [-20.0, 0.0, 3.0, 6.0, 10.0, 100.0])
def test_degrees_of_freedom_stay_where_float32_is_accurate(raw):
    head = make_head("student_t", 1, 0)
    with torch.no_grad():
        head.raw_freedom.fill_(raw)
    freedom = head.degrees_of_freedom().item()
    assert freedom >= 2
    x = torch.linspace(-4, 4, 9).unsqueeze(-1)
    outputs, scale = torch.zeros_like(x), head.scale(torch.zeros(1)).item()
    reference = stats.t.logpdf(x.numpy(), freedom, 0, scale)
    ours = head.log_prob(outputs, x).detach().numpy()
    np.testing.assert_allclose(ours, reference, atol=2e-4)


def test_student_t_approaches_the_normal():
    student, normal = make_head("student_t", 1, 0), make_head("normal", 1, 0)
    with torch.no_grad():
        student.raw_freedom.fill_(100.0)
    x = torch.linspace(-3, 3, 9).unsqueeze(-1)
    zeros = torch.zeros_like(x)
    difference = student.log_prob(zeros, x) - normal.log_prob(zeros, x)
    assert difference.abs().max() < 0.05


def test_unknown_likelihood():
    with pytest.raises(ValueError, match="Unknown likelihood 'gamma'"):
        make_head("gamma", 2, 0)
