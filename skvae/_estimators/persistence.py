"""What fitted estimators store, and how they are read again.

The state holds plain containers and NumPy arrays only: it loads on any device, with
skops, and after any move of a file inside the package. It has a digest, and sizes are
compared with the stored weights before anything of these sizes is built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
import torch

from .._container import (
    WRONG_CONTENT,
    SavedModelError,
    digest_of,
    random_state_of,
    random_state_parts,
)
from .._tables.encoder import TableEncoder
from .._training.device import available_device
from .._validation import warn
from .._version import __version__

#: Number of the format; another one is refused.
FORMAT = 1

#: Attributes with the encoders of rows and of the features they are conditioned on.
ENCODERS = ("_encoder", "_feature_encoder")

#: Attribute of a model that has forgotten values of its training table.
FORGOTTEN = "_forgotten"

#: Attributes with callbacks, which are code.
CALLBACKS = ("callbacks", "_skl_callbacks")

#: What the digest leaves out: code, and what describes the computer.
UNDIGESTED = ("_digest", "_format", "_versions", "device_", *CALLBACKS)


def package_versions() -> dict[str, str]:
    """Return the versions that a fitted model depends on."""
    torch_version = str(torch.__version__).partition("+")[0]  # whatever its device
    return {
        "skvae": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch_version,
        "numpy": np.__version__,
    }


def own_class(estimator: Any) -> str:
    """Return the name of the class of skvae that an estimator is, or inherits from."""
    return next(c.__name__ for c in type(estimator).__mro__ if c.__module__ == "skvae")


def saved_state(estimator: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return all attributes of an estimator, its models as plain state."""
    state = dict(attributes)
    model = state.pop("_model", None)
    if model is not None:
        encoders = [state.pop(name) for name in ENCODERS if name in state]
        state["_state"] = {
            "model": model.to_state(),
            "encoders": [encoder.to_state() for encoder in encoders],
            "random": random_state_parts(state.pop("_random")),
        }
    state["_format"], state["_versions"] = FORMAT, package_versions()
    state["_digest"] = own_digest(estimator, state)
    return state


def own_digest(estimator: Any, state: dict[str, Any]) -> str:
    """Return the digest of the class of an estimator and its state."""
    kept = {name: part for name, part in state.items() if name not in UNDIGESTED}
    return digest_of([own_class(estimator), kept])


def forget_values(estimator: Any) -> None:
    """Forget values of the training table that inference does not need."""
    if not hasattr(estimator, "_model"):
        return
    estimator._model.forget_values()  # before the maps of its columns change
    for name in ENCODERS:
        if hasattr(estimator, name):
            getattr(estimator, name).forget_values()
    setattr(estimator, FORGOTTEN, True)


def read_state(estimator: Any, state: Any) -> dict[str, Any]:
    """Return the attributes that :func:`saved_state` was given.

    Raises
    ------
    SavedModelError
        If the state is of another format or version, corrupt, or none of this class.
    """
    name = own_class(estimator)
    if not isinstance(state, dict):
        raise SavedModelError(f"This is not a skvae model, but {type(state).__name__}.")
    if state.keys() == set(estimator._get_param_names()):
        return state  # not fitted, and saved before there were formats
    found = state.get("_format")
    if type(found) is not int or found != FORMAT:
        raise SavedModelError(
            f"This {name} was saved by another version of skvae, in format {found!r}, "
            f"and this version reads format {FORMAT}: fit it again."
        )
    if "_digest" not in state:
        warn(
            f"This {name} was saved without a digest, by a development version of "
            "skvae: damage goes unnoticed. Save it again."
        )
    elif state["_digest"] != own_digest(estimator, state):
        raise SavedModelError(
            f"This {name} is corrupt, or was saved as another class: its digest is "
            "another one."
        )
    warn_of_version(name, state.get("_versions"))
    plain = ("_digest", "_format", "_versions")
    return rebuilt(estimator, {k: v for k, v in state.items() if k not in plain})


def warn_of_version(name: str, versions: Any) -> None:
    """Warn of another minor version of skvae."""
    then = versions.get("skvae") if isinstance(versions, dict) else None
    if str(then).split(".")[:2] != __version__.split(".")[:2]:
        warn(
            f"This {name} was saved with skvae {then} and is loaded with skvae "
            f"{__version__}: check its results, or fit it again."
        )


def rebuilt(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a state, its models rebuilt.

    Raises
    ------
    SavedModelError
        If sizes, types or names of the state do not fit each other.
    """
    try:
        return _rebuilt(estimator, dict(state))
    except SavedModelError:
        raise
    except (*WRONG_CONTENT, AssertionError, RuntimeError) as error:
        raise SavedModelError(
            f"This {own_class(estimator)} is corrupt ({error})."
        ) from error


def _rebuilt(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    fitted = state.pop("_state", None)
    if fitted is None:
        if "device_" in state:
            raise ValueError("it has no state")
        return state
    encoders = [TableEncoder.from_state(saved) for saved in fitted["encoders"]]
    state.update(zip(ENCODERS, encoders, strict=False))
    columns = [encoder.columns_ for encoder in encoders]
    model = estimator._load(fitted["model"], *columns)
    double = estimator._needs_double
    state["device_"] = available_device(state["device_"], double=double)
    model.to(state["device_"])
    state["_model"] = model
    state["_random"] = random_state_of(fitted["random"])
    return state
