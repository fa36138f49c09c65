"""The peers of representation: latents, and densities of numeric rows."""

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

#: Transformers, made of the number of components and a seed.
LATENTS = {
    "PCA": lambda n, seed: PCA(n, random_state=seed),
    "FactorAnalysis": lambda n, seed: FactorAnalysis(n, random_state=seed),
    "KernelPCA": lambda n, seed: KernelPCA(n, kernel="rbf", random_state=seed),
}


def fit_factor_analysis(X, seed):
    """Fit a FactorAnalysis, components by three-fold cross-validation."""
    n_features = X.shape[1]
    powers = 2 ** np.arange(int(np.log2(max(n_features - 1, 1))) + 1)
    grid = {"n_components": sorted({*powers.tolist(), n_features - 1})}
    search = GridSearchCV(FactorAnalysis(random_state=seed), grid, cv=3).fit(X)
    return search.best_estimator_, search.best_params_


def fit_gaussian_mixture(X, seed):
    """Fit a GaussianMixture, full covariance, 1 to 20 components by BIC."""
    best, best_bic = None, np.inf
    for n_components in range(1, min(20, len(X)) + 1):
        model = GaussianMixture(n_components, random_state=seed)
        try:
            bic = model.fit(X).bic(X)
        except ValueError:  # a component collapsed onto too few rows
            continue
        if bic < best_bic:
            best, best_bic = model, bic
    return best, {"n_components": best.n_components}


def fit_kernel_density(X, seed):
    """Fit a KernelDensity, bandwidth by three-fold cross-validation."""
    grid = {"bandwidth": np.logspace(-1.5, 0.5, 9)}
    search = GridSearchCV(KernelDensity(), grid, cv=3).fit(X)
    return search.best_estimator_, search.best_params_


#: Functions that fit a density and return it with what was chosen.
DENSITIES = {
    "FactorAnalysis": fit_factor_analysis,
    "GaussianMixture": fit_gaussian_mixture,
    "KernelDensity": fit_kernel_density,
}
