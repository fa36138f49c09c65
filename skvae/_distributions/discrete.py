"""Likelihoods of booleans, categories, ordered categories and counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .head import Head, weighted_moments

#: Upper bound of a Poisson's log rate, which keeps float32 finite.
LOG_RATE_LIMIT = 20.0


class Bernoulli(Head):
    """Columns with values 0 and 1, or grey values between them."""

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns, n_columns)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
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

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
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

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.log(weighted_moments(x, weight)[0].clamp(min=1e-3))

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
