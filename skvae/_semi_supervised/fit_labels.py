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
from .._training.plan import History, Plan
from .._training.progress import Progress, Stage, plan_units
from .labelled_vae import LabelledVAE
from .objectives import OBJECTIVES, LabelOptions, batch_noise_width, label_score
from .selection import STAGE, choose_setting
from .settings import SETTINGS, Regularisation

#: Rows as a labelled VAE sees them: those of the table, or their latent variables.
#: With a generator these are drawn, without they are means.
View = Callable[[Batch, torch.Generator | None], Batch]


class LabelFit(NamedTuple):
    """What the training of a labelled VAE leaves beside the module."""

    history: History
    plan: Plan
    regularisation: Regularisation


def as_they_are(batch: Batch, generator: torch.Generator | None = None) -> Batch:
    """Return the rows unchanged: the view of a model that is not stacked."""
    return batch


def fit_labels(
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
    """Train a labelled VAE on rows some of which have a label.

    Parameters
    ----------
    module : LabelledVAE
        Is trained in place.
    batch : Batch
        The rows on the device, with their labels one-hot.
    split : tuple
        Numbers of the training and of the validation rows, see :func:`split_labels`.
    plan : Plan
        How to train, see :func:`resolve_plan`.
    view : callable
        What the module sees of rows.
    params : mapping
        Parameters of the estimator.
    generator : torch.Generator
        Batches and noise.
    progress : Progress
        What is reported to.
    seed : int
        Seed of what leaves the training as it is: distances and the label search.
    chosen : Regularisation or None
        What an earlier fit chose, if this one resumes it.
    """
    device = batch.x.device
    assert batch.y is not None
    train_rows = torch.as_tensor(split[0], device=device)
    known = train_rows[batch.y[train_rows].sum(1) > 0]
    labelled = batch.take(known)

    def beside() -> torch.Generator:
        return torch.Generator(device).manual_seed(seed)

    some = view(batch.at_random(SETTINGS.neighbour_rows, beside()), None)
    radius = params["vat_radius"] * neighbour_distance(module, some)
    settings = candidate_settings(params, chosen, len(labelled))
    regularisation = settings[0]
    if len(settings) > 1:
        search = beside()
        regularisation = choose_setting(
            module,
            view(labelled.rows(0, SETTINGS.most_labels), None),
            view(batch.at_random(SETTINGS.most_rows, search), None),
            settings,
            radius,
            search,
            n_steps=search_steps(plan, len(split[0])),
            progress=progress,
        )
    if progress.interrupted and chosen is None:
        raise KeyboardInterrupt  # nothing has learned of the labels yet
    options = LabelOptions(
        classification_weight=params["classification_weight"]
        or float(module.joint.n_columns),
        consistency_weight=regularisation.consistency_weight,
        vat_radius=radius,
        masking_rate=regularisation.masking_rate,
        total_steps=plan.n_steps(len(split[0])),
    )
    plan = dataclasses.replace(plan, objective=bound_of(module.kind, options))
    history, _ = fit_module(
        module,
        batch,
        split,
        plan,
        generator,
        progress,
        resume=chosen is not None,
        prepare=preparation(module, labelled, view, generator),
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

    ``widths`` are the numbers of inputs and of classes of the classifier, ``module``
    tells what a row of the main stage costs.
    """
    split = split_labels(codes, widths[1], params, random)
    n_rows = len(split[0])
    plan = resolve_plan(params, kind, n_rows, split[1] is not None, is_linear)
    n_labelled = int((codes[split[0]] >= 0).sum())
    n_settings = len(candidate_settings(params, chosen, n_labelled))
    stages = search_stages(n_settings, *widths, search_steps(plan, n_rows))
    main = main_stage(module, plan, n_rows)
    return split, plan, plan_units(main, plan.max_iter, stages)


def split_labels(
    codes: np.ndarray,
    n_classes: int,
    params: Mapping[str, Any],
    random: np.random.RandomState,
    most_rows: int = training.SETTINGS.max_validation_rows,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return row numbers for training and validation (None without).

    Validation rows are labelled ones, a share of every class that leaves at least one
    row of it, and together at most ``most_rows``.
    """
    order = random.permutation(len(codes))
    if not params["early_stopping"]:
        return order, None
    fraction, least = params["validation_fraction"], 1
    if fraction is None:
        fraction = SETTINGS.validation_fraction
        least = training.SETTINGS.min_validation_rows
    n_labelled = max(1, int((codes >= 0).sum()))
    fraction = min(fraction, most_rows / n_labelled)
    parts = []
    for code in range(n_classes):
        rows = order[codes[order] == code]
        parts.append(rows[: min(round(fraction * len(rows)), len(rows) - 1)])
    valid = np.concatenate(parts)
    if len(valid) < least:
        return order, None
    return order[~np.isin(order, valid)], valid


def neighbour_distance(module: LabelledVAE, rows: Batch) -> float:
    """Return the median distance of a row to its nearest neighbour."""
    with torch.inference_mode():
        inputs = module.inputs(rows.x, rows.observed).cpu().numpy()
    if len(inputs) < 2:
        return 0.0
    search = NearestNeighbors(n_neighbors=2).fit(inputs)
    distance = search.kneighbors(inputs)[0][:, 1]
    apart = distance[distance > 0]  # copies of a row have no distance
    return float(np.median(apart)) if len(apart) else 0.0


def candidate_settings(
    params: Mapping[str, Any], chosen: Regularisation | None, n_labelled: int
) -> list[Regularisation]:
    """Return the pairs of masking rate and consistency weight to choose from.

    What is given is in all of them, and what an earlier fit chose stays. Few labels
    leave the usual pair alone.
    """
    rate, weight = params["masking_rate"], params["consistency_weight"]
    options: Sequence[Regularisation] = (SETTINGS.clusters, SETTINGS.rules)
    if chosen is not None:
        options = [chosen]
    elif n_labelled < SETTINGS.least_labels:
        options = [SETTINGS.clusters]
    elif params["objective"] == "shot" and weight == "auto":
        weight = SETTINGS.clusters.consistency_weight
    settings = [
        Regularisation(
            setting.masking_rate if rate == "auto" else float(rate),
            setting.consistency_weight if weight == "auto" else float(weight),
        )
        for setting in options
    ]
    return list(dict.fromkeys(settings))


def search_stages(
    n_settings: int, n_inputs: int, n_classes: int, n_steps: int
) -> list[Stage]:
    """Return the label search as a stage of a fit, if there is one."""
    if n_settings == 1:
        return []
    widths = [n_inputs, *SETTINGS.search_widths, n_classes]
    n_weights = n_settings * SETTINGS.n_folds * sum(a * b for a, b in pairwise(widths))
    return [Stage(STAGE, n_steps, SETTINGS.search_batch * n_weights)]


def search_steps(plan: Plan, n_rows: int) -> int:
    """Return the steps of the label search: no more than those of the fit."""
    return min(SETTINGS.search_steps, plan.n_steps(n_rows))


def resolve_plan(
    params: Mapping[str, Any], kind: str, n_rows: int, held_out: bool, is_linear: bool
) -> Plan:
    """Return the plan of a labelled VAE, whose validation score is log q(y | x).

    Its objective is set when the labels have chosen the regularisation.
    """
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


def bound_of(kind: str, options: LabelOptions) -> Callable[..., Terms]:
    """Return the objective of a kind of labelled VAE; it counts the steps."""
    bound = OBJECTIVES[kind]

    def objective(
        vae: LabelledVAE,
        batch: Batch,
        noise: torch.Tensor,
        *,
        kl_weight: float = 1.0,
        gradient: str = "pathwise",
    ) -> Terms:
        options.step += 1
        return bound(vae, batch, noise, options, kl_weight=kl_weight)

    return objective


def preparation(
    module: LabelledVAE, labelled: Batch, view: View, generator: torch.Generator
) -> Callable[[Batch], Batch]:
    """Return what makes a batch: the view of its rows, noise, and labelled rows."""
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
