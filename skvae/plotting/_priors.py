"""Priors of the latents: quantiles, centre, draws, and moves along latent variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

from .._distributions.families import FAMILIES


def given(estimator: Any, name: str, default: Any) -> Any:
    """Return a parameter as the last fit had it, or as an unfitted estimator has it."""
    fitted = getattr(estimator, "_params", {})
    return fitted.get(name, getattr(estimator, name, default))


def prior_of(estimator: Any, remedy: str) -> tuple[str, list]:
    """Return the family and the parameters of the prior, N(0, I) if none is given.

    A prior that is learned or unknown is an error, which ends with ``remedy``.
    """
    family = given(estimator, "latent", "normal")
    prior = given(estimator, "prior", None)
    if family not in FAMILIES or isinstance(prior, str):
        raise ValueError(
            f"The prior {prior or family!r} has no quantiles in closed form: {remedy}."
        )
    if prior is None or isinstance(prior, Mapping):
        prior = {**FAMILIES[family].default_prior, **(prior or {})}.values()
    return family, [np.asarray(value, dtype=float) for value in prior]


def frozen(family: str, parameters: list) -> Any:
    """Return the prior of one latent variable as a distribution of scipy's.

    Every family but the Dirichlet has independent components.
    """
    first, second = parameters
    return {
        "normal": lambda: scipy.stats.norm(first, second),
        "lognormal": lambda: scipy.stats.lognorm(second, scale=np.exp(first)),
        "gamma": lambda: scipy.stats.gamma(first, scale=1 / second),
        "beta": lambda: scipy.stats.beta(first, second),
    }[family]()


def concentrations(parameters: list, n_components: int) -> np.ndarray:
    """Return the concentration of every component of a Dirichlet prior."""
    alpha = np.concatenate([np.ravel(value) for value in parameters])
    return np.broadcast_to(alpha, n_components)


def quantiles(
    estimator: Any, components: tuple[int, ...], probabilities: np.ndarray
) -> np.ndarray:
    """Return prior quantiles, one row per component.

    Components of a Dirichlet are not independent: the first one has the quantiles of
    its marginal, each later one those of its share in what the earlier ones leave (so
    that uniform probabilities give the prior). The rows then hold these shares.
    """
    family, parameters = prior_of(estimator, "give the values of the axes")
    n = estimator.n_components_
    if family != "dirichlet":
        own = np.array(
            [np.broadcast_to(value, n)[list(components)] for value in parameters]
        )
        return frozen(family, list(own[..., None])).ppf(probabilities)
    alpha = concentrations(parameters, n)
    rows, rest = [], alpha.sum()
    for component in components:
        rest = rest - alpha[component]
        marginal = scipy.stats.beta(alpha[component], max(rest, 1e-6))
        rows.append(marginal.ppf(probabilities))
    return np.array(rows)


def prior_centre(estimator: Any) -> np.ndarray:
    """Return the prior median of each component; of a Dirichlet, the mean."""
    n = estimator.n_components_
    family, parameters = prior_of(estimator, "give start")
    if family == "dirichlet":
        alpha = concentrations(parameters, n)
        return alpha / alpha.sum()
    return np.broadcast_to(frozen(family, parameters).median(), n).astype(float)


def prior_draws(estimator: Any, n_draws: int, random_state: Any) -> np.ndarray:
    """Return draws of the prior, (n_draws, n_components_)."""
    n = estimator.n_components_
    family, parameters = prior_of(estimator, "give latents")
    if family == "dirichlet":
        alpha = concentrations(parameters, n)
        return scipy.stats.dirichlet(alpha).rvs(n_draws, random_state=random_state)
    draw = frozen(family, parameters).rvs
    return draw(size=(n_draws, n), random_state=random_state)


def move(
    estimator: Any, start: np.ndarray, components: tuple[int, ...], values: np.ndarray
) -> np.ndarray:
    """Return latents, (..., n_components_), that differ from ``start`` in some of them.

    ``values``, (..., len(components)), are those of ``components``; for Dirichlet
    latents their shares in what is left by the components before. The others, which
    ``start`` gives, then divide up the rest in proportion.
    """
    Z = np.broadcast_to(start, (*values.shape[:-1], len(start))).astype(float)
    chosen = list(components)
    if given(estimator, "latent", "normal") != "dirichlet":
        Z[..., chosen] = values
        return Z
    rest = np.ones(values.shape[:-1])
    for place, component in enumerate(chosen):
        Z[..., component] = rest * values[..., place]
        rest = rest - Z[..., component]
    others = np.setdiff1d(np.arange(len(start)), chosen)
    if not len(others):
        raise ValueError(
            f"Dirichlet latents sum to 1: with {len(start)} of them, at most "
            f"{len(start) - 1} can be set at will."
        )
    Z[..., others] = rest[..., None] * start[others] / start[others].sum()
    return Z
