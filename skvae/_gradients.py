"""Gradient estimators: how a bound on log p(x) is differentiated.

Each function takes the draws of one batch and returns a tensor whose *value* is
the objective in nats and whose *gradient* is the estimator's. ``K`` counts the
draws of z per row and ``w`` stands for the importance weight
p(x, z) / q(z | x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Estimators that stop the gradient through the parameters of q inside log q.
PATH_ONLY = ("stl", "dreg")


def importance_weighted(log_weight: Tensor) -> Tensor:
    """Return log (1/K) sum_k w_k, differentiated as it stands.

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
    """Return the importance-weighted bound with the DReG gradient.

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
