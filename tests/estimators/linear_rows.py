"""Rows of a linear model whose regression is known."""

import numpy as np

N_ROWS, N_FEATURES, N_OUTPUTS, N_FACTORS = 3000, 4, 5, 2


def linear_rows(n_rows, seed):
    """Rows of a linear model with two common factors in the outputs' noise."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(N_FEATURES, N_OUTPUTS))
    loadings = rng.normal(size=(N_FACTORS, N_OUTPUTS))
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, N_FEATURES)) * [1, 2, 0.5, 1] + [0, 1, 0, -3]
    noise = rng.normal(size=(n_rows, N_FACTORS)) @ loadings
    y = X @ weights + noise + 0.5 * rng.normal(size=(n_rows, N_OUTPUTS)) + 2
    covariance = loadings.T @ loadings + 0.25 * np.eye(N_OUTPUTS)
    return X, y, X @ weights + 2, covariance
