"""Warnings point to the line of the user, not into a package."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

from skvae import VAEImputer, VAETransformer


def place_of(action, category=UserWarning):
    """Return the file that the only warning of an action names."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    caught = [w for w in caught if issubclass(w.category, category)]
    assert len(caught) == 1
    return caught[0].filename


@pytest.fixture
def colours():
    return pd.DataFrame({"colour": pd.Categorical(list("rgb") * 10), "size": range(30)})


def test_of_a_fit_that_has_not_converged(numbers):
    vae = VAETransformer(max_iter=1, learning_rate="constant", random_state=0)
    assert place_of(lambda: vae.fit(numbers), ConvergenceWarning) == __file__


def test_of_unknown_categories_inside_a_pipeline(colours):
    pipeline = make_pipeline(VAETransformer(max_iter=1, random_state=0)).fit(colours)
    new = colours.assign(colour=pd.Categorical(["violet"] * 30))
    assert place_of(lambda: pipeline.transform(new)) == __file__


def test_of_empty_columns():
    X = np.column_stack([np.arange(30.0), np.full(30, np.nan)])
    assert place_of(lambda: VAEImputer(max_iter=1).fit(X)) == __file__


def test_of_a_model_that_another_version_saved(numbers):
    state = VAETransformer(max_iter=1, random_state=0).fit(numbers).__getstate__()
    state["_versions"] = {**state["_versions"], "skvae": "0.0.7"}
    loaded = VAETransformer.__new__(VAETransformer)
    with pytest.warns(UserWarning, match=r"skvae 0\.0\.7.*fit it again"):
        loaded.__setstate__(state)
    assert place_of(lambda: VAETransformer().__setstate__(state)) == __file__


def test_not_of_a_build_of_torch_for_another_device(numbers):
    vae = VAETransformer(max_iter=1, random_state=0).fit(numbers)
    assert "+" not in vae.__getstate__()["_versions"]["torch"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(vae))


def test_in_code_without_a_module(colours):
    """Code that exec runs may have globals without a name."""
    vae = VAETransformer(max_iter=1, random_state=0).fit(colours)
    new = colours.assign(colour=pd.Categorical(["violet"] * 30))
    with pytest.warns(UserWarning, match="violet"):
        exec("transform(new)", {"transform": vae.transform, "new": new})
