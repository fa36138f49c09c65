"""What the pictures of latent variables ask of an estimator, and their arguments.

Scatters need ``transform(X)``. Pictures that decode need ``n_components_`` and
``inverse_transform(Z)``, or ``decode(Z, y)`` of a model with ``classes_``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._estimators.base import BaseVAE
from .._estimators.imputer import VAEImputer
from ._priors import prior_centre


def check_latents(estimator: Any, caller: str) -> None:
    """Refuse estimators whose ``transform`` returns no latents, or not yet."""
    if not hasattr(estimator, "transform") or isinstance(estimator, VAEImputer):
        raise TypeError(
            f"{caller} needs an estimator whose transform returns latent variables, "
            f"such as VAETransformer, but got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)


def check_decoder(estimator: Any, caller: str) -> None:
    """Refuse estimators that cannot decode latents, or not yet."""
    method = "decode" if has_labels(estimator) else "inverse_transform"
    if not (isinstance(estimator, BaseVAE) and hasattr(estimator, method)):
        raise TypeError(
            f"{caller} needs an estimator of skvae that decodes latent variables, such "
            f"as VAETransformer, but got {type(estimator).__name__}."
        )
    check_is_fitted(estimator)


def has_labels(estimator: Any) -> bool:
    """Whether the decoder takes a label beside the latents."""
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "classes_")


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
