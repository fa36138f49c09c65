"""A multivariate normal fitted to incomplete rows, and its conditionals.

Letters: ``x`` rows, ``mask`` 1 where a cell is given and 0 elsewhere, ``m`` and ``S``
mean and covariance of the normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._networks.batch import INFERENCE_FLOATS
from .._training.progress import Progress

#: The stage's name in the progress of a fit.
STAGE = "normal"


@dataclass(frozen=True)
class GaussianSettings:
    """How the normal is fitted and drawn."""

    #: EM stops after this many iterations, or when no entry of the covariance matrix
    #: (in units of the largest variance) changes by more than the tolerance.
    em_iterations: int = 50
    em_tolerance: float = 1e-3
    #: Iterations of fits without a fold, which begin at the fit of all rows.
    fold_iterations: int = 5
    #: Ridge on the diagonal, times columns by rows: small tables are shrunk more, and
    #: rare categories, whose 0/1 inputs vary little, more than numbers.
    ridge: float = 0.05
    #: Draws of the parameters: least and most, and floats of their matrices that are
    #: aimed at.
    least_draws: int = 5
    most_draws: int = 20
    drawn_floats: int = 80_000
    #: Rounds of data augmentation from one draw to the next, least and most, and rows
    #: times columns^3 of all rounds that is aimed at. Ahead of the first come
    #: ``burn_in`` times more.
    least_rounds: int = 2
    most_rounds: int = 20
    rounds_work: float = 3e8
    burn_in: int = 5
    #: Columns from which rows are conditioned in groups that are common in how many
    #: cells are given, for smaller matrices, and the number of groups.
    wide: int = 24
    groups: int = 4
    #: Floats of the matrices that are solved at a time, and rows of EM's: they bound
    #: the memory.
    solve_floats: int = INFERENCE_FLOATS
    most_rows: int = 512

    def n_draws(self, n_columns: int) -> int:
        """Return how many draws of the parameters a normal keeps."""
        n_draws = self.drawn_floats // max(1, n_columns) ** 2
        return min(max(n_draws, self.least_draws), self.most_draws)

    def n_rounds(self, n_rows: int, n_columns: int) -> int:
        """Return the rounds of data augmentation from one draw to the next."""
        n_draws = self.n_draws(n_columns)
        work = n_draws * n_rows * max(1, n_columns) ** 3
        rounds = max(self.rounds_work / work, self.least_rounds)
        return int(min(rounds, self.most_rounds))

    def ridge_of(self, n_rows: int, n_columns: int) -> float:
        """Return what is added to the diagonal of a covariance matrix."""
        return self.ridge * n_columns / n_rows + 1e-6


#: The settings of the imputer.
SETTINGS = GaussianSettings()


class Gaussian(nn.Module):
    """Multivariate normal with exact conditionals for any set of given cells.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    settings : GaussianSettings
        How it is fitted and drawn.
    """

    def __init__(self, n_columns: int, settings: GaussianSettings = SETTINGS) -> None:
        super().__init__()
        self.settings = settings
        self.mean: Tensor
        self.covariance: Tensor
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("covariance", torch.eye(n_columns))
        self.precision: Tensor
        self.register_buffer("precision", torch.eye(n_columns))
        n_draws = settings.n_draws(n_columns)
        self.drawn_means: Tensor  # (draws, columns)
        self.drawn_covariances: Tensor  # (draws, columns, columns)
        self.register_buffer("drawn_means", torch.zeros(n_draws, n_columns))
        covariances = torch.eye(n_columns).repeat(n_draws, 1, 1)
        self.register_buffer("drawn_covariances", covariances)
        self.fold_means: Tensor | None = None  # (folds + 1, columns)
        self.fold_covariances: Tensor | None = None  # (folds + 1, columns, columns)
        self.fold_precisions: Tensor | None = None  # (folds + 1, columns, columns)

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
        interrupted, what was found so far is kept.

        Little and Rubin (2019), Statistical Analysis with Missing Data, section 11.2.
        """
        rows = x.new_ones(len(x)) if weight is None else weight
        em = ExpectationMaximisation(x, mask, rows, self.settings)
        n_iterations = bounded_iterations(self.settings, max_iter)
        start = marginals(x, mask, rows)
        mean, covariance, trace = em.run(*start, n_iterations, progress)
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
        progress: Progress | None = None,
    ) -> None:
        """Fit once more without each fold; its rows are then conditioned by that fit.

        So training rows, given with their ``fold``, get estimates as honest as those
        of new rows. Rows of fold -1 belong to none.
        """
        start = self.mean.double(), self.covariance.double()
        means, covariances, precisions = [], [], []
        for k in range(n_folds):
            kept = weight * (fold != k)
            em = ExpectationMaximisation(x, mask, kept, self.settings)
            mean, covariance, _ = em.run(
                *start, self.settings.fold_iterations, progress
            )
            means.append(mean)
            covariances.append(covariance)
            precisions.append(inverse(covariance))
        # the fit of all rows is the last of each, which -1 points to
        means.append(self.mean)
        covariances.append(self.covariance)
        precisions.append(self.precision)
        self.fold_means = torch.stack([m.to(self.mean) for m in means])
        self.fold_covariances = torch.stack([s.to(self.mean) for s in covariances])
        self.fold_precisions = torch.stack([p.to(self.mean) for p in precisions])

    def drop_folds(self) -> None:
        """Forget the fits without single folds."""
        self.fold_means = self.fold_covariances = self.fold_precisions = None

    @torch.no_grad()
    def draw_parameters(
        self, x: Tensor, mask: Tensor, weight: Tensor, generator: torch.Generator
    ) -> None:
        """Draw mean and covariance from their posterior, given incomplete rows.

        Tables that are imputed with one mean and covariance are too much common:
        multiple imputation asks for another draw of them for every table. By data
        augmentation (Schafer 1997, Analysis of Incomplete Multivariate Data, section
        5.4), one chain that starts at the fit: from a draw to one that is r rounds
        later the weight F^(2 r) of the variance stays, where F is the weight of the
        information that is missing.
        """
        settings = self.settings
        rounds = settings.n_rounds(*x.shape)
        ridge = settings.ridge_of(*x.shape)
        self.drawn_means[0], self.drawn_covariances[0] = self.mean, self.covariance
        for k in range(len(self.drawn_means)):
            if k:
                self.drawn_means[k] = self.drawn_means[k - 1]
                self.drawn_covariances[k] = self.drawn_covariances[k - 1]
            for _ in range(rounds if k else settings.burn_in * rounds):
                imputed = self._impute(x, mask, generator, k)
                drawn = draw_moments(imputed, weight, generator, ridge)
                self.drawn_means[k], self.drawn_covariances[k] = drawn

    def _impute(
        self, x: Tensor, mask: Tensor, generator: torch.Generator, draw: int
    ) -> Tensor:
        """Draw the missing cells by drawn parameters, some rows at a time."""
        at_once = max(1, self.settings.solve_floats // max(1, x.shape[1]) ** 2)
        noise = torch.empty_like(x).normal_(generator=generator)
        parts = [part.split(at_once) for part in (x, mask, noise)]
        return torch.cat(
            [
                self.sample(own_x, own_mask, own_noise, draw)
                for own_x, own_mask, own_noise in zip(*parts, strict=True)
            ]
        )

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

    def condition(
        self,
        x: Tensor,
        mask: Tensor,
        fold: Tensor | None = None,
        draw: int | None = None,
    ) -> Tensor:
        """Return the rows with missing cells at their conditional mean."""
        is_table = x.ndim == 2 and len(x) > 0 and x.device.type == "cpu"
        if is_table and x.shape[1] >= self.settings.wide and draw is None:
            return self._condition_wide(x, mask, fold)
        mean, covariance = self._moments(fold, draw)
        deviation = ((x - mean) * mask).unsqueeze(-1)
        factor = factor_given(covariance, mask)
        solved = torch.cholesky_solve(deviation, factor).squeeze(-1) * mask
        if fold is None:
            update = solved @ covariance
        else:
            update = (solved.unsqueeze(-2) @ covariance).squeeze(-2)
        return torch.where(mask > 0, x, mean + update)

    def _condition_wide(self, x: Tensor, mask: Tensor, fold: Tensor | None) -> Tensor:
        """Condition rows in groups that are common in how many cells are given.

        Matrices of the given cells alone, or with the precision of the missing ones
        alone, are at most half as wide as those of all cells. (Elsewhere than on the
        CPU to ask for their width would stop the queue.)
        """
        means, covariances, precisions = self.mean, self.covariance, self.precision
        if self.fold_means is None:
            fold = None
        if fold is not None:
            assert self.fold_means is not None
            assert self.fold_covariances is not None
            assert self.fold_precisions is not None
            means, covariances = self.fold_means[fold], self.fold_covariances
            precisions = self.fold_precisions
        deviation = (x - means) * mask
        imputed = torch.empty_like(x)
        n_given = mask.sum(1)
        for rows in n_given.argsort().chunk(self.settings.groups):
            own_fold = None if fold is None else fold[rows]
            if 2 * float(n_given[rows[-1]]) <= x.shape[1]:
                update = update_by_covariance(
                    covariances, mask[rows], deviation[rows], own_fold
                )
            else:
                update = update_by_precision(
                    precisions, 1 - mask[rows], deviation[rows], own_fold
                )
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

        They depend on which cells are given alone; a given cell has the deviation
        of the column.
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
        self, x: Tensor, mask: Tensor, noise: Tensor, draw: int | None = None
    ) -> Tensor:
        """Return the rows with missing cells drawn from their joint conditional.

        By Matheron's rule: an unconditional draw y, moved by what x and y differ in
        the given cells. ``noise`` is standard normal, (..., columns).
        """
        mean, covariance = self._moments(draw=draw)
        y = mean + noise @ torch.linalg.cholesky(covariance).t()
        moved = self.condition((x - y) * mask + mean, mask, draw=draw) - mean
        return torch.where(mask > 0, x, y + moved)

    def log_prob(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the log-density of the given cells of each row, in nats."""
        factor = factor_given(self.covariance.double(), mask.double())
        return log_density(factor, (x.double() - self.mean) * mask, mask)


def bounded_iterations(settings: GaussianSettings, max_iter: int | None) -> int:
    """Return the number of iterations of EM, at most ``max_iter``."""
    return min(settings.em_iterations, max_iter or settings.em_iterations)


class ExpectationMaximisation:
    """EM for the mean and the covariance matrix of incomplete rows, in float64.

    Parameters
    ----------
    x, mask : Tensor of shape (rows, columns)
        The rows and the mask of their given cells.
    weight : Tensor of shape (rows,)
        Weights of the rows; those of weight 0 count for nothing.
    settings : GaussianSettings
        Ridge, tolerance and bounds of the memory.
    """

    def __init__(
        self, x: Tensor, mask: Tensor, weight: Tensor, settings: GaussianSettings
    ) -> None:
        order = (mask == 0).sum(1).argsort()  # rows with as many missing cells together
        self.x, self.mask = (x.double() * mask)[order], mask.double()[order]
        weight = weight.double()[order]
        self.weight = weight / weight.sum()
        n_rows, n_columns = int((weight > 0).sum()), x.shape[1]
        ridge = settings.ridge_of(n_rows, n_columns)
        self.ridge = ridge * torch.eye(n_columns).to(self.x)
        at_once = min(settings.most_rows, settings.solve_floats // n_columns**2)
        self.at_once = max(1, at_once)
        self.tolerance = settings.em_tolerance

    def run(
        self,
        mean: Tensor,
        covariance: Tensor,
        n_iterations: int,
        progress: Progress | None = None,
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Return mean, covariance and log-likelihoods after so many iterations.

        Fewer where the covariance matrix has settled.
        """
        scale = covariance.diagonal().max()
        likelihoods = []
        progress = Progress() if progress is None else progress
        with progress.stage(STAGE, n_iterations) as steps:
            for _ in steps:
                imputed, left, likelihood = self._expect(mean, covariance)
                likelihoods.append(float(likelihood))
                mean = self.weight @ imputed
                deviation = imputed - mean
                new = deviation.t() @ (self.weight.unsqueeze(1) * deviation) + left
                change = float((new - covariance).abs().max() / scale)
                covariance = new
                if change < self.tolerance:
                    break
        covariance = covariance + self.ridge
        return mean, 0.5 * (covariance + covariance.t()), likelihoods

    def _expect(
        self, mean: Tensor, covariance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the given cells tell under the present parameters.

        That is the imputed rows, the mean covariance of their missing cells, and the
        mean log-likelihood.
        """
        factor = torch.linalg.cholesky(covariance + self.ridge)
        precision = torch.cholesky_inverse(factor)
        imputed, missing = torch.empty_like(self.x), torch.zeros_like(covariance)
        log_determinant = 2 * factor.diagonal().log().sum()
        total = self.x.new_zeros(())
        for start in range(0, len(self.x), self.at_once):
            part = slice(start, start + self.at_once)
            x, given, weight = self.x[part], self.mask[part], self.weight[part]
            deviation = (x - mean) * given
            update, left, index, log_density = conditional_moments(
                precision, log_determinant, deviation, given
            )
            imputed[part] = torch.where(given > 0, x, mean + update)
            cells = index.unsqueeze(2) * len(mean) + index.unsqueeze(1)
            squares = (weight[:, None, None] * left).flatten()
            missing.view(-1).index_add_(0, cells.flatten(), squares)
            total += weight @ log_density
        return imputed, missing, total


def marginals(x: Tensor, mask: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and diagonal covariance of the given cells, in float64."""
    x, mask, rows = x.double() * mask, mask.double(), weight.double()
    cells = (mask * rows.unsqueeze(1)).sum(0).clamp(min=1e-12)
    mean = (x * rows.unsqueeze(1)).sum(0) / cells
    squares = ((x - mean) * mask).square() * rows.unsqueeze(1)
    variance = squares.sum(0) / cells
    # a column without squares still needs an invertible matrix
    variance = variance.clamp(min=1e-6 * float(variance.max().clamp(min=1e-6)))
    return mean, torch.diag(variance)


def inverse(covariance: Tensor) -> Tensor:
    """Return the precision matrix."""
    return torch.cholesky_inverse(torch.linalg.cholesky(covariance))


def cells_of(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the cells that are 1 in each row, (rows, most cells).

    Rows with fewer cells are padded; the second tensor is 1 where it is none of that.
    """
    n_cells = chosen.sum(1)
    width = int(n_cells.max())
    index = chosen.argsort(dim=1, descending=True, stable=True)[:, :width]
    valid = torch.arange(width, device=chosen.device) < n_cells.unsqueeze(1)
    return index, valid.to(chosen.dtype)


def rows_of(matrices: Tensor, index: Tensor, fold: Tensor | None) -> Tensor:
    """Return rows of a matrix, or of each fold's, (rows, width, columns)."""
    return matrices[index] if fold is None else matrices[fold.unsqueeze(1), index]


def update_by_covariance(
    covariances: Tensor, given: Tensor, deviation: Tensor, fold: Tensor | None
) -> Tensor:
    """Return expected deviations of the missing cells, S_ho S_oo^-1 d.

    With the matrices of the given cells, of one covariance matrix or of each fold's.
    """
    block, factor, index, valid = factor_cells(covariances, given, fold)
    right = deviation.gather(1, index).unsqueeze(-1) * valid.unsqueeze(-1)
    solved = torch.cholesky_solve(right, factor)
    return (solved.mT @ block).squeeze(1)


def update_by_precision(
    precisions: Tensor, missing: Tensor, deviation: Tensor, fold: Tensor | None
) -> Tensor:
    """Return expected deviations of the missing cells, -P_hh^-1 P_ho d.

    With the matrices of the missing cells, of one precision matrix or of each fold's.
    """
    block, factor, index, valid = factor_cells(precisions, missing, fold)
    right = (block @ deviation.unsqueeze(-1)) * valid.unsqueeze(-1)
    solved = torch.cholesky_solve(right, factor).squeeze(-1)
    return torch.zeros_like(deviation).scatter_add(1, index, -solved)


def factor_cells(
    matrices: Tensor, chosen: Tensor, fold: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows of a matrix and the Cholesky factor of its chosen cells.

    Shapes (rows, width, columns) and (rows, width, width); after them come the indices
    of the cells and where they are no padding, see :func:`cells_of`.
    """
    index, valid = cells_of(chosen)
    block = rows_of(matrices, index, fold)
    matrix = block.gather(2, index.unsqueeze(1).expand(-1, index.shape[1], -1))
    matrix = matrix * valid.unsqueeze(2) * valid.unsqueeze(1)
    factor = torch.linalg.cholesky(matrix + torch.diag_embed(1 - valid))
    return block, factor, index, valid


def conditional_moments(
    precision: Tensor, log_determinant: Tensor, deviation: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the given cells of each row leave open of the missing ones.

    That is the expected deviation of the missing cells, their covariance and their
    indices, and the log-density of the given cells. With the precision P = S^-1 the
    covariance is P_hh^-1, a matrix of the missing cells alone; 0 pads it where a row has
    fewer than others.
    """
    index, is_missing = cells_of(1 - mask)
    pairs = is_missing.unsqueeze(2) * is_missing.unsqueeze(1)
    matrix = precision[index.unsqueeze(2), index.unsqueeze(1)] * pairs
    factor = torch.linalg.cholesky(matrix + torch.diag_embed(1 - is_missing))
    left = torch.cholesky_inverse(factor) * pairs
    pull = deviation @ precision
    own = pull.gather(1, index) * is_missing
    found = -(left @ own.unsqueeze(-1)).squeeze(-1)
    update = torch.zeros_like(deviation).scatter(1, index, found)
    distance = (deviation * pull).sum(1) + (own * found).sum(1)
    logs = log_determinant + 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mask.sum(1) * math.log(2 * math.pi)
    return update, left, index, -0.5 * (distance + logs + constant)


def draw_moments(
    x: Tensor, weight: Tensor, generator: torch.Generator, ridge: float
) -> tuple[Tensor, Tensor]:
    """Draw mean and covariance from their posterior, given complete rows.

    The prior is that of Jeffreys, but for the ridge on the diagonal and, in tables with
    many columns by row, more degrees of freedom: without them the covariance would be
    drawn several times as large as that of the rows. In float64.
    """
    x = x.double()
    weight = weight.double() / weight.sum()
    n_rows, n_columns = x.shape
    deviation = x - weight @ x
    scatter = deviation.t() @ (weight.unsqueeze(1) * deviation)
    scatter = n_rows * (scatter + ridge * torch.eye(n_columns).to(x))
    # the inverse of a product of normals is the draw for a scatter of one
    ratio = min(1.0, 2 * n_columns / n_rows)
    freedom = n_rows - 1 + round(n_columns * ratio)
    noise = x.new_empty(freedom, n_columns).normal_(generator=generator)
    factor = torch.linalg.cholesky(noise.t() @ noise)
    root = torch.linalg.cholesky(scatter)
    root = torch.linalg.solve_triangular(factor.t(), root, upper=True, left=False)
    noise = x.new_empty(n_columns).normal_(generator=generator)
    return weight @ x + root @ noise / math.sqrt(n_rows), root @ root.t()


def factor_given(covariance: Tensor, mask: Tensor) -> Tensor:
    """Return the Cholesky factor of each row's S_oo, with the identity elsewhere."""
    matrix = covariance * mask.unsqueeze(-1) * mask.unsqueeze(-2)
    matrix = matrix + torch.diag_embed(1 - mask)
    # elsewhere than on the CPU a check would stop the queue at every step
    on_cpu = matrix.device.type == "cpu"
    return torch.linalg.cholesky_ex(matrix, check_errors=on_cpu)[0]


def log_density(factor: Tensor, deviation: Tensor, mask: Tensor) -> Tensor:
    """Return the log-density in nats of given deviations from the mean."""
    scaled = torch.linalg.solve_triangular(
        factor, deviation.unsqueeze(-1), upper=False
    ).squeeze(-1)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mask.sum(-1) * math.log(2 * math.pi)
    return -0.5 * (scaled.square().sum(-1) + log_determinant + constant)
