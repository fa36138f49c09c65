"""What decoded draws say of a cell: moments, probabilities and tempered draws.

``outputs`` are decoder outputs of several draws of z, (draws, rows, n_outputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import Bernoulli, Categorical, Ordinal, Poisson
from .families import Prior
from .head import Head
from .joint import Joint
from .location_scale import LocationScale, StudentT
from .normal import StandardNormal

#: At lower temperatures categories are the most probable ones: their logits are
#: divided by the temperature.
LEAST_TEMPERATURE = 1e-3


def cell_moments(joint: Joint, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return predictive mean and variance of every column, (rows, n_columns).

    Categories get the code that is most probable on the average over draws, and the
    variance 0.
    """
    means, variances = [], []
    for head, part in joint.split(outputs):
        if isinstance(head, Categorical | Ordinal):
            mean = probabilities(head, part).mean(0).argmax(-1).to(part.dtype)
            variance = torch.zeros_like(mean)
        else:
            loc, within = head_moments(head, part)
            mean = loc.mean(0)
            variance = within.mean(0) + loc.var(0, correction=0)
        means.append(mean)
        variances.append(variance)
    return torch.cat(means, -1), torch.cat(variances, -1)


def head_moments(head: Head, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance given z, (draws, rows, n_columns)."""
    loc = head.point(outputs)
    if isinstance(head, LocationScale):
        deviation = head.scale(outputs) * head.deviation_per_scale()
        return loc, deviation.square().expand_as(loc)
    if isinstance(head, Bernoulli):
        return loc, loc * (1 - loc)
    assert isinstance(head, Poisson)
    return loc, loc


def probabilities(head: Categorical | Ordinal, outputs: Tensor) -> Tensor:
    """Return P(code) given z, (draws, rows, n_columns, n_categories)."""
    if isinstance(head, Ordinal):
        return head.log_probabilities(outputs).exp()
    shape = (*outputs.shape[:-1], head.n_columns, head.n_categories)
    return outputs.view(shape).softmax(-1)


def tempered_latents(pz: Prior, noise: Tensor, temperature: float) -> Tensor:
    """Return draws of p(z | c), (draws, rows, latent), pulled towards its mean."""
    z = pz.rsample(noise)
    if temperature == 1:
        return z
    if isinstance(pz, StandardNormal):
        return temperature * z
    return torch.lerp(pz.mean.expand_as(z), z, temperature)


def tempered_draws(
    joint: Joint, outputs: Tensor, generator: torch.Generator, temperature: float
) -> Tensor:
    """Draw every column once per draw of z, (draws, rows, n_columns).

    Deviations of numbers from their location are multiplied by the temperature, those
    of counts too and then rounded; logits are divided by it.
    """
    parts = []
    for head, part in joint.split(outputs):
        if isinstance(head, LocationScale | Poisson):
            loc, draw = head.point(part), head.sample(part, generator)
            if temperature != 1:
                draw = loc + temperature * (draw - loc)
            if isinstance(head, Poisson):
                draw = draw.round()
        elif temperature < LEAST_TEMPERATURE:
            draw = head.point(part)
            draw = draw.round() if isinstance(head, Bernoulli) else draw
        elif isinstance(head, Ordinal):
            logits = head.log_probabilities(part) / temperature
            flat = logits.softmax(-1).flatten(0, -2)
            codes = torch.multinomial(flat, 1, generator=generator)
            draw = codes.reshape(logits.shape[:-1]).to(part.dtype)
        else:
            draw = head.sample(part / temperature, generator)
        parts.append(draw)
    return torch.cat(parts, -1)


def noise_alike(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise whose mean over draws is 0 and whose variance is 1.

    What chance has it wrong would be wrong in the same way for every row.
    """
    noise = torch.empty_like(like).normal_(generator=generator)
    noise = noise - noise.mean(0)
    return noise / noise.square().mean(0).sqrt().clamp(min=1e-6)


def draws_alike(joint: Joint, outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw numbers with the same noise for every row, (draws, rows, n_columns).

    Means of such draws depend on no other row. Counts are as normal as their rate
    makes them, and categories at their mode.
    """
    parts = []
    for head, part in joint.split(outputs):
        draw = head.point(part)
        if isinstance(head, LocationScale):
            one_row = draw[:, :1]
            if isinstance(head, StudentT):
                noise = head.noise(one_row, generator)
            else:
                noise = noise_alike(one_row, generator)
            draw = draw + head.scale(part) * noise
        elif isinstance(head, Poisson):
            noise = noise_alike(draw[:, :1], generator)
            draw = (draw + draw.sqrt() * noise).clamp(min=0)
        parts.append(draw)
    return torch.cat(parts, -1)
