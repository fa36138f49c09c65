"""Factor analysis of numeric columns, the linear model that training starts at."""

from __future__ import annotations

import math

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold

from .settings import SETTINGS, Settings


def factor_analysis(
    x: np.ndarray, n_latent: int, settings: Settings = SETTINGS
) -> tuple[np.ndarray, np.ndarray]:
    """Return loadings (columns, n_latent) and a noise variance per column.

    The number of factors is the one, among powers of two and the largest possible,
    whose probabilistic PCA scores best in cross-validation; the loadings of the other
    latent variables are zero. Wide tables keep the factors of probabilistic PCA.
    """
    n_rows, n_columns = x.shape
    most = max(1, min(n_latent, n_columns - 1, 2 * n_rows // 3 - 1))
    candidates = sorted({min(2**power, most) for power in range(8)})
    if n_rows >= 6 and len(candidates) > 1:
        most = candidates[int(np.argmax(probabilistic_pca_scores(x, candidates)))]
    if not x.var(axis=0).any():  # nothing to analyse
        return np.zeros((n_columns, n_latent)), np.full(n_columns, 1e-6)
    pca = PCA(most).fit(x)
    signal = np.maximum(pca.explained_variance_ - pca.noise_variance_, 0)
    factors = pca.components_.T * np.sqrt(signal)
    variance = x.var(axis=0)
    noise = variance - np.square(factors).sum(1)
    if n_columns <= settings.factor_analysis_columns:
        model = FactorAnalysis(most, noise_variance_init=np.maximum(noise, 1e-6)).fit(x)
        factors, noise = model.components_.T, model.noise_variance_
    loadings = np.zeros((n_columns, n_latent))
    loadings[:, :most] = factors
    return loadings, np.maximum(noise, 1e-5 * variance + 1e-6)


def probabilistic_pca_scores(x: np.ndarray, candidates: list[int]) -> np.ndarray:
    """Return the log-likelihood per held-out row by number of factors.

    What ``cross_val_score(PCA(n_factors), x, cv=3)`` gives on shuffled rows, from one
    decomposition per fold, with a floor on the noise: columns that follow from others
    make no singular covariance.
    """
    scores = np.zeros(len(candidates))
    for kept, left_out in KFold(3, shuffle=True, random_state=0).split(x):
        center = x[kept].mean(axis=0)
        _, lengths, axes = np.linalg.svd(x[kept] - center, full_matrices=False)
        variance = np.square(lengths) / (len(kept) - 1)
        floor = 1e-5 * variance.max() + 1e-6
        held_out = x[left_out] - center
        inside = np.square(held_out @ axes.T).mean(axis=0)
        total = np.square(held_out).sum(axis=1).mean()
        for index, k in enumerate(candidates):
            noise = max(floor, variance[k:].mean() if k < len(variance) else 0)
            signal = np.maximum(variance[:k], noise)
            scores[index] -= 0.5 * (
                np.log(signal).sum()
                + (x.shape[1] - k) * math.log(noise)
                + (inside[:k] / signal).sum()
                + (total - inside[:k].sum()) / noise
            )
    return scores / 3 - 0.5 * x.shape[1] * math.log(2 * math.pi)
