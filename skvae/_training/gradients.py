"""Gradient estimators: how a bound on log p(x) is differentiated.

Each function takes the draws of one batch and returns a tensor whose *value* is
the objective in nats and whose *gradient* is the estimator's. ``K`` counts the
draws of z per row and ``w`` stands for the importance weight
p(x, z) / q(z | x).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._distributions.families import Latent
from .._networks.vae import pathwise

#: Estimators that stop the gradient through the parameters of q inside log q.
PATH_ONLY = ("stl", "dreg")

#: Estimators that use the derivative of a log-density of q, the score.
SCORE = ("score", "rloo", "grep")


def blocked(qz: Latent, noise: Tensor) -> Tensor:
    """Return detached draws, for the score-function estimator."""
    return qz.detach().rsample(noise)


def transformed(qz: Latent, noise: Tensor) -> Tensor:
    """Return draws T(ε; v) that are differentiable in v with ε held fixed.

    T is the family's standardising map, see :mod:`skvae._distributions.families`. The
    draws come from any sampler; their ε = T⁻¹(z; v) is taken afterwards.

    References
    ----------
    Ruiz, Titsias, Blei (2016), The Generalized Reparameterization Gradient, eq. 4.
    """
    fixed = qz.detach()
    return qz.from_residual(fixed.standardise(fixed.rsample(noise)))


#: Draws of z by estimator, as functions of q and standard normal noise.
DRAWS: dict[str, Callable[[Latent, Tensor], Tensor]] = {
    "pathwise": pathwise,
    "stl": pathwise,
    "dreg": pathwise,
    "score": blocked,
    "rloo": blocked,
    "grep": transformed,
}


def check_gradient(gradient: str, objective: str, n_draws: int) -> None:
    """Raise ValueError if an estimator does not belong to the objective."""
    if gradient == "dreg" and not (objective == "iwae" and n_draws > 1):
        raise ValueError(
            "gradient='dreg' belongs to the importance-weighted bound: use it with "
            "objective='iwae' and n_draws > 1 (with one draw it is 'stl')."
        )
    if gradient == "stl" and objective == "iwae" and n_draws > 1:
        raise ValueError(
            "gradient='stl' is biased for objective='iwae' with n_draws > 1: use "
            "gradient='dreg'."
        )
    if gradient in SCORE and objective == "iwae":
        raise ValueError(
            f"gradient={gradient!r} estimates the gradient of the evidence lower "
            "bound: use objective='elbo', or gradient='pathwise' or 'dreg' with "
            "objective='iwae'."
        )
    if gradient == "rloo" and n_draws == 1:
        raise ValueError(
            "gradient='rloo' compares every draw of a row with the row's other draws: "
            "use n_draws > 1, or gradient='score' with one draw."
        )


def score_correction(value: Tensor, qz: Latent, z: Tensor, gradient: str) -> Tensor:
    """Return zeros with the score-function gradient sg(f - b) ∇ log q of each draw.

    Added to ``value``, f, it completes the gradient of E_q f: the path through z
    (none for "score" and "rloo") misses what moves because q moves. For "grep" the
    density is that of ε = T⁻¹(z; v) at fixed ε. The baseline b of a draw is the mean
    of f over the row's other draws; "score" has none, nor has "grep" with one draw.
    A row's f meets its own log q only.

    Parameters
    ----------
    value : Tensor of shape (rows,) or (K, rows)
        f, such as log p(x | z).
    qz : Latent
        The distribution that the draws come from.
    z : Tensor of shape (rows, latent) or (K, rows, latent)
        The draws.
    gradient : str
        "score", "rloo" or "grep".

    References
    ----------
    Ranganath, Gerrish, Blei (2014), Black Box Variational Inference, eq. 2;
    Kool, van Hoof, Welling (2019), Buy 4 REINFORCE Samples, Get a Baseline for Free!;
    Ruiz, Titsias, Blei (2016), The Generalized Reparameterization Gradient, eq. 5-7.
    """
    reward = value.detach()
    if gradient != "score" and value.dim() == 2 and len(value) > 1:
        # f_k - mean of the others = K / (K - 1) (f_k - mean of all)
        reward = (reward - reward.mean(0)) * (len(value) / (len(value) - 1))
    log_q = qz.log_prob(z)
    if gradient == "grep":
        log_q = log_q + qz.log_jacobian(z)
    return reward * (log_q - log_q.detach())


def importance_weighted(log_weight: Tensor) -> Tensor:
    """Return the IWAE bound log (1/K) sum_k w_k, differentiated by autograd.

    Parameters
    ----------
    log_weight : Tensor of shape (K, rows)
        log w in nats.

    References
    ----------
    Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, eq. 8.
    """
    return torch.logsumexp(log_weight, 0) - math.log(log_weight.shape[0])


def doubly_reparameterised(log_weight: Tensor, z: Tensor) -> Tensor:
    """Return the IWAE bound with the doubly reparameterised (DReG) gradient.

    The decoder's gradient is sum_k sg(w̃_k) ∇ log w_k and the encoder's
    sum_k sg(w̃_k²) ∇ log w_k along the path through z, w̃ being the normalised
    weights. ``log_weight`` must have been computed with a stopped log q.

    Parameters
    ----------
    log_weight : Tensor of shape (K, rows)
        log w in nats.
    z : Tensor of shape (K, rows, latent)
        The draws that ``log_weight`` was computed from.

    References
    ----------
    Tucker, Lawson, Gu, Maddison (2019), Doubly Reparameterized Gradient Estimators
    for Monte Carlo Objectives, eq. 8.
    """
    weight = torch.softmax(log_weight.detach(), 0)
    if z.requires_grad:
        # the decoder's gradient holds one factor w̃; the path through z gets another
        z.register_hook(lambda gradient: weight.unsqueeze(-1) * gradient)
    surrogate = (weight * log_weight).sum(0)
    bound = importance_weighted(log_weight.detach())
    return surrogate + (bound - surrogate.detach())
