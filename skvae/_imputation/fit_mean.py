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
from .blend import BlendSettings, choose_blend
from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import LEAST_HIDDEN, MOST_PATTERNS, hide, judged

#: Rows from which a table is large.
LARGE = 5_000

#: The stage's name in the progress of a fit.
STAGE = "conditional mean"


@dataclass(frozen=True)
class MeanSettings:
    """The recipe: small tables need restraint, large ones time."""

    # What the number of rows decides, see :func:`choose_recipe`.
    hidden_layer_sizes: tuple[int, ...]
    n_members: int
    #: Share of a row's observed cells that is hidden, uniform up to here, by row and
    #: step: to see few cells at a time keeps networks from fitting single rows.
    most_hidden: float
    #: Decoupled weight decay (Loshchilov and Hutter 2019).
    weight_decay: float
    batch_size: int
    n_steps: int
    #: Learning rate, in units of the estimator's.
    pace: float
    #: Wider inputs are left out of the normal: its cost at every step grows with their
    #: cube, and large tables need it less.
    widest_normal: int
    #: Whether training rows meet normals that have not seen them: in large tables it
    #: makes no difference.
    cross_fit: bool

    #: Decay of averaged weights.
    averaging: float = 0.995
    #: The most rows that networks leave out: to average weights, and to blend.
    left_out_rows: int = 3_000
    #: Normals without a part of the rows, per network.
    folds_per_member: int = 2
    #: Fewer rows per network leave none to choose by.
    least_rows: int = 5
    #: Times that the averaged weights are scored on left-out rows.
    n_scores: int = 10
    #: How the estimates of normal and networks are mixed in the end.
    blend: BlendSettings = field(default_factory=BlendSettings)


def choose_recipe(n_rows: int, n_columns: int) -> MeanSettings:
    """Return the recipe for a table of so many rows and columns."""
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
    recipe: MeanSettings,
    learning_rate: float,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
) -> tuple[list[float], Tensor | None]:
    """Train the networks; return the losses of left-out rows, in nats per cell.

    Every network leaves out its own part of the rows. On those the averaged weights are
    scored as training goes on, the best are kept, and the blend is chosen: cells are
    predicted there by a network that has not seen their row. Returned as well: which
    network that is, by row (None where there are too few rows for it).
    """
    progress = Progress() if progress is None else progress
    rows, held_out = assign_folds(model, rows, recipe, generator, progress)
    left_out = LeftOut.take(model, rows, held_out, recipe, generator)
    model.set_usual_deviation(left_out.rows, left_out.visible)
    trainer = MeanTrainer(model, rows, left_out, recipe, learning_rate, generator)
    losses = trainer.train(progress)
    with torch.no_grad():
        if rows.fold is None:  # nothing to choose by: the normal, if there is one
            model.share.fill_(float(not len(model.slots)))
        else:
            choose_blend(model, left_out.rows, left_out.visible, recipe.blend)
    return losses, rows.fold


def assign_folds(
    model: ConditionalMean,
    rows: Rows,
    recipe: MeanSettings,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[Rows, Tensor]:
    """Return the rows with their folds, and the numbers of those that have one.

    With few rows there are no folds, and the numbers are of rows to look at all the
    same. Where the recipe says so, the normal is fitted without each fold.
    """
    n_rows, device = len(rows.x), rows.x.device
    order = torch.randperm(n_rows, generator=generator, device=device)
    held_out = order[: recipe.left_out_rows]
    if n_rows < recipe.least_rows * model.n_members:
        return rows, held_out
    n_folds = recipe.folds_per_member * model.n_members
    folds = torch.full((n_rows,), -1, device=device)
    folds[held_out] = torch.arange(len(held_out), device=device) % n_folds
    if recipe.cross_fit and len(model.slots):
        inputs, visible = model.gaussian_inputs(rows.y, rows.observed)
        weight = rows.weight
        model.gaussian.fit_folds(inputs, visible, weight, folds, n_folds, progress)
    return rows._replace(fold=folds), held_out


def owners(rows: Rows, n_members: int) -> Tensor:
    """Return the network that leaves a row out, -1 for none, (rows,)."""
    if rows.fold is None:
        return torch.full((len(rows.x),), -1, device=rows.x.device)
    return member_of(rows.fold, n_members)


class LeftOut(NamedTuple):
    """Rows that weights and blend are judged on."""

    rows: Rows
    visible: Tensor  # (rows, columns)
    kept: Tensor  # (members, rows) bool: which networks are judged by which rows

    @classmethod
    def take(
        cls,
        model: ConditionalMean,
        rows: Rows,
        held_out: Tensor,
        recipe: MeanSettings,
        generator: torch.Generator,
    ) -> LeftOut:
        """Take the rows with the numbers ``held_out``, and hide some of their cells."""
        # several patterns for every row, for more cells to judge by
        n_patterns = min(MOST_PATTERNS, recipe.left_out_rows // len(held_out))
        some = rows.take(held_out.repeat(max(1, n_patterns)))
        visible = judged(some.observed, recipe.most_hidden, generator)
        owner = owners(some, model.n_members)
        members = torch.arange(model.n_members, device=owner.device).unsqueeze(1)
        return cls(some, visible, (owner == members) | (owner < 0))


class MeanTrainer:
    """The networks in training, and the best of their averaged weights.

    Parameters
    ----------
    model : ConditionalMean
        Trained in place.
    rows : Rows
        The rows, with their folds.
    left_out : LeftOut
        What averaged weights are scored on.
    recipe : MeanSettings
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
        left_out: LeftOut,
        recipe: MeanSettings,
        learning_rate: float,
        generator: torch.Generator,
    ) -> None:
        assert model.ensemble is not None
        self.model, self.rows, self.left_out = model, rows, left_out
        self.recipe, self.generator = recipe, generator
        self.learning_rate = learning_rate
        self.owner = owners(rows, model.n_members)
        self.members = torch.arange(model.n_members, device=rows.x.device).unsqueeze(1)
        matrices = {id(p) for p in model.ensemble.weights}
        self.parameters = nn.ParameterList(model.parameters())
        self.flat = flatten_parameters(self.parameters)
        decay = [
            p.new_full((p.numel(),), float(id(p) in matrices)) for p in self.parameters
        ]
        self.optimizer = Adam(
            self.flat,
            recipe.pace * learning_rate,
            torch.cat(decay),
            recipe.weight_decay,
        )
        self.averaged = self.flat.detach().clone()
        self.best, self.best_loss = self.averaged.clone(), math.inf
        self.losses: list[float] = []

    def train(self, progress: Progress) -> list[float]:
        """Train, and leave the model at the best weights; return the losses."""
        n_steps, n_scores = self.recipe.n_steps, self.recipe.n_scores
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
        recipe, model, n_rows = self.recipe, self.model, len(self.rows.x)
        index = torch.randint(
            n_rows,
            (min(recipe.batch_size, n_rows),),
            generator=self.generator,
            device=self.flat.device,
        )
        batch = self.rows.take(index)
        visible = hide(batch.observed, LEAST_HIDDEN, recipe.most_hidden, self.generator)
        kept = (self.owner[index] != self.members).to(batch.x.dtype)
        loss = model.loss(batch, visible, kept)
        rate = self._learning_rate_at(step)
        minimise(loss, self.optimizer, rate, clip=math.sqrt(model.n_members))
        share = 1 - min(recipe.averaging, (step + 1) / (step + 10))
        self.averaged.lerp_(self.flat.detach(), share)

    def _learning_rate_at(self, step: int) -> float:
        n_steps = self.recipe.n_steps
        highest = self.recipe.pace * self.learning_rate
        warmup = max(1, n_steps // 10)
        return cosine(step, n_steps, initial=highest, warmup=warmup, phase_from=warmup)

    @torch.no_grad()
    def _score(self) -> None:
        """Score the averaged weights on the rows that were left out."""
        live = self.flat.detach().clone()
        self.flat.copy_(self.averaged)
        loss = float(self.model.loss(*self.left_out))
        self.flat.copy_(live)
        if not math.isfinite(loss):
            raise non_finite(
                "The loss of the conditional mean became non-finite", self.learning_rate
            )
        self.losses.append(loss)
        if loss < self.best_loss:
            self.best, self.best_loss = self.averaged.clone(), loss
