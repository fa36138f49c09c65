"""The likelihoods by name."""

from __future__ import annotations

from .discrete import Bernoulli, Categorical, Ordinal, Poisson
from .head import Head
from .location_scale import Normal, StudentT


def make_head(likelihood: str, n_columns: int, n_categories: int) -> Head:
    """Return the head called ``likelihood`` for a group of columns."""
    if likelihood == "normal":
        return Normal(n_columns, "column")
    if likelihood == "normal_heteroscedastic":
        return Normal(n_columns, "cell")
    if likelihood == "normal_isotropic":
        return Normal(n_columns, "isotropic")
    if likelihood == "student_t":
        return StudentT(n_columns, "column")
    if likelihood == "student_t_heteroscedastic":
        return StudentT(n_columns, "cell")
    if likelihood == "bernoulli":
        return Bernoulli(n_columns)
    if likelihood == "categorical":
        return Categorical(n_columns, n_categories)
    if likelihood == "ordinal":
        return Ordinal(n_columns, n_categories)
    if likelihood == "poisson":
        return Poisson(n_columns)
    raise ValueError(f"Unknown likelihood {likelihood!r}.")
