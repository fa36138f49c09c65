"""What a likelihood of columns is: one small class per decoder head.

A *head* turns decoder outputs into the likelihood of a group of like columns;
:class:`skvae._distributions.joint.Joint` puts the heads of a table side by side. Heads
never draw by themselves: ``sample`` takes the generator. Every density is in nats, with
every constant.

A new likelihood is one class here or in a file of its own, and one line in the
registry: the rest of the package asks heads, and never which class they are of.

Shapes: ``...`` stands for any leading dimensions (draws, rows).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn


class Cells(NamedTuple):
    """Decoded rows beside what was observed."""

    outputs: Tensor  # (rows, n_outputs)
    x: Tensor  # (rows, n_columns)
    weight: Tensor  # (rows, n_columns), 0 where missing


class LocationSlot(NamedTuple):
    """Where a column with a location and a scale is, counted within its head."""

    column: int
    input: int  # the encoder's view of it
    output: int  # its location


class Head(nn.Module, ABC):
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

    #: Whether columns hold numbers, whose values have means: not what is 0 or 1.
    is_numeric: ClassVar[bool]

    #: What turns the expected value of an input into the output that stands for it,
    #: the k-th input into the k-th output; None where nothing does.
    input_link: ClassVar[Literal["identity", "logit", "log"] | None] = None

    def __init__(self, n_columns: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs

    def embed(self, x: Tensor) -> Tensor:
        """Return what the encoder sees: (..., n_columns) -> (..., n_inputs)."""
        return x

    @abstractmethod
    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        """Set own parameters to the marginal fit and return the output biases.

        ``x`` is (rows, n_columns) and ``weight`` of the same shape is zero where a
        cell is missing. The biases have shape (n_outputs,).
        """

    # -- given z -----------------------------------------------------------------

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return log-densities: (..., n_outputs), (..., n_columns) -> same as x."""

    def log_prob_rows(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the log-densities summed over the columns, (...,)."""
        return self.log_prob(outputs, x).sum(-1)

    @abstractmethod
    def point(self, outputs: Tensor) -> Tensor:
        """Return means, of booleans probabilities, of categories modes.

        (..., n_outputs) -> (..., n_columns).
        """

    @abstractmethod
    def variance(self, outputs: Tensor) -> Tensor:
        """Return variances, 0 of categories: (..., n_outputs) -> (..., n_columns)."""

    @abstractmethod
    def sample(
        self, outputs: Tensor, generator: torch.Generator, temperature: float = 1.0
    ) -> Tensor:
        """Draw one value per column: (..., n_outputs) -> (..., n_columns).

        A temperature below 1 pulls draws towards the centre, which they are at 0.
        """

    # -- over draws of z ---------------------------------------------------------

    def predictive_moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance: (draws, rows, n_outputs) -> (rows, n_columns)."""
        point, variance = self.point(outputs), self.variance(outputs)
        return point.mean(0), variance.mean(0) + point.var(0, correction=0)

    def sample_common(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw numbers with the same noise in every row; others are their points.

        (draws, rows, n_outputs) -> (draws, rows, n_columns). What is averaged over such
        draws depends on no other row.
        """
        return self.point(outputs)

    # -- locations and scales ----------------------------------------------------

    def location_slots(self) -> Sequence[LocationSlot]:
        """Return where the columns with a location and a scale are.

        Heads that have any are all of class ``LocationScale``.
        """
        return ()

    def log_scale_outputs(self) -> Sequence[int]:
        """Return the outputs that move log-scales from cell to cell, by column."""
        return ()

    # -- the conditional mean of the imputer -------------------------------------

    @abstractmethod
    def point_head(self) -> Head:
        """Return a head for point estimates of the same columns.

        Its outputs have an ``input_link``: a linear model may give them.
        """

    def point_outputs(self) -> Sequence[int]:
        """Return the outputs that mean what those of :meth:`point_head` do, in order.

        None do where the two are different families.
        """
        return ()


def weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance per column."""
    total = weight.sum(0).clamp(min=1e-12)
    mean = (weight * x).sum(0) / total
    variance = (weight * (x - mean).square()).sum(0) / total
    return mean, variance


def common_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise whose mean over draws is 0 and whose variance is 1.

    For common random numbers: what chance has it wrong would be wrong in the same way
    for every row.
    """
    noise = torch.empty_like(like).normal_(generator=generator)
    noise = noise - noise.mean(0)
    return noise / noise.square().mean(0).sqrt().clamp(min=1e-6)
