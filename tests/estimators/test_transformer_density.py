"""VAETransformer: densities and draws against what they should be."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.datasets import load_digits
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import train_test_split

from skvae import VAETransformer
from skvae._networks.batch import INFERENCE_FLOATS, rows_at_once
from skvae._networks.vae import VAE

# -- shapes, dtypes, names -----------------------------------------------------------


def spiked(n_rows=600):
    """Hours a week: 40 in half of the rows, whole numbers around it in the others."""
    rng = np.random.default_rng(0)
    hours = np.where(rng.random(n_rows) < 0.5, 40.0, rng.integers(20, 60, n_rows))
    return np.column_stack([hours, hours + rng.normal(size=n_rows)])


@pytest.mark.parametrize("numeric_transform", ["standard", "quantile"])
def test_repeated_values_are_drawn_as_often_as_they_occur(numeric_transform):
    X = spiked()
    vae = VAETransformer(max_iter=3, numeric_transform=numeric_transform)
    vae.set_params(random_state=0).fit(X)
    drawn = vae.sample(4_000, random_state=1)
    values, counts = np.unique(X[:, 0], return_counts=True)
    assert np.isin(drawn[:, 0], values).all()
    shares = [(drawn[:, 0] == value).mean() for value in values]
    # the standard error of a share of a half is 0.01 in each of two samples of draws
    np.testing.assert_allclose(shares, counts / len(X), atol=0.04)
    assert np.corrcoef(drawn.T)[0, 1] > 0.9  # the order of draws stays
    assert np.unique(drawn[:, 1]).size > 3_000


def test_weights_count_in_the_shares_of_repeated_values():
    X = spiked()
    weight = np.where(X[:, 0] == 40, 1.0, 5.0)
    vae = VAETransformer(max_iter=3, random_state=0).fit(X, sample_weight=weight)
    share = (vae.sample(4_000, random_state=1)[:, 0] == 40).mean()
    assert share == pytest.approx(weight[X[:, 0] == 40].sum() / weight.sum(), abs=0.04)


def test_partial_fit_forgets_how_often_values_occurred():
    X = spiked()
    vae = VAETransformer(max_iter=3, random_state=0).fit(X)
    vae.partial_fit(X[X[:, 0] != 40])
    drawn = vae.sample(1_000, random_state=1)[:, 0]
    assert np.isin(drawn, X[:, 0]).all()
    assert (drawn == 40).mean() < 0.3


# -- densities -----------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["standard", "quantile"])
def test_density_integrates_to_one(transform):
    rng = np.random.default_rng(0)
    X = np.exp(rng.normal(size=(300, 1)))
    vae = VAETransformer(max_iter=5, numeric_transform=transform, random_state=0)
    vae.fit(X)
    assert vae.numeric_transform_ == {"x0": transform}
    grid = np.linspace(-40, 120, 12_001)[:, None]
    density = np.exp(vae.score_samples(grid, 20).astype(float))
    assert trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=0.05)


def test_density_follows_the_units(numbers):
    vae = VAETransformer(max_iter=3, random_state=0)
    score = vae.fit(numbers).score(numbers)
    in_thousands = vae.fit(1e3 * numbers).score(1e3 * numbers)
    assert in_thousands == pytest.approx(score - 5 * np.log(1e3), abs=1e-3)


def test_digits_beat_factor_analysis():
    X_train, X_test = train_test_split(load_digits().data, random_state=0)
    varies = X_train.std(axis=0) > 0
    peer = FactorAnalysis(n_components=32).fit(X_train[:, varies])
    vae = VAETransformer(max_iter=10, random_state=0).fit(X_train)  # else as it comes
    # by the same columns: those that do not vary add nothing to ours
    assert vae.score(X_test) > peer.score(X_test[:, varies])


def test_evidence_rises_with_draws(numbers):
    vae = VAETransformer(2, max_iter=20, random_state=0).fit(numbers)
    # the encoder has seen no missing cells, so that q(z | x) is poor
    X = np.where(np.arange(numbers.size).reshape(numbers.shape) % 2, np.nan, numbers)
    means = np.zeros(3)
    for seed in range(30):  # rows share their noise, so only seeds average it out
        vae._model.seed = seed
        means += [vae.score_samples(X, n_draws).mean() for n_draws in (1, 8, 256)]
    one, eight, many = means / 30
    assert one + 0.1 < eight < many - 0.02
    # and scores are those of 256 draws
    assert vae.score(X) == pytest.approx(vae.score_samples(X, 256).mean(), rel=1e-6)


def test_memory_of_inference_is_bounded(numbers, monkeypatch):
    vae = VAETransformer(2, hidden_layer_sizes=(16,), max_iter=2, random_state=0)
    vae.fit(numbers)
    sizes = []

    def recorded(method):
        def call(self, x, *args, **kwargs):
            sizes.append(x.numel() // x.shape[-1] * 16)
            return method(self, x, *args, **kwargs)

        return call

    monkeypatch.setattr(VAE, "encode", recorded(VAE.encode))
    monkeypatch.setattr(VAE, "decode", recorded(VAE.decode))
    n_rows = 10 * rows_at_once(16 * 1024)
    many = np.resize(numbers, (n_rows, 5))
    scores = vae.score_samples(many, n_draws=1024)
    assert max(sizes) <= INFERENCE_FLOATS < n_rows * 1024 * 16
    np.testing.assert_allclose(scores[:80], vae.score_samples(numbers, 1024), rtol=1e-4)
    # more draws than fit at once, for a single row
    vae.score_samples(numbers[:1], n_draws=300_000)
    assert max(sizes) <= INFERENCE_FLOATS


def test_score_samples_of_many_rows(numbers):
    vae = VAETransformer(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    rows = numbers.astype(np.float32)
    scores = vae.fit(numbers).score_samples(np.resize(rows, (20_000, 5)))
    expected = np.resize(vae.score_samples(rows), 20_000)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


# -- nothing else changes ------------------------------------------------------------


def test_densities_of_rows_with_gaps_integrate_to_one():
    """Although no cell was missing in training."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1)) @ np.ones((1, 3)) + 0.3 * rng.normal(size=(300, 3))
    vae = VAETransformer(2, max_iter=60, random_state=0).fit(X)
    grid = np.linspace(-15, 15, 601)
    rows = np.full((len(grid) + 2, 3), np.nan)
    rows[1:-1, 1] = grid
    rows[-1] = X[0]
    scores = vae.score_samples(rows)
    assert trapezoid(np.exp(scores[1:-1].astype(float)), grid) == pytest.approx(
        1, abs=0.05
    )
    assert scores[0] == 0  # a row of nothing has probability one
    # complete rows are scored as among complete rows
    np.testing.assert_array_equal(scores[-1:], vae.score_samples(X[:1]))
