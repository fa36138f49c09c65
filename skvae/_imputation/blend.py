"""How much of an estimate comes from the normal, the networks and the marginal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import MOST_PATTERNS


@dataclass(frozen=True)
class BlendSettings:
    """How share and reach are chosen."""

    #: Cells of all columns of a kind that count beside a column's own: a column with
    #: few cells says little.
    pooled_cells: float = 50.0
    #: Number of shares that are tried, from 0 to 1.
    n_shares: int = 11
    #: The least gain over the normal, in nats per cell: linear relations stay exactly
    #: as the normal has them.
    least_gain: float = 0.01
    #: Parts of the variance left that may be errors of estimation.
    shrinkages: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    #: Standard errors that a gain from shrinking has to exceed.
    least_evidence: float = 2.0


#: The settings of the imputer.
SETTINGS = BlendSettings()


def choose_blend(
    model: ConditionalMean, rows: Rows, v: Tensor, settings: BlendSettings = SETTINGS
) -> None:
    """Choose share and reach of every column on rows that the networks have not seen.

    The share is that of the networks in a mixture with the normal, see
    :func:`choose_shares`. The reach tells how far estimates of a column of numbers
    depart from its mean, see :func:`choose_reach`; categories keep theirs.
    """
    left_out = LeftOutCells.predict(model, rows, v)
    model.share.copy_(choose_shares(model, left_out, settings))
    columns = model.columns
    mixed = left_out.mix(model.by_output(model.share))
    model.reach[columns] = choose_reach(
        left_out.truth[:, columns],
        mixed[:, model.outputs],
        left_out.weight[:, columns],
        model.share[columns] ** 2 * left_out.removed,
        settings,
    )


@dataclass(frozen=True)
class LeftOutCells:
    """Cells that were left out, and their estimates.

    A left-out row is judged by one network. The average over networks, which is used
    later, errs less by the part of their variance that averaging removes.
    """

    truth: Tensor  # (rows, columns)
    weight: Tensor  # (rows, columns), 0 where there is nothing to judge by
    own: Tensor  # (rows, outputs) of the network that has not seen the row
    start: Tensor  # (rows, outputs) of the normal
    removed: Tensor  # (rows, number columns), variance

    @classmethod
    def predict(cls, model: ConditionalMean, rows: Rows, v: Tensor) -> LeftOutCells:
        """Estimate the observed cells that ``v`` hides."""
        assert rows.fold is not None
        outputs, start = model.members(rows.x, rows.y, v, rows.fold)
        member = member_of(rows.fold, model.n_members)
        own = outputs[member, torch.arange(len(rows.x), device=rows.x.device)]
        numbers = outputs[..., model.outputs]
        removed = torch.zeros_like(own[:, model.outputs])
        if model.n_members > 1 and numbers.numel():
            removed = numbers.var(0) * (1 - 1 / model.n_members)
        weight = (rows.observed & ~v) * rows.weight.unsqueeze(1)
        return cls(rows.y, weight, own, start, removed)

    def mix(self, share: Tensor | float) -> Tensor:
        """Return outputs with that share of the networks."""
        return self.start + share * (self.own - self.start)


def choose_shares(
    model: ConditionalMean, left_out: LeftOutCells, settings: BlendSettings = SETTINGS
) -> Tensor:
    """Return the networks' share of every column.

    The loss of a column counts beside that of ``pooled_cells`` cells of all columns of
    its kind; networks that gain less than ``least_gain`` get no share.
    """
    n_cells = left_out.weight.sum(0)
    is_number = torch.zeros_like(n_cells, dtype=torch.bool)
    is_number[model.columns] = True
    steps = torch.linspace(0, 1, settings.n_shares).to(n_cells)
    tried = torch.stack([loss_of_share(model, left_out, share) for share in steps])
    # squared errors in units of the normal's: nats, whatever the scales are
    variance = (tried[0] / n_cells.clamp(min=1)).clamp(min=1e-12)
    tried = torch.where(is_number, tried / (2 * variance), tried)
    pooled = tried.clone()
    for kind in (is_number, ~is_number):
        mean = tried[:, kind].sum(1, keepdim=True) / n_cells[kind].sum().clamp(min=1)
        pooled[:, kind] += settings.pooled_cells * mean
    best = pooled.argmin(0)
    gain = tried[0] - tried.gather(0, best.unsqueeze(0)).squeeze(0)
    best[gain < settings.least_gain * n_cells] = 0
    return steps[best]


def loss_of_share(
    model: ConditionalMean, left_out: LeftOutCells, share: Tensor
) -> Tensor:
    """Return the loss of every column: squares of numbers, nats of categories."""
    mixed = left_out.mix(share)
    cells = -model.joint.log_prob_cells(mixed, left_out.truth)
    numbers = left_out.truth[:, model.columns]
    squares = (numbers - mixed[:, model.outputs]).square()
    cells[:, model.columns] = squares - share**2 * left_out.removed
    return (left_out.weight * cells).sum(0)


def choose_reach(
    truth: Tensor,
    estimate: Tensor,
    weight: Tensor,
    removed: Tensor,
    settings: BlendSettings = SETTINGS,
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
    for k in settings.shrinkages:
        reach = (1 - k * left / spread).clamp(min=0)
        errors = (truth - reach * estimate).square() - reach**2 * removed
        gain = usual - (weight * errors / (2 * left)).sum(1)
        total = gain.sum()
        # a row comes with several patterns, which are no independent witnesses
        chance = (MOST_PATTERNS * gain.square().sum()).sqrt()
        better = (total > settings.least_evidence * chance) & (total > best_gain)
        best = torch.where(better, reach, best)
        best_gain = torch.where(better, total, best_gain)
    return best
