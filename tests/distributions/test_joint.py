"""The joint distribution of the columns, missing cells included."""

import pytest
import torch
from random_heads import (
    HEADS,
    N_CATEGORIES,
    N_COLUMNS,
    NUMBERS,
    generator,
    random,
    random_cells,
    random_head,
)
from scipy import stats

from skvae._distributions.joint import Joint
from skvae._distributions.location_scale import (
    INITIAL_DEGREES_OF_FREEDOM,
    HeavyTail,
)
from skvae._distributions.registry import make_head


def mixed_joint(names=HEADS):
    return Joint([random_head(name, seed) for seed, name in enumerate(names)])


def mixed_cells(n_rows, names=HEADS, seed=1):
    return torch.cat([random_cells(name, n_rows, seed) for name in names], -1)


def split_by_head(joint, outputs, x):
    parts = outputs.split(joint.outputs, -1), x.split(joint.columns, -1)
    return zip(joint.heads, *parts, strict=True)


@pytest.mark.parametrize("names", [["normal"], ["ordinal"], HEADS])
def test_joint_is_the_sum_of_its_heads(names):
    joint = mixed_joint(names)
    outputs, x = random(6, joint.n_outputs), mixed_cells(6, names)
    assert joint.n_columns == x.shape[1]
    expected = [head.log_prob(o, c) for head, o, c in split_by_head(joint, outputs, x)]
    cells = joint.log_prob_cells(outputs, x)
    torch.testing.assert_close(cells, torch.cat(expected, -1))
    total = sum(part.sum(-1) for part in expected)
    torch.testing.assert_close(joint.log_prob(outputs, x, None), total)
    everything = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(joint.log_prob(outputs, x, everything), total)


def test_joint_puts_embeddings_points_and_draws_side_by_side():
    joint = mixed_joint()
    outputs, x = random(6, joint.n_outputs), mixed_cells(6)
    triples = list(split_by_head(joint, outputs, x))
    embedded = torch.cat([head.embed(c) for head, _, c in triples], -1)
    assert torch.equal(joint.embed(x, None), embedded)
    assert embedded.shape[1] == joint.n_inputs
    points = torch.cat([head.point_estimate(o) for head, o, _ in triples], -1)
    assert torch.equal(joint.point_estimate(outputs), points)
    with torch.no_grad():
        one = generator()
        draws = torch.cat([head.sample(o, one) for head, o, _ in triples], -1)
        assert torch.equal(joint.sample(outputs, generator()), draws)


def test_joint_starts_every_head():
    joint = mixed_joint()
    x = mixed_cells(300)
    weight = (torch.rand(x.shape, generator=generator()) < 0.7).double()
    biases = joint.initialise(x, weight)
    assert biases.shape == (joint.n_outputs,)
    for head, name, start, (_, part, cells) in zip(
        joint.heads,
        HEADS,
        range(0, joint.n_columns, N_COLUMNS),
        split_by_head(joint, biases, x),
        strict=True,
    ):
        alone = make_head(name, N_COLUMNS, N_CATEGORIES).double()
        if "student" in name:
            alone.raw_freedom.data.copy_(head.raw_freedom.data)
        expected = alone.initialise(cells, weight[:, start : start + N_COLUMNS])
        torch.testing.assert_close(part, expected)
        for p, q in zip(head.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", HEADS)
def test_missing_cell_is_embedded_as_zeros(name):
    joint = Joint([make_head("normal", 1, 0), make_head(name, 3, 4)])
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    observed = torch.tensor([[True, True, False, True]])
    embedded = joint.embed(x, observed)[:, 1:].unflatten(-1, (3, -1))
    assert (embedded[:, 1] == 0).all()
    assert (embedded[:, [0, 2]] != 0).any(-1).all()


def test_missing_cells_do_not_contribute():
    joint = mixed_joint()
    x, other = mixed_cells(6), mixed_cells(6, seed=9)
    observed = torch.rand(x.shape, generator=generator()) < 0.5
    filled = torch.where(observed, x, other)
    assert torch.equal(joint.embed(x, observed), joint.embed(filled, observed))
    outputs = random(6, joint.n_outputs)
    torch.testing.assert_close(
        joint.log_prob(outputs, x, observed),
        (joint.log_prob_cells(outputs, x) * observed).sum(-1),
    )
    gradients = []
    for table in (x, filled):
        leaf = outputs.clone().requires_grad_()
        value = joint.log_prob(leaf, table, observed)
        parameters = [leaf, *joint.parameters()]
        gradients.append([value, *torch.autograd.grad(value.sum(), parameters)])
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


def test_missing_columns_give_no_gradient():
    joint = mixed_joint()
    x = mixed_cells(6)
    observed = torch.zeros_like(x, dtype=torch.bool)
    observed[:, 1] = True
    outputs = random(6, joint.n_outputs).requires_grad_()
    joint.log_prob(outputs, x, observed).sum().backward()
    assert (outputs.grad[:, 1] != 0).all()
    outputs.grad[:, 1] = 0
    assert not outputs.grad.any()
    first, *others = joint.heads
    assert first.raw_log_scale.grad.count_nonzero() == 1
    assert not any(p.grad.any() for head in others for p in head.parameters())


def test_location_scale_indices_and_deviations():
    names = ["ordinal", "normal_heteroscedastic", "categorical", "normal_isotropic"]
    joint = mixed_joint(names)
    columns, inputs, outputs = joint.location_scale_indices()
    x = mixed_cells(6, names)
    assert torch.equal(joint.embed(x, None)[:, inputs], x[:, columns])
    px = random(6, joint.n_outputs)
    assert torch.equal(px[:, outputs], joint.point_estimate(px)[:, columns])

    deviation = torch.tensor([0.5, 1.0, 2.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    joint.set_deviation(deviation)
    per_cell, isotropic = joint.heads[1], joint.heads[3]
    zero = torch.zeros(1, per_cell.n_outputs, dtype=torch.float64)
    torch.testing.assert_close(per_cell.scale(zero)[0].detach(), deviation[:3])
    shared = deviation[3:].square().mean().sqrt().reshape(1)
    torch.testing.assert_close(isotropic.scale(zero).detach(), shared)


def test_scale_per_cell_stays_only_where_validation_favours_it():
    """Column 0 needs a scale per cell, column 1 overfits one, column 2 is not free."""
    generator_ = generator()
    joint = Joint([make_head("bernoulli", 1, 0), make_head(NUMBERS[1], 3, 0)]).double()
    head = joint.heads[1]

    def side(n_rows):
        log_scale = torch.randn(n_rows, 1, generator=generator_).double()
        noise = torch.randn(n_rows, 3, generator=generator_).double()
        numbers = noise * torch.cat([log_scale.exp(), torch.ones(n_rows, 2)], 1)
        flags = torch.zeros(n_rows, 1, dtype=torch.float64)
        outputs = torch.cat([flags, 0 * numbers, log_scale.expand(-1, 3)], 1)
        x = torch.cat([flags, numbers], 1)
        return outputs, x, torch.ones_like(x)

    free = torch.tensor([False, True, True, False])
    valid = side(400)
    before = head.raw_log_scale.clone()
    joint.choose_scales(side(2000), valid, free)
    assert joint.has_scale_per_cell() == [False, True, False, True]
    scale = head.scale(valid[0][:, 1:])
    assert scale[:, 1].max() == scale[:, 1].min()  # one scale for the column
    assert scale[0, 1].item() == pytest.approx(1.0, abs=0.1)
    # the others are as they were
    torch.testing.assert_close(head.raw_log_scale[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(scale[:, 0], scale[:, 2])


def test_no_location_scale_indices_without_numeric_columns():
    indices = mixed_joint(["bernoulli", "poisson"]).location_scale_indices()
    assert [len(index) for index in indices] == [0, 0, 0]


def test_student_t_starts_from_suitable_tails():
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(2000, generator=generator)
    heavy = torch.from_numpy(stats.t(3).rvs(2000, random_state=0)).float()
    x = torch.stack([flat, heavy], 1)
    head = make_head("student_t", 2, 0)
    head.initialise(x, torch.ones_like(x))
    freedom = head.degrees_of_freedom().tolist()
    assert freedom == pytest.approx(
        [INITIAL_DEGREES_OF_FREEDOM[0], INITIAL_DEGREES_OF_FREEDOM[-1]], rel=1e-3
    )


def test_heavy_tail_has_the_gradient_of_its_formula():
    loc, x = random(2, 3, 5), random(3, 5, seed=1)
    rate, power = random(5, seed=2).exp(), random(5, seed=3).exp()
    inputs = [tensor.requires_grad_() for tensor in (loc, rate, power)]

    def tail(loc, rate, power):
        return HeavyTail.apply(loc, x, rate, power)

    expected = (power * torch.log1p((rate * (loc - x)).square())).sum(-1)
    torch.testing.assert_close(tail(*inputs), expected)
    assert torch.autograd.gradcheck(tail, inputs)


@pytest.mark.parametrize("name", HEADS)
def test_rows_without_a_mask_have_the_density_of_fully_observed_rows(name):
    joint = Joint([random_head(name), random_head("normal", seed=1)])
    x = torch.cat([random_cells(name, 4), random(4, N_COLUMNS)], -1)
    outputs = random(2, 4, joint.n_outputs)
    everything = torch.ones_like(x, dtype=torch.bool)
    torch.testing.assert_close(
        joint.log_prob(outputs, x, None), joint.log_prob(outputs, x, everything)
    )
