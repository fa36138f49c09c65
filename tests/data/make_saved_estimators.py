"""Write the saved estimators of this version, which later versions must read.

Run once for each released version, from the root of the repository:

    python tests/data/make_saved_estimators.py

One pickle for every kind of model, and what it answered on the machine that made it.
Files of released versions are never written again.
"""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import skvae
from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

FOLDER = Path(__file__).parent / f"skvae-{skvae.__version__}"
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 2, "random_state": 0}


def numbers():
    """Return an array with missing cells."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 4))
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def mixed():
    """Return a data frame with columns of every kind, and missing cells."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "mass": rng.normal(size=40),
            "skewed": rng.lognormal(size=40),
            "visits": rng.poisson(3, size=40),
            "smokes": pd.array(rng.random(40) < 0.4, dtype="boolean"),
            "colour": pd.Categorical(rng.choice(["blue", "red", "green"], 40)),
            "size": pd.Categorical.from_codes(
                rng.integers(3, size=40), list("SML"), ordered=True
            ),
        }
    )
    frame.loc[::7, "mass"] = np.nan
    frame.loc[::9, "colour"] = None
    return frame


def labels():
    """Return labels of some rows."""
    return np.where(np.arange(40) % 3 == 0, np.arange(40) % 2, -1)


def estimators():
    """Return fitted estimators by name, each with its table."""
    X, frame = numbers(), mixed()
    pixels = np.random.default_rng(2).random((40, 16))
    return {
        "transformer": (VAETransformer(2, **SMALL).fit(frame), frame),
        "transformer_chunk": (VAETransformer(2, **SMALL).partial_fit(X), X),
        "transformer_vamp": (VAETransformer(2, prior={"vamp": 3}, **SMALL).fit(X), X),
        "transformer_gamma": (VAETransformer(2, latent="gamma", **SMALL).fit(X), X),
        "imputer": (VAEImputer(2, missingness="high", **SMALL).fit(frame), frame),
        "imputer_linear": (VAEImputer(**SMALL | {"hidden_layer_sizes": ()}).fit(X), X),
        "classifier": (VAEClassifier(2, **SMALL).fit(frame, labels()), frame),
        "classifier_stacked": (
            VAEClassifier(2, objective="m1+m2", **SMALL).fit(X, labels()),
            X,
        ),
        "regressor": (VAERegressor(2, **SMALL).fit(frame, X), frame),
        "regressor_image": (
            VAERegressor(2, image_shape=(4, 4), **SMALL).fit(X, pixels),
            X,
        ),
    }


def answers(model, X):
    """Return what a model answers about a table, as plain lists."""
    found = {}
    for name in ("transform", "predict", "predict_proba"):
        if hasattr(model, name):
            values = getattr(model, name)(X)
            if isinstance(values, pd.DataFrame):
                values = values[["mass", "skewed"]].to_numpy()
            found[name] = np.asarray(values, dtype=float).tolist()
    if not isinstance(model, VAERegressor):
        found["score_samples"] = model.score_samples(X).tolist()
    return found


def main():
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    recorded = {}
    for name, (model, X) in estimators().items():
        (FOLDER / f"{name}.pkl").write_bytes(pickle.dumps(model, protocol=5))
        recorded[name] = answers(model, X)
    text = json.dumps(recorded, indent=None)
    (FOLDER / "answers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
