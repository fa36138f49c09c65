"""What every cell is expected to be, given the visible ones, and how that is learned.

:class:`ConditionalMean` is the regression part of the imputer: a multivariate normal
and an ensemble of networks that corrects it. It gives point estimates, and the context
of the conditional VAE, which models what is left. Letters as in
:mod:`skvae._networks.vae`; besides

``x_original``
    the rows as the point estimate sees them: numbers in their own scales, shifted and
    scaled to mean 0 and variance 1, codes of categories; a missing cell holds 0
``mask``
    mask of the visible cells, a random part of the observed ones in training
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._distributions.joint import Joint
from .._networks.mlp import BatchedMLP
from .._training.progress import Progress
from .gaussian import SETTINGS, Gaussian, GaussianSettings

#: Probabilities of the normal, which may be negative, are cut off here.
PROBABILITY_FLOOR = 0.002

#: Frequencies of the periodic features of a number (Gorishniy et al. 2022, On
#: Embeddings for Numerical Features in Tabular Deep Learning).
N_FREQUENCIES = 16

#: Weight of visible cells in the loss: to copy them keeps the features informative.
INPUT_WEIGHT = 0.1


class Rows(NamedTuple):
    """Resident rows of the training table."""

    x: Tensor  # (rows, columns) encoded
    x_original: Tensor  # (rows, columns)
    observed: Tensor  # (rows, columns) bool
    weight: Tensor  # (rows,)
    fold: Tensor | None = None  # (rows,) who leaves the row out, see member_of

    def take(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        parts = [t if t is None else t.index_select(0, index) for t in self]
        return Rows._make(parts)


class ConditionalMean(nn.Module):
    """Expected value of every cell given the visible cells.

    Parameters
    ----------
    joint : Joint
        The ``point_head`` of every decoder head: losses and point estimates of ``x_original``.
    hidden_layer_sizes : sequence of int
        Widths of the networks; without any, the normal stands alone.
    n_members : int
        Number of networks.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights, on the CPU.
    widest_normal : int
        With more inputs the normal takes those of numbers alone, or none.
    settings : GaussianSettings
        How the normal is fitted and drawn.
    """

    def __init__(
        self,
        joint: Joint,
        hidden_layer_sizes: tuple[int, ...],
        n_members: int,
        activation: str,
        generator: torch.Generator,
        widest_normal: int = 128,
        settings: GaussianSettings = SETTINGS,
    ) -> None:
        super().__init__()
        self.joint = joint
        columns, inputs, outputs = joint.location_scale_indices()
        self.columns: Tensor
        self.inputs: Tensor
        self.outputs: Tensor
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("inputs", inputs, persistent=False)
        self.register_buffer("outputs", outputs, persistent=False)
        # the normal takes all inputs, or the numbers alone, or nothing
        normal_inputs = torch.arange(joint.n_inputs)
        if hidden_layer_sizes and len(normal_inputs) > widest_normal:
            normal_inputs = inputs if len(inputs) <= widest_normal else inputs[:0]
        self.normal_inputs: Tensor
        self.register_buffer("normal_inputs", normal_inputs, persistent=False)
        self.gaussian = Gaussian(len(normal_inputs), settings)
        # where the normal's estimates go among the outputs: those of numbers are
        # locations, those of 0/1 inputs of categories logits
        target = torch.full((joint.n_inputs,), -1)
        is_flag = torch.zeros(joint.n_inputs)
        first_input = first_output = 0
        for head, n_in, n_out in zip(joint, joint.inputs, joint.outputs, strict=True):
            own = slice(first_input, first_input + n_in)
            if head.input_link is not None:
                target[own] = first_output + torch.arange(n_in)
            if head.input_link == "logit":
                is_flag[own] = 1
            first_input, first_output = first_input + n_in, first_output + n_out
        used = target[normal_inputs] >= 0
        self.linked_indices: Tensor
        self.linked_outputs: Tensor
        self.is_location: Tensor
        self.is_probability: Tensor
        self.register_buffer("linked_indices", used.nonzero()[:, 0], persistent=False)
        self.register_buffer(
            "linked_outputs", target[normal_inputs][used], persistent=False
        )
        # where the numbers are among what the normal knows, if they are
        index_of = {int(index): k for k, index in enumerate(normal_inputs)}
        numbers = [index_of[int(index)] for index in inputs if int(index) in index_of]
        self.location_indices: Tensor
        self.register_buffer(
            "location_indices",
            torch.tensor(numbers, dtype=torch.long),
            persistent=False,
        )
        is_number = torch.isin(normal_inputs, inputs)
        self.register_buffer("is_location", is_number, persistent=False)
        self.register_buffer("is_probability", is_flag[normal_inputs], persistent=False)
        self.n_members = n_members if hidden_layer_sizes else 0
        self.ensemble: BatchedMLP | None = None
        if hidden_layer_sizes:
            n_features = (
                joint.n_inputs
                + len(normal_inputs)
                + 2 * N_FREQUENCIES * len(columns)
                + joint.n_columns
            )
            widths = [n_features, *hidden_layer_sizes, joint.n_outputs]
            self.ensemble = BatchedMLP(n_members, widths, activation, generator)
            frequencies = torch.empty(len(columns), N_FREQUENCIES)
            self.frequencies = nn.Parameter(frequencies.normal_(generator=generator))
        # log-odds and zeros that the networks' outputs are added to
        self.marginal: Tensor
        self.register_buffer("marginal", torch.zeros(joint.n_outputs))
        # average log-deviation that the normal leaves to hidden cells, by number
        self.mean_log_deviation: Tensor
        self.register_buffer("mean_log_deviation", torch.zeros(len(numbers)))
        # how far estimates of every column go from the marginal, and the networks'
        # network_weight in them
        self.shrinkage: Tensor
        self.register_buffer("shrinkage", torch.ones(joint.n_columns))
        self.network_weight: Tensor
        self.register_buffer(
            "network_weight", torch.full((joint.n_columns,), float(self.n_members > 0))
        )

    @property
    def n_context(self) -> int:
        """Width of :meth:`context`."""
        joint = self.joint
        n_deviations = len(self.location_indices)
        return joint.n_outputs + joint.n_inputs + joint.n_columns + n_deviations

    def gaussian_inputs(
        self, x_original: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows as the normal sees them, and their visibility."""
        given = self._expand_mask(mask)[..., self.normal_inputs].to(x_original.dtype)
        return self.joint.embed(x_original, mask)[..., self.normal_inputs], given

    def _expand_mask(self, mask: Tensor) -> Tensor:
        """Repeat the mask of columns for every input of a column."""
        return torch.cat(
            [
                part.repeat_interleave(n_inputs // n_columns, -1)
                for part, n_inputs, n_columns in zip(
                    mask.split(self.joint.columns, -1),
                    self.joint.inputs,
                    self.joint.columns,
                    strict=True,
                )
            ],
            -1,
        )

    def features(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the networks see, and the outputs that they correct.

        Those are the normal's estimates of numbers and of the probabilities of
        categories, as logits; where there is no normal, the marginals.
        """
        shown = mask.to(x_original.dtype)
        embedded = self.joint.embed(x_original, mask)
        parts = [embedded, shown]
        baseline = self.marginal.expand(len(x_original), -1)
        if len(self.normal_inputs):
            given = self._expand_mask(mask)[..., self.normal_inputs].to(
                x_original.dtype
            )
            imputed = self.gaussian.condition(
                embedded[..., self.normal_inputs], given, fold
            )
            parts.append(imputed)
            estimate = self._as_outputs(imputed)
            baseline = baseline.index_copy(-1, self.linked_outputs, estimate)
        if len(self.columns):
            # ranks: encoded numbers are near N(0, 1)
            rank = torch.erf(x[..., self.columns] / math.sqrt(2))
            angle = 2 * math.pi * rank.unsqueeze(-1) * self.frequencies
            waves = torch.cat([angle.sin(), angle.cos()], -1)
            waves = waves * shown[..., self.columns].unsqueeze(-1)
            parts.append(waves.flatten(-2))
        return torch.cat(parts, -1), baseline

    def _as_outputs(self, imputed: Tensor) -> Tensor:
        """Return the normal's estimates as outputs, in ``linked_outputs``."""
        chance = imputed.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        logit = chance.log() - self.is_probability * (1 - chance).log()
        return torch.where(self.is_location, imputed, logit)[:, self.linked_indices]

    def members(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs of the networks and those that they correct.

        Shapes (members, rows, n_outputs) and (rows, n_outputs).
        """
        assert self.ensemble is not None
        features, baseline = self.features(x, x_original, mask, fold)
        return self.ensemble(features) + baseline, baseline

    def expected(self, x: Tensor, x_original: Tensor, mask: Tensor) -> Tensor:
        """Return means of numbers, probabilities and modes, (rows, columns)."""
        if self.ensemble is None:
            inputs, given = self.gaussian_inputs(x_original, mask)
            return self.gaussian.condition(inputs, given)
        outputs, baseline = self.members(x, x_original, mask)
        return self.joint.point(self._stacked(outputs.mean(0), baseline))

    def _stacked(self, outputs: Tensor, baseline: Tensor) -> Tensor:
        """Return a mixture of networks' outputs, what they correct, and marginals."""
        network_weight, shrinkage = (
            self.by_output(self.network_weight),
            self.by_output(self.shrinkage),
        )
        mixed = baseline + network_weight * (outputs - baseline)
        return mixed + (1 - shrinkage) * (self.marginal - mixed)

    def by_output(self, values: Tensor) -> Tensor:
        """Repeat values of columns for every output of a column."""
        return torch.cat(
            [
                part.repeat_interleave(n_outputs // n_columns)
                for part, n_outputs, n_columns in zip(
                    values.split(self.joint.columns),
                    self.joint.outputs,
                    self.joint.columns,
                    strict=True,
                )
            ]
        )

    def stacking_weights(self) -> list[dict[str, float]]:
        """Return the shares of marginal, normal and networks, by column."""
        return [
            {
                "marginal": 1 - shrinkage,
                "normal": shrinkage * (1 - network_weight),
                "networks": shrinkage * network_weight,
            }
            for shrinkage, network_weight in zip(
                self.shrinkage.tolist(), self.network_weight.tolist(), strict=True
            )
        ]

    def context(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Return what the conditional VAE knows of the visible cells.

        That is the blended outputs, the cells, their mask, and how much the normal
        leaves open of each number, as log-deviations from its average. Rows of the
        training table come with their ``fold``: the outputs are then those of the
        network that has not seen the row, so the VAE learns from honest residuals.
        """
        outputs, baseline = self.members(x, x_original, mask, fold)
        if fold is None:
            own = outputs.mean(0)
        else:
            # rows that every network has seen (fold -1) get the average
            member = member_of(fold, self.n_members)
            own = outputs[member, torch.arange(len(x), device=x.device)]
            own = torch.where((fold < 0).unsqueeze(-1), outputs.mean(0), own)
        parts = [
            self._stacked(own, baseline),
            self.joint.embed(x_original, mask),
            mask.to(x_original.dtype),
        ]
        if len(self.location_indices):
            parts.append(
                self._log_deviation(x_original, mask, fold) - self.mean_log_deviation
            )
        return torch.cat(parts, -1)

    def contexts_by_draw(
        self, c: Tensor, x_original: Tensor, mask: Tensor, draws: Sequence[int | None]
    ) -> Iterator[Tensor]:
        """Yield the context by each of the drawn parameters of the normal.

        Its estimates change, and what it leaves open; the corrections by the networks
        stay. None stands for the fitted parameters.
        """
        if len(self.normal_inputs) and any(draw is not None for draw in draws):
            inputs, given = self.gaussian_inputs(x_original, mask)
            fitted = self._as_outputs(self.gaussian.condition(inputs, given))
            shrinkage = self.by_output(self.shrinkage)[self.linked_outputs]
        for draw in draws:
            if not len(self.normal_inputs) or draw is None:
                yield c
                continue
            drawn = self.gaussian.condition(inputs, given, draw=draw)
            shift = shrinkage * (self._as_outputs(drawn) - fitted)
            context = c.index_add(-1, self.linked_outputs, shift)
            n_deviations = len(self.location_indices)
            if n_deviations:
                left = self.gaussian.deviation(given, self.location_indices, draw=draw)
                context[:, -n_deviations:] = left.log() - self.mean_log_deviation
            yield context

    def _log_deviation(
        self, x_original: Tensor, mask: Tensor, fold: Tensor | None
    ) -> Tensor:
        _, given = self.gaussian_inputs(x_original, mask)
        return self.gaussian.deviation(given, self.location_indices, fold).log()

    # -- training ----------------------------------------------------------------

    @torch.no_grad()
    def initialise(
        self,
        rows: Rows,
        *,
        max_iter: int | None = None,
        progress: Progress | None = None,
    ) -> list[float]:
        """Initialise at the marginals and the normal; return the normal's EM trace."""
        weight = rows.observed * rows.weight.unsqueeze(1)
        baseline = self.joint.initialise(rows.x_original, weight)
        baseline[self.outputs] = (
            0  # the mean of x_original, where the normal knows no better
        )
        self.marginal.copy_(baseline)
        if not len(self.normal_inputs):
            return []
        inputs, given = self.gaussian_inputs(rows.x_original, rows.observed)
        return self.gaussian.fit(
            inputs, given, rows.weight, max_iter=max_iter, progress=progress
        )

    @torch.no_grad()
    def draw_parameters(self, rows: Rows, generator: torch.Generator) -> None:
        """Draw the normal's parameters from their posterior, given the same rows."""
        if len(self.normal_inputs):
            inputs, given = self.gaussian_inputs(rows.x_original, rows.observed)
            self.gaussian.draw_parameters(inputs, given, rows.weight, generator)

    @torch.no_grad()
    def set_mean_log_deviation(self, rows: Rows, mask: Tensor) -> None:
        """Average what the normal leaves open over the hidden cells of some rows."""
        if len(self.location_indices):
            masked = (rows.observed & ~mask)[:, self.columns].to(rows.x_original.dtype)
            total = (
                self._log_deviation(rows.x_original, mask, rows.fold) * masked
            ).sum(0)
            self.mean_log_deviation.copy_(total / masked.sum(0).clamp(min=1))

    def loss(self, rows: Rows, mask: Tensor, member_weight: Tensor) -> Tensor:
        """Return the mean loss per cell; ``member_weight`` (members, rows) are their shares."""
        outputs, _ = self.members(rows.x, rows.x_original, mask, rows.fold)
        cells = -self.joint.log_prob_cells(
            outputs, rows.x_original.expand(len(outputs), -1, -1)
        )
        weight = rows.observed * torch.where(mask, INPUT_WEIGHT, 1.0)
        per_row = (cells * weight).sum(-1) * rows.weight
        return (per_row * member_weight).sum() / (
            member_weight.shape[1] * rows.x.shape[1]
        )


def member_of(fold: Tensor, n_members: int) -> Tensor:
    """Return the network that leaves out the rows of a fold, -1 for none."""
    return torch.where(fold < 0, fold, fold % n_members)
