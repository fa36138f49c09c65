"""What decoded draws say of a cell: moments, probabilities and tempered draws.

``outputs`` are decoder outputs of several draws of z, (draws, rows, n_outputs).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ._columns import Column
from ._distributions import (
    Bernoulli,
    Categorical,
    Head,
    Joint,
    LocationScale,
    Ordinal,
    Poisson,
    StudentT,
)
from ._latents import Prior, StandardNormal

#: Draws behind intervals, medians and the correction for self-masking. With 99 the
#: fifth smallest is the 5% quantile without bias: (n + 1) p is whole.
INTERVAL_DRAWS = 99

#: The most that intervals may cover: more would take too many draws.
MOST_COVERAGE = 0.9999

#: Rows drawn after training to tell which draws stand for which repeated value.
LIMIT_DRAWS = 4_096

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


def weighted_median(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return medians of weighted draws: (draws, rows, columns), (draws, rows)."""
    order = x.argsort(0)
    below = np.take_along_axis(weights[..., None], order, 0).cumsum(0)
    place = (below < 0.5).sum(0, keepdims=True).clip(max=len(x) - 1)
    middle: np.ndarray = np.take_along_axis(np.sort(x, 0), place, 0)[0]
    return middle


def interval_draws(coverage: float) -> int:
    """Return the number of draws whose least and greatest are beyond the ends.

    Raises
    ------
    ValueError
        If ``coverage`` is no probability, or too near to 1.
    """
    if not 0 < coverage <= MOST_COVERAGE:
        raise ValueError(
            f"coverage must lie between 0 and {MOST_COVERAGE}, but got {coverage!r}."
        )
    return max(INTERVAL_DRAWS, math.ceil(round(2 / (1 - coverage), 6)) - 1)


def sorted_quantiles(x: np.ndarray, levels: list[float]) -> np.ndarray:
    """Return quantiles over draws: (draws, rows, columns) -> (levels, rows, columns).

    Between order statistics at (n + 1) p (Weibull), which makes coverage exact.
    """
    draws = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 0, -1)))
    draws = draws.sort(-1).values
    result = []
    for level in levels:
        rank = min(max(level * (len(x) + 1) - 1, 0.0), len(x) - 1.0)
        below = int(rank)
        above = min(below + 1, len(x) - 1)
        result.append(torch.lerp(draws[..., below], draws[..., above], rank - below))
    return torch.stack(result).numpy()


def repeated_interval(x: np.ndarray, coverage: float) -> np.ndarray:
    """Return ends of intervals of draws that repeat their values: (2, rows).

    ``x`` are (draws, rows). Of neighbouring values an end is the one that leaves the
    share outside that is nearest to what it should be. Ends that leave at most as much
    would cover far too often where there are few values.
    """
    ordered = np.sort(x, axis=0)
    share = (1 - coverage) / 2
    lower, upper = _lower_end(ordered, share), -_lower_end(-ordered[::-1], share)
    middle = ordered[len(x) // 2]
    crossed = lower > upper
    return np.where(crossed, middle, np.stack([lower, upper]))


def _lower_end(ordered: np.ndarray, share: float) -> np.ndarray:
    n = len(ordered)
    rank = int(share * (n + 1) + 1e-9) - 1
    value = ordered[max(rank, 0)]
    below, up_to = (ordered < value).sum(0), (ordered <= value).sum(0)
    following = np.take_along_axis(ordered, np.minimum(up_to, n - 1)[None], 0)[0]
    # the draw of rank k, from one, is the k / (n + 1) quantile without bias
    too_few = share - (below + 1) / (n + 1)
    too_many = (up_to + 1) / (n + 1) - share
    return np.where(too_few <= too_many, value, following)


def limits_of_values(
    columns: Sequence[Column], draw: Callable[[int], np.ndarray]
) -> dict[int, np.ndarray]:
    """Return what draws of a column that repeats its values are cut at.

    ``draw`` gives as many encoded rows of the model, (rows, n_columns), whose columns
    are ``columns``; it is called if one of them repeats values. Between the limits lies
    the share of the draws that is the value's share of the training table: 40 hours a
    week are a spike that a density only approaches. Order, and with it dependence,
    stays as drawn.
    """
    shares = {i: c.shares for i, c in enumerate(columns) if c.shares is not None}
    if not shares:
        return {}
    draws = draw(LIMIT_DRAWS)
    return {
        position: np.quantile(draws[:, position], share.cumsum()[:-1])
        for position, share in shares.items()
    }


def cut_into_values(
    rows: np.ndarray, columns: Sequence[Column], limits: dict[int, np.ndarray]
) -> None:
    """Turn draws of columns that repeat their values into such values, in place."""
    for position, cuts in limits.items():
        column = columns[position]
        assert column.support is not None
        values = column.support[np.searchsorted(cuts, rows[:, position])]
        rows[:, position] = column.map.forward(values)
