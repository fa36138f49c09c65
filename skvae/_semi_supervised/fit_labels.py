"""Training of a labelled VAE: validation rows, budget, regularisation, batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from .._density.model import fit_module, main_stage
from .._networks.batch import Batch
from .._networks.vae import VAE
from .._training import settings as training
from .._training.bounds import Terms
from .._training.plan import History, Plan, resolve_batch_size
from .._training.progress import Progress, Stage, plan_units
from .labelled_vae import LabelledVAE
from .objectives import OBJECTIVES, LabelOptions, batch_noise_width, label_score
from .selection import STAGE, choose_regularisation
from .settings import SETTINGS, Regularisation

#: Map from rows of the table to rows of a labelled VAE: the identity, or the latents of
#: M1, drawn by the generator, or means without one.
View = Callable[[Batch, torch.Generator | None], Batch]


class LabelFit(NamedTuple):
    """Result of a fit of a labelled VAE: history, plan, regularisation."""

    history: History
    plan: Plan
    regularisation: Regularisation


def identity_view(batch: Batch, generator: torch.Generator | None = None) -> Batch:
    """Return the batch unchanged: the identity view of "m1", "m2" and "shot"."""
    return batch


def fit_labelled_vae(
    module: LabelledVAE,
    batch: Batch,
    split: tuple[np.ndarray, np.ndarray | None],
    plan: Plan,
    view: View,
    params: Mapping[str, Any],
    generator: torch.Generator,
    progress: Progress,
    *,
    seed: int,
    chosen: Regularisation | None,
) -> LabelFit:
    """Train a labelled VAE on partly labelled rows.

    Parameters
    ----------
    module : LabelledVAE
        Module, trained in place.
    batch : Batch
        Rows on the device, with one-hot labels.
    split : tuple
        Indices of training and validation rows, see :func:`split_labels`.
    plan : Plan
        Training plan, see :func:`resolve_plan`.
    view : callable
        Map from rows to the input of the module.
    params : mapping
        Parameters of the estimator.
    generator : torch.Generator
        Source of batches and noise.
    progress : Progress
        Progress of the fit.
    seed : int
        Seed of distances and label search, apart from the stream of training.
    chosen : Regularisation or None
        Choice of the fit that this one resumes.
    """
    device = batch.x.device
    assert batch.y is not None
    train_rows = torch.from_numpy(split[0]).to(device)
    known = train_rows[batch.y[train_rows].sum(1) > 0]
    labelled = batch.take(known)

    def beside() -> torch.Generator:
        return torch.Generator(device).manual_seed(seed)

    some = view(batch.at_random(SETTINGS.neighbour_rows, beside()), None)
    radius = params["vat_radius"] * neighbour_distance(module, some)
    candidates = regularisation_candidates(params, chosen, len(labelled))
    regularisation = candidates[0]
    if len(candidates) > 1:
        search = beside()
        regularisation = choose_regularisation(
            module,
            view(labelled.rows(0, SETTINGS.max_labels), None),
            view(batch.at_random(SETTINGS.max_rows, search), None),
            candidates,
            radius,
            search,
            n_steps=search_steps(plan, len(split[0])),
            progress=progress,
        )
    options = LabelOptions(
        classification_weight=params["classification_weight"]
        or float(module.joint.n_columns),
        consistency_weight=regularisation.consistency_weight,
        vat_radius=radius,
        masking_rate=regularisation.masking_rate,
        all_labelled=len(known) == len(train_rows),
        total_steps=plan.n_steps(len(split[0])),
    )
    plan = dataclasses.replace(plan, objective=LabelBound(module.kind, options))
    history, _ = fit_module(
        module,
        batch,
        split,
        plan,
        generator,
        progress,
        resume=chosen is not None,
        prepare=preparation(module, labelled, view, generator),
        # before the first epoch nothing has learned of the labels
        usable_from=int(chosen is None),
    )
    return LabelFit(history, plan, regularisation)


def plan_labels(
    module: VAE,
    codes: np.ndarray,
    params: Mapping[str, Any],
    random: np.random.RandomState,
    chosen: Regularisation | None,
    *,
    kind: str,
    widths: tuple[int, int],
    is_linear: bool,
) -> tuple[tuple[np.ndarray, np.ndarray | None], Plan, dict[str, int]]:
    """Return training and validation rows, the plan, and the units of every stage.

    ``widths`` are the classifier's numbers of inputs and of classes; ``module`` gives
    the cost of the main stage.
    """
    split = split_labels(codes, widths[1], params, random)
    n_rows = len(split[0])
    n_summed = 1 if kind == "m1" or (codes[split[0]] >= 0).all() else widths[1]
    plan = resolve_plan(
        params, kind, n_rows, split[1] is not None, is_linear, n_summed=n_summed
    )
    n_labelled = int((codes[split[0]] >= 0).sum())
    n_candidates = len(regularisation_candidates(params, chosen, n_labelled))
    stages = search_stages(n_candidates, *widths, search_steps(plan, n_rows))
    main = main_stage(module, plan, n_rows)
    return split, plan, plan_units(main, plan.max_iter, stages)


def split_labels(
    codes: np.ndarray,
    n_classes: int,
    params: Mapping[str, Any],
    random: np.random.RandomState,
    max_rows: int = training.SETTINGS.max_validation_rows,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return training and validation row indices, None without early stopping.

    Validation rows are labelled: a fraction of every class that leaves one row of it,
    at most ``max_rows`` in all, and None if too few.
    """
    order = random.permutation(len(codes))
    if not params["early_stopping"]:
        return order, None
    fraction, least = params["validation_fraction"], 1
    if fraction is None:
        fraction = SETTINGS.validation_fraction
        least = training.SETTINGS.min_validation_rows
    n_labelled = max(1, int((codes >= 0).sum()))
    fraction = min(fraction, max_rows / n_labelled)
    parts = []
    for code in range(n_classes):
        rows = order[codes[order] == code]
        parts.append(rows[: min(round(fraction * len(rows)), len(rows) - 1)])
    valid = np.concatenate(parts)
    if len(valid) < least:
        return order, None
    return order[~np.isin(order, valid)], valid


def neighbour_distance(module: LabelledVAE, rows: Batch) -> float:
    """Return the median distance between a row and its nearest neighbour."""
    with torch.inference_mode():
        inputs = module.inputs(rows.x, rows.observed).cpu().numpy()
    if len(inputs) < 2:
        return 0.0
    search = NearestNeighbors(n_neighbors=2).fit(inputs)
    distance = search.kneighbors(inputs)[0][:, 1]
    apart = distance[distance > 0]  # copies of a row have no distance
    return float(np.median(apart)) if len(apart) else 0.0


def regularisation_candidates(
    params: Mapping[str, Any], chosen: Regularisation | None, n_labelled: int
) -> list[Regularisation]:
    """Return the candidate pairs of masking rate and consistency weight.

    Values given by the user are in all of them; a resumed fit keeps its choice. Few
    labels leave the first candidate alone.
    """
    rate, weight = params["masking_rate"], params["consistency_weight"]
    options: Sequence[Regularisation] = (SETTINGS.regularised, SETTINGS.unregularised)
    if chosen is not None:
        options = [chosen]
    elif n_labelled < SETTINGS.min_labels:
        options = [SETTINGS.regularised]
    elif params["objective"] == "shot" and weight == "auto":
        weight = SETTINGS.regularised.consistency_weight
    candidates = [
        Regularisation(
            option.masking_rate if rate == "auto" else float(rate),
            option.consistency_weight if weight == "auto" else float(weight),
        )
        for option in options
    ]
    return list(dict.fromkeys(candidates))


def search_stages(
    n_candidates: int, n_inputs: int, n_classes: int, n_steps: int
) -> list[Stage]:
    """Return the label search, if there is one, as a stage of a fit."""
    if n_candidates == 1:
        return []
    widths = [n_inputs, *SETTINGS.search_widths, n_classes]
    n_weights = (
        n_candidates * SETTINGS.n_folds * sum(a * b for a, b in pairwise(widths))
    )
    return [Stage(STAGE, n_steps, SETTINGS.search_batch * n_weights)]


def search_steps(plan: Plan, n_rows: int) -> int:
    """Return the number of steps of the label search, at most that of the fit."""
    return min(SETTINGS.search_steps, plan.n_steps(n_rows))


def resolve_plan(
    params: Mapping[str, Any],
    kind: str,
    n_rows: int,
    held_out: bool,
    is_linear: bool,
    *,
    n_summed: int = 1,
) -> Plan:
    """Return the plan of a labelled VAE, whose validation score is log q(y | x).

    ``n_summed`` is the number of labels that are summed over: many make batches small.
    Its objective is set when the labels have chosen the regularisation.
    """
    if params["batch_size"] == "auto":
        most = max(1, SETTINGS.rows_times_labels // n_summed)
        batch_size = min(resolve_batch_size("auto", n_rows), most)
        params = {**params, "batch_size": batch_size}
    plan = Plan.resolve(
        params,
        n_rows,
        SETTINGS.m1_budget if params["objective"] == "m1" else SETTINGS.budget,
        is_linear=is_linear,
        score=label_score,
        early_stopping=held_out,
        # labels choose weights of q(y | x) alone, where that is a network of its own
        selected_submodule=None if kind == "m1" else "classifier",
        prefer_initial=False,  # it knows nothing of labels
    )
    if params["n_iter_no_change"] is None and (plan.selected_submodule or not held_out):
        # by the objective it would stop too late, by the labels too early for the
        # generator
        plan = dataclasses.replace(plan, n_iter_no_change=math.inf)
    return plan


@dataclasses.dataclass
class LabelBound:
    """Objective of ``kind``, whose weights follow the steps of the training loop."""

    kind: str
    options: LabelOptions
    #: The step, from 0, which the loop sets.
    step: int = 0

    def __call__(
        self,
        vae: LabelledVAE,
        batch: Batch,
        noise: torch.Tensor,
        *,
        kl_weight: float = 1.0,
        gradient: str = "pathwise",
    ) -> Terms:
        self.options.step = self.step + 1
        bound = OBJECTIVES[self.kind]
        return bound(vae, batch, noise, self.options, kl_weight=kl_weight)


def preparation(
    module: LabelledVAE, labelled: Batch, view: View, generator: torch.Generator
) -> Callable[[Batch], Batch]:
    """Return a function that adds noise and labelled rows to the view of a batch."""
    width, device = batch_noise_width(module), labelled.x.device

    def with_noise(batch: Batch) -> Batch:
        batch = view(batch, generator)
        noise = batch.x.new_empty(len(batch), width)
        return batch.replace(noise=noise.normal_(generator=generator))

    def with_labelled(batch: Batch) -> Batch:
        some = labelled
        if len(labelled) > SETTINGS.labelled_rows:
            shape = (SETTINGS.labelled_rows,)
            index = torch.randint(
                len(labelled), shape, generator=generator, device=device
            )
            some = labelled.take(index)
        return with_noise(batch).replace(labelled=with_noise(some))

    return with_labelled
