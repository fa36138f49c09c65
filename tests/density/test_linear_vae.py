"""A linear VAE is probabilistic PCA, and factor analysis with a scale per column."""

import numpy as np
import pytest
import torch
from linear_gaussian import cubature_noise, make_linear_vae, normal_noise
from sklearn.decomposition import PCA, FactorAnalysis

from skvae import VAETransformer
from skvae._networks.batch import Batch
from skvae._training.bounds import elbo

N_ROWS, N_COLUMNS, N_LATENT = 2000, 10, 3
SIGNAL = np.array([2.0, 1.5, 1.0])


def simulate(noise, seed):
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(N_COLUMNS, N_LATENT)) * SIGNAL
    z = rng.normal(size=(N_ROWS, N_LATENT))
    mean = rng.normal(size=N_COLUMNS)
    return z @ loadings.T + mean + noise * rng.normal(size=(N_ROWS, N_COLUMNS))


@pytest.fixture(scope="module")
def table():
    return simulate(0.7, seed=0)


@pytest.fixture(scope="module")
def uneven_table():
    """Noise that differs so much between columns that PCA is far from the optimum."""
    return simulate(np.geomspace(0.1, 2.0, N_COLUMNS), seed=1)


def fit_linear(X, likelihood, *, numeric_transform="none", **parameters):
    vae = VAETransformer(
        n_components=N_LATENT,
        hidden_layer_sizes=(),
        likelihood=likelihood,
        numeric_transform=numeric_transform,
        early_stopping=False,
        random_state=0,
        **parameters,
    )
    return vae.fit(X)


@pytest.fixture(scope="module")
def principal_vae(table):
    return fit_linear(table, "normal_isotropic", max_iter=50, learning_rate_init=1e-3)


@pytest.fixture(scope="module")
def factor_vae(uneven_table):
    return fit_linear(uneven_table, "normal", max_iter=60)


def decoder_columns(vae):
    """Loadings through the public surface, (n_latent, n_columns)."""
    origin = np.zeros((1, N_LATENT))
    return vae.inverse_transform(np.eye(N_LATENT)) - vae.inverse_transform(origin)


def moment_points(X):
    """Points with the mean and the covariance of the rows of X.

    The bound of a linear model is quadratic in x, so that its average over these
    few points equals the one over all rows.
    """
    root = np.linalg.cholesky(np.cov(X.T, ddof=0)) * np.sqrt(X.shape[1])
    points = np.concatenate([X.mean(0) + root.T, X.mean(0) - root.T])
    return Batch(torch.from_numpy(points))


def train_full_batch(vae, X):
    """Maximise the exact ELBO with L-BFGS, from the random initial weights."""
    batch = moment_points(X)
    noise = cubature_noise(len(batch), N_LATENT)
    optimizer = torch.optim.LBFGS(
        vae.parameters(),
        max_iter=700,
        history_size=100,
        tolerance_grad=1e-8,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = -elbo(vae, batch, noise).objective.mean()
        value.backward()
        return value

    optimizer.step(loss)
    all_rows = Batch(torch.from_numpy(X))
    noise = cubature_noise(len(X), N_LATENT)
    with torch.no_grad():
        return elbo(vae, all_rows, noise).objective.mean().item()


def random_linear_vae(*, isotropic):
    """Random loadings, neither orthogonal nor near an optimum."""
    vae = make_linear_vae(N_COLUMNS, N_LATENT, isotropic=isotropic)
    with torch.no_grad():
        vae.decoder.output.weight.copy_(normal_noise(N_COLUMNS, N_LATENT, seed=5))
    return vae


# -- from a random start: this is the objective's own optimum -------------------


def test_optimum_of_the_elbo_is_probabilistic_pca(table):
    vae = random_linear_vae(isotropic=True)
    bound = train_full_batch(vae, table)
    pca = PCA(N_LATENT).fit(table)
    # PCA divides by n - 1, maximum likelihood by n
    shrink = (N_ROWS - 1) / N_ROWS
    assert bound == pytest.approx(pca.score(table), abs=1e-3)
    noise = vae.joint.heads[0].scale(None).item() ** 2
    assert noise == pytest.approx(shrink * pca.noise_variance_, rel=1e-3)
    loadings = vae.decoder.output.weight.detach().numpy()
    gram = loadings.T @ loadings
    eigenvalues = np.sort(np.diag(gram) + noise)[::-1]
    np.testing.assert_allclose(eigenvalues, shrink * pca.explained_variance_, rtol=5e-3)
    # the factorised posterior makes the decoder's columns orthogonal
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 0.01 * gram.max()
    np.testing.assert_allclose(
        vae.decoder.output.bias.detach().numpy(), table.mean(0), atol=0.01
    )


def test_optimum_of_the_elbo_is_factor_analysis(uneven_table):
    vae = random_linear_vae(isotropic=False)
    bound = train_full_batch(vae, uneven_table)
    model = FactorAnalysis(N_LATENT, tol=1e-8, max_iter=10_000).fit(uneven_table)
    assert bound == pytest.approx(model.score(uneven_table), abs=0.01)
    # the noise of single columns hardly changes the likelihood, the covariance does
    noise = vae.joint.heads[0].scale(None).detach().numpy() ** 2
    loadings = vae.decoder.output.weight.detach().numpy()
    deviation = uneven_table.std(0)
    error = loadings @ loadings.T + np.diag(noise) - model.get_covariance()
    assert (np.abs(error) < 0.01 * np.outer(deviation, deviation)).all()


# -- end to end -----------------------------------------------------------------


def test_estimator_is_probabilistic_pca(principal_vae, table):
    pca = PCA(N_LATENT).fit(table)
    assert principal_vae.score(table) == pytest.approx(pca.score(table), abs=0.01)
    (head,) = principal_vae._model.module.joint.heads
    noise = head.scale(None).item() ** 2
    assert noise == pytest.approx(pca.noise_variance_, rel=0.01)
    loadings = decoder_columns(principal_vae)
    norms = np.sort(np.square(loadings).sum(1) + noise)[::-1]
    np.testing.assert_allclose(norms, pca.explained_variance_, rtol=0.02)
    mean = principal_vae.inverse_transform(np.zeros((1, N_LATENT)))[0]
    np.testing.assert_allclose(mean, table.mean(0), atol=0.1)


def test_latents_are_those_of_pca(principal_vae, table):
    """Posterior means are PCA's scores, shrunk and scaled, up to their signs."""
    pca = PCA(N_LATENT).fit(table)
    signal = pca.explained_variance_ - pca.noise_variance_
    expected = pca.transform(table) * np.sqrt(signal) / pca.explained_variance_
    latents = principal_vae.transform(table)
    latents = latents[:, np.argsort(-np.square(decoder_columns(principal_vae)).sum(1))]
    signs = np.sign((latents * expected).sum(0))
    deviation = np.sqrt(np.square(latents * signs - expected).mean(0))
    assert (deviation < 0.1).all()


def test_estimator_is_factor_analysis(factor_vae, uneven_table):
    model = FactorAnalysis(N_LATENT, tol=1e-6, max_iter=5000).fit(uneven_table)
    expected = model.score(uneven_table)
    # the test would say little if PCA's noise model were as good
    assert expected > PCA(N_LATENT).fit(uneven_table).score(uneven_table) + 1
    assert factor_vae.score(uneven_table) == pytest.approx(expected, abs=0.02)


def test_encoding_does_not_change_the_density(factor_vae, uneven_table):
    """Densities are those of the original units, whatever the map of the columns."""
    standard = fit_linear(
        uneven_table, "normal", numeric_transform="standard", max_iter=60
    )
    score = standard.score(uneven_table)
    assert score == pytest.approx(factor_vae.score(uneven_table), abs=0.03)
