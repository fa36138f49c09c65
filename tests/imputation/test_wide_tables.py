"""Shortcuts against plain formulas, and bounds of the work of single stages."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from counted_work import counted
from mean_models import generator, make_mean, make_rows
from test_gaussian import as_tensors, fitted
from test_gaussian import make_rows as normal_rows

from skvae import VAEImputer
from skvae._imputation.fit_mean import held_out_limit
from skvae._imputation.residual_vae import ResidualVAE, describe_paths
from skvae._imputation.settings import SETTINGS
from skvae._networks.vae import VAE


def conditional(j, row, given, mean, covariance):
    """Mean and deviation of cell j given the others, by the textbook's formula."""
    others = np.flatnonzero((given > 0) & (np.arange(len(row)) != j))
    s = covariance[np.ix_(others, others)]
    weights = np.linalg.solve(s, covariance[others, j])
    variance = covariance[j, j] - covariance[j, others] @ weights
    return mean[j] + weights @ (row[others] - mean[others]), np.sqrt(variance)


def test_every_cell_given_the_others_from_one_matrix():
    x, mask = normal_rows(n_rows=30)
    mask[:3] = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    gaussian, _ = fitted(x, mask)
    means, deviations = gaussian.leave_one_out(*as_tensors(x, mask))
    moments = gaussian.mean.numpy(), gaussian.covariance.numpy()
    for i in range(len(x)):
        found = [conditional(j, x[i], mask[i], *moments) for j in range(x.shape[1])]
        np.testing.assert_allclose(means[i], [mean for mean, _ in found])
        np.testing.assert_allclose(deviations[i], [scale for _, scale in found])


def test_draws_of_the_same_rows_share_a_factor():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 20)) + rng.normal(size=(10, 1))
    mask = (rng.random(x.shape) > 0.2).astype(float)
    gaussian, _ = fitted(x, mask)
    x, mask = as_tensors(x, mask)
    noise = torch.randn(5, *x.shape, generator=generator(), dtype=x.dtype)
    one_by_one = torch.stack([gaussian.sample(x, mask, part) for part in noise])
    torch.testing.assert_close(gaussian.sample(x, mask, noise), one_by_one)
    draws = counted(lambda: gaussian.sample(x, mask, noise)).multiplications
    apart = counted(lambda: [gaussian.sample(x, mask, n) for n in noise])
    assert 2 * draws < apart.multiplications


def test_wide_rows_are_conditioned_by_a_drawn_precision():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 30)) + rng.normal(size=(40, 1))
    mask = (rng.random(x.shape) > 0.2).astype(float)
    gaussian, _ = fitted(x, mask)
    x, mask = as_tensors(x, mask)
    gaussian.draw_parameters(x, mask, torch.ones(40).double(), generator())
    precision = torch.linalg.inv(gaussian.drawn_covariances[1])
    found = gaussian.condition(x, mask, draw=1, precision=precision)
    torch.testing.assert_close(found, gaussian.condition(x, mask, draw=1))


def test_the_passes_for_slopes_are_bounded():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 24))
    X[rng.random(X.shape) < 0.2] = np.nan
    imputer = VAEImputer(max_iter=1, hidden_layer_sizes=(8,), random_state=0).fit(X)
    model = imputer._model
    batch = model.batch(imputer._encode(X))

    def passes(n_slopes):
        signs = dict.fromkeys(range(n_slopes), 1)
        return counted(lambda: model._fit_slopes(batch, signs)).multiplications

    model.settings = replace(model.settings, slope_passes=6)
    assert passes(3) < 0.6 * passes(6)
    assert passes(24) == pytest.approx(passes(6), rel=0.01)


def test_complete_columns_need_no_pass():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 1)) + 0.3 * rng.normal(size=(60, 4))
    X[X[:, 1] > 0.5, 0] = np.nan
    imputer = VAEImputer(
        max_iter=1, hidden_layer_sizes=(8,), missingness="high", random_state=0
    ).fit(X)
    first, *others = imputer.missingness_slopes_.values()
    assert first > 0
    assert others == [0.0] * 3


def test_rows_for_scores_are_fewer_in_wide_tables():
    model = make_mean()
    assert held_out_limit(model) == SETTINGS.held_out_rows
    model.settings = replace(SETTINGS, held_out_floats=10 * model.floats_per_row)
    assert held_out_limit(model) == 10


# -- wide decoders: copies in place of a linear path ---------------------------------


def residual_vae(direct_weights):
    mean = make_mean()
    rows = make_rows()
    mean.initialise(rows)
    joint = make_mean().joint
    settings = replace(SETTINGS, direct_weights=direct_weights)
    options = describe_paths(joint, mean, (), settings)
    vae = ResidualVAE(
        joint,
        2,
        (8,),
        "silu",
        generator(),
        n_context=mean.n_context,
        **options,
    )
    vae.initialise_at_mean(mean)
    mask = rows.observed & (torch.rand(rows.x.shape, generator=generator()) > 0.3)
    return vae, mean.context(rows.x, rows.x_original, mask)


def test_copies_start_where_the_linear_path_starts():
    (path, c), (copies, _) = residual_vae(10**9), residual_vae(0)
    assert path.decoder.linear_path and not copies.decoder.linear_path
    z = torch.randn(3, len(c), 2, generator=generator())
    torch.testing.assert_close(copies.decode(z, c), path.decode(z, c))
    assert not torch.equal(copies.decode(z, c), VAE.decode(copies, z, c))


def test_copies_have_no_weight_per_pair_of_columns():
    (path, _), (copies, _) = residual_vae(10**9), residual_vae(0)
    assert copies.decoder.output.weight.shape[1] == 8
    assert path.decoder.output.weight.shape[1] > 8
