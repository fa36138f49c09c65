"""Variational autoencoders for tables, as scikit-learn estimators."""

from ._pool import pool
from ._transformer import VAETransformer

__version__ = "0.1.0"

__all__ = ["VAETransformer", "__version__", "pool"]
