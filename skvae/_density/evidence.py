"""Importance sampling of log p(x), in chunks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .._distributions.families import Latent, Prior
from .._networks.batch import Batch, chunked, map_chunks, rows_at_once
from .._networks.precision import doubled, in_double
from .._networks.vae import VAE
from .._tables.encoder import TableEncoder
from .rows import ColumnGroups


def posterior_means(vae: VAE, data: Batch) -> np.ndarray:
    """Return E[z | x] under q, (n_rows, n_latent), float32."""
    vae = in_double(vae)

    def mean(chunk: Batch) -> Tensor:
        return vae.encode(chunk.x, chunk.observed).mean.float()

    return map_chunks(mean, data, 4 * vae.widest)


def evidence(
    vae: VAE,
    data: Batch,
    n_draws: int,
    seed: int,
    *,
    defensive: bool = False,
) -> np.ndarray:
    """Return importance-weighted log p(encoded row) in nats, (n_rows,), float64.

    ``defensive`` adds as many draws of the prior, see :func:`log_weights`.
    """
    # The same noise for every row: a row's score depends on no other row.
    generator = torch.Generator(data.x.device).manual_seed(seed)
    noise, of_prior = (
        doubled(
            data.x.new_empty(n_draws, 1, n, dtype=torch.float32).normal_(
                generator=generator
            )
        ).split(1024)
        for n in (vae.n_noise, vae.n_prior_noise)
    )
    vae = in_double(vae)

    def score(chunk: Batch) -> Tensor:
        qz = vae.encode(chunk.x, chunk.observed, chunk.c)
        parts = [
            log_weights(vae, chunk, qz, own, prior if defensive else None)
            for own, prior in zip(noise, of_prior, strict=True)
        ]
        return torch.logsumexp(torch.stack([torch.logsumexp(p, 0) for p in parts]), 0)

    n_parts = 1 + defensive
    logs = map_chunks(score, data, vae.widest * min(n_draws, 1024) * n_parts)
    return logs - math.log(n_draws * n_parts)


def log_jacobian(
    groups: ColumnGroups, encoder: TableEncoder, data: Batch
) -> np.ndarray:
    """Return the log-Jacobian of the encoding per row, observed cells only."""
    parts = []
    for chunk in chunked(data, 2 * len(groups.table)):
        cells = encoder.log_jacobian(groups.restored(chunk.x.cpu()))[:, groups.order]
        if chunk.observed is not None:
            cells = cells * chunk.observed.cpu().numpy()
        parts.append(cells.sum(1))
    return np.concatenate(parts)


def decoded(
    vae: VAE, z: Tensor | np.ndarray, function: Callable[[Tensor], Tensor]
) -> np.ndarray:
    """Return ``function(decoder outputs)`` of latents, in chunks of bounded memory."""
    latents = torch.as_tensor(z, dtype=torch.float32, device=vae.device)
    with torch.inference_mode():
        parts = [
            function(vae.decode(part)).cpu()
            for part in latents.split(rows_at_once(4 * vae.widest))
        ]
    return torch.cat(parts).numpy()


def score_with_gaps(
    data: Batch, score: Callable[[Batch, bool], np.ndarray]
) -> np.ndarray:
    """Return scores, computed apart for rows with missing cells, (n_rows,).

    ``score`` is told whether cells are missing. A row without any cell has score 0:
    nothing has probability 1.
    """
    if data.observed is None:
        return score(data, False)
    n_seen = data.observed.sum(1)
    n_columns = data.observed.shape[1]
    scores = np.zeros(len(data))
    for with_gaps, rows in (
        (False, n_seen == n_columns),
        (True, (n_seen < n_columns) & (n_seen > 0)),
    ):
        index = torch.nonzero(rows)[:, 0]
        if len(index):
            scores[index.cpu().numpy()] = score(data.take(index), with_gaps)
    return scores


def proposals(
    pz: Prior,
    qz: Latent,
    noise: Tensor,  # (K, ..., n_noise)
    prior_noise: Tensor | None = None,  # (K, ..., n_prior_noise)
) -> tuple[Tensor, Tensor, Tensor]:
    """Return importance draws of z, their log p(z) and log proposal density.

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
