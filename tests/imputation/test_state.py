"""The state of a fitted model shares nothing with it."""

import numpy as np
import pytest

from skvae import VAEImputer


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X = np.exp(rng.normal(size=(80, 3)))
    X[rng.random(X.shape) < 0.2] = np.nan
    imputer = VAEImputer(hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    return imputer.fit(X)._model


def containers(value):
    """Yield the dicts, lists and arrays of a state."""
    parts = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    if isinstance(value, dict | list | np.ndarray):
        yield value
    for part in parts:
        yield from containers(part)


def test_a_state_shares_nothing_with_its_model(model):
    first, second = model.to_state(), model.to_state()
    columns = model.groups.table
    rebuilt = type(model).from_state(second, columns).to_state()
    shared = {id(part) for part in containers(first)}
    assert not shared & {id(part) for part in containers(second)}
    arrays = [part for part in containers(second) if isinstance(part, np.ndarray)]
    for array in containers(type(model).from_state(second, columns).to_state()):
        if isinstance(array, np.ndarray):
            assert not any(np.shares_memory(array, other) for other in arrays)
    assert rebuilt.keys() == first.keys()


def test_a_changed_state_leaves_its_model(model):
    state = model.to_state()
    columns = model.groups.table
    loaded = type(model).from_state(state, columns)
    for part in (state["scales"]["drawn"], state["scales"]["expected"]):
        part[:] = 7
    state["architecture"].clear()
    state["mean_options"]["hidden_layer_sizes"].append(3)
    for one in (model, loaded):
        assert one.scales.drawn.max() != 7 and one.scales.expected.max() != 7
        assert one.architecture and one.mean_options["hidden_layer_sizes"] == [8]
