"""Scores each epoch, keeps the best weights, decides when to stop."""

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

#: Without improvement a schedule goes back to the best weights and divides the
#: learning rate by this, at most that many times, before training stops.
RATE_FACTOR, RATE_DROPS = 4.0, 3

#: The most that a validation row may say for or against the start, in nats: a row that
#: the start cannot explain at all would make the standard error as large as the gain.
GAIN_LIMIT = 10.0

#: Draws of a validation score of the ELBO, as long as rows times draws stay below the
#: second number.
VALIDATION_DRAWS, VALIDATION_EVALUATIONS = 16, 4_000

#: A latent variable is active if the variance of its posterior mean over rows
#: exceeds this share of the prior's (Burda, Grosse, Salakhutdinov 2016, section 5.2).
ACTIVE_UNIT_VARIANCE = 0.01


class StopTraining(Exception):
    """Ends the loop from a callback."""


class Monitor(Callback):  # type: ignore[misc]
    """Scores each epoch, keeps the best weights, decides when to stop.

    Parameters
    ----------
    plan : Plan
        How to train.
    valid : Batch or None
        The validation rows; without them the objective on the training rows is the
        score, and the last weights stay.
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
        self.start_rows: Tensor | None = None

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self.best_score = -math.inf
        part = part_of_flat(net.module_, self.plan.judged)
        self.judged = net.flat_.data[part]
        self.best_weights = self.judged.clone()
        self.stalled = 0
        self.drops = 0
        if self.valid is None:
            return
        # the same noise at every epoch: scores differ by the weights alone
        n_rows = len(self.valid)
        noise = self.valid.x.new_empty(self._n_draws(), n_rows, net.module_.n_noise)
        self.noise = noise.normal_(generator=self.generator)
        # the start itself is a candidate: it may be an exact linear model
        self.start_weights = self.best_weights.clone()
        self.start_rows = self.best_rows = self.score_rows(net)
        self.best_score = net.record.best_score = self.mean(self.start_rows)

    def _n_draws(self) -> int:
        """Return the number of draws per validation row."""
        assert self.valid is not None
        n_draws = self.plan.n_draws
        if self.plan.objective == "elbo":
            affordable = VALIDATION_EVALUATIONS // len(self.valid)
            n_draws = max(n_draws, min(VALIDATION_DRAWS, affordable))
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
        """Average over the validation rows by their weights."""
        assert self.valid is not None
        return float(weighted_mean(values, self.valid.weight))

    def on_epoch_end(
        self, net: Any, dataset_train: Batches | None = None, **_: Any
    ) -> None:
        assert dataset_train is not None
        record, active_units = (
            net.record,
            count_active_units(net.module_, dataset_train),
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
                self.best_weights.copy_(self.judged)
                self.best_rows = rows
        if net.step_ <= net.kl_warmup_steps_:  # the objective itself still changes
            self.stalled = 0

    def stall(self, net: Any) -> None:
        """Go back to the best weights at a lower learning rate, or stop."""
        plan, say = self.plan, self.progress.say
        what = "Validation score" if self.valid is not None else "Training objective"
        message = (
            f"{what} did not improve more than tol={plan.tol:f} for "
            f"{plan.n_iter_no_change} consecutive epochs."
        )
        if plan.learning_rate == "constant" or self.drops == RATE_DROPS:
            say(f"{message} Stopping.")
            net.record.converged = True
            raise StopTraining
        say(f"{message} Dividing the learning rate by {RATE_FACTOR:g}.")
        self.drops, self.stalled = self.drops + 1, 0
        net.rate_factor_ /= RATE_FACTOR
        if self.valid is not None:
            self.judged.copy_(self.best_weights)

    def restore(self, net: Any) -> None:
        """Put the best weights back: the start, unless it is beaten clearly.

        Few validation rows favour some later weights by chance. In the spirit of the
        one-standard-error rule (Breiman et al. 1984), the simplest model stays unless
        the mean gain over rows exceeds twice its standard error.
        """
        if self.valid is None or self.start_rows is None:  # Ctrl-C came before it
            return
        self.judged.copy_(self.best_weights)
        if not self.plan.prefer_start:
            return
        gain = (self.best_rows - self.start_rows).clamp(-GAIN_LIMIT, GAIN_LIMIT)
        error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
        if self.mean(gain) < 2 * error:
            self.judged.copy_(self.start_weights)
            net.record.best_score = self.mean(self.start_rows)


@torch.inference_mode()
def count_active_units(vae: VAE, batches: Batches, n_rows: int = 256) -> int:
    """Count latent variables whose posterior means vary over rows."""
    sample = batches.take(batches.rows[:n_rows])
    mean = vae.encode(sample.x, sample.observed, sample.c).mean
    limit = ACTIVE_UNIT_VARIANCE * vae.prior_variance()
    return int((mean.var(0, correction=0) > limit).sum())
