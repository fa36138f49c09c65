"""Latent families: the distributions q(z | x) and p(z), given network outputs.

Families are "normal", "lognormal", "gamma", "beta" and "dirichlet"; all but the last
have independent components. Every distribution draws by ``rsample(noise)`` from
*standard normal* noise of shape (..., components * width), where ``width`` is
``FAMILIES[name].noise_width``: a draw is a function of noise and parameters. So common
random numbers give comparable draws at different parameters, and the draws of a row
depend on no other row.

Gamma draws accept or reject proposals made of the noise (Marsaglia, Tsang 2000);
their gradients, like those of beta and Dirichlet draws, are implicit: dz/dv is
-∂_v F(z; v) / q(z; v) with F the distribution function (Figurnov, Mohamed, Mnih 2018).

For the generalised reparameterisation gradient a family has ``standardise(z)``, the
map to a residual ε whose distribution depends weakly on the parameters,
``from_residual(ε)``, its inverse T, and ``log_jacobian(z)``, which is log |dT/dε| at ε
(Ruiz, Titsias, Blei 2016).

Shapes: ``...`` stands for any leading dimensions (draws, rows). Densities are in nats
and summed over the components of z.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from .gamma import GAMMA_NOISE, Beta, Dirichlet, Gamma
from .normal import DiagonalNormal, LogNormal, Mixture, StandardNormal

#: Learned priors p(z) of normal latent variables that do not depend on a context.
LEARNED_PRIORS = ("mixture", "vamp")

#: Default number of components of a learned prior.
N_PRIOR_COMPONENTS = 10

Latent = DiagonalNormal | LogNormal | Gamma | Beta | Dirichlet
Prior = Latent | StandardNormal | Mixture


class Family(NamedTuple):
    """Properties of a latent family."""

    distribution: type[Latent]
    n_outputs: int  # network outputs per latent variable
    noise_width: int  # normal draws per latent variable
    default_prior: dict[str, float]
    support: str


FAMILIES = {
    "normal": Family(DiagonalNormal, 2, 1, {"loc": 0.0, "scale": 1.0}, "real"),
    "lognormal": Family(LogNormal, 2, 1, {"loc": 0.0, "scale": 1.0}, "positive"),
    "gamma": Family(
        Gamma, 2, GAMMA_NOISE, {"concentration": 1.0, "rate": 1.0}, "positive"
    ),
    "beta": Family(Beta, 2, 2 * GAMMA_NOISE, {"a": 1.0, "b": 1.0}, "unit interval"),
    "dirichlet": Family(Dirichlet, 1, GAMMA_NOISE, {"concentration": 1.0}, "simplex"),
}


def resolve_prior(
    latent: str, prior: Any, n_latent: int
) -> dict[str, list[float]] | dict[str, int] | None:
    """Check ``prior`` and return it in plain values.

    None stands for the default. A learned prior is its name with its number of
    components, a fixed one has a value per parameter and latent variable.

    Raises
    ------
    ValueError
        If the family has no such prior.
    """
    if prior is None:
        return None
    if isinstance(prior, str):
        prior = {prior: N_PRIOR_COMPONENTS}
        if not set(prior) <= set(LEARNED_PRIORS):
            raise ValueError(
                f"prior={next(iter(prior))!r} is unknown: use None, 'mixture', 'vamp' "
                "or the parameters of the prior."
            )
    if not isinstance(prior, Mapping) or set(prior).isdisjoint(LEARNED_PRIORS):
        return resolve_parameters(latent, prior, n_latent, "prior")
    name, n_components = next(iter(prior.items()))
    if (
        len(prior) > 1
        or not isinstance(n_components, Integral)
        or isinstance(n_components, bool)
        or n_components < 1
    ):
        raise ValueError(
            "A learned prior is 'mixture' or 'vamp', or a dict from one of these to "
            f"its number of components, at least 1, but got {prior!r}."
        )
    if latent != "normal":
        raise ValueError(
            f"prior={name!r} is a mixture of normal distributions: use "
            f"latent='normal', or give the parameters of a prior for {latent!r}."
        )
    return {name: int(n_components)}


def resolve_parameters(
    family: str, given: Any, n_latent: int, what: str
) -> dict[str, list[float]]:
    """Return parameters of a family, one value for each latent variable.

    ``what`` names the argument in errors.

    Raises
    ------
    ValueError
        If the family has no such parameters.
    """
    default = FAMILIES[family].default_prior
    wanted = f"{what} of a {family} distribution takes {', '.join(default)}"
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in default]
        if unknown:
            raise ValueError(f"The {wanted}, but got {unknown[0]!r}.")
        given = {**default, **given}
    elif isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ValueError(f"The {wanted}, but got {given!r}.")
    elif len(given) != len(default):
        raise ValueError(f"The {wanted}, in this order, but got {given!r}.")
    else:
        given = dict(zip(default, given, strict=True))
    resolved = {}
    for name, value in given.items():
        try:
            values = np.broadcast_to(np.asarray(value, dtype=float), (n_latent,))
        except (TypeError, ValueError):
            raise ValueError(
                f"{what}: {name} must be a number, or one for each of the {n_latent} "
                f"latent variables, but got {value!r}."
            ) from None
        if not np.isfinite(values).all() or (name != "loc" and (values <= 0).any()):
            kind = "finite" if name == "loc" else "positive and finite"
            raise ValueError(f"{what}: {name} must be {kind}, but got {value!r}.")
        resolved[name] = values.tolist()
    return resolved


def check_support(z: np.ndarray, latent: str) -> None:
    """Raise ValueError if latent variables lie outside the family's support."""
    support = FAMILIES[latent].support
    fits = True
    if support != "real":
        fits = bool((z >= 0).all())
    if support == "unit interval":
        fits = fits and bool((z <= 1).all())
    if support == "simplex":
        fits = fits and bool((np.abs(z.sum(1) - 1) < 1e-3).all())
    if not fits:
        wanted = {
            "positive": "be positive",
            "unit interval": "lie between 0 and 1",
            "simplex": "be non-negative with rows that sum to 1",
        }[support]
        raise ValueError(f"Z must {wanted}, as latent={latent!r}.")
