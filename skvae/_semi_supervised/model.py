"""Model of rows and labels: a VAE with a classifier q(y | x)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .._density.evidence import log_jacobian, score_with_gaps
from .._density.model import (
    FitResult,
    build_module,
    chosen_likelihoods,
    describe,
    has_gaps,
    initial_rows,
    initialise,
    limits_of,
    restore_module,
)
from .._density.rows import ColumnGroups, Encoded, drop_cell_scales
from .._networks.arrays import check_array, to_arrays
from .._networks.batch import Batch, map_chunks, rows_at_once
from .._networks.precision import doubled, in_double
from .._tables.columns import Column
from .._tables.repeated_values import (
    cut_into_values,
    cut_points_of_values,
    relative_deviations,
)
from .._training.progress import Progress
from .._training.random import Random
from .fit_labels import LabelFit, View, fit_labelled_vae, identity_view, plan_labels
from .labelled_vae import LabelledVAE
from .objectives import log_evidence
from .settings import SETTINGS, Regularisation


class LabelledModel:
    """Labelled VAE of a table: classes, latents, density and generator of its rows.

    Parameters
    ----------
    groups : ColumnGroups
        The columns.
    architecture : dict of str to object
        How the module is built, in plain values.
    module : LabelledVAE
        The networks.
    seed : int
        Seed of draws that are the same at every call.
    input_scale : ndarray of shape (n_columns of the table,)
        Standard deviation of each column at the input of encoder and classifier.
    """

    def __init__(
        self,
        groups: ColumnGroups,
        architecture: dict[str, Any],
        module: LabelledVAE,
        seed: int,
        input_scale: np.ndarray,
    ) -> None:
        self.groups = groups
        self.architecture = architecture
        self.module = module
        self.seed = seed
        self.input_scale = input_scale
        #: p(y), the class shares of the labelled rows.
        self.class_prior: np.ndarray | None = None
        #: Masking rate and consistency weight, chosen or given.
        self.regularisation: Regularisation | None = None
        #: Cut points that map draws to repeated values, by column index.
        self.limits: dict[int, np.ndarray] = {}

    @classmethod
    def build(
        cls, data: Encoded, params: Mapping[str, Any], random: Random
    ) -> LabelledModel:
        """Build the model of a table with labels."""
        columns = data.encoder.columns_
        drop_cell_scales(columns)  # validation goes by labels, not by scales
        groups = ColumnGroups(columns)
        architecture = describe(groups, params, len(columns), masked=has_gaps(data))
        objective = params["objective"]
        # latents that explain the classes at once leave the label without effect
        starts_linear = objective == "m1" and architecture["linear_path"]
        assert data.classes is not None
        architecture |= {"n_classes": len(data.classes), "kind": objective}
        module = build_module(LabelledVAE, architecture, random.new_seed())
        seed = random.new_seed()
        x, weight = initial_rows(data, groups, random.state)
        initialise(module, x, weight, starts_linear=starts_linear)
        input_scale = np.ones(len(columns))
        # the classifier of "m1" sees latents, which have no such unit
        if params["numeric_transform"] == "auto" and objective != "m1":
            spreads = relative_deviations(groups.columns)
            input_scale[groups.order] = spreads
            module.scale_inputs(torch.from_numpy(spreads))
        return cls(groups, architecture, module, seed, input_scale)

    @property
    def kind(self) -> str:
        """Objective of the model."""
        return self.module.kind

    def fit(
        self,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        *,
        resume: bool = False,
    ) -> FitResult:
        """Train the classifier and the VAE."""
        assert data.codes is not None
        batch = labelled_batch(self.groups, data, str(random.generator.device))
        self.module.to(batch.x.device)
        if not resume:
            self.class_prior = class_shares(data)
            set_class_prior(self.module, self.class_prior)
        chosen = self.regularisation if resume else None
        module = self.module
        split, plan, units = plan_labels(
            module,
            data.codes,
            params,
            random.state,
            chosen,
            kind=self.kind,
            widths=(module.n_row_inputs, module.n_classes),
            is_linear=self.architecture["linear_path"],
        )
        progress.open(units)
        fit = fit_labelled_vae(
            module,
            batch,
            split,
            plan,
            identity_view,
            params,
            random.generator,
            progress,
            seed=self.seed,
            chosen=chosen,
        )
        self.regularisation = fit.regularisation
        self.limits = class_limits(self)
        return FitResult(fit.history, fit.plan, label_attributes(self, fit, data))

    # -- use ---------------------------------------------------------------------

    def probabilities(self, data: Encoded) -> np.ndarray:
        """Return q(y | x), (n_rows, n_classes), float32."""
        batch = self.groups.batch(data, str(self.module.device))
        return probabilities(self.module, batch, identity_view, self.module.widest)

    def means(self, data: Encoded) -> np.ndarray:
        """Return E[z | x], averaged over q(y | x) where it depends on the label."""
        batch = self.groups.batch(data, str(self.module.device))
        module = in_double(self.module)

        def mean(chunk: Batch) -> Tensor:
            inputs = module.inputs(chunk.x, chunk.observed)
            loc = module.encode_every_label(inputs).mean
            if len(loc) == 1:
                return loc[0].float()
            q = F.softmax(module.logits(inputs), -1).t().unsqueeze(-1)
            return (q * loc).sum(0).float()

        return map_chunks(mean, batch, module.widest * module.n_classes)

    def log_likelihood(self, data: Encoded) -> np.ndarray:
        """Return log p(x), the label summed out, in the units of the table."""
        batch = self.groups.batch(data, str(self.module.device))
        logs = score_with_gaps(batch, self._evidence)
        return logs + log_jacobian(self.groups, data.encoder, batch)

    def _evidence(self, batch: Batch, with_gaps: bool) -> np.ndarray:
        module = in_double(self.module)
        noise, _, of_prior = evidence_noise(module, batch, self.seed, module.n_latent)

        def score(chunk: Batch) -> Tensor:
            prior = of_prior if with_gaps else None
            return log_evidence(module, chunk.x, chunk.observed, noise, prior)

        return averaged_evidence(batch, score, module.widest * module.n_classes)

    def sample(self, codes: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Return draws of encoded rows of the given classes.

        The columns ``indexed`` hold indices of the values that they repeat.
        """
        rows = self.draw(codes, generator)
        cut_into_values(rows, self.limits)
        return self.groups.restored(rows)

    @property
    def indexed(self) -> list[int]:
        """Columns of the table whose draws are indices of repeated values."""
        return self.groups.order[list(self.limits)].tolist()

    def draw(self, codes: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Draw encoded rows in the order of the heads."""
        module = self.module

        def sampled(part: Tensor) -> Tensor:
            z = latents_of_class(module, part, generator)
            return module.joint.sample(decode_class(module, z, part), generator)

        return in_chunks(sampled, codes, module)

    def decode(self, z: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the decoder's means and most probable categories, encoded rows."""
        module = self.module

        def decoded(latents: Tensor, part: Tensor) -> Tensor:
            return module.joint.point_estimate(decode_class(module, latents, part))

        latents = torch.from_numpy(z).to(module.device)
        return self.groups.restored(in_chunks(decoded, codes, module, latents))

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every column."""
        return chosen_likelihoods(self.groups, self.module)

    # -- state -------------------------------------------------------------------

    def forget_values(self) -> None:
        """Forget values of the table; those of its columns are forgotten by itself."""
        self.limits = {}

    def to(self, device: str) -> None:
        """Move the networks to a device."""
        self.module.to(device)

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays."""
        return {
            "kind": self.kind,
            "architecture": self.architecture,
            "weights": to_arrays(self.module),
            "seed": self.seed,
            "input_scale": self.input_scale,
            **label_state(self),
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], columns: list[Column]
    ) -> LabelledModel:
        """Rebuild the model of ``columns`` from what :meth:`to_state` returned."""
        groups, architecture = ColumnGroups(columns), state["architecture"]
        module = restore_module(
            LabelledVAE, architecture, state["weights"], groups.heads
        )
        check_array(state["input_scale"], (len(columns),), "input_scale")
        model = cls(groups, architecture, module, state["seed"], state["input_scale"])
        set_label_state(model, state)
        return model


# -- what the stacked model shares ---------------------------------------------------


def labelled_batch(groups: ColumnGroups, data: Encoded, device: str) -> Batch:
    """Return rows on the device with their labels one-hot, zero where unknown."""
    assert data.classes is not None and data.codes is not None
    n_classes = len(data.classes)
    labels = torch.from_numpy(np.where(data.codes < 0, n_classes, data.codes))
    y = F.one_hot(labels, n_classes + 1)[:, :n_classes].float()
    return groups.batch(data, device).replace(y=y.to(device))


def class_shares(data: Encoded) -> np.ndarray:
    """Return the shares of the classes among the labelled rows, by weight."""
    assert data.classes is not None and data.codes is not None
    known = data.codes >= 0
    weights = np.ones(len(data)) if data.weight is None else data.weight
    shares = np.bincount(data.codes[known], weights[known], minlength=len(data.classes))
    return shares / shares.sum()


def set_class_prior(module: LabelledVAE, shares: np.ndarray) -> None:
    """Set p(y) of the module."""
    module.log_prior.copy_(torch.from_numpy(shares).to(module.log_prior).log())


def label_attributes(model: Any, fit: LabelFit, data: Encoded) -> dict[str, Any]:
    """Return the fitted attributes that concern labels."""
    assert data.codes is not None
    return {
        "classes_": data.classes,
        "class_prior_": model.class_prior,
        "n_labelled_": int((data.codes >= 0).sum()),
        "masking_rate_": float(fit.regularisation.masking_rate),
        "consistency_weight_": float(fit.regularisation.consistency_weight),
        "early_stopping_": fit.plan.early_stopping,
        "input_scale_": model.input_scale,
    }


def class_limits(model: Any) -> dict[int, np.ndarray]:
    """Return cut points that map draws of all classes to repeated values."""
    random = np.random.RandomState(model.seed)

    def draw(n_rows: int) -> np.ndarray:
        shares = model.class_prior
        codes = random.choice(len(shares), n_rows, p=shares)
        seed = int(random.randint(2**31 - 1))
        generator = torch.Generator(model.module.device).manual_seed(seed)
        drawn: np.ndarray = model.draw(codes, generator)
        return drawn

    return cut_points_of_values(model.groups.columns, draw)


def label_state(model: Any) -> dict[str, Any]:
    """Return the plain state that both models of labels share."""
    return {
        "class_prior": model.class_prior,
        "regularisation": list(model.regularisation),
        "limits": {str(place): cuts for place, cuts in model.limits.items()},
    }


def set_label_state(model: Any, state: Mapping[str, Any]) -> None:
    """Set what :func:`label_state` returned."""
    check_array(state["class_prior"], (model.module.n_classes,), "class_prior")
    model.class_prior = state["class_prior"]
    model.regularisation = Regularisation(*state["regularisation"])
    model.limits = limits_of(state, model.groups)


def probabilities(
    module: LabelledVAE, batch: Batch, view: View, widest: int
) -> np.ndarray:
    """Return q(y | x) of rows, (n_rows, n_classes), float32."""
    module = in_double(module)

    def proba(chunk: Batch) -> Tensor:
        rows = view(chunk, None)
        logits = module.logits(module.inputs(rows.x, rows.observed))
        return F.softmax(logits, -1).float()

    return map_chunks(proba, batch, widest * module.n_classes)


def evidence_noise(
    module: LabelledVAE, batch: Batch, seed: int, n_outer: int
) -> Iterator[Tensor]:
    """Yield noise of q(z | x, y), of outer latents and of the prior, float64.

    It is the same for every row: a row's score depends on no other row.
    """
    generator = torch.Generator(batch.x.device).manual_seed(seed)
    for width in (module.n_noise, n_outer, module.n_prior_noise):
        noise = batch.x.new_empty(SETTINGS.evidence_draws, 1, width)
        yield doubled(noise.normal_(generator=generator))


def averaged_evidence(
    batch: Batch, score: Callable[[Batch], Tensor], floats_per_draw: int
) -> np.ndarray:
    """Return the log mean over draws of the importance weights, (n_rows,)."""

    def mean(chunk: Batch) -> Tensor:
        log_p = score(chunk)
        return torch.logsumexp(log_p, 0) - math.log(len(log_p))

    return map_chunks(mean, batch, 2 * SETTINGS.evidence_draws * floats_per_draw)


def in_chunks(
    function: Callable[..., Tensor], codes: np.ndarray, module: Any, *rows: Tensor
) -> np.ndarray:
    """Return ``function(*rows, codes)``, evaluated in chunks of rows."""
    labels = torch.from_numpy(codes).to(module.device)
    step = rows_at_once(4 * module.widest)
    with torch.inference_mode():
        parts = [
            function(*parts).cpu()
            for parts in zip(
                *(part.split(step) for part in (*rows, labels)), strict=True
            )
        ]
    return torch.cat(parts).numpy()


def decode_class(module: LabelledVAE, z: Tensor, codes: Tensor) -> Tensor:
    """Return decoder outputs of latents and classes, of latents alone for "m1"."""
    if module.kind == "m1":
        return module.decode(z)
    return module.decode(z, F.one_hot(codes, module.n_classes).to(z.dtype))


def latents_of_class(
    module: LabelledVAE, codes: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw latents for rows of given classes, (rows, n_latent).

    "m1" has no decoder for each class: its latents are resampled from candidates of the
    prior by the classifier's probability of the class.
    """
    n_candidates = len(codes)
    if module.kind == "m1":
        n_candidates = SETTINGS.candidates_per_row * len(codes)
        n_candidates = max(SETTINGS.min_candidates, n_candidates)
        n_candidates = min(n_candidates, SETTINGS.max_candidates)
    noise = module.log_prior.new_empty(n_candidates, module.n_prior_noise)
    candidates = module.prior().rsample(noise.normal_(generator=generator))
    if module.kind != "m1":
        return candidates
    q = F.softmax(module.classifier(candidates), -1)
    z = candidates.new_empty(len(codes), module.n_latent)
    for code in range(module.n_classes):
        places = torch.nonzero(codes == code)[:, 0]
        if len(places):
            chance = q[:, code].clamp(min=1e-30)
            drawn = torch.multinomial(
                chance, len(places), replacement=True, generator=generator
            )
            z[places] = candidates[drawn]
    return z
