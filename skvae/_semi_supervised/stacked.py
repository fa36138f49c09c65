"""M1 + M2: a model of labels on the latent variables of a model of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._density.evidence import log_jacobian, posterior_means, score_with_gaps
from .._density.model import (
    FitResult,
    VAEModel,
    build_module,
    fit_module,
    restore_module,
)
from .._density.rows import Encoded
from .._networks.arrays import check_array, to_arrays
from .._networks.batch import Batch
from .._networks.precision import in_double
from .._networks.vae import VAE
from .._tables.columns import Column
from .._tables.repeated_values import cut_into_values
from .._training.plan import Plan, split_rows
from .._training.progress import Progress
from .._training.random import Random
from .fit_labels import fit_labelled_vae, plan_labels
from .labelled_vae import LabelledVAE
from .model import (
    LabelledModel,
    averaged_evidence,
    class_limits,
    class_shares,
    decode_class,
    evidence_noise,
    in_chunks,
    label_attributes,
    label_state,
    labelled_batch,
    latents_of_class,
    probabilities,
    set_class_prior,
    set_label_state,
)
from .objectives import log_evidence
from .settings import SETTINGS, Regularisation

#: The stage of M1 in the progress of a fit.
M1 = "epoch of M1"


class M1M2Model:
    """M2 on the latent variables of M1, drawn anew at every step.

    Parameters
    ----------
    density : VAEModel
        M1, a model without labels.
    module : LabelledVAE or None
        M2; None until M1 is trained.
    active : ndarray of bool of shape (n_components,) or None
        The latent variables of M1 that M2 models.

    References
    ----------
    Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised Learning with Deep
    Generative Models, section 2.
    """

    kind = "m1+m2"

    def __init__(
        self,
        density: VAEModel,
        module: LabelledVAE | None = None,
        active: np.ndarray | None = None,
    ) -> None:
        self.density = density
        self.groups, self.seed = density.groups, density.seed
        self.architecture = density.architecture
        self.module: Any = module
        self.active = active
        self.label_architecture: dict[str, Any] = {}
        self.input_scale = np.ones(len(self.groups.table))
        self.class_prior: np.ndarray | None = None
        self.regularisation: Regularisation | None = None
        self.limits: dict[int, np.ndarray] = {}

    @classmethod
    def build(
        cls, data: Encoded, params: Mapping[str, Any], random: Random
    ) -> M1M2Model:
        """Build M1; M2 is built after the training of M1."""
        return cls(VAEModel.build(data, params, random, scored=False))

    def fit(
        self,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        *,
        resume: bool = False,
    ) -> FitResult:
        """Train M1 on the rows, then M2 on its active latents."""
        assert data.codes is not None and data.classes is not None
        batch = labelled_batch(self.groups, data, str(random.generator.device))
        features = {**params, "objective": "elbo"}
        own_split = split_rows(len(batch), features, random.state)
        is_linear = self.architecture["linear_path"]
        own_plan = Plan.resolve(
            features, len(own_split[0]), SETTINGS.budget, is_linear=is_linear
        )
        seed = None if resume else random.new_seed()
        chosen = self.regularisation if resume else None
        n_classes, n_latent = len(data.classes), self.architecture["n_latent"]
        split, plan, units = plan_labels(
            self.density.module,
            data.codes,
            params,
            random.state,
            chosen,
            kind="m2",
            widths=(n_latent, n_classes),
            is_linear=is_linear,
        )
        progress.open({M1: own_plan.max_iter, **units})
        self.density.to(batch.x.device)
        fit_module(
            self.density.module,
            batch.replace(y=None),
            own_split,
            own_plan,
            random.generator,
            progress,
            stage=M1,
            resume=resume,
            usable_from=math.inf,  # without an M2 on these latents there are no labels
        )
        if seed is None:
            self.module.to(batch.x.device)
        else:
            self._build_labelled(batch, n_classes, seed)
            self.class_prior = class_shares(data)
            set_class_prior(self.module, self.class_prior)
        fit = fit_labelled_vae(
            self.module,
            batch,
            split,
            plan,
            self._view,
            params,
            random.generator,
            progress,
            seed=self.seed,
            chosen=chosen,
        )
        self.regularisation = fit.regularisation
        self.limits = class_limits(self)
        return FitResult(fit.history, fit.plan, label_attributes(self, fit, data))

    def _build_labelled(self, batch: Batch, n_classes: int, seed: int) -> None:
        """Build M2 on the active latents, initialised at their marginals."""
        means = posterior_means(self.density.module, batch)
        latents = torch.from_numpy(means).to(batch.x.device)
        deviation = latents.std(0, correction=0)
        active = deviation > SETTINGS.min_deviation
        if not active.any():
            active = deviation >= deviation.max()
        self.active = active.cpu().numpy()
        self.label_architecture = {
            "heads": [list(head) for head in heads_of_latents(self.active)],
            "n_latent": self.architecture["n_latent"],
            "hidden_layer_sizes": self.architecture["hidden_layer_sizes"],
            "activation": self.architecture["activation"],
            "linear_path": True,
            "n_classes": n_classes,
            "kind": "m2",
        }
        self.module = build_module(LabelledVAE, self.label_architecture, seed)
        start = latents[:, active].cpu()
        self.module.initialise_marginals(start, torch.ones_like(start))
        self.module.to(batch.x.device)

    def _view(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,
        *,
        vae: VAE | None = None,
    ) -> Batch:
        """Return the input of M2: latents of M1, drawn, or means of q(z | x).

        ``vae`` is a copy of M1 in the precision of the rows.
        """
        vae = self.density.module if vae is None else vae
        with torch.no_grad():
            qz = vae.encode(batch.x, batch.observed)
            z = qz.mean
            if generator is not None:
                z = qz.rsample(torch.empty_like(z).normal_(generator=generator))
        return batch.replace(x=z[:, self._seen(z)], observed=None)

    def _seen(self, like: Tensor) -> Tensor:
        """Return the mask of the latents that M2 models, on the device."""
        return torch.from_numpy(self.active).to(like.device)

    # -- use ---------------------------------------------------------------------

    def probabilities(self, data: Encoded) -> np.ndarray:
        """Return q(y | x), (n_rows, n_classes), float32."""
        batch = self.density.batch(data)
        features = in_double(self.density.module)
        view = partial(self._view, vae=features)
        return probabilities(self.module, batch, view, features.widest)

    def means(self, data: Encoded) -> np.ndarray:
        """Return E[z | x] of M1, which does not depend on labels."""
        return self.density.means(data)

    def log_likelihood(self, data: Encoded) -> np.ndarray:
        """Return log p(x), the label summed out, in the units of the table."""
        batch = self.density.batch(data)
        logs = score_with_gaps(batch, self._evidence)
        return logs + log_jacobian(self.groups, data.encoder, batch)

    def _evidence(self, batch: Batch, with_gaps: bool) -> np.ndarray:
        """Return log p of encoded rows; that of rows with gaps is a looser bound."""
        features, labelled = in_double(self.density.module), in_double(self.module)
        noise, outer, _ = evidence_noise(
            self.module, batch, self.seed, features.n_latent
        )
        return averaged_evidence(
            batch,
            lambda chunk: self._log_weights(features, labelled, chunk, outer, noise),
            features.widest * self.module.n_classes,
        )

    def _log_weights(
        self,
        features: VAE,
        labelled: LabelledVAE,
        chunk: Batch,
        outer: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Return log p̂(x) for every draw of M1's latents, (K, rows).

        One draw of M2's latents for each of M1's keeps the estimate unbiased.
        """
        qz = features.encode(chunk.x, chunk.observed)
        z = qz.rsample(outer)
        px = features.decode(z)
        log_p = features.joint.log_prob(px, chunk.x, chunk.observed)
        active = self._seen(z)
        unused = z[..., ~active]  # M2 does not see these: their prior is M1's
        log_unused = features.prior().log_prob(unused)
        shape = (*z.shape[:-1], noise.shape[-1])
        log_prior = log_evidence(
            labelled,
            z[..., active].flatten(0, 1),
            None,
            noise.expand(shape).reshape(1, -1, noise.shape[-1]),
        )
        log_prior = log_prior[0].view(z.shape[:-1]) + log_unused
        return log_p + log_prior - qz.log_prob(z)

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
        features, labelled = self.density.module, self.module

        def sampled(part: Tensor) -> Tensor:
            own = latents_of_class(labelled, part, generator)
            px = decode_class(labelled, own, part)
            found = labelled.joint.sample(px, generator)
            z = found.new_empty(len(found), features.n_latent)
            z.normal_(generator=generator)  # of the latents that M2 does not model
            z[:, self._seen(z)] = found
            return features.joint.sample(features.decode(z), generator)

        return in_chunks(sampled, codes, features)

    def decode(self, z: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the decoders' means and most probable categories, encoded rows."""
        features, labelled = self.density.module, self.module

        def decoded(own: Tensor, part: Tensor) -> Tensor:
            found = labelled.joint.point_estimate(decode_class(labelled, own, part))
            latents = found.new_zeros(len(found), features.n_latent)
            latents[:, self._seen(latents)] = found
            return features.joint.point_estimate(features.decode(latents))

        latents = torch.from_numpy(z).to(features.device)
        return self.groups.restored(in_chunks(decoded, codes, features, latents))

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every column."""
        return self.density.likelihoods()

    # -- state -------------------------------------------------------------------

    def forget_values(self) -> None:
        """Forget values of the table; those of its columns are forgotten by itself."""
        self.density.forget_values()
        self.limits = {}

    def to(self, device: str) -> None:
        """Move the networks to a device."""
        self.density.to(device)
        self.module.to(device)

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays."""
        return {
            "kind": self.kind,
            "density": self.density.to_state(),
            "architecture": self.label_architecture,
            "weights": to_arrays(self.module),
            "active": self.active,
            **label_state(self),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], columns: list[Column]) -> M1M2Model:
        """Rebuild the model of ``columns`` from what :meth:`to_state` returned."""
        density = VAEModel.from_state(state["density"], columns)
        active, architecture = state["active"], state["architecture"]
        check_array(active, (density.architecture["n_latent"],), "active", "bool")
        heads = heads_of_latents(active)
        module = restore_module(LabelledVAE, architecture, state["weights"], heads)
        model = cls(density, module, active)
        model.label_architecture = architecture
        set_label_state(model, state)
        return model


def heads_of_latents(active: np.ndarray) -> list[tuple[str, int, int]]:
    """Return the heads of M2, whose columns are the active latent variables."""
    return [("normal", int(active.sum()), 0)]


def labels_from_state(
    state: Mapping[str, Any], columns: list[Column]
) -> LabelledModel | M1M2Model:
    """Rebuild a model of labels, stacked or not, from its state."""
    kind = M1M2Model if state["kind"] == M1M2Model.kind else LabelledModel
    return kind.from_state(state, columns)
