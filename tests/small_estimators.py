"""Estimators of every model room, fitted in a moment, and what their methods return."""

import pickle
from functools import cache

import numpy as np
from mixed_tables import make_mixed_table
from sklearn.base import clone

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 1, "random_state": 0}

ESTIMATORS = {
    "transformer": VAETransformer(2, **SMALL),
    "gamma": VAETransformer(2, latent="gamma", **SMALL),
    "vamp": VAETransformer(2, prior="vamp", **SMALL),
    "imputer": VAEImputer(2, missingness={"mass": "high"}, **SMALL),
    "linear": VAEImputer(2, **{**SMALL, "hidden_layer_sizes": ()}),
    "m2": VAEClassifier(2, objective="m2", **SMALL),
    "m1+m2": VAEClassifier(2, objective="m1+m2", **SMALL),
    "regressor": VAERegressor(2, prior="mixture", **SMALL),
    "images": VAERegressor(2, image_shape=(2, 2), **SMALL),
}


@cache
def small_data(name):
    """Return the table, and labels or outputs, that an estimator is fitted to."""
    table = make_mixed_table("pandas", 40)
    if name == "linear":
        return table[["mass", "visits"]], None
    if name == "regressor":
        return table[["mass", "island"]], table[["visits", "size", "flag"]]
    if name == "images":
        pixels = np.random.default_rng(0).normal(size=(40, 6))
        return pixels[:, :2], pixels[:, 2:]
    if name in ("m2", "m1+m2"):
        return table, np.where(np.arange(40) % 3, -1, table["visits"] > 2)
    return table, None


def fit(name):
    """Return a fitted estimator, its table and its labels or outputs."""
    X, y = small_data(name)
    return clone(ESTIMATORS[name]).fit(X, y), X, y


def answers(vae, X, y=None):
    """Return what the methods of a fitted estimator return, by name."""
    latents = np.full((3, 2), 0.4)
    if isinstance(vae, VAETransformer):
        return {
            "transform": vae.transform(X),
            "inverse_transform": vae.inverse_transform(latents),
            "sample": vae.sample(4, random_state=0),
            "sample_posterior": vae.sample_posterior(X, 2, random_state=0),
            "score_samples": vae.score_samples(X),
            "score": vae.score(X),
        }
    if isinstance(vae, VAEImputer):
        return {
            "transform": vae.transform(X),
            "sample": vae.sample(X, 2, random_state=0),
            "predict_interval": vae.predict_interval(X),
            "score_samples": vae.score_samples(X),
        }
    if isinstance(vae, VAEClassifier):
        return {
            "predict": vae.predict(X),
            "predict_proba": vae.predict_proba(X),
            "transform": vae.transform(X),
            "decode": vae.decode(latents, [0, 1, 0]),
            "sample": vae.sample(4, random_state=0),
            "score_samples": vae.score_samples(X),
        }
    return {
        "predict": vae.predict(X),
        "sample": vae.sample(X, 2, random_state=0),
        "tempered": vae.sample(X, temperature=0.5, random_state=0, add_noise=False),
        "predict_interval": vae.predict_interval(X),
        "score_samples": vae.score_samples(X, y),
    }


def fit_and_answer(name):
    """Return what the methods return after a fit, and after a pickle and a second."""
    vae, X, y = fit(name)
    found = answers(vae, X, y)
    if name == "linear":  # which does not resume, but begins again
        return found
    vae = pickle.loads(pickle.dumps(vae)).set_params(warm_start=True).fit(X, y)
    found["resumed"] = vae.score_samples(X, *([y] if name in REGRESSORS else []))
    if isinstance(vae, VAETransformer):
        chunk = clone(ESTIMATORS[name]).partial_fit(X[:20]).partial_fit(X[20:])
        found["chunks"] = chunk.transform(X)
    return {**found, "loss_curve": vae.loss_curve_}


REGRESSORS = [n for n, e in ESTIMATORS.items() if isinstance(e, VAERegressor)]


def assert_same_answers(found, expected):
    """Assert that answers are equal bit for bit, whatever tables hold them."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_equal(found[name], value, name)


def assert_equal(found, expected, name):
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other, name)
    elif hasattr(expected, "equals"):
        assert found.equals(expected), name
    else:
        np.testing.assert_array_equal(found, expected, name, strict=True)
