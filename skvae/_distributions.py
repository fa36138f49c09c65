"""Likelihoods of columns: one small class per decoder head.

A *head* turns decoder outputs into the likelihood of a group of like columns;
:class:`Joint` puts the heads of a table side by side. Heads never draw by
themselves: ``sample`` takes the generator. Every density is in nats, with every
constant.

Shapes: ``...`` stands for any leading dimensions (draws, rows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._latents import LOG_2PI

#: Smallest scale of a Normal or Student-t head, in units of the encoded columns
#: (standard deviations). A column with repeated values would otherwise drive its
#: scale to zero and the likelihood to infinity.
SCALE_FLOOR = 1e-3

#: A per-cell log-scale moves at most this far from its column's log-scale.
LOG_SCALE_RANGE = 7.0

#: Encoder inputs are cut off this many standard deviations from their column's mean:
#: one wild cell must not throw the latents of its row out of the range
#: that the decoder was trained on.
INPUT_RANGE = 10.0

#: Degrees of freedom that a Student-t column may start from: whichever suits its
#: marginal distribution, from practically Normal to heavy tails.
START_FREEDOM = (400.0, 30.0, 8.0)

#: Upper bound of a Poisson's log rate, which keeps float32 finite.
LOG_RATE_LIMIT = 20.0


class Cells(NamedTuple):
    """Decoded rows beside what was observed."""

    outputs: Tensor  # (rows, n_outputs)
    x: Tensor  # (rows, n_columns)
    weight: Tensor  # (rows, n_columns), 0 where missing


class Head(nn.Module):
    """Likelihood of ``n_columns`` columns of one kind.

    Parameters
    ----------
    n_columns : int
        Number of columns of the group.
    n_inputs : int
        Width of the encoder's view of the group, see :meth:`embed`.
    n_outputs : int
        Number of decoder outputs that the group needs.
    """

    def __init__(self, n_columns: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs

    def embed(self, x: Tensor) -> Tensor:
        """Return what the encoder sees: (..., n_columns) -> (..., n_inputs)."""
        return x

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        """Set own parameters to the marginal fit and return the output biases.

        ``x`` is (rows, n_columns) and ``weight`` of the same shape is zero where a
        cell is missing. The biases have shape (n_outputs,).
        """
        raise NotImplementedError

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return log-densities: (..., n_outputs), (..., n_columns) -> same as x."""
        raise NotImplementedError

    def log_prob_rows(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the log-densities summed over the columns, (...,)."""
        return self.log_prob(outputs, x).sum(-1)

    def point(self, outputs: Tensor) -> Tensor:
        """Return the mean of number columns and the mode of the others."""
        raise NotImplementedError

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one value per column: (..., n_outputs) -> (..., n_columns)."""
        raise NotImplementedError


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance per column."""
    total = weight.sum(0).clamp(min=1e-12)
    mean = (weight * x).sum(0) / total
    variance = (weight * (x - mean).square()).sum(0) / total
    return mean, variance


class LocationScale(Head):
    """Columns with a location from the decoder and a learned, floored scale.

    ``scale="column"`` learns one scale per column, ``"cell"`` lets the decoder move
    each cell's log-scale around that of its column, ``"isotropic"`` shares one scale
    between all columns (the noise model of probabilistic PCA).
    """

    def __init__(self, n_columns: int, scale: str = "column") -> None:
        per_cell = scale == "cell"
        super().__init__(n_columns, n_columns, n_columns * (1 + per_cell))
        self.per_cell = per_cell
        n_scales = 1 if scale == "isotropic" else n_columns
        # scale = floor + exp(raw_log_scale): smooth, never below the floor
        self.raw_log_scale = nn.Parameter(torch.zeros(n_scales))
        self.gate: Tensor
        # 0 for columns whose scale is better left alone, see choose_scale
        self.register_buffer("gate", torch.ones(n_columns if per_cell else 0))
        self.floor: Tensor
        self.register_buffer("floor", torch.full((n_scales,), SCALE_FLOOR))
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.full((n_columns,), -math.inf))
        self.register_buffer("high", torch.full((n_columns,), math.inf))

    def embed(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        mean, variance = _moments(x, weight)
        reach = INPUT_RANGE * variance.sqrt()
        self.low.copy_(mean - reach)
        self.high.copy_(mean + reach)
        if self.raw_log_scale.numel() == 1:
            variance = variance.mean(0, keepdim=True)
        self.set_deviation(variance.sqrt())
        return F.pad(mean, (0, self.n_outputs - self.n_columns))

    def deviation_per_scale(self) -> Tensor | float:
        """Return the standard deviation of the noise over its scale."""
        return 1.0

    @torch.no_grad()
    def set_deviation(self, deviation: Tensor) -> None:
        """Set the noise's standard deviation by column (or the shared one)."""
        scale = deviation / self.deviation_per_scale()
        above_floor = (scale - self.floor).clamp(min=SCALE_FLOOR)
        self.raw_log_scale.copy_(above_floor.log())

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

    def point(self, outputs: Tensor) -> Tensor:
        return self.loc(outputs)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw deviations from the location in units of the scale."""
        raise NotImplementedError

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        loc = self.loc(outputs)
        return loc + self.scale(outputs) * self.noise(loc, generator)

    @torch.no_grad()
    def choose_scale(self, train: Cells, valid: Cells, free: Tensor) -> None:
        """Give up the scale per cell where ``valid`` favours one scale per column.

        The one scale is the best of a grid on ``train``; only columns of the mask
        ``free`` are changed.
        """
        per_cell, raw = self._score(valid), self.raw_log_scale.clone()
        # around the average log-scale of the cells, a factor of 10 either way
        raw_cells = (self.scale(train.outputs) - self.floor).clamp(min=1e-12).log()
        centre = raw_cells.mean(0)
        self.gate.zero_()
        best, best_score = centre, torch.full_like(centre, -math.inf)
        for shift in torch.linspace(-2.3, 2.3, 47).tolist():
            self.raw_log_scale.copy_(centre + shift)
            score = self._score(train)
            best = torch.where(score > best_score, centre + shift, best)
            best_score = torch.maximum(score, best_score)
        self.raw_log_scale.copy_(best)
        dropped = free & (self._score(valid) > per_cell)
        self.gate.copy_((~dropped).to(self.gate.dtype))
        self.raw_log_scale.copy_(torch.where(dropped, best, raw))

    def _score(self, cells: Cells) -> Tensor:
        """Return the weighted log-likelihood of each column."""
        return (self.log_prob(cells.outputs, cells.x) * cells.weight).sum(0)


class Normal(LocationScale):
    """Normal columns."""

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        scale = self.scale(outputs)
        # loc - x: the other way round autograd would negate every gradient
        standardised = (self.loc(outputs) - x) * scale.reciprocal()
        return -0.5 * standardised.square() - (scale.log() + 0.5 * LOG_2PI)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.empty_like(like).normal_(generator=generator)


class HeavyTail(torch.autograd.Function):
    """sum over columns of power * log(1 + (rate * (loc - x))^2), (...,).

    ``loc`` is (..., n_columns) and may have more leading dimensions than ``x``;
    ``rate`` and ``power`` are (n_columns,). With wide rows, the passes over memory take
    the time: this makes half as many as the same formula under autograd. ``x`` is data
    and gets no gradient.
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
        # freedom = 2 + exp(raw)
        self.raw_freedom = nn.Parameter(torch.full((n_columns,), math.log(28.0)))

    @torch.no_grad()
    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        bias = super().start_at(x, weight)
        deviation = _moments(x, weight)[1].sqrt()
        cells = Cells(bias.expand(len(x), -1), x, weight)
        best = torch.zeros_like(self.raw_freedom)
        best_score = torch.full_like(best, -math.inf)
        for freedom in START_FREEDOM:
            raw = torch.full_like(best, math.log(freedom - 2))
            self.raw_freedom.copy_(raw)
            self.set_deviation(deviation)
            score = self._score(cells)
            best = torch.where(score > best_score, raw, best)
            best_score = torch.maximum(score, best_score)
        self.raw_freedom.copy_(best)
        self.set_deviation(deviation)
        return bias

    def freedom(self) -> Tensor:
        """Return the degrees of freedom, (n_columns,)."""
        # at 400 a t is Normal to 1e-5 nats; far above, float32 loses lgamma's digits
        return 2 + self.raw_freedom.clamp(max=6.0).exp()

    def deviation_per_scale(self) -> Tensor:
        freedom = self.freedom()
        return (freedom / (freedom - 2)).sqrt()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        freedom, scale = self.freedom(), self.scale(outputs)
        squared = ((self.loc(outputs) - x) * scale.reciprocal()).square()
        tail = 0.5 * (freedom + 1) * torch.log1p(squared / freedom)
        return self._log_normaliser(freedom) - scale.log() - tail

    def log_prob_rows(self, outputs: Tensor, x: Tensor) -> Tensor:
        if self.per_cell:
            return super().log_prob_rows(outputs, x)
        freedom, scale = self.freedom(), self.scale(outputs)
        rate = (scale * freedom.sqrt()).reciprocal()
        power = 0.5 * (freedom + 1)
        tail: Tensor = HeavyTail.apply(outputs, x, rate, power)  # type: ignore[no-untyped-call]
        return (self._log_normaliser(freedom) - scale.log()).sum() - tail

    @staticmethod
    def _log_normaliser(freedom: Tensor) -> Tensor:
        return (
            torch.lgamma((freedom + 1) / 2)
            - torch.lgamma(freedom / 2)
            - 0.5 * torch.log(math.pi * freedom)
        )

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        freedom = self.freedom().expand_as(like).contiguous()
        chi_square = 2 * torch._standard_gamma(freedom / 2, generator=generator)
        noise = torch.empty_like(like).normal_(generator=generator)
        return noise * torch.rsqrt(chi_square / freedom)


class Bernoulli(Head):
    """Columns with values 0 and 1, or grey values between them."""

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns, n_columns)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        rate = (weight * x).sum(0) + 0.5
        return torch.log(rate) - torch.log(weight.sum(0) + 1 - rate)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return x * outputs - F.softplus(outputs)

    def point(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(outputs), generator=generator)


class Categorical(Head):
    """Columns of codes 0 .. n_categories - 1 without an order."""

    def __init__(self, n_columns: int, n_categories: int) -> None:
        width = n_columns * n_categories
        super().__init__(n_columns, width, width)
        self.n_categories = n_categories
        self.codes: Tensor
        self.register_buffer(
            "codes", torch.arange(n_categories, dtype=torch.float32), persistent=False
        )

    def _logits(self, outputs: Tensor) -> Tensor:
        return outputs.view(*outputs.shape[:-1], self.n_columns, self.n_categories)

    def embed(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(-1) == self.codes).to(x.dtype).flatten(-2)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        one_hot = self._logits(self.embed(x)) * weight.unsqueeze(-1)
        frequency = one_hot.sum(0) + 0.5  # (n_columns, n_categories)
        return torch.log(frequency / frequency.sum(-1, keepdim=True)).flatten()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return _pick_codes(F.log_softmax(self._logits(outputs), dim=-1), x)

    def point(self, outputs: Tensor) -> Tensor:
        return self._logits(outputs).argmax(-1).to(outputs.dtype)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return _draw_codes(F.softmax(self._logits(outputs), dim=-1), generator)


class Ordinal(Head):
    """Columns of ordered codes: a cumulative logit with learned thresholds.

    P(x <= c) = sigmoid(threshold_c - output), thresholds increasing in c.
    """

    def __init__(self, n_columns: int, n_categories: int) -> None:
        super().__init__(n_columns, n_columns * (n_categories - 1), n_columns)
        self.n_categories = n_categories
        self.first_threshold = nn.Parameter(torch.zeros(n_columns, 1))
        self.raw_gaps = nn.Parameter(torch.zeros(n_columns, max(n_categories - 2, 0)))
        self.codes: Tensor
        self.register_buffer(
            "codes", torch.arange(n_categories - 1).float(), persistent=False
        )

    def embed(self, x: Tensor) -> Tensor:
        # thermometer code: x > 0, x > 1, ... keeps the order in a linear layer
        return (x.unsqueeze(-1) > self.codes).to(x.dtype).flatten(-2)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        above = (x.unsqueeze(-1) > self.codes).to(x.dtype)
        n_above = (above * weight.unsqueeze(-1)).sum(0) + 0.5
        n_below = weight.sum(0).unsqueeze(-1) + 1 - n_above
        thresholds = torch.log(n_below) - torch.log(n_above)
        gaps = thresholds.diff(dim=-1).clamp(min=1e-3)
        with torch.no_grad():
            self.first_threshold.copy_(thresholds[:, :1])
            self.raw_gaps.copy_(gaps + torch.log(-torch.expm1(-gaps)))
        return x.new_zeros(self.n_outputs)

    def thresholds(self) -> Tensor:
        """Return the increasing thresholds, (n_columns, n_categories - 1)."""
        gaps = F.softplus(self.raw_gaps)
        return torch.cat([self.first_threshold, gaps], dim=-1).cumsum(-1)

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return log P(x = c), (..., n_columns, n_categories)."""
        # With a > b: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),
        # which stays accurate where both sigmoids are close to 0 or to 1.
        thresholds = self.thresholds()
        upper = F.logsigmoid(thresholds - outputs.unsqueeze(-1))  # log P(x <= c)
        lower = F.logsigmoid(outputs.unsqueeze(-1) - thresholds)  # log P(x > c)
        between = torch.log(-torch.expm1(-thresholds.diff(dim=-1).clamp(min=1e-6)))
        middle = upper[..., 1:] + lower[..., :-1] + between
        return torch.cat([upper[..., :1], middle, lower[..., -1:]], dim=-1)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return _pick_codes(self.log_probabilities(outputs), x)

    def point(self, outputs: Tensor) -> Tensor:
        return self.log_probabilities(outputs).argmax(-1).to(outputs.dtype)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return _draw_codes(self.log_probabilities(outputs).exp(), generator)


class Poisson(Head):
    """Counts with a log rate."""

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns, n_columns)

    def embed(self, x: Tensor) -> Tensor:
        return torch.log1p(x)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.log(_moments(x, weight)[0].clamp(min=1e-3))

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        log_rate = outputs.clamp(max=LOG_RATE_LIMIT)
        return x * log_rate - log_rate.exp() - torch.lgamma(x + 1)

    def point(self, outputs: Tensor) -> Tensor:
        return outputs.clamp(max=LOG_RATE_LIMIT).exp()

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.point(outputs), generator=generator)


def _pick_codes(log_probability: Tensor, x: Tensor) -> Tensor:
    """Return the log-probability of the codes ``x``: (..., n_categories) -> (...,)."""
    code = x.long().unsqueeze(-1).expand(*log_probability.shape[:-1], 1)
    return log_probability.gather(-1, code).squeeze(-1)


def _draw_codes(probability: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from the last dimension: (..., n_categories) -> (...,)."""
    flat = probability.flatten(0, -2)
    codes = torch.multinomial(flat, 1, generator=generator)
    return codes.reshape(probability.shape[:-1]).to(probability.dtype)


class Joint(nn.Module):
    """Independent heads over consecutive groups of columns.

    Parameters
    ----------
    heads : sequence of Head
        Their columns stand side by side, in this order, in every table ``x``.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.columns = [head.n_columns for head in heads]
        self.inputs = [head.n_inputs for head in heads]
        self.outputs = [head.n_outputs for head in heads]
        self.n_columns, self.n_inputs = sum(self.columns), sum(self.inputs)
        self.n_outputs = sum(self.outputs)

    def embed(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return (..., n_inputs); a missing cell's inputs are zero."""
        cells = zip(self._heads(), x.split(self.columns, -1), strict=True)
        parts = [head.embed(part) for head, part in cells]
        if observed is not None:
            for index, mask in enumerate(observed.split(self.columns, -1)):
                repeats = self.inputs[index] // self.columns[index]
                mask = mask.to(x.dtype).repeat_interleave(repeats, -1)
                parts[index] = parts[index] * mask
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def start_at(self, x: Tensor, weight: Tensor) -> Tensor:
        """Set every head to its marginal fit; return biases (n_outputs,)."""
        groups = zip(
            self._heads(),
            x.split(self.columns, -1),
            weight.split(self.columns, -1),
            strict=True,
        )
        return torch.cat([head.start_at(*cells) for head, *cells in groups])

    def log_prob_cells(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of every cell, (..., n_columns)."""
        if len(self.heads) == 1:
            return self._head(0).log_prob(outputs, x)
        groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
        return torch.cat([h.log_prob(out, part) for (h, out), part in groups], -1)

    def log_prob(self, outputs: Tensor, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the log-density of the observed cells of each row, (...,)."""
        if observed is None:
            groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
            first, *others = [h.log_prob_rows(out, part) for (h, out), part in groups]
            return sum(others, start=first)
        cells = self.log_prob_cells(outputs, x)
        if observed is not None:
            cells = cells * observed.to(cells.dtype)
        return cells.sum(-1)

    def point(self, outputs: Tensor) -> Tensor:
        """Return means of number columns and modes of the others."""
        return torch.cat([h.point(o) for h, o in self.split(outputs)], -1)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a table, (..., n_columns)."""
        return torch.cat([h.sample(o, generator) for h, o in self.split(outputs)], -1)

    def number_slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return where columns with location and scale, their inputs and locations are.

        Three index vectors of the same length: into the columns, into the encoder
        inputs and into the decoder outputs.
        """
        slots: list[tuple[int, int, int]] = []
        column = first_input = first_output = 0
        for head in self._heads():
            if isinstance(head, LocationScale):
                slots += [
                    (column + i, first_input + i, first_output + i)
                    for i in range(head.n_columns)
                ]
            column += head.n_columns
            first_input += head.n_inputs
            first_output += head.n_outputs
        columns, inputs, outputs = torch.tensor(slots, dtype=torch.long).view(-1, 3).t()
        return columns, inputs, outputs

    def set_deviation(self, deviation: Tensor) -> Tensor:
        """Set the noise of the number columns, in the order of number_slots.

        Returns what was set: columns that share a scale get their average.
        """
        deviation = deviation.clone()
        for head, part in self._by_number_head(deviation):
            if head.raw_log_scale.numel() == 1:
                part[:] = part.square().mean().sqrt()
            head.set_deviation(part[: head.raw_log_scale.numel()])
        return deviation

    def set_floor(self, floor: Tensor) -> None:
        """Set the smallest scales of the number columns, as number_slots has them.

        Columns that share a scale get the smallest.
        """
        for head, part in self._by_number_head(floor):
            head.floor.copy_(part.min() if len(head.floor) == 1 else part)

    @torch.no_grad()
    def scale_by(self, factor: Tensor) -> None:
        """Multiply the scales of the number columns, as number_slots has them.

        Columns that share a scale get the geometric mean.
        """
        for head, part in self._by_number_head(factor.log()):
            shared = len(head.raw_log_scale) == 1
            head.raw_log_scale.add_(part.mean() if shared else part)

    def _by_number_head(self, values: Tensor) -> Iterator[tuple[LocationScale, Tensor]]:
        """Yield heads with a location and a scale, and their part of ``values``."""
        start = 0
        for head in self._heads():
            if isinstance(head, LocationScale):
                yield head, values[start : start + head.n_columns]
                start += head.n_columns

    def choose_scales(
        self,
        train: tuple[Tensor, Tensor, Tensor],
        valid: tuple[Tensor, Tensor, Tensor],
        free: Tensor,  # (n_columns,) bool
    ) -> None:
        """Choose between scales per cell and per column, see LocationScale."""
        sides = []
        for outputs, x, weight in (train, valid):
            parts = (
                outputs.split(self.outputs, -1),
                x.split(self.columns, -1),
                weight.split(self.columns, -1),
            )
            sides.append([Cells(*cells) for cells in zip(*parts, strict=True)])
        masks = free.split(self.columns)
        for head, *group in zip(self._heads(), *sides, masks, strict=True):
            if isinstance(head, LocationScale) and head.per_cell:
                head.choose_scale(*group)

    def has_scale_per_cell(self) -> list[bool]:
        """Tell for every column whether its scale moves from cell to cell."""
        flags: list[bool] = []
        for head in self._heads():
            if isinstance(head, LocationScale) and head.per_cell:
                flags += [bool(gate) for gate in head.gate]
            else:
                flags += [False] * head.n_columns
        return flags

    def _head(self, index: int) -> Head:
        head = self.heads[index]
        assert isinstance(head, Head)
        return head

    def _heads(self) -> list[Head]:
        return list(self.heads)  # type: ignore[arg-type]

    def split(self, outputs: Tensor) -> list[tuple[Head, Tensor]]:
        """Return the heads with their parts of decoder outputs."""
        return list(zip(self._heads(), outputs.split(self.outputs, -1), strict=True))


def make_head(likelihood: str, n_columns: int, n_categories: int) -> Head:
    """Return the head called ``likelihood`` for a group of columns."""
    if likelihood == "normal":
        return Normal(n_columns, "column")
    if likelihood == "normal_heteroscedastic":
        return Normal(n_columns, "cell")
    if likelihood == "normal_isotropic":
        return Normal(n_columns, "isotropic")
    if likelihood == "student_t":
        return StudentT(n_columns, "column")
    if likelihood == "student_t_heteroscedastic":
        return StudentT(n_columns, "cell")
    if likelihood == "bernoulli":
        return Bernoulli(n_columns)
    if likelihood == "categorical":
        return Categorical(n_columns, n_categories)
    if likelihood == "ordinal":
        return Ordinal(n_columns, n_categories)
    if likelihood == "poisson":
        return Poisson(n_columns)
    raise ValueError(f"Unknown likelihood {likelihood!r}.")
