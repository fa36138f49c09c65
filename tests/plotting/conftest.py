"""Models that the displays draw, and figures that are closed after each test."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from mixed_tables import make_mixed_table
from small_models import Labelled, fit

from skvae import VAETransformer


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    """Return a model of small images, and the images as rows."""
    X = np.random.default_rng(0).normal(size=(40, 2)) @ np.arange(12.0).reshape(2, 6)
    return fit(VAETransformer(n_components=3), X), X


@pytest.fixture(scope="module")
def mixed():
    """Return a model of the mixed pandas table, and the table."""
    X = make_mixed_table("pandas")
    return fit(VAETransformer(n_components=2), X), X


@pytest.fixture(scope="module")
def labelled(images):
    return fit(Labelled(n_components=3), images[1])
