"""A linear VAE is probabilistic PCA, and factor analysis with a scale per column."""

import numpy as np
import pytest
import torch
from linear_gaussian import cubature_noise, make_linear_vae
from sklearn.decomposition import PCA, FactorAnalysis

from skvae import VAETransformer
from skvae._modules import Batch
from skvae._objectives import elbo

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


def fit_linear(X, likelihood, **parameters):
    vae = VAETransformer(
        n_components=N_LATENT,
        hidden_layer_sizes=(),
        likelihood=likelihood,
        numeric_transform="none",
        early_stopping=False,
        random_state=0,
        **parameters,
    )
    return vae.fit(X)


def decoder_columns(vae):
    """Loadings through the public surface, (n_latent, n_columns)."""
    origin = np.zeros((1, N_LATENT))
    return vae.inverse_transform(np.eye(N_LATENT)) - vae.inverse_transform(origin)


def train_full_batch(vae, X, n_steps=300):
    """Maximise the exact ELBO with L-BFGS, from the random initial weights."""
    batch = Batch(torch.from_numpy(X))
    noise = cubature_noise(len(X), N_LATENT)
    optimizer = torch.optim.LBFGS(
        vae.parameters(),
        max_iter=n_steps,
        history_size=30,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = -elbo(vae, batch, noise).objective.mean()
        value.backward()
        return value

    optimizer.step(loss)
    return -loss().item()


# -- from a random start: this is the objective's own optimum -------------------


def test_optimum_of_the_elbo_is_probabilistic_pca(table):
    vae = make_linear_vae(N_COLUMNS, N_LATENT, isotropic=True)
    with torch.no_grad():  # loadings that are neither orthogonal nor near the optimum
        vae.decoder.output.weight.copy_(
            torch.randn(
                N_COLUMNS,
                N_LATENT,
                dtype=torch.float64,
                generator=torch.Generator().manual_seed(5),
            )
        )
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
    np.testing.assert_allclose(
        eigenvalues, shrink * pca.explained_variance_, rtol=5e-3
    )
    # the factorised posterior makes the decoder's columns orthogonal
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 0.01 * gram.max()
    np.testing.assert_allclose(
        vae.decoder.output.bias.detach().numpy(), table.mean(0), atol=0.01
    )


def test_optimum_of_the_elbo_is_factor_analysis(uneven_table):
    vae = make_linear_vae(N_COLUMNS, N_LATENT)
    bound = train_full_batch(vae, uneven_table)
    model = FactorAnalysis(N_LATENT, tol=1e-8, max_iter=10_000).fit(uneven_table)
    assert bound == pytest.approx(model.score(uneven_table), abs=2e-3)
    noise = vae.joint.heads[0].scale(None).detach().numpy() ** 2
    np.testing.assert_allclose(noise, model.noise_variance_, rtol=0.05, atol=0.002)


# -- end to end -----------------------------------------------------------------


def test_estimator_is_probabilistic_pca(table):
    vae = fit_linear(table, "normal_isotropic", max_iter=50, learning_rate_init=1e-3)
    pca = PCA(N_LATENT).fit(table)
    assert vae.score(table) == pytest.approx(pca.score(table), abs=0.01)
    (head,) = vae._module.joint.heads
    noise = head.scale(None).item() ** 2
    assert noise == pytest.approx(pca.noise_variance_, rel=0.01)
    loadings = decoder_columns(vae)
    covariance = loadings.T @ loadings + noise * np.eye(N_COLUMNS)
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(
        eigenvalues[:N_LATENT], pca.explained_variance_, rtol=0.02
    )
    norms = np.sort(np.square(loadings).sum(1) + noise)[::-1]
    np.testing.assert_allclose(norms, pca.explained_variance_, rtol=0.02)
    np.testing.assert_allclose(
        vae.inverse_transform(np.zeros((1, N_LATENT)))[0], table.mean(0), atol=0.05
    )


def test_latents_are_those_of_pca(table):
    """The posterior means are PCA's scores, shrunk, up to their signs."""
    vae = fit_linear(table, "normal_isotropic", max_iter=50, learning_rate_init=1e-3)
    pca = PCA(N_LATENT).fit(table)
    signal = pca.explained_variance_ - pca.noise_variance_
    expected = pca.transform(table) * np.sqrt(signal) / pca.explained_variance_
    correlation = np.corrcoef(vae.transform(table).T, expected.T)
    assert (np.abs(correlation[:N_LATENT, N_LATENT:]).max(0) > 0.99).all()


def test_estimator_is_factor_analysis(uneven_table):
    model = FactorAnalysis(N_LATENT, tol=1e-6, max_iter=5000).fit(uneven_table)
    expected = model.score(uneven_table)
    # the test would say little if PCA's noise model were as good
    assert expected > PCA(N_LATENT).fit(uneven_table).score(uneven_table) + 1
    vae = fit_linear(uneven_table, "normal", max_iter=60)
    assert vae.score(uneven_table) == pytest.approx(expected, abs=0.02)


def test_encoding_does_not_change_the_density(uneven_table):
    """Densities are those of the original units, whatever the map of the columns."""
    scores = [
        fit_linear(uneven_table, "normal", max_iter=60)
        .set_params(random_state=0)
        .score(uneven_table)
    ]
    standard = VAETransformer(
        n_components=N_LATENT,
        hidden_layer_sizes=(),
        likelihood="normal",
        numeric_transform="standard",
        early_stopping=False,
        max_iter=60,
        random_state=0,
    )
    scores.append(standard.fit(uneven_table).score(uneven_table))
    assert scores[0] == pytest.approx(scores[1], abs=0.03)
