"""What all estimators share: validation, the fit skeleton, inference, persistence.

Reading ``fit(X)`` from the top: the table becomes a float32 matrix
(:mod:`skvae._tables`), like columns are put side by side under one head, the
module starts at a linear model of the data and is trained
(:mod:`skvae._training`), and every other method runs the module over batches of
rows of bounded size.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._density.evidence import INFERENCE_FLOATS, log_weights, pieces
from .._density.linear_start import factor_analysis
from .._density.model import (
    LINEAR_START_ROWS,
    MAX_DEFAULT_COMPONENTS,
    build_module,
    head_key,
    is_constant,
)
from .._distributions.families import FAMILIES, LEARNED_PRIORS, resolve_prior
from .._networks.batch import Batch
from .._networks.mlp import ACTIVATIONS
from .._networks.vae import VAE
from .._tables.columns import Column
from .._tables.encoder import TableEncoder
from .._training.device import resolve_device
from .._training.gradients import DRAWS, check_gradient
from .._training.loop import train
from .._training.plan import History, Plan
from .._training.progress import MAIN, Progress
from .._validation import check_weights, make_random_state, weighted_rows
from .persistence import package_versions

#: Default numbers of steps and epochs of a fit, see ``max_iter``.
DEFAULT_STEPS, DEFAULT_EPOCHS = 5_000, 50

#: Steps without improvement after which a fit stops, see ``n_iter_no_change``.
PATIENCE_STEPS, PATIENCE_EPOCHS = 1_000, 10

#: KL warm-up of a model that does not start at a linear one, see ``kl_warmup_steps``.
WARMUP_STEPS = 1_000

#: Validation rows of small tables, see ``validation_fraction``.
MIN_VALIDATION_ROWS = 50

#: The most rows that the validation score is computed on.
MAX_VALIDATION_ROWS = 10_000

#: What ``history_`` holds.
RECORDED = ("objective", "reconstruction", "kl", "active_units", "learning_rate")


class BaseVAE(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators: one conditional VAE on a table."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [str, dict],
        "numeric_transform": [str, dict],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "objective": [StrOptions({"elbo", "iwae"})],
        "gradient": [StrOptions(set(DRAWS))],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "latent": [StrOptions(set(FAMILIES))],
        "prior": [StrOptions(set(LEARNED_PRIORS)), tuple, list, dict, None],
        "n_prior_components": [Interval(Integral, 1, None, closed="left")],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
        "kl_warmup_steps": [Interval(Integral, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions({"cosine", "adaptive", "constant"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
            None,
        ],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "device": [str, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    #: Steps and epochs of a fit, and of a stall, where the parameters say None.
    _default_budget: ClassVar[tuple[int, int]] = (DEFAULT_STEPS, DEFAULT_EPOCHS)
    _default_patience: ClassVar[tuple[int, int]] = (PATIENCE_STEPS, PATIENCE_EPOCHS)

    #: Attributes that are torch modules.
    _torch_parts: ClassVar[tuple[str, ...]] = ("_module",)

    def __init__(
        self,
        n_components=None,
        *,
        hidden_layer_sizes=(128, 128),
        activation="relu",
        likelihood="auto",
        numeric_transform="auto",
        categorical_features="from_dtype",
        objective="elbo",
        gradient="pathwise",
        n_draws=1,
        latent="normal",
        prior=None,
        n_prior_components=10,
        kl_weight=1.0,
        kl_warmup_steps=None,
        max_iter=None,
        batch_size="auto",
        learning_rate_init=5e-3,
        learning_rate="cosine",
        early_stopping=True,
        validation_fraction=None,
        n_iter_no_change=None,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        device=None,
        verbose=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.numeric_transform = numeric_transform
        self.categorical_features = categorical_features
        self.objective = objective
        self.gradient = gradient
        self.n_draws = n_draws
        self.latent = latent
        self.prior = prior
        self.n_prior_components = n_prior_components
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_module")

    # -- fit ---------------------------------------------------------------------

    def _fit(self, X, sample_weight, *, one_pass: bool = False):
        """Train on a table; with ``one_pass`` for one epoch, going on from before."""
        self._check_options()
        device = self._resolve_device(self.device)
        going_on = (one_pass or self.warm_start) and hasattr(self, "_module")
        if sample_weight is not None:
            X, sample_weight = weighted_rows(X, check_weights(sample_weight, X))
        if going_on:
            # trained in place: if that fails, what was there must be as it was
            for name in (*self._torch_parts, "_random"):
                setattr(self, name, copy.deepcopy(getattr(self, name)))
        else:
            self._encoder = TableEncoder(
                categorical_features=self.categorical_features,
                numeric_transform=self.numeric_transform,
                likelihood=self.likelihood,
            ).fit(X, sample_weight, estimator=self)
        if not (going_on and one_pass):
            self._random = make_random_state(self.random_state)
        values, observed = self._encoder.encode(X, estimator=self)
        self.device_ = device
        generator = torch.Generator(device)
        generator.manual_seed(int(self._random.randint(2**31 - 1)))
        if not going_on:
            self._settle_heads(scored=self.early_stopping and not one_pass)
            self._start(values, observed, sample_weight)
        self._module.to(device)
        data = self._batch(values, observed, sample_weight)
        del values, observed
        self._train(X, data, generator, going_on=going_on, one_pass=one_pass)
        return self

    def _check_options(self):
        """Refuse parameters that do not go together."""
        check_gradient(self.gradient, self.objective, self.n_draws)

    def _progress(self, X) -> Progress:
        """Return what the loops of one fit report to."""
        callbacks, verbose = self.callbacks or (), bool(self.verbose)
        return Progress(self, X, callbacks=callbacks, verbose=verbose)

    def _train(
        self, X, data, generator, *, going_on, one_pass, prepare=None, progress=None
    ):
        """Train the module on the rows, and record how that went.

        ``prepare`` makes what the module sees of the rows of a batch. Returns the
        numbers of the rows that were set aside, None without.
        """
        progress = self._progress(X) if progress is None else progress
        device = self.device_
        train_rows, valid_rows = self._split(len(data), one_pass)
        plan = self._plan(len(train_rows), one_pass)
        if not one_pass:
            progress.open({MAIN: plan.max_iter})
        train_rows = torch.as_tensor(train_rows, device=device)
        if valid_rows is not None:
            valid_rows = torch.as_tensor(valid_rows, device=device)
        if self._architecture["prior"] == "vamp" and not going_on:
            count = torch.arange(self.n_prior_components, device=device)
            some = data.take(train_rows[count % len(train_rows)])
            self._module.initialise_prior(some if prepare is None else prepare(some))
        history, optimizer_state = train(
            self._module,
            data,
            train_rows,
            valid_rows,
            plan,
            generator,
            progress=progress,
            optimizer_state=getattr(self, "_optimizer_state", None)
            if one_pass
            else None,
            free_scale=self._free_scale(),
            prepare=prepare,
        )
        self._optimizer_state = optimizer_state if one_pass else None
        self._record(history, plan, going_on=going_on)
        progress.close()
        return valid_rows

    def _settle_heads(self, *, scored: bool):
        """Leave scales per cell to the validation rows: without them, one a column."""
        for column in self._encoder.columns_:
            if column.is_automatic and not scored:
                column.likelihood = column.likelihood.removesuffix("_heteroscedastic")

    def _free_scale(self) -> torch.Tensor:
        """Return the mask of the columns whose kind of scale is chosen by the data."""
        flags = [column.is_automatic for column in self._columns_in_order()]
        return torch.tensor(flags, device=self.device_)

    def _start(self, values, observed, sample_weight):
        """Build the module, started at a linear model of the columns."""
        self._describe(masked=observed is not None and not observed.all())
        self._module = self._build("_module", self._new_seed())
        self._evidence_seed = self._new_seed()
        x, weight = self._starting_rows(values, observed, sample_weight)
        self._module.initialise_marginals(x, weight)
        columns, _, _ = self._module.joint.number_slots()
        starts_linear = self._starts_linear and self._architecture["linear_path"]
        if len(columns) > 1 and starts_linear:
            loadings, noise = factor_analysis(
                x[:, columns].double().numpy(), self.n_components_
            )
            self._module.initialise_factor_analysis(
                torch.from_numpy(loadings), torch.from_numpy(noise)
            )

    def _new_seed(self) -> int:
        return int(self._random.randint(2**31 - 1))

    def _describe(self, *, masked: bool):
        """Group like columns and settle the shape of the module."""
        keys = {
            index: head_key(column)
            for index, column in enumerate(self._encoder.columns_)
            if not is_constant(column)
        }
        if not keys:  # nothing varies: model the constants rather than nothing
            keys = {i: head_key(c) for i, c in enumerate(self._encoder.columns_)}
        counts = Counter(keys.values())  # in the order of first appearance
        self._order = np.array(
            [index for group in counts for index, key in keys.items() if key == group]
        )
        self._architecture = {
            "heads": [(name, counts[name, n], n) for name, n in counts],
            "n_latent": self._resolve_n_components(),
            "hidden_layer_sizes": self._hidden_layer_sizes(),
            "activation": self.activation,
            "masked": masked,
            # a factor analysis to start at has normal latent variables
            "linear_path": self.latent == "normal"
            and any(name.startswith(("normal", "student_t")) for name, _ in counts),
            "latent": self.latent,
            "n_prior_components": int(self.n_prior_components),
        }
        self.n_components_ = self._architecture["n_latent"]
        self._architecture["prior"] = resolve_prior(
            self.latent, self.prior, self.n_components_
        )

    def _starting_rows(self, values, observed, sample_weight):
        """Return some rows, drawn by their weights, and the weights of their cells."""
        rows = self._choose_starting_rows(len(values), sample_weight)
        x = torch.from_numpy(values[rows][:, self._order])
        weight = torch.ones_like(x)
        if observed is not None:
            weight = torch.from_numpy(observed[rows][:, self._order]).to(x.dtype)
        return x, weight

    def _choose_starting_rows(self, n_rows: int, sample_weight) -> np.ndarray:
        """Return the numbers of the rows that the start is computed from."""
        n_chosen = min(n_rows, LINEAR_START_ROWS)
        chances = None if sample_weight is None else sample_weight / sample_weight.sum()
        if n_rows == n_chosen and chances is None:
            return np.arange(n_rows)
        return self._random.choice(
            n_rows, n_chosen, replace=chances is not None, p=chances
        )

    def _resolve_device(self, device: str | None) -> str:
        return resolve_device(device)

    def _resolve_n_components(self) -> int:
        fewest = 2 if self.latent == "dirichlet" else 1
        if self.n_components is None:
            most = self._n_explained - 1
            return min(max(fewest, most), MAX_DEFAULT_COMPONENTS)
        if self.n_components < fewest:
            raise ValueError(
                "n_components must be at least 2 with latent='dirichlet', whose "
                f"latent variables sum to one, but got {self.n_components}."
            )
        return int(self.n_components)

    def _hidden_layer_sizes(self) -> tuple[int, ...]:
        sizes = self.hidden_layer_sizes
        sizes = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
        if any(not isinstance(s, Integral) or s < 1 for s in sizes):
            raise ValueError(
                "hidden_layer_sizes must hold integers of at least 1, but got "
                f"{self.hidden_layer_sizes!r}."
            )
        return tuple(int(size) for size in sizes)

    def _batch(self, values, observed, sample_weight) -> Batch:
        """Put a table on the device, columns in the order of the heads."""
        if not np.array_equal(self._order, np.arange(values.shape[1])):
            values = np.ascontiguousarray(values[:, self._order])
            observed = None if observed is None else observed[:, self._order]
        weight = None
        if sample_weight is not None:
            weight = torch.as_tensor(
                sample_weight / sample_weight.mean(),
                dtype=torch.float32,
                device=self.device_,
            )
        return Batch(
            torch.from_numpy(values).to(self.device_),
            None if observed is None else torch.from_numpy(observed).to(self.device_),
            weight,
        )

    def _split(self, n_rows: int, one_pass: bool):
        """Return row numbers for training and validation (None without)."""
        order = self._random.permutation(n_rows)
        if one_pass or not self.early_stopping:
            return order, None
        fraction = self.validation_fraction
        if fraction is None:
            # fewer rows than this choose weights by chance, more leave too few to fit
            fraction = min(max(0.1, MIN_VALIDATION_ROWS / n_rows), 0.25)
        n_valid = round(fraction * n_rows)
        n_valid = min(max(1, n_valid), n_rows - 1, MAX_VALIDATION_ROWS)
        if n_valid < 1:
            raise ValueError(
                "early_stopping=True needs at least 2 rows of positive weight, but "
                f"got {n_rows}: set early_stopping=False."
            )
        return order[n_valid:], order[:n_valid]

    def _plan(self, n_rows: int, one_pass: bool) -> Plan:
        """Resolve what the number of rows decides."""
        batch_size = self.batch_size
        if batch_size == "auto":
            # small tables need many steps, large ones big products
            batch_size = 1024 if n_rows >= 100_000 else min(256, max(16, n_rows // 8))
        n_batches = max(1, n_rows // batch_size)
        max_iter = self.max_iter
        if max_iter is None:
            steps, epochs = self._default_budget
            max_iter = max(epochs, math.ceil(steps / n_batches))
        patience = self.n_iter_no_change
        if patience is None:
            steps, epochs = self._default_patience
            patience = max(epochs, math.ceil(steps / n_batches))
        kl_warmup_steps = self.kl_warmup_steps
        if kl_warmup_steps is None:
            # without a linear start all latents could switch off before they are used
            kl_warmup_steps = 0 if self._architecture["linear_path"] else WARMUP_STEPS
        return Plan(
            objective=self.objective,
            gradient=self.gradient,
            n_draws=self.n_draws,
            kl_weight=self.kl_weight,
            kl_warmup_steps=0 if one_pass else kl_warmup_steps,
            max_iter=1 if one_pass else max_iter,
            batch_size=batch_size,
            learning_rate_init=self.learning_rate_init,
            learning_rate="constant" if one_pass else self.learning_rate,
            early_stopping=self.early_stopping and not one_pass,
            n_iter_no_change=np.inf if one_pass else patience,
            tol=self.tol,
            verbose=bool(self.verbose),
            # without normal latent variables it is no linear model, but noise
            prefer_start=self.latent == "normal",
        )

    def _record(self, history: History, plan: Plan, *, going_on: bool):
        """Set the fitted attributes that describe the training."""
        old = getattr(self, "history_", {}) if going_on else {}
        self.history_ = {
            name: np.concatenate([old.get(name, []), getattr(history, name)])
            for name in RECORDED
        }
        self.n_iter_ = len(self.history_["objective"])
        self.loss_curve_ = -self.history_["objective"]
        # Ctrl-C in the first epoch leaves an empty curve
        losses = self.loss_curve_ if self.n_iter_ else np.array([np.nan])
        self.loss_ = float(losses[-1])
        self.best_loss_ = float(losses.min())
        self.validation_scores_ = None
        self.best_validation_score_ = None
        if plan.early_stopping:
            self.validation_scores_ = np.array(history.validation)
            self.best_validation_score_ = history.best_score
        self.likelihood_ = self._likelihood_by_column()
        self.numeric_transform_ = {
            c.name: c.transform for c in self._encoder.columns_ if c.kind == "numeric"
        }
        ended_by_budget = len(history.objective) == plan.max_iter
        if (
            ended_by_budget
            and not history.converged
            and plan.learning_rate != "cosine"  # which ends with its budget by design
            and math.isfinite(plan.n_iter_no_change)
        ):
            warnings.warn(
                f"Maximum iterations ({plan.max_iter}) reached and the optimization "
                "hasn't converged yet: raise max_iter, or use "
                "learning_rate='cosine', which ends with its budget.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _likelihood_by_column(self) -> dict[str, str]:
        """Return the names of the heads, with the kind of scale that was chosen."""
        names = {column.name: column.likelihood for column in self._encoder.columns_}
        per_cell = self._row_module.joint.has_scale_per_cell()
        for index, varies in zip(self._order, per_cell, strict=True):
            column = self._encoder.columns_[index]
            if not varies:
                names[column.name] = column.likelihood.removesuffix("_heteroscedastic")
        return names

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

    def _encode(self, X) -> Batch:
        """Check a table and put it on the device."""
        check_is_fitted(self)
        values, observed = self._encoder.encode(X, estimator=self)
        return self._batch(values, observed, None)

    def _posterior(self, data: Batch) -> Iterator[tuple[Batch, Any]]:
        """Yield pieces of a table with their q(z | x)."""
        width = max(self._widths())
        with torch.inference_mode():
            for piece in pieces(data, max(1, INFERENCE_FLOATS // (4 * width))):
                yield piece, self._module.encode(piece.x, piece.observed)

    def _evidence(
        self, data: Batch, n_draws: int, *, defensive: bool = False
    ) -> np.ndarray:
        """Return importance-weighted log p(encoded row) in nats, (n_rows,).

        ``defensive`` adds as many draws of the prior, see ``log_weights``.
        """
        vae, width = self._module, max(self._widths())
        draws_at_once = min(n_draws, 1024)
        rows_at_once = INFERENCE_FLOATS // (width * draws_at_once * (1 + defensive))
        # The same noise for every row: a row's score depends on no other row.
        generator = torch.Generator(self.device_).manual_seed(self._evidence_seed)
        noise, of_prior = (
            data.x.new_empty(n_draws, 1, n).normal_(generator=generator).split(1024)
            for n in (vae.n_noise, vae.n_prior_noise)
        )
        scores = []
        with torch.inference_mode():
            for piece in pieces(data, max(1, rows_at_once)):
                qz = vae.encode(piece.x, piece.observed, piece.c)
                parts = [
                    log_weights(vae, piece, qz, own, prior if defensive else None)
                    for own, prior in zip(noise, of_prior, strict=True)
                ]
                parts = [torch.logsumexp(part, 0) for part in parts]
                scores.append(torch.logsumexp(torch.stack(parts), 0))
        n_draws *= 1 + defensive
        return torch.cat(scores).cpu().numpy() - math.log(n_draws)

    def _generator(self, random_state) -> torch.Generator:
        """Return a generator on the model's device."""
        seed = int(make_random_state(random_state).randint(2**31 - 1))
        return torch.Generator(self.device_).manual_seed(seed)

    def _log_jacobian(self, data: Batch) -> np.ndarray:
        """Return the log-Jacobian of the encoding per row, observed cells only."""
        parts = []
        for piece in pieces(data, 16_384):
            cells = self._encoder.log_jacobian(self._all_columns(piece.x.cpu()))
            cells = cells[:, self._order]
            if piece.observed is not None:
                cells = cells * piece.observed.cpu().numpy()
            parts.append(cells.sum(1))
        return np.concatenate(parts)

    def _decode_table(self, encoded: torch.Tensor | np.ndarray, *, drawn: bool = False):
        """Turn rows in the order of the heads into a table like the training one."""
        return self._encoder.decode(self._all_columns(encoded), drawn=drawn)

    def _columns_in_order(self) -> list[Column]:
        """Return the columns of the heads, in their order."""
        return [self._encoder.columns_[index] for index in self._order]

    def _all_columns(self, encoded: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return the columns of the heads in the order of the table, constants as 0."""
        shape = (len(encoded), len(self._encoder.columns_))
        values = np.zeros(shape, dtype=np.float32)
        values[:, self._order] = np.asarray(encoded)
        return values

    @property
    def _n_explained(self) -> int:
        """Number of columns that the latent variables explain."""
        return self.n_features_in_

    @property
    def _starts_linear(self) -> bool:
        """Whether training starts at a factor analysis of the number columns."""
        return True

    @property
    def _row_module(self) -> VAE:
        """The module whose decoder gives the columns of the table."""
        return self._module

    def _widths(self) -> list[int]:
        module = self._module
        sizes = self._architecture["hidden_layer_sizes"]
        latents = module.n_latent * self._architecture["n_prior_components"]
        if not isinstance(self._architecture["prior"], str):
            latents = module.n_noise
        return [module.n_encoder_inputs, *sizes, latents, module.joint.n_outputs]

    # -- persistence -------------------------------------------------------------

    def __getstate__(self):
        """Return the state with the weights as NumPy arrays.

        Torch modules are left out: arrays load on any device, and with skops.
        """
        state = dict(super().__getstate__())
        weights = {}
        for part in self._torch_parts:
            module = state.pop(part, None)
            if module is not None:
                weights[part] = {
                    name: tensor.detach().cpu().numpy().copy()
                    for name, tensor in module.state_dict().items()
                }
        if weights:
            state["_weights"] = weights
            state["_versions"] = package_versions()
        return state

    def __setstate__(self, state):
        state = dict(state)
        weights = state.pop("_weights", None)
        saved = state.pop("_versions", {})
        super().__setstate__(state)
        if weights is None:
            return
        installed = package_versions()
        if saved.get("skvae") != installed["skvae"]:
            warnings.warn(
                f"This {type(self).__name__} was saved with skvae "
                f"{saved.get('skvae')} and is loaded with {installed['skvae']}: check "
                "its results, or fit it again.",
                UserWarning,
                stacklevel=2,
            )
        try:
            self._resolve_device(self.device_)
        except ValueError:  # trained on a device that this machine does not have
            self.device_ = self._resolve_device("auto")
        for part, arrays in weights.items():
            module = self._build(part)
            tensors = {n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}
            module.load_state_dict(tensors)
            setattr(self, part, module.to(self.device_).eval())

    def _build(self, part: str, seed: int = 0) -> torch.nn.Module:
        """Build a torch part anew, to be trained or for weights to be loaded into."""
        return build_module(self._architecture, seed)
