"""How the conditional mean is trained."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._training.optimizer import LEAST_GRADIENT, Adam, flatten_parameters
from .blend import choose_blend
from .conditional_mean import ConditionalMean, Rows, member_of
from .masking import LEAST_HIDDEN, MOST_PATTERNS, hide, judged

#: Decay of averaged weights.
AVERAGING = 0.995

#: The most rows that networks leave out: to average weights, and to blend.
LEFT_OUT_ROWS = 3_000

#: Normals without a part of the rows, per network.
FOLDS_PER_MEMBER = 2

#: Times that the averaged weights are scored on left-out rows.
N_SCORES = 10

#: Rows from which a table is large.
LARGE = 5_000


class MeanSettings(NamedTuple):
    """What the number of rows decides: small tables need restraint, large ones time."""

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
    verbose: bool = False,
) -> tuple[list[float], Tensor | None]:
    """Train the networks; return the losses of left-out rows, in nats per cell.

    Every network leaves out its own part of the rows. On those the averaged weights are
    scored as training goes on, the best are kept, and the blend is chosen: cells are
    predicted there by a network that has not seen their row. Returned as well: which
    network that is, by row (None where there are too few rows for it).
    """
    assert model.ensemble is not None
    matrices = list(model.ensemble.weights)
    n_rows, device, n_steps = len(rows.x), rows.x.device, recipe.n_steps
    order = torch.randperm(n_rows, generator=generator, device=device)
    held_out = order[:LEFT_OUT_ROWS]
    folds = torch.full((n_rows,), -1, device=device)
    members = torch.arange(model.n_members, device=device).unsqueeze(1)
    enough = n_rows >= 5 * model.n_members
    if enough:
        n_folds = FOLDS_PER_MEMBER * model.n_members
        folds[held_out] = torch.arange(len(held_out), device=device) % n_folds
        rows = rows._replace(fold=folds)
        if recipe.cross_fit and len(model.slots):
            inputs, visible = model.gaussian_inputs(rows.y, rows.observed)
            model.gaussian.fit_folds(inputs, visible, rows.weight, folds, n_folds)
    # several patterns for every row, for more cells to judge by
    held_out = held_out.repeat(
        max(1, min(MOST_PATTERNS, LEFT_OUT_ROWS // len(held_out)))
    )
    left_out = rows.take(held_out)
    left_out_visible = judged(left_out.observed, recipe.most_hidden, generator)
    owner = member_of(folds, model.n_members)
    left_out_kept = (owner[held_out] == members) | (owner[held_out] < 0)
    model.set_usual_deviation(left_out, left_out_visible)
    holder = nn.ParameterList(model.parameters())
    flat = flatten_parameters(holder)
    decays = torch.cat(
        [p.new_full((p.numel(),), float(any(p is w for w in matrices))) for p in holder]
    )
    highest_rate = recipe.pace * learning_rate
    optimizer = Adam(flat, highest_rate)
    averaged = flat.detach().clone()
    best, best_loss, losses = averaged.clone(), math.inf, []
    warmup = max(1, n_steps // 10)
    scored = {n_steps * (k + 1) // N_SCORES - 1 for k in range(N_SCORES)}

    @torch.no_grad()
    def score(weights: Tensor) -> None:
        nonlocal best, best_loss
        live = flat.detach().clone()
        flat.copy_(weights)
        losses.append(float(model.loss(left_out, left_out_visible, left_out_kept)))
        if losses[-1] < best_loss:
            best, best_loss = weights.clone(), losses[-1]
        flat.copy_(live)

    for step in range(n_steps):
        index = torch.randint(
            n_rows,
            (min(recipe.batch_size, n_rows),),
            generator=generator,
            device=device,
        )
        batch = rows.take(index)
        visible = hide(batch.observed, LEAST_HIDDEN, recipe.most_hidden, generator)
        kept = (owner[index] != members).to(batch.x.dtype)
        loss = model.loss(batch, visible, kept)
        assert flat.grad is not None
        flat.grad.fill_(LEAST_GRADIENT)
        loss.backward()
        norm = torch.linalg.vector_norm(flat.grad)
        flat.grad.mul_((math.sqrt(model.n_members) / (norm + 1e-12)).clamp(max=1.0))
        phase = max(0, step - warmup) / max(1, n_steps - warmup)
        rate = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * phase))
        optimizer.learning_rate = highest_rate * rate
        with torch.no_grad():
            flat.mul_(1 - optimizer.learning_rate * recipe.weight_decay * decays)
            optimizer.step()
            averaged.lerp_(flat.detach(), 1 - min(AVERAGING, (step + 1) / (step + 10)))
            if step in scored:
                score(averaged)
                if verbose:
                    print(
                        f"Conditional mean, step {step + 1} of {n_steps}, "
                        f"loss = {losses[-1]:.8f}"
                    )
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError(
            "The loss of the conditional mean became non-finite. Lower "
            f"learning_rate_init (now {learning_rate:g}), or look for extreme values "
            "in X and set numeric_transform='quantile'."
        )
    with torch.no_grad():
        flat.copy_(best)
        for p in holder:
            p.data, p.grad = p.detach().clone(), None
        if not enough:  # nothing to choose by: the normal, if there is one
            model.share.fill_(float(not len(model.slots)))
            return losses, None
        choose_blend(model, left_out, left_out_visible)
    return losses, folds
