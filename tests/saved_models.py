"""Fitted estimators of every kind, and their states made wrong."""

import copy
from functools import cache

import numpy as np
from small_estimators import fit

from skvae._container import read_state, write_state
from skvae._estimators.files import KIND
from skvae._estimators.persistence import own_digest


@cache
def fitted(name):
    """Return a fitted estimator, its table and its outputs; leave all as they are."""
    return fit(name)


def state_of(model):
    """Return a saved state that can be changed."""
    return copy.deepcopy(model.__getstate__())


def sealed(model, state):
    """Return a state with the digest that belongs to it."""
    return {**state, "_digest": own_digest(model, state)}


def load_state(model, state):
    """Return an estimator with a state."""
    loaded = type(model).__new__(type(model))
    loaded.__setstate__(state)
    return loaded


def rewrite(path, change):
    """Change the state in a file; its digests are right."""
    content = read_state(path, KIND)
    change(content)
    write_state(path, KIND, content)


def sizes(state, path=()):
    """Yield the paths of integers, flags and nothing in a nested state."""
    if isinstance(state, dict):
        parts = state.items()
    elif isinstance(state, list):
        parts = enumerate(state)
    else:
        parts = ()
        if type(state) in (int, bool):
            yield path
    for key, part in parts:
        yield from sizes(part, (*path, key))


def replaced(state, path, value):
    """Return a deep copy of a state with another value at a path."""
    state = copy.deepcopy(state)
    part = state
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return state


def arrays_in(value):
    """Yield the arrays of a nested state."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(part)
