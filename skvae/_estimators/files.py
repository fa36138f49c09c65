"""Estimators in files that run no code: ``skvae.save`` and ``skvae.load``."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np

from .._container import SavedModelError, write_state
from .._container import read_state as read_file
from .._training.ambient import isolated
from .._validation import warn
from .classifier import VAEClassifier
from .imputer import VAEImputer
from .persistence import CALLBACKS, FORGOTTEN, saved_state
from .persistence import forget_values as forget
from .regressor import VAERegressor
from .transformer import VAETransformer

ESTIMATORS = {
    kind.__name__: kind
    for kind in (VAEClassifier, VAEImputer, VAERegressor, VAETransformer)
}

#: What a file of this kind holds.
KIND = "estimator"

#: Attributes of estimators that are neither parameters nor public.
PRIVATE = ("_params", "_form", FORGOTTEN, "_state", "_format", "_versions", "_digest")


@isolated()
def save(estimator, path, *, forget_values=False):
    """Save an estimator in a file that holds no code.

    The file is one of `safetensors <https://huggingface.co/docs/safetensors>`_: arrays
    and JSON, with a digest of all its bytes. It takes the place of an old one once it
    is complete. Needs the package safetensors: ``pip install 'skvae[files]'``.

    Parameters
    ----------
    estimator : VAEClassifier, VAEImputer, VAERegressor or VAETransformer
        The estimator, fitted or not. Callbacks are not saved.
    path : str or path-like
        The file, by custom with the ending ``.skvae``.
    forget_values : bool, default=False
        Whether to leave out values of the training table that inference can do
        without: values that numeric columns repeat and how often, their ranges, the
        knots of quantile maps, the rows at which a VampPrior starts. Category names,
        labels, the single value of a constant column, means and covariances stay, so a
        file still tells of its data. Afterwards a loaded model

        - cannot resume (``warm_start=True``, ``partial_fit``); ``fit`` starts anew,
        - draws repeated numbers between the values that occurred,
        - gives results that differ a little where a column has a quantile map, or
          where an imputed number lies beyond the observed range.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written; an old one is left as it was.
    TypeError
        If it is no such estimator, or one of its parameters is no plain value, array
        or ``RandomState``.

    See Also
    --------
    load : Load the estimator.

    Notes
    -----
    Pipelines, searches and other estimators that hold one of skvae are saved part by
    part: this part here, the others as their package advises.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import skvae
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> model = skvae.VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.skvae"
    ...     skvae.save(model, path)
    ...     loaded = skvae.load(path)
    >>> bool((loaded.transform(X) == model.transform(X)).all())
    True
    """
    if type(estimator) not in ESTIMATORS.values():
        raise TypeError(
            f"estimator must be one of {', '.join(ESTIMATORS)}, but got "
            f"{type(estimator).__name__}: of a pipeline, a search or an estimator that "
            "inherits from these, save the parts."
        )
    if not isinstance(forget_values, bool | np.bool_):
        raise TypeError(f"forget_values must be a bool, but got {forget_values!r}.")
    if any(vars(estimator).get(name) for name in CALLBACKS):
        warn(f"{type(estimator).__name__} is saved without its callbacks.")
    attributes = {k: v for k, v in vars(estimator).items() if k not in CALLBACKS}
    attributes["callbacks"] = None
    if forget_values:
        estimator = type(estimator)()
        estimator.__dict__.update(copy.deepcopy(attributes))
        forget(estimator)
        attributes = vars(estimator)
    state = saved_state(estimator, attributes)
    content = {"class": type(estimator).__name__, "attributes": state}
    write_state(path, KIND, content)


@isolated()
def load(path):
    """Load an estimator from a file of :func:`save`.

    No code of the file is run, and sizes are checked before memory is allocated:
    loading takes at most four times the size of the file, and some 16 MiB.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : VAEClassifier, VAEImputer, VAERegressor or VAETransformer
        The estimator, which gives the same results as the saved one. It is on the
        device of the saved one, or on the best one where that is not available.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.
    SavedModelError
        If the file is corrupt, of another version, or not a skvae model.

    Warns
    -----
    UserWarning
        If another minor version of skvae saved it: check the results of the model.

    See Also
    --------
    save : Save an estimator.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import skvae
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.skvae"
    ...     skvae.save(skvae.VAEImputer(max_iter=5), path)
    ...     skvae.load(path)
    VAEImputer(max_iter=5)
    """
    content = read_file(path, KIND)
    path = os.fsdecode(path)
    try:
        estimator = ESTIMATORS[content["class"]]()
        state = content["attributes"]
        _check_names(estimator, state)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise SavedModelError(f"{path}: not a skvae model ({error!r}).") from error
    try:
        estimator.__setstate__(state)
    except SavedModelError as error:
        raise SavedModelError(f"{path}: {error}") from error
    return estimator


def _check_names(estimator: Any, state: dict[str, Any]) -> None:
    """Raise ValueError unless all parameters, and no other attributes, are saved."""
    params = estimator.get_params(deep=False)
    missing = params.keys() - state.keys()
    others = [
        name
        for name in state.keys() - params.keys() - set(PRIVATE)
        if name.startswith("_") or not name.endswith("_") or hasattr(estimator, name)
    ]
    if missing or others:
        raise ValueError(f"attributes {sorted([*missing, *others])[0]!r}")
