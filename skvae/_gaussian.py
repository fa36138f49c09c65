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

#: Iterations of fits without a fold.
FOLD_ITERATIONS = 5

#: Draws of the parameters: least and most, floats of their matrices that are aimed at,
#: and rounds of data augmentation ahead of each.
LEAST_DRAWS, MOST_DRAWS, DRAWN_FLOATS, ROUNDS = 5, 20, 80_000, 2

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
        n_draws = DRAWN_FLOATS // max(1, n_columns) ** 2
        n_draws = min(max(n_draws, LEAST_DRAWS), MOST_DRAWS)
        self.drawn_means: Tensor  # (draws, columns)
        self.drawn_covariances: Tensor  # (draws, columns, columns)
        self.register_buffer("drawn_means", torch.zeros(n_draws, n_columns))
        covariances = torch.eye(n_columns).repeat(n_draws, 1, 1)
        self.register_buffer("drawn_covariances", covariances)
        self.fold_means: Tensor | None = None  # (folds + 1, columns)
        self.fold_covariances: Tensor | None = None  # (folds + 1, columns, columns)

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
        rows = x.new_ones(len(x)) if weight is None else weight
        mean, covariance = marginals(x, v, rows)
        mean, covariance, trace = self._maximise(x, v, rows, mean, covariance)
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)
        return trace

    @torch.no_grad()
    def fit_folds(
        self, x: Tensor, v: Tensor, weight: Tensor, fold: Tensor, n_folds: int
    ) -> None:
        """Fit once more without each fold; its rows are then conditioned by that fit.

        So training rows, given with their ``fold``, get estimates as honest as those
        of new rows. Rows of fold -1 belong to none.
        """
        fits = []
        for k in range(n_folds):
            kept = weight * (fold != k)
            fits.append(
                self._maximise(
                    x,
                    v,
                    kept,
                    self.mean.double(),
                    self.covariance.double(),
                    n_iterations=FOLD_ITERATIONS,
                )[:2]
            )
        fits.append((self.mean, self.covariance))  # the last, which -1 points to
        means, covariances = zip(*fits, strict=True)
        self.fold_means = torch.stack([m.to(self.mean) for m in means])
        self.fold_covariances = torch.stack([s.to(self.mean) for s in covariances])

    def drop_folds(self) -> None:
        """Forget the fits without single folds."""
        self.fold_means = self.fold_covariances = None

    @torch.no_grad()
    def draw_parameters(
        self, x: Tensor, v: Tensor, weight: Tensor, generator: torch.Generator
    ) -> None:
        """Draw mean and covariance from their posterior, given incomplete rows.

        Tables that are completed with one mean and covariance are too much alike:
        multiple imputation asks for another draw of them for every table. By data
        augmentation (Schafer 1997, Analysis of Incomplete Multivariate Data, section
        5.4), starting at the fit: after r rounds the share F^(2 r) of the variance is
        still to come, where F is the share of the information that is missing.
        """
        self.drawn_means.copy_(self.mean)
        self.drawn_covariances.copy_(self.covariance)
        for k in range(len(self.drawn_means)):
            for _ in range(ROUNDS):
                noise = torch.empty_like(x).normal_(generator=generator)
                completed = self.sample(x, v, noise, k)
                mean, covariance = draw_moments(completed, weight, generator)
                self.drawn_means[k] = mean
                self.drawn_covariances[k] = covariance

    def _moments(
        self, fold: Tensor | None = None, draw: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and covariance, those of each row's fold, or drawn ones."""
        if draw is not None:
            return self.drawn_means[draw], self.drawn_covariances[draw]
        if fold is None or self.fold_means is None:
            return self.mean, self.covariance
        assert self.fold_covariances is not None
        return self.fold_means[fold], self.fold_covariances[fold]

    def _maximise(
        self,
        x: Tensor,
        v: Tensor,
        weight: Tensor,
        mean: Tensor,
        covariance: Tensor,
        n_iterations: int | None = None,
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Run EM from a start; return mean, covariance and log-likelihoods."""
        x, v = x.double() * v, v.double()
        weight = weight.double()
        share = weight / weight.sum()
        n_rows = int((weight > 0).sum())
        identity = torch.eye(x.shape[1]).to(x)
        scale = covariance.diagonal().max()
        ridge = RIDGE * x.shape[1] / n_rows + 1e-6
        at_once = max(1, SOLVE_FLOATS // x.shape[1] ** 2)
        likelihoods: list[float] = []
        for _ in range(EM_ITERATIONS if n_iterations is None else n_iterations):
            penalised = covariance + ridge * identity
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
            change = float((new - covariance).abs().max() / scale)
            covariance = new
            if change < EM_TOLERANCE:
                break
        covariance = covariance + ridge * identity
        return mean, 0.5 * (covariance + covariance.t()), likelihoods

    @staticmethod
    def _gain(covariance: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cholesky factors of S_oo (identity elsewhere) and S_.o S_oo^-1."""
        factor = visible_factor(covariance, v)
        # cholesky_solve gives S_oo^-1 S_o. ; its transpose is the gain
        solved = torch.cholesky_solve(covariance * v.unsqueeze(2), factor)
        return factor, solved.mT * v.unsqueeze(1)

    def condition(
        self,
        x: Tensor,
        v: Tensor,
        fold: Tensor | None = None,
        draw: int | None = None,
    ) -> Tensor:
        """Return the rows with hidden cells at their conditional mean."""
        mean, covariance = self._moments(fold, draw)
        deviation = ((x - mean) * v).unsqueeze(-1)
        factor = visible_factor(covariance, v)
        solved = torch.cholesky_solve(deviation, factor).squeeze(-1) * v
        if fold is None:
            update = solved @ covariance
        else:
            update = (solved.unsqueeze(-2) @ covariance).squeeze(-2)
        return torch.where(v > 0, x, mean + update)

    def deviation(
        self, v: Tensor, columns: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Return conditional standard deviations, (rows, len(columns)).

        They depend on which cells are visible alone; a visible cell has the deviation
        of the column.
        """
        _, covariance = self._moments(fold)
        factor = visible_factor(covariance, v)
        visible = covariance[..., columns] * v.unsqueeze(-1)
        explained = torch.linalg.solve_triangular(factor, visible, upper=False)
        hidden = 1 - v[:, columns]
        variance = covariance.diagonal(dim1=-2, dim2=-1)[..., columns]
        left = variance - explained.square().sum(-2) * hidden
        return left.clamp(min=1e-3 * variance).sqrt()

    def sample(
        self, x: Tensor, v: Tensor, noise: Tensor, draw: int | None = None
    ) -> Tensor:
        """Return the rows with hidden cells drawn from their joint conditional.

        By Matheron's rule: an unconditional draw y, moved by what x and y differ in
        the visible cells. ``noise`` is standard normal, (..., columns).
        """
        mean, covariance = self._moments(draw=draw)
        y = mean + noise @ torch.linalg.cholesky(covariance).t()
        moved = self.condition((x - y) * v + mean, v, draw=draw) - mean
        return torch.where(v > 0, x, y + moved)

    def log_prob(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the log-density of the visible cells of each row, in nats."""
        factor = visible_factor(self.covariance.double(), v.double())
        return log_density(factor, (x.double() - self.mean) * v, v)


def marginals(x: Tensor, v: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and diagonal covariance of the visible cells, in float64."""
    x, v, rows = x.double() * v, v.double(), weight.double()
    cells = (v * rows.unsqueeze(1)).sum(0).clamp(min=1e-12)
    mean = (x * rows.unsqueeze(1)).sum(0) / cells
    spread = ((x - mean) * v).square() * rows.unsqueeze(1)
    variance = spread.sum(0) / cells
    # a column without spread still needs an invertible matrix
    variance = variance.clamp(min=1e-6 * float(variance.max().clamp(min=1e-6)))
    return mean, torch.diag(variance)


def draw_moments(
    x: Tensor, weight: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw mean and covariance from their posterior, given complete rows.

    The prior is that of Jeffreys, but for the ridge and, in tables with many columns by
    row, more degrees of freedom: without them the covariance would be drawn several
    times as large as that of the rows. In float64.
    """
    x = x.double()
    share = weight.double() / weight.sum()
    n_rows, n_columns = x.shape
    deviation = x - share @ x
    ridge = RIDGE * n_columns / n_rows + 1e-6
    scatter = deviation.t() @ (share.unsqueeze(1) * deviation)
    scatter = n_rows * (scatter + ridge * torch.eye(n_columns).to(x))
    # the inverse of a product of normals is the draw for a scatter of one
    ratio = min(1.0, 2 * n_columns / n_rows)
    freedom = n_rows - 1 + round(n_columns * ratio)
    noise = x.new_empty(freedom, n_columns).normal_(generator=generator)
    factor = torch.linalg.cholesky(noise.t() @ noise)
    root = torch.linalg.cholesky(scatter)
    root = torch.linalg.solve_triangular(factor.t(), root, upper=True, left=False)
    noise = x.new_empty(n_columns).normal_(generator=generator)
    return share @ x + root @ noise / math.sqrt(n_rows), root @ root.t()


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
