"""Conformal scale factors of intervals, from held-out outputs."""

from __future__ import annotations

import numpy as np

from .settings import SETTINGS, Settings


def interval_levels(settings: Settings = SETTINGS) -> list[float]:
    """Return the lower and upper quantile levels of the calibrated intervals."""
    coverage = settings.conformal_coverage
    return [(1 - coverage) / 2, (1 + coverage) / 2]


def conformal_scale(
    residual: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    weight: np.ndarray,
    settings: Settings = SETTINGS,
) -> float:
    """Return the conformal scale factor (>= 1) for the intervals of one output.

    Conformalised quantile regression with a factor in place of a term: the smallest
    that covers ``conformal_coverage`` of the held-out outputs, with one more counted as
    not covered. The same rows chose the weights, so a factor below 1 is not used.

    Parameters
    ----------
    residual : ndarray of shape (n_rows,)
        Held-out outputs less their means.
    lower, upper : ndarray of shape (n_rows,)
        Bounds of their intervals, less the means.
    weight : ndarray of shape (n_rows,)
        Weights of the rows.

    References
    ----------
    Romano, Patterson, Candès (2019), Conformalized Quantile Regression, algorithm 1.
    """
    if len(residual) < settings.conformal_rows:
        return 1.0
    reach = np.where(residual > 0, upper, -lower).clip(min=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(residual == 0, 0.0, np.abs(residual) / reach)
    order = needed.argsort()
    weight = weight[order]
    covered = weight.cumsum() / (weight.sum() + weight.mean())
    last = min(covered.searchsorted(settings.conformal_coverage), len(order) - 1)
    factor = float(needed[order[last]])
    # not where intervals have no width
    return max(1.0, factor) if np.isfinite(factor) else 1.0
