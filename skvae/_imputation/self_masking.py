"""A model of why cells are missing: the value itself makes them so.

With a self-masking logistic model, log odds(x_j missing) = a + b x_j, the hidden values
of a column are distributed as its observed ones tilted by exp(b x_j) (Kim and Yu 2011),
and the log-odds given the other columns are a + log E exp(b x_j), the expectation being
over the observed kind. That identifies b: a logistic regression of the mask on it.
It plays the part of the missing model of not-MIWAE (Ipsen, Mattei, Frellsen 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

#: Slopes beyond this, per standard deviation, would leave nothing to tilt.
MAX_SLOPE = 3.0


def fit_slope(
    draws: np.ndarray,
    missing: np.ndarray,
    sign: int,
    weight: np.ndarray | None = None,
) -> float:
    """Return b of one column.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_rows)
        The column's values given the other cells of each row, as a model of the
        observed cells draws them.
    missing : ndarray of bool of shape (n_rows,)
        Where the cell is missing.
    sign : {-1, 0, 1}
        Declared sign of b; 0 leaves it open.
    weight : ndarray of shape (n_rows,), default=None
        Weights of the rows, with mean one.
    """
    if weight is None:
        weight = np.ones(len(missing))
    if missing.all() or not missing.any():
        return 0.0

    def loss(parameters: np.ndarray) -> float:
        intercept, slope = parameters
        tilt = logsumexp(slope * draws, axis=0) - np.log(len(draws))
        logit = intercept + tilt
        # -log P(mask): softplus(logit) - missing * logit, with a little shrinkage
        nats = np.logaddexp(0, logit) - missing * logit
        return float(weight @ nats + 0.5 * slope**2)

    rate = np.average(missing, weights=weight)
    bounds = [(None, None), (-MAX_SLOPE * (sign <= 0), MAX_SLOPE * (sign >= 0))]
    start = np.array([np.log(rate / (1 - rate)), 0.5 * sign])
    return float(minimize(loss, start, bounds=bounds, method="L-BFGS-B").x[1])


#: Sign of the slope that a word of ``missingness`` declares; 0 leaves it open.
SIGNS = {"high": 1, "low": -1, "agnostic": 0}


def declared_signs(
    missingness: Any,
    names: list[str],
    numbers: dict[str, int],
    labels: Sequence[Any] = (),
) -> dict[int, int]:
    """Return the declared sign of b for every column that may mask itself.

    Parameters
    ----------
    missingness
        As for :class:`skvae.VAEImputer`.
    names : list of str
        Names of the columns of the table, in order.
    numbers : dict of str to int
        Positions of the columns of numbers, which the result has as its keys.
    labels : sequence, default=()
        What the table itself calls its columns, if these are no strings.

    Raises
    ------
    ValueError
        If a word is unknown, or of a column without numbers.
    """
    if missingness == "mar":
        return {}
    if isinstance(missingness, str):
        missingness = dict.fromkeys(numbers, missingness)
    signs = {}
    for key, word in missingness.items():
        name = key
        if key in labels:
            name = names[list(labels).index(key)]
        elif isinstance(key, int | np.integer) and -len(names) <= key < len(names):
            name = names[int(key)]
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
