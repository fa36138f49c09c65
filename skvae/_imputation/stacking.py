"""How much of an estimate comes from the normal, the networks and the marginal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import MOST_PATTERNS


@dataclass(frozen=True)
class StackingSettings:
    """How network_weight and shrinkage are chosen."""

    #: Cells of all columns of a kind that count beside a column's own: a column with
    #: few cells says little.
    pooled_cells: float = 50.0
    #: Number of shares that are tried, from 0 to 1.
    n_weights: int = 11
    #: The least gain over the normal, in nats per cell: linear relations stay exactly
    #: as the normal has them.
    least_gain: float = 0.01
    #: Parts of the variance left that may be errors of estimation.
    shrinkages: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    #: Standard errors that a gain from shrinking has to exceed.
    least_evidence: float = 2.0


#: The settings of the imputer.
SETTINGS = StackingSettings()


def choose_stacking(
    model: ConditionalMean,
    rows: Rows,
    mask: Tensor,
    settings: StackingSettings = SETTINGS,
) -> None:
    """Choose network_weight and shrinkage of every column on rows that the networks have not seen.

    The network_weight is that of the networks in a mixture with the normal, see
    :func:`choose_network_weights`. The shrinkage tells how far estimates of a column of numbers
    depart from its mean, see :func:`choose_shrinkage`; categories keep theirs.
    """
    held_out = HeldOutCells.predict(model, rows, mask)
    model.network_weight.copy_(choose_network_weights(model, held_out, settings))
    columns = model.columns
    mixed = held_out.mix(model.by_output(model.network_weight))
    model.shrinkage[columns] = choose_shrinkage(
        held_out.truth[:, columns],
        mixed[:, model.outputs],
        held_out.weight[:, columns],
        model.network_weight[columns] ** 2 * held_out.removed_variance,
        settings,
    )


@dataclass(frozen=True)
class HeldOutCells:
    """Cells that were left out, and their estimates.

    A left-out row is judged by one network. The average over networks, which is used
    later, errs less by the part of their variance that averaging removes.
    """

    truth: Tensor  # (rows, columns)
    weight: Tensor  # (rows, columns), 0 where there is nothing to judge by
    own: Tensor  # (rows, outputs) of the network that has not seen the row
    baseline: Tensor  # (rows, outputs) of the normal
    removed_variance: Tensor  # (rows, number columns), variance

    @classmethod
    def predict(cls, model: ConditionalMean, rows: Rows, mask: Tensor) -> HeldOutCells:
        """Estimate the observed cells that ``mask`` hides."""
        assert rows.fold is not None
        outputs, baseline = model.members(rows.x, rows.x_original, mask, rows.fold)
        member = member_of(rows.fold, model.n_members)
        own = outputs[member, torch.arange(len(rows.x), device=rows.x.device)]
        numbers = outputs[..., model.outputs]
        removed_variance = torch.zeros_like(own[:, model.outputs])
        if model.n_members > 1 and numbers.numel():
            removed_variance = numbers.var(0) * (1 - 1 / model.n_members)
        weight = (rows.observed & ~mask) * rows.weight.unsqueeze(1)
        return cls(rows.x_original, weight, own, baseline, removed_variance)

    def mix(self, network_weight: Tensor | float) -> Tensor:
        """Return outputs with that network_weight of the networks."""
        return self.baseline + network_weight * (self.own - self.baseline)


def choose_network_weights(
    model: ConditionalMean,
    held_out: HeldOutCells,
    settings: StackingSettings = SETTINGS,
) -> Tensor:
    """Return the networks' network_weight of every column.

    The loss of a column counts beside that of ``pooled_cells`` cells of all columns of
    its kind; networks that gain less than ``least_gain`` get no network_weight.
    """
    n_cells = held_out.weight.sum(0)
    is_number = torch.zeros_like(n_cells, dtype=torch.bool)
    is_number[model.columns] = True
    grid = torch.linspace(0, 1, settings.n_weights).to(n_cells)
    tried = torch.stack(
        [loss_of_weight(model, held_out, network_weight) for network_weight in grid]
    )
    # squared errors in scales of the normal's: nats, whatever the scales are
    variance = (tried[0] / n_cells.clamp(min=1)).clamp(min=1e-12)
    tried = torch.where(is_number, tried / (2 * variance), tried)
    pooled = tried.clone()
    for kind in (is_number, ~is_number):
        mean = tried[:, kind].sum(1, keepdim=True) / n_cells[kind].sum().clamp(min=1)
        pooled[:, kind] += settings.pooled_cells * mean
    best = pooled.argmin(0)
    gain = tried[0] - tried.gather(0, best.unsqueeze(0)).squeeze(0)
    best[gain < settings.least_gain * n_cells] = 0
    return grid[best]


def loss_of_weight(
    model: ConditionalMean, held_out: HeldOutCells, network_weight: Tensor
) -> Tensor:
    """Return the loss of every column: squares of numbers, nats of categories."""
    mixed = held_out.mix(network_weight)
    cells = -model.joint.log_prob_cells(mixed, held_out.truth)
    numbers = held_out.truth[:, model.columns]
    squares = (numbers - mixed[:, model.outputs]).square()
    cells[:, model.columns] = squares - network_weight**2 * held_out.removed_variance
    return (held_out.weight * cells).sum(0)


def choose_shrinkage(
    truth: Tensor,
    estimate: Tensor,
    weight: Tensor,
    removed_variance: Tensor,
    settings: StackingSettings = SETTINGS,
) -> Tensor:
    """Return how far estimates of numbers should go from the marginal mean, by column.

    An estimate of variance s^2 that leaves the variance r^2, of which a part k r^2 is
    error of estimation, is best shrunk by 1 - k r^2 / s^2: not at all where a column
    is told by the others, to the mean where it is noise. k is a matter of rows and
    columns, and chosen for all columns together, as single ones say little; 0 stands
    unless the gain exceeds what chance makes of it.
    """
    n_cells = weight.sum(0).clamp(min=1)
    squares = (truth - estimate).square() - removed_variance
    left = ((weight * squares).sum(0) / n_cells).clamp(min=1e-12)
    spread = ((weight * estimate.square()).sum(0) / n_cells).clamp(min=1e-12)
    without = (weight * squares / (2 * left)).sum(1)
    best, best_gain = torch.ones_like(left), without.new_zeros(())
    for k in settings.shrinkages:
        shrinkage = (1 - k * left / spread).clamp(min=0)
        errors = (
            truth - shrinkage * estimate
        ).square() - shrinkage**2 * removed_variance
        gain = without - (weight * errors / (2 * left)).sum(1)
        total = gain.sum()
        # a row comes with several patterns, which are no independent witnesses
        chance = (MOST_PATTERNS * gain.square().sum()).sqrt()
        better = (total > settings.least_evidence * chance) & (total > best_gain)
        best = torch.where(better, shrinkage, best)
        best_gain = torch.where(better, total, best_gain)
    return best
