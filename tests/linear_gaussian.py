"""A linear VAE whose evidence and posterior are known in closed form.

The model is x = W z + V c + b + noise with z ~ N(m(c), s²); without context m = 0
and s = 1. Everything is in float64, so that a test can ask for equality.
"""

import math

import torch
from torch.distributions import MultivariateNormal

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE

LIKELIHOOD_OF_SCALE = {False: "normal", True: "normal_isotropic"}


def make_linear_vae(n_columns=6, n_latent=2, *, seed=0, n_context=0, isotropic=False):
    """Linear VAE with random weights; the decoder's columns are orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    joint = Joint([make_head(LIKELIHOOD_OF_SCALE[isotropic], n_columns, 0)])
    vae = VAE(joint, n_latent, (), "tanh", generator, n_context=n_context).double()
    draw = torch.randn(n_columns, n_latent, generator=generator, dtype=torch.float64)
    loadings = torch.linalg.qr(draw).Q * torch.linspace(2.0, 1.0, n_latent)
    bias = torch.randn(n_columns, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        vae.decoder.output.weight[:, :n_latent] = loadings
        vae.decoder.output.bias.copy_(bias)
        joint.set_deviation(torch.full((n_columns,), 0.7, dtype=torch.float64))
    return vae


def noise_variance(vae):
    """Noise variance of every column, (n_columns,)."""
    scale = joint_head(vae).scale(torch.zeros(1)).detach()
    return scale.square().expand(vae.joint.n_columns)


def joint_head(vae):
    return vae.joint.heads[0]


def decoder_parts(vae):
    """W, V and b of the decoder."""
    weight = vae.decoder.output.weight.detach()
    loadings, from_context = weight[:, : vae.n_latent], weight[:, vae.n_latent :]
    return loadings, from_context, vae.decoder.output.bias.detach()


def log_evidence(vae, x, observed=None, c=None):
    """Exact log p(x_observed | c) of each row."""
    loadings, from_context, bias = decoder_parts(vae)
    mean = bias.expand_as(x)
    prior_variance = torch.ones(vae.n_latent, dtype=x.dtype)
    if c is not None:
        prior = vae.prior(c)
        mean = mean + prior.loc.detach() @ loadings.t() + c @ from_context.t()
        prior_variance = torch.exp(2 * prior.log_scale.detach()[0])
    covariance = loadings * prior_variance @ loadings.t()
    covariance = covariance + torch.diag(noise_variance(vae))
    if observed is None:
        observed = torch.ones_like(x, dtype=torch.bool)
    return torch.stack(
        [
            MultivariateNormal(m[seen], covariance[seen][:, seen]).log_prob(row[seen])
            if seen.any()
            else row.new_zeros(())  # nothing is observed
            for row, m, seen in zip(x, mean, observed, strict=True)
        ]
    )


def draw_rows(vae, n_rows, seed=1):
    """Rows from the model without context, (n_rows, n_columns)."""
    generator = torch.Generator().manual_seed(seed)
    loadings, _, bias = decoder_parts(vae)
    z = torch.randn(n_rows, vae.n_latent, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_rows, len(bias), generator=generator, dtype=torch.float64)
    return z @ loadings.t() + bias + noise_variance(vae).sqrt() * noise


@torch.no_grad()
def set_posterior(vae, *, observed=None, shift=0.0, log_stretch=0.0):
    """Set the encoder to the exact posterior, or to a shifted and stretched one.

    ``observed`` (n_columns,) are the columns that rows have. The posterior
    factorises if the columns of W, restricted to them, are orthogonal.
    """
    loadings, _, bias = decoder_parts(vae)
    precision_of_noise = 1 / noise_variance(vae)
    if observed is not None:
        precision_of_noise = precision_of_noise * observed
    weighted = loadings * precision_of_noise.unsqueeze(1)
    precision = 1 + (loadings * weighted).sum(0)
    off_diagonal = loadings.t() @ weighted
    assert torch.allclose(off_diagonal, torch.diag(off_diagonal.diagonal()), atol=1e-9)
    to_loc = weighted.t() / precision.unsqueeze(1)
    k = vae.n_latent
    vae.encoder.output.weight.zero_()
    vae.encoder.output.weight[:k, : len(bias)] = to_loc
    vae.encoder.output.bias[:k] = shift - to_loc @ bias
    vae.encoder.output.bias[k:] = log_stretch - 0.5 * precision.log()


def cubature_noise(n_rows, n_latent, dtype=torch.float64):
    """Draws ±sqrt(n_latent) e_i, (2 n_latent, n_rows, n_latent).

    The average of a quadratic function over them equals its expectation under
    N(0, I), so that a bound of a linear-Gaussian model comes out exactly.
    """
    points = math.sqrt(n_latent) * torch.eye(n_latent, dtype=dtype)
    points = torch.cat([points, -points])
    return points.unsqueeze(1).expand(-1, n_rows, -1).contiguous()


def normal_noise(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def repeat_rows(x, n_copies):
    """A batch with every row ``n_copies`` times."""
    return Batch(x.repeat_interleave(n_copies, 0))
