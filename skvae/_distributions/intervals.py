"""Quantiles and prediction intervals of draws, in NumPy arrays."""

from __future__ import annotations

import math

import numpy as np
import torch

#: Draws behind intervals, medians and the correction for self-masking. With 99 the
#: fifth smallest is the 5% quantile without bias: (n + 1) p is whole.
INTERVAL_DRAWS = 99

#: Maximum coverage of intervals: it takes 19,999 draws.
MOST_COVERAGE = 0.9999


def weighted_median(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return medians of weighted draws: (draws, rows, columns), (draws, rows)."""
    order = x.argsort(0)
    below = np.take_along_axis(weights[..., None], order, 0).cumsum(0)
    place = (below < 0.5).sum(0, keepdims=True).clip(max=len(x) - 1)
    middle: np.ndarray = np.take_along_axis(np.sort(x, 0), place, 0)[0]
    return middle


def interval_draws(coverage: float) -> int:
    """Return the number of draws that intervals of this coverage need.

    The least and the greatest of them lie beyond the ends of the interval.

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
    """Return prediction interval bounds from discrete (tied) draws, (2, rows).

    ``x`` are (draws, rows). An end is the value for which the probability beyond it is
    nearest to ``(1 - coverage) / 2``. Conservative ends, with at most that probability
    beyond them, would cover far too often where a column has few values.
    """
    ordered = np.sort(x, axis=0)
    tail = (1 - coverage) / 2
    lower, upper = _lower_end(ordered, tail), -_lower_end(-ordered[::-1], tail)
    middle = ordered[len(x) // 2]
    crossed = lower > upper
    ends: np.ndarray = np.where(crossed, middle, np.stack([lower, upper]))
    return ends


def _lower_end(ordered: np.ndarray, tail: float) -> np.ndarray:
    n = len(ordered)
    rank = int(tail * (n + 1) + 1e-9) - 1
    value = ordered[max(rank, 0)]
    below, up_to = (ordered < value).sum(0), (ordered <= value).sum(0)
    following = np.take_along_axis(ordered, np.minimum(up_to, n - 1)[None], 0)[0]
    # the draw of rank k, from one, is the k / (n + 1) quantile without bias
    too_few = tail - (below + 1) / (n + 1)
    too_many = (up_to + 1) / (n + 1) - tail
    end: np.ndarray = np.where(too_few <= too_many, value, following)
    return end
