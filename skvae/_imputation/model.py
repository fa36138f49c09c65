"""Model of missing cells: a conditional mean, and a VAE of its residuals.

Stage 1 learns the expected value of a cell given the input cells, stage 2 the joint
distribution of the residuals. Both are trained by masking observed cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from .._density import settings as density
from .._density.evidence import evidence, log_jacobian
from .._density.model import (
    FitResult,
    build_module,
    chosen_likelihoods,
    describe,
    fit_module,
    free_scale,
    initial_rows,
    initialise,
    main_stage,
    restore_module,
)
from .._density.rows import ColumnGroups, Encoded
from .._distributions.intervals import INTERVAL_DRAWS
from .._networks.arrays import load_module, to_arrays
from .._networks.batch import Batch, chunked
from .._tables.columns import Column
from .._training.plan import History, Plan, split_rows
from .._training.progress import Progress, plan_units
from .._training.random import Random
from .._training.threads import threads_for
from .build import build_mean, describe_mean, scale_floors
from .cells import CellDistribution, observed_mask, originals
from .conditional_mean import ConditionalMean, Rows
from .em import STAGE as NORMAL
from .em import bounded_iterations
from .fit_mean import limit_epochs, mean_stage, train_conditional_mean
from .masking import has_patterns, training_mask, validation_mask
from .residual_vae import ResidualVAE, describe_paths
from .scales import Scales
from .self_masking import declared_signs, fit_slope
from .settings import SETTINGS, MeanSettings, Settings, choose_mean_settings
from .streams import stream_seed


class ImputationModel:
    """Imputation model: estimates, draws, intervals and densities of cells.

    Parameters
    ----------
    groups : ColumnGroups
        The columns.
    architecture : dict of str to object
        How the conditional VAE is built, in plain values.
    mean_options : dict of str to object
        How the conditional mean is built.
    mean : ConditionalMean
        Expected values of cells.
    module : ResidualVAE
        Distribution of the residuals.
    scales : Scales
        Maps between encoded and original values, and the ranges of cells.
    seed : int
        Seed of the streams that are the same at every call, see ``STREAMS``.
    strategy : {"mean", "median"}
        Point estimate of missing numbers.
    settings : Settings
        Tuning constants.
    """

    def __init__(
        self,
        groups: ColumnGroups,
        architecture: dict[str, Any],
        mean_options: dict[str, Any],
        mean: ConditionalMean,
        module: ResidualVAE,
        scales: Scales,
        seed: int,
        strategy: str,
        settings: Settings = SETTINGS,
    ) -> None:
        self.groups = groups
        self.architecture = architecture
        self.mean_options = mean_options
        self.mean = mean
        self.module = module
        self.scales = scales
        self.seed = seed
        self.strategy = strategy
        self.settings = settings
        #: Slopes of self-masking by column position.
        self.slopes: dict[int, float] = {}

    @classmethod
    def build(
        cls,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        settings: Settings = SETTINGS,
    ) -> ImputationModel:
        """Build both stages; the VAE is initialised at the marginals."""
        columns = data.encoder.columns_
        groups = ColumnGroups(columns)
        layers = params["hidden_layer_sizes"]
        layers = settings.vae_layers if layers is None else layers
        architecture = describe(
            groups, {**params, "hidden_layer_sizes": layers}, len(columns), masked=True
        )
        mean_options = describe_mean(architecture, params, data.values.shape, settings)
        seed, evidence_seed = random.new_seed(), random.new_seed()
        mean = build_mean(architecture, mean_options, seed, settings)
        scales = Scales.fit(
            groups.columns,
            data.values,
            data.observed,
            groups.order,
            settings.range_margin,
        )
        architecture["n_context"] = 0 if mean.ensemble is None else mean.n_context
        architecture["n_pairs"] = settings.node_pairs
        architecture |= describe_paths(groups.joint(), mean, scales.scales, settings)
        module = build_module(ResidualVAE, architecture, seed)
        floors = scale_floors(module.joint, groups.columns, settings.floor_per_gap)
        module.joint.set_floor(floors)
        x, weight = initial_rows(data, groups, random.state)
        initialise(module, x, weight, starts_linear=False)
        return cls(
            groups,
            architecture,
            mean_options,
            mean,
            module,
            scales,
            evidence_seed,
            params["strategy"],
            settings,
        )

    @property
    def is_linear(self) -> bool:
        """Whether the model is the multivariate normal alone, without networks."""
        return self.mean.ensemble is None

    # -- fit ---------------------------------------------------------------------

    def fit(
        self,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        *,
        resume: bool = False,
    ) -> FitResult:
        """Train the conditional mean, then the conditional VAE given its context."""
        self.strategy = params["strategy"]
        signs = self._signs(params)  # raises before any training
        self.to(str(random.generator.device))
        batch = self.batch(data)
        split = split_rows(len(batch), params, random.state)
        plan = Plan.resolve(params, len(split[0]), self.settings.budget, is_linear=True)
        attributes: dict[str, Any] = {}
        if self.is_linear:
            history = self._fit_linear(batch, params, random.generator, progress)
            plan = replace(plan, early_stopping=False, n_iter_no_change=np.inf)
        else:
            n_rows, n_columns = data.values.shape
            settings = choose_mean_settings(n_rows, n_columns, self.settings)
            history, losses = self._fit_networks(
                batch, split, settings, plan, params, random, progress, resume
            )
            attributes["mean_losses_"] = np.array(losses)
        names = [column.name for column in self.groups.columns]
        weights = self.mean.stacking_weights()
        attributes["stacking_weights_"] = dict(zip(names, weights, strict=True))
        slopes = self._fit_slopes(batch, signs)
        attributes["missingness_slopes_"] = {names[k]: b for k, b in slopes.items()}
        # EM starts anew and finds the optimum: no warm start
        return FitResult(history, plan, attributes, restarted=self.is_linear)

    def _fit_networks(
        self,
        batch: Batch,
        split: tuple[np.ndarray, np.ndarray | None],
        settings: MeanSettings,
        plan: Plan,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        resume: bool,
    ) -> tuple[History, list[float]]:
        """Train both stages; return the history of the second, losses of the first."""
        rows, generator = to_rows(batch), random.generator
        settings = limit_epochs(settings, params, len(batch))
        main = main_stage(self.module, plan, len(split[0]))
        stages = [mean_stage(self.mean, settings)]
        progress.open(plan_units(main, plan.max_iter, stages))
        if not resume:
            self._initialise_mean(rows, generator, progress, params["max_iter"])
        self.mean.requires_grad_(True)
        rate = params["learning_rate_init"]
        losses, folds = train_conditional_mean(
            self.mean,
            rows,
            settings,
            rate,
            generator,
            max_iter=params["max_iter"],
            progress=progress,
        )
        self.mean.requires_grad_(False).eval()
        if not resume:
            self.module.initialise_at_mean(self.mean)
        history = self._fit_vae(
            batch.replace(fold=folds), split, plan, random, progress, resume
        )
        if folds is not None:
            self._calibrate(rows._replace(fold=folds), settings, generator)
        self.mean.gaussian.drop_folds()
        return history, losses

    def _fit_linear(
        self,
        batch: Batch,
        params: Mapping[str, Any],
        generator: torch.Generator,
        progress: Progress,
    ) -> History:
        """Fit the normal alone; return a history with EM iterations as epochs."""
        max_iter = params["max_iter"]
        n_iterations = bounded_iterations(self.settings, max_iter)
        progress.open({NORMAL: n_iterations})
        trace = self._initialise_mean(to_rows(batch), generator, progress, max_iter)
        n = len(trace)
        n_latent = self.architecture["n_latent"]
        return History(trace, trace, [0.0] * n, [n_latent] * n, [0.0] * n)

    def _initialise_mean(
        self,
        rows: Rows,
        generator: torch.Generator,
        progress: Progress,
        max_iter: int | None = None,
    ) -> list[float]:
        """Fit the normal, beside networks to some of the rows; return its EM trace."""
        settings, n_inputs = self.settings, len(self.mean.gaussian.mean)
        n_some = int(settings.normal_work / max(1, n_inputs) ** 3)
        n_some = max(n_some, settings.min_normal_rows)
        n_some = min(n_some, settings.max_normal_rows)
        some = rows
        if len(rows.x) > n_some and not self.is_linear:
            order = torch.randperm(
                len(rows.x), generator=generator, device=rows.x.device
            )
            some = rows.take(order[:n_some])
        trace = self.mean.initialise(some, max_iter=max_iter, progress=progress)
        # a stream of its own: the draws do not change the training
        generator = self.cells().generator("parameters")
        with threads_for(len(some.x) * n_inputs**3):
            self.mean.draw_parameters(some, generator)
        return trace

    def _fit_vae(
        self,
        batch: Batch,
        split: tuple[np.ndarray, np.ndarray | None],
        plan: Plan,
        random: Random,
        progress: Progress,
        resume: bool,
    ) -> History:
        """Train the conditional VAE on the masked cells, given the input cells."""
        generator = random.generator
        permuted = has_patterns(observed_mask(batch), self.settings)

        def with_context(some: Batch) -> Batch:
            observed = observed_mask(some)
            mask = training_mask(
                observed, generator, permuted=permuted, settings=self.settings
            )
            with torch.no_grad():
                context = self.mean.context(some.x, originals(some), mask, some.fold)
            return Batch(some.x, observed & ~mask, some.weight, context)

        return fit_module(
            self.module,
            batch,
            split,
            plan,
            generator,
            progress,
            resume=resume,
            prepare=with_context,
            free_scale=free_scale(self.groups.columns, batch),
        )[0]

    def _calibrate(
        self, rows: Rows, settings: MeanSettings, generator: torch.Generator
    ) -> None:
        """Calibrate draws on out-of-fold residuals."""
        assert rows.fold is not None
        held_out = torch.nonzero(rows.fold >= 0)[:, 0]  # in the order of the table
        order = torch.randperm(
            len(held_out), generator=generator, device=held_out.device
        )
        own, n_outputs = self.settings, self.module.joint.n_outputs
        floats_per_row = own.masks_per_row * own.calibration_draws * n_outputs
        affordable = max(1, own.calibration_floats // floats_per_row)
        chosen = held_out[order[: min(own.calibration_rows, affordable)]]
        some = rows.take(chosen.repeat(own.masks_per_row))
        mask = validation_mask(
            some.observed, settings.max_masking_rate, generator, self.settings
        )
        with torch.no_grad():
            c = self.mean.context(some.x, some.x_original, mask, some.fold)
        masked = some.observed & ~mask
        self.module.calibrate(some.x, masked, c, generator, self.settings)

    def _fit_slopes(self, batch: Batch, signs: dict[int, int]) -> dict[int, float]:
        """Return fitted slopes of self-masking by column position."""
        self.slopes = {}
        found = dict.fromkeys(signs, 0.0)
        cells = self.cells()
        generator = cells.generator("slopes")
        some = batch.at_random(self._rows_for_slopes(len(signs)), generator)
        missing, weight = ~observed_mask(some).cpu().numpy(), None
        if some.weight is not None:
            weight = (some.weight / some.weight.mean()).cpu().numpy().astype(float)
        # columns without both kinds of cells tell nothing
        shares = missing.mean(axis=0)
        chosen = [position for position in signs if 0 < shares[position] < 1]
        for position, draws in cells.single_cells(some, chosen, generator):
            cells_missing, sign = missing[:, position], signs[position]
            found[position] = fit_slope(
                draws, cells_missing, sign, weight, self.settings.max_slope
            )
        self.slopes = {place: slope for place, slope in found.items() if slope}
        return found

    def _rows_for_slopes(self, n_slopes: int) -> int:
        """Return the number of rows for the slopes of self-masking."""
        settings = self.settings
        passes = max(1, min(n_slopes, settings.slope_passes))
        floats_per_row = passes * INTERVAL_DRAWS * self.module.joint.n_outputs
        affordable = int(settings.slope_work / floats_per_row)
        least, most = settings.min_slope_rows, settings.self_masking_rows
        return min(max(affordable, least), most)

    def _signs(self, params: Mapping[str, Any]) -> dict[int, int]:
        """Return the declared signs of self-masking by column position."""
        columns = self.groups.columns
        numbers = {columns[place].name: place for place in self.mean.columns.tolist()}
        names = [column.name for column in self.groups.table]
        return declared_signs(params["missingness"], names, numbers)

    # -- use ---------------------------------------------------------------------

    def batch(self, data: Encoded) -> Batch:
        """Return rows on the device of the model, with mask and ``x_original``."""
        batch = self.groups.batch(data, str(self.module.device))
        observed = batch.observed
        if observed is None:
            observed = torch.ones_like(batch.x, dtype=torch.bool)
        x_original = self.scales.rows_to_original(batch.x, observed)
        return Batch(batch.x, observed, batch.weight, x_original=x_original)

    def cells(self) -> CellDistribution:
        """Return the distribution of single cells."""
        return CellDistribution(
            self.mean,
            self.module,
            self.scales,
            self.slopes,
            self.seed,
            max(self.module.widest, *self.mean_options["hidden_layer_sizes"], 0),
            self.settings,
        )

    def estimates(self, data: Encoded) -> np.ndarray:
        """Return point estimates of all cells, encoded rows of the table."""
        return self.groups.restored(self._estimates(self.batch(data)))

    def _estimates(self, batch: Batch) -> np.ndarray:
        # a tilted normal is a normal: its median is its mean
        if self.strategy == "median" and not self.is_linear:
            return self.cells().medians(batch)
        return self.cells().expected(batch)

    def draws(
        self, data: Encoded, n_draws: int, generator: torch.Generator
    ) -> list[np.ndarray]:
        """Return draws of all cells for multiple imputation, ``n_draws`` tables."""
        parts = list(self.cells().tables(self.batch(data), n_draws, generator))
        return [
            self.groups.restored(np.concatenate([x[k] for x in parts]))
            for k in range(n_draws)
        ]

    def intervals(self, data: Encoded, coverage: float) -> list[np.ndarray]:
        """Return lower and upper prediction interval bounds of all cells, two tables.

        Categories without order and booleans have the most probable value in both. The
        columns ``indexed`` hold indices of the values that they repeat.
        """
        batch, ordered = self.batch(data), self.scales.ordered()
        ends = self.cells().intervals(batch, ordered, coverage)
        bounds = np.stack([self._estimates(batch)] * 2)
        bounds[..., ordered] = ends
        return [self.groups.restored(bound) for bound in bounds]

    @property
    def indexed(self) -> list[int]:
        """Columns of the table with bounds that are indices of repeated values."""
        columns = enumerate(self.groups.table)
        return [index for index, column in columns if column.support is not None]

    def log_likelihood(self, data: Encoded) -> np.ndarray:
        """Return log p(observed cells) in original units, (n_rows,)."""
        batch = self.batch(data)
        if self.is_linear:
            scores = self._linear_log_likelihood(batch)
        else:
            scores = self._evidence(batch)
            scores = scores + log_jacobian(self.groups, data.encoder, batch)
        empty = ~observed_mask(batch).any(1).cpu().numpy()
        scores[empty] = 0  # nothing has probability 1
        return scores

    def _linear_log_likelihood(self, batch: Batch) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for chunk in chunked(batch, len(self.mean.gaussian.mean) ** 2):
                mask = observed_mask(chunk)
                cells = self.mean.gaussian_inputs(originals(chunk), mask)
                parts.append(self.mean.gaussian.log_prob(*cells).cpu().numpy())
        # the density is that of x_original
        jacobian = self.scales.log_jacobian(
            batch.x.cpu().numpy(), observed_mask(batch).cpu().numpy()
        )
        return np.concatenate(parts) + jacobian

    def _evidence(self, batch: Batch) -> np.ndarray:
        """Return importance-weighted log p of rows without a context, (n_rows,)."""
        observed = observed_mask(batch)
        with torch.inference_mode():
            nothing = torch.zeros_like(observed[:1])
            c = self.mean.context(batch.x[:1], originals(batch)[:1], nothing)
        rows = Batch(batch.x, observed, None, c.expand(len(batch), -1))
        seed = stream_seed(self.seed, "evidence")
        return evidence(self.module, rows, density.SETTINGS.evidence_draws, seed)

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every column, with the kind of scale chosen."""
        chosen = chosen_likelihoods(self.groups, self.module)
        return dict.fromkeys(chosen, "normal") if self.is_linear else chosen

    # -- state -------------------------------------------------------------------

    def forget_values(self) -> None:
        """Forget values of the table; those of its columns are forgotten by itself."""
        self.scales.forget_values(self.settings.forgotten_step)

    def to(self, device: str) -> None:
        """Move the networks to a device."""
        self.module.to(device)
        self.mean.to(device)

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays, all of them copies."""
        return {
            "architecture": deepcopy(self.architecture),
            "mean_options": deepcopy(self.mean_options),
            "weights": to_arrays(self.module),
            "mean_weights": to_arrays(self.mean),
            "scales": self.scales.to_state(),
            "seed": self.seed,
            "strategy": self.strategy,
            "slopes": {str(place): slope for place, slope in self.slopes.items()},
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], columns: list[Column]
    ) -> ImputationModel:
        """Rebuild the model of ``columns`` from what :meth:`to_state` returned."""
        groups = ColumnGroups(columns)
        architecture = deepcopy(state["architecture"])
        mean_options = deepcopy(state["mean_options"])
        module = restore_module(
            ResidualVAE, architecture, state["weights"], groups.heads
        )
        mean = load_module(
            partial(build_mean, architecture, mean_options),
            state["mean_weights"],
            len(mean_options["hidden_layer_sizes"]),
        )
        scales = Scales.from_state(state["scales"], groups.columns)
        paths = describe_paths(groups.joint(), mean, scales.scales)
        if any(architecture.get(name) != path for name, path in paths.items()):
            raise ValueError("paths of other columns")
        model = cls(
            groups,
            architecture,
            mean_options,
            mean,
            module,
            scales,
            state["seed"],
            state["strategy"],
        )
        model.slopes = {int(place): slope for place, slope in state["slopes"].items()}
        if model.slopes.keys() - range(len(groups.columns)):
            raise ValueError("slopes of other columns")
        return model


def to_rows(batch: Batch) -> Rows:
    """Return the rows of a batch for the conditional mean."""
    weight = batch.x.new_ones(len(batch)) if batch.weight is None else batch.weight
    return Rows(batch.x, originals(batch), observed_mask(batch), weight)
