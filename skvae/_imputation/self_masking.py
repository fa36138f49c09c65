"""Self-masking: a logistic model of missing cells given their own value.

With log odds(x_j missing) = a + b x_j, the missing values of a column are distributed
as its observed ones tilted by exp(b x_j) (Kim and Yu 2011). Given the other columns the
log-odds are a + log E exp(b x_j), the expectation over observed cells, so b is
estimated by a logistic regression of the missing cells on this term. It stands for the
missing model of not-MIWAE (Ipsen, Mattei, Frellsen 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from .._tables.schema import by_column
from .settings import SETTINGS


def fit_slope(
    draws: np.ndarray,
    missing: np.ndarray,
    sign: int,
    weight: np.ndarray | None = None,
    max_slope: float = SETTINGS.max_slope,
) -> float:
    """Return the slope b of one column.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_rows)
        Draws of the column given the other cells of each row, by a model of the
        observed cells.
    missing : ndarray of bool of shape (n_rows,)
        Where the cell is missing.
    sign : {-1, 0, 1}
        Declared sign of b; 0 leaves it open.
    weight : ndarray of shape (n_rows,), default=None
        Weights of the rows, with mean one.
    max_slope : float
        Maximum absolute slope.
    """
    if weight is None:
        weight = np.ones(len(missing))
    if missing.all() or not missing.any():
        return 0.0
    # a step of finite differences is lost in single precision
    draws = draws.astype(np.float64)

    def loss(parameters: np.ndarray) -> float:
        intercept, slope = parameters
        tilt = logsumexp(slope * draws, axis=0) - np.log(len(draws))
        logit = intercept + tilt
        # -log P(missing), and -log of a standard normal prior of the slope
        nats = np.logaddexp(0, logit) - missing * logit
        return float(weight @ nats + 0.5 * slope**2)

    rate = np.average(missing, weights=weight)
    bounds = [(None, None), (-max_slope * (sign <= 0), max_slope * (sign >= 0))]
    initial = np.array([np.log(rate / (1 - rate)), 0.5 * sign])
    return float(minimize(loss, initial, bounds=bounds, method="L-BFGS-B").x[1])


#: Sign of the slope that a word of ``missingness`` declares; 0 leaves it open.
SIGNS = {"high": 1, "low": -1, "agnostic": 0}


def declared_signs(
    missingness: Any,
    names: list[str],
    numbers: dict[str, int],
) -> dict[int, int]:
    """Return the declared sign of b for every self-masking column.

    Parameters
    ----------
    missingness
        As for :class:`skvae.VAEImputer`.
    names : list of str
        Names of the columns of the table, in order.
    numbers : dict of str to int
        Positions of the numeric columns, the keys of the result.

    Raises
    ------
    ValueError
        If a word is unknown, or its column is not numeric.
    """
    if missingness == "mar":
        return {}
    if isinstance(missingness, str):
        missingness = dict.fromkeys(numbers, missingness)
    words = by_column(missingness, names, "missingness")
    signs = {}
    for key, (place, word) in zip(missingness, words.items(), strict=True):
        name = names[place]
        if word not in SIGNS:
            raise ValueError(
                f"missingness of column {key!r} must be 'high', 'low' or 'agnostic', "
                f"but got {word!r}. Columns that the dict leaves out are missing at "
                "random."
            )
        if name not in numbers:
            raise ValueError(
                f"missingness names {key!r}, which is no numeric column with more "
                "than one value."
            )
        signs[numbers[name]] = SIGNS[word]
    return signs
