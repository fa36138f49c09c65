"""Rubin's rules: pooled estimates of several imputed tables."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy import stats
from sklearn.utils._param_validation import Interval, validate_params

from .._tables.libraries import checked_array
from .._validation import numpy_defaults

Values = float | np.ndarray


@dataclass(frozen=True, eq=False)
class PooledEstimate:
    """Result of :func:`pool`, which documents the attributes."""

    __module__ = "skvae"

    estimate: Values
    variance: Values
    standard_error: Values
    degrees_of_freedom: Values
    lower: Values
    upper: Values
    within_variance: Values
    between_variance: Values
    fraction_missing_information: Values


@validate_params(
    {
        "complete_degrees_of_freedom": [
            Interval(Real, 0, None, closed="neither"),
            None,
        ],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
@numpy_defaults()
def pool(
    estimates: Any,
    variances: Any,
    *,
    complete_degrees_of_freedom: float | None = None,
    coverage: float = 0.95,
) -> PooledEstimate:
    """Pool the estimates of several imputed tables by Rubin's rules.

    Draw several imputed tables, compute the estimate and its variance in each as if
    the table had been complete, and pool. The result knows that the missing cells were
    guessed: the more the estimates differ between the tables, the larger its variance
    [1]_.

    Parameters
    ----------
    estimates : array-like of shape (n_imputations,) or (n_imputations, n_parameters)
        The estimates, one row for each imputed table; at least two tables.
    variances : array-like of the same shape
        The variances of the estimates, that is their squared standard errors.
    complete_degrees_of_freedom : float, default=None
        Degrees of freedom of the estimate if no cell were missing: for a regression
        coefficient the number of rows less the number of coefficients. With them the
        interval is right in small tables too [2]_. With None they count as infinite.
    coverage : float, default=0.95
        Probability with which the interval holds the true parameter, between 0 and 1.

    Returns
    -------
    pooled : PooledEstimate
        An object with these attributes: floats, or arrays of shape (n_parameters,) if
        the estimates have two dimensions.

        estimate
            The mean of the estimates.
        variance, standard_error
            The total variance of ``estimate`` and its root. A variance beyond the range
            of float64 is infinite.
        degrees_of_freedom
            Those of the t distribution that the interval comes from.
        lower, upper
            The bounds of the interval.
        within_variance
            The mean of the variances: what the variance would be, were nothing missing.
        between_variance
            The variance of the estimates between the tables.
        fraction_missing_information
            Share of the information about the parameter that is lost with the missing
            cells, from 0 to 1.

    Raises
    ------
    ValueError
        If there are fewer than two imputed tables, the shapes differ, a variance is
        negative, or a value is missing or infinite.

    References
    ----------
    .. [1] Rubin, D. B. (1987). Multiple Imputation for Nonresponse in Surveys. Wiley.
    .. [2] Barnard, J. and Rubin, D. B. (1999). Small-sample degrees of freedom with
       multiple imputation. Biometrika 86(4), 948-955.

    Examples
    --------
    Three imputed tables of 21 rows gave these means, with their squared standard
    errors:

    >>> from skvae import pool
    >>> pooled = pool(
    ...     [5.1, 4.8, 5.4], [0.10, 0.12, 0.11], complete_degrees_of_freedom=20
    ... )
    >>> print(f"{pooled.estimate:.2f} from {pooled.lower:.2f} to {pooled.upper:.2f}")
    5.10 from 3.77 to 6.43
    """
    Q, U = _check_estimates(estimates, variances)
    m = len(Q)
    # The squares of huge and tiny estimates are finite after an exact division.
    largest = np.maximum(np.abs(Q), np.sqrt(U)).max(axis=0)
    size = 2.0 ** np.clip(np.frexp(largest)[1], -1000, 1000)
    Q, U = Q / size, U / size / size
    within = U.mean(axis=0)
    between = Q.var(axis=0, ddof=1)
    extra = (1 + 1 / m) * between
    total = within + extra
    # Share of the variance that is due to the missing cells, lambda in [2].
    share = np.divide(extra, total, out=np.zeros_like(total), where=total > 0)
    degrees = _degrees_of_freedom(share, m, complete_degrees_of_freedom)
    standard_error = np.sqrt(total)
    # The t distribution has no limit at 0 degrees of freedom; its quantiles have.
    quantile = stats.t.ppf((1 + coverage) / 2, degrees)
    margin = np.where(degrees > 0, quantile, np.inf) * standard_error
    estimate = Q.mean(axis=0)
    with np.errstate(over="ignore"):
        pooled = {
            "estimate": estimate * size,
            "variance": total * size * size,
            "standard_error": standard_error * size,
            "degrees_of_freedom": degrees,
            "lower": (estimate - margin) * size,
            "upper": (estimate + margin) * size,
            "within_variance": within * size * size,
            "between_variance": between * size * size,
            # (r + 2 / (df + 3)) / (r + 1) in [1], where share = r / (r + 1)
            "fraction_missing_information": share + (1 - share) * 2 / (degrees + 3),
        }
    if np.ndim(estimates) == 1:
        pooled = {name: values.item() for name, values in pooled.items()}
    return PooledEstimate(**pooled)


def _check_estimates(estimates: Any, variances: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two finite float arrays of shape (n_imputations, n_parameters)."""
    Q, U = (
        checked_array(
            values,
            name,
            dtype=np.float64,
            ensure_2d=False,
            ensure_min_samples=0,
            ensure_min_features=0,
        )
        for values, name in ((estimates, "estimates"), (variances, "variances"))
    )
    if Q.ndim == 0 or len(Q) < 2:
        raise ValueError(
            "pool needs the estimates of at least 2 imputed tables, one row for each. "
            "Draw more tables."
        )
    if Q.shape != U.shape:
        raise ValueError(
            "estimates and variances must have the same shape, but these are "
            f"{Q.shape} and {U.shape}."
        )
    if (U < 0).any():
        raise ValueError(
            "variances must not be negative. Pass squared standard errors."
        )
    return Q.reshape(len(Q), -1), U.reshape(len(U), -1)


def _degrees_of_freedom(share: np.ndarray, m: int, complete: float | None) -> Any:
    """Return degrees of freedom by Rubin, or Barnard and Rubin, (n_parameters,)."""
    inverse = share**2 / (m - 1)
    with np.errstate(divide="ignore"):  # 1 / 0 is meant to be infinite
        if complete is not None:
            observed = (complete + 1) / (complete + 3) * complete * (1 - share)
            inverse = inverse + 1 / observed
        return 1 / inverse
