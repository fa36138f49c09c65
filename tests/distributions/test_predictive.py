"""What a table's likelihoods say together over draws, and a temperature."""

import numpy as np
import pytest
import torch
from scipy import stats

from skvae._distributions.joint import Joint
from skvae._distributions.normal import DiagonalNormal, Mixture, StandardNormal
from skvae._distributions.predictive import cell_moments, tempered_latents
from skvae._distributions.registry import make_head

NAMES = ["categorical", "student_t", "bernoulli", "normal_heteroscedastic", "poisson"]


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def joint():
    """Two columns of each kind; noise of 0.5, 1.0, 2.0 and 4.0 of the numbers."""
    joint = Joint([make_head(name, 2, 3) for name in NAMES]).double()
    joint.set_deviation(torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64))
    return joint


def test_moments_of_cells(joint):
    """The law of total variance, by hand."""
    outputs = random(50, 3, joint.n_outputs)
    categories, numbers, flags, by_cell, counts = outputs.split(joint.outputs, -1)
    with torch.no_grad():
        mean, variance = cell_moments(joint, outputs)
    chance = categories.unflatten(-1, (2, 3)).softmax(-1).mean(0)
    share, rate = torch.sigmoid(flags), counts.exp()
    scale = torch.exp(7 * torch.tanh(by_cell[..., 2:] / 7))
    # the floor of 0.001 stays where it is
    scale = 1e-3 + (torch.tensor([2.0, 4.0]).double() - 1e-3) * scale
    expected = [
        (chance.argmax(-1).double(), torch.zeros(3, 2).double()),
        (numbers.mean(0), torch.tensor([0.25, 1.0]) + numbers.var(0, correction=0)),
        (share.mean(0), share.mean(0) * (1 - share.mean(0))),
        (
            by_cell[..., :2].mean(0),
            scale.square().mean(0) + by_cell[..., :2].var(0, correction=0),
        ),
        (rate.mean(0), rate.mean(0) + rate.var(0, correction=0)),
    ]
    means, variances = zip(*expected, strict=True)
    torch.testing.assert_close(mean, torch.cat(means, -1))
    torch.testing.assert_close(variance, torch.cat(variances, -1))


def test_draws_of_a_table_are_those_of_its_heads(joint):
    outputs = random(4, 6, joint.n_outputs)
    with torch.no_grad():
        for temperature in (0.0, 0.4, 1.0):
            one, other = (torch.Generator().manual_seed(1) for _ in range(2))
            parts = [h.sample(o, one, temperature) for h, o in joint.split(outputs)]
            together = joint.sample(outputs, other, temperature)
            assert torch.equal(together, torch.cat(parts, -1))
        one, other = (torch.Generator().manual_seed(1) for _ in range(2))
        parts = [h.sample_common(o, one) for h, o in joint.split(outputs)]
        together = joint.sample_common(outputs, other)
        assert torch.equal(together, torch.cat(parts, -1))


def test_scaled_deviations_of_a_table(joint):
    expected = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(joint.deviation().detach(), expected)
    shared = Joint([make_head("normal_isotropic", 3, 0), *joint])
    shared.set_deviation(torch.cat([torch.tensor([1.0, 2.0, 2.0]), expected]).double())
    alike = torch.full((3,), 3**0.5, dtype=torch.float64)
    found = shared.deviation().detach()
    torch.testing.assert_close(found.double(), torch.cat([alike, expected]))
    assert len(Joint([make_head("poisson", 2, 0)]).deviation()) == 0
    assert Joint([make_head("poisson", 2, 0), make_head("normal", 1, 0)]).is_numeric
    assert not joint.is_numeric


def test_quantiles_of_columns_of_a_table(joint):
    outputs, levels = random(7, 5, joint.n_outputs), np.array([0.05, 0.5, 0.7])
    columns, _, locations = joint.location_scale_indices()
    assert columns.tolist() == [2, 3, 6, 7]
    freedom = joint.heads[1].degrees_of_freedom().detach().numpy()
    noise = {
        2: stats.t(freedom[0], scale=0.5 * np.sqrt(1 - 2 / freedom[0])),
        3: stats.t(freedom[1], scale=1.0 * np.sqrt(1 - 2 / freedom[1])),
        6: stats.norm(scale=2.0),
        7: stats.norm(scale=4.0),
    }
    outputs[..., locations[2:] + 2] = 0  # log-scales stay
    for column, location in zip(columns.tolist(), locations.tolist(), strict=True):
        expected = outputs[..., location].numpy() + noise[column].ppf(
            levels[:, None, None]
        )
        found = joint.quantiles(outputs, levels, column)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(IndexError):
        joint.quantiles(outputs, levels, 10)


@pytest.mark.parametrize("kind", ["standard", "normal", "mixture"])
def test_temperature_of_latents(kind):
    loc, log_scale = random(2, 3, 2, seed=1)
    normal = DiagonalNormal(loc, log_scale)
    weight = torch.tensor([0.2, 0.5, 0.3]).double().log()
    pz = {
        "standard": StandardNormal(),
        "normal": normal,
        "mixture": Mixture(weight, normal),
    }[kind]
    noise = random(6, 3, 2 + (kind == "mixture"))
    z = pz.rsample(noise)
    mean = torch.zeros(2).double() if kind == "standard" else pz.mean
    for temperature in (0.0, 0.3, 1.0):
        found = tempered_latents(pz, noise, temperature)
        torch.testing.assert_close(found, mean + temperature * (z - mean))
