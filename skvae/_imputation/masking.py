"""Which observed cells are masked in training: at random, or as in other rows."""

from __future__ import annotations

import torch
from torch import Tensor

#: Missing share of a table from which patterns are copied, and patterns per row.
LEAST_MISSING, MOST_PATTERNS = 0.05, 4

#: The smallest share that is hidden.
LEAST_HIDDEN = 0.1


def hide(
    observed: Tensor, low: float, high: float, generator: torch.Generator
) -> Tensor:
    """Return the mask of the cells that stay visible: a random part of the observed."""
    device = observed.device
    rate = torch.rand(len(observed), 1, generator=generator, device=device)
    chance = torch.rand(observed.shape, generator=generator, device=device)
    return observed & (chance > low + (high - low) * rate)


def hide_like_others(observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mask of the cells that stay visible if rows swap their patterns."""
    order = torch.randperm(len(observed), generator=generator, device=observed.device)
    return observed & observed[order]


def some_like_others(v: Tensor, observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the mask ``v``, in half of the rows that of another row."""
    half = torch.rand(len(v), 1, generator=generator, device=v.device) < 0.5
    return torch.where(half, hide_like_others(observed, generator), v)


def has_patterns(observed: Tensor) -> bool:
    """Tell whether enough cells are missing for patterns to copy."""
    return float(observed.float().mean()) < 1 - LEAST_MISSING


def judged(observed: Tensor, most_hidden: float, generator: torch.Generator) -> Tensor:
    """Return the mask of the cells that stay visible where estimates are judged.

    Patterns of missing cells as in other rows are what the estimates are for: under
    MAR the cells of an observed row are no fair sample in other patterns. A table with
    few missing cells has no patterns to copy.
    """
    if has_patterns(observed):
        return hide_like_others(observed, generator)
    return hide(observed, LEAST_HIDDEN, most_hidden, generator)
