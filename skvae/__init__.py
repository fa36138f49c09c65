"""Variational autoencoders for tables, as scikit-learn estimators."""

from ._container import SavedModelError
from ._estimators.classifier import VAEClassifier
from ._estimators.files import load, save
from ._estimators.imputer import VAEImputer
from ._estimators.regressor import VAERegressor
from ._estimators.transformer import VAETransformer
from ._imputation.pooling import pool
from ._training.checkpoint import Checkpoint
from ._version import __version__

__all__ = [
    "Checkpoint",
    "SavedModelError",
    "VAEClassifier",
    "VAEImputer",
    "VAERegressor",
    "VAETransformer",
    "__version__",
    "load",
    "pool",
    "save",
]

# where users import it from, and so where pickles and doctests look for it
for _public in (SavedModelError, load, pool, save):
    _public.__module__ = "skvae"
del _public
