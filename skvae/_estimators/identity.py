"""What makes a fit the one that it is, for the checkpoint that resumes it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from .._density.rows import Encoded
from .._training.checkpoint import described
from .persistence import package_versions


def identity_of(
    estimator: Any,
    data: Encoded,
    params: Mapping[str, Any],
    random_state: np.random.RandomState,
    device: str,
    start: Any,
) -> dict[str, str]:
    """Return texts that are equal for equal fits, by name.

    Parameters
    ----------
    estimator : estimator
        The estimator.
    data : Encoded
        The table, labels and weights.
    params : mapping
        The parameters that matter, with plain values.
    random_state : RandomState
        That of the fit.
    device : str
        Device of the fit.
    start : model or None
        The fitted model that the fit starts from.
    """
    features = data if data.features is None else data.features
    seed = estimator.random_state
    if isinstance(seed, Integral):
        seed = int(seed)
    elif seed is not None:
        seed = random_state.get_state()
    labels = described((data.codes, data.classes))
    return {
        "the estimator": type(estimator).__name__,
        **{name: described(value) for name, value in params.items()},
        "random_state": described(seed),
        "X": digest(features),
        "y": labels if features is data else digest(data),
        "sample_weight": described(data.weight),
        "the fitted model": described(start and start.to_state()),
        "the device": device,
        **package_versions(),
    }


def digest(data: Encoded) -> str:
    """Return a text that is equal for equal tables."""
    return described((data.values, data.observed, data.encoder.to_state()))
