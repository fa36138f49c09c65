"""Stacking weights of normal, networks and marginal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .conditional_mean import ConditionalMean, Rows, out_of_fold_outputs
from .settings import SETTINGS, Settings


def choose_stacking(model: ConditionalMean, rows: Rows, mask: Tensor) -> None:
    """Choose network weight and shrinkage of every column on held-out rows.

    Categories are not shrunk.
    """
    held_out = HeldOutCells.predict(model, rows, mask)
    model.network_weight.copy_(choose_network_weights(model, held_out))
    columns = model.columns
    mixed = held_out.mix(model.by_output(model.network_weight))
    model.shrinkage[columns] = choose_shrinkage(
        held_out.truth[:, columns],
        mixed[:, model.outputs],
        held_out.weight[:, columns],
        model.network_weight[columns] ** 2 * held_out.removed_variance,
        model.settings,
    )


@dataclass(frozen=True)
class HeldOutCells:
    """Masked cells of held-out rows, with out-of-fold estimates.

    Each row is estimated by the one network that holds it out. The average over
    networks, which new rows get, has less variance: by ``removed_variance``.
    """

    truth: Tensor  # (rows, columns)
    weight: Tensor  # (rows, columns), 0 where a cell is not masked
    own: Tensor  # (rows, outputs) out of fold
    baseline: Tensor  # (rows, outputs) of the normal
    removed_variance: Tensor  # (rows, numeric columns)

    @classmethod
    def predict(cls, model: ConditionalMean, rows: Rows, mask: Tensor) -> HeldOutCells:
        """Return estimates of the observed cells outside the input mask."""
        assert rows.fold is not None
        outputs, baseline = model.members(rows.x, rows.x_original, mask, rows.fold)
        own = out_of_fold_outputs(outputs, rows.fold)
        numbers = outputs[..., model.outputs]
        removed = torch.zeros_like(own[:, model.outputs])
        if model.n_members > 1 and numbers.numel():
            removed = numbers.var(0) * (1 - 1 / model.n_members)
        weight = (rows.observed & ~mask) * rows.weight.unsqueeze(1)
        return cls(rows.x_original, weight, own, baseline, removed)

    def mix(self, network_weight: Tensor) -> Tensor:
        """Return the outputs for a weight of the networks."""
        return self.baseline + network_weight * (self.own - self.baseline)


def choose_network_weights(model: ConditionalMean, held_out: HeldOutCells) -> Tensor:
    """Return the weight of the networks in the estimates of every column.

    A column's loss shrinks to that of all columns of its kind, see ``pooled_cells``;
    networks that gain less than ``min_gain`` have weight 0.
    """
    settings = model.settings
    n_cells = held_out.weight.sum(0)
    is_number = torch.zeros_like(n_cells, dtype=torch.bool)
    is_number[model.columns] = True
    grid = torch.linspace(
        0, 1, settings.n_weights, dtype=torch.float32, device=n_cells.device
    )
    losses = torch.stack([loss_of_weight(model, held_out, weight) for weight in grid])
    # squared errors by those of the normal: nats, whatever the scales are
    variance = (losses[0] / n_cells.clamp(min=1)).clamp(min=1e-12)
    losses = torch.where(is_number, losses / (2 * variance), losses)
    pooled = losses.clone()
    for kind in (is_number, ~is_number):
        mean = losses[:, kind].sum(1, keepdim=True) / n_cells[kind].sum().clamp(min=1)
        pooled[:, kind] += settings.pooled_cells * mean
    best = pooled.argmin(0)
    gain = losses[0] - losses.gather(0, best.unsqueeze(0)).squeeze(0)
    best[gain < settings.min_gain * n_cells] = 0
    return grid[best]


def loss_of_weight(
    model: ConditionalMean, held_out: HeldOutCells, network_weight: Tensor
) -> Tensor:
    """Return the loss per column: squared error (numeric) or cross-entropy."""
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
    settings: Settings = SETTINGS,
) -> Tensor:
    """Return the shrinkage factor of numeric estimates, by column.

    Estimates of variance s^2 and residual variance r^2, of which a part k r^2 is error
    of estimation, are best shrunk to their mean 0 by the factor 1 - k r^2 / s^2. k is
    chosen for all columns together, as single columns have too few cells; it is 0
    unless the gain is significant.
    """
    n_cells = weight.sum(0).clamp(min=1)
    squares = (truth - estimate).square() - removed_variance
    residual = ((weight * squares).sum(0) / n_cells).clamp(min=1e-12)
    variance = ((weight * estimate.square()).sum(0) / n_cells).clamp(min=1e-12)
    unshrunk = (weight * squares / (2 * residual)).sum(1)
    best, best_gain = torch.ones_like(residual), unshrunk.new_zeros(())
    for ratio in settings.error_ratios:
        shrinkage = (1 - ratio * residual / variance).clamp(min=0)
        errors = (truth - shrinkage * estimate).square()
        errors = errors - shrinkage**2 * removed_variance
        gain = unshrunk - (weight * errors / (2 * residual)).sum(1)
        total = gain.sum()
        # the masks of a row are not independent
        error = (settings.masks_per_row * gain.square().sum()).sqrt()
        better = (total > settings.min_standard_errors * error) & (total > best_gain)
        best = torch.where(better, shrinkage, best)
        best_gain = torch.where(better, total, best_gain)
    return best
