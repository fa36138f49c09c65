"""Cells so far from the rest of their column that they would hide it.

One cell of 999999 in a column near 0 takes all of its standard deviation: the other
cells would be encoded as one number. Such cells are told by the gap that parts them
from the others, in the distance from the median: heavy tails have no such gap.
"""

from __future__ import annotations

import numpy as np

from .settings import Settings

#: Interquartile range of a normal distribution, in its standard deviations.
ROBUST_DEVIATION = 1.349


def body_range(values: np.ndarray, settings: Settings) -> tuple[float, float] | None:
    """Return the range beyond which cells are outliers; None if there are none.

    On their side of the median outliers are farther away than all other cells by a
    factor that neither a normal nor a heavy tail shows, and they are few; see
    :class:`Settings`.
    """
    if len(values) < settings.min_cells_for_outliers:
        return None
    # Half of the values: the differences of huge ones are finite.
    ordered = np.sort(values) / np.float64(2)
    n_values = len(ordered)
    median, spread = centre_and_spread(ordered)
    below = median - ordered[ordered < median][::-1]
    above = ordered[ordered > median] - median
    low, high = (_reach(side, spread, n_values, settings) for side in (below, above))
    far = np.concatenate([-below[below > low], above[above > high]])
    if not len(far) or not _are_few(far, n_values, settings):
        return None
    # a side without outliers may get some later
    nearest = min(low, high)
    if np.isinf(low):
        low = max(nearest, settings.min_outlier_factor * below.max(initial=0.0))
    if np.isinf(high):
        high = max(nearest, settings.min_outlier_factor * above.max(initial=0.0))
    limit = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        ends = np.array([2 * (median - low), 2 * (median + high)])
    lowest, highest = np.clip(ends, -limit, limit).tolist()
    return lowest, highest


def centre_and_spread(ordered: np.ndarray) -> tuple[float, float]:
    """Return the median and a robust standard deviation of increasing values.

    The deviation is the interquartile range in that of a normal distribution.
    """
    n_values, middle = len(ordered), len(ordered) // 2
    median = ordered[middle] / 2 + ordered[n_values - 1 - middle] / 2
    rank = (n_values - 1) // 4
    quartiles = ordered[rank], ordered[n_values - 1 - rank]
    return float(median), float(quartiles[1] - quartiles[0]) / ROBUST_DEVIATION


def _are_few(far: np.ndarray, n_values: int, settings: Settings) -> bool:
    """Tell whether cells are few enough to be outliers, or markers."""
    if len(far) <= settings.max_outlier_fraction * n_values:
        return True
    n_distinct = len(np.unique(far))
    has_markers = n_distinct <= min(settings.max_markers, len(far) / 2)
    return has_markers and len(far) <= settings.max_marker_fraction * n_values


def _reach(
    distances: np.ndarray, spread: float, n_values: int, settings: Settings
) -> float:
    """Return the distance from the median beyond which cells are outliers.

    ``distances`` are those of one side, above 0, in increasing order.
    """
    least_factor = settings.min_outlier_factor
    if spread == 0:  # half of the cells are equal
        least_factor = settings.min_outlier_factor_of_rare
    start = max(0, len(distances) - int(settings.max_marker_fraction * n_values))
    nearest = np.concatenate([[0.0], distances[:-1]])[start:]
    body = np.maximum(nearest, settings.min_body_spreads * spread)
    # most columns end here: the logarithms are for the few others
    for place in np.flatnonzero(distances[start:] / least_factor > body):
        first, reach = start + int(place), body[place]
        inner = distances[:first]
        if spread == 0 and first < settings.min_body_cells:
            continue
        n_tail = max(min(settings.min_body_cells, first // 2), first // 10, 1)
        tail = np.log(inner[-n_tail:]) if first else np.zeros(1)
        heaviness = float(np.mean(tail - tail[0]))
        with np.errstate(over="ignore"):
            factor = max(least_factor, np.exp(settings.outlier_gap * heaviness))
        is_far = distances[first] / factor > reach
        if is_far and _are_few(distances[first:], n_values, settings):
            return float(factor * reach)
    return np.inf
