"""Tables and calls that the tests of the estimator share."""

import numpy as np
import pytest
from mixed_tables import make_mixed_table

from skvae import VAETransformer
from skvae._training.progress import INTERRUPTS

# --doctest-modules would import the files of this name a second time, as one module.
collect_ignore_glob = ["*/conftest.py"]


@pytest.fixture(autouse=True)
def no_interrupt_before():
    """Ctrl-C in a test is no second one after that of the test before."""
    INTERRUPTS.last = -np.inf


@pytest.fixture
def numbers():
    """Eighty rows of five correlated numbers, without missing cells."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2)) @ rng.normal(size=(2, 5))
    return X + 0.3 * rng.normal(size=X.shape)


@pytest.fixture
def mixed_table():
    """Return a function: one mixed table with missing cells, in any container.

    Numbers, categories, ordered categories, booleans and counts, in that order.
    """
    return make_mixed_table


@pytest.fixture
def calls():
    """Every method that reads a table or the model, as a function of both."""
    return {
        "transform": lambda vae, X: vae.transform(X),
        "inverse_transform": lambda vae, X: vae.inverse_transform(vae.transform(X)),
        "sample": lambda vae, X: vae.sample(4, random_state=0),
        "sample_posterior": lambda vae, X: vae.sample_posterior(X, 2, random_state=0),
        "score_samples": lambda vae, X: vae.score_samples(X),
        "score": lambda vae, X: vae.score(X),
        "evidence": lambda vae, X: vae.score_samples(X, 7),
        "get_feature_names_out": lambda vae, X: vae.get_feature_names_out(),
    }


@pytest.fixture(scope="session")
def mixed_vae():
    """A model of the mixed pandas table; tests must leave it as it is."""
    vae = VAETransformer(n_components=3, max_iter=5, random_state=0)
    return vae.fit(make_mixed_table("pandas"))
