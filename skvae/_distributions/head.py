"""Likelihoods of columns: one small class per decoder head.

A *head* turns decoder outputs into the likelihood of a group of like columns;
:class:`Joint` puts the heads of a table side by side. Heads never draw by
themselves: ``sample`` takes the generator. Every density is in nats, with every
constant.

Shapes: ``...`` stands for any leading dimensions (draws, rows).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


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

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
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


def weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance per column."""
    total = weight.sum(0).clamp(min=1e-12)
    mean = (weight * x).sum(0) / total
    variance = (weight * (x - mean).square()).sum(0) / total
    return mean, variance
