"""Base class of the estimators: fit, fitted attributes, persistence.

Reading ``fit(X)`` from the top: ``_read`` turns tables into encoded rows
(:mod:`skvae._tables`), ``_build`` makes a model of them that is initialised at a linear
one, and the model trains itself (:mod:`skvae._training`). Nothing half-made is ever on
the estimator: the model and what describes it are set at the end of a fit, and a fit
that fails leaves all as it was.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.callback._callback_support import callback_management_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._density.model import FitResult
from .._density.rows import Encoded
from .._distributions.families import FAMILIES, LEARNED_PRIORS
from .._distributions.registry import LIKELIHOODS
from .._networks.mlp import ACTIVATIONS
from .._tables.encoder import TableEncoder
from .._tables.libraries import checked_array, open_table
from .._tables.table import Table
from .._training.ambient import isolated
from .._training.checkpoint import find_checkpoint, open_checkpoint
from .._training.device import resolve_device
from .._training.plan import DEFAULTS
from .._training.progress import Progress, check_callbacks
from .._training.random import Random
from .._validation import (
    check_weights,
    make_random_state,
    restored_on_error,
    warn,
)
from .identity import identity_of
from .persistence import FORGOTTEN, read_state, saved_state

POSITIVE_INT = Interval(Integral, 1, None, closed="left")

#: Constraints of training parameters that some estimators have.
TRAINING_CONSTRAINTS: dict[str, list[Any]] = {
    "kl_weight": [Interval(Real, 0, None, closed="left")],
    "learning_rate": [StrOptions({"cosine", "adaptive", "constant"})],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "n_iter_no_change": [POSITIVE_INT, Options(Real, {np.inf}), None],
    "tol": [Interval(Real, 0, None, closed="left")],
}

#: Constraints of the parameters of the latent variables.
LATENT_CONSTRAINTS: dict[str, list[Any]] = {
    "latent": [StrOptions(set(FAMILIES))],
    "prior": [StrOptions(set(LEARNED_PRIORS)), tuple, list, dict, None],
}

#: Parameters that a resumed fit cannot change: they decide how the model is built.
STRUCTURE = (
    "n_components",
    "hidden_layer_sizes",
    "activation",
    "likelihood",
    "numeric_transform",
    "categorical_features",
    "latent",
    "prior",
    "image_shape",
)

#: Parameters that matter during a fit alone.
UNKEPT = ("callbacks", "device", "random_state", "verbose", "warm_start")

#: Keys of ``history_``.
RECORDED = ("objective", "reconstruction", "kl", "active_units", "learning_rate")


class BaseVAE(CallbackSupportMixin, BaseEstimator, ABC):
    """Base class of the estimators, which put tables around one model.

    An estimator overrides two methods, ``_read``, which turns the tables of a fit into
    :class:`Encoded` rows, and ``_build``, which makes the model of them. It names what
    rebuilds that model from its state, ``_load``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [POSITIVE_INT, None],
        "hidden_layer_sizes": ["array-like", POSITIVE_INT],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [str, dict],
        "numeric_transform": [str, dict],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_iter": [POSITIVE_INT, None],
        "batch_size": [POSITIVE_INT, StrOptions({"auto"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "device": [str, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    #: Whether the model computes in double precision, which not all devices have.
    _needs_double: ClassVar[bool] = False

    #: Parameters that a resumed fit cannot change.
    _structure: ClassVar[tuple[str, ...]] = STRUCTURE

    #: Rebuilds the model from its state and the columns of its tables.
    _load: ClassVar[Callable[..., Any]]
    _model: Any
    _random: np.random.RandomState
    _params: dict[str, Any]  # of the last fit

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_model")

    # -- fit ---------------------------------------------------------------------

    def _fit(self, X, y=None, sample_weight=None, *, incremental: bool = False):
        """Fit a table; if ``incremental``, train one epoch from the current weights."""
        with restored_on_error(self), callback_management_context(self):
            device = resolve_device(self.device, double=self._needs_double)
            resume = (incremental or self.warm_start) and hasattr(self, "_model")
            if resume:
                self._check_structure()
            data = self._read(X, y, sample_weight, resume)
            given = self.get_params(deep=False)
            params, options = {**DEFAULTS, **given}, {}
            if incremental:  # a chunk has no rows to spare
                params["early_stopping"], options["incremental"] = False, True
            # chunks go on with the random numbers of the chunk before
            go_on = resume and incremental
            random_state = copy.deepcopy(self._random) if go_on else self.random_state
            random_state = make_random_state(random_state)
            kept = {k: v for k, v in given.items() if k not in UNKEPT}
            # a pass over a chunk has no progress bar
            reported = None if incremental else self
            check_callbacks(self.callbacks or ())
            callbacks, verbose = self.callbacks or (), bool(self.verbose)
            progress = Progress(reported, X, callbacks=callbacks, verbose=verbose)
            checkpoint = find_checkpoint(callbacks, incremental=incremental)
            if checkpoint is not None:
                values = {name: plain(value) for name, value in kept.items()}
                start = self._model if resume else None
                identity = identity_of(self, data, values, random_state, device, start)
                seeded = self.random_state is not None
                progress.use(
                    open_checkpoint(
                        checkpoint, identity, random_state, is_seeded=seeded
                    )
                )
            initial_state = random_state.get_state()

            def train() -> dict[str, Any]:
                random_state.set_state(initial_state)
                random = Random(random_state, device)
                # a fit that fails must leave what was there as it was
                model = copy.deepcopy(self._model) if resume else None
                if model is None:
                    model = self._build(data, params, random)
                result = model.fit(
                    data, params, random, progress, resume=resume, **options
                )
                return {
                    "_model": model,
                    "_encoder": data.encoder,
                    "_random": random_state,
                    "_params": copy.deepcopy(kept),  # a list may be changed later
                    "device_": device,
                    **data.attributes,
                    **self._describe(model, data.encoder, result, resume),
                }

            found = progress.run(train)
            if data.features is not None:
                found["_feature_encoder"] = data.features.encoder
            before = vars(self).copy()
            if not resume:
                before.pop("feature_names_in_", None)
                before.pop(FORGOTTEN, None)
            self.__dict__ = before | found  # in one step: never half of a fit
            progress.close()
        return self

    @abstractmethod
    def _read(self, X, y, sample_weight, resume: bool) -> Encoded:
        """Return the checked and encoded tables of a fit."""

    @abstractmethod
    def _build(self, data: Encoded, params: dict[str, Any], random: Random) -> Any:
        """Return the untrained model of encoded rows."""

    def _check_structure(self):
        """Raise ValueError if a fit cannot resume, or has other parameters."""
        if hasattr(self, FORGOTTEN):
            raise ValueError(
                "The fit cannot resume a model that was saved with forget_values=True: "
                "set warm_start=False, or fit a new estimator."
            )
        names = self._structure
        now = plain_params(self.get_params(deep=False), names)
        for name, value in plain_params(self._params, names).items():
            if now.get(name) != value:
                raise ValueError(
                    f"The fit resumes a model with {name}={value!r}, but {name} is "
                    f"{now.get(name)!r} now. Give it the value of before, or fit a new "
                    "estimator, or one with warm_start=False."
                )

    def _encode_training(self, X, sample_weight, resume) -> Encoded:
        """Return encoded training rows, in a new fit by a new encoder."""
        table, attributes = self._open_training(X, resume)
        encoder = self._encoder if resume else self._new_encoder(table, sample_weight)
        values, observed = encoder.encode(table)
        return Encoded(encoder, values, observed, sample_weight, attributes=attributes)

    def _open_training(self, X, resume) -> tuple[Table, dict[str, Any]]:
        """Return an opened training table and the attributes of its features.

        It is opened for another estimator of the same parameters: until the fit ends,
        this one is that of the fit before.
        """
        if resume:
            return open_table(self, X, reset=False), {}
        params = self.get_params(deep=False)
        owner = type(self)(**params)
        table = open_table(owner, X, reset=True)
        return table, {k: v for k, v in vars(owner).items() if k not in params}

    def _new_encoder(self, table: Table, sample_weight) -> TableEncoder:
        return TableEncoder(
            LIKELIHOODS,
            categorical_features=self.categorical_features,
            numeric_transform=self.numeric_transform,
            likelihood=self.likelihood,
        ).fit(table, sample_weight)

    def _describe(
        self, model: Any, encoder: TableEncoder, result: FitResult, resume: bool
    ) -> dict[str, Any]:
        """Return the fitted attributes that describe the training."""
        history, plan, attributes, restarted = result
        old = getattr(self, "history_", {}) if resume and not restarted else {}
        recorded = {
            name: np.concatenate([old.get(name, []), getattr(history, name)])
            for name in RECORDED
        }
        curve = -recorded["objective"]
        # Ctrl-C in the first epoch leaves an empty curve
        losses = curve if len(curve) else np.array([np.nan])
        scored = plan.early_stopping
        found = {
            "history_": recorded,
            "n_iter_": len(curve),
            "loss_curve_": curve,
            "loss_": float(losses[-1]),
            "best_loss_": float(losses.min()),
            "validation_scores_": np.array(history.validation) if scored else None,
            "best_validation_score_": history.best_score if scored else None,
            "n_components_": model.architecture["n_latent"],
            "likelihood_": model.likelihoods(),
            "numeric_transform_": {
                c.name: c.transform for c in encoder.columns_ if c.kind == "numeric"
            },
            **attributes,
        }
        ended_by_budget = len(history.objective) == plan.max_iter
        if (
            ended_by_budget
            and not history.converged
            and plan.learning_rate != "cosine"  # which ends with its budget by design
            and math.isfinite(plan.n_iter_no_change)
        ):
            warn(
                f"Maximum iterations ({plan.max_iter}) reached and the optimization "
                "hasn't converged yet: raise max_iter, or use "
                "learning_rate='cosine', which ends with its budget.",
                ConvergenceWarning,
            )
        return found

    @isolated()
    def score(self, X, y=None, sample_weight=None):
        """Return the mean log-likelihood of the rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Rows with the columns of the training table.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Weighted mean of :meth:`score_samples`, in nats per row.
        """
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, scores[:, None])
        return float(np.average(scores.astype(np.float64), weights=sample_weight))

    # -- inference ---------------------------------------------------------------

    def _encode(self, X, *, outliers: bool = False) -> Encoded:
        """Return checked and encoded rows with the columns of the training table.

        Outliers count as missing unless ``outliers``.
        """
        check_is_fitted(self)
        table = open_table(self, X, reset=False)
        encoder = self._encoder
        return Encoded(encoder, *encoder.encode(table, outliers=outliers))

    def _generator(self, random_state) -> torch.Generator:
        """Return a generator on the model's device."""
        seed = int(make_random_state(random_state).randint(2**31 - 1))
        return torch.Generator(self.device_).manual_seed(seed)

    # -- persistence -------------------------------------------------------------

    def __getstate__(self):
        """Return parameters, fitted attributes, and models as plain state."""
        return saved_state(self, super().__getstate__())

    @isolated()
    def __setstate__(self, state):
        super().__setstate__(read_state(self, state))


def latents_of(Z: Any, n_latent: int) -> np.ndarray:
    """Return a copy of latent variables as float32, (n_samples, n_latent)."""
    Z = checked_array(Z, "Z", dtype=np.float32, force_writeable=True)
    if Z.shape[1] != n_latent:
        raise ValueError(
            f"Z has {Z.shape[1]} columns, but the model has {n_latent} latent "
            "variables."
        )
    return Z


def plain_params(params: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named parameters as plain values, which can be compared."""
    found = {name: plain(params[name]) for name in names if name in params}
    if isinstance(found["hidden_layer_sizes"], Integral):
        found["hidden_layer_sizes"] = [found["hidden_layer_sizes"]]
    return found


def plain(value: Any) -> Any:
    """Return sequences as lists, dicts with plain values."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if hasattr(value, "tolist"):  # of NumPy or pandas
        return value.tolist()
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
