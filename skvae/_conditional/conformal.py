"""How much wider distributions must be to cover outputs that were held out."""

from __future__ import annotations

import numpy as np

#: Held-out rows that a factor needs, and the coverage that it restores.
LEAST_ROWS, COVERAGE = 20, 0.9

#: Levels of the ends of the intervals that cover so much.
LEVELS = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]


def stretch_factor(
    error: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    weight: np.ndarray,
) -> float:
    """Return the factor, at least 1, by which intervals of one output widen.

    Conformal prediction with quantiles, but intervals widen by a factor: that which
    covers COVERAGE of the held-out outputs, one more counted as lost. The rows chose
    the weights of the model too, so that a factor below 1 is not believed.

    Parameters
    ----------
    error : ndarray of shape (n_rows,)
        Held-out outputs less their means.
    lower, upper : ndarray of shape (n_rows,)
        Ends of their intervals, less the means.
    weight : ndarray of shape (n_rows,)
        Weights of the rows.

    References
    ----------
    Romano, Patterson, Candès (2019), Conformalized Quantile Regression, algorithm 1.
    """
    if len(error) < LEAST_ROWS:
        return 1.0
    reach = np.where(error > 0, upper, -lower).clip(min=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(error == 0, 0.0, np.abs(error) / reach)
    order = needed.argsort()
    weight = weight[order]
    covered = weight.cumsum() / (weight.sum() + weight.mean())
    last = min(covered.searchsorted(COVERAGE), len(order) - 1)
    factor = float(needed[order[last]])
    # not where intervals have no width
    return max(1.0, factor) if np.isfinite(factor) else 1.0
