"""Variational autoencoders for tables, as scikit-learn estimators."""

from ._classifier import VAEClassifier
from ._imputer import VAEImputer
from ._pool import pool
from ._regressor import VAERegressor
from ._transformer import VAETransformer

__version__ = "0.1.0"

__all__ = [
    "VAEClassifier",
    "VAEImputer",
    "VAERegressor",
    "VAETransformer",
    "__version__",
    "pool",
]
