"""Expectation-maximisation for the moments of a normal, from incomplete rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._training.progress import Progress
from .._training.threads import threads_for
from .normal_conditionals import cholesky, conditional_moments
from .settings import Settings

#: Minimum variance, as a fraction of the largest or where that is 1: single precision
#: has seven digits.
LEAST_VARIANCE = 1e-6

#: The stage's name in the progress of a fit.
STAGE = "normal"


def ridge_of(n_rows: int, n_columns: int, settings: Settings) -> float:
    """Return the ridge penalty for the diagonal of a covariance matrix."""
    return settings.ridge * n_columns / n_rows + LEAST_VARIANCE


def bounded_iterations(settings: Settings, max_iter: int | None) -> int:
    """Return the number of iterations of EM, at most ``max_iter``."""
    return min(settings.em_iterations, max_iter or settings.em_iterations)


def chunks_of(
    settings: Settings, x: Tensor, *others: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of rows of the tensors as float64, to bound the memory."""
    at_once = max(1, settings.solve_floats // max(1, x.shape[1]))
    for chunk in zip(*(part.split(at_once) for part in (x, *others)), strict=True):
        yield tuple(part.double() for part in chunk)


def marginals(
    x: Tensor, mask: Tensor, weight: Tensor, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Return mean and diagonal covariance of the given cells, in float64."""
    n_cells, total, squares = x.new_zeros(3, x.shape[1], dtype=torch.float64)
    for own, given, rows in chunks_of(settings, x, mask, weight):
        n_cells += (given * rows.unsqueeze(1)).sum(0)
        total += (own * given * rows.unsqueeze(1)).sum(0)
    n_cells = n_cells.clamp(min=1e-12)
    mean = total / n_cells
    for own, given, rows in chunks_of(settings, x, mask, weight):
        squares += (((own * given - mean) * given).square() * rows.unsqueeze(1)).sum(0)
    variance = squares / n_cells
    # constant columns need an invertible matrix as well
    largest = float(variance.max().clamp(min=LEAST_VARIANCE))
    variance = variance.clamp(min=LEAST_VARIANCE * largest)
    return mean, torch.diag(variance)


def weighted_moments(
    x: Tensor, weight: Tensor, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of complete rows in float64; weights sum to 1."""
    mean = x.new_zeros(x.shape[1], dtype=torch.float64)
    for own, rows in chunks_of(settings, x, weight):
        mean += rows @ own
    scatter = torch.diag(torch.zeros_like(mean))
    for own, rows in chunks_of(settings, x, weight):
        deviation = own - mean
        scatter += deviation.t() @ (rows.unsqueeze(1) * deviation)
    return mean, scatter


class ExpectationMaximisation:
    """EM for the mean and the covariance matrix of incomplete rows, in float64.

    Parameters
    ----------
    x, mask : Tensor of shape (rows, columns)
        Rows, and 1 where a cell is given.
    weight : Tensor of shape (rows,)
        Weights of the rows, 0 for rows left out.
    settings : Settings
        Ridge, tolerance and bounds of the memory.
    """

    def __init__(
        self, x: Tensor, mask: Tensor, weight: Tensor, settings: Settings
    ) -> None:
        order = (mask == 0).sum(1).argsort()  # like numbers of missing cells together
        self.x, self.mask = (x * mask)[order], mask[order]
        weight = weight.double()[order]
        self.weight = weight / weight.sum()
        n_rows, n_columns = int((weight > 0).sum()), x.shape[1]
        ridge = ridge_of(n_rows, n_columns, settings)
        self.ridge = ridge * torch.diag(weight.new_ones(n_columns))
        at_once = min(settings.em_rows, settings.solve_floats // n_columns**2)
        self.at_once = max(1, at_once)
        self.settings = settings
        self.mean, self.covariance = torch.zeros_like(self.ridge[0]), self.ridge
        self.likelihoods: list[float] = []

    def save(self) -> dict[str, Any]:
        """Return the state after an iteration."""
        return {
            "mean": self.mean,
            "covariance": self.covariance,
            "likelihoods": list(self.likelihoods),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`save` returned."""
        self.mean = state["mean"].to(self.ridge)
        self.covariance = state["covariance"].to(self.ridge)
        self.likelihoods = list(state["likelihoods"])

    def run(
        self,
        mean: Tensor,
        covariance: Tensor,
        n_iterations: int,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Return mean, covariance and log-likelihoods of at most ``n_iterations``."""
        scale = covariance.diagonal().max()
        self.mean, self.covariance = mean, covariance
        progress = Progress() if progress is None else progress
        n_rows, n_columns = self.x.shape
        with (
            threads_for(n_rows * n_columns**3),
            progress.stage(STAGE, n_iterations, self, n_saves=n_iterations) as steps,
        ):
            for _ in steps:
                imputed, left, likelihood = self._expect(self.mean, self.covariance)
                self.likelihoods.append(float(likelihood))
                new_mean, scatter = weighted_moments(
                    imputed, self.weight, self.settings
                )
                new = scatter + left
                change = float((new - self.covariance).abs().max() / scale)
                self.mean, self.covariance = new_mean, new
                if change < self.settings.em_tolerance:
                    break
        covariance = self.covariance + self.ridge
        return self.mean, 0.5 * (covariance + covariance.t()), self.likelihoods

    def _expect(
        self, mean: Tensor, covariance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the E-step under the present parameters.

        That is the rows with missing cells at their conditional mean, the mean
        conditional covariance, and the mean log-likelihood.
        """
        factor = cholesky(covariance + self.ridge)
        precision = torch.cholesky_inverse(factor)
        imputed = torch.empty_like(self.x, dtype=torch.float64)
        left = torch.zeros_like(covariance)
        log_determinant = 2 * factor.diagonal().log().sum()
        total = covariance.new_zeros(())
        for start in range(0, len(self.x), self.at_once):
            part = slice(start, start + self.at_once)
            x, given = self.x[part].double(), self.mask[part].double()
            weight = self.weight[part]
            update, own, index, log_density = conditional_moments(
                precision, log_determinant, (x - mean) * given, given
            )
            imputed[part] = torch.where(given > 0, x, mean + update)
            cells = index.unsqueeze(2) * len(mean) + index.unsqueeze(1)
            own = (weight[:, None, None] * own).flatten()
            left.view(-1).index_add_(0, cells.flatten(), own)
            total += weight @ log_density
        return imputed, left, total
