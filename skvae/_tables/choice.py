"""Likelihoods that "auto" gives, and the choice between those of an integer column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from .settings import Settings

#: The likelihood that "auto" stands for, by kind of column.
AUTO_LIKELIHOODS = {
    "numeric": "student_t_heteroscedastic",
    "count": "poisson",
    "boolean": "bernoulli",
    "ordinal": "ordinal",
    "categorical": "categorical",
}

#: The likelihood that "auto" gives to counts with a larger variance than a Poisson's.
OVERDISPERSED = "negative_binomial"

#: The likelihood whose density is compared with the probabilities of counts.
REFERENCE = "normal"

#: Encoded values are float32, which holds larger whole numbers not exactly.
LARGEST_COUNT = 2**24

#: Returns the log-density in nats of every value of a column, (n_values,).
LogDensity = Callable[[np.ndarray], np.ndarray]


class Likelihood(Protocol):
    """Properties that decide which columns a likelihood suits.

    See :class:`skvae._distributions.registry.LikelihoodSpec`.
    """

    @property
    def kinds(self) -> tuple[str, ...]: ...

    @property
    def domain(self) -> str: ...

    @property
    def largest(self) -> float: ...

    @property
    def fit_column(
        self,
    ) -> Callable[[np.ndarray, np.ndarray | None], LogDensity] | None: ...


Likelihoods = Mapping[str, Likelihood]


def choose_likelihood(
    values: np.ndarray,
    weights: np.ndarray | None,
    likelihoods: Likelihoods,
    settings: Settings,
) -> str:
    """Return the likelihood that "auto" gives to a column of integers.

    They are counts where a Poisson describes the column as a whole at least as well as
    a Normal, whose density stands for the probability of a bin of width 1, or where a
    negative binomial describes held-out cells clearly better. Columns with negative
    values or at most two distinct ones are no counts, nor are larger ones than float32
    holds exactly.
    """
    if not _may_be_counts(values) or values.max() > LARGEST_COUNT:
        return AUTO_LIKELIHOODS["numeric"]
    counts = AUTO_LIKELIHOODS["count"]
    poisson, normal = (
        np.average(_fit(likelihoods[name], values, weights)(values), weights=weights)
        for name in (counts, REFERENCE)
    )
    is_count = bool(poisson >= normal)
    if _is_overdispersed(values, weights, likelihoods, settings, is_count):
        return OVERDISPERSED
    return counts if is_count else AUTO_LIKELIHOODS["numeric"]


def _is_overdispersed(
    values: np.ndarray,
    weights: np.ndarray | None,
    likelihoods: Likelihoods,
    settings: Settings,
    is_count: bool,
) -> bool:
    """Tell whether a negative binomial is clearly better than Poisson and Normal.

    They are fitted to one half of the cells and compared on the other. ``is_count``
    tells whether the Poisson is chosen otherwise.
    """
    if weights is None:
        weights = np.ones(len(values))
    values, weights = values[weights > 0], weights[weights > 0]
    mean = np.average(values, weights=weights)
    variance = np.average((values - mean) ** 2, weights=weights)
    n_above = np.sum(values > 0)
    if variance <= mean or n_above < settings.min_cells_for_dispersion:
        return False
    rows = np.random.default_rng(0).permutation(len(values))
    train, test = np.array_split(rows[: settings.max_cells_for_choice], 2)
    if not _may_be_counts(values[train]):
        return False
    ours, poisson, normal = (
        _fit(likelihoods[name], values[train], weights[train])(values[test])
        for name in (OVERDISPERSED, AUTO_LIKELIHOODS["count"], REFERENCE)
    )
    least = settings.min_gain_over_poisson
    if not _is_clear_gain(ours - poisson, weights[test], least):
        return False
    least = 0.0 if is_count else settings.min_gain_over_normal
    if np.average(ours - normal, weights=weights[test]) < least:
        return False
    fitted = _fit(likelihoods[OVERDISPERSED], values, weights)
    return not _has_bounds(values, fitted, settings)


def _fit(
    likelihood: Likelihood, values: np.ndarray, weights: np.ndarray | None
) -> LogDensity:
    """Return the log-density of a likelihood fitted to a column."""
    assert likelihood.fit_column is not None
    return likelihood.fit_column(values, weights)


def _may_be_counts(values: np.ndarray) -> bool:
    """Tell whether whole numbers are non-negative and have more than two values."""
    if len(values) == 0:
        return False
    smallest, largest = values.min(), values.max()
    has_between = np.any((values != smallest) & (values != largest))
    return bool(smallest >= 0 and has_between)


def _is_clear_gain(gains: np.ndarray, weights: np.ndarray, least: float) -> bool:
    """Tell whether a mean gain exceeds ``least`` and two standard errors."""
    gain = np.average(gains, weights=weights)
    error = np.sqrt(np.sum((weights * (gains - gain)) ** 2)) / weights.sum()
    return bool(gain > max(least, 2 * error))


def _has_bounds(
    values: np.ndarray, log_probability: LogDensity, settings: Settings
) -> bool:
    """Tell whether counts end where their fitted distribution does not."""
    smallest, largest = int(values.min()), int(values.max())
    if largest >= settings.max_bounded_count:
        return False
    within = np.exp(log_probability(np.arange(smallest, largest + 1))).sum()
    return bool(len(values) * (1 - within) > settings.max_cells_out_of_range)
