"""Linear algebra of a normal's conditionals, with given cells by row.

Letters: o given cells, m missing ones, d the deviation of the given cells from the
mean, S the covariance matrix, P = S^-1 the precision matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cholesky(matrix: Tensor) -> Tensor:
    """Return the Cholesky factors, checked once for the whole batch on any device."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if not info.is_meta and bool(info.any()):
        n_failed = int(torch.count_nonzero(info))
        raise torch.linalg.LinAlgError(
            f"{n_failed} of {info.numel()} covariance matrices of the multivariate "
            "normal are not positive definite. Look for infinite or huge values in the "
            "table."
        )
    return factor


def inverse(covariance: Tensor) -> Tensor:
    """Return the precision matrix."""
    return torch.cholesky_inverse(cholesky(covariance))


def cells_of(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the chosen cells of each row, (rows, most cells).

    Rows with fewer cells are padded; the second tensor is 0 in the padding, else 1.
    """
    n_cells = chosen.sum(1)
    width = int(n_cells.max())
    index = chosen.argsort(dim=1, descending=True, stable=True)[:, :width]
    place = torch.arange(width, dtype=torch.long, device=chosen.device)
    valid = place < n_cells.unsqueeze(1)
    return index, valid.to(chosen.dtype)


def update_by_covariance(
    covariances: Tensor, given: Tensor, deviation: Tensor, fold: Tensor | None
) -> Tensor:
    """Return expected deviations of the missing cells, S_mo S_oo^-1 d.

    The matrices solved are those of the given cells, of one covariance matrix or of
    each fold's.
    """
    block, factor, index, valid = factor_cells(covariances, given, fold)
    right = deviation.gather(1, index).unsqueeze(-1) * valid.unsqueeze(-1)
    solved = torch.cholesky_solve(right, factor)
    return (solved.mT @ block).squeeze(1)


def update_by_precision(
    precisions: Tensor, missing: Tensor, deviation: Tensor, fold: Tensor | None
) -> Tensor:
    """Return expected deviations of the missing cells, -P_mm^-1 P_mo d.

    The matrices solved are those of the missing cells, of one precision matrix or of
    each fold's.
    """
    block, factor, index, valid = factor_cells(precisions, missing, fold)
    right = (block @ deviation.unsqueeze(-1)) * valid.unsqueeze(-1)
    solved = torch.cholesky_solve(right, factor).squeeze(-1)
    return torch.zeros_like(deviation).scatter_add(1, index, -solved)


def factor_cells(
    matrices: Tensor, chosen: Tensor, fold: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return selected rows and the Cholesky factor of the selected submatrix.

    Shapes (rows, width, columns) and (rows, width, width); then the indices of the
    cells and their padding, see :func:`cells_of`.
    """
    index, valid = cells_of(chosen)
    block = matrices[index] if fold is None else matrices[fold.unsqueeze(1), index]
    matrix = block.gather(2, index.unsqueeze(1).expand(-1, index.shape[1], -1))
    matrix = matrix * valid.unsqueeze(2) * valid.unsqueeze(1)
    factor = cholesky(matrix + torch.diag_embed(1 - valid))
    return block, factor, index, valid


def conditional_moments(
    precision: Tensor, log_determinant: Tensor, deviation: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return conditional moments of the missing cells, and a log-density.

    That is their expected deviation, covariance P_mm^-1 (0 in the padding) and indices,
    and the log-density of the given cells.
    """
    index, is_missing = cells_of(1 - mask)
    pairs = is_missing.unsqueeze(2) * is_missing.unsqueeze(1)
    matrix = precision[index.unsqueeze(2), index.unsqueeze(1)] * pairs
    factor = cholesky(matrix + torch.diag_embed(1 - is_missing))
    covariance = torch.cholesky_inverse(factor) * pairs
    pull = deviation @ precision
    own = pull.gather(1, index) * is_missing
    found = -(covariance @ own.unsqueeze(-1)).squeeze(-1)
    update = torch.zeros_like(deviation).scatter(1, index, found)
    distance = (deviation * pull).sum(1) + (own * found).sum(1)
    logs = log_determinant + 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mask.sum(1) * math.log(2 * math.pi)
    return update, covariance, index, -0.5 * (distance + logs + constant)


def factor_given(covariance: Tensor, mask: Tensor) -> Tensor:
    """Return Cholesky factors of S_oo by row, identity in missing coordinates."""
    matrix = covariance * mask.unsqueeze(-1) * mask.unsqueeze(-2)
    return cholesky(matrix + torch.diag_embed(1 - mask))


def leave_one_out(
    covariance: Tensor, mask: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the moments of every cell given the other given cells of its row.

    Expected deviation and variance, (rows, columns), for all cells from one matrix Q =
    S_oo^-1 per row: a given cell has the variance 1 / Q_jj.
    """
    precision = torch.cholesky_inverse(factor_given(covariance, mask))
    precision = precision * mask.unsqueeze(-1) * mask.unsqueeze(-2)
    pull = (precision @ (deviation * mask).unsqueeze(-1)).squeeze(-1)
    own = torch.where(mask > 0, precision.diagonal(dim1=-2, dim2=-1), 1.0)
    explained = ((covariance @ precision) * covariance.t()).sum(-1)
    mean = torch.where(mask > 0, deviation - pull / own, pull @ covariance)
    return mean, torch.where(mask > 0, 1 / own, covariance.diagonal() - explained)


def log_density(factor: Tensor, deviation: Tensor, mask: Tensor) -> Tensor:
    """Return the log-density in nats of the given cells' deviations from the mean."""
    scaled = torch.linalg.solve_triangular(
        factor, deviation.unsqueeze(-1), upper=False
    ).squeeze(-1)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = mask.sum(-1) * math.log(2 * math.pi)
    return -0.5 * (scaled.square().sum(-1) + log_determinant + constant)
