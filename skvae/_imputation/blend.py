"""How much of an estimate comes from the normal, the networks and the marginal."""

from __future__ import annotations

import torch
from torch import Tensor

from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import MOST_PATTERNS

#: Cells of other columns that count in the choice of a column's blend, the number of
#: shares that are tried, and the least gain over the normal in nats per cell.
BLEND_CELLS, N_SHARES, LEAST_GAIN = 50.0, 11, 0.01

#: Parts of the variance left that may be errors of estimation, and the standard errors
#: that a gain from shrinking by them has to exceed.
SHRINKAGES, LEAST_EVIDENCE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 2.0


def choose_blend(model: ConditionalMean, rows: Rows, v: Tensor) -> None:
    """Choose share and reach of every column on rows that the networks have not seen.

    The share is that of the networks in a mixture with the normal. The loss of a column
    counts beside that of BLEND_CELLS cells of all columns of its kind, as a column with
    few cells says little; networks that gain less than LEAST_GAIN get no share, so that
    linear relations stay exactly as the normal has them. The reach tells how far
    estimates of a column of numbers depart from its mean, see :func:`choose_reach`;
    categories keep theirs.

    A left-out row is judged by one network. The average over networks, which is used
    later, errs less by the part of their variance that averaging removes.
    """
    assert rows.fold is not None
    outputs, start = model.members(rows.x, rows.y, v, rows.fold)
    member = member_of(rows.fold, model.n_members)
    own = outputs[member, torch.arange(len(rows.x), device=rows.x.device)]
    numbers = outputs[..., model.outputs]
    removed = torch.zeros_like(own[:, model.outputs])
    if model.n_members > 1 and numbers.numel():
        removed = numbers.var(0) * (1 - 1 / model.n_members)
    weight = (rows.observed & ~v) * rows.weight.unsqueeze(1)
    n_cells = weight.sum(0)
    is_number = torch.zeros_like(n_cells, dtype=torch.bool)
    is_number[model.columns] = True
    truth = rows.y[:, model.columns]

    steps = torch.linspace(0, 1, N_SHARES).to(n_cells)
    tried = n_cells.new_empty(N_SHARES, len(n_cells))
    for k, share in enumerate(steps):
        mixed = start + share * (own - start)
        cells = -model.joint.log_prob_cells(mixed, rows.y)
        squares = (truth - mixed[:, model.outputs]).square()
        cells[:, model.columns] = squares - share**2 * removed
        tried[k] = (weight * cells).sum(0)
    # squared errors in units of the normal's: nats, whatever the scales are
    variance = (tried[0] / n_cells.clamp(min=1)).clamp(min=1e-12)
    tried = torch.where(is_number, tried / (2 * variance), tried)
    pooled = tried.clone()
    for kind in (is_number, ~is_number):
        mean = tried[:, kind].sum(1, keepdim=True) / n_cells[kind].sum().clamp(min=1)
        pooled[:, kind] += BLEND_CELLS * mean
    best = pooled.argmin(0)
    gain = tried[0] - tried.gather(0, best.unsqueeze(0)).squeeze(0)
    best[gain < LEAST_GAIN * n_cells] = 0
    model.share.copy_(steps[best])

    mixed = start + model.by_output(model.share) * (own - start)
    model.reach[model.columns] = choose_reach(
        truth,
        mixed[:, model.outputs],
        weight[:, model.columns],
        model.share[model.columns] ** 2 * removed,
    )


def choose_reach(
    truth: Tensor, estimate: Tensor, weight: Tensor, removed: Tensor
) -> Tensor:
    """Return how far estimates of numbers should go from the marginal mean, by column.

    An estimate of variance s^2 that leaves the variance r^2, of which a part k r^2 is
    error of estimation, is best shrunk by 1 - k r^2 / s^2: not at all where a column
    is told by the others, to the mean where it is noise. k is a matter of rows and
    columns, and chosen for all columns together, as single ones say little; 0 stands
    unless the gain exceeds what chance makes of it.
    """
    n_cells = weight.sum(0).clamp(min=1)
    squares = (truth - estimate).square() - removed
    left = ((weight * squares).sum(0) / n_cells).clamp(min=1e-12)
    spread = ((weight * estimate.square()).sum(0) / n_cells).clamp(min=1e-12)
    usual = (weight * squares / (2 * left)).sum(1)
    best, best_gain = torch.ones_like(left), usual.new_zeros(())
    for k in SHRINKAGES:
        reach = (1 - k * left / spread).clamp(min=0)
        errors = (truth - reach * estimate).square() - reach**2 * removed
        gain = usual - (weight * errors / (2 * left)).sum(1)
        total = gain.sum()
        # a row comes with several patterns, which are no independent witnesses
        chance = (MOST_PATTERNS * gain.square().sum()).sqrt()
        better = (total > LEAST_EVIDENCE * chance) & (total > best_gain)
        best = torch.where(better, reach, best)
        best_gain = torch.where(better, total, best_gain)
    return best
