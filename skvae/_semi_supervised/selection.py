"""Which settings the labelled rows prefer, by cross-validation of q(y | x) alone.

How many cells to hide from the classifier, and whether neighbouring rows are of one
class, is a matter of the table: rules want every cell, noisy columns do not; where
classes are no clusters, smoothness misleads. Labels tell, if a few small
networks are trained without some of them. They form one :class:`BatchedMLP`. Letters as
in :mod:`skvae._semi_supervised`; a leading dimension counts settings or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._networks.batch import Batch
from .._networks.mlp import BatchedMLP
from .._training.optimizer import LEAST_GRADIENT, Adam, flatten_parameters
from .labelled_vae import LabelledVAE
from .objectives import LABELLED_ROWS, indecision, roughness

#: Parts of the labelled rows, each of which one network of a setting does not see.
N_FOLDS = 4

#: With fewer labelled rows there is nothing to choose by.
MIN_LABELLED = 24

#: The most rows with labels, and of any kind, that the search looks at.
MAX_LABELLED, MAX_ROWS = 2_000, 20_000

#: The networks, and how they are trained.
WIDTHS, N_STEPS, BATCH_SIZE, LEARNING_RATE = (64, 64), 400, 256, 1e-2


class Regularisation(NamedTuple):
    """What may be chosen."""

    #: Share of the cells that are hidden from the classifier.
    hidden: float
    #: Weight of the smoothness of q(y | x).
    smoothness: float


def choose_setting(
    vae: LabelledVAE,
    labelled: Batch,
    rows: Batch,
    settings: Sequence[Regularisation],
    radius: float,
    generator: torch.Generator,
) -> Regularisation:
    """Return the setting that labels speak for which were left out.

    The first of two settings, the usual one, stands unless the other gains more than
    the standard error of the difference. Of one there is nothing to choose.
    ``rows`` are those that smoothness is measured on, labelled or not.
    """
    if len(settings) == 1 or len(labelled) < MIN_LABELLED:
        return settings[0]
    wrong = left_out_errors(vae, labelled, rows, settings, radius, generator)
    weight = torch.ones(wrong.shape[1]) if labelled.weight is None else labelled.weight
    weight = (weight / weight.sum()).to(wrong)
    gain = wrong[0] - wrong[1]
    mean = (gain * weight).sum()
    error = ((gain - mean) * weight).square().sum().sqrt()
    return settings[1] if mean > error else settings[0]


def left_out_errors(
    vae: LabelledVAE,
    labelled: Batch,
    rows: Batch,
    settings: Sequence[Regularisation],
    radius: float,
    generator: torch.Generator,
) -> Tensor:
    """Return by setting and labelled row whether its class was mistaken, 0 or 1."""
    y, device = labelled.y, labelled.x.device
    assert y is not None
    codes = y.argmax(-1)
    n_settings, n_labelled = len(settings), len(labelled)
    folds = stratified_folds(codes, generator)
    own = torch.arange(N_FOLDS, device=device).repeat(n_settings)
    seen = (folds != own.unsqueeze(1)).to(labelled.x.dtype)
    if labelled.weight is not None:
        seen = seen * labelled.weight
    hidden = torch.tensor([s.hidden for s in settings], device=device).view(-1, 1, 1)
    is_smooth = any(s.smoothness for s in settings)
    smoothness = torch.tensor([s.smoothness for s in settings], device=device)
    smoothness = smoothness.repeat_interleave(N_FOLDS)

    first = torch.Generator().manual_seed(generator.initial_seed())
    widths = [vae.n_row_inputs, *WIDTHS, vae.n_classes]
    ensemble = BatchedMLP(n_settings * N_FOLDS, widths, "relu", first)
    with torch.no_grad():  # settings differ by nothing else
        for p in ensemble.parameters():
            p.copy_(p[:N_FOLDS].repeat(n_settings, 1, 1))
    ensemble.to(device)
    flat = flatten_parameters(ensemble)
    optimizer = Adam(flat, LEARNING_RATE)

    def some_hidden(batch: Batch) -> Tensor:
        """Return the inputs of every network, (networks, rows, n_inputs)."""
        chance = torch.rand(batch.x.shape, generator=generator, device=device)
        kept = chance >= hidden
        kept = kept if batch.observed is None else kept & batch.observed
        inputs = vae.inputs(batch.x.expand(kept.shape), kept)
        return inputs.repeat_interleave(N_FOLDS, 0)

    def pick(batch: Batch, size: int) -> tuple[Batch, Tensor]:
        index = torch.randint(len(batch), (size,), generator=generator, device=device)
        return batch.take(index), index

    everything = torch.arange(n_labelled, device=device)
    for step in range(N_STEPS):
        some, index = labelled, everything
        if n_labelled > LABELLED_ROWS:
            some, index = pick(labelled, LABELLED_ROWS)
        log_q = F.log_softmax(ensemble(some_hidden(some)), -1)
        log_likelihood = (y[index] * log_q).sum(-1)
        share = seen[:, index] / seen[:, index].sum(1, keepdim=True)
        loss = -(share * log_likelihood).sum()
        if is_smooth:
            batch, _ = pick(rows, BATCH_SIZE)
            log_q = F.log_softmax(ensemble(some_hidden(batch)), -1)
            inputs = vae.inputs(batch.x, batch.observed)
            noise = torch.randn(inputs.shape, generator=generator, device=device)
            noise = noise.expand(len(own), -1, -1).clone()
            rough = roughness(ensemble, inputs, log_q, noise, radius)
            rough = rough + indecision(log_q, vae.log_prior, batch.weight)
            loss = loss + (smoothness * rough.mean(-1)).sum()
        assert flat.grad is not None
        flat.grad.fill_(LEAST_GRADIENT)
        loss.backward()
        rate = 0.5 * (1 + math.cos(math.pi * step / N_STEPS))
        optimizer.learning_rate = LEARNING_RATE * rate
        optimizer.step()

    with torch.inference_mode():
        found = ensemble(vae.inputs(labelled.x, labelled.observed)).argmax(-1)
        wrong = (found != codes) & (folds == own.unsqueeze(1))
        return wrong.view(n_settings, N_FOLDS, -1).any(1).to(labelled.x.dtype)


def stratified_folds(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Return the fold of every row: classes are spread evenly, by chance otherwise."""
    n_rows, device = len(codes), codes.device
    order = torch.randperm(n_rows, generator=generator, device=device)
    order = order[codes[order].argsort(stable=True)]
    folds = torch.empty_like(order)
    folds[order] = torch.arange(n_rows, device=device) % N_FOLDS
    return folds
