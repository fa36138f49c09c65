"""A multivariate normal fitted to incomplete rows, and its conditionals.

Letters: ``x`` rows, ``v`` 1 where a cell is visible and 0 elsewhere, ``m`` and ``S``
mean and covariance of the normal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: EM stops after this many iterations, or when no entry of the covariance matrix
#: (in units of the largest variance) changes by more than the tolerance.
EM_ITERATIONS, EM_TOLERANCE = 50, 1e-3

#: Ridge on the diagonal, times columns by rows: small tables are shrunk more, and
#: rare categories, whose 0/1 inputs vary little, more than numbers.
RIDGE = 0.05

#: Floats of the matrices that are solved at a time.
SOLVE_FLOATS = 2**22


class Gaussian(nn.Module):
    """Multivariate normal with exact conditionals for any set of visible cells.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.covariance: Tensor
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("covariance", torch.eye(n_columns))

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,  # (rows, columns)
        v: Tensor,  # (rows, columns)
        weight: Tensor | None = None,  # (rows,)
    ) -> list[float]:
        """Fit by expectation-maximisation; return the log-likelihoods in nats per row.

        Little and Rubin (2019), Statistical Analysis with Missing Data, section 11.2.
        """
        x, v = x.double() * v, v.double()
        rows = x.new_ones(len(x)) if weight is None else weight.double()
        share = rows / rows.sum()
        cells = (v * rows.unsqueeze(1)).sum(0).clamp(min=1e-12)
        mean = (x * rows.unsqueeze(1)).sum(0) / cells
        spread = ((x - mean) * v).square() * rows.unsqueeze(1)
        variance = spread.sum(0) / cells
        # a column without spread still needs an invertible matrix
        variance = variance.clamp(min=1e-6 * float(variance.max().clamp(min=1e-6)))
        ridge = RIDGE * x.shape[1] / len(x) + 1e-6
        covariance = torch.diag(variance)
        at_once = max(1, SOLVE_FLOATS // x.shape[1] ** 2)
        likelihoods: list[float] = []
        for _ in range(EM_ITERATIONS):
            penalised = covariance + ridge * torch.eye(x.shape[1]).to(x)
            completed, missing = torch.empty_like(x), torch.zeros_like(covariance)
            total = 0.0
            for start in range(0, len(x), at_once):
                part = slice(start, start + at_once)
                visible = v[part]
                factor, gain = self._gain(penalised, visible)
                deviation = (x[part] - mean) * visible
                update = torch.einsum("bij,bj->bi", gain, deviation)
                completed[part] = torch.where(visible > 0, x[part], mean + update)
                hidden = (1 - visible) * share[part].sqrt().unsqueeze(1)
                left = penalised - gain @ penalised
                missing += torch.einsum("bi,bik,bk->ik", hidden, left, hidden)
                total += float(share[part] @ log_density(factor, deviation, visible))
            likelihoods.append(total)
            mean = share @ completed
            deviation = completed - mean
            new = deviation.t() @ (share.unsqueeze(1) * deviation) + missing
            change = float((new - covariance).abs().max() / variance.max())
            covariance = new
            if change < EM_TOLERANCE:
                break
        covariance = covariance + ridge * torch.eye(x.shape[1]).to(x)
        self.mean.copy_(mean)
        self.covariance.copy_(0.5 * (covariance + covariance.t()))
        return likelihoods

    @staticmethod
    def _gain(covariance: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cholesky factors of S_oo (identity elsewhere) and S_.o S_oo^-1."""
        factor = visible_factor(covariance, v)
        # cholesky_solve gives S_oo^-1 S_o. ; its transpose is the gain
        solved = torch.cholesky_solve(covariance * v.unsqueeze(2), factor)
        return factor, solved.mT * v.unsqueeze(1)

    def condition(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the rows with hidden cells at their conditional mean."""
        deviation = ((x - self.mean) * v).unsqueeze(-1)
        factor = visible_factor(self.covariance, v)
        solved = torch.cholesky_solve(deviation, factor).squeeze(-1)
        return torch.where(v > 0, x, self.mean + (solved * v) @ self.covariance)

    def deviation(self, v: Tensor, columns: Tensor) -> Tensor:
        """Return conditional standard deviations, (rows, len(columns)).

        They depend on which cells are visible alone; a visible cell has the deviation
        of the column.
        """
        factor = visible_factor(self.covariance, v)
        covariance = self.covariance[:, columns] * v.unsqueeze(-1)
        explained = torch.linalg.solve_triangular(factor, covariance, upper=False)
        hidden = 1 - v[:, columns]
        variance = self.covariance.diagonal()[columns]
        left = variance - explained.square().sum(-2) * hidden
        return left.clamp(min=1e-3 * variance).sqrt()

    def sample(self, x: Tensor, v: Tensor, noise: Tensor) -> Tensor:
        """Return the rows with hidden cells drawn from their joint conditional.

        By Matheron's rule: an unconditional draw y, moved by what x and y differ in
        the visible cells. ``noise`` is standard normal, (..., columns).
        """
        y = self.mean + noise @ torch.linalg.cholesky(self.covariance).t()
        moved = self.condition((x - y) * v + self.mean, v) - self.mean
        return torch.where(v > 0, x, y + moved)

    def log_prob(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the log-density of the visible cells of each row, in nats."""
        factor = visible_factor(self.covariance.double(), v.double())
        return log_density(factor, (x.double() - self.mean) * v, v)


def visible_factor(covariance: Tensor, v: Tensor) -> Tensor:
    """Return the Cholesky factor of each row's S_oo, with the identity elsewhere."""
    matrix = covariance * v.unsqueeze(-1) * v.unsqueeze(-2)
    return torch.linalg.cholesky(matrix + torch.diag_embed(1 - v))


def log_density(factor: Tensor, deviation: Tensor, v: Tensor) -> Tensor:
    """Return the log-density in nats of visible deviations from the mean."""
    scaled = torch.linalg.solve_triangular(
        factor, deviation.unsqueeze(-1), upper=False
    ).squeeze(-1)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = v.sum(-1) * math.log(2 * math.pi)
    return -0.5 * (scaled.square().sum(-1) + log_determinant + constant)
