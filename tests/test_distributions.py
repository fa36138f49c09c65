"""Heads and latent families against scipy.stats and torch.distributions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_softmax

from skvae._distributions.joint import Joint
from skvae._distributions.location_scale import (
    INPUT_RANGE,
    LOG_SCALE_RANGE,
    SCALE_FLOOR,
    START_FREEDOM,
    HeavyTail,
)
from skvae._distributions.normal import DiagonalNormal, StandardNormal
from skvae._distributions.registry import make_head

N_COLUMNS = 3
N_CATEGORIES = 4
NUMBERS = [
    "normal",
    "normal_heteroscedastic",
    "normal_isotropic",
    "student_t",
    "student_t_heteroscedastic",
]
CODES = ["categorical", "ordinal"]
HEADS = [*NUMBERS, "bernoulli", *CODES, "poisson"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def random_head(name, seed=0):
    """A float64 head whose own parameters are away from their initial values."""
    head = make_head(name, N_COLUMNS, N_CATEGORIES).double()
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.5 * random(*p.shape, seed=seed))
    return head


def random_cells(name, n_rows, seed=1):
    """Valid values of N_COLUMNS columns."""
    draws = torch.rand(n_rows, N_COLUMNS, generator=generator(seed)).double()
    if name == "bernoulli":
        return (draws < 0.4).double()
    if name in CODES:
        return (draws * N_CATEGORIES).floor()
    if name == "poisson":
        return (draws * 12).floor()
    return 4 * draws - 2


def parts(name, head, outputs):
    """Location, scale and degrees of freedom of a head of numbers, as NumPy."""
    loc = outputs[..., :N_COLUMNS].numpy()
    raw = head.raw_log_scale.detach().numpy()
    if name.endswith("heteroscedastic"):
        shift = outputs[..., N_COLUMNS:].numpy()
        raw = raw + LOG_SCALE_RANGE * np.tanh(shift / LOG_SCALE_RANGE)
    freedom = None
    if name.startswith("student_t"):
        freedom = head.freedom().detach().numpy()
    return loc, head.floor.numpy() + np.exp(raw), freedom


def scipy_distribution(name, head, outputs):
    """The frozen distribution of every cell, for the heads that scipy has."""
    if name in NUMBERS:
        loc, scale, freedom = parts(name, head, outputs)
        if freedom is None:
            return stats.norm(loc, scale)
        return stats.t(freedom, loc, scale)
    if name == "bernoulli":
        return stats.bernoulli(1 / (1 + np.exp(-outputs.numpy())))
    return stats.poisson(np.exp(outputs.numpy()))


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
    n_codes = {"poisson": 30, "bernoulli": 2}.get(name, N_CATEGORIES)
    codes = torch.arange(n_codes).double().unsqueeze(-1).expand(-1, N_COLUMNS)
    expected = head.log_prob(outputs.expand(n_codes, -1), codes).exp().detach()
    frequency = (draws.unsqueeze(0) == codes.unsqueeze(1)).double().mean(1)
    standard_error = (expected * (1 - expected) / n_draws).sqrt()
    assert ((frequency - expected).abs() <= 4.5 * standard_error + 2 / n_draws).all()


def test_point_is_the_mean_of_numbers_and_the_mode_of_codes():
    for name in NUMBERS:
        head = random_head(name)
        outputs = random(5, head.n_outputs)
        torch.testing.assert_close(head.point(outputs), outputs[:, :N_COLUMNS])
    for name in ["bernoulli", "poisson"]:
        head, outputs = random_head(name), random(5, N_COLUMNS)
        mean = scipy_distribution(name, head, outputs).mean()
        np.testing.assert_allclose(head.point(outputs).numpy(), mean)
    for name in CODES:
        head = random_head(name)
        outputs = 2 * random(5, head.n_outputs)
        mode = log_probabilities(head, outputs).argmax(-1)
        assert torch.equal(head.point(outputs), mode.double())


def test_embedding():
    x = torch.tensor([[0.0, 3.0, 1.0]])
    one_hot = make_head("categorical", 3, 4).embed(x)
    assert one_hot.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]]
    thermometer = make_head("ordinal", 3, 4).embed(x)
    assert thermometer.tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0]]
    torch.testing.assert_close(make_head("poisson", 3, 0).embed(x), torch.log1p(x))
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


# -- the marginal start --------------------------------------------------------


def simulated_table(name, n_rows=2000):
    """Columns whose marginal distribution belongs to the head's family."""
    rng = np.random.default_rng(0)
    shape = (n_rows, N_COLUMNS)
    if name == "bernoulli":
        x = rng.random(shape) < [0.1, 0.5, 0.8]
    elif name in CODES:
        frequency = [[0.1, 0.4, 0.2, 0.3], [0.25] * 4, [0.6, 0.1, 0.1, 0.2]]
        x = np.stack([rng.choice(N_CATEGORIES, n_rows, p=p) for p in frequency], 1)
    elif name == "poisson":
        x = rng.poisson([0.5, 3.0, 20.0], shape)
    else:
        x = rng.normal([-1, 0, 5], 2.0 if "isotropic" in name else [0.3, 1, 4], shape)
    return torch.from_numpy(x.astype(np.float64))


def marginal_log_likelihood(head, biases, x, weight):
    cells = head.log_prob(biases.expand(len(x), -1), x)
    return float((weight * cells).sum().detach())


@pytest.mark.parametrize("name", [n for n in HEADS if "student" not in n])
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


# -- scales and extremes -------------------------------------------------------


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
    elif name == "poisson":
        cells = st.integers(0, 10**6).map(float)
    else:
        cells = st.floats(-(2.0**20), 2.0**20, width=32)
    log_prob = head.log_prob(outputs, torch.tensor([data.draw(cells)]))
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    for tensor in (outputs, *head.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()
    with torch.no_grad():
        assert torch.isfinite(head.point(outputs)).all()
        draws = head.sample(outputs.expand(3, -1), generator())
        assert torch.isfinite(draws).all()


@pytest.mark.parametrize("raw", [-20.0, 0.0, 3.0, 6.0, 10.0, 100.0])
def test_degrees_of_freedom_stay_where_float32_is_accurate(raw):
    head = make_head("student_t", 1, 0)
    with torch.no_grad():
        head.raw_freedom.fill_(raw)
    freedom = head.freedom().item()
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


# -- latent families -----------------------------------------------------------


def random_normal(seed, n_latent=4):
    loc, log_scale = random(2, 5, n_latent, seed=seed)
    return DiagonalNormal(loc, 0.5 * log_scale)


def torch_normal(normal):
    base = torch.distributions.Normal(normal.loc, normal.log_scale.exp())
    return torch.distributions.Independent(base, 1)


def test_diagonal_normal_density_and_draws():
    normal, z = random_normal(0), random(7, 5, 4, seed=3)
    torch.testing.assert_close(normal.log_prob(z), torch_normal(normal).log_prob(z))
    expected = normal.loc + normal.log_scale.exp() * z
    torch.testing.assert_close(normal.rsample(z), expected)


def test_standard_normal_density_and_draws():
    z = random(5, 4)
    same = DiagonalNormal(torch.zeros_like(z), torch.zeros_like(z))
    torch.testing.assert_close(StandardNormal().log_prob(z), same.log_prob(z))
    assert StandardNormal().rsample(z) is z


@pytest.mark.parametrize("conditional", [False, True])
def test_kl_equals_torch_and_monte_carlo(conditional):
    posterior = random_normal(0)
    prior = random_normal(1) if conditional else StandardNormal()
    zeros = torch.zeros_like(posterior.loc)
    reference = torch_normal(prior if conditional else DiagonalNormal(zeros, zeros))
    kl = posterior.kl(prior)
    assert kl.shape == (5,)
    torch.testing.assert_close(
        kl, torch.distributions.kl_divergence(torch_normal(posterior), reference)
    )
    z = posterior.rsample(random(20_000, 5, 4, seed=2))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    standard_error = log_ratio.std(0) / math.sqrt(len(z))
    assert ((log_ratio.mean(0) - kl).abs() < 4.5 * standard_error).all()


def test_kl_to_itself_is_zero():
    normal = random_normal(0)
    assert torch.equal(normal.kl(normal), torch.zeros(5, dtype=torch.float64))


# -- joint ---------------------------------------------------------------------


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
    points = torch.cat([head.point(o) for head, o, _ in triples], -1)
    assert torch.equal(joint.point(outputs), points)
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


def test_number_slots_and_deviations():
    names = ["ordinal", "normal_heteroscedastic", "categorical", "normal_isotropic"]
    joint = mixed_joint(names)
    columns, inputs, outputs = joint.location_scale_indices()
    x = mixed_cells(6, names)
    assert torch.equal(joint.embed(x, None)[:, inputs], x[:, columns])
    px = random(6, joint.n_outputs)
    assert torch.equal(px[:, outputs], joint.point(px)[:, columns])

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


def test_no_number_slots_without_numbers():
    slots = mixed_joint(["bernoulli", "poisson"]).location_scale_indices()
    assert [len(slot) for slot in slots] == [0, 0, 0]


def test_student_t_starts_from_suitable_tails():
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(2000, generator=generator)
    heavy = torch.from_numpy(stats.t(3).rvs(2000, random_state=0)).float()
    x = torch.stack([flat, heavy], 1)
    head = make_head("student_t", 2, 0)
    head.initialise(x, torch.ones_like(x))
    freedom = head.freedom().tolist()
    assert freedom == pytest.approx([START_FREEDOM[0], START_FREEDOM[-1]], rel=1e-3)


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
