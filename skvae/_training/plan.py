"""How to train, and what was recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from .bounds import OBJECTIVES, Terms


@dataclass(frozen=True)
class Plan:
    """How to train: the numbers of one fit, resolved by the estimator."""

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
    verbose: bool = False
    prefer_start: bool = True  # see Monitor.restore
    weight_decay: float = 0.0  # decoupled, of the weights of layers
    #: What validation rows are scored by, where that is not the objective.
    score: Callable[..., Terms] | None = None
    #: Which submodule's weights validation rows choose (and the rest ends as it is);
    #: None: all.
    judged: str | None = None

    @property
    def bound(self) -> Callable[..., Terms]:
        """The objective as a function."""
        if isinstance(self.objective, str):
            return OBJECTIVES[self.objective]
        return self.objective


@dataclass
class History:
    """What was recorded, one entry per epoch; everything in nats per row."""

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
        """The monitored scores: validation where there is one."""
        return self.validation or self.objective

    def drop_unscored(self) -> None:
        """Drop an epoch that Ctrl-C cut short between training and scoring."""
        n_scored = len(self.learning_rate)
        for values in vars(self).values():
            if isinstance(values, list):
                del values[n_scored:]


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Average per-row values; weights have mean one over the training rows."""
    if weight is None:
        return values.mean()
    return (values * weight).mean()
