"""The model of missing cells: a conditional mean, and a VAE of what it leaves.

Stage 1 learns what a cell is expected to be given the mask ones, stage 2 how cells
vary around that, jointly. Both are learned by hiding observed cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._density.evidence import EVIDENCE_DRAWS, evidence, log_jacobian
from .._density.model import (
    FitResult,
    build_module,
    chosen_likelihoods,
    describe,
    fit_module,
    free_scale,
    initialise,
    main_stage,
    resolve_layers,
    starting_rows,
)
from .._density.rows import ColumnGroups, Encoded, make_joint
from .._distributions.intervals import INTERVAL_DRAWS
from .._distributions.joint import Joint
from .._distributions.location_scale import SCALE_FLOOR
from .._networks.arrays import load_arrays, to_arrays
from .._networks.batch import Batch, chunked
from .._tables.columns import Column
from .._training.plan import Budget, History, Plan, split_rows
from .._training.progress import Progress, Stage, plan_units
from .._training.random import Random
from .cells import CellDistribution, observed_mask, originals
from .conditional_mean import ConditionalMean, Rows
from .fit_mean import STAGE, MeanSettings, choose_mean_settings, train_conditional_mean
from .gaussian import STAGE as NORMAL
from .gaussian import bounded_iterations
from .masking import half_permuted_mask, has_patterns, random_mask, validation_mask
from .residual_vae import ResidualVAE, find_centres
from .scales import Scales
from .self_masking import declared_signs, fit_slope

#: Share of the observed cells that is hidden from the VAE, by row; above 1 for some
#: rows, so that generating a whole row is learned too.
MASK_RANGE = (0.05, 1.1)

#: Layers of the conditional VAE: to say how cells vary takes less than what they are.
VAE_LAYERS = (128, 128)

#: The normal is fitted on so many rows that rows x columns^3 stays below this.
GAUSSIAN_WORK, MAX_GAUSSIAN_ROWS, MIN_GAUSSIAN_ROWS = 1e9, 5_000, 500

#: The least scale of a column that repeats its values, per gap between them: a density
#: on ties knows no bound.
FLOOR_PER_GAP = 0.25

#: Rows that draws are calibrated on, and patterns for each.
CALIBRATION_ROWS, CALIBRATION_PATTERNS = 1_000, 4

#: Rows that the slopes of self-masking are learned from.
MISSINGNESS_ROWS = 2_000


#: The conditional VAE is trained shortly: most of the work is done before it.
BUDGET = Budget(steps=400, epochs=3, patience_steps=200, patience_epochs=2)


class ImputationModel:
    """Expected values, draws, intervals and densities of cells.

    Parameters
    ----------
    groups : ColumnGroups
        The columns.
    architecture : dict of str to object
        How the conditional VAE is built, in plain values.
    mean_options : dict of str to object
        How the conditional mean is built.
    mean : ConditionalMean
        The expected values of cells.
    module : ResidualVAE
        How cells vary around them.
    scales : Scales
        Numbers in the two spaces of the model, and their ranges.
    seed : int
        Seed of draws that are the same at every call.
    strategy : {"mean", "median"}
        The estimate of missing numbers.
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
    ) -> None:
        self.groups = groups
        self.architecture = architecture
        self.mean_options = mean_options
        self.mean = mean
        self.module = module
        self.scales = scales
        self.seed = seed
        self.strategy = strategy
        #: Slopes of self-masking, by place of the column.
        self.slopes: dict[int, float] = {}

    @classmethod
    def build(
        cls, data: Encoded, params: Mapping[str, Any], random: Random
    ) -> ImputationModel:
        """Build both stages; the VAE is initialised at the marginals."""
        columns = data.encoder.columns_
        groups = ColumnGroups(columns)
        layers = params["hidden_layer_sizes"]
        layers = VAE_LAYERS if layers is None else layers
        architecture = describe(
            groups, {**params, "hidden_layer_sizes": layers}, len(columns), masked=True
        )
        mean_options = describe_mean(architecture, params, data.values.shape)
        seed, evidence_seed = random.new_seed(), random.new_seed()
        mean = build_mean(architecture, mean_options, seed)
        scales = Scales.fit(groups.columns, data.values, data.observed, groups.order)
        architecture["n_context"] = 0 if mean.ensemble is None else mean.n_context
        architecture["linear_path"] = True  # initialised at the conditional mean
        centres = find_centres(groups.joint(), mean, scales.scales)
        architecture["centres"] = [list(part) for part in centres]
        module = build_module(ResidualVAE, architecture, seed)
        module.joint.set_floor(scale_floors(module.joint, groups.columns))
        x, weight = starting_rows(data, groups, random.state)
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
        )

    @property
    def is_linear(self) -> bool:
        """Whether the multivariate normal stands alone, without networks."""
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
        """Train the conditional mean, then the conditional VAE in its context."""
        self.strategy = params["strategy"]
        signs = self._signs(data, params)  # refuses what cannot be, before training
        self.to(str(random.generator.device))
        batch = self.batch(data)
        rows = to_rows(batch)
        split = split_rows(len(batch), params, random.state)
        plan = Plan.resolve(params, len(split[0]), BUDGET, is_linear=True)
        if self.is_linear:
            history = self._fit_linear(rows, params, random.generator, progress)
            plan = replace(plan, early_stopping=False, n_iter_no_change=np.inf)
            attributes: dict[str, Any] = {}
        else:
            settings = limit_epochs(
                choose_mean_settings(*data.values.shape), params, len(batch)
            )
            main = main_stage(self.module, plan, len(split[0]))
            stages = [mean_stage(self.mean, settings)]
            progress.open(plan_units(main, plan.max_iter, stages))
            if not resume:
                self._initialise_mean(rows, random.generator, progress)
            losses, folds = self._fit_mean(
                rows, settings, params, random.generator, progress
            )
            if not resume:
                self.module.initialise_at_mean(self.mean)
            history = self._fit_vae(
                batch.replace(fold=folds), split, plan, random, progress, resume
            )
            if folds is not None:
                self._calibrate(rows._replace(fold=folds), settings, random.generator)
            self.mean.gaussian.drop_folds()
            attributes = {"mean_losses_": np.array(losses)}
        names = [column.name for column in self.groups.columns]
        attributes["stacking_weights_"] = dict(
            zip(names, self.mean.stacking_weights(), strict=True)
        )
        slopes = self._fit_slopes(batch, signs)
        attributes["missingness_slopes_"] = {names[k]: b for k, b in slopes.items()}
        # the normal has an optimum, which a fit finds from anywhere
        return FitResult(history, plan, attributes, restarted=self.is_linear)

    def _fit_linear(
        self,
        rows: Rows,
        params: Mapping[str, Any],
        generator: torch.Generator,
        progress: Progress,
    ) -> History:
        """Fit the normal alone; its EM iterations are recorded as epochs."""
        max_iter = params["max_iter"]
        n_iterations = bounded_iterations(self.mean.gaussian.settings, max_iter)
        progress.open({NORMAL: n_iterations})
        trace = self._initialise_mean(rows, generator, progress, max_iter)
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
        """Fit the normal, and draw its parameters; return its EM trace."""
        n_some = int(GAUSSIAN_WORK / max(1, len(self.mean.normal_inputs)) ** 3)
        n_some = min(max(n_some, MIN_GAUSSIAN_ROWS), MAX_GAUSSIAN_ROWS)
        some = rows
        if len(rows.x) > n_some:
            order = torch.randperm(
                len(rows.x), generator=generator, device=rows.x.device
            )
            some = rows.take(order[:n_some])
        trace = self.mean.initialise(some, max_iter=max_iter, progress=progress)
        # a generator of its own: draws leave the training as it is
        self.mean.draw_parameters(some, self.new_generator())
        return trace

    def _fit_mean(
        self,
        rows: Rows,
        settings: MeanSettings,
        params: Mapping[str, Any],
        generator: torch.Generator,
        progress: Progress,
    ) -> tuple[list[float], Tensor | None]:
        """Train the networks; return their losses and who leaves out which row."""
        self.mean.requires_grad_(True)
        losses, folds = train_conditional_mean(
            self.mean,
            rows,
            settings,
            params["learning_rate_init"],
            generator,
            progress=progress,
        )
        self.mean.requires_grad_(False).eval()
        return losses, folds

    def _fit_vae(
        self,
        batch: Batch,
        split: tuple[np.ndarray, np.ndarray | None],
        plan: Plan,
        random: Random,
        progress: Progress,
        resume: bool,
    ) -> History:
        """Train the conditional VAE on the hidden cells, given the mask ones."""
        generator = random.generator
        copies = has_patterns(observed_mask(batch))

        def with_context(some: Batch) -> Batch:
            observed = observed_mask(some)
            mask = random_mask(observed, *MASK_RANGE, generator)
            if copies:
                mask = half_permuted_mask(mask, observed, generator)
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
        chosen = held_out[order[:CALIBRATION_ROWS]]
        some = rows.take(chosen.repeat(CALIBRATION_PATTERNS))
        mask = validation_mask(some.observed, settings.most_masked, generator)
        with torch.no_grad():
            c = self.mean.context(some.x, some.x_original, mask, some.fold)
        self.module.calibrate(some.x, some.observed & ~mask, c, generator)

    def _fit_slopes(self, batch: Batch, signs: dict[int, int]) -> dict[int, float]:
        """Learn how the values of a column decide whether they are missing."""
        self.slopes = {}
        found = {}
        cells = self.cells()
        generator = cells.generator()
        some = batch.at_random(MISSINGNESS_ROWS, generator)
        observed, weight = observed_mask(some), None
        if some.weight is not None:
            weight = (some.weight / some.weight.mean()).cpu().numpy().astype(float)
        for position, sign in signs.items():
            mask = observed.clone()
            mask[:, position] = False
            draws = np.concatenate(
                [
                    self.scales.to_original(x[..., position], position)
                    for _, x in cells.draw(some, INTERVAL_DRAWS, generator, mask)
                ],
                axis=1,
            )
            missing = ~observed[:, position].cpu().numpy()
            found[position] = fit_slope(draws, missing, sign, weight)
        self.slopes = {place: slope for place, slope in found.items() if slope}
        return found

    def _signs(self, data: Encoded, params: Mapping[str, Any]) -> dict[int, int]:
        """Return the declared sign of every column of numbers that masks itself."""
        columns = self.groups.columns
        numbers = {columns[place].name: place for place in self.mean.columns.tolist()}
        names = [column.name for column in self.groups.table]
        labels = data.encoder.schema_.labels
        return declared_signs(params["missingness"], names, numbers, labels)

    # -- use ---------------------------------------------------------------------

    def batch(self, data: Encoded) -> Batch:
        """Return rows on the device of the model, with their mask and their ``x_original``."""
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
        )

    def estimates(self, data: Encoded) -> np.ndarray:
        """Return point estimates of all cells, encoded rows of the table."""
        return self.groups.restored(self._point(self.batch(data)))

    def _point(self, batch: Batch) -> np.ndarray:
        # a tilted normal is one: its median is its mean
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
        """Return lower and upper ends of intervals of all cells, two tables.

        Categories without order and booleans have the most probable value in both.
        """
        batch, ordered = self.batch(data), self.scales.ordered()
        ends = self.cells().intervals(batch, ordered, coverage)
        bounds = np.stack([self._point(batch)] * 2)
        bounds[..., ordered] = ends
        return [self.groups.restored(bound) for bound in bounds]

    def log_likelihood(self, data: Encoded) -> np.ndarray:
        """Return log p(observed cells) in the scales of the table, (n_rows,)."""
        batch = self.batch(data)
        if self.is_linear:
            scores = self._linear_log_likelihood(batch)
        else:
            scores = self._evidence(batch)
            scores = scores + log_jacobian(self.groups, data.encoder, batch)
        scores[~observed_mask(batch).any(1).cpu().numpy()] = (
            0  # nothing has probability 1
        )
        return scores.astype(np.float32)

    def _linear_log_likelihood(self, batch: Batch) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for chunk in chunked(batch, len(self.mean.normal_inputs) ** 2):
                cells = self.mean.gaussian_inputs(
                    originals(chunk), observed_mask(chunk)
                )
                parts.append(self.mean.gaussian.log_prob(*cells).cpu().numpy())
        # of x_original, which is not x everywhere
        jacobian = self.scales.log_jacobian(observed_mask(batch).cpu().numpy())
        return np.concatenate(parts) + jacobian

    def _evidence(self, batch: Batch) -> np.ndarray:
        """Return log p of rows given nothing, importance-weighted, (n_rows,)."""
        observed = observed_mask(batch)
        with torch.inference_mode():
            nothing = torch.zeros_like(observed[:1])
            c = self.mean.context(batch.x[:1], originals(batch)[:1], nothing)
        rows = Batch(batch.x, observed, None, c.expand(len(batch), -1))
        return evidence(self.module, rows, EVIDENCE_DRAWS, self.seed)

    def new_generator(self) -> torch.Generator:
        """Return the generator of draws that are the same at every call."""
        return torch.Generator(self.module.device).manual_seed(self.seed)

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every column, with the kind of scale chosen."""
        chosen = chosen_likelihoods(self.groups, self.module)
        return dict.fromkeys(chosen, "normal") if self.is_linear else chosen

    # -- state -------------------------------------------------------------------

    def to(self, device: str) -> None:
        """Move the networks to a device."""
        self.module.to(device)
        self.mean.to(device)

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays."""
        return {
            "architecture": self.architecture,
            "mean_options": self.mean_options,
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
        architecture, mean_options = state["architecture"], state["mean_options"]
        mean = build_mean(architecture, mean_options)
        load_arrays(mean, state["mean_weights"])
        module = build_module(ResidualVAE, architecture)
        load_arrays(module, state["weights"])
        scales = Scales.from_state(state["scales"], groups.columns)
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
        return model


def describe_mean(
    architecture: Mapping[str, Any], params: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return how the conditional mean of a table of this shape is built."""
    layers = params["hidden_layer_sizes"]
    settings = choose_mean_settings(*shape)
    layers = settings.hidden_layer_sizes if layers is None else resolve_layers(layers)
    if not layers and not make_joint(architecture["heads"]).is_numeric:
        raise ValueError(
            "hidden_layer_sizes=() is the linear model, a multivariate normal, and "
            "takes numeric columns only: encode the others, or give "
            "hidden_layer_sizes at least one layer."
        )
    return {
        "hidden_layer_sizes": list(layers),
        "n_members": settings.n_members,
        "widest_normal": settings.widest_normal,
    }


def build_mean(
    architecture: Mapping[str, Any], options: Mapping[str, Any], seed: int = 0
) -> ConditionalMean:
    """Build the conditional mean that goes with ``architecture``, on the CPU."""
    joint = Joint([head.point_head() for head in make_joint(architecture["heads"])])
    return ConditionalMean(
        joint,
        activation=architecture["activation"],
        generator=torch.Generator().manual_seed(seed),
        **options,
    ).float()


def limit_epochs(
    settings: MeanSettings, params: Mapping[str, Any], n_rows: int
) -> MeanSettings:
    """Return the settings of the mean with at most ``max_iter`` epochs."""
    if params["max_iter"] is None:
        return settings
    most = params["max_iter"] * max(1, n_rows // settings.batch_size)
    return replace(settings, n_steps=min(settings.n_steps, most))


def mean_stage(mean: ConditionalMean, settings: MeanSettings) -> Stage:
    """Return what the training of the mean costs.

    For every row each weight is used, and a matrix of the normal is factorised.
    """
    n_weights = (
        sum(p.numel() for p in mean.parameters()) + len(mean.normal_inputs) ** 3 // 3
    )
    return Stage(STAGE, settings.n_steps, settings.batch_size * n_weights)


def to_rows(batch: Batch) -> Rows:
    """Return rows with all their parts, as the conditional mean takes them."""
    weight = batch.x.new_ones(len(batch)) if batch.weight is None else batch.weight
    return Rows(batch.x, originals(batch), observed_mask(batch), weight)


def scale_floors(joint: Joint, columns: list[Column]) -> Tensor:
    """Return the least scales: a share of the gaps between repeated values."""
    places, _, _ = joint.location_scale_indices()
    floors = torch.full((len(places),), SCALE_FLOOR)
    for slot, place in enumerate(places.tolist()):
        column = columns[place]
        if column.support is not None:
            gaps = np.diff(column.map.forward(column.support))
            floors[slot] = max(SCALE_FLOOR, FLOOR_PER_GAP * float(np.median(gaps)))
    return floors
