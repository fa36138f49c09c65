"""Location-scale likelihoods: Normal and Student-t."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from .head import (
    CPU_FLOATS,
    Cells,
    Head,
    LocationScaleIndex,
    common_noise,
    weighted_moments,
)
from .noise import Source, draw_normal, draw_student_t
from .normal import LOG_2PI

#: Minimum scale, in standard deviations of the encoded column: repeated values would
#: otherwise drive the scale to zero and the likelihood to infinity.
SCALE_FLOOR = 1e-3

#: Maximum distance of a cell's log-scale from that of its column: exp(7) is finite and
#: far beyond the ratio of scales that data show.
LOG_SCALE_RANGE = 7.0

#: Clipping bound of encoder inputs, in standard deviations from the column's mean: an
#: outlier must not move its latent variables out of the range seen in training.
INPUT_RANGE = 10.0

#: Candidates for the initial degrees of freedom of a Student-t column, from practically
#: Normal to heavy tails, compared by marginal likelihood.
INITIAL_DEGREES_OF_FREEDOM = (400.0, 30.0, 8.0)


class LocationScale(Head):
    """Columns with a location from the decoder and a learned scale with a floor.

    ``scale="column"`` learns one scale per column, ``"cell"`` lets the decoder move
    each cell's log-scale around that of its column, ``"isotropic"`` shares one scale
    between all columns (the noise model of probabilistic PCA).
    """

    is_numeric = True
    input_link = "identity"

    def __init__(self, n_columns: int, scale: str = "column") -> None:
        per_cell = scale == "cell"
        super().__init__(n_columns, n_columns, n_columns * (1 + per_cell))
        self.per_cell = per_cell
        n_scales = 1 if scale == "isotropic" else n_columns
        self.is_shared = n_scales == 1
        # scale = floor + exp(raw_log_scale): smooth, never below the floor
        self.raw_log_scale = nn.Parameter(torch.zeros(n_scales, **CPU_FLOATS))
        self.gate: Tensor
        # 0 for columns with one scale for all cells, see choose_scale
        n_gates = n_columns if per_cell else 0
        self.register_buffer("gate", torch.ones(n_gates, **CPU_FLOATS))
        self.floor: Tensor
        floor = torch.full((n_scales,), SCALE_FLOOR, **CPU_FLOATS)
        self.register_buffer("floor", floor)
        self.low: Tensor
        self.high: Tensor
        infinite = torch.full((n_columns,), math.inf, **CPU_FLOATS)
        self.register_buffer("low", -infinite)
        self.register_buffer("high", infinite)

    def embed(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        mean, variance = weighted_moments(x, weight)
        reach = INPUT_RANGE * variance.sqrt()
        self.low.copy_(mean - reach)
        self.high.copy_(mean + reach)
        if self.is_shared:
            variance = variance.mean(0, keepdim=True)
        self._set_deviation(variance.sqrt())
        return F.pad(mean, (0, self.n_outputs - self.n_columns))

    def deviation_per_scale(self) -> Tensor | float:
        """Return the ratio of the noise's standard deviation to its scale."""
        return 1.0

    def deviation(self) -> Tensor:
        """Return the standard deviation of the noise by column, (n_columns,).

        With a scale per cell, that of a cell whose log-scale has no shift.
        """
        scale = self.floor + self.raw_log_scale.exp()
        return (scale * self.deviation_per_scale()).expand(self.n_columns)

    def set_deviation(self, deviation: Tensor) -> Tensor:
        """Set the noise's standard deviation by column, (n_columns,).

        Returns what was set: columns that share a scale get their average.
        """
        if self.is_shared:
            deviation = deviation.square().mean().sqrt().expand_as(deviation)
        self._set_deviation(deviation[: self.raw_log_scale.numel()])
        return deviation

    @torch.no_grad()
    def _set_deviation(self, deviation: Tensor) -> None:
        scale = deviation / self.deviation_per_scale()
        above_floor = (scale - self.floor).clamp(min=SCALE_FLOOR)
        self.raw_log_scale.copy_(above_floor.log())

    def set_floor(self, floor: Tensor) -> None:
        """Set the minimum scale by column; a shared scale gets the smallest."""
        self.floor.copy_(floor.min() if self.is_shared else floor)

    @torch.no_grad()
    def shift_log_scale(self, shift: Tensor) -> None:
        """Add to the log-scales by column; a shared scale gets the average."""
        self.raw_log_scale.add_(shift.mean() if self.is_shared else shift)

    def scale(self, outputs: Tensor) -> Tensor:
        """Return the scale, (n_columns,) or (..., n_columns) per cell."""
        raw: Tensor = self.raw_log_scale
        if self.per_cell:
            shift = outputs[..., self.n_columns :] / LOG_SCALE_RANGE
            raw = raw + (LOG_SCALE_RANGE * self.gate) * torch.tanh(shift)
        return self.floor + raw.exp()

    def loc(self, outputs: Tensor) -> Tensor:
        """Return the location, (..., n_columns)."""
        return outputs[..., : self.n_columns] if self.per_cell else outputs

    def point_estimate(self, outputs: Tensor) -> Tensor:
        return self.loc(outputs)

    def variance(self, outputs: Tensor) -> Tensor:
        deviation = self.scale(outputs) * self.deviation_per_scale()
        return deviation.square().expand_as(self.loc(outputs))

    @abstractmethod
    def noise(self, like: Tensor, source: Source) -> Tensor:
        """Draw deviations from the location in units of the scale."""

    def common_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Return the noise of :meth:`sample_common`, (draws, 1, n_columns)."""
        return self.noise(like, generator)

    @abstractmethod
    def noise_quantiles(self, levels: np.ndarray, column: int) -> np.ndarray:
        """Return quantiles of a column's noise in units of the scale."""

    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        loc = self.loc(outputs)
        draw = loc + self.scale(outputs) * self.noise(loc, source)
        return draw if temperature == 1 else loc + temperature * (draw - loc)

    def sample_common(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        loc = self.loc(outputs)
        noise = self.common_noise(loc[:, :1], generator)
        return loc + self.scale(outputs) * noise

    @torch.no_grad()
    def quantiles(self, outputs: Tensor, levels: np.ndarray, column: int) -> np.ndarray:
        """Return quantiles of a column given z: (..., n_outputs) -> (levels, ...).

        In float64, and of one column: of many they would not fit into memory.
        """
        loc = self.loc(outputs)
        scale = self.scale(outputs).expand_as(loc)[..., column].cpu().numpy()
        noise = self.noise_quantiles(levels, column)
        noise = noise.reshape(-1, *(1 for _ in scale.shape))
        quantiles: np.ndarray = loc[..., column].cpu().numpy() + noise * scale
        return quantiles

    def location_scale_indices(self) -> Sequence[LocationScaleIndex]:
        return [LocationScaleIndex(k, k, k) for k in range(self.n_columns)]

    def log_scale_outputs(self) -> Sequence[int]:
        return range(self.n_columns, self.n_outputs)

    def point_estimate_head(self) -> Normal:
        return Normal(self.n_columns)

    def point_estimate_outputs(self) -> Sequence[int]:
        return range(self.n_columns)

    @torch.no_grad()
    def choose_scale(self, train: Cells, valid: Cells, free: Tensor) -> None:
        """Choose one scale per column where it has the higher likelihood on ``valid``.

        That scale is the best of a grid on ``train``. Only columns of the mask ``free``
        are changed.
        """
        if not self.per_cell:
            return
        per_cell, raw = score_columns(self, valid), self.raw_log_scale.clone()
        # around the average log-scale of the cells, a factor of 10 either way
        raw_cells = (self.scale(train.outputs) - self.floor).clamp(min=1e-12).log()
        centre = raw_cells.mean(0)
        self.gate.zero_()
        best, best_score = centre, torch.full_like(centre, -math.inf)
        for shift in torch.linspace(-2.3, 2.3, 47, **CPU_FLOATS).tolist():
            self.raw_log_scale.copy_(centre + shift)
            score = score_columns(self, train)
            best = torch.where(score > best_score, centre + shift, best)
            best_score = torch.maximum(score, best_score)
        self.raw_log_scale.copy_(best)
        dropped = free & (score_columns(self, valid) > per_cell)
        self.gate.copy_((~dropped).to(self.gate.dtype))
        self.raw_log_scale.copy_(torch.where(dropped, best, raw))

    def varies_by_cell(self) -> list[bool]:
        per_column = super().varies_by_cell()
        return [bool(gate) for gate in self.gate] if self.per_cell else per_column


def score_columns(head: Head, cells: Cells) -> Tensor:
    """Return the weighted log-likelihood of each column, (n_columns,)."""
    return (head.log_prob(cells.outputs, cells.x) * cells.weight).sum(0)


class Normal(LocationScale):
    """Normal columns, given z."""

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        scale = self.scale(outputs)
        # loc - x: the other way round autograd would negate every gradient
        standardised = (self.loc(outputs) - x) * scale.reciprocal()
        return -0.5 * standardised.square() - (scale.log() + 0.5 * LOG_2PI)

    def noise(self, like: Tensor, source: Source) -> Tensor:
        return draw_normal(like, source)

    def common_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return common_noise(like, generator)

    def noise_quantiles(self, levels: np.ndarray, column: int) -> np.ndarray:
        quantiles: np.ndarray = stats.norm.ppf(levels)
        return quantiles


class HeavyTail(torch.autograd.Function):
    """Negative Student-t log-density without its normaliser, summed over columns.

    The sum of power * log(1 + (rate * (loc - x))^2), (...,), with an in-place gradient:
    autograd passes over memory twice as often, which takes most of the time with wide
    rows. ``loc`` is (..., n_columns) and may have more leading dimensions than ``x``,
    which gets no gradient; ``rate`` and ``power`` are (n_columns,).
    """

    @staticmethod
    def forward(
        ctx: Any, loc: Tensor, x: Tensor, rate: Tensor, power: Tensor
    ) -> Tensor:
        scaled = (loc - x).mul_(rate)
        tail = scaled.square().log1p_()
        ctx.save_for_backward(scaled, tail, rate, power)
        return tail @ power

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled, tail, rate, power = ctx.saved_tensors
        (gradient,) = gradients
        by_row = gradient.reshape(-1)
        share = torch.exp(-tail)  # 1 / (1 + scaled^2)
        of_power = by_row @ tail.flatten(0, -2)
        # d/d rate of a cell: 2 power (1 - share) / rate
        inside = by_row.sum() - by_row @ share.flatten(0, -2)
        of_rate = 2 * power * inside / rate
        of_loc = share.mul_(scaled).mul_(gradient.unsqueeze(-1)).mul_(2 * power * rate)
        return of_loc, None, of_rate, of_power


class StudentT(LocationScale):
    """Student-t columns with learned degrees of freedom (> 2) per column."""

    def __init__(self, n_columns: int, scale: str = "column") -> None:
        super().__init__(n_columns, scale)
        # degrees of freedom = 2 + exp(raw)
        raw = torch.full((n_columns,), math.log(28.0), **CPU_FLOATS)
        self.raw_freedom = nn.Parameter(raw)

    @torch.no_grad()
    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        bias = super().initialise(x, weight)
        deviation = weighted_moments(x, weight)[1].sqrt()
        cells = Cells(bias.expand(len(x), -1), x, weight)
        best = torch.zeros_like(self.raw_freedom)
        best_score = torch.full_like(best, -math.inf)
        for degrees_of_freedom in INITIAL_DEGREES_OF_FREEDOM:
            raw = torch.full_like(best, math.log(degrees_of_freedom - 2))
            self.raw_freedom.copy_(raw)
            self._set_deviation(deviation)
            score = score_columns(self, cells)
            best = torch.where(score > best_score, raw, best)
            best_score = torch.maximum(score, best_score)
        self.raw_freedom.copy_(best)
        self._set_deviation(deviation)
        return bias

    def degrees_of_freedom(self) -> Tensor:
        """Return the degrees of freedom, (n_columns,)."""
        # at 400 a t is Normal to 1e-5 nats; far above, float32 loses lgamma's digits
        return 2 + self.raw_freedom.clamp(max=6.0).exp()

    def deviation_per_scale(self) -> Tensor:
        degrees_of_freedom = self.degrees_of_freedom()
        return (degrees_of_freedom / (degrees_of_freedom - 2)).sqrt()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        degrees_of_freedom, scale = self.degrees_of_freedom(), self.scale(outputs)
        squared = ((self.loc(outputs) - x) * scale.reciprocal()).square()
        tail = (
            0.5 * (degrees_of_freedom + 1) * torch.log1p(squared / degrees_of_freedom)
        )
        return self._log_normaliser(degrees_of_freedom) - scale.log() - tail

    def log_prob_rows(self, outputs: Tensor, x: Tensor) -> Tensor:
        if self.per_cell:
            return super().log_prob_rows(outputs, x)
        degrees_of_freedom, scale = self.degrees_of_freedom(), self.scale(outputs)
        rate = (scale * degrees_of_freedom.sqrt()).reciprocal()
        power = 0.5 * (degrees_of_freedom + 1)
        tail: Tensor = HeavyTail.apply(outputs, x, rate, power)  # type: ignore[no-untyped-call]
        return (self._log_normaliser(degrees_of_freedom) - scale.log()).sum() - tail

    @staticmethod
    def _log_normaliser(degrees_of_freedom: Tensor) -> Tensor:
        return (
            torch.lgamma((degrees_of_freedom + 1) / 2)
            - torch.lgamma(degrees_of_freedom / 2)
            - 0.5 * torch.log(math.pi * degrees_of_freedom)
        )

    def noise(self, like: Tensor, source: Source) -> Tensor:
        return draw_student_t(self.degrees_of_freedom().expand_as(like), source)

    def noise_quantiles(self, levels: np.ndarray, column: int) -> np.ndarray:
        degrees_of_freedom = float(self.degrees_of_freedom()[column])
        quantiles: np.ndarray = stats.t.ppf(levels, degrees_of_freedom)
        return quantiles
