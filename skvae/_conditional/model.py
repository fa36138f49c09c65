"""Model of outputs given features: a conditional VAE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._density import settings as density
from .._density.evidence import evidence, log_jacobian
from .._density.linear_start import factor_analysis
from .._density.model import (
    FitResult,
    build_module,
    choose_rows,
    chosen_likelihoods,
    describe,
    fit_module,
    forget_pseudo_inputs,
    free_scale,
    has_gaps,
    initial_cells,
    restore_module,
)
from .._density.rows import ColumnGroups, Encoded, drop_cell_scales
from .._distributions.intervals import (
    INTERVAL_DRAWS,
    interval_draws,
    sorted_quantiles,
)
from .._distributions.noise import RowStream, draw_normal
from .._distributions.predictive import cell_moments, tempered_latents
from .._networks.arrays import check_array, load_module, to_arrays
from .._networks.batch import (
    CACHED_FLOATS,
    INFERENCE_FLOATS,
    Batch,
    rows_at_once,
)
from .._networks.precision import in_double
from .._networks.vae import VAE
from .._tables.columns import Column
from .._tables.transforms import Affine, PiecewiseLinear, moments
from .._training.plan import Plan, split_rows
from .._training.progress import MAIN, Progress
from .._training.random import Random
from .conformal import conformal_scale, interval_levels
from .features import FeatureEmbedding
from .image_vae import ImageVAE
from .outputs import image_shapes
from .ridge import regression
from .settings import SETTINGS


class ConditionalModel:
    """Conditional VAE: distribution of outputs given features.

    Outputs are encoded, (..., n_outputs), unless "in original units" is said.

    Parameters
    ----------
    groups : ColumnGroups
        The outputs.
    features : ColumnGroups
        The features.
    architecture : dict of str to object
        How the module is built, in plain values.
    embedding : FeatureEmbedding
        Embedding of the features as context.
    module : VAE
        The networks.
    seed : int
        Seed of draws that are the same at every call.
    """

    def __init__(
        self,
        groups: ColumnGroups,
        features: ColumnGroups,
        architecture: dict[str, Any],
        embedding: FeatureEmbedding,
        module: VAE,
        seed: int,
    ) -> None:
        self.groups = groups
        self.features = features
        self.architecture = architecture
        self.embedding = embedding
        self.module = module
        self.seed = seed
        #: Conformal scale factors of the outputs around their means.
        self.interval_scale = np.ones(len(groups.table))
        #: Copy of the module in double precision, made on demand.
        self._double: VAE | None = None

    @classmethod
    def build(
        cls,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
    ) -> ConditionalModel:
        """Build the model, initialised at a regression and factors of its residuals."""
        assert data.features is not None
        shapes = image_shapes(
            params["image_shape"],
            data.encoder.columns_,
            data.features.encoder.columns_,
        )
        if not params["early_stopping"]:
            drop_cell_scales(data.encoder.columns_)
        is_image = bool(shapes.get("context_shape"))
        features = feature_groups(data.features.encoder.columns_, shapes)
        embedding = build_embedding(features, masked=has_gaps(data.features))
        cells = features.cells(data.features.values, data.features.observed)
        embedding.fit(cells.x, cells.observed, scale=not is_image)
        groups = ColumnGroups(data.encoder.columns_)
        architecture = describe(
            groups, params, len(groups.order), masked=has_gaps(data)
        )
        architecture |= {"n_context": embedding.n_outputs, **shapes}
        module = build_conditional_vae(architecture, random.new_seed())
        seed = random.new_seed()
        model = cls(groups, features, architecture, embedding, module, seed)
        model._initialise(data, random)
        return model

    def _initialise(self, data: Encoded, random: Random) -> None:
        """Initialise at the marginals, and outputs that are numbers at a regression."""
        module = self.module
        rows = choose_rows(data, random.state)
        x, weight = initial_cells(data, self.groups, rows)
        module.initialise_marginals(x, weight)
        columns, _, slots = module.joint.location_scale_indices()
        if not len(columns) or not self.architecture["linear_path"]:
            return
        assert data.features is not None
        mask = data.features.observed
        cells = self.features.cells(
            data.features.values[rows], None if mask is None else mask[rows]
        )
        c = self.embedding(cells.x, cells.observed).double().numpy()
        intercept, coefficients, residuals = regression(
            c, x[:, columns].double().numpy(), weight[:, columns].numpy() > 0
        )
        loadings, noise = factor_analysis(residuals, module.n_latent)
        with torch.no_grad():
            bias = module.decoder.output.bias
            bias[slots] = torch.from_numpy(intercept).to(bias)
        module.initialise_factor_analysis(
            torch.from_numpy(loadings),
            torch.from_numpy(noise),
            torch.from_numpy(coefficients),
        )

    def fit(
        self,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        *,
        resume: bool = False,
    ) -> FitResult:
        """Train on pairs of features and outputs, and calibrate on validation rows."""
        self.to(str(random.generator.device))  # drops the copy in double precision
        batch = self.batch(data)
        split = split_rows(len(batch), params, random.state)
        plan = Plan.resolve(
            params,
            len(split[0]),
            density.SETTINGS.budget,
            is_linear=self.architecture["linear_path"],
            weight_decay=params["weight_decay"],
        )
        progress.open({MAIN: plan.max_iter})
        history, _ = fit_module(
            self.module,
            batch,
            split,
            plan,
            random.generator,
            progress,
            resume=resume,
            free_scale=free_scale(self.groups.columns, batch),
        )
        self.interval_scale = np.ones(len(self.groups.table))
        if split[1] is not None and not self.is_image:
            held_out = torch.from_numpy(split[1]).to(batch.x.device)
            self._calibrate(batch.take(held_out))
        attributes = {
            "interval_scale_": self.interval_scale,
            "n_outputs_": len(self.groups.table),
        }
        return FitResult(history, plan, attributes)

    def _calibrate(self, held_out: Batch) -> None:
        """Set the conformal scale factors on held-out rows.

        Of numbers with a location and a scale whose map is linear: the mean stays.
        """
        assert held_out.c is not None
        levels = interval_levels()
        bounds = [
            sorted_quantiles(x.cpu().numpy(), levels)
            for x in self._draws(held_out.c, INTERVAL_DRAWS, RowStream(self.seed))
        ]
        lower, upper = np.concatenate(bounds, axis=1)
        mean = self._means(self.module, held_out.c).cpu().numpy()
        residual = held_out.x.cpu().numpy() - mean
        weight = np.ones(len(residual))
        if held_out.weight is not None:
            weight = held_out.weight.cpu().numpy().astype(np.float64)
        columns = self.groups.columns
        for place in self.module.joint.location_scale_indices()[0].tolist():
            if not isinstance(columns[place].map, Affine):
                continue
            rows = np.arange(len(residual))
            if held_out.observed is not None:
                rows = np.flatnonzero(held_out.observed[:, place].cpu().numpy())
            self.interval_scale[self.groups.order[place]] = conformal_scale(
                residual[rows, place],
                (lower - mean)[rows, place],
                (upper - mean)[rows, place],
                weight[rows],
            )

    @property
    def is_image(self) -> bool:
        """Whether the outputs are the pixels of an image."""
        return "image_shape" in self.architecture

    # -- use ---------------------------------------------------------------------

    def contexts(self, features: Encoded) -> Tensor:
        """Return the context of features, (n_rows, n_context)."""
        cells = self.features.cells(features.values, features.observed)
        device = self.module.device
        observed = None if cells.observed is None else cells.observed.to(device)
        with torch.no_grad():
            context: Tensor = self.embedding(cells.x.to(device), observed)
        return context

    def batch(self, data: Encoded) -> Batch:
        """Return outputs and contexts on the device of the model."""
        assert data.features is not None
        batch = self.groups.batch(data, str(self.module.device))
        return batch.replace(c=self.contexts(data.features))

    def moments(
        self, features: Encoded, *, double: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations of all outputs, in original units.

        Categories are codes, with the deviation 0. With ``double`` precision results do
        not depend on which rows are predicted together.
        """
        module, c = self.module, self.contexts(features)
        if double and module.device.type != "mps":
            module, c = self._in_double(), c.double()
        shape = (len(c), len(self.groups.table))
        mean, deviation = np.zeros(shape), np.zeros(shape)
        for index, column in enumerate(self.groups.table):
            if column.constant is not None:
                mean[:, index] = column.constant
        start = 0
        for px in self._decoded(module, c):
            rows = slice(start, start + px.shape[1])
            with torch.inference_mode():
                self._write_moments(px, module, mean[rows], deviation[rows])
            start = rows.stop
        return mean, deviation

    def _in_double(self) -> VAE:
        """Return the module in double precision."""
        if self._double is None:
            self._double = in_double(self.module)
        return self._double

    def _write_moments(
        self, px: Tensor, module: VAE, mean: np.ndarray, deviation: np.ndarray
    ) -> None:
        """Set the moments of rows from their decoder outputs."""
        means, variances = (m.cpu().numpy() for m in cell_moments(module.joint, px))
        nonlinear = {}
        for place, column in enumerate(self.groups.columns):
            index = self.groups.order[place]
            if isinstance(column.map, PiecewiseLinear):
                nonlinear[place] = column.map
                continue
            mean[:, index] = column.map.inverse(means[:, place])
            spread = np.sqrt(variances[:, place].astype(np.float64))
            deviation[:, index] = spread * self.interval_scale[index] * column.map.scale
        n_levels = SETTINGS.n_noise_levels
        levels = (np.arange(n_levels) + 0.5) / n_levels
        for place, map_ in nonlinear.items():
            # points that stand for the noise, (points, draws, rows)
            values = map_.inverse(module.joint.quantiles(px, levels, place))
            index = self.groups.order[place]
            mean[:, index], deviation[:, index] = moments(
                values.reshape(-1, values.shape[-1])
            )

    def _decoded(self, module: VAE, c: Tensor) -> Iterator[Tensor]:
        """Yield decoder outputs of prior draws, (mean_draws, rows, n_outputs)."""
        noise = self._mean_noise(c)
        floats_per_row = self.module.widest * SETTINGS.mean_draws
        for rows in c.split(rows_at_once(floats_per_row, CACHED_FLOATS)):
            with torch.inference_mode():
                z = module.prior(rows).rsample(noise.expand(-1, len(rows), -1))
                px = module.decode(z, rows)
            yield px

    def _mean_noise(self, c: Tensor) -> Tensor:
        """Return draws of N(0, I), the same for every row.

        Antithetic pairs, orthogonal where there are enough of them: averages of
        quadratic functions of normal latents are exact.
        """
        generator = torch.Generator("cpu").manual_seed(self.seed)
        n_pairs, n_noise = SETTINGS.mean_draws // 2, self.module.n_prior_noise
        half = torch.randn(
            n_pairs, n_noise, generator=generator, dtype=torch.float64, device="cpu"
        )
        if n_noise <= n_pairs:
            half = torch.linalg.qr(half).Q * math.sqrt(n_pairs)
        return torch.cat([half, -half]).unsqueeze(1).to(c)

    def _means(self, module: VAE, c: Tensor) -> Tensor:
        """Return the means of the encoded outputs, (rows, columns)."""
        decoded = self._decoded(module, c)
        with torch.inference_mode():
            return torch.cat([cell_moments(module.joint, px)[0] for px in decoded])

    def draws(
        self,
        features: Encoded,
        n_draws: int,
        generator: torch.Generator,
        temperature: float = 1.0,
        add_noise: bool = True,
    ) -> np.ndarray:
        """Return draws of encoded outputs, (n_draws, n_rows, n_columns of the table).

        Raises
        ------
        ValueError
            If the temperature would leave the range of the latent variables.
        """
        latent = self.architecture["latent"]
        if temperature > 1 and latent != "normal":
            raise ValueError(
                f"temperature={temperature!r} would leave the range of latent="
                f"{latent!r}: use at most 1, or latent='normal'."
            )
        c = self.contexts(features)
        parts = [
            x.cpu().numpy()
            for x in self._draws(c, n_draws, generator, temperature, add_noise)
        ]
        draws = np.concatenate(parts, axis=1)
        return np.stack([self.groups.restored(x) for x in draws])

    def _draws(
        self,
        c: Tensor,
        n_draws: int,
        noise: torch.Generator | RowStream,
        temperature: float = 1.0,
        add_noise: bool = True,
    ) -> Iterator[Tensor]:
        """Yield draws of encoded outputs, (n_draws, rows, columns)."""
        vae, scale = self.module, self._encoded_scale(c)
        limit = CACHED_FLOATS if isinstance(noise, RowStream) else INFERENCE_FLOATS
        for rows in c.split(rows_at_once(self.module.widest * n_draws, limit)):
            with torch.inference_mode():
                source = noise.of(rows) if isinstance(noise, RowStream) else noise
                like = rows.new_empty(n_draws, len(rows), vae.n_prior_noise)
                latents = draw_normal(like, source)
                z = tempered_latents(vae.prior(rows), latents, temperature)
                px = vae.decode(z, rows)
                if add_noise:
                    x = vae.joint.sample(px, source, temperature)
                else:
                    x = vae.joint.point_estimate(px)
                if scale is not None:
                    mean = self._means(vae, rows)
                    x = torch.where(scale > 1, mean + scale * (x - mean), x)
            yield x

    def _encoded_scale(self, c: Tensor) -> Tensor | None:
        """Return the scale factors in the order of the heads; None if all are 1."""
        if (self.interval_scale == 1).all():
            return None
        scale = self.interval_scale[self.groups.order]
        return torch.tensor(scale, dtype=c.dtype, device=c.device)

    def intervals(
        self, features: Encoded, coverage: float, *, double: bool
    ) -> list[np.ndarray]:
        """Return lower and upper prediction interval bounds, two encoded tables.

        Categories without order have the most probable value in both.
        """
        n_draws = interval_draws(coverage)
        levels = [(1 - coverage) / 2, (1 + coverage) / 2]
        draws = self._draws(self.contexts(features), n_draws, RowStream(self.seed))
        parts = [sorted_quantiles(x.cpu().numpy(), levels) for x in draws]
        bounds = np.concatenate(parts, axis=1)
        unordered = [
            place
            for place, column in enumerate(self.groups.columns)
            if column.has_categories and column.kind != "ordinal"
        ]
        if unordered:
            modes = self.moments(features, double=double)[0]
            bounds[..., unordered] = modes[:, self.groups.order[unordered]]
        return [self.groups.restored(bound) for bound in bounds]

    def log_likelihood(self, data: Encoded) -> np.ndarray:
        """Return log p(outputs | features) in original units, (n_rows,)."""
        batch = self.batch(data).in_double()
        scores = log_jacobian(self.groups, data.encoder, batch)
        assert batch.c is not None
        scale = self._encoded_scale(batch.c)
        if scale is not None:  # the density of mean + scale * (draw - mean)
            mean = self._means(self._in_double(), batch.c)
            drawn = torch.where(scale > 1, mean + (batch.x - mean) / scale, batch.x)
            batch = batch.replace(x=drawn)
            shrink = -scale.log().expand_as(drawn)
            if batch.observed is not None:
                shrink = shrink * batch.observed
            scores += shrink.sum(1).cpu().numpy()
        n_draws = density.SETTINGS.evidence_draws
        scores += evidence(self.module, batch, n_draws, self.seed, defensive=True)
        if data.observed is not None:
            scores[~data.observed.any(1)] = 0  # nothing has probability 1
        return scores

    def to_original_units(self, encoded: np.ndarray) -> np.ndarray:
        """Return encoded numbers as float64 in original units."""
        units = encoded.astype(np.float64)
        for index, column in enumerate(self.groups.table):
            units[:, index] = column.map.inverse(units[:, index])
            if column.constant is not None:
                units[:, index] = column.constant
        return units

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every output, with the kind of scale chosen."""
        return chosen_likelihoods(self.groups, self.module)

    # -- state -------------------------------------------------------------------

    def forget_values(self) -> None:
        """Forget values of the table; those of its columns are forgotten by itself."""
        forget_pseudo_inputs(self.architecture, self.module)

    def to(self, device: str) -> None:
        """Move the networks to a device."""
        self.module.to(device)
        self.embedding.to(device)
        self._double = None

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays."""
        return {
            "architecture": self.architecture,
            "masked_features": self.embedding.masked,
            "weights": to_arrays(self.module),
            "embedding": to_arrays(self.embedding),
            "seed": self.seed,
            "interval_scale": self.interval_scale,
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        columns: list[Column],
        feature_columns: list[Column],
    ) -> ConditionalModel:
        """Rebuild the model of ``columns`` from what :meth:`to_state` returned."""
        architecture = state["architecture"]
        features = feature_groups(feature_columns, architecture)
        embedding = load_module(
            partial(build_embedding, features, masked=state["masked_features"]),
            state["embedding"],
            n_layers=0,
        )
        groups = ColumnGroups(columns)
        module: VAE = restore_module(
            kind_of_vae(architecture), architecture, state["weights"], groups.heads
        )
        model = cls(groups, features, architecture, embedding, module, state["seed"])
        check_array(state["interval_scale"], (len(columns),), "interval_scale")
        model.interval_scale = state["interval_scale"]
        return model


def feature_groups(columns: list[Column], shapes: Mapping[str, Any]) -> ColumnGroups:
    """Return the feature columns; constant ones are kept if features are pixels."""
    return ColumnGroups(columns, keep_constants=bool(shapes.get("context_shape")))


def build_embedding(features: ColumnGroups, *, masked: bool) -> FeatureEmbedding:
    """Build the feature embedding, on the CPU."""
    return FeatureEmbedding(features.joint(), masked)


def build_conditional_vae(architecture: Mapping[str, Any], seed: int = 0) -> VAE:
    """Build the VAE of outputs given features, on the CPU."""
    return build_module(kind_of_vae(architecture), architecture, seed)


def kind_of_vae(architecture: Mapping[str, Any]) -> type[VAE]:
    """Return the class of the module."""
    return ImageVAE if "image_shape" in architecture else VAE
