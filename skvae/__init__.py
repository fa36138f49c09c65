"""Variational autoencoders for tables, as scikit-learn estimators."""

from ._estimators.classifier import VAEClassifier
from ._estimators.imputer import VAEImputer
from ._estimators.regressor import VAERegressor
from ._estimators.transformer import VAETransformer
from ._imputation.pooling import pool
from ._training.checkpoint import Checkpoint
from ._version import __version__

__all__ = [
    "Checkpoint",
    "VAEClassifier",
    "VAEImputer",
    "VAERegressor",
    "VAETransformer",
    "__version__",
    "pool",
]

# where users import it from, and so where pickles and doctests look for it
pool.__module__ = "skvae"
