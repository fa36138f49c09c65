"""Sources of noise: a generator, or numbers that belong to the content of a row.

A generator gives its numbers in the order of the rows, as draws of tables need them.
Prediction intervals take :class:`RowNoise`: a row has the same interval alone, in any
order and among any other rows. One stream for all rows would do that too, but then
every interval would be wrong in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .gamma import GAMMA_NOISE, standard_log_gamma

#: Cells are told apart in steps of this fraction of a standard deviation. The last
#: digits differ between dtypes and units; they must not change the noise.
STEPS_PER_DEVIATION = 16.0

#: Maximum number of steps from the mean: beyond it, cells are the same to the noise.
LARGEST_STEP = 2.0**30

#: Shifts and factors of splitmix64 (Steele, Lea, Flood 2014), for one hash of a row.
MIX_64 = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))

#: Factors of a 32-bit hash (Wellons 2018, "lowbias32"), for every number.
MIX_32 = (0x21F0AAAD, 0x735A2D97)

#: Rate from which a Poisson quantile is a series; below it, probabilities are summed.
LEAST_RATE_OF_SERIES = 8.0
#: Margin of that sum for rounding errors, which would leave it below one.
ROUNDING_OF_SUM = 1e-6


class RowStream:
    """Stream of noise for rows of any table, from one seed.

    Parameters
    ----------
    seed : int
        Another seed gives other numbers for the same rows.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def of(self, x: Tensor, observed: Tensor | None = None) -> RowNoise:
        """Return the noise of rows from its beginning.

        Parameters
        ----------
        x : Tensor of shape (rows, columns)
            Encoded cells; missing ones hold the same value in all rows.
        observed : Tensor of bool of shape (rows, columns), default=None
            Mask of the observed cells.
        """
        generator = torch.Generator("cpu").manual_seed(self.seed)
        offset = torch.rand(
            x.shape[1], generator=generator, dtype=torch.float32, device="cpu"
        ).to(x)
        # an offset, as values at the border of a step would be common without one
        steps = torch.addcmul(offset, x, x.new_tensor(STEPS_PER_DEVIATION))
        cells = steps.clamp(-LARGEST_STEP, LARGEST_STEP).floor().to(torch.int64) * 2
        if observed is not None:
            cells = cells + observed
        by_column = random_integers((x.shape[1],), torch.int64, generator)
        keys = mixed_64(cells ^ by_column.to(x.device)).sum(1)
        return RowNoise(mixed_64(keys), generator)


class RowNoise:
    """Independent random numbers for every row, by counters (Salmon et al. 2011).

    A number is a hash of the row's key, the draw, and how many numbers came before in
    the row: nothing is kept from row to row. Rows with the same key have the same
    numbers.

    Parameters
    ----------
    keys : Tensor of int64 of shape (rows,)
        Hashes of the rows.
    generator : torch.Generator
        Source of the numbers that stand for draws and columns, on the CPU.
    """

    def __init__(self, keys: Tensor, generator: torch.Generator) -> None:
        self.keys = keys
        self.generator = generator

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return numbers between -1 and 1, both excluded, (draws, rows, ...)."""
        n_draws, n_rows, width = shape[0], shape[1], math.prod(shape[2:])
        device = self.keys.device
        of_column = random_integers((width,), torch.int64, self.generator)
        of_row = mixed_64(self.keys.unsqueeze(1) ^ of_column.to(device))
        of_draw = random_integers((n_draws, 1, width), torch.int32, self.generator)
        bits = (of_row >> 32).to(torch.int32) ^ of_draw.to(device)
        bits.mul_(MIX_32[0]).bitwise_xor_(bits >> 15).mul_(MIX_32[1])
        # 24 bits, which float32 holds exactly
        numbers = bits.bitwise_right_shift_(8).to(torch.float32)
        return numbers.add_(0.5).mul_(2.0**-23).view(n_draws, n_rows, *shape[2:])

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers, (draws, rows, ...)."""
        return self.uniform(shape).erfinv_().mul_(math.sqrt(2))


Source = torch.Generator | RowNoise


def random_integers(
    shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Return integers from the whole range of a dtype."""
    limits = torch.iinfo(dtype)
    # the upper end is left out, and would not fit into 64 bits
    return torch.randint(
        limits.min, limits.max, shape, dtype=dtype, device="cpu", generator=generator
    )


def mixed_64(keys: Tensor) -> Tensor:
    """Return a hash of every 64-bit integer, by splitmix64."""
    for shift, factor in MIX_64:
        keys = (keys ^ (keys >> shift)) * factor
    return keys ^ (keys >> 31)


# -- draws of both sources -----------------------------------------------------------


def draw_normal(like: Tensor, source: Source) -> Tensor:
    """Return standard normal draws of the shape of ``like``."""
    if isinstance(source, RowNoise):
        return source.normal(like.shape).to(like.dtype)
    return torch.empty_like(like).normal_(generator=source)


def draw_student_t(degrees_of_freedom: Tensor, source: Source) -> Tensor:
    """Return Student-t draws, one for each of the degrees of freedom."""
    if isinstance(source, RowNoise):
        # two uniform numbers as polar coordinates (Bailey 1994)
        first, second = source.uniform((*degrees_of_freedom.shape, 2)).unbind(-1)
        log_level = (0.5 * first.to(degrees_of_freedom.dtype) + 0.5).log()
        square = torch.expm1(-2 / degrees_of_freedom * log_level)
        return (degrees_of_freedom * square).sqrt() * torch.cos(math.pi * second)
    degrees_of_freedom = degrees_of_freedom.contiguous()
    half = torch._standard_gamma(degrees_of_freedom / 2, generator=source)
    noise = torch.empty_like(degrees_of_freedom).normal_(generator=source)
    return noise * torch.rsqrt(2 * half / degrees_of_freedom)


def draw_booleans(probability: Tensor, source: Source) -> Tensor:
    """Return draws of 0 and 1, given probabilities of 1."""
    if isinstance(source, RowNoise):
        level = 0.5 * source.uniform(probability.shape) + 0.5
        return (level < probability).to(probability.dtype)
    return torch.bernoulli(probability, generator=source)


def draw_codes(probability: Tensor, source: Source) -> Tensor:
    """Return draws of codes, (...,), given their probabilities, (..., codes)."""
    if isinstance(source, RowNoise):
        level = 0.5 * source.uniform(probability.shape[:-1]) + 0.5
        # the last bound is left out: rounding might put it below the level
        bounds = probability.cumsum(-1)[..., :-1]
        return (level.unsqueeze(-1) > bounds).sum(-1).to(probability.dtype)
    codes = torch.multinomial(probability.flatten(0, -2), 1, generator=source)
    return codes.reshape(probability.shape[:-1]).to(probability.dtype)


def draw_places(weights: Tensor, n_draws: int, source: Source) -> Tensor:
    """Return places drawn with replacement by their weights, (rows, n_draws).

    The weights, (rows, places), need not sum to one.
    """
    if isinstance(source, RowNoise):
        bounds = weights.cumsum(-1)
        level = 0.5 * source.uniform((n_draws, len(weights))).to(weights.dtype) + 0.5
        level = (level.t() * bounds[:, -1:]).contiguous()
        places = torch.searchsorted(bounds, level)
        return places.clamp(max=weights.shape[1] - 1)
    return torch.multinomial(weights, n_draws, True, generator=source)


def draw_gamma(shape: Tensor, source: Source) -> Tensor:
    """Return draws of Gamma(shape, 1)."""
    if isinstance(source, RowNoise):
        noise = [draw_normal(shape, source) for _ in range(GAMMA_NOISE)]
        return standard_log_gamma(shape, noise).exp()
    return torch._standard_gamma(shape, generator=source)


def draw_poisson(rate: Tensor, source: Source) -> Tensor:
    """Return Poisson draws."""
    if isinstance(source, RowNoise):
        return poisson_quantile(rate, source.uniform(rate.shape).to(rate.dtype))
    return torch.poisson(rate, generator=source)


def poisson_quantile(rate: Tensor, level: Tensor) -> Tensor:
    """Return quantiles of Poisson distributions.

    By summation for small rates, else by the normal series of Giles (2016), Algorithm
    955, which is off by one count at fewer than 0.1% of the levels.

    Parameters
    ----------
    rate : Tensor
        Means.
    level : Tensor
        Levels of the quantiles as numbers from -1 to 1, same shape.
    """
    quantile = torch.empty_like(rate)
    is_small = rate < LEAST_RATE_OF_SERIES
    quantile[is_small] = _summed_quantile(rate[is_small], level[is_small])
    quantile[~is_small] = _series_quantile(rate[~is_small], level[~is_small])
    return quantile


def _series_quantile(rate: Tensor, level: Tensor) -> Tensor:
    z = math.sqrt(2) * level.erfinv()
    square, root = z.square(), rate.sqrt()
    value = rate + root * z + (2 + square) / 6
    value -= (2 + square) * z / (72 * root)
    value += ((3 * square + 7) * square - 16) / (810 * rate)
    return value.floor().clamp(min=0)


def _summed_quantile(rate: Tensor, level: Tensor) -> Tensor:
    level = 0.5 * level + 0.5
    probability = torch.exp(-rate)  # of the next count
    total, count = probability + ROUNDING_OF_SUM, torch.zeros_like(rate)
    above, k = level > total, 0
    while bool(above.any()):
        k += 1
        count += above
        probability = probability * rate / k
        total += probability
        above = level > total
    return count
