"""Ridge regression of outputs, the linear model that training starts at."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV

from .settings import SETTINGS, Settings


def regression(
    c: np.ndarray,
    x: np.ndarray,
    observed: np.ndarray,
    settings: Settings = SETTINGS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return intercept (columns,), coefficients (columns, n_context) and residuals.

    A ridge regression of ``x`` on ``c``, practically least squares where there are many
    rows. Missing cells are filled with their predictions; their residuals are zero.
    """
    total = np.maximum(observed.sum(axis=0), 1)
    filled = np.where(observed, x, (x * observed).sum(axis=0) / total)
    for _ in range(1 if observed.all() else settings.filling_rounds):
        model = RidgeCV(settings.penalties).fit(c, filled)
        predicted = model.predict(c).reshape(x.shape)
        filled = np.where(observed, x, predicted)
    coefficients = model.coef_.reshape(x.shape[1], -1)
    intercept = np.broadcast_to(model.intercept_, x.shape[1:]).copy()
    return intercept, coefficients, filled - predicted
