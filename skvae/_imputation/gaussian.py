"""Multivariate normal fitted to incomplete rows, its conditionals and draws.

Letters: ``x`` rows; ``mask`` 1 where a cell is given, 0 where it is missing: to the
normal, a masked cell is a missing one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._distributions.head import CPU_FLOATS
from .._training.progress import Progress
from .em import (
    LEAST_VARIANCE,
    ExpectationMaximisation,
    bounded_iterations,
    marginals,
    ridge_of,
    weighted_moments,
)
from .normal_conditionals import (
    cholesky,
    factor_given,
    inverse,
    leave_one_out,
    log_density,
    update_by_covariance,
    update_by_precision,
)
from .settings import SETTINGS, Settings


class Folds(NamedTuple):
    """Moments of cross-fitted normals; the last entry, of fold -1, is of all rows.

    Without the first dimension, the moments of one normal.
    """

    means: Tensor  # (folds + 1, columns)
    covariances: Tensor  # (folds + 1, columns, columns)
    precisions: Tensor  # (folds + 1, columns, columns)


class Gaussian(nn.Module):
    """Multivariate normal with exact conditionals for any set of given cells.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    settings : Settings
        Tuning constants.
    """

    def __init__(self, n_columns: int, settings: Settings = SETTINGS) -> None:
        super().__init__()
        self.settings = settings
        self.mean: Tensor
        self.covariance: Tensor
        self.precision: Tensor
        identity = torch.eye(n_columns, **CPU_FLOATS)
        self.register_buffer("mean", torch.zeros(n_columns, **CPU_FLOATS))
        self.register_buffer("covariance", identity)
        self.register_buffer("precision", identity.clone())
        n_draws = count_draws(n_columns, settings)
        self.drawn_means: Tensor  # (draws, columns)
        self.drawn_covariances: Tensor  # (draws, columns, columns)
        means = torch.zeros(n_draws, n_columns, **CPU_FLOATS)
        self.register_buffer("drawn_means", means)
        covariances = identity.repeat(n_draws, 1, 1)
        self.register_buffer("drawn_covariances", covariances)
        self.folds: Folds | None = None

    # -- fit ---------------------------------------------------------------------

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,  # (rows, columns)
        mask: Tensor,  # (rows, columns)
        weight: Tensor | None = None,  # (rows,)
        *,
        max_iter: int | None = None,
        progress: Progress | None = None,
    ) -> list[float]:
        """Fit by expectation-maximisation; return the log-likelihoods in nats per row.

        ``max_iter`` bounds the iterations beside the settings. Where ``progress`` is
        interrupted, the last iteration is kept.

        Little and Rubin (2019), Statistical Analysis with Missing Data, section 11.2.
        """
        weight = x.new_ones(len(x)) if weight is None else weight
        em = ExpectationMaximisation(x, mask, weight, self.settings)
        n_iterations = bounded_iterations(self.settings, max_iter)
        initial = marginals(x, mask, weight, self.settings)
        mean, covariance, trace = em.run(*initial, n_iterations, progress)
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        self.precision.copy_(inverse(covariance))
        return trace

    @torch.no_grad()
    def fit_folds(
        self,
        x: Tensor,
        mask: Tensor,
        weight: Tensor,
        fold: Tensor,
        n_folds: int,
        *,
        max_iter: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fit one normal per left-out fold, for cross-fitted conditional means.

        Training rows, given with their ``fold``, then get out-of-fold estimates, with
        errors like those of new rows. Rows of fold -1 belong to none.
        """
        initial = self.mean.double(), self.covariance.double()
        fits = []
        for k in range(n_folds):
            kept = weight * (fold != k)
            em = ExpectationMaximisation(x, mask, kept, self.settings)
            n_iterations = self.settings.fold_iterations
            n_iterations = min(n_iterations, max_iter or n_iterations)
            mean, covariance, _ = em.run(*initial, n_iterations, progress)
            fits.append((mean, covariance, inverse(covariance)))
        fits.append((self.mean, self.covariance, self.precision))
        moments = zip(*fits, strict=True)
        self.folds = Folds(
            *(torch.stack([m.to(self.mean) for m in k]) for k in moments)
        )

    def drop_folds(self) -> None:
        """Drop the cross-fitted normals."""
        self.folds = None

    @torch.no_grad()
    def draw_parameters(
        self, x: Tensor, mask: Tensor, weight: Tensor, generator: torch.Generator
    ) -> None:
        """Draw mean and covariance from their posterior, given incomplete rows.

        Multiple imputation asks for another draw of the parameters for every table:
        with one mean and covariance the tables vary too little. By data augmentation
        (Schafer 1997, Analysis of Incomplete Multivariate Data, section 5.4), one
        chain that is initialised at the fit: draws that are r rounds apart have the
        correlation F^r, where F is the fraction of missing information.

        Rows without a given cell tell nothing, and would let the chain drift. With less
        than two others all draws are the fit.
        """
        seen = (mask > 0).any(1)
        x, mask, weight = x[seen], mask[seen], weight[seen]
        if len(x) < 2:
            self.drawn_means.copy_(self.mean)
            self.drawn_covariances.copy_(self.covariance)
            return
        n_rows, n_columns = x.shape
        rounds = count_rounds(n_rows, n_columns, self.settings)
        ridge = ridge_of(n_rows, n_columns, self.settings)
        self.drawn_means[0], self.drawn_covariances[0] = self.mean, self.covariance
        for k in range(len(self.drawn_means)):
            if k:
                self.drawn_means[k] = self.drawn_means[k - 1]
                self.drawn_covariances[k] = self.drawn_covariances[k - 1]
            for _ in range(rounds if k else self.settings.burn_in * rounds):
                imputed = self._impute(x, mask, generator, k)
                drawn = draw_moments(imputed, weight, generator, ridge, self.settings)
                self.drawn_means[k], self.drawn_covariances[k] = drawn

    def _impute(
        self, x: Tensor, mask: Tensor, generator: torch.Generator, draw: int
    ) -> Tensor:
        """Return rows with missing cells drawn by drawn parameters, in chunks."""
        noise = torch.empty_like(x).normal_(generator=generator)
        precision = None
        if self._is_wide(x):  # once for all rows
            precision = inverse(self.drawn_covariances[draw].double()).to(x)
        return self.sample(x, mask, noise, draw, precision)

    # -- conditionals ------------------------------------------------------------

    def _moments(
        self, fold: Tensor | None = None, draw: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and covariance: fitted, of each row's fold, or drawn."""
        if draw is not None:
            return self.drawn_means[draw], self.drawn_covariances[draw]
        if fold is None or self.folds is None:
            return self.mean, self.covariance
        return self.folds.means[fold], self.folds.covariances[fold]

    def condition(
        self,
        x: Tensor,
        mask: Tensor,
        fold: Tensor | None = None,
        draw: int | None = None,
        precision: Tensor | None = None,
    ) -> Tensor:
        """Return the rows with missing cells at their conditional mean.

        A leading dimension of ``x`` counts draws of the same rows. With the
        ``precision`` of a draw, wide tables are faster.
        """
        fold = None if self.folds is None else fold
        mean, covariance = self._moments(fold, draw)
        if self._is_wide(x) and draw is None:
            return self._condition_wide(x, mask, self._all_moments(fold), fold)
        if self._is_wide(x) and precision is not None:
            moments = Folds(mean, covariance, precision)
            return self._condition_wide(x, mask, moments)
        deviation = (x - mean) * mask
        factor = factor_given(covariance, mask)
        if x.ndim > mask.ndim:  # one factor for all draws
            solved = torch.cholesky_solve(deviation.movedim(0, -1), factor)
            solved = solved.movedim(-1, 0) * mask
        else:
            solved = torch.cholesky_solve(deviation.unsqueeze(-1), factor)
            solved = solved.squeeze(-1) * mask
        if fold is None:
            update = solved @ covariance
        else:
            update = (solved.unsqueeze(-2) @ covariance).squeeze(-2)
        return torch.where(mask > 0, x, mean + update)

    def _is_wide(self, x: Tensor) -> bool:
        """Return whether rows are conditioned in groups, see ``_condition_wide``."""
        is_table = x.ndim == 2 and len(x) > 0 and x.device.type == "cpu"
        return is_table and x.shape[1] >= self.settings.wide

    def _all_moments(self, fold: Tensor | None) -> Folds:
        """Return the fitted moments, of all folds where rows are given with theirs."""
        if fold is None or self.folds is None:
            return Folds(self.mean, self.covariance, self.precision)
        return self.folds

    def _condition_wide(
        self, x: Tensor, mask: Tensor, moments: Folds, fold: Tensor | None = None
    ) -> Tensor:
        """Condition rows in groups with a similar number of given cells.

        The matrices solved are of the given cells, or in precision of the missing
        cells: at most half as wide as those of all cells. On the CPU alone, as their
        width is read from the device.
        """
        means, covariances, precisions = moments
        if fold is not None:
            means = means[fold]
        deviation = (x - means) * mask
        imputed = torch.empty_like(x)
        n_given = mask.sum(1)
        for rows in n_given.argsort().chunk(self.settings.n_groups):
            own = deviation[rows], None if fold is None else fold[rows]
            if 2 * float(n_given[rows[-1]]) <= x.shape[1]:
                update = update_by_covariance(covariances, mask[rows], *own)
            else:
                update = update_by_precision(precisions, 1 - mask[rows], *own)
            mean = means if fold is None else means[rows]
            imputed[rows] = torch.where(mask[rows] > 0, x[rows], mean + update)
        return imputed

    def deviation(
        self,
        mask: Tensor,
        columns: Tensor,
        fold: Tensor | None = None,
        draw: int | None = None,
    ) -> Tensor:
        """Return conditional standard deviations, (rows, len(columns)).

        They depend on the mask alone; a given cell has the deviation of its column.
        """
        _, covariance = self._moments(fold, draw)
        factor = factor_given(covariance, mask)
        given = covariance[..., columns] * mask.unsqueeze(-1)
        explained = torch.linalg.solve_triangular(factor, given, upper=False)
        missing = 1 - mask[:, columns]
        variance = covariance.diagonal(dim1=-2, dim2=-1)[..., columns]
        left = variance - explained.square().sum(-2) * missing
        return left.clamp(min=1e-3 * variance).sqrt()

    def sample(
        self,
        x: Tensor,
        mask: Tensor,
        noise: Tensor,
        draw: int | None = None,
        precision: Tensor | None = None,
    ) -> Tensor:
        """Return the rows with missing cells drawn from their joint conditional.

        By Matheron's rule: an unconditional draw, moved by the conditional mean of its
        difference from the given cells. ``noise`` is standard normal, (..., columns).
        """
        mean, covariance = self._moments(draw=draw)
        free = mean + noise @ cholesky(covariance).t()
        apart = (x - free) * mask + mean
        at_once = self._rows_at_once(mask, precision is not None)
        moved = torch.cat(
            [
                self.condition(own, given, draw=draw, precision=precision)
                for own, given in zip(
                    apart.split(at_once, -2), mask.split(at_once), strict=True
                )
            ],
            dim=-2,
        )
        return torch.where(mask > 0, x, free + moved - mean)

    def leave_one_out(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of every cell given the others of its row."""
        covariance, parts = self.covariance.double(), []
        at_once = max(1, self.settings.solve_floats // x.shape[1] ** 2)
        for own, given in zip(x.split(at_once), mask.split(at_once), strict=True):
            deviation = own.double() - self.mean
            mean, variance = leave_one_out(covariance, given.double(), deviation)
            least = 1e-3 * covariance.diagonal()
            parts.append((self.mean + mean, variance.clamp(min=least).sqrt()))
        means, deviations = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(deviations)

    def _rows_at_once(self, mask: Tensor, in_groups: bool) -> int:
        """Return the rows to condition together: their matrices bound the memory."""
        n_columns = width = max(1, mask.shape[1])
        if in_groups and len(mask):
            n_missing = n_columns - int(mask.sum(1).min())
            width = max(1, n_missing) if 2 * n_missing <= n_columns else n_columns
        return max(1, self.settings.solve_floats // (n_columns * width))

    def log_prob(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the log-density of the given cells of each row, in nats."""
        factor = factor_given(self.covariance.double(), mask.double())
        return log_density(factor, (x.double() - self.mean) * mask, mask)


def count_draws(n_columns: int, settings: Settings) -> int:
    """Return the number of parameter draws of a normal."""
    n_draws = settings.drawn_floats // max(1, n_columns) ** 2
    return min(max(n_draws, settings.min_draws), settings.max_draws)


def count_rounds(n_rows: int, n_columns: int, settings: Settings) -> int:
    """Return the rounds of data augmentation from one draw to the next."""
    n_draws = count_draws(n_columns, settings)
    work = n_draws * n_rows * max(1, n_columns) ** 3
    rounds = max(settings.rounds_work / work, settings.min_rounds)
    return int(min(rounds, settings.max_rounds))


def draw_moments(
    x: Tensor,
    weight: Tensor,
    generator: torch.Generator,
    ridge: float,
    settings: Settings = SETTINGS,
) -> tuple[Tensor, Tensor]:
    """Draw mean and covariance from their posterior, given complete rows.

    The prior is that of Jeffreys, but for the ridge on the diagonal and, in tables with
    many columns by row, more degrees of freedom: without them the covariance would be
    drawn several times as large as that of the rows. In float64.
    """
    n_rows, n_columns = x.shape
    mean, scatter = weighted_moments(x, weight.double() / weight.sum(), settings)
    scatter = n_rows * (scatter + ridge * torch.diag(scatter.new_ones(n_columns)))
    # the inverse of a product of normals is the draw for a scatter of one
    ratio = min(1.0, 2 * n_columns / n_rows)
    degrees_of_freedom = n_rows - 1 + round(n_columns * ratio)
    noise = mean.new_empty(degrees_of_freedom, n_columns).normal_(generator=generator)
    factor = cholesky(noise.t() @ noise)
    root = cholesky(scatter)
    root = torch.linalg.solve_triangular(factor.t(), root, upper=True, left=False)
    noise = mean.new_empty(n_columns).normal_(generator=generator)
    covariance = root @ root.t()
    # positive definite in single precision too
    floor = LEAST_VARIANCE * covariance.diagonal().max()
    covariance.diagonal().add_(floor)
    return mean + root @ noise / math.sqrt(n_rows), covariance
