"""The peers of generation that run in this environment.

Each ``fit_*`` takes training rows (numbers and categories) and a seed, and returns a
function that draws so many rows.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from ..tables import is_category

MIXTURE_COMPONENTS = (1, 2, 5, 10, 20)


def fit_copula(train, seed):
    """Gaussian copula: empirical marginals, and the correlation of normal scores.

    Numbers are ranked, categories ordered by frequency; ties and categories are spread
    at random over their share of the unit interval.
    """
    rng = np.random.default_rng(seed)
    levels, edges, scores = {}, {}, []
    for name, column in train.items():
        if is_category(column):
            values = column.value_counts().index.to_numpy()
            shares = column.value_counts(normalize=True).to_numpy()
        else:
            values, counts = np.unique(column, return_counts=True)
            shares = counts / len(column)
        levels[name] = values
        edges[name] = np.concatenate([[0.0], np.cumsum(shares)])
        codes = pd.Index(values).get_indexer(column.to_numpy())
        uniform = edges[name][codes] + rng.random(len(codes)) * shares[codes]
        scores.append(norm.ppf(uniform.clip(1e-6, 1 - 1e-6)))
    correlation = np.corrcoef(scores)

    def draw(n_rows):
        mean = np.zeros(len(correlation))
        normal = rng.multivariate_normal(mean, correlation, n_rows, method="eigh")
        table = {}
        for name, uniform in zip(train, norm.cdf(normal).T, strict=True):
            codes = np.searchsorted(edges[name][1:-1], uniform, side="right")
            table[name] = levels[name][codes]
        return pd.DataFrame(table)

    return draw


def fit_mixture(train, seed):
    """Gaussian mixture of scaled numbers and one-hot categories, chosen by the BIC."""
    numbers = [name for name in train if not is_category(train[name])]
    one_hot = pd.get_dummies(train.drop(columns=numbers), dtype=np.float64)
    mean, scale = train[numbers].mean(), train[numbers].std().replace(0, 1)
    X = np.hstack([(train[numbers] - mean) / scale, one_hot])
    models = [
        GaussianMixture(n, reg_covar=1e-3, random_state=seed).fit(X)
        for n in MIXTURE_COMPONENTS
    ]
    model = min(models, key=lambda model: model.bic(X))

    def draw(n_rows):
        rows = model.sample(n_rows)[0]
        table = pd.DataFrame(rows[:, : len(numbers)], columns=numbers) * scale + mean
        start = len(numbers)
        for name in train.columns.drop(numbers):
            categories = train[name].cat.categories
            block = rows[:, start : start + len(categories)]
            table[name] = categories.to_numpy()[block.argmax(axis=1)]
            start += len(categories)
        return table

    return draw
