"""Predictive moments over draws of latent variables, and the temperature of draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .families import Prior
from .joint import Joint
from .normal import StandardNormal


def cell_moments(joint: Joint, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return predictive mean and variance of every column, (rows, n_columns).

    ``outputs`` are decoder outputs of several draws of z, (draws, rows, n_outputs).
    Categories get the mode of the probabilities averaged over draws, and the variance
    0.
    """
    moments = [head.predictive_moments(part) for head, part in joint.split(outputs)]
    means, variances = zip(*moments, strict=True)
    return torch.cat(means, -1), torch.cat(variances, -1)


def tempered_latents(pz: Prior, noise: Tensor, temperature: float) -> Tensor:
    """Return draws of p(z | c), (draws, rows, latent), with a temperature.

    The temperature multiplies the deviations of draws from the mean of p(z | c).
    """
    z = pz.rsample(noise)
    if temperature == 1:
        return z
    if isinstance(pz, StandardNormal):
        return temperature * z
    return torch.lerp(pz.mean.expand_as(z), z, temperature)


def check_temperature(temperature: Any) -> float:
    """Return a temperature as a float; raise ValueError unless it is at least 0."""
    if (
        not isinstance(temperature, int | float | np.number)
        or isinstance(temperature, bool)
        or not 0 <= temperature < np.inf
    ):
        raise ValueError(
            f"temperature must be a number of at least 0, but got {temperature!r}."
        )
    return float(temperature)
