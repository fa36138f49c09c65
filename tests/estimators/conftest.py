"""Fixtures that the tests of this folder share."""

import numpy as np
import pytest
from imputed_cells import CONTAINERS
from sklearn.datasets import make_blobs


@pytest.fixture
def holes(numbers):
    """Eighty rows of five numbers, a quarter of the cells missing."""
    X = numbers.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.25] = np.nan
    return X


@pytest.fixture(params=CONTAINERS)
def mixed(request, mixed_table):
    return mixed_table(request.param)


@pytest.fixture(scope="module")
def blobs():
    """Three clusters of 40 rows in three columns, two labels of each."""
    X, y = make_blobs([40, 40, 40], 3, cluster_std=1.0, random_state=3)
    few = np.full(120, -1)
    for label in range(3):
        few[np.flatnonzero(y == label)[:2]] = label
    return X, few, y
