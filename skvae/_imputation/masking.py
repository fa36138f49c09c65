"""Input masks: observed cells at random, or with the patterns of other rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .settings import SETTINGS, Settings


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return uniform random numbers between 0 and 1 on the device of the generator."""
    device = generator.device
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=device)


def random_mask(
    observed: Tensor, low: float, high: float, generator: torch.Generator
) -> Tensor:
    """Return an input mask with a random fraction of the observed cells of each row.

    The masking rate of a row is uniform between ``low`` and ``high``.
    """
    rate = uniform((len(observed), 1), generator)
    chance = uniform(observed.shape, generator)
    return observed & (chance > low + (high - low) * rate)


def permuted_mask(observed: Tensor, generator: torch.Generator) -> Tensor:
    """Return the observed mask combined with the missingness of a random row."""
    order = torch.randperm(len(observed), generator=generator, device=observed.device)
    return observed & observed[order]


def training_mask(
    observed: Tensor,
    generator: torch.Generator,
    *,
    permuted: bool,
    settings: Settings = SETTINGS,
) -> Tensor:
    """Return an input mask for the residual VAE: random, in some rows permuted."""
    mask = random_mask(observed, *settings.masking_range, generator)
    if not permuted:
        return mask
    rate = uniform((len(mask), 1), generator)
    other = permuted_mask(observed, generator)
    return torch.where(rate < settings.permuted_rows, other, mask)


def has_patterns(observed: Tensor, settings: Settings = SETTINGS) -> bool:
    """Return whether enough cells are missing for permuted masks."""
    return float(observed.float().mean()) < 1 - settings.min_missing


def validation_mask(
    observed: Tensor,
    max_masking_rate: float,
    generator: torch.Generator,
    settings: Settings = SETTINGS,
) -> Tensor:
    """Return an input mask for held-out rows: permuted where the table has patterns.

    The estimates are used for the table's own patterns of missing cells; under MAR,
    randomly masked cells of a complete row do not represent them.
    """
    if has_patterns(observed, settings):
        return permuted_mask(observed, generator)
    return random_mask(observed, settings.min_masking_rate, max_masking_rate, generator)
