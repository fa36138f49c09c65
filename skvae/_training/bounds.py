"""Objectives: per-row bounds on log p(x | c), in nats, higher is better.

An objective maps a model, a batch and noise to :class:`Terms`. It neither draws
nor averages over rows: noise comes in with shape (K, rows, latent), weighting and
averaging happen in ``_training.loop``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._distributions.normal import Mixture
from .._networks.batch import Batch
from .._networks.vae import VAE
from .gradients import (
    DRAWS,
    PATH_ONLY,
    SCORE,
    doubly_reparameterised,
    importance_weighted,
    score_correction,
)


class Terms(NamedTuple):
    """Per-row values in nats, each of shape (rows,)."""

    objective: Tensor
    reconstruction: Tensor
    kl: Tensor


def elbo(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    *,
    kl_weight: float | Tensor = 1.0,
    gradient: str = "pathwise",
) -> Terms:
    """Evidence lower bound E_q log p(x | z) - kl_weight KL(q || p).

    The KL is in closed form, except under a mixture prior, which has none, and with
    ``gradient="stl"``: there log q - log p is averaged over the draws. "stl" stops q's
    parameters in it, so that its variance vanishes as q approaches the posterior.

    References
    ----------
    Kingma, Welling (2014), Auto-Encoding Variational Bayes, eq. 7 and 10;
    Roeder, Wu, Duvenaud (2017), Sticking the Landing.
    """
    # One draw needs no draw dimension: matrices multiply faster than 3-d tensors.
    single = noise.shape[0] == 1
    qz, z, pz, px = vae(batch, noise[0] if single else noise, DRAWS[gradient])
    reconstruction = vae.joint.log_prob(px, batch.x, batch.observed)
    if gradient in PATH_ONLY:
        kl = qz.detach().log_prob(z) - pz.log_prob(z)
    elif isinstance(pz, Mixture):
        # the score functions differentiate log q themselves
        density = qz.detach() if gradient in SCORE else qz
        kl = density.log_prob(z) - pz.log_prob(z)
    else:
        kl = qz.kl(pz)
    correction = None
    if gradient in SCORE:
        # a KL in closed form has its own gradient; one per draw goes into the reward
        per_draw = isinstance(pz, Mixture)
        value = reconstruction - kl_weight * kl if per_draw else reconstruction
        correction = score_correction(value, qz, z, gradient)
    if not single:
        reconstruction = reconstruction.mean(0)
        kl = kl.mean(0) if kl.dim() == 2 else kl
        correction = correction if correction is None else correction.mean(0)
    objective = reconstruction - kl_weight * kl
    if correction is not None:
        objective = objective + correction
    return Terms(objective, reconstruction, kl)


def iwae(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    *,
    kl_weight: float | Tensor = 1.0,
    gradient: str = "pathwise",
) -> Terms:
    """Importance-weighted bound log (1/K) sum_k w_k over K draws.

    Below a ``kl_weight`` of one, log w is log p(x | z) + kl_weight (log p(z) - log q).

    References
    ----------
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8.
    """
    qz, z, pz, px = vae(batch, noise)
    reconstruction = vae.joint.log_prob(px, batch.x, batch.observed)
    density = qz.detach() if gradient in PATH_ONLY else qz
    log_ratio = density.log_prob(z) - pz.log_prob(z)
    log_weight = reconstruction - kl_weight * log_ratio
    if gradient == "dreg":
        objective = doubly_reparameterised(log_weight, z)
    else:
        objective = importance_weighted(log_weight)
    # the KL is only recorded: no graph is built for it
    kl = (log_ratio.mean(0) if isinstance(pz, Mixture) else qz.detach().kl(pz)).detach()
    return Terms(objective, reconstruction.mean(0).detach(), kl)


OBJECTIVES = {"elbo": elbo, "iwae": iwae}
