"""Means in double precision come from a copy of the networks that is made once."""

import pickle

import numpy as np
import pytest

from skvae import VAERegressor


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    y = np.sin(3 * X[:, 0]) + 0.1 * rng.normal(size=80)
    model = VAERegressor(
        max_iter=20, early_stopping=False, random_state=0, warm_start=True
    )
    return model.fit(X, y), X, y


def test_the_copy_is_made_once_and_not_saved(fitted):
    model, X, _ = fitted
    size = len(pickle.dumps(model))
    before = model.predict(X)
    copy = model._model._double
    assert copy is not None
    np.testing.assert_array_equal(model.predict(X), before)
    assert model._model._double is copy
    assert len(pickle.dumps(model)) == size


def test_the_copy_is_that_of_the_present_weights(fitted):
    model, X, y = fitted
    before = model.predict(X)
    model.fit(X, y)  # resumes
    again = pickle.loads(pickle.dumps(model))  # has no copy yet
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    assert not np.array_equal(model.predict(X), before)


def test_single_precision_is_for_arrays_of_float32(fitted):
    model, X, _ = fitted
    single = model.predict(X.astype(np.float32))
    assert model._model._double is None
    np.testing.assert_allclose(single, model.predict(X), rtol=1e-4, atol=1e-4)
