"""Decoder heads: the interface of a likelihood p(x | z).

A *head* turns decoder outputs into the likelihood of a group of columns of one kind;
:class:`skvae._distributions.joint.Joint` puts the heads of a table side by side. Random
draws take an explicit source of noise. Densities are in nats, with all constants.

A new likelihood is one class, here or in a file of its own, and one line in the
registry. The rest of the package calls methods of heads and never tests their class.

Shapes: ``...`` stands for any leading dimensions (draws, rows).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .noise import Source

#: Dtype and device of new parameters: torch's defaults may be changed by the user.
CPU_FLOATS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


class Cells(NamedTuple):
    """Decoder outputs of rows, their encoded values and cell weights."""

    outputs: Tensor  # (rows, n_outputs)
    x: Tensor  # (rows, n_columns)
    weight: Tensor  # (rows, n_columns), 0 where missing


class LocationScaleIndex(NamedTuple):
    """Indices of a column with a location and a scale, within its head."""

    column: int
    input: int  # its encoder input
    output: int  # the decoder output that is its location


class Head(nn.Module, ABC):
    """Likelihood of ``n_columns`` columns of one kind, given decoder outputs.

    Parameters
    ----------
    n_columns : int
        Number of columns of the group.
    n_inputs : int
        Number of encoder inputs of the group, see :meth:`embed`.
    n_outputs : int
        Number of decoder outputs of the group.
    """

    #: Whether the columns are numeric: their point estimate is a mean in the units of
    #: the column. Booleans are not: theirs is a probability.
    is_numeric: ClassVar[bool]

    #: Link function from the expected value of the k-th encoder input to the k-th
    #: decoder output; None where the head has no such function.
    input_link: ClassVar[Literal["identity", "logit", "log"] | None] = None

    def __init__(self, n_columns: int, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.n_inputs = n_inputs
        self.n_outputs = n_outputs

    def embed(self, x: Tensor) -> Tensor:
        """Return the encoder inputs: (..., n_columns) -> (..., n_inputs)."""
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
    def point_estimate(self, outputs: Tensor) -> Tensor:
        """Return the mean of numeric columns, P(x = 1) of booleans, else the mode.

        (..., n_outputs) -> (..., n_columns).
        """

    @abstractmethod
    def variance(self, outputs: Tensor) -> Tensor:
        """Return variances, 0 of categories: (..., n_outputs) -> (..., n_columns)."""

    @abstractmethod
    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        """Draw one value per column: (..., n_outputs) -> (..., n_columns).

        A temperature below 1 moves draws towards the point estimate; at 0 they are
        equal to it. With noise of rows as source, outputs are (draws, rows, n_outputs).
        """

    # -- over draws of z ---------------------------------------------------------

    def predictive_moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance: (draws, rows, n_outputs) -> (rows, n_columns)."""
        mean, variance = self.point_estimate(outputs), self.variance(outputs)
        return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)

    def sample_common(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw with common random numbers: the same noise in every row.

        (draws, rows, n_outputs) -> (draws, rows, n_columns). An average over such draws
        depends on no other row. Columns that are not numeric give their point
        estimates.
        """
        return self.point_estimate(outputs)

    # -- locations and scales ----------------------------------------------------

    def location_scale_indices(self) -> Sequence[LocationScaleIndex]:
        """Return the indices of the columns with a location and a scale.

        Only heads of class ``LocationScale`` have such columns.
        """
        return ()

    def log_scale_outputs(self) -> Sequence[int]:
        """Return the indices of the outputs that shift the log-scales, by column."""
        return ()

    def varies_by_cell(self) -> list[bool]:
        """Return for every column whether its scale depends on the cell."""
        return [False] * self.n_columns

    # -- the conditional mean of the imputer -------------------------------------

    @abstractmethod
    def point_estimate_head(self) -> Head:
        """Return the likelihood head for point estimates of these columns.

        It has an ``input_link``, so that a linear model can give its outputs.
        """

    def point_estimate_outputs(self) -> Sequence[int]:
        """Return the indices of the outputs that :meth:`point_estimate_head` shares.

        In its order; empty where the two heads are different families.
        """
        return ()


def weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and variance of every column."""
    total = weight.sum(0).clamp(min=1e-12)
    mean = (weight * x).sum(0) / total
    variance = (weight * (x - mean).square()).sum(0) / total
    return mean, variance


def common_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise, moment-matched over the draws.

    As common random numbers are the same for every row, their sampling error would be
    the same for every row too.
    """
    noise = torch.empty_like(like).normal_(generator=generator)
    noise = noise - noise.mean(0)
    return noise / noise.square().mean(0).sqrt().clamp(min=1e-6)
