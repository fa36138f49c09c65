"""Likelihoods of boolean, categorical, ordinal and count columns."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .head import CPU_FLOATS, Head, common_noise, weighted_moments
from .location_scale import Normal
from .noise import Source, draw_booleans, draw_codes, draw_gamma, draw_poisson
from .normal import LOG_2PI

#: Upper bound of the log mean of counts: exp(20) and its square are finite in float32.
LOG_RATE_LIMIT = 20.0

#: Bounds of the log of a negative binomial's dispersion r: r and 1/r keep their digits
#: in float32. At the upper bound it differs from a Poisson by less than 1e-5 nats for
#: small counts.
LOG_DISPERSION_RANGE = (-7.0, 14.0)

#: Maximum dispersion r of a marginal fit. A larger one is so near to a Poisson that its
#: gradient vanishes and r would not be learned.
LARGEST_INITIAL_DISPERSION = 1e3

#: Minimum argument of Stirling's series, from which it is exact in float32.
STIRLING_FROM = 8.0

#: Maximum rate of a Poisson draw: GPUs draw Poisson counts as 32-bit integers.
LARGEST_RATE = 2.0**31

#: Minimum temperature of draws of categories, which are modes below it: dividing logits
#: by a temperature near 0 overflows.
LEAST_TEMPERATURE = 1e-3


class Bernoulli(Head):
    """Bernoulli columns: values 0 and 1, or grey values between them."""

    is_numeric = False
    input_link = "logit"

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns, n_columns)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        rate = (weight * x).sum(0) + 0.5
        return torch.log(rate) - torch.log(weight.sum(0) + 1 - rate)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return x * outputs - F.softplus(outputs)

    def point_estimate(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)

    def variance(self, outputs: Tensor) -> Tensor:
        probability = self.point_estimate(outputs)
        return probability * (1 - probability)

    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        if temperature < LEAST_TEMPERATURE:
            return self.point_estimate(outputs).round()
        return draw_booleans(torch.sigmoid(outputs / temperature), source)

    def point_estimate_head(self) -> Bernoulli:
        return Bernoulli(self.n_columns)

    def point_estimate_outputs(self) -> Sequence[int]:
        return range(self.n_outputs)


class Codes(Head):
    """Columns of codes 0 .. n_categories - 1, whose point estimate is the mode.

    Parameters
    ----------
    n_columns, n_inputs, n_outputs : int
        See :class:`Head`.
    n_categories : int
        Number of codes, the same in every column.
    """

    is_numeric = False

    def __init__(
        self, n_columns: int, n_inputs: int, n_outputs: int, n_categories: int
    ) -> None:
        super().__init__(n_columns, n_inputs, n_outputs)
        self.n_categories = n_categories

    @abstractmethod
    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return log P(x = c) given z, (..., n_columns, n_categories)."""

    def probabilities(self, outputs: Tensor, temperature: float = 1.0) -> Tensor:
        """Return P(x = c) given z, (..., n_columns, n_categories).

        Their logarithms are divided by the temperature.
        """
        log_probability = self.log_probabilities(outputs)
        if temperature == 1:
            return log_probability.exp()
        return (log_probability / temperature).softmax(-1)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        log_probability = self.log_probabilities(outputs)
        code = x.long().unsqueeze(-1).expand(*log_probability.shape[:-1], 1)
        return log_probability.gather(-1, code).squeeze(-1)

    def point_estimate(self, outputs: Tensor) -> Tensor:
        return self.log_probabilities(outputs).argmax(-1).to(outputs.dtype)

    def variance(self, outputs: Tensor) -> Tensor:
        return torch.zeros_like(self.point_estimate(outputs))

    def predictive_moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most probable code over the draws, and variance 0."""
        mode = self.probabilities(outputs).mean(0).argmax(-1).to(outputs.dtype)
        return mode, torch.zeros_like(mode)

    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        if temperature < LEAST_TEMPERATURE:
            return self.point_estimate(outputs)
        return draw_codes(self.probabilities(outputs, temperature), source)

    def point_estimate_head(self) -> Categorical:
        return Categorical(self.n_columns, self.n_categories)


class Categorical(Codes):
    """Categorical columns: one logit per code."""

    input_link = "log"

    def __init__(self, n_columns: int, n_categories: int) -> None:
        width = n_columns * n_categories
        super().__init__(n_columns, width, width, n_categories)
        self.codes: Tensor
        self.register_buffer(
            "codes", torch.arange(n_categories, **CPU_FLOATS), persistent=False
        )

    def _logits(self, outputs: Tensor) -> Tensor:
        return outputs.view(*outputs.shape[:-1], self.n_columns, self.n_categories)

    def embed(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(-1) == self.codes).to(x.dtype).flatten(-2)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        one_hot = self._logits(self.embed(x)) * weight.unsqueeze(-1)
        frequency = one_hot.sum(0) + 0.5  # (n_columns, n_categories)
        return torch.log(frequency / frequency.sum(-1, keepdim=True)).flatten()

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        return F.log_softmax(self._logits(outputs), dim=-1)

    def probabilities(self, outputs: Tensor, temperature: float = 1.0) -> Tensor:
        return F.softmax(self._logits(outputs) / temperature, dim=-1)

    def point_estimate(self, outputs: Tensor) -> Tensor:
        return self._logits(outputs).argmax(-1).to(outputs.dtype)

    def point_estimate_outputs(self) -> Sequence[int]:
        return range(self.n_outputs)


class Ordinal(Codes):
    """Ordinal columns: cumulative logits with learned thresholds.

    P(x <= c) = sigmoid(threshold_c - output), thresholds increasing in c.
    """

    def __init__(self, n_columns: int, n_categories: int) -> None:
        n_inputs = n_columns * (n_categories - 1)
        super().__init__(n_columns, n_inputs, n_columns, n_categories)
        self.first_threshold = nn.Parameter(torch.zeros(n_columns, 1, **CPU_FLOATS))
        n_gaps = max(n_categories - 2, 0)
        self.raw_gaps = nn.Parameter(torch.zeros(n_columns, n_gaps, **CPU_FLOATS))
        self.codes: Tensor
        self.register_buffer(
            "codes", torch.arange(n_categories - 1, **CPU_FLOATS), persistent=False
        )

    def embed(self, x: Tensor) -> Tensor:
        # thermometer code: x > 0, x > 1, ... keeps the order in a linear layer
        return (x.unsqueeze(-1) > self.codes).to(x.dtype).flatten(-2)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
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
        # With a > b: sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),
        # which stays accurate where both sigmoids are close to 0 or to 1.
        thresholds = self.thresholds()
        upper = F.logsigmoid(thresholds - outputs.unsqueeze(-1))  # log P(x <= c)
        lower = F.logsigmoid(outputs.unsqueeze(-1) - thresholds)  # log P(x > c)
        between = torch.log(-torch.expm1(-thresholds.diff(dim=-1).clamp(min=1e-6)))
        middle = upper[..., 1:] + lower[..., :-1] + between
        return torch.cat([upper[..., :1], middle, lower[..., -1:]], dim=-1)


class Counts(Head):
    """Count columns: non-negative whole numbers whose mean has a log link."""

    is_numeric = True

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns, n_columns)

    def embed(self, x: Tensor) -> Tensor:
        return torch.log1p(x)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.log(weighted_moments(x, weight)[0].clamp(min=1e-3))

    def point_estimate(self, outputs: Tensor) -> Tensor:
        return outputs.clamp(max=LOG_RATE_LIMIT).exp()

    @abstractmethod
    def draw(self, mean: Tensor, source: Source) -> Tensor:
        """Draw counts of these means, (..., n_columns) -> same."""

    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        """Draw counts; the temperature multiplies their deviations from the mean."""
        mean = self.point_estimate(outputs)
        draw = self.draw(mean, source)
        if temperature == 1:
            return draw
        return (mean + temperature * (draw - mean)).round()

    def sample_common(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from normal distributions with the same mean and variance."""
        mean = self.point_estimate(outputs)
        noise = common_noise(mean[:, :1], generator)
        return (mean + self.variance(outputs).sqrt() * noise).clamp(min=0)

    def point_estimate_head(self) -> Normal:
        return Normal(self.n_columns)


class Poisson(Counts):
    """Poisson columns with a log rate."""

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        # The saddle-point form (Loader 2000): no difference of large log-gammas, so
        # that float32 is enough for large counts.
        rate = outputs.clamp(-LOG_RATE_LIMIT, LOG_RATE_LIMIT).exp()
        some = torch.where(x > 0, x, 1.0)
        nats = (
            -_stirling_error(some)
            - _deviance(some, rate, (some - rate) / rate)
            - 0.5 * (LOG_2PI + torch.log(some))
        )
        nats = torch.where(x > 0, nats, -rate)
        # below the lower bound the log-probability is linear in the log-rate
        return nats + x * (outputs + LOG_RATE_LIMIT).clamp(max=0)

    def variance(self, outputs: Tensor) -> Tensor:
        return self.point_estimate(outputs)

    def draw(self, mean: Tensor, source: Source) -> Tensor:
        return draw_poisson(mean, source)


class NegativeBinomial(Counts):
    """Negative binomial columns: a log mean m per cell, a dispersion r per column.

    Their variance is m + m²/r: a Poisson whose rate is a gamma variable of shape r.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.log_dispersion = nn.Parameter(torch.zeros(n_columns, **CPU_FLOATS))

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        mean, variance = weighted_moments(x, weight)
        excess = (variance - mean).clamp(min=1e-12)
        low = math.exp(LOG_DISPERSION_RANGE[0])
        dispersion = (mean.square() / excess).clamp(low, LARGEST_INITIAL_DISPERSION)
        with torch.no_grad():
            self.log_dispersion.copy_(dispersion.log())
        return super().initialise(x, weight)

    def dispersion(self) -> Tensor:
        """Return r, (n_columns,)."""
        return self.log_dispersion.clamp(*LOG_DISPERSION_RANGE).exp()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        # The saddle-point form (Loader 2000): no difference of large log-gammas, so
        # that float32 is enough for large counts and for a large r.
        log_mean = outputs.clamp(-LOG_RATE_LIMIT, LOG_RATE_LIMIT)
        mean, r = log_mean.exp(), self.dispersion()
        some = torch.where(x > 0, x, 1.0)
        n, gap = some + r, some - mean
        unit = n / (r + mean)
        nats = (
            _stirling_error(n)
            - _stirling_error(r)
            - _stirling_error(some)
            - _deviance(r, r * unit, -gap / n)
            - _deviance(some, mean * unit, r * gap / (n * mean))
            - 0.5 * (LOG_2PI + torch.log(some) + torch.log1p(some / r))
        )
        nats = torch.where(x > 0, nats, -r * torch.log1p(mean / r))
        # below the lower bound of log_mean the log-probability is linear in it
        return nats + x * (outputs + LOG_RATE_LIMIT).clamp(max=0)

    def variance(self, outputs: Tensor) -> Tensor:
        mean = self.point_estimate(outputs)
        return mean + mean.square() / self.dispersion()

    def draw(self, mean: Tensor, source: Source) -> Tensor:
        r = self.dispersion().expand_as(mean)
        rate = draw_gamma(r, source) / r * mean
        return draw_poisson(rate.clamp(max=LARGEST_RATE), source)


def _stirling_error(n: Tensor) -> Tensor:
    """Return log Γ(n + 1) minus Stirling's formula, for n > 0."""
    few, many = n.clamp(max=STIRLING_FROM), n.clamp(min=STIRLING_FROM)
    exact = torch.lgamma(few + 1) - (few + 0.5) * torch.log(few) + few - 0.5 * LOG_2PI
    inverse = 1 / many
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square / 1260))
    return torch.where(n < STIRLING_FROM, exact, series)


def _deviance(x: Tensor, mean: Tensor, excess: Tensor) -> Tensor:
    """Return x log(x / mean) - x + mean, where excess = x / mean - 1 is accurate."""
    near = excess.clamp(-0.5, 0.5)
    log_ratio = torch.where(excess == near, torch.log1p(near), torch.log(x / mean))
    return x * log_ratio - mean * excess
