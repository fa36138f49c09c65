"""Importance sampling of log p(x), in chunks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .._distributions.families import Latent, Prior
from .._networks.batch import Batch
from .._networks.vae import VAE

#: Floats that one layer may hold during inference: memory stays bounded and the
#: activations stay in the processor's cache.
INFERENCE_FLOATS = 2**22

#: Importance draws of ``score_samples``.
EVIDENCE_DRAWS = 256


def score_with_gaps(
    data: Batch, score: Callable[[Batch, bool], np.ndarray]
) -> np.ndarray:
    """Return the scores of rows, those with missing cells on their own, (n_rows,).

    ``score`` is told whether cells are missing. A row without any cell has score 0:
    nothing has probability 1.
    """
    if data.observed is None:
        return score(data, False)
    n_seen = data.observed.sum(1)
    n_columns = data.observed.shape[1]
    scores = np.zeros(len(data), dtype=np.float32)
    for with_gaps, rows in (
        (False, n_seen == n_columns),
        (True, (n_seen < n_columns) & (n_seen > 0)),
    ):
        index = torch.nonzero(rows)[:, 0]
        if len(index):
            scores[index.cpu().numpy()] = score(data.take(index), with_gaps)
    return scores


def pieces(data: Batch, n_rows: int) -> Iterator[Batch]:
    """Yield consecutive rows of a table."""
    for start in range(0, len(data), n_rows):
        yield data.rows(start, start + n_rows)


def proposals(
    pz: Prior,
    qz: Latent,
    noise: Tensor,  # (K, ..., n_noise)
    prior_noise: Tensor | None = None,  # (K, ..., n_prior_noise)
) -> tuple[Tensor, Tensor, Tensor]:
    """Return draws of q with log p(z) and the log-density that they are drawn from.

    The encoder may not know rows unlike those of training. With ``prior_noise`` there
    are as many draws of the prior, and all weigh against the mixture of both
    (Hesterberg 1995): 2 K draws.
    """
    z = qz.rsample(noise)
    if prior_noise is None:
        return z, pz.log_prob(z), qz.log_prob(z)
    z = torch.cat([z, pz.rsample(prior_noise).expand_as(z)])
    log_p = pz.log_prob(z)
    return z, log_p, torch.logaddexp(log_p, qz.log_prob(z)) - math.log(2)


def log_weights(
    vae: VAE,
    batch: Batch,
    qz: Latent,
    noise: Tensor,  # (K, 1 or rows, n_noise)
    prior_noise: Tensor | None = None,  # (K, 1, n_prior_noise)
) -> Tensor:
    """Return log p(x, z) - log q(z | x) for every draw, (K or 2 K, rows).

    With ``prior_noise`` there are draws of the prior too, see ``proposals``.
    """
    if prior_noise is not None:
        prior_noise = prior_noise.expand(-1, len(batch), -1)
    z, log_p, log_q = proposals(vae.prior(batch.c), qz, noise, prior_noise)
    px = vae.decode(z, batch.c)
    return vae.joint.log_prob(px, batch.x, batch.observed) + log_p - log_q
