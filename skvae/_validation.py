"""Argument checks and helpers of all rooms (subpackages), without torch."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight


def make_random_state(random_state: Any) -> np.random.RandomState:
    """Return a RandomState; None gives a fresh one and leaves NumPy's global alone."""
    if random_state is None:
        return np.random.RandomState()
    return check_random_state(random_state)


#: Largest binary exponent of weights that are used as they are: products with values
#: and sums over rows stay finite.
LARGEST_WEIGHT_EXPONENT = 64


def check_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Return row weights as float64, non-negative and not all zero.

    Only their ratios matter: extreme ones are divided by a power of two, which is
    exact, so that sums of them are finite.
    """
    try:
        weights = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
    except (TypeError, ValueError) as error:
        if re.search("sample.weight", str(error), re.IGNORECASE):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"sample_weight does not hold weights: {error}") from None
    exponent = int(np.frexp(weights.max())[1])
    if abs(exponent) <= LARGEST_WEIGHT_EXPONENT:
        return weights
    return np.ldexp(weights, -exponent)


def check_count(number: Any, name: str, least: int = 1) -> int:
    """Return ``number`` as int; raise ValueError unless it is at least ``least``."""
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise ValueError(
            f"{name} must be an int of at least {least}, but got {number!r}."
        )
    return int(number)


#: Packages whose stack frames are skipped in search of the user's line.
BETWEEN = ("skvae", "sklearn", "skorch", "torch", "joblib", "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line, however deep in the package the reason is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def numpy_defaults() -> Iterator[None]:
    """Context manager, and decorator: floating point errors as NumPy has them at first.

    With ``np.seterr(all="raise")`` of a user an exp(-1000) would end a fit.
    """
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield


class restored_on_error:
    """Context manager that restores the estimator's attributes if the block fails.

    They are restored by one assignment, which no Ctrl-C divides.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __enter__(self) -> None:
        self.before = vars(self.estimator).copy()

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self.estimator.__dict__ = self.before
