"""Cross-validation of the classifier's regularisation on the labelled rows.

The best masking rate and consistency weight depend on the table: rules need every cell,
noisy columns do not; where classes are no clusters, consistency misleads. Small
classifiers, one :class:`BatchedMLP`, are each trained without a fold of the labels.
Letters as in :mod:`skvae._semi_supervised.objectives`; a leading dimension counts
candidates or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._networks.batch import Batch
from .._networks.mlp import BatchedMLP
from .._training.optimizer import (
    Adam,
    cosine,
    flatten_parameters,
    minimise,
    non_finite,
)
from .._training.progress import Progress
from .._training.threads import threads_for
from .labelled_vae import LabelledVAE
from .objectives import entropy_and_balance, vat_loss
from .settings import SETTINGS, Regularisation

#: The stage's name in the progress of a fit.
STAGE = "label search"


def choose_regularisation(
    vae: LabelledVAE,
    labelled: Batch,
    rows: Batch,
    candidates: Sequence[Regularisation],
    radius: float,
    generator: torch.Generator,
    *,
    n_steps: int = SETTINGS.search_steps,
    progress: Progress | None = None,
) -> Regularisation:
    """Return the candidate with the lower cross-validated error.

    The first of two stands unless the other gains more than the standard error of the
    difference, or if the search is cut short. The consistency loss is measured on
    ``rows``, labelled or not.
    """
    progress = Progress() if progress is None else progress
    wrong = left_out_errors(
        vae,
        labelled,
        rows,
        candidates,
        radius,
        generator,
        n_steps=n_steps,
        progress=progress,
    )
    if progress.is_over:
        return candidates[0]
    weight = labelled.weight
    weight = torch.ones_like(wrong[0]) if weight is None else weight
    weight = (weight / weight.sum()).to(wrong)
    gain = wrong[0] - wrong[1]
    mean = (gain * weight).sum()
    error = ((gain - mean) * weight).square().sum().sqrt()
    return candidates[1] if mean > error else candidates[0]


def left_out_errors(
    vae: LabelledVAE,
    labelled: Batch,
    rows: Batch,
    candidates: Sequence[Regularisation],
    radius: float,
    generator: torch.Generator,
    *,
    n_steps: int = SETTINGS.search_steps,
    progress: Progress | None = None,
) -> Tensor:
    """Return the cross-validation errors, (candidates, labelled rows), 0 or 1."""
    search = LabelSearch(vae, labelled, rows, candidates, radius, generator)
    search.train(n_steps, Progress() if progress is None else progress)
    return search.errors()


class LabelSearch:
    """Classifiers q(y | x), one for every candidate and left-out fold.

    Parameters
    ----------
    vae : LabelledVAE
        Source of the inputs of a row and of p(y).
    labelled : Batch
        Labelled rows.
    rows : Batch
        Rows for the consistency loss.
    candidates : sequence of Regularisation
        Pairs to compare.
    radius : float
        Length of the adversarial step.
    generator : torch.Generator
        Source of folds, batches and noise.
    """

    def __init__(
        self,
        vae: LabelledVAE,
        labelled: Batch,
        rows: Batch,
        candidates: Sequence[Regularisation],
        radius: float,
        generator: torch.Generator,
    ) -> None:
        assert labelled.y is not None
        self.vae, self.labelled, self.rows = vae, labelled, rows
        self.radius, self.generator = radius, generator
        self.device, self.n_candidates = labelled.x.device, len(candidates)
        self.y = labelled.y
        self.codes = labelled.y.argmax(-1)
        folds = stratified_folds(self.codes, generator)
        own = torch.arange(SETTINGS.n_folds, dtype=torch.long, device=self.device)
        own = own.repeat(self.n_candidates)
        self.is_own = folds == own.unsqueeze(1)  # (networks, rows)
        seen = (~self.is_own).to(labelled.x.dtype)
        self.seen = seen if labelled.weight is None else seen * labelled.weight
        rates = self.y.new_tensor([s.masking_rate for s in candidates])
        self.masking_rates = rates.view(-1, 1, 1)
        weights = [s.consistency_weight for s in candidates]
        self.is_consistent = any(weights)
        weight = self.y.new_tensor(weights)
        self.consistency_weights = weight.repeat_interleave(SETTINGS.n_folds)
        self.networks = self._build()
        self.flat = flatten_parameters(self.networks)
        self.optimizer = Adam(self.flat, SETTINGS.search_learning_rate)

    def _build(self) -> BatchedMLP:
        first = torch.Generator("cpu").manual_seed(self.generator.initial_seed())
        widths = [self.vae.n_row_inputs, *SETTINGS.search_widths, self.vae.n_classes]
        networks = BatchedMLP(
            self.n_candidates * SETTINGS.n_folds, widths, "relu", first
        )
        with torch.no_grad():  # candidates differ by nothing else
            for p in networks.parameters():
                p.copy_(p[: SETTINGS.n_folds].repeat(self.n_candidates, 1, 1))
        return networks.to(self.device)

    def save(self) -> dict[str, Any]:
        """Return the state of the training."""
        return {**self.optimizer.clone(), "generator": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`save` returned."""
        self.optimizer.restore(state)
        self.generator.set_state(state["generator"])

    def train(self, n_steps: int, progress: Progress) -> None:
        """Train all networks side by side; Ctrl-C passes: nothing is found yet."""
        with (
            threads_for(SETTINGS.search_batch * self.flat.numel(), side_by_side=True),
            progress.stage(STAGE, n_steps, self, usable_from=math.inf) as steps,
        ):
            for step in steps:
                rate = cosine(step, n_steps, initial=SETTINGS.search_learning_rate)
                minimise(self._loss(), self.optimizer, rate)
        if not torch.isfinite(self.flat).all():
            raise non_finite(
                "The loss of the search for masking_rate and "
                "consistency_weight became non-finite"
            )

    def _loss(self) -> Tensor:
        some = self.labelled
        index = torch.arange(len(self.y), dtype=torch.long, device=self.device)
        if len(self.y) > SETTINGS.labelled_rows:
            some, index = self._pick(self.labelled, SETTINGS.labelled_rows)
        log_q = F.log_softmax(self.networks(self._masked_inputs(some)), -1)
        log_likelihood = (self.y[index] * log_q).sum(-1)
        weight = self.seen[:, index] / self.seen[:, index].sum(1, keepdim=True)
        loss = -(weight * log_likelihood).sum()
        if self.is_consistent:
            loss = loss + (self.consistency_weights * self._consistency()).sum()
        return loss

    def _consistency(self) -> Tensor:
        """Return the consistency loss of every network on a batch, (networks,)."""
        batch, _ = self._pick(self.rows, SETTINGS.search_batch)
        log_q = F.log_softmax(self.networks(self._masked_inputs(batch)), -1)
        inputs = self.vae.inputs(batch.x, batch.observed)
        noise = torch.empty_like(inputs).normal_(generator=self.generator)
        noise = noise.expand(len(self.seen), -1, -1).clone()
        loss = vat_loss(self.networks, inputs, log_q, noise, self.radius)
        loss = loss + entropy_and_balance(log_q, self.vae.log_prior, batch.weight)
        return loss.mean(-1)

    def _masked_inputs(self, batch: Batch) -> Tensor:
        """Return the masked inputs of every network, (networks, rows, n_inputs)."""
        shape = batch.x.shape
        chance = batch.x.new_empty(shape).uniform_(generator=self.generator)
        kept = chance >= self.masking_rates
        kept = kept if batch.observed is None else kept & batch.observed
        inputs = self.vae.inputs(batch.x.expand(kept.shape), kept)
        return inputs.repeat_interleave(SETTINGS.n_folds, 0)

    def _pick(self, batch: Batch, size: int) -> tuple[Batch, Tensor]:
        index = torch.randint(
            len(batch), (size,), generator=self.generator, device=self.device
        )
        return batch.take(index), index

    @torch.inference_mode()
    def errors(self) -> Tensor:
        """Return the cross-validation errors, (candidates, labelled rows), 0 or 1."""
        inputs = self.vae.inputs(self.labelled.x, self.labelled.observed)
        found = self.networks(inputs).argmax(-1)
        wrong = ((found != self.codes) & self.is_own).view(
            self.n_candidates, SETTINGS.n_folds, -1
        )
        return wrong.any(1).to(self.labelled.x.dtype)


def stratified_folds(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Return the fold of every row, stratified by class."""
    n_rows, device = len(codes), codes.device
    order = torch.randperm(n_rows, generator=generator, device=device)
    order = order[codes[order].argsort(stable=True)]
    folds = torch.empty_like(order)
    place = torch.arange(n_rows, dtype=torch.long, device=device)
    folds[order] = place % SETTINGS.n_folds
    return folds
