"""What every cell is expected to be, given the visible ones, and how that is learned.

:class:`ConditionalMean` is the regression part of the imputer: a multivariate normal
and an ensemble of networks that corrects it. It gives point estimates, and the context
of the conditional VAE, which models what is left. Letters as in
:mod:`skvae._networks.vae`; besides

``y``
    the rows as the point estimate sees them: numbers in their own units, shifted and
    scaled to mean 0 and variance 1, codes of categories; a missing cell holds 0
``v``
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
VISIBLE_WEIGHT = 0.1


class Rows(NamedTuple):
    """Resident rows of the training table."""

    x: Tensor  # (rows, columns) encoded
    y: Tensor  # (rows, columns)
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
        The ``point_estimate_head`` of every decoder head: losses and point estimates
        of ``y``.
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
        slots = torch.arange(joint.n_inputs)
        if hidden_layer_sizes and len(slots) > widest_normal:
            slots = inputs if len(inputs) <= widest_normal else inputs[:0]
        self.slots: Tensor
        self.register_buffer("slots", slots, persistent=False)
        self.gaussian = Gaussian(len(slots), settings)
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
        used = target[slots] >= 0
        self.slot_used: Tensor
        self.slot_outputs: Tensor
        self.slot_is_number: Tensor
        self.slot_is_flag: Tensor
        self.register_buffer("slot_used", used.nonzero()[:, 0], persistent=False)
        self.register_buffer("slot_outputs", target[slots][used], persistent=False)
        # where the numbers are among what the normal knows, if they are
        slot_of = {int(slot): k for k, slot in enumerate(slots)}
        numbers = [slot_of[int(slot)] for slot in inputs if int(slot) in slot_of]
        self.number_slots: Tensor
        self.register_buffer(
            "number_slots", torch.tensor(numbers, dtype=torch.long), persistent=False
        )
        is_number = torch.isin(slots, inputs)
        self.register_buffer("slot_is_number", is_number, persistent=False)
        self.register_buffer("slot_is_flag", is_flag[slots], persistent=False)
        self.n_members = n_members if hidden_layer_sizes else 0
        self.ensemble: BatchedMLP | None = None
        if hidden_layer_sizes:
            n_features = (
                joint.n_inputs
                + len(slots)
                + 2 * N_FREQUENCIES * len(columns)
                + joint.n_columns
            )
            widths = [n_features, *hidden_layer_sizes, joint.n_outputs]
            self.ensemble = BatchedMLP(n_members, widths, activation, generator)
            frequencies = torch.empty(len(columns), N_FREQUENCIES)
            self.frequencies = nn.Parameter(frequencies.normal_(generator=generator))
        # log-odds and zeros that the networks' outputs are added to
        self.start: Tensor
        self.register_buffer("start", torch.zeros(joint.n_outputs))
        # average log-deviation that the normal leaves to hidden cells, by number
        self.usual_deviation: Tensor
        self.register_buffer("usual_deviation", torch.zeros(len(numbers)))
        # how far estimates of every column go from the marginal, and the networks'
        # share in them
        self.reach: Tensor
        self.register_buffer("reach", torch.ones(joint.n_columns))
        self.share: Tensor
        self.register_buffer(
            "share", torch.full((joint.n_columns,), float(self.n_members > 0))
        )

    @property
    def n_context(self) -> int:
        """Width of :meth:`context`."""
        joint = self.joint
        n_deviations = len(self.number_slots)
        return joint.n_outputs + joint.n_inputs + joint.n_columns + n_deviations

    def gaussian_inputs(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows as the normal sees them, and their visibility."""
        visible = self._spread(v)[..., self.slots].to(y.dtype)
        return self.joint.embed(y, v)[..., self.slots], visible

    def _spread(self, v: Tensor) -> Tensor:
        """Repeat the mask of columns for every input of a column."""
        return torch.cat(
            [
                part.repeat_interleave(n_inputs // n_columns, -1)
                for part, n_inputs, n_columns in zip(
                    v.split(self.joint.columns, -1),
                    self.joint.inputs,
                    self.joint.columns,
                    strict=True,
                )
            ],
            -1,
        )

    def features(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the networks see, and the outputs that they correct.

        Those are the normal's estimates of numbers and of the probabilities of
        categories, as logits; where there is no normal, the marginals.
        """
        mask = v.to(y.dtype)
        embedded = self.joint.embed(y, v)
        parts = [embedded, mask]
        start = self.start.expand(len(y), -1)
        if len(self.slots):
            spread = self._spread(v)[..., self.slots].to(y.dtype)
            completed = self.gaussian.condition(embedded[..., self.slots], spread, fold)
            parts.append(completed)
            estimate = self._as_outputs(completed)
            start = start.index_copy(-1, self.slot_outputs, estimate)
        if len(self.columns):
            # ranks: encoded numbers are near N(0, 1)
            rank = torch.erf(x[..., self.columns] / math.sqrt(2))
            angle = 2 * math.pi * rank.unsqueeze(-1) * self.frequencies
            waves = torch.cat([angle.sin(), angle.cos()], -1)
            waves = waves * mask[..., self.columns].unsqueeze(-1)
            parts.append(waves.flatten(-2))
        return torch.cat(parts, -1), start

    def _as_outputs(self, completed: Tensor) -> Tensor:
        """Return the normal's estimates as outputs, in ``slot_outputs``."""
        chance = completed.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        logit = chance.log() - self.slot_is_flag * (1 - chance).log()
        return torch.where(self.slot_is_number, completed, logit)[:, self.slot_used]

    def members(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs of the networks and those that they correct.

        Shapes (members, rows, n_outputs) and (rows, n_outputs).
        """
        assert self.ensemble is not None
        features, start = self.features(x, y, v, fold)
        return self.ensemble(features) + start, start

    def expected(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Return means of numbers, probabilities and modes, (rows, columns)."""
        if self.ensemble is None:
            inputs, visible = self.gaussian_inputs(y, v)
            return self.gaussian.condition(inputs, visible)
        outputs, start = self.members(x, y, v)
        return self.joint.point_estimate(self._blended(outputs.mean(0), start))

    def _blended(self, outputs: Tensor, start: Tensor) -> Tensor:
        """Return a mixture of networks' outputs, what they correct, and marginals."""
        share, reach = self.by_output(self.share), self.by_output(self.reach)
        mixed = start + share * (outputs - start)
        return mixed + (1 - reach) * (self.start - mixed)

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

    def blend(self) -> list[dict[str, float]]:
        """Return the shares of marginal, normal and networks, by column."""
        return [
            {
                "marginal": 1 - reach,
                "normal": reach * (1 - share),
                "networks": reach * share,
            }
            for reach, share in zip(
                self.reach.tolist(), self.share.tolist(), strict=True
            )
        ]

    def context(
        self, x: Tensor, y: Tensor, v: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Return what the conditional VAE knows of the visible cells.

        That is the blended outputs, the cells, their mask, and how much the normal
        leaves open of each number, as log-deviations from its average. Rows of the
        training table come with their ``fold``: the outputs are then those of the
        network that has not seen the row, so the VAE learns from honest residuals.
        """
        outputs, start = self.members(x, y, v, fold)
        if fold is None:
            own = outputs.mean(0)
        else:
            # rows that every network has seen (fold -1) get the average
            member = member_of(fold, self.n_members)
            own = outputs[member, torch.arange(len(x), device=x.device)]
            own = torch.where((fold < 0).unsqueeze(-1), outputs.mean(0), own)
        parts = [self._blended(own, start), self.joint.embed(y, v), v.to(y.dtype)]
        if len(self.number_slots):
            parts.append(self._log_deviation(y, v, fold) - self.usual_deviation)
        return torch.cat(parts, -1)

    def redrawn(
        self, c: Tensor, y: Tensor, v: Tensor, draws: Sequence[int | None]
    ) -> Iterator[Tensor]:
        """Yield the context by each of the drawn parameters of the normal.

        Its estimates change, and what it leaves open; the corrections by the networks
        stay. None stands for the fitted parameters.
        """
        if len(self.slots) and any(draw is not None for draw in draws):
            inputs, visible = self.gaussian_inputs(y, v)
            fitted = self._as_outputs(self.gaussian.condition(inputs, visible))
            reach = self.by_output(self.reach)[self.slot_outputs]
        for draw in draws:
            if not len(self.slots) or draw is None:
                yield c
                continue
            drawn = self.gaussian.condition(inputs, visible, draw=draw)
            shift = reach * (self._as_outputs(drawn) - fitted)
            context = c.index_add(-1, self.slot_outputs, shift)
            n_deviations = len(self.number_slots)
            if n_deviations:
                left = self.gaussian.deviation(visible, self.number_slots, draw=draw)
                context[:, -n_deviations:] = left.log() - self.usual_deviation
            yield context

    def _log_deviation(self, y: Tensor, v: Tensor, fold: Tensor | None) -> Tensor:
        _, visible = self.gaussian_inputs(y, v)
        return self.gaussian.deviation(visible, self.number_slots, fold).log()

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
        start = self.joint.initialise(rows.y, weight)
        start[self.outputs] = 0  # the mean of y, where the normal knows no better
        self.start.copy_(start)
        if not len(self.slots):
            return []
        inputs, visible = self.gaussian_inputs(rows.y, rows.observed)
        return self.gaussian.fit(
            inputs, visible, rows.weight, max_iter=max_iter, progress=progress
        )

    @torch.no_grad()
    def draw_parameters(self, rows: Rows, generator: torch.Generator) -> None:
        """Draw the normal's parameters from their posterior, given the same rows."""
        if len(self.slots):
            inputs, visible = self.gaussian_inputs(rows.y, rows.observed)
            self.gaussian.draw_parameters(inputs, visible, rows.weight, generator)

    @torch.no_grad()
    def set_usual_deviation(self, rows: Rows, v: Tensor) -> None:
        """Average what the normal leaves open over the hidden cells of some rows."""
        if len(self.number_slots):
            hidden = (rows.observed & ~v)[:, self.columns].to(rows.y.dtype)
            total = (self._log_deviation(rows.y, v, rows.fold) * hidden).sum(0)
            self.usual_deviation.copy_(total / hidden.sum(0).clamp(min=1))

    def loss(self, rows: Rows, v: Tensor, kept: Tensor) -> Tensor:
        """Return the mean loss per cell; ``kept`` (members, rows) are their shares."""
        outputs, _ = self.members(rows.x, rows.y, v, rows.fold)
        cells = -self.joint.log_prob_cells(outputs, rows.y.expand(len(outputs), -1, -1))
        weight = rows.observed * torch.where(v, VISIBLE_WEIGHT, 1.0)
        per_row = (cells * weight).sum(-1) * rows.weight
        return (per_row * kept).sum() / (kept.shape[1] * rows.x.shape[1])


def member_of(fold: Tensor, n_members: int) -> Tensor:
    """Return the network that leaves out the rows of a fold, -1 for none."""
    return torch.where(fold < 0, fold, fold % n_members)
