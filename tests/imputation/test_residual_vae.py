"""The residual VAE: draws vary around entries of the context."""

import pytest
import torch

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._imputation.residual_vae import ResidualVAE
from skvae._imputation.settings import SETTINGS
from skvae._networks.vae import VAE

HEADS = [("student_t_heteroscedastic", 2, 0), ("bernoulli", 1, 0), ("normal", 2, 0)]
#: Locations of the first number and of the last two among eight outputs; where their
#: means are in a context of seven entries.
CENTRES = (0, 5, 6), (1, 4, 0)
N_ROWS, N_CONTEXT = 6, 7
FAMILIES = ["normal", "lognormal", "gamma", "beta", "dirichlet"]
CASES = [(family, None) for family in FAMILIES]
CASES += [("normal", "mixture"), ("normal", "vamp"), ("gamma", "fixed")]
PRIORS = {
    "mixture": {"mixture": 10},
    "vamp": {"vamp": 10},
    "fixed": {"concentration": [2.0] * 3, "rate": [0.5] * 3},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_vae(latent="normal", prior=None, hidden_layer_sizes=(9,), centres=CENTRES):
    vae = ResidualVAE(
        Joint([make_head(*head) for head in HEADS]),
        3,
        hidden_layer_sizes,
        "silu",
        generator(),
        centres=centres,
        masked=True,
        n_context=N_CONTEXT,
        linear_path=True,
        latent=latent,
        prior=PRIORS.get(prior),
    ).double()
    with torch.no_grad():  # away from the initial weights
        for p in vae.parameters():
            p.add_(0.3 * normal(*p.shape, seed=p.numel()))
    return vae


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def draw(vae, c, n_draws=5):
    noise = normal(n_draws, len(c), vae.n_prior_noise)
    return vae.prior(c).rsample(noise)


@pytest.mark.parametrize(("latent", "prior"), CASES)
def test_locations_average_to_the_context(latent, prior):
    vae, c = make_vae(latent, prior), normal(N_ROWS, N_CONTEXT)
    outputs, sources = CENTRES
    with torch.no_grad():
        noise = vae.nodes.expand(-1, N_ROWS, -1)
        px = vae.decode(vae.prior(c).rsample(noise), c)
    assert px.shape == (2 * SETTINGS.node_pairs, N_ROWS, vae.joint.n_outputs)
    average = px[..., list(outputs)].mean(0)
    torch.testing.assert_close(average, c[:, list(sources)], atol=1e-6, rtol=0)
    assert px[..., list(outputs)].std(0).min() > 1e-3  # and they vary


@pytest.mark.parametrize(("latent", "prior"), CASES)
def test_only_the_average_is_moved(latent, prior):
    """Differences between draws, and all other outputs, are those of the decoder."""
    vae, c = make_vae(latent, prior), normal(N_ROWS, N_CONTEXT)
    with torch.no_grad():
        z = draw(vae, c)
        px, plain = vae.decode(z, c), VAE.decode(vae, z, c)
    others = [i for i in range(vae.joint.n_outputs) if i not in CENTRES[0]]
    assert torch.equal(px[..., others], plain[..., others])
    torch.testing.assert_close(px - px[0], plain - plain[0])
    assert (px != plain)[..., list(CENTRES[0])].all()


def test_a_linear_decoder_is_centred_exactly():
    """The location is m + W (z - E[z | c]): nodes come in opposite pairs."""
    vae, c = make_vae(hidden_layer_sizes=()), normal(N_ROWS, N_CONTEXT)
    with torch.no_grad():
        z = draw(vae, c)
        found = vae.decode(z, c)[..., list(CENTRES[0])]
        origin = VAE.decode(vae, vae.prior(c).loc, c)
        moved = (VAE.decode(vae, z, c) - origin)[..., list(CENTRES[0])]
    torch.testing.assert_close(found, c[:, list(CENTRES[1])] + moved)


def test_rows_do_not_depend_on_each_other():
    vae, c = make_vae(), normal(N_ROWS, N_CONTEXT)
    with torch.no_grad():
        z = draw(vae, c)
        together = vae.decode(z, c)
        torch.testing.assert_close(vae.decode(z[0], c), together[0])
        for row in range(N_ROWS):
            one = slice(row, row + 1)
            torch.testing.assert_close(vae.decode(z[:, one], c[one]), together[:, one])


def test_one_latent_draw_for_many_rows():
    """A draw that is expanded over the rows is as the same draw in each of them."""
    vae, c = make_vae(), normal(N_ROWS, N_CONTEXT)
    z = normal(4, 1, 3)
    with torch.no_grad():
        found = vae.decode(z.expand(-1, N_ROWS, -1), c)
        for row in range(N_ROWS):
            one = vae.decode(z, c[row : row + 1])
            torch.testing.assert_close(found[:, row : row + 1], one)


def test_without_centres_it_is_the_vae():
    vae, c = make_vae(centres=((), ())), normal(N_ROWS, N_CONTEXT)
    with torch.no_grad():
        z = draw(vae, c)
        assert torch.equal(vae.decode(z, c), VAE.decode(vae, z, c))


def test_nodes_are_kept_with_the_weights():
    """Same seed, same nodes; another seed, others, until the state is loaded."""
    vae = make_vae()
    assert torch.equal(vae.nodes, make_vae().nodes)
    assert torch.equal(
        vae.nodes[: SETTINGS.node_pairs], -vae.nodes[SETTINGS.node_pairs :]
    )
    other = make_vae()
    other.nodes.zero_()
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other.nodes, vae.nodes)


def test_gradients_reach_the_prior():
    vae, c = make_vae(), normal(N_ROWS, N_CONTEXT)
    vae.decode(normal(N_ROWS, 3), c).square().sum().backward()
    for name, p in vae.prior_net.named_parameters():
        assert p.grad is not None and p.grad.any(), name
