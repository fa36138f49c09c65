"""Registry of the likelihoods: properties by public name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from .discrete import (
    LOG_DISPERSION_RANGE,
    LOG_RATE_LIMIT,
    Bernoulli,
    Categorical,
    NegativeBinomial,
    Ordinal,
    Poisson,
)
from .head import Head
from .location_scale import Normal, StudentT

#: Log-density in nats of every value of a column, (n_values,).
LogDensity = Callable[[np.ndarray], np.ndarray]
FitColumn = Callable[[np.ndarray, np.ndarray | None], LogDensity]


@dataclass(frozen=True)
class LikelihoodSpec:
    """Properties of a likelihood that do not depend on a table.

    Attributes
    ----------
    make : callable
        Makes the head of a group of columns from ``n_columns`` and ``n_categories``.
    kinds : tuple of str
        Kinds of column that it models: "numeric", "count", "boolean", "ordinal" or
        "categorical".
    domain : {"real", "unit interval", "counts", "codes"}
        The values that it allows. ``numeric_transform`` applies to "real" alone.
    largest : float
        The largest value that it allows.
    per_column : str or None
        Where the scale depends on the cell, the name of the same likelihood with one
        scale per column.
    fit_column : callable or None
        Fits the likelihood to all values of one column, given their weights (or None),
        and returns its log-density. Needed where the data choose a likelihood.
    """

    make: Callable[[int, int], Head]
    kinds: tuple[str, ...]
    domain: str
    largest: float = math.inf
    per_column: str | None = None
    fit_column: FitColumn | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether its columns hold numbers, whose values have means."""
        return self.make(1, 2).is_numeric


def _fit_normal(values: np.ndarray, weights: np.ndarray | None) -> LogDensity:
    mean = float(np.average(values, weights=weights))
    variance = float(np.average((values - mean) ** 2, weights=weights))
    scale = math.sqrt(variance) or 1.0

    def log_density(values: np.ndarray) -> np.ndarray:
        squares: np.ndarray = ((values - mean) / scale) ** 2
        return -0.5 * (squares + math.log(2 * math.pi)) - math.log(scale)

    return log_density


def _fit_poisson(values: np.ndarray, weights: np.ndarray | None) -> LogDensity:
    rate = float(np.average(values, weights=weights))

    def log_probability(values: np.ndarray) -> np.ndarray:
        # The saddle-point form (Loader 2000): no difference of large log-gammas.
        some = np.maximum(values, 1).astype(np.float64)
        gap = some - rate
        nats = (
            some * np.log1p(-gap / some)
            + gap
            - _stirling_error(some)
            - 0.5 * np.log(2 * math.pi * some)
        )
        return np.where(values > 0, nats, -rate)

    return log_probability


def _stirling_error(counts: np.ndarray) -> np.ndarray:
    """Return log(n!) minus Stirling's formula, for n of at least 1."""
    few, many = np.minimum(counts, 16.0), np.maximum(counts, 16.0)
    stirling = (few + 0.5) * np.log(few) - few + 0.5 * math.log(2 * math.pi)
    series = (1 / 12 - (1 / 360 - 1 / (1260 * many**2)) / many**2) / many
    error: np.ndarray = np.where(counts < 16, gammaln(few + 1) - stirling, series)
    return error


def _fit_negative_binomial(
    values: np.ndarray, weights: np.ndarray | None
) -> LogDensity:
    mean = float(np.average(values, weights=weights))
    distinct, places = np.unique(values, return_inverse=True)
    shares = np.bincount(places, weights)

    def log_probability(values: np.ndarray, log_dispersion: float) -> np.ndarray:
        r = math.exp(log_dispersion)
        nats: np.ndarray = gammaln(values + r) - gammaln(r) - gammaln(values + 1.0)
        return nats + values * math.log(mean / (r + mean)) - r * math.log1p(mean / r)

    # the mean is that of the data whatever the dispersion
    best = minimize_scalar(
        lambda log_dispersion: -(shares @ log_probability(distinct, log_dispersion)),
        bounds=LOG_DISPERSION_RANGE,
        method="bounded",
    )
    return partial(log_probability, log_dispersion=best.x)


def _location_scale(
    head: type[Normal] | type[StudentT], scale: str, **properties: Any
) -> LikelihoodSpec:
    return LikelihoodSpec(
        lambda n_columns, _: head(n_columns, scale), ("numeric",), "real", **properties
    )


def _counts(
    head: type[Poisson] | type[NegativeBinomial], fit_column: FitColumn
) -> LikelihoodSpec:
    return LikelihoodSpec(
        lambda n_columns, _: head(n_columns),
        ("count",),
        "counts",
        largest=math.exp(LOG_RATE_LIMIT),
        fit_column=fit_column,
    )


#: The likelihoods that a user can ask for.
LIKELIHOODS = {
    "normal": _location_scale(Normal, "column", fit_column=_fit_normal),
    "normal_heteroscedastic": _location_scale(Normal, "cell", per_column="normal"),
    "normal_isotropic": _location_scale(Normal, "isotropic"),
    "student_t": _location_scale(StudentT, "column"),
    "student_t_heteroscedastic": _location_scale(
        StudentT, "cell", per_column="student_t"
    ),
    "poisson": _counts(Poisson, _fit_poisson),
    "negative_binomial": _counts(NegativeBinomial, _fit_negative_binomial),
    "bernoulli": LikelihoodSpec(
        lambda n_columns, _: Bernoulli(n_columns),
        ("numeric", "boolean"),
        "unit interval",
    ),
    "categorical": LikelihoodSpec(Categorical, ("categorical",), "codes"),
    "ordinal": LikelihoodSpec(Ordinal, ("ordinal",), "codes"),
}


def models_categories(likelihood: str) -> bool:
    """Return whether a likelihood models codes of categories; "auto" does not."""
    return likelihood in LIKELIHOODS and LIKELIHOODS[likelihood].domain == "codes"


def with_scale_per_column(likelihood: str) -> str:
    """Return the name of the same likelihood with one scale per column."""
    return LIKELIHOODS[likelihood].per_column or likelihood


def make_head(likelihood: str, n_columns: int, n_categories: int) -> Head:
    """Return the head called ``likelihood`` for a group of columns."""
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"Unknown likelihood {likelihood!r}.")
    return LIKELIHOODS[likelihood].make(n_columns, n_categories)
