"""Model of a table: a VAE of its columns.

What the other models need of it are functions: how a module is described by columns
and parameters, built, initialised at a linear model and trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from .._distributions.families import check_support, resolve_prior
from .._distributions.registry import with_scale_per_column
from .._networks.arrays import load_module, to_arrays
from .._networks.batch import Batch, chunked
from .._networks.vae import VAE
from .._tables.columns import Column
from .._tables.repeated_values import (
    check_cut_points,
    cut_into_values,
    cut_points_of_values,
)
from .._training.loop import train
from .._training.plan import History, Plan, split_rows
from .._training.progress import MAIN, Progress, Stage
from .._training.random import Random
from .evidence import (
    decoded,
    evidence,
    log_jacobian,
    posterior_means,
    score_with_gaps,
)
from .linear_start import factor_analysis
from .rows import ColumnGroups, Encoded, drop_cell_scales, make_joint
from .settings import SETTINGS

Module = TypeVar("Module", bound=VAE)


class FitResult(NamedTuple):
    """Result of a fit: training history, plan, fitted attributes."""

    history: History
    plan: Plan
    attributes: dict[str, Any]  # of the estimator, by name
    restarted: bool = False  # whether nothing of the fit to be resumed was kept


class VAEModel:
    """VAE of a table: posterior, density and generator of its rows.

    Parameters
    ----------
    groups : ColumnGroups
        The columns.
    architecture : dict of str to object
        How the module is built, in plain values.
    module : VAE
        The networks.
    seed : int
        Seed of draws that are the same at every call.
    """

    def __init__(
        self,
        groups: ColumnGroups,
        architecture: dict[str, Any],
        module: VAE,
        seed: int,
    ) -> None:
        self.groups = groups
        self.architecture = architecture
        self.module = module
        self.seed = seed
        #: Cut points that map draws to repeated values, by column index.
        self.limits: dict[int, np.ndarray] = {}
        #: State of Adam after a chunk of rows, for the next one.
        self.optimizer_state: dict[str, np.ndarray] | None = None

    @classmethod
    def build(
        cls,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        *,
        scored: bool,
        starts_linear: bool = True,
    ) -> VAEModel:
        """Build the model of a table, initialised at a linear one.

        ``scored`` is whether validation rows will choose scales per cell or column.
        """
        columns = data.encoder.columns_
        if not scored:
            drop_cell_scales(columns)
        groups = ColumnGroups(columns)
        architecture = describe(groups, params, len(columns), masked=has_gaps(data))
        module = build_module(VAE, architecture, random.new_seed())
        seed = random.new_seed()
        x, weight = initial_rows(data, groups, random.state)
        starts_linear = starts_linear and architecture["linear_path"]
        initialise(module, x, weight, starts_linear=starts_linear)
        return cls(groups, architecture, module, seed)

    def fit(
        self,
        data: Encoded,
        params: Mapping[str, Any],
        random: Random,
        progress: Progress,
        *,
        resume: bool = False,
        incremental: bool = False,
    ) -> FitResult:
        """Train on a table, or if ``incremental`` for one epoch on a chunk of it."""
        batch = self.groups.batch(data, str(random.generator.device))
        split = split_rows(len(batch), params, random.state)
        plan = Plan.resolve(
            params,
            len(split[0]),
            SETTINGS.budget,
            is_linear=self.architecture["linear_path"],
            incremental=incremental,
        )
        progress.open({MAIN: plan.max_iter})
        self.to(batch.x.device)
        history, state = fit_module(
            self.module,
            batch,
            split,
            plan,
            random.generator,
            progress,
            resume=resume,
            free_scale=free_scale(self.groups.columns, batch),
            optimizer_state=self.optimizer_state if incremental else None,
        )
        self.optimizer_state = state if incremental else None
        self.limits = {}  # a chunk does not show how often values occur
        if not incremental:
            generator = self.new_generator()
            self.limits = cut_points_of_values(
                self.groups.columns, lambda n_rows: self._draw(n_rows, generator)
            )
        return FitResult(history, plan, {})

    # -- use ---------------------------------------------------------------------

    def batch(self, data: Encoded) -> Batch:
        """Return rows on the device of the model."""
        return self.groups.batch(data, str(self.module.device))

    def means(self, data: Encoded) -> np.ndarray:
        """Return E[z | x] under q, (n_rows, n_latent), float32."""
        return posterior_means(self.module, self.batch(data))

    def draws(
        self, data: Encoded, n_draws: int, generator: torch.Generator
    ) -> np.ndarray:
        """Return draws of q(z | x), (n_draws, n_rows, n_latent), float32."""
        shape = (n_draws, len(data), self.module.n_latent)
        draws = np.empty(shape, dtype=np.float32)
        start = 0
        with torch.inference_mode():
            for chunk in chunked(self.batch(data), 4 * self.module.widest):
                qz = self.module.encode(chunk.x, chunk.observed)
                for draw in draws[:, start : start + len(chunk)]:
                    noise = chunk.x.new_empty(len(chunk), self.module.n_noise)
                    draw[:] = qz.rsample(noise.normal_(generator=generator)).cpu()
                start += len(chunk)
        return draws

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Return the decoder's means and most probable categories, encoded rows.

        Raises
        ------
        ValueError
            If latent variables lie outside the support of their family.
        """
        check_support(z, self.architecture["latent"])
        return self.groups.restored(
            decoded(self.module, z, self.module.joint.point_estimate)
        )

    def sample(self, n_rows: int, generator: torch.Generator) -> np.ndarray:
        """Return draws of encoded rows, (n_rows, n_columns of the table).

        The columns ``indexed`` hold indices of the values that they repeat.
        """
        rows = self._draw(n_rows, generator)
        cut_into_values(rows, self.limits)
        return self.groups.restored(rows)

    @property
    def indexed(self) -> list[int]:
        """Columns of the table whose draws are indices of repeated values."""
        return self.groups.order[list(self.limits)].tolist()

    def _draw(self, n_rows: int, generator: torch.Generator) -> np.ndarray:
        """Draw encoded rows in the order of the heads."""
        vae = self.module
        shape = (n_rows, vae.n_prior_noise)
        noise = torch.empty(shape, dtype=torch.float32, device=vae.device)
        noise.normal_(generator=generator)
        with torch.inference_mode():
            z = vae.prior().rsample(noise)
        return decoded(vae, z, lambda px: vae.joint.sample(px, generator))

    def log_likelihood(self, data: Encoded, n_draws: int) -> np.ndarray:
        """Return importance-weighted log p(x) in the units of the table, (n_rows,)."""
        batch = self.batch(data)

        def score(rows: Batch, with_gaps: bool) -> np.ndarray:
            return evidence(self.module, rows, n_draws, self.seed, defensive=with_gaps)

        logs = score_with_gaps(batch, score)
        return logs + log_jacobian(self.groups, data.encoder, batch)

    def new_generator(self) -> torch.Generator:
        """Return the generator of draws that are the same at every call."""
        return torch.Generator(self.module.device).manual_seed(self.seed)

    def likelihoods(self) -> dict[str, str]:
        """Return the likelihood of every column, with the kind of scale chosen."""
        return chosen_likelihoods(self.groups, self.module)

    # -- state -------------------------------------------------------------------

    def forget_values(self) -> None:
        """Forget values of the table; those of its columns are forgotten by itself."""
        self.limits, self.optimizer_state = {}, None
        forget_pseudo_inputs(self.architecture, self.module)

    def to(self, device: str | torch.device) -> None:
        """Move the networks to a device."""
        self.module.to(device)

    def to_state(self) -> dict[str, Any]:
        """Return the model as plain containers and NumPy arrays."""
        return {
            "architecture": self.architecture,
            "weights": to_arrays(self.module),
            "seed": self.seed,
            "limits": {str(place): cuts for place, cuts in self.limits.items()},
            "optimizer_state": self.optimizer_state,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], columns: list[Column]) -> VAEModel:
        """Rebuild the model of ``columns`` from what :meth:`to_state` returned."""
        groups, architecture = ColumnGroups(columns), state["architecture"]
        module = restore_module(VAE, architecture, state["weights"], groups.heads)
        model = cls(groups, architecture, module, state["seed"])
        model.limits = limits_of(state, groups)
        model.optimizer_state = state["optimizer_state"]
        return model


# -- what the models share -----------------------------------------------------------


def has_gaps(data: Encoded) -> bool:
    """Return whether any cell is missing."""
    return data.observed is not None and not data.observed.all()


def describe(
    groups: ColumnGroups, params: Mapping[str, Any], n_explained: int, *, masked: bool
) -> dict[str, Any]:
    """Return the architecture of a VAE of the columns, in plain values.

    Latent variables explain ``n_explained`` columns; ``masked`` is whether the mask of
    the missing cells is an input of the encoder.
    """
    latent = params["latent"]
    n_latent = resolve_n_components(params["n_components"], latent, n_explained)
    has_scale = len(groups.joint().location_scale_indices()[0]) > 0
    return {
        "heads": [list(head) for head in groups.heads],
        "n_latent": n_latent,
        "hidden_layer_sizes": resolve_layers(params["hidden_layer_sizes"]),
        "activation": params["activation"],
        "masked": masked,
        # a factor analysis to start at has normal latent variables
        "linear_path": latent == "normal" and has_scale,
        "latent": latent,
        "prior": resolve_prior(latent, params["prior"], n_latent),
    }


def resolve_n_components(
    n_components: int | None, latent: str, n_explained: int
) -> int:
    """Return the number of latent variables."""
    fewest = 2 if latent == "dirichlet" else 1
    if n_components is None:
        return min(max(fewest, n_explained - 1), SETTINGS.max_components)
    if n_components < fewest:
        raise ValueError(
            "n_components must be at least 2 with latent='dirichlet', whose "
            f"latent variables sum to one, but got {n_components}."
        )
    return int(n_components)


def resolve_layers(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers."""
    sizes = hidden_layer_sizes
    sizes = [sizes] if isinstance(sizes, Integral) else list(sizes)
    if any(not isinstance(size, Integral) or size < 1 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must hold integers of at least 1, but got "
            f"{hidden_layer_sizes!r}."
        )
    return [int(size) for size in sizes]


def build_module(
    kind: type[Module], architecture: Mapping[str, Any], seed: int = 0
) -> Module:
    """Build the module that ``architecture`` describes, on the CPU."""
    options = {key: architecture[key] for key in architecture if key != "heads"}
    generator = torch.Generator("cpu").manual_seed(seed)
    joint = make_joint(architecture["heads"])
    return kind(joint, generator=generator, **options)


def restore_module(
    kind: type[Module],
    architecture: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    heads: Sequence[tuple[str, int, int]],
) -> Module:
    """Return the module of saved ``weights``, whose columns have these ``heads``.

    Raises
    ------
    ValueError
        If they are not those of such a module.
    """
    if [list(head) for head in architecture["heads"]] != [list(head) for head in heads]:
        raise ValueError("the columns of the table are not those of the model")
    n_layers = len(architecture["hidden_layer_sizes"])
    return load_module(partial(build_module, kind, architecture), weights, n_layers)


def forget_pseudo_inputs(architecture: dict[str, Any], module: VAE) -> None:
    """Replace a "vamp" prior, which starts at rows, by the mixture that it is."""
    module.forget_pseudo_inputs()
    if module.mixture is not None:
        architecture["prior"] = {"mixture": len(module.mixture.loc)}


def limits_of(state: Mapping[str, Any], groups: ColumnGroups) -> dict[int, np.ndarray]:
    """Return the saved cut points between repeated values, by column index."""
    limits = {int(place): cuts for place, cuts in state["limits"].items()}
    check_cut_points(groups.columns, limits)
    return limits


def initial_rows(
    data: Encoded, groups: ColumnGroups, random: np.random.RandomState
) -> tuple[Tensor, Tensor]:
    """Return rows for initialisation, drawn by weight, and weights of their cells."""
    return initial_cells(data, groups, choose_rows(data, random))


def choose_rows(data: Encoded, random: np.random.RandomState) -> np.ndarray:
    """Return the indices of rows for initialisation, drawn by weight."""
    n_chosen = min(len(data), SETTINGS.linear_start_rows)
    chances = None if data.weight is None else data.weight / data.weight.sum()
    if len(data) == n_chosen and chances is None:
        return np.arange(len(data))
    return random.choice(len(data), n_chosen, replace=chances is not None, p=chances)


def initial_cells(
    data: Encoded, groups: ColumnGroups, rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return rows in the order of the heads, and cell weights, 0 where missing."""
    x = torch.from_numpy(data.values[rows][:, groups.order])
    if data.observed is None:
        return x, torch.ones_like(x)
    return x, torch.from_numpy(data.observed[rows][:, groups.order]).to(x.dtype)


def initialise(module: VAE, x: Tensor, weight: Tensor, *, starts_linear: bool) -> None:
    """Initialise a module at the marginals, or at a factor analysis of the numbers."""
    module.initialise_marginals(x, weight)
    columns, _, _ = module.joint.location_scale_indices()
    if len(columns) > 1 and starts_linear:
        loadings, noise = factor_analysis(
            x[:, columns].double().numpy(), module.n_latent
        )
        module.initialise_factor_analysis(
            torch.from_numpy(loadings), torch.from_numpy(noise)
        )


def free_scale(columns: list[Column], batch: Batch) -> Tensor:
    """Return the mask of the columns whose kind of scale the data choose."""
    flags = [column.is_automatic for column in columns]
    return torch.tensor(flags, dtype=torch.bool, device=batch.x.device)


def fit_module(
    module: VAE,
    batch: Batch,
    split: tuple[np.ndarray, np.ndarray | None],
    plan: Plan,
    generator: torch.Generator,
    progress: Progress,
    *,
    resume: bool,
    prepare: Callable[[Batch], Batch] | None = None,
    **options: Any,
) -> tuple[History, dict[str, np.ndarray]]:
    """Train a module on the rows; return the history and the state of Adam.

    ``prepare`` maps the rows of a batch to the input of the module.
    """
    train_rows, valid_rows = (
        None if rows is None else torch.from_numpy(rows).to(batch.x.device)
        for rows in split
    )
    assert train_rows is not None
    if module.pseudo_inputs is not None and not resume:
        n_inputs = len(module.pseudo_inputs)
        count = torch.arange(n_inputs, dtype=torch.long, device=batch.x.device)
        some = batch.take(train_rows[count % len(train_rows)])
        module.initialise_prior(some if prepare is None else prepare(some))
    return train(
        module,
        batch,
        train_rows,
        valid_rows,
        plan,
        generator,
        progress=progress,
        prepare=prepare,
        **options,
    )


def main_stage(module: VAE, plan: Plan, n_rows: int) -> Stage:
    """Return the VAE training stage; a step costs batch size times parameters."""
    n_weights = sum(p.numel() for p in module.parameters())
    return Stage(MAIN, plan.n_steps(n_rows), plan.batch_size * n_weights)


def chosen_likelihoods(groups: ColumnGroups, module: VAE) -> dict[str, str]:
    """Return the likelihood of every column of a table, with its kind of scale."""
    names = {column.name: column.likelihood for column in groups.table}
    per_cell = module.joint.has_scale_per_cell()
    for column, varies in zip(groups.columns, per_cell, strict=True):
        if not varies:
            names[column.name] = with_scale_per_column(column.likelihood)
    return names
