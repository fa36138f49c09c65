"""Validation scores by epoch, the best weights, early stopping."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor

from .._networks.batch import Batch, rows_at_once
from .._networks.vae import VAE
from .batches import Batches
from .optimizer import part_of_flat
from .plan import Plan, weighted_mean
from .progress import Progress
from .settings import SETTINGS, Settings


class StopTraining(Exception):
    """Exception by which a callback ends the training loop."""


class Monitor(Callback):  # type: ignore[misc]
    """Callback for validation scores, the best weights and early stopping.

    Parameters
    ----------
    plan : Plan
        Training plan.
    valid : Batch or None
        Validation rows. With None the training objective is the score, and the last
        weights stay.
    generator : torch.Generator
        Source of the validation noise.
    progress : Progress, default=None
        Prints the lines of the epochs.
    """

    def __init__(
        self,
        plan: Plan,
        valid: Batch | None,
        generator: torch.Generator,
        progress: Progress | None = None,
    ):
        self.plan = plan
        self.valid = valid
        self.generator = generator
        self.progress = Progress() if progress is None else progress
        self.initial_rows: Tensor | None = None

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self.start(net)

    def start(self, net: Any) -> None:
        """Score the initial model: it may be an exact linear model."""
        self.best_score = -math.inf
        part = part_of_flat(net.module_, self.plan.selected_submodule)
        self.selected = net.flat_.data[part]
        self.best_weights = self.selected.clone()
        self.stalled = 0
        self.drops = 0
        if self.valid is None:
            return
        # the same noise at every epoch: scores differ by the weights alone
        n_rows = len(self.valid)
        noise = self.valid.x.new_empty(self._n_draws(), n_rows, net.module_.n_noise)
        self.noise = noise.normal_(generator=self.generator)
        self.initial_weights = self.best_weights
        rows = self.best_rows = self.score_rows(net)
        self.best_score = net.record.best_score = self.mean(rows)
        self.initial_rows = rows

    def save(self) -> dict[str, Any]:
        """Return what is known of the best weights."""
        state: dict[str, Any] = {
            "best_score": self.best_score,
            "stalled": self.stalled,
            "drops": self.drops,
        }
        if self.valid is not None:
            state |= {"best_weights": self.best_weights, "best_rows": self.best_rows}
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`save` returned."""
        self.best_score = state["best_score"]
        self.stalled, self.drops = state["stalled"], state["drops"]
        if self.valid is not None:
            self.best_weights = state["best_weights"].to(self.selected)
            self.best_rows = state["best_rows"].to(self.selected)

    def _n_draws(self) -> int:
        """Return the number of draws per validation row."""
        assert self.valid is not None
        n_draws = self.plan.n_draws
        if self.plan.objective == "elbo":
            settings = self.plan.settings
            affordable = settings.validation_evaluations // len(self.valid)
            n_draws = max(n_draws, min(settings.validation_draws, affordable))
        return n_draws

    @torch.inference_mode()
    def score_rows(self, net: Any) -> Tensor:
        """Return the objective of each validation row, in nats."""
        assert self.valid is not None
        vae = net.module_.eval()
        objective = self.plan.score or self.plan.bound
        n_draws, n_rows = self.noise.shape[:2]
        at_once = rows_at_once(n_draws * vae.joint.n_outputs)
        values = []
        for start in range(0, n_rows, at_once):
            rows = self.valid.rows(start, start + at_once)
            noise = self.noise[:, start : start + at_once]
            terms = objective(vae, rows, noise, kl_weight=self.plan.kl_weight)
            values.append(terms.objective)
        return torch.cat(values)

    def mean(self, values: Tensor) -> float:
        """Return the weighted mean over the validation rows."""
        assert self.valid is not None
        return float(weighted_mean(values, self.valid.weight))

    def on_epoch_end(
        self, net: Any, dataset_train: Batches | None = None, **_: Any
    ) -> None:
        assert dataset_train is not None
        record = net.record
        active_units = count_active_units(
            net.module_, dataset_train, self.plan.settings
        )
        rows = None
        if self.valid is not None:
            rows = self.score_rows(net)
            record.validation.append(self.mean(rows))
            net.history.record("valid_loss", -record.validation[-1])
        record.active_units.append(active_units)
        record.learning_rate.append(net.optimizer_.learning_rate)
        say = self.progress.say
        say(f"Iteration {len(record.objective)}, loss = {-record.objective[-1]:.8f}")
        if self.valid is not None:
            say(f"Validation score: {record.validation[-1]:f}")
        self.compare(net, record.scores[-1], rows)
        if self.stalled >= self.plan.n_iter_no_change:
            self.stall(net)

    def compare(self, net: Any, score: float, rows: Tensor | None) -> None:
        """Keep the weights if the score is the best; count epochs without a gain."""
        gains = score > self.best_score + self.plan.tol
        self.stalled = 0 if gains else self.stalled + 1
        if score > self.best_score:
            self.best_score = net.record.best_score = score
            if rows is not None:
                self.best_weights = self.selected.clone()
                self.best_rows = rows
        if net.step_ <= net.kl_warmup_steps_:  # the objective itself still changes
            self.stalled = 0

    def stall(self, net: Any) -> None:
        """Restore the best weights at a lower learning rate, or stop."""
        plan, say = self.plan, self.progress.say
        what = "Validation score" if self.valid is not None else "Training objective"
        message = (
            f"{what} did not improve more than tol={plan.tol:f} for "
            f"{plan.n_iter_no_change} consecutive epochs."
        )
        if (
            plan.learning_rate == "constant"
            or self.drops == plan.settings.learning_rate_drops
        ):
            say(f"{message} Stopping.")
            net.record.converged = True
            raise StopTraining
        factor = plan.settings.learning_rate_drop_factor
        say(f"{message} Dividing the learning rate by {factor:g}.")
        self.drops, self.stalled = self.drops + 1, 0
        net.learning_rate_factor_ /= factor
        if self.valid is not None:
            self.selected.copy_(self.best_weights)

    def restore(self, net: Any) -> None:
        """Restore the best weights, or the initial ones if the gain is not significant.

        Few validation rows favour some later weights by chance. In the spirit of the
        one-standard-error rule (Breiman et al. 1984), the simplest model stays unless
        the mean gain over rows exceeds twice its standard error.
        """
        if self.valid is None:
            return
        if self.initial_rows is None:  # Ctrl-C came while they were scored
            self.start(net)
        assert self.initial_rows is not None
        self.selected.copy_(self.best_weights)
        if not self.plan.prefer_initial:
            return
        limit = self.plan.settings.gain_limit
        gain = (self.best_rows - self.initial_rows).clamp(-limit, limit)
        error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
        if self.mean(gain) < 2 * error:
            self.selected.copy_(self.initial_weights)
            net.record.best_score = self.mean(self.initial_rows)


@torch.inference_mode()
def count_active_units(
    vae: VAE, batches: Batches, settings: Settings = SETTINGS
) -> int:
    """Return the number of latent variables whose posterior means vary over rows."""
    sample = batches.take(batches.rows[: settings.active_unit_rows])
    mean = vae.encode(sample.x, sample.observed, sample.c).mean
    limit = settings.active_unit_variance * vae.prior_variance()
    return int((mean.var(0, correction=0) > limit).sum())
