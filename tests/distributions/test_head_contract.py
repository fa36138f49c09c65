"""The contract of heads, over all likelihoods of the registry.

No test here knows a likelihood by name: cells come from the heads' own draws. Exact
references (scipy, torch.distributions) stand in the tests of the single heads.
"""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from random_heads import (
    N_CATEGORIES,
    N_COLUMNS,
    fresh_head,
    generator,
    random,
    random_head,
)
from scipy import stats

from skvae._distributions.discrete import Codes
from skvae._distributions.head import Head
from skvae._distributions.registry import LIKELIHOODS, make_head

N_DRAWS = 40_000

REQUIRED = [
    "initialise",
    "log_prob",
    "point_estimate",
    "variance",
    "sample",
    "point_estimate_head",
]

pytestmark = pytest.mark.parametrize("name", LIKELIHOODS)


@torch.no_grad()
def cells_of(head, n_rows, seed=1):
    """A table whose rows all have the same, random decoder outputs."""
    outputs = random(1, head.n_outputs, seed=seed).expand(n_rows, -1)
    return outputs, head.sample(outputs, generator(seed))


def has_codes(head):
    return isinstance(head, Codes)


def close(one, other, **tolerance):
    torch.testing.assert_close(one, other, **tolerance)


def within_error(samples, expected):
    """Whether means over the first dimension are what they should be, by chance."""
    error = samples.std(0) / len(samples) ** 0.5
    return ((samples.mean(0) - expected).abs() <= 4.5 * error + 2 / len(samples)).all()


# -- shapes --------------------------------------------------------------------------


def test_shapes_and_dtypes(name):
    for dtype in (torch.float32, torch.float64):
        head = random_head(name).to(dtype)
        outputs = random(7, 5, head.n_outputs).to(dtype)
        with torch.no_grad():
            x = head.sample(outputs[0], generator())
            assert x.shape == (5, N_COLUMNS)
            cells = {
                "log_prob": head.log_prob(outputs, x),
                "point_estimate": head.point_estimate(outputs),
                "variance": head.variance(outputs),
                "sample": head.sample(outputs, generator(), 0.7),
                "sample_common": head.sample_common(outputs, generator()),
            }
            mean, variance = head.predictive_moments(outputs)
            embedded, biases = head.embed(x), head.initialise(x, torch.ones_like(x))
        for label, values in cells.items():
            assert values.shape == (7, 5, N_COLUMNS), label
            assert values.dtype == dtype, label
        assert mean.shape == variance.shape == (5, N_COLUMNS)
        assert embedded.shape == (5, head.n_inputs)
        assert biases.shape == (head.n_outputs,)
        assert {t.dtype for t in (mean, variance, embedded, biases)} == {dtype}
    # every column has as many as the next
    assert head.n_inputs % N_COLUMNS == head.n_outputs % N_COLUMNS == 0


def test_draws_of_z_are_separate(name):
    head = random_head(name)
    outputs, (_, x) = random(7, 5, head.n_outputs), cells_of(head, 5)
    for read in (head.point_estimate, head.variance, lambda out: head.log_prob(out, x)):
        close(read(outputs)[3], read(outputs[3]))


def test_rows_are_sums_of_columns(name):
    """The fast way too, and its gradients."""
    head = random_head(name)
    outputs, (_, x) = random(4, 5, head.n_outputs).requires_grad_(), cells_of(head, 5)
    inputs = [outputs, *head.parameters()]
    results = []
    for rows in (head.log_prob_rows(outputs, x), head.log_prob(outputs, x).sum(-1)):
        weighted = (rows * random(4, 5, seed=2)).sum()
        results.append([rows, *torch.autograd.grad(weighted, inputs)])
    for one, other in zip(*results, strict=True):
        close(one, other)


def test_meta_device(name):
    """No tensor is made on a device of its own."""
    head = make_head(name, N_COLUMNS, N_CATEGORIES).to("meta")
    outputs = torch.zeros(7, 5, head.n_outputs, device="meta")
    x = torch.zeros(5, N_COLUMNS, device="meta")
    for values in (
        head.log_prob(outputs, x),
        head.point_estimate(outputs),
        head.variance(outputs),
    ):
        assert values.shape == (7, 5, N_COLUMNS) and values.is_meta
    assert head.log_prob_rows(outputs, x).is_meta
    assert head.embed(x).shape == (5, head.n_inputs)
    assert head.initialise(x, torch.ones_like(x)).is_meta


# -- densities and draws -------------------------------------------------------------


def test_draws_have_the_density(name):
    """It integrates or sums to one, and draws follow it."""
    head = random_head(name, seed=3)
    outputs, x = cells_of(head, N_DRAWS, seed=5)

    @torch.no_grad()
    def density(values):
        cells = values.unsqueeze(-1).expand(-1, N_COLUMNS)
        return head.log_prob(outputs[:1].expand(len(cells), -1), cells).exp()

    if torch.equal(x, x.round()):
        values = x.unique()
        probability = density(values)
        found = (x.unsqueeze(0) == values.view(-1, 1, 1)).double().mean(1)
        error = (probability * (1 - probability) / N_DRAWS).sqrt()
        assert ((found - probability).abs() <= 4.5 * error + 2 / N_DRAWS).all()
        mass = probability.sum(0)
    else:
        values = torch.linspace(float(x.min()), float(x.max()), 20_001).double()
        steps = values.diff().unsqueeze(-1)
        height = density(values)
        below = F.pad(((height[1:] + height[:-1]) / 2 * steps).cumsum(0), (0, 0, 1, 0))
        for column in range(N_COLUMNS):
            levels = np.interp(x[:, column], values, below[:, column])
            assert stats.kstest(levels, "uniform").pvalue > 1e-3
        mass = below[-1]
    # all but what was too rare to be drawn
    assert (mass > 1 - 30 / N_DRAWS).all() and (mass < 1 + 1e-4).all()


def test_point_and_variance_are_those_of_draws(name):
    head = random_head(name, seed=3)
    outputs, x = cells_of(head, N_DRAWS, seed=6)
    with torch.no_grad():
        point, variance = head.point_estimate(outputs)[0], head.variance(outputs)[0]
    if has_codes(head):
        frequency = F.one_hot(x.long(), N_CATEGORIES).double().mean(0)
        of_point = frequency.gather(-1, point.long().unsqueeze(-1)).squeeze(-1)
        assert (of_point >= frequency.amax(-1) - 0.01).all()
        assert not variance.any()
    else:
        assert within_error(x, point)
        assert within_error((x - point).square(), variance)


def test_predictive_moments_are_those_of_draws(name):
    head = random_head(name, seed=3)
    outputs = 0.5 * random(N_DRAWS, 2, head.n_outputs, seed=7)
    outputs = outputs + random(head.n_outputs, seed=8)
    with torch.no_grad():
        mean, variance = head.predictive_moments(outputs)
        x = head.sample(outputs, generator(9))
    if has_codes(head):
        frequency = F.one_hot(x.long(), N_CATEGORIES).double().mean(0)
        of_mode = frequency.gather(-1, mean.long().unsqueeze(-1)).squeeze(-1)
        assert (of_mode >= frequency.amax(-1) - 0.01).all()
        assert not variance.any()
    else:
        assert within_error(x, mean)
        assert within_error((x - mean).square(), variance)


def test_probabilities_of_codes(name):
    head = random_head(name)
    if not has_codes(head):
        assert not hasattr(head, "log_probabilities")
        return
    assert not head.is_numeric
    outputs, (_, x) = random(5, head.n_outputs), cells_of(head, 5)
    log_probability = head.log_probabilities(outputs)
    assert log_probability.shape == (5, N_COLUMNS, N_CATEGORIES)
    close(log_probability.exp(), head.probabilities(outputs))
    picked = log_probability.gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
    close(picked, head.log_prob(outputs, x))
    warm = head.probabilities(outputs, 2.0)
    close(warm, (log_probability / 2).softmax(-1))


@torch.no_grad()
def test_draws_depend_on_their_generator_alone(name):
    head = random_head(name)
    outputs = random(4, 6, head.n_outputs)
    state = torch.get_rng_state()
    for draw in (head.sample, head.sample_common):
        first, again = (draw(outputs, generator(0)) for _ in range(2))
        assert torch.equal(first, again)
    other = head.sample(outputs, generator(1))
    assert not torch.equal(head.sample(outputs, generator(0)), other)
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_temperature(name):
    """At 1 nothing changes; at 0 draws are the centre; between, they are near it."""
    head = random_head(name)
    outputs = random(1, head.n_outputs).expand(2_000, -1)
    draws = {t: head.sample(outputs, generator(), t) for t in (0.0, 0.5, 1.0)}
    assert torch.equal(draws[1.0], head.sample(outputs, generator()))
    centre = draws[0.0]
    assert torch.equal(centre, head.sample(outputs, generator(1), 0.0))
    point = head.point_estimate(outputs)
    off = torch.zeros(()) if has_codes(head) else torch.full((), 0.5)
    assert ((centre - point).abs() <= off).all()
    if torch.equal(draws[1.0], draws[1.0].round()):  # values that columns have
        assert all(torch.equal(x, x.round()) for x in draws.values())
    else:
        close(centre, point)
    assert head.sample(0 * outputs, generator(), 0.0).isfinite().all()
    cold, warm = ((draws[t] - centre).abs().mean(0) for t in (0.5, 1.0))
    assert (cold < warm).all() and (cold > 0).any()


@torch.no_grad()
def test_common_draws_depend_on_no_other_row(name):
    head = random_head(name)
    outputs = random(9, 5, head.n_outputs)
    together = head.sample_common(outputs, generator())
    for row in range(5):
        alone = head.sample_common(outputs[:, row : row + 1], generator())
        close(together[:, row : row + 1], alone)
    # large counts: small ones are not as normal as their noise
    same = (3 + 0.5 * random(1, 1, head.n_outputs)).expand(500, 5, -1)
    draws = head.sample_common(same, generator())
    assert torch.equal(draws, draws[:, :1].expand_as(draws))
    if not head.is_numeric:
        assert torch.equal(draws, head.point_estimate(same))
    else:
        assert (draws.var(0) > 0).all()
        point, deviation = head.point_estimate(same)[0], head.variance(same)[0].sqrt()
        assert ((draws.mean(0) - point).abs() < 0.2 * deviation).all()
        ratio = draws.std(0) / deviation
        assert ((ratio > 0.7) & (ratio < 1.25)).all()


# -- learning ------------------------------------------------------------------------


def test_gradients_reach_every_output_and_parameter(name):
    head = random_head(name)
    outputs, (_, x) = random(200, head.n_outputs).requires_grad_(), cells_of(head, 200)
    head.log_prob(outputs, x).sum().backward()
    assert (outputs.grad.abs().sum(0) > 0).all()
    for label, p in head.named_parameters():
        assert p.grad is not None and (p.grad != 0).all(), label


def test_state_is_complete(name):
    """What was learned or measured comes back from a state_dict."""
    head = random_head(name)
    _, x = cells_of(head, 200)
    with torch.no_grad():
        head.initialise(x, torch.ones_like(x))
        if head.location_scale_indices():
            head.set_floor(torch.full((N_COLUMNS,), 0.2))
        for kept in head.state_dict().values():
            kept.add_(0.1 * random(*kept.shape).abs())
        again = fresh_head(name)
        again.load_state_dict(head.state_dict())
        outputs = random(200, head.n_outputs)
        close(again.log_prob(outputs, x), head.log_prob(outputs, x))
        close(again.variance(outputs), head.variance(outputs))
        if head.is_numeric:  # beyond what was seen
            x = 100 * x
        close(again.embed(x), head.embed(x))


@torch.no_grad()
def test_start_is_the_marginal_fit(name):
    """As likely as what the table was drawn from, on the cells that were observed."""
    truth = random_head(name, seed=4)
    outputs, x = cells_of(truth, 4_000, seed=4)
    weight = (torch.rand(x.shape, generator=generator()) < 0.7).double()
    head = fresh_head(name)
    biases = head.initialise(x, weight)

    def score(head, outputs):
        cells = head.log_prob(outputs.expand(len(x), -1), x)
        return (cells * weight).sum(0) / weight.sum(0)

    # a scale that several columns share has to serve them all
    difference = score(head, biases) - score(truth, outputs)
    assert difference.mean() > -0.003 and (difference > -0.02).all()


def test_start_leaves_missing_cells_out(name):
    _, x = cells_of(random_head(name), 200)
    weight = (torch.rand(x.shape, generator=generator()) < 0.7).double()
    starts = []
    for table in (x * weight, x.flip(0) * (1 - weight) + x * weight):
        head = fresh_head(name)
        biases = head.initialise(table, weight)
        starts.append([biases, *head.state_dict().values()])
    for one, other in zip(*starts, strict=True):
        close(one, other)


def test_start_is_finite_on_degenerate_columns(name):
    constant = torch.zeros(4, N_COLUMNS)
    for weight in (torch.ones_like(constant), torch.zeros_like(constant)):
        head = make_head(name, N_COLUMNS, N_CATEGORIES)
        biases = head.initialise(constant, weight)
        assert torch.isfinite(biases).all()
        assert all(torch.isfinite(p).all() for p in head.parameters())
        log_prob = head.log_prob(biases.expand(len(constant), -1), constant)
        assert torch.isfinite(log_prob).all()


# -- what the models ask of heads ----------------------------------------------------


def test_locations_and_scales(name):
    head = random_head(name)
    outputs, (_, x) = random(6, head.n_outputs), cells_of(head, 6)
    indices = head.location_scale_indices()
    assert [index.column for index in indices] in ([], list(range(N_COLUMNS)))
    for index in indices:
        assert head.is_numeric
        close(head.point_estimate(outputs)[:, index.column], outputs[:, index.output])
        close(head.embed(x)[:, index.input], x[:, index.column])
    scales = head.log_scale_outputs()
    assert len(scales) in (0, len(indices))
    for column, output in enumerate(scales):
        moved = outputs.clone()
        moved[:, output] += 1
        close(head.point_estimate(moved), head.point_estimate(outputs))
        ratio = head.variance(moved) / head.variance(outputs)
        assert (ratio[:, column] > 2).all()
        assert (ratio == 1).sum() == ratio.numel() - len(ratio)


@torch.no_grad()
def test_quantiles_are_those_of_draws(name):
    head = random_head(name).float()
    if not head.location_scale_indices():
        return
    outputs, levels = random(1, head.n_outputs).float(), np.array([0.1, 0.5, 0.8])
    draws = head.sample(outputs.expand(N_DRAWS, -1), generator())
    for column in range(N_COLUMNS):
        ends = head.quantiles(outputs, levels, column)
        assert ends.shape == (3, 1) and ends.dtype == np.float64
        share = (draws[:, column].numpy() <= ends).mean(axis=1)
        error = np.sqrt(levels * (1 - levels) / N_DRAWS)
        assert (np.abs(share - levels) < 4.5 * error).all()
        more = head.quantiles(outputs.expand(7, 5, -1), levels, column)
        np.testing.assert_array_equal(more, np.broadcast_to(ends[..., None], (3, 7, 5)))


def test_point_estimate_head(name):
    head = random_head(name)
    point_estimate_head = head.point_estimate_head()
    assert (
        isinstance(point_estimate_head, Head)
        and point_estimate_head.n_columns == N_COLUMNS
    )
    assert point_estimate_head.input_link is not None
    assert point_estimate_head.is_numeric == head.is_numeric
    copies = head.point_estimate_outputs()
    assert len(copies) in (0, point_estimate_head.n_outputs)
    if copies:
        outputs = random(6, head.n_outputs)
        close(
            point_estimate_head.point_estimate(outputs[:, list(copies)]),
            head.point_estimate(outputs),
        )


@torch.no_grad()
def test_link_of_the_expected_inputs(name):
    """Outputs at the link of the mean inputs are the marginal fit."""
    head = fresh_head(name)
    if head.input_link is None:
        pytest.skip("no output is a link of an input")
    _, x = cells_of(random_head(name), 4_000)
    biases = head.initialise(x, torch.ones_like(x))
    link = {"identity": lambda m: m, "logit": torch.logit, "log": torch.log}
    outputs = link[head.input_link](head.embed(x).mean(0))
    outputs = F.pad(outputs, (0, head.n_outputs - head.n_inputs))
    scores = [head.log_prob(o.expand(len(x), -1), x).mean(0) for o in (outputs, biases)]
    close(*scores, rtol=0, atol=1e-3)


def test_every_method_is_needed(name):
    """A likelihood that forgets one cannot be made."""
    kind = type(make_head(name, N_COLUMNS, N_CATEGORIES))
    assert issubclass(kind, Head) and not inspect.isabstract(kind)
    for method in REQUIRED:
        incomplete = type("Incomplete", (kind,), {method: getattr(Head, method)})
        with pytest.raises(TypeError, match=f"abstract method '?{method}"):
            incomplete(1)
