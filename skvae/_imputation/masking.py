"""Which observed cells are masked in training: at random, or as in other rows."""

from __future__ import annotations

import torch
from torch import Tensor

#: Missing share of a table from which patterns are copied, and patterns per row.
LEAST_MISSING, MOST_PATTERNS = 0.05, 4

#: The smallest share that is hidden.
LEAST_MASKED = 0.1


def random_mask(
    observed: Tensor, low: float, high: float, generator: torch.Generator
) -> Tensor:
    """Return the mask of the cells that stay visible: a random part of the observed."""
    device = observed.device
    rate = torch.rand(len(observed), 1, generator=generator, device=device)
    chance = torch.rand(observed.shape, generator=generator, device=device)
    return observed & (chance > low + (high - low) * rate)


def permuted_mask(observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mask of the cells that stay visible if rows swap their patterns."""
    order = torch.randperm(len(observed), generator=generator, device=observed.device)
    return observed & observed[order]


def half_permuted_mask(
    mask: Tensor, observed: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the mask ``mask``, in half of the rows that of another row."""
    half = torch.rand(len(mask), 1, generator=generator, device=mask.device) < 0.5
    return torch.where(half, permuted_mask(observed, generator), mask)


def has_patterns(observed: Tensor) -> bool:
    """Tell whether enough cells are missing for patterns to copy."""
    return float(observed.float().mean()) < 1 - LEAST_MISSING


def validation_mask(
    observed: Tensor, most_masked: float, generator: torch.Generator
) -> Tensor:
    """Return the mask of the cells that stay visible where estimates are judged.

    Patterns of missing cells as in other rows are what the estimates are for: under
    MAR the cells of an observed row are no fair sample in other patterns. A table with
    few missing cells has no patterns to copy.
    """
    if has_patterns(observed):
        return permuted_mask(observed, generator)
    return random_mask(observed, LEAST_MASKED, most_masked, generator)
