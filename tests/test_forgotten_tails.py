"""Values of a column with compressed tails can be forgotten."""

import warnings

import numpy as np
import pytest

import skvae
from skvae import VAEImputer

pytest.importorskip("safetensors")


def test_estimates_stay_near_and_on_their_side(tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.exp(6 * rng.normal(size=300)), rng.normal(size=300)])
    missing = np.arange(300) % 5 == 0
    X[missing, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tails
        model = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), random_state=0).fit(X)
    assert model.numeric_transform_["x0"] == "robust"
    skvae.save(model, tmp_path / "model", forget_values=True)
    loaded = skvae.load(tmp_path / "model")
    before, after = (m.transform(X)[missing, 0] for m in (model, loaded))
    assert (after >= 0).all()
    np.testing.assert_allclose(np.log1p(after), np.log1p(before), atol=0.5)
    lower, upper = loaded.predict_interval(X)
    assert (lower <= upper).all() and np.isfinite(upper).all()
