"""VAETransformer on counts that vary more than a Poisson lets them."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skvae import VAEImputer, VAETransformer

N_TRAIN, N_TEST = 1_000, 500


@pytest.fixture(scope="module")
def counts():
    """Two latent factors move the means of six columns, each with gamma noise."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N_TRAIN + N_TEST, 2))
    mean = np.exp(1.5 + z @ rng.normal(0, 0.4, (2, 6)))
    x = rng.poisson(mean * rng.gamma(0.5, 2, mean.shape))
    table = pd.DataFrame(x, columns=list("abcdef"))
    return table[:N_TRAIN], table[N_TRAIN:].reset_index(drop=True)


def fit(counts, likelihood):
    vae = VAETransformer(2, likelihood=likelihood, max_iter=40, random_state=0)
    return vae.fit(counts[0])


@pytest.fixture(scope="module")
def fitted(counts):
    return fit(counts, "auto")


def test_held_out_counts_are_likelier_than_with_a_poisson(counts, fitted):
    assert set(fitted.likelihood_.values()) == {"negative_binomial"}
    by_name = fit(counts, "negative_binomial")
    assert by_name.score(counts[1]) == fitted.score(counts[1])
    poisson = fit(counts, "poisson")
    gain = fitted.score_samples(counts[1]) - poisson.score_samples(counts[1])
    assert gain.mean() > 1 + 2 * gain.std() / len(gain) ** 0.5


def test_draws_vary_as_the_table(counts, fitted):
    drawn = fitted.sample(20_000, random_state=0)
    assert (drawn.dtypes == counts[0].dtypes).all()
    assert drawn.to_numpy().min() >= 0
    together = pd.concat(counts)
    np.testing.assert_allclose(drawn.mean(), together.mean(), rtol=0.15)
    np.testing.assert_allclose(drawn.std(), together.std(), rtol=0.3)
    at_zero = [(table == 0).mean() for table in (drawn, together)]
    np.testing.assert_allclose(*at_zero, atol=0.08)


def test_the_dispersion_is_that_of_the_simulation(fitted):
    (head,) = fitted._model.module.joint.heads
    found = head.dispersion().detach().numpy()
    np.testing.assert_allclose(found, 0.5, atol=0.25)
    # not that of the table as a whole, where the factors vary too: 0.32
    assert found.mean() == pytest.approx(0.5, abs=0.1)


def test_pickles_give_the_same_numbers(counts, fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert again.likelihood_ == fitted.likelihood_
    np.testing.assert_array_equal(
        again.score_samples(counts[1]), fitted.score_samples(counts[1])
    )
    pd.testing.assert_frame_equal(
        again.sample(50, random_state=0), fitted.sample(50, random_state=0)
    )


def test_missing_counts_are_completed(counts):
    table = counts[0][:300].astype("Int64")
    holes = np.random.default_rng(0).random(table.shape) < 0.2
    model = VAEImputer(max_iter=30, random_state=0)
    filled = model.fit(table.mask(holes)).transform(table.mask(holes))
    assert set(model.likelihood_.values()) == {"negative_binomial"}
    assert (filled.dtypes == table.dtypes).all()
    assert not filled.isna().any().any() and (filled >= 0).all().all()
    assert filled.mask(holes).equals(table.mask(holes))
    draws = model.sample(table.mask(holes), 5, random_state=0)
    assert all((draw >= 0).all().all() for draw in draws)
