"""Training plan and history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .bounds import OBJECTIVES, Terms
from .settings import SETTINGS, Budget, Settings

#: Training parameters that an estimator may lack.
DEFAULTS: Mapping[str, Any] = {
    "objective": "elbo",
    "gradient": "pathwise",
    "n_draws": 1,
    "latent": "normal",
    "prior": None,
    "kl_weight": 1.0,
    "learning_rate": "cosine",
    "early_stopping": True,
    "validation_fraction": None,
    "n_iter_no_change": None,
    "tol": 1e-4,
}


@dataclass(frozen=True)
class Plan:
    """Training plan: the numbers of one fit, resolved from the parameters."""

    objective: str | Callable[..., Terms]
    gradient: str
    n_draws: int
    kl_weight: float
    kl_warmup_steps: int
    max_iter: int
    batch_size: int
    learning_rate_init: float
    learning_rate: str
    early_stopping: bool
    n_iter_no_change: float
    tol: float
    prefer_initial: bool = True  # see Monitor.restore
    weight_decay: float = 0.0  # decoupled, of the weights of layers
    #: Validation score, if not the objective.
    score: Callable[..., Terms] | None = None
    #: Submodule whose weights validation rows choose; None for all.
    selected_submodule: str | None = None
    settings: Settings = SETTINGS

    @classmethod
    def resolve(
        cls,
        params: Mapping[str, Any],
        n_rows: int,
        budget: Budget,
        *,
        is_linear: bool,
        incremental: bool = False,
        **others: Any,
    ) -> Plan:
        """Return the plan of a fit to ``n_rows`` training rows.

        Parameters
        ----------
        params : mapping
            The constructor parameters of the estimator, over :data:`DEFAULTS`.
        n_rows : int
            Number of training rows.
        budget : Budget
            Steps and epochs where ``max_iter`` and ``n_iter_no_change`` are None.
        is_linear : bool
            Whether training starts at a linear model, without KL warm-up.
        incremental : bool
            Whether to train for one epoch on a chunk of rows.
        **others
            Further attributes, which override those above.
        """
        batch_size = resolve_batch_size(params["batch_size"], n_rows)
        n_batches = max(1, n_rows // batch_size)
        max_iter, patience = params["max_iter"], params["n_iter_no_change"]
        if max_iter is None:
            max_iter = max(budget.epochs, math.ceil(budget.steps / n_batches))
        if patience is None:
            steps = math.ceil(budget.patience_steps / n_batches)
            patience = max(budget.patience_epochs, steps)
        warmup = others.get("settings", SETTINGS).kl_warmup_steps
        resolved = {
            "objective": params["objective"],
            "gradient": params["gradient"],
            "n_draws": params["n_draws"],
            "kl_weight": params["kl_weight"],
            "kl_warmup_steps": 0 if is_linear or incremental else warmup,
            "max_iter": 1 if incremental else max_iter,
            "batch_size": batch_size,
            "learning_rate_init": params["learning_rate_init"],
            "learning_rate": "constant" if incremental else params["learning_rate"],
            "early_stopping": params["early_stopping"] and not incremental,
            "n_iter_no_change": math.inf if incremental else patience,
            "tol": params["tol"],
            # without normal latent variables it is no linear model, but noise
            "prefer_initial": params["latent"] == "normal",
        }
        return cls(**{**resolved, **others})

    def n_steps(self, n_rows: int) -> int:
        """Return the number of steps of a fit to ``n_rows`` training rows."""
        return max(1, n_rows // self.batch_size) * self.max_iter

    @property
    def bound(self) -> Callable[..., Terms]:
        """The objective as a function."""
        if isinstance(self.objective, str):
            return OBJECTIVES[self.objective]
        return self.objective


@dataclass
class History:
    """Training history, one entry per epoch, in nats per row."""

    objective: list[float] = field(default_factory=list)
    reconstruction: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    active_units: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_score: float = -math.inf
    converged: bool = False

    @property
    def scores(self) -> list[float]:
        """Validation scores, or else training objectives, by epoch."""
        return self.validation or self.objective

    def save(self) -> dict[str, Any]:
        """Return a copy of the entries, by name."""
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(self).items()
        }

    def load(self, entries: dict[str, Any]) -> None:
        """Restore what :meth:`save` returned."""
        vars(self).update(History(**entries).save())


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of per-row values by weights that average to one."""
    if weight is None:
        return values.mean()
    return (values * weight).mean()


def resolve_batch_size(batch_size: int | str, n_rows: int) -> int:
    """Return the batch size for a training set of ``n_rows`` rows."""
    if batch_size != "auto":
        return int(batch_size)
    # small tables need many steps, large tables large products
    return 1024 if n_rows >= 100_000 else min(256, max(16, n_rows // 8))


def split_rows(
    n_rows: int,
    params: Mapping[str, Any],
    random: np.random.RandomState,
    settings: Settings = SETTINGS,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return training and validation row indices, None without early stopping."""
    order = random.permutation(n_rows)
    if not params["early_stopping"]:
        return order, None
    fraction = params["validation_fraction"]
    if fraction is None:
        # more than a quarter would leave too few rows to fit
        fraction = min(max(0.1, settings.min_validation_rows / n_rows), 0.25)
    n_valid = round(fraction * n_rows)
    n_valid = min(max(1, n_valid), n_rows - 1, settings.max_validation_rows)
    if n_valid < 1:
        raise ValueError(
            "Validation rows are set aside, so a fit needs at least 2 rows of positive "
            f"weight, but got {n_rows}."
        )
    return order[n_valid:], order[:n_valid]
