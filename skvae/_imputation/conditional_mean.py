"""Conditional mean: the expected value of every cell given the input cells.

:class:`ConditionalMean` is the regression part of the imputer: a multivariate normal,
and an ensemble of networks that corrects it. It gives point estimates, and the context
of the conditional VAE, which models the residuals. Letters as in
:mod:`skvae._networks.vae`; besides

``x_original``
    the rows on the scale of the point estimates: numbers in original units, shifted
    and scaled to mean 0 and variance 1, codes of categories; a missing cell holds 0
``mask``
    input mask: the cells that are shown, in training a random part of the observed ones
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .._networks.mlp import BatchedMLP
from .._training.progress import Progress
from .gaussian import Gaussian
from .settings import SETTINGS, Settings


class Rows(NamedTuple):
    """Rows of the training table in device memory."""

    x: Tensor  # (rows, columns) encoded
    x_original: Tensor  # (rows, columns)
    observed: Tensor  # (rows, columns) bool
    weight: Tensor  # (rows,)
    fold: Tensor | None = None  # (rows,) cross-fitting fold, -1 for none

    def take(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        parts = [t if t is None else t.index_select(0, index) for t in self]
        return Rows._make(parts)


class NormalIndices(nn.Module):
    """Indices of inputs and outputs of a joint likelihood in the normal.

    A module, so that they move to the device of the others.
    """

    inputs: Tensor  # the inputs that the normal models, in their order
    linked: Tensor  # which of its columns are estimates of outputs
    outputs: Tensor  # those outputs
    locations: Tensor  # which of its columns are numbers with location and scale
    is_location: Tensor  # (normal columns,) bool
    is_probability: Tensor  # (normal columns,) 1 for 0/1 inputs whose output is a logit

    def __init__(self, joint: Joint, widest: int | None) -> None:
        """Find the indices of a normal with at most ``widest`` columns.

        It models all inputs, or else the numbers alone, or else nothing.
        """
        _, numeric, _ = joint.location_scale_indices()
        inputs = every = torch.arange(joint.n_inputs, dtype=torch.long, device="cpu")
        if widest is not None and len(inputs) > widest:
            inputs = numeric if len(numeric) <= widest else numeric[:0]
        # estimates of numbers are locations, those of 0/1 inputs are probabilities
        target = torch.full_like(every, -1)
        is_probability = torch.zeros(joint.n_inputs, **CPU_FLOATS)
        first_input = first_output = 0
        for head in joint:
            own = slice(first_input, first_input + head.n_inputs)
            if head.input_link is not None:
                target[own] = first_output + every[: head.n_inputs]
            if head.input_link == "logit":
                is_probability[own] = 1
            first_input += head.n_inputs
            first_output += head.n_outputs
        linked = target[inputs] >= 0
        place = {int(index): k for k, index in enumerate(inputs)}
        locations = [place[int(index)] for index in numeric if int(index) in place]
        super().__init__()
        for name, index in {
            "inputs": inputs,
            "linked": linked.nonzero()[:, 0],
            "outputs": target[inputs][linked],
            "locations": torch.tensor(locations, dtype=torch.long, device="cpu"),
            "is_location": torch.isin(inputs, numeric),
            "is_probability": is_probability[inputs],
        }.items():
            self.register_buffer(name, index, persistent=False)


class ConditionalMean(nn.Module):
    """Expected value of every cell given the input cells.

    Parameters
    ----------
    joint : Joint
        The ``point_estimate_head`` of every decoder head: losses and point estimates of
        ``x_original``.
    hidden_layer_sizes : sequence of int
        Widths of the networks; () for the normal alone.
    n_members : int
        Number of networks.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights, on the CPU.
    widest_normal : int
        With more inputs the normal models the numeric ones alone, or none.
    settings : Settings
        Tuning constants.
    """

    columns: Tensor  # the numbers with location and scale
    outputs: Tensor  # their locations
    marginal: Tensor  # (n_outputs,) without any input: log-odds, and 0 of numbers
    mean_log_deviation: Tensor  # of masked cells under the normal, by number
    shrinkage: Tensor  # factor of the distance from the marginal, 1 for none, by column
    network_weight: Tensor  # of the networks against the normal, by column

    def __init__(
        self,
        joint: Joint,
        hidden_layer_sizes: tuple[int, ...],
        n_members: int,
        activation: str,
        generator: torch.Generator,
        widest_normal: int = SETTINGS.small.widest_normal,
        settings: Settings = SETTINGS,
    ) -> None:
        super().__init__()
        self.joint, self.settings = joint, settings
        self.n_members = n_members if hidden_layer_sizes else 0
        columns, _, outputs = joint.location_scale_indices()
        widest = widest_normal if hidden_layer_sizes else None
        self.indices = indices = NormalIndices(joint, widest)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("outputs", outputs, persistent=False)
        self.gaussian = Gaussian(len(indices.inputs), settings)
        self.ensemble: BatchedMLP | None = None
        if hidden_layer_sizes:
            n_frequencies = count_frequencies(len(columns), settings)
            n_waves = 2 * n_frequencies * len(columns)
            n_features = joint.n_inputs + len(indices.inputs) + joint.n_columns
            widths = [n_features + n_waves, *hidden_layer_sizes, joint.n_outputs]
            self.ensemble = BatchedMLP(n_members, widths, activation, generator)
            frequencies = torch.empty(len(columns), n_frequencies, **CPU_FLOATS)
            self.frequencies = nn.Parameter(frequencies.normal_(generator=generator))
        self.register_buffer("marginal", torch.zeros(joint.n_outputs, **CPU_FLOATS))
        deviations = torch.zeros(len(indices.locations), **CPU_FLOATS)
        self.register_buffer("mean_log_deviation", deviations)
        self.register_buffer("shrinkage", torch.ones(joint.n_columns, **CPU_FLOATS))
        weight = torch.full((joint.n_columns,), float(self.n_members > 0), **CPU_FLOATS)
        self.register_buffer("network_weight", weight)

    @property
    def has_normal(self) -> bool:
        """Whether the normal models any input."""
        return len(self.gaussian.mean) > 0

    @property
    def n_context(self) -> int:
        """Width of :meth:`context`."""
        joint = self.joint
        n_deviations = len(self.mean_log_deviation)
        return joint.n_outputs + joint.n_inputs + joint.n_columns + n_deviations

    @property
    def floats_per_row(self) -> int:
        """Width of the features and of the outputs of all networks."""
        assert self.ensemble is not None
        n_features = self.ensemble.weights[0].shape[1]
        return n_features + self.n_members * self.joint.n_outputs

    # -- estimates ---------------------------------------------------------------

    def gaussian_inputs(
        self, x_original: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the inputs of the normal, and their mask."""
        inputs = self.joint.embed(x_original, mask)[..., self.indices.inputs]
        return inputs, self._gaussian_mask(mask).to(inputs.dtype)

    def _gaussian_mask(self, mask: Tensor) -> Tensor:
        given = repeat_columns(mask, self.joint.columns, self.joint.inputs)
        return given[..., self.indices.inputs]

    def features(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the features of the networks, and the baseline that they correct.

        The baseline is the normal's conditional means, of categories as logits, or
        without a normal the marginals.
        """
        shown = mask.to(x_original.dtype)
        embedded = self.joint.embed(x_original, mask)
        parts = [embedded, shown]
        baseline = self.marginal.expand(len(x_original), -1)
        if self.has_normal:
            inputs = embedded[..., self.indices.inputs]
            given = self._gaussian_mask(mask).to(inputs.dtype)
            imputed = self.gaussian.condition(inputs, given, fold)
            parts.append(imputed)
            estimate = self._as_outputs(imputed)
            baseline = baseline.index_copy(-1, self.indices.outputs, estimate)
        if len(self.columns):
            # ranks: encoded numbers are near N(0, 1)
            rank = torch.erf(x[..., self.columns] / math.sqrt(2))
            angle = 2 * math.pi * rank.unsqueeze(-1) * self.frequencies
            waves = torch.cat([angle.sin(), angle.cos()], -1)
            waves = waves * shown[..., self.columns].unsqueeze(-1)
            parts.append(waves.flatten(-2))
        return torch.cat(parts, -1), baseline

    def _as_outputs(self, imputed: Tensor) -> Tensor:
        """Return conditional means, or logits, in the order of ``indices.outputs``."""
        floor, indices = self.settings.probability_floor, self.indices
        chance = imputed.clamp(floor, 1 - floor)
        logit = chance.log() - indices.is_probability * (1 - chance).log()
        return torch.where(indices.is_location, imputed, logit)[:, indices.linked]

    def members(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of the networks and the baseline that they correct.

        Shapes (members, rows, n_outputs) and (rows, n_outputs).
        """
        assert self.ensemble is not None
        features, baseline = self.features(x, x_original, mask, fold)
        return self.ensemble(features) + baseline, baseline

    def expected(self, x: Tensor, x_original: Tensor, mask: Tensor) -> Tensor:
        """Return means of numbers, probabilities and modes, (rows, columns)."""
        if self.ensemble is None:
            return self.gaussian.condition(*self.gaussian_inputs(x_original, mask))
        outputs, baseline = self.members(x, x_original, mask)
        return self.joint.point_estimate(self._stacked(outputs.mean(0), baseline))

    def _stacked(self, outputs: Tensor, baseline: Tensor) -> Tensor:
        """Return the weighted outputs of networks, normal and marginal."""
        weight = self.by_output(self.network_weight)
        shrinkage = self.by_output(self.shrinkage)
        mixed = baseline + weight * (outputs - baseline)
        return mixed + (1 - shrinkage) * (self.marginal - mixed)

    def by_output(self, values: Tensor) -> Tensor:
        """Return values of columns, repeated for every output of a column."""
        return repeat_columns(values, self.joint.columns, self.joint.outputs)

    def stacking_weights(self) -> list[dict[str, float]]:
        """Return the weights of marginal, normal and networks, by column."""
        return [
            {
                "marginal": 1 - shrinkage,
                "normal": shrinkage * (1 - weight),
                "networks": shrinkage * weight,
            }
            for shrinkage, weight in zip(
                self.shrinkage.tolist(), self.network_weight.tolist(), strict=True
            )
        ]

    # -- context of the conditional VAE ------------------------------------------

    def context(
        self, x: Tensor, x_original: Tensor, mask: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Return the conditioning inputs ("context") of the conditional VAE.

        That is the stacked outputs, the input cells, their mask, and the normal's
        conditional log-deviation of each number less its average. With ``fold`` the
        outputs are out-of-fold, so that the VAE learns from out-of-fold residuals.
        """
        outputs, baseline = self.members(x, x_original, mask, fold)
        if fold is None:
            own = outputs.mean(0)
        else:
            own = out_of_fold_outputs(outputs, fold)
            # rows that no network holds out (fold -1) get the average
            own = torch.where((fold < 0).unsqueeze(-1), outputs.mean(0), own)
        parts = [
            self._stacked(own, baseline),
            self.joint.embed(x_original, mask),
            mask.to(x_original.dtype),
        ]
        if len(self.mean_log_deviation):
            parts.append(self._log_deviation(x_original, mask, fold))
        return torch.cat(parts, -1)

    def _log_deviation(
        self, x_original: Tensor, mask: Tensor, fold: Tensor | None
    ) -> Tensor:
        given = self._gaussian_mask(mask).to(x_original.dtype)
        deviation = self.gaussian.deviation(given, self.indices.locations, fold)
        return deviation.log() - self.mean_log_deviation

    def contexts_by_draw(
        self, c: Tensor, x_original: Tensor, mask: Tensor, draws: Sequence[int | None]
    ) -> Iterator[Tensor]:
        """Yield the context for each draw of the normal's parameters.

        Its estimates and deviations change; the corrections by the networks stay. None
        stands for the fitted parameters.
        """
        if self.has_normal and any(draw is not None for draw in draws):
            inputs, given = self.gaussian_inputs(x_original, mask)
            fitted = self._as_outputs(self.gaussian.condition(inputs, given))
            indices = self.indices
            shrinkage = self.by_output(self.shrinkage)[indices.outputs]
        for draw in draws:
            if not self.has_normal or draw is None:
                yield c
                continue
            drawn = self.gaussian.condition(inputs, given, draw=draw)
            shift = shrinkage * (self._as_outputs(drawn) - fitted)
            context = c.index_add(-1, indices.outputs, shift)
            n_deviations = len(indices.locations)
            if n_deviations:
                left = self.gaussian.deviation(given, indices.locations, draw=draw)
                context[:, -n_deviations:] = left.log() - self.mean_log_deviation
            yield context

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
        marginal = self.joint.initialise(rows.x_original, weight)
        marginal[self.outputs] = 0  # the mean of x_original
        self.marginal.copy_(marginal)
        if not self.has_normal:
            return []
        inputs, given = self.gaussian_inputs(rows.x_original, rows.observed)
        return self.gaussian.fit(
            inputs, given, rows.weight, max_iter=max_iter, progress=progress
        )

    @torch.no_grad()
    def draw_parameters(self, rows: Rows, generator: torch.Generator) -> None:
        """Draw the normal's parameters from their posterior, given the same rows."""
        if self.has_normal:
            inputs, given = self.gaussian_inputs(rows.x_original, rows.observed)
            self.gaussian.draw_parameters(inputs, given, rows.weight, generator)

    @torch.no_grad()
    def set_mean_log_deviation(self, rows: Rows, mask: Tensor) -> None:
        """Set the normal's mean log-deviation over masked cells."""
        if len(self.mean_log_deviation):
            self.mean_log_deviation.zero_()
            masked = (rows.observed & ~mask)[:, self.columns].to(rows.x.dtype)
            logs = self._log_deviation(rows.x_original, mask, rows.fold)
            total = (logs * masked).sum(0)
            self.mean_log_deviation.copy_(total / masked.sum(0).clamp(min=1))

    def loss(self, rows: Rows, mask: Tensor, member_weight: Tensor) -> Tensor:
        """Return the mean loss per cell.

        ``member_weight`` (members, rows) is the weight of a row in a network's loss.
        """
        x_original = rows.x_original
        outputs, _ = self.members(rows.x, x_original, mask, rows.fold)
        target = x_original.expand(len(outputs), -1, -1)
        cells = -self.joint.log_prob_cells(outputs, target)
        weight = torch.ones_like(cells[0]).masked_fill(mask, self.settings.input_weight)
        weight = weight * rows.observed
        per_row = (cells * weight).sum(-1) * rows.weight
        return (per_row * member_weight).sum() / rows.x.numel()


def count_frequencies(n_numbers: int, settings: Settings) -> int:
    """Return the frequencies of the periodic features of a number."""
    most = settings.most_waves // (2 * max(1, n_numbers))
    return min(settings.n_frequencies, most)


def repeat_columns(
    values: Tensor, columns: Sequence[int], widths: Sequence[int]
) -> Tensor:
    """Return values of columns, (..., columns), repeated for their inputs or outputs.

    ``columns`` and ``widths`` are numbers of columns and of repeats by head.
    """
    parts = zip(values.split(list(columns), -1), columns, widths, strict=True)
    return torch.cat(
        [part.repeat_interleave(width // n, -1) for part, n, width in parts], -1
    )


def out_of_fold_outputs(outputs: Tensor, fold: Tensor) -> Tensor:
    """Return out-of-fold outputs, (rows, n_outputs)."""
    member = held_out_member(fold, len(outputs))
    row = torch.arange(outputs.shape[1], dtype=torch.long, device=outputs.device)
    return outputs[member, row]


def held_out_member(fold: Tensor, n_members: int) -> Tensor:
    """Return the index of the network for which a fold is held out, or -1."""
    return torch.where(fold < 0, fold, fold % n_members)
