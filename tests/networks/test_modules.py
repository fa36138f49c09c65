"""The VAE module: shapes, gradients, seeding and the linear start."""

import numpy as np
import pytest
import torch
from linear_gaussian import cubature_noise, normal_noise
from scipy.stats import multivariate_normal

from skvae._distributions.joint import Joint
from skvae._distributions.normal import (
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    DiagonalNormal,
    StandardNormal,
)
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.mlp import ACTIVATIONS, MLP, make_linear
from skvae._networks.vae import VAE
from skvae._training.bounds import elbo

N_ROWS, N_LATENT, N_CONTEXT = 6, 3, 2
MIXED = [
    ("ordinal", 2, 4),
    ("normal", 3, 0),
    ("categorical", 2, 3),
    ("normal_heteroscedastic", 2, 0),
    ("poisson", 1, 0),
    ("bernoulli", 1, 0),
]


def make_vae(heads=(("normal", 4, 0),), hidden=(7, 5), *, seed=0, **options):
    joint = Joint([make_head(*head) for head in heads])
    generator = torch.Generator().manual_seed(seed)
    options.setdefault("activation", "tanh")
    return VAE(joint, N_LATENT, hidden, generator=generator, **options)


def make_batch(vae, *, missing=False, seed=3):
    """Rows that suit every head: zeros and ones, numbers around them."""
    x = (normal_noise(N_ROWS, vae.joint.n_columns, seed=seed) > 0).float()
    columns, _, _ = vae.joint.location_scale_indices()
    x[:, columns] += 0.5 * normal_noise(N_ROWS, len(columns), seed=seed).float()
    observed = None
    if missing:
        observed = normal_noise(N_ROWS, vae.joint.n_columns, seed=seed + 1) > -0.5
        x = x * observed
    c = normal_noise(N_ROWS, N_CONTEXT, seed=seed + 2).float()
    return Batch(x, observed, None, c if vae.n_context else None)


OPTIONS = [
    {},
    {"masked": True},
    {"n_context": N_CONTEXT},
    {"linear_path": True},
    {"masked": True, "n_context": N_CONTEXT, "linear_path": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
@pytest.mark.parametrize("missing", [False, True])
def test_shapes(options, hidden, missing):
    vae = make_vae(MIXED, hidden, **options)
    batch = make_batch(vae, missing=missing)
    assert len(batch) == N_ROWS
    for draws in [(), (4,)]:
        noise = normal_noise(*draws, N_ROWS, N_LATENT).float()
        qz, z, pz, px = vae(batch, noise)
        assert qz.loc.shape == qz.log_scale.shape == (N_ROWS, N_LATENT)
        assert z.shape == (*draws, N_ROWS, N_LATENT)
        assert px.shape == (*draws, N_ROWS, vae.joint.n_outputs)
        log_prob = vae.joint.log_prob(px, batch.x, batch.observed)
        assert log_prob.shape == (*draws, N_ROWS)
        assert torch.isfinite(log_prob).all()
        torch.testing.assert_close(z, qz.loc + qz.log_scale.exp() * noise)
        torch.testing.assert_close(px[..., 0, :], vae.decode(z, batch.c)[..., 0, :])
        assert pz.log_prob(z).shape == (*draws, N_ROWS)
        expected = DiagonalNormal if vae.n_context else StandardNormal
        assert isinstance(pz, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_reach_every_parameter(activation, options):
    vae = make_vae(MIXED, activation=activation, **options)
    batch = make_batch(vae, missing=True)
    noise = normal_noise(4, N_ROWS, N_LATENT).float()
    elbo(vae, batch, noise).objective.sum().backward()
    for name, p in vae.named_parameters():
        assert p.grad is not None and p.grad.any(), name
        assert torch.isfinite(p.grad).all(), name


# -- seeding --------------------------------------------------------------------


def test_seed_determines_the_weights():
    options = {"n_context": N_CONTEXT, "linear_path": True}
    one, same, other = (
        make_vae(MIXED, seed=seed, **options).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["decoder.output.weight"], other["decoder.output.weight"])


def test_building_leaves_the_global_random_states_alone():
    torch_state = torch.get_rng_state()
    numpy_state = np.random.mtrand._rand.get_state()[1].copy()
    for head in MIXED:
        make_vae([head], n_context=N_CONTEXT, linear_path=True)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.mtrand._rand.get_state()[1], numpy_state)


def test_forward_leaves_the_global_random_state_alone():
    vae = make_vae(MIXED, n_context=N_CONTEXT)
    state = torch.get_rng_state()
    vae(make_batch(vae), normal_noise(4, N_ROWS, N_LATENT).float())
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_are_xavier():
    layer = make_linear(300, 200, torch.Generator().manual_seed(0))
    assert layer.weight.shape == (200, 300)
    assert not layer.bias.any()
    limit = (6 / 500) ** 0.5
    assert 0.99 * limit < layer.weight.abs().max() <= limit
    assert layer.weight.var().item() == pytest.approx(limit**2 / 3, rel=0.02)


def test_weights_are_all_in_the_state_dict():
    one, other = make_vae(MIXED, seed=0), make_vae(MIXED, seed=1)
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.1)
    other.load_state_dict(one.state_dict())
    batch, noise = make_batch(one), normal_noise(2, N_ROWS, N_LATENT).float()
    assert torch.equal(
        elbo(one, batch, noise).objective, elbo(other, batch, noise).objective
    )


# -- parts ----------------------------------------------------------------------


def test_unknown_activation():
    with pytest.raises(KeyError, match="selu"):
        make_vae(activation="selu")


def test_multilayer_perceptron_is_its_layers():
    mlp = MLP(4, (7, 5), 3, "tanh", torch.Generator().manual_seed(0))
    x = normal_noise(6, 4).float()
    first, second = mlp.hidden[0], mlp.hidden[2]
    expected = mlp.output(torch.tanh(second(torch.tanh(first(x)))))
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize("hidden, linear_path", [((), False), ((), True), ((7,), True)])
def test_linear_start_of_a_perceptron(hidden, linear_path):
    generator = torch.Generator().manual_seed(0)
    mlp = MLP(4, hidden, 3, "relu", generator, linear_path=linear_path)
    weight, bias = normal_noise(3, 4).float(), normal_noise(3, seed=1).float()
    mlp.initialise_linear(weight, bias)
    x = normal_noise(6, 4, seed=2).float()
    torch.testing.assert_close(mlp(x), x @ weight.t() + bias)


def test_linear_path_adds_to_the_layers():
    generator = torch.Generator().manual_seed(0)
    mlp = MLP(4, (7,), 3, "relu", generator, linear_path=True)
    x = normal_noise(6, 4).float()
    before = mlp(x)
    direct = normal_noise(3, 4, seed=1).float()
    with torch.no_grad():
        mlp.output.weight[:, -4:] = direct
    torch.testing.assert_close(mlp(x) - before, x @ direct.t())


def test_posterior_scale_is_bounded():
    vae = make_vae(hidden=())
    qz = vae.encode(1e6 * make_batch(vae).x)
    assert qz.log_scale.min() == LOG_SCALE_MIN
    assert qz.log_scale.max() == LOG_SCALE_MAX
    assert torch.isfinite(qz.kl(StandardNormal())).all()


def test_encoder_sees_which_cells_are_missing():
    vae = make_vae(masked=True)
    x = torch.zeros(2, 4)
    observed = torch.tensor([[True] * 4, [True, False, True, True]])
    loc = vae.encode(x, observed).loc
    assert not torch.equal(loc[0], loc[1])
    # no mask means that every cell is observed
    torch.testing.assert_close(vae.encode(x).loc[0], loc[0])


def test_rows_do_not_depend_on_each_other():
    vae = make_vae(MIXED, masked=True, n_context=N_CONTEXT)
    batch = make_batch(vae, missing=True)
    noise = normal_noise(N_ROWS, N_LATENT).float()
    index = torch.tensor([4, 1])
    together, alone = vae(batch, noise), vae(batch.take(index), noise[index])
    torch.testing.assert_close(together.px[index], alone.px)
    torch.testing.assert_close(together.qz.loc[index], alone.qz.loc)


def test_batch_takes_rows():
    batch = Batch(torch.arange(6.0).view(3, 2), weight=torch.tensor([1.0, 2.0, 3.0]))
    taken = batch.take(torch.tensor([2, 0]))
    assert len(batch) == 3 and len(taken) == 2
    assert taken.x.tolist() == [[4, 5], [0, 1]]
    assert taken.weight.tolist() == [3, 1]
    assert taken.observed is None and taken.c is None


# -- context --------------------------------------------------------------------


def test_context_reaches_prior_encoder_and_decoder():
    vae = make_vae(n_context=N_CONTEXT)
    x, c = torch.zeros(2, 4), torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    z = torch.zeros(5, 2, N_LATENT)
    for row_pair in (vae.prior(c).loc, vae.encode(x, None, c).loc, vae.decode(z, c)[0]):
        assert not torch.equal(row_pair[0], row_pair[1])
    torch.testing.assert_close(vae.decode(z, c)[3], vae.decode(z[3], c))


def test_no_context_means_a_standard_prior():
    vae = make_vae()
    assert isinstance(vae.prior(), StandardNormal)
    assert vae.prior_net is None


# -- starts ---------------------------------------------------------------------


def test_start_at_marginals():
    vae = make_vae(MIXED)
    batch = make_batch(vae)
    vae.initialise_marginals(batch.x, torch.ones_like(batch.x))
    joint = Joint([make_head(*head) for head in MIXED])
    biases = joint.initialise(batch.x, torch.ones_like(batch.x))
    # the output layer's bias alone: what a decoder of zero weights gives
    with torch.no_grad():
        vae.decoder.output.weight.zero_()
    px = vae.decode(torch.zeros(N_ROWS, N_LATENT))
    torch.testing.assert_close(px, biases.expand(N_ROWS, -1))
    torch.testing.assert_close(
        vae.joint.log_prob(px, batch.x, None),
        joint.log_prob(biases.expand(N_ROWS, -1), batch.x, None),
    )


def factor_analysis(n_numbers):
    """Loadings that are not orthogonal, and a noise variance per column."""
    loadings = normal_noise(n_numbers, N_LATENT, seed=5)
    return loadings, 0.2 + normal_noise(n_numbers, seed=6).square()


@pytest.mark.parametrize(
    "heads",
    [
        [("normal", 5, 0)],
        [("normal_heteroscedastic", 5, 0)],
        [("normal_isotropic", 5, 0)],
        [("normal_isotropic", 5, 0), ("normal", 2, 0)],
        MIXED,
        [("bernoulli", 1, 0), ("normal", 2, 0), ("ordinal", 2, 3), ("normal", 3, 0)],
    ],
)
@pytest.mark.parametrize("hidden", [(), (7, 5)])
@pytest.mark.parametrize("masked", [False, True])
def test_linear_start_is_the_exact_factor_analysis(heads, hidden, masked):
    vae = make_vae(heads, hidden, masked=masked, linear_path=True)
    batch = make_batch(vae)
    columns, _, _ = vae.joint.location_scale_indices()
    vae.initialise_marginals(batch.x, torch.ones_like(batch.x))
    loadings, noise = factor_analysis(len(columns))
    vae.initialise_factor_analysis(loadings, noise)
    if heads[0][0] == "normal_isotropic":  # one scale for its columns
        noise[:5] = noise[:5].mean()

    x = batch.x.double()
    covariance = (loadings @ loadings.t() + torch.diag(noise)).numpy()
    mean = x[:, columns].mean(0).numpy()
    expected = multivariate_normal(mean, covariance).logpdf(x[:, columns].numpy())
    # the other columns keep their marginal distributions, whatever z is
    px = vae.decode(torch.zeros(N_ROWS, N_LATENT)).detach()
    cells = vae.joint.log_prob_cells(px, batch.x)
    others = np.setdiff1d(np.arange(vae.joint.n_columns), columns.numpy())
    expected = expected + cells.detach().double().numpy()[:, others].sum(1)

    noise_draws = cubature_noise(N_ROWS, N_LATENT, torch.float32)
    terms = elbo(vae, batch, noise_draws)
    np.testing.assert_allclose(terms.objective.detach().numpy(), expected, atol=1e-4)


def test_linear_start_keeps_unused_latents_at_the_prior():
    vae = make_vae([("normal", 5, 0)], linear_path=True)
    batch = make_batch(vae)
    vae.initialise_marginals(batch.x, torch.ones_like(batch.x))
    loadings, noise = factor_analysis(5)
    loadings[:, 1:] = 0
    vae.initialise_factor_analysis(loadings, noise)
    qz = vae.encode(batch.x)
    kl = 0.5 * (qz.loc.square() + (2 * qz.log_scale).exp() - 2 * qz.log_scale - 1)
    used = kl.mean(0) > 1e-6
    assert used.sum() == 1
    covariance = (loadings @ loadings.t() + torch.diag(noise)).numpy()
    expected = multivariate_normal(batch.x.mean(0).numpy(), covariance)
    terms = elbo(vae, batch, cubature_noise(N_ROWS, N_LATENT, torch.float32))
    np.testing.assert_allclose(
        terms.objective.detach().numpy(), expected.logpdf(batch.x.numpy()), atol=1e-4
    )
