"""How the conditional mean is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

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
from .._training.progress import Progress
from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import LEAST_MASKED, MOST_PATTERNS, random_mask, validation_mask
from .stacking import StackingSettings, choose_stacking

#: Rows from which a table is large.
LARGE = 5_000

#: The stage's name in the progress of a fit.
STAGE = "conditional mean"


@dataclass(frozen=True)
class MeanSettings:
    """The mean_settings: small tables need restraint, large ones time."""

    # What the number of rows decides, see :func:`choose_mean_settings`.
    hidden_layer_sizes: tuple[int, ...]
    n_members: int
    #: Share of a row's observed cells that is hidden, uniform up to here, by row and
    #: step: to see few cells at a time keeps networks from fitting single rows.
    most_masked: float
    #: Decoupled weight decay (Loshchilov and Hutter 2019).
    weight_decay: float
    batch_size: int
    n_steps: int
    #: Learning rate, in scales of the estimator's.
    learning_rate_factor: float
    #: Wider inputs are left out of the normal: its cost at every step grows with their
    #: cube, and large tables need it less.
    widest_normal: int
    #: Whether training rows meet normals that have not seen them: in large tables it
    #: makes no difference.
    cross_fit: bool

    #: Decay of averaged weights.
    averaging: float = 0.995
    #: The most rows that networks leave out: to average weights, and to blend.
    held_out_rows: int = 3_000
    #: Normals without a part of the rows, per network.
    folds_per_member: int = 2
    #: Fewer rows per network leave none to choose by.
    least_rows: int = 5
    #: Times that the averaged weights are scored on left-out rows.
    n_scores: int = 10
    #: How the estimates of normal and networks are mixed in the end.
    stacking: StackingSettings = field(default_factory=StackingSettings)


def choose_mean_settings(n_rows: int, n_columns: int) -> MeanSettings:
    """Return the mean_settings for a table of so many rows and columns."""
    if n_rows < LARGE:
        batch_size = 256
        # batches of few rows leave time for wider matrices
        widest = int(128 * max(1.0, batch_size / n_rows) ** (1 / 3))
        return MeanSettings(
            (128, 128), 4, 0.9, 0.3, batch_size, 1_500, 2.0, widest, True
        )
    n_steps = min(max(250 * n_columns, 1_500), 4_000)
    return MeanSettings((256, 256, 256), 2, 0.5, 0.02, 512, n_steps, 1.0, 48, False)


def train_conditional_mean(
    model: ConditionalMean,
    rows: Rows,
    mean_settings: MeanSettings,
    learning_rate: float,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
) -> tuple[list[float], Tensor | None]:
    """Train the networks; return the losses of left-out rows, in nats per cell.

    Every network leaves out its own part of the rows. On those the averaged weights are
    scored as training goes on, the best are member_weight, and the blend is chosen: cells are
    predicted there by a network that has not seen their row. Returned as well: which
    network that is, by row (None where there are too few rows for it).
    """
    progress = Progress() if progress is None else progress
    rows, held_out_index = assign_folds(model, rows, mean_settings, generator, progress)
    held_out = HeldOut.take(model, rows, held_out_index, mean_settings, generator)
    model.set_mean_log_deviation(held_out.rows, held_out.mask)
    trainer = MeanTrainer(
        model, rows, held_out, mean_settings, learning_rate, generator
    )
    losses = trainer.train(progress)
    with torch.no_grad():
        if rows.fold is None:  # nothing to choose by: the normal, if there is one
            model.network_weight.fill_(float(not len(model.normal_inputs)))
        else:
            choose_stacking(model, held_out.rows, held_out.mask, mean_settings.stacking)
    return losses, rows.fold


def assign_folds(
    model: ConditionalMean,
    rows: Rows,
    mean_settings: MeanSettings,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[Rows, Tensor]:
    """Return the rows with their folds, and the numbers of those that have one.

    With few rows there are no folds, and the numbers are of rows to look at all the
    same. Where the mean_settings says so, the normal is fitted without each fold.
    """
    n_rows, device = len(rows.x), rows.x.device
    order = torch.randperm(n_rows, generator=generator, device=device)
    held_out_index = order[: mean_settings.held_out_rows]
    if n_rows < mean_settings.least_rows * model.n_members:
        return rows, held_out_index
    n_folds = mean_settings.folds_per_member * model.n_members
    folds = torch.full((n_rows,), -1, device=device)
    folds[held_out_index] = torch.arange(len(held_out_index), device=device) % n_folds
    if mean_settings.cross_fit and len(model.normal_inputs):
        inputs, given = model.gaussian_inputs(rows.x_original, rows.observed)
        weight = rows.weight
        model.gaussian.fit_folds(inputs, given, weight, folds, n_folds, progress)
    return rows._replace(fold=folds), held_out_index


def held_out_by(rows: Rows, n_members: int) -> Tensor:
    """Return the network that leaves a row out, -1 for none, (rows,)."""
    if rows.fold is None:
        return torch.full((len(rows.x),), -1, device=rows.x.device)
    return member_of(rows.fold, n_members)


class HeldOut(NamedTuple):
    """Rows that weights and blend are judged on."""

    rows: Rows
    mask: Tensor  # (rows, columns)
    member_weight: (
        Tensor  # (members, rows) bool: which networks are judged by which rows
    )

    @classmethod
    def take(
        cls,
        model: ConditionalMean,
        rows: Rows,
        held_out_index: Tensor,
        mean_settings: MeanSettings,
        generator: torch.Generator,
    ) -> HeldOut:
        """Take the rows with the numbers ``held_out_index``, and hide some of their cells."""
        # several patterns for every row, for more cells to judge by
        n_patterns = min(
            MOST_PATTERNS, mean_settings.held_out_rows // len(held_out_index)
        )
        some = rows.take(held_out_index.repeat(max(1, n_patterns)))
        mask = validation_mask(some.observed, mean_settings.most_masked, generator)
        owner = held_out_by(some, model.n_members)
        members = torch.arange(model.n_members, device=owner.device).unsqueeze(1)
        return cls(some, mask, (owner == members) | (owner < 0))


class MeanTrainer:
    """The networks in training, and the best of their averaged weights.

    Parameters
    ----------
    model : ConditionalMean
        Trained in place.
    rows : Rows
        The rows, with their folds.
    held_out : HeldOut
        What averaged weights are scored on.
    mean_settings : MeanSettings
        How to train.
    learning_rate : float
        That of the estimator.
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
        self.owner = held_out_by(rows, model.n_members)
        self.members = torch.arange(model.n_members, device=rows.x.device).unsqueeze(1)
        matrices = {id(p) for p in model.ensemble.weights}
        self.parameters = nn.ParameterList(model.parameters())
        self.flat = flatten_parameters(self.parameters)
        decay = [
            p.new_full((p.numel(),), float(id(p) in matrices)) for p in self.parameters
        ]
        self.optimizer = Adam(
            self.flat,
            mean_settings.learning_rate_factor * learning_rate,
            torch.cat(decay),
            mean_settings.weight_decay,
        )
        self.averaged = self.flat.detach().clone()
        self.best, self.best_loss = self.averaged.clone(), math.inf
        self.losses: list[float] = []

    def train(self, progress: Progress) -> list[float]:
        """Train, and leave the model at the best weights; return the losses."""
        n_steps, n_scores = self.mean_settings.n_steps, self.mean_settings.n_scores
        scored = {n_steps * (k + 1) // n_scores - 1 for k in range(n_scores)}
        with progress.stage(STAGE, n_steps) as steps:
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
        mean_settings, model, n_rows = self.mean_settings, self.model, len(self.rows.x)
        index = torch.randint(
            n_rows,
            (min(mean_settings.batch_size, n_rows),),
            generator=self.generator,
            device=self.flat.device,
        )
        batch = self.rows.take(index)
        mask = random_mask(
            batch.observed, LEAST_MASKED, mean_settings.most_masked, self.generator
        )
        member_weight = (self.owner[index] != self.members).to(batch.x.dtype)
        loss = model.loss(batch, mask, member_weight)
        rate = self._learning_rate_at(step)
        minimise(loss, self.optimizer, rate, clip=math.sqrt(model.n_members))
        share = 1 - min(mean_settings.averaging, (step + 1) / (step + 10))
        self.averaged.lerp_(self.flat.detach(), share)

    def _learning_rate_at(self, step: int) -> float:
        n_steps = self.mean_settings.n_steps
        highest = self.mean_settings.learning_rate_factor * self.learning_rate
        warmup = max(1, n_steps // 10)
        return cosine(step, n_steps, initial=highest, warmup=warmup, phase_from=warmup)

    @torch.no_grad()
    def _score(self) -> None:
        """Score the averaged weights on the rows that were left out."""
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
