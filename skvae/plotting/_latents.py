"""What the pictures of latent variables ask of an estimator.

Scatters need ``transform(X)``, which returns latents. Pictures that decode need

``n_components_``
    the number of latent variables,
``inverse_transform(Z)``
    a table like the training table: what the decoder expects for given latents,
``latent``, ``prior``
    the family of the prior and its parameters; without them it is N(0, I);

and of a model with a label, which has ``classes_``, instead of ``inverse_transform``

``decode(Z, y)``
    what the decoder expects for given latents and labels of shape (n_samples,).
"""

# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from sklearn.utils.validation import check_is_fitted

from .._distributions.families import FAMILIES
from .._tables.libraries import open_table
from ._cells import (
    categories_of,
    cells_of,
    has_categories,
    position_of,
    read,
    values_of,
)


# ---------------------------------------------------------------------------
# Estimators
# ---------------------------------------------------------------------------
def check_latents(estimator: Any, caller: str) -> None:
    """Refuse estimators whose ``transform`` returns no latents, or not yet."""
    completes = hasattr(estimator, "predict_interval")
    if not hasattr(estimator, "transform") or completes:
        raise TypeError(
            f"{caller} needs an estimator whose transform returns latent variables, "
            f"such as VAETransformer, but got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)


def check_decoder(estimator: Any, caller: str) -> None:
    """Refuse estimators that cannot decode latents, or not yet."""
    method = "decode" if has_labels(estimator) else "inverse_transform"
    if not hasattr(estimator, method) or not hasattr(estimator, "kl_weight"):
        raise TypeError(
            f"{caller} needs an estimator of skvae that decodes latent variables, such "
            f"as VAETransformer, but got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)


def has_labels(estimator: Any) -> bool:
    """Whether the decoder takes a label beside the latents."""
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_")


def latents_of(estimator: Any, X: Any) -> np.ndarray:
    """Return the latents of a table as an array."""
    return np.asarray(estimator.transform(X))


def decode(estimator: Any, Z: np.ndarray, y: Any = None) -> Any:
    """Decode latents (n_samples, n_components_); ``y`` is one label or one per row."""
    Z = Z.astype(np.float32)
    if not has_labels(estimator):
        if y is not None:
            raise ValueError(
                f"y={y!r} was given, but {type(estimator).__name__} has no classes: "
                "leave y out."
            )
        return estimator.inverse_transform(Z)
    classes = np.asarray(estimator.classes_).tolist()
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} decodes latents and a label: give y, one of "
            f"{classes}."
        )
    labels = np.asarray(y)
    unknown = [label for label in np.unique(labels).tolist() if label not in classes]
    if unknown:
        raise ValueError(f"y has the label {unknown[0]!r}; the model knows {classes}.")
    return estimator.decode(Z, np.broadcast_to(labels, len(Z)))


# ---------------------------------------------------------------------------
# Priors
# ---------------------------------------------------------------------------
def prior_of(estimator: Any, remedy: str) -> tuple[str, list]:
    """Return the family and the parameters of the prior.

    Raises
    ------
    ValueError
        If the prior is learned or unknown; the message ends with ``remedy``.
    """
    family = getattr(estimator, "latent", "normal")
    prior = getattr(estimator, "prior", None)
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
    """Return latents that differ from ``start`` in some components.

    Parameters
    ----------
    estimator : estimator
        The family of its latents decides what happens to the other components.
    start : ndarray of shape (n_components_,)
        Where the others are.
    components : tuple of int
        The ones that are set.
    values : ndarray of shape (..., len(components))
        Their values; for Dirichlet latents their shares in what is left by the
        components before. The others then divide up the rest in proportion.

    Returns
    -------
    Z : ndarray of shape (..., n_components_)
        The latents.
    """
    Z = np.broadcast_to(start, (*values.shape[:-1], len(start))).astype(float)
    chosen = list(components)
    if getattr(estimator, "latent", "normal") != "dirichlet":
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


# ---------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------
def check_components(
    components: Any, n_components: int, n_wanted: int | None = None
) -> tuple[int, ...]:
    """Return the positions of latent variables, each of them once."""
    chosen = np.atleast_1d(np.asarray(components))
    number = "" if n_wanted is None else f"{n_wanted} "
    if (
        chosen.ndim != 1
        or chosen.dtype.kind not in "iu"
        or not len(chosen)
        or (n_wanted is not None and len(chosen) != n_wanted)
        or len(set(chosen.tolist())) < len(chosen)
        or not ((chosen >= 0) & (chosen < n_components)).all()
    ):
        raise ValueError(
            f"components must be {number}different latent variables between 0 and "
            f"{n_components - 1}, but got {components!r}."
        )
    return tuple(chosen.tolist())


def check_start(estimator: Any, start: Any) -> np.ndarray:
    """Return the latents that a picture starts from; None is the prior's centre."""
    if start is None:
        return prior_centre(estimator)
    return check_latent_rows(estimator, [start], "start")[0]


def check_latent_rows(estimator: Any, Z: Any, name: str) -> np.ndarray:
    """Return given latents, (n_rows, n_components_)."""
    Z = np.asarray(Z, dtype=float)
    n = estimator.n_components_
    if Z.ndim != 2 or not len(Z) or Z.shape[1] != n or not np.isfinite(Z).all():
        raise ValueError(
            f"{name} must hold a finite number for each of the {n} latent variables."
        )
    return Z


def check_values(values: Any) -> np.ndarray:
    """Return given values of one latent variable."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            "values must hold finite numbers, a list of them for each axis."
        )
    return values


def check_count(number: Any, name: str, least: int = 1) -> int:
    """Return a whole number that is large enough."""
    if (
        isinstance(number, bool)
        or not isinstance(number, int | np.integer)
        or number < least
    ):
        raise ValueError(
            f"{name} must be an int of at least {least}, but got {number!r}."
        )
    return int(number)


# ---------------------------------------------------------------------------
# Tables as pictures
# ---------------------------------------------------------------------------
class Feature(NamedTuple):
    """A column of the table, as it is drawn."""

    name: str
    position: int
    categories: list | None  # None for numbers


def columns_of(estimator: Any) -> list:
    """Return what the estimator knows of its columns."""
    return estimator._encoder.columns_


def choose_features(estimator: Any, features: Any, most: int) -> list[int]:
    """Return positions of columns; None takes the first ones, at most ``most``."""
    columns = columns_of(estimator)
    if features is None:
        return list(range(min(len(columns), most)))
    single = isinstance(features, str) or np.ndim(features) == 0
    names = [features] if single else list(features)
    if not names:
        raise ValueError("features is empty: give at least one column, or None.")
    return [position_of(name, columns) for name in names]


def check_image_shape(estimator: Any, image_shape: Any) -> tuple[int, ...]:
    """Return the shape of an image whose pixels are the columns of the table."""
    shape = tuple(image_shape)
    columns = columns_of(estimator)
    if len(shape) not in (2, 3) or np.prod(shape) != len(columns) or shape[2:] > (3,):
        raise ValueError(
            "image_shape must be (height, width) or (height, width, 3), with "
            f"{len(columns)} pixel values like the training table, but got {shape}."
        )
    words = [column.name for column in columns if column.has_categories]
    if words:
        raise ValueError(f"Column {words[0]!r} holds categories, which are no pixels.")
    return shape


def read_images(estimator: Any, X: Any, shape: tuple) -> np.ndarray:
    """Return the rows of a table given by the user as images, missing cells as NaN."""
    table = open_table(estimator, X, reset=False)
    columns = range(len(columns_of(estimator)))
    pixels = np.column_stack([np.asarray(table.numbers(i), float) for i in columns])
    return pixels.reshape(-1, *shape)


def decoded_images(table: Any, shape: tuple) -> np.ndarray:
    """Return the rows of a decoded table as images."""
    if isinstance(table, np.ndarray):
        return table.astype(float).reshape(-1, *shape)
    cells = [cells_of(table, position) for position in range(int(np.prod(shape)))]
    return np.column_stack([np.array(c, dtype=float) for c in cells]).reshape(
        -1, *shape
    )


def read_features(
    estimator: Any, X: Any, positions: list[int]
) -> tuple[list[Feature], np.ndarray]:
    """Return columns of a table given by the user as numbers, (n_rows, n_features)."""
    table = open_table(estimator, X, reset=False)
    features, numbers = [], []
    for position in positions:
        column = columns_of(estimator)[position]
        values, missing = read(table, position, column)
        categories = categories_of(column, values[~missing])
        features.append(Feature(column.name, position, categories))
        numbers.append(places_of(values, categories))
    return features, np.column_stack(numbers)


def decoded_features(
    estimator: Any, table: Any, positions: list[int]
) -> tuple[list[Feature], np.ndarray]:
    """Return columns of a decoded table as numbers, (n_rows, n_features)."""
    features, numbers = [], []
    for position in positions:
        column = columns_of(estimator)[position]
        cells: Any = cells_of(table, position)
        categories = None
        if has_categories(column):
            cells = values_of(cells, column)
            categories = categories_of(column, cells)
        features.append(Feature(column.name, position, categories))
        numbers.append(places_of(cells, categories))
    return features, np.column_stack(numbers)


def places_of(values: Any, categories: list | None) -> np.ndarray:
    """Return numbers as they are, categories as their places in the order."""
    if categories is None:
        return np.asarray(values, dtype=float)
    places = {value: place for place, value in enumerate(categories)}
    return np.array([places.get(value, np.nan) for value in values], dtype=float)
