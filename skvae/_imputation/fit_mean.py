"""Training of the conditional mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._training.optimizer import (
    Adam,
    cosine,
    flatten_parameters,
    minimise,
    non_finite,
    unflatten_parameters,
)
from .._training.progress import Progress, Stage
from .._training.threads import threads_for
from .conditional_mean import ConditionalMean, Rows, held_out_member
from .masking import random_mask, validation_mask
from .settings import MeanSettings
from .stacking import choose_stacking

#: The stage's name in the progress of a fit.
STAGE = "conditional mean"


def limit_epochs(
    settings: MeanSettings, params: Mapping[str, Any], n_rows: int
) -> MeanSettings:
    """Return the settings of the mean with at most ``max_iter`` epochs."""
    if params["max_iter"] is None:
        return settings
    most = params["max_iter"] * max(1, n_rows // settings.batch_size)
    return replace(settings, n_steps=min(settings.n_steps, most))


def mean_stage(mean: ConditionalMean, settings: MeanSettings) -> Stage:
    """Return the training stage of the mean, with its cost per step.

    Per row: all weights, and the factorisation of a matrix of the normal.
    """
    n_weights = sum(p.numel() for p in mean.parameters())
    n_weights += len(mean.gaussian.mean) ** 3 // 3
    return Stage(STAGE, settings.n_steps, settings.batch_size * n_weights)


def train_conditional_mean(
    model: ConditionalMean,
    rows: Rows,
    mean_settings: MeanSettings,
    learning_rate: float,
    generator: torch.Generator,
    *,
    max_iter: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[float], Tensor | None]:
    """Train the networks; return held-out losses in nats per cell, and folds.

    Every network holds out its own part of the rows, on which the best averaged weights
    and the stacking weights are chosen, from out-of-fold estimates. Folds are by row,
    None where there are too few rows. ``max_iter`` bounds the iterations of EM of the
    cross-fitted normals.
    """
    progress = Progress() if progress is None else progress
    rows, index = assign_folds(
        model, rows, mean_settings, generator, progress, max_iter
    )
    held_out = HeldOut.take(model, rows, index, mean_settings, generator)
    model.set_mean_log_deviation(held_out.rows, held_out.mask)
    trainer = MeanTrainer(
        model, rows, held_out, mean_settings, learning_rate, generator
    )
    losses = trainer.train(progress)
    with torch.no_grad():
        if rows.fold is None:  # no held-out rows: the normal, if there is one
            model.network_weight.fill_(float(not model.has_normal))
        else:
            choose_stacking(model, held_out.rows, held_out.mask)
    return losses, rows.fold


def assign_folds(
    model: ConditionalMean,
    rows: Rows,
    mean_settings: MeanSettings,
    generator: torch.Generator,
    progress: Progress,
    max_iter: int | None = None,
) -> tuple[Rows, Tensor]:
    """Return the rows with their folds, and the indices of the rows to score.

    With few rows there are no folds, and training rows are scored. The normal is fitted
    without each fold where the settings cross-fit.
    """
    settings = model.settings
    n_rows, device = len(rows.x), rows.x.device
    order = torch.randperm(n_rows, generator=generator, device=device)
    index = order[: held_out_limit(model)]
    if n_rows < settings.rows_per_member * model.n_members:
        return rows, index
    n_folds = settings.folds_per_member * model.n_members
    folds = torch.full_like(order, -1)
    folds[index] = torch.arange(len(index), dtype=torch.long, device=device) % n_folds
    if mean_settings.cross_fit and model.has_normal:
        inputs, given = model.gaussian_inputs(rows.x_original, rows.observed)
        cells = inputs, given, rows.weight, folds
        model.gaussian.fit_folds(*cells, n_folds, max_iter=max_iter, progress=progress)
    return rows._replace(fold=folds), index


def held_out_limit(model: ConditionalMean) -> int:
    """Return the maximum number of rows for scores."""
    settings = model.settings
    affordable = settings.held_out_floats // model.floats_per_row
    return max(1, min(settings.held_out_rows, affordable))


def held_out_by(rows: Rows, n_members: int) -> Tensor:
    """Return the index of the network that holds out each row, or -1, (rows,)."""
    if rows.fold is None:
        return rows.x.new_full((len(rows.x),), -1, dtype=torch.long)
    return held_out_member(rows.fold, n_members)


def index_members(model: ConditionalMean, device: torch.device) -> Tensor:
    """Return the indices of the networks, (members, 1)."""
    index = torch.arange(model.n_members, dtype=torch.long, device=device)
    return index.unsqueeze(1)


class HeldOut(NamedTuple):
    """Held-out rows for choosing averaged weights (EMA) and stacking weights."""

    rows: Rows
    mask: Tensor  # (rows, columns) input mask
    member_weight: Tensor  # (members, rows) bool: networks that a row scores

    @classmethod
    def take(
        cls,
        model: ConditionalMean,
        rows: Rows,
        index: Tensor,
        mean_settings: MeanSettings,
        generator: torch.Generator,
    ) -> HeldOut:
        """Take the rows at ``index``, each with several input masks."""
        settings = model.settings
        n_masks = min(settings.masks_per_row, held_out_limit(model) // len(index))
        some = rows.take(index.repeat(max(1, n_masks)))
        max_masking_rate = mean_settings.max_masking_rate
        mask = validation_mask(some.observed, max_masking_rate, generator, settings)
        member = held_out_by(some, model.n_members)
        members = index_members(model, member.device)
        return cls(some, mask, (member == members) | (member < 0))


class MeanTrainer:
    """Training of the networks, with averaged weights (EMA) chosen on held-out rows.

    Parameters
    ----------
    model : ConditionalMean
        Trained in place.
    rows : Rows
        Training rows, with their folds.
    held_out : HeldOut
        Rows for scoring averaged weights.
    mean_settings : MeanSettings
        Settings of the training.
    learning_rate : float
        Learning rate of the estimator.
    generator : torch.Generator
        Source of batches and masks.
    """

    def __init__(
        self,
        model: ConditionalMean,
        rows: Rows,
        held_out: HeldOut,
        mean_settings: MeanSettings,
        learning_rate: float,
        generator: torch.Generator,
    ) -> None:
        assert model.ensemble is not None
        self.model, self.rows, self.held_out = model, rows, held_out
        self.mean_settings, self.generator = mean_settings, generator
        self.learning_rate = learning_rate
        self.held_out_by = held_out_by(rows, model.n_members)
        self.members = index_members(model, rows.x.device)
        matrices = {id(p) for p in model.ensemble.weights}
        self.parameters = nn.ParameterList(model.parameters())
        self.flat = flatten_parameters(self.parameters)
        decay = [
            p.new_full((p.numel(),), float(id(p) in matrices)) for p in self.parameters
        ]
        self.initial_rate = mean_settings.learning_rate_factor * learning_rate
        self.optimizer = Adam(
            self.flat, self.initial_rate, torch.cat(decay), mean_settings.weight_decay
        )
        self.averaged = self.flat.detach().clone()
        self.best, self.best_loss = self.averaged.clone(), math.inf
        self.losses: list[float] = []

    def save(self) -> dict[str, Any]:
        """Return the state of the training."""
        return {
            **self.optimizer.clone(),
            "averaged": self.averaged.clone(),
            "best": self.best,
            "best_loss": self.best_loss,
            "losses": list(self.losses),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`save` returned."""
        self.optimizer.restore(state)
        self.averaged.copy_(state["averaged"])
        self.best, self.best_loss = state["best"].to(self.averaged), state["best_loss"]
        self.losses = list(state["losses"])
        self.generator.set_state(state["generator"])

    def train(self, progress: Progress) -> list[float]:
        """Train, restore the best weights and return the held-out losses."""
        n_steps, n_scores = self.mean_settings.n_steps, self.model.settings.n_scores
        scored = {n_steps * (k + 1) // n_scores - 1 for k in range(n_scores)}
        n_rows = min(self.mean_settings.batch_size, len(self.rows.x))
        with (
            threads_for(n_rows * self.flat.numel(), side_by_side=True),
            progress.stage(STAGE, n_steps, self, n_saves=n_scores) as steps,
        ):
            for step in steps:
                self._step(step)
                if step in scored:
                    self._score()
                    progress.say(
                        f"Conditional mean, step {step + 1} of {n_steps}, "
                        f"loss = {self.losses[-1]:.8f}"
                    )
        with torch.no_grad():
            self.flat.copy_(self.best)
        unflatten_parameters(self.parameters)
        return self.losses

    def _step(self, step: int) -> None:
        own, settings = self.mean_settings, self.model.settings
        n_rows, device = len(self.rows.x), self.flat.device
        shape = (min(own.batch_size, n_rows),)
        index = torch.randint(n_rows, shape, generator=self.generator, device=device)
        batch = self.rows.take(index)
        mask = random_mask(
            batch.observed,
            settings.min_masking_rate,
            own.max_masking_rate,
            self.generator,
        )
        member_weight = (self.held_out_by[index] != self.members).to(batch.x.dtype)
        loss = self.model.loss(batch, mask, member_weight)
        rate = self._learning_rate_at(step)
        minimise(loss, self.optimizer, rate, clip=math.sqrt(self.model.n_members))
        # the first steps count less: their average would stay near the initial weights
        decay = min(settings.ema_decay, (step + 1) / (step + 10))
        self.averaged.lerp_(self.flat.detach(), 1 - decay)

    def _learning_rate_at(self, step: int) -> float:
        n_steps = self.mean_settings.n_steps
        warmup = max(1, n_steps // 10)
        return cosine(
            step, n_steps, initial=self.initial_rate, warmup=warmup, phase_from=warmup
        )

    @torch.no_grad()
    def _score(self) -> None:
        """Score the averaged weights on the held-out rows."""
        live = self.flat.detach().clone()
        self.flat.copy_(self.averaged)
        loss = float(self.model.loss(*self.held_out))
        self.flat.copy_(live)
        if not math.isfinite(loss):
            raise non_finite(
                "The loss of the conditional mean became non-finite", self.learning_rate
            )
        self.losses.append(loss)
        if loss < self.best_loss:
            self.best, self.best_loss = self.averaged.clone(), loss
