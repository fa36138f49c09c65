"""Heads against scipy.stats: densities, draws, point values and embeddings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from random_heads import (
    CODES,
    COUNTS,
    HEADS,
    N_CATEGORIES,
    N_COLUMNS,
    NUMBERS,
    generator,
    parts,
    random,
    random_cells,
    random_head,
    simulated_table,
)
from scipy import stats
from scipy.special import log_softmax

from skvae._distributions.location_scale import (
    INPUT_RANGE,
)
from skvae._distributions.registry import make_head


def scipy_distribution(name, head, outputs):
    """The frozen distribution of every cell, for the heads that scipy has."""
    if name in NUMBERS:
        loc, scale, freedom = parts(name, head, outputs)
        if freedom is None:
            return stats.norm(loc, scale)
        return stats.t(freedom, loc, scale)
    if name == "bernoulli":
        return stats.bernoulli(1 / (1 + np.exp(-outputs.numpy())))
    mean = np.exp(outputs.numpy())
    if name == "poisson":
        return stats.poisson(mean)
    r = head.dispersion().detach().numpy()
    return stats.nbinom(r, r / (r + mean))


def logistic_differences(thresholds, outputs):
    """Return log P(x = c) as differences of logistic cdfs, (..., columns, codes)."""
    edges = np.pad(
        thresholds, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf))
    )
    low = edges[:, :-1] - outputs[..., None]
    high = edges[:, 1:] - outputs[..., None]
    # far to the right the upper tails keep the digits
    return np.log(
        np.where(
            low > 0,
            stats.logistic.sf(low) - stats.logistic.sf(high),
            stats.logistic.cdf(high) - stats.logistic.cdf(low),
        )
    )


def log_probabilities(head, outputs):
    """Return log P(x = c), (..., N_COLUMNS, N_CATEGORIES), through log_prob."""
    codes = torch.arange(N_CATEGORIES).to(outputs)
    cells = [c.expand(*outputs.shape[:-1], N_COLUMNS) for c in codes]
    return torch.stack([head.log_prob(outputs, x) for x in cells], -1).detach()


# -- densities -----------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in HEADS if n not in CODES])
def test_log_prob_equals_scipy(name):
    head = random_head(name)
    outputs = random(20, head.n_outputs)
    x = random_cells(name, 20)
    reference = scipy_distribution(name, head, outputs)
    log_prob = reference.logpdf if name in NUMBERS else reference.logpmf
    ours = head.log_prob(outputs, x).detach().numpy()
    np.testing.assert_allclose(ours, log_prob(x.numpy()), rtol=1e-10, atol=1e-12)


def test_bernoulli_accepts_grey_values():
    head, outputs = random_head("bernoulli"), random(5, N_COLUMNS)
    x = torch.rand(5, N_COLUMNS, generator=generator()).double()
    expected = -F.binary_cross_entropy_with_logits(outputs, x, reduction="none")
    torch.testing.assert_close(head.log_prob(outputs, x), expected)


def test_categorical_equals_log_softmax():
    head = random_head("categorical")
    outputs = 3 * random(20, head.n_outputs)
    logits = outputs.numpy().reshape(20, N_COLUMNS, N_CATEGORIES)
    np.testing.assert_allclose(
        log_probabilities(head, outputs).numpy(), log_softmax(logits, -1), rtol=1e-10
    )


def test_ordinal_equals_difference_of_logistic_cdfs():
    head = random_head("ordinal")
    outputs = 3 * random(20, head.n_outputs)
    reference = logistic_differences(
        head.thresholds().detach().numpy(), outputs.numpy()
    )
    np.testing.assert_allclose(
        log_probabilities(head, outputs).numpy(), reference, rtol=1e-9
    )


@pytest.mark.parametrize("output", [-60.0, -25.0, 25.0, 60.0])
def test_ordinal_is_accurate_in_the_tails(output):
    head = random_head("ordinal").float()
    outputs = torch.full((1, N_COLUMNS), output)
    thresholds = head.thresholds().detach().double().numpy()
    assert (np.diff(thresholds) > 0).all()
    reference = logistic_differences(thresholds, outputs.double().numpy())
    ours = log_probabilities(head, outputs).numpy()
    # float32, with log-probabilities down to -60
    np.testing.assert_allclose(ours, reference, atol=2e-5)


@pytest.mark.parametrize("n_categories", [2, 3, 9])
def test_ordinal_thresholds_increase(n_categories):
    head = make_head("ordinal", N_COLUMNS, n_categories)
    assert head.thresholds().shape == (N_COLUMNS, n_categories - 1)
    assert (head.thresholds().diff(dim=-1) > 0).all()
    codes = torch.arange(n_categories).float().unsqueeze(-1).expand(-1, N_COLUMNS)
    outputs = random(1, N_COLUMNS).float().expand(n_categories, -1)
    total = head.log_prob(outputs, codes).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(N_COLUMNS))


# -- sampling, point values and embedding --------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_sample_follows_the_distribution(name):
    n_draws = 40_000
    head = random_head(name, seed=3)
    outputs = random(1, head.n_outputs, seed=3)
    with torch.no_grad():
        draws = head.sample(outputs.expand(n_draws, -1), generator(5))
    assert draws.shape == (n_draws, N_COLUMNS)
    assert draws.dtype == outputs.dtype
    if name in NUMBERS:
        loc, scale, freedom = (
            None if p is None else np.broadcast_to(p, (1, N_COLUMNS))[0]
            for p in parts(name, head, outputs)
        )
        for column in range(N_COLUMNS):
            shape = () if freedom is None else (freedom[column],)
            family = stats.norm if freedom is None else stats.t
            reference = family(*shape, loc[column], scale[column])
            assert stats.kstest(draws[:, column].numpy(), reference.cdf).pvalue > 1e-3
        return
    n_codes = {"bernoulli": 2, **dict.fromkeys(COUNTS, 30)}.get(name, N_CATEGORIES)
    codes = torch.arange(n_codes).double().unsqueeze(-1).expand(-1, N_COLUMNS)
    expected = head.log_prob(outputs.expand(n_codes, -1), codes).exp().detach()
    frequency = (draws.unsqueeze(0) == codes.unsqueeze(1)).double().mean(1)
    standard_error = (expected * (1 - expected) / n_draws).sqrt()
    assert ((frequency - expected).abs() <= 4.5 * standard_error + 2 / n_draws).all()


def test_point_is_the_mean_of_numbers_and_the_mode_of_codes():
    for name in NUMBERS:
        head = random_head(name)
        outputs = random(5, head.n_outputs)
        torch.testing.assert_close(head.point_estimate(outputs), outputs[:, :N_COLUMNS])
    for name in ["bernoulli", *COUNTS]:
        head, outputs = random_head(name), random(5, N_COLUMNS)
        mean = scipy_distribution(name, head, outputs).mean()
        np.testing.assert_allclose(
            head.point_estimate(outputs).numpy(), mean, rtol=1e-6
        )
    for name in CODES:
        head = random_head(name)
        outputs = 2 * random(5, head.n_outputs)
        mode = log_probabilities(head, outputs).argmax(-1)
        assert torch.equal(head.point_estimate(outputs), mode.double())


def test_embedding():
    x = torch.tensor([[0.0, 3.0, 1.0]])
    one_hot = make_head("categorical", 3, 4).embed(x)
    assert one_hot.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]]
    thermometer = make_head("ordinal", 3, 4).embed(x)
    assert thermometer.tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0]]
    for name in COUNTS:
        torch.testing.assert_close(make_head(name, 3, 0).embed(x), torch.log1p(x))
    for name in [*NUMBERS, "bernoulli"]:
        assert torch.equal(make_head(name, 3, 0).embed(x), x)


@pytest.mark.parametrize("name", NUMBERS)
def test_embedding_cuts_off_wild_cells(name):
    x = simulated_table(name)
    head = make_head(name, N_COLUMNS, 0).double()
    head.initialise(x, torch.ones_like(x))
    deviations = torch.tensor([-1e6, -4, -1.2, -0.98, 0, 0.98, 1.2, 4, 1e6])
    deviations = INPUT_RANGE * deviations
    wild = x.mean(0) + deviations.unsqueeze(1) * x.std(0, correction=0)
    seen = head.embed(wild)
    assert torch.equal(seen[3:6], wild[3:6])
    reach = INPUT_RANGE * x.std(0, correction=0)
    torch.testing.assert_close(seen[:3], (x.mean(0) - reach).expand(3, -1))
    torch.testing.assert_close(seen[6:], (x.mean(0) + reach).expand(3, -1))
