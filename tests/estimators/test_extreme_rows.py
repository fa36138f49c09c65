"""Cells of any finite value are served; infinity is refused by its column."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae.datasets import ampute

QUICK = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}
X = np.random.default_rng(0).normal(size=(30, 3))
LARGEST = np.finfo(np.float64).max
METHODS = (
    "transform",
    "predict",
    "predict_proba",
    "predict_interval",
    "score_samples",
    "sample_posterior",
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transform", ["standard", "quantile", "none"])
@pytest.mark.parametrize(
    "kind", [VAETransformer, VAEImputer, VAEClassifier, VAERegressor]
)
def test_new_cells_at_the_ends_of_a_dtype(kind, transform):
    y = X[:, 0] if kind is VAERegressor else X[:, 0] > 0
    model = kind(numeric_transform=transform, **QUICK).fit(X, y)
    for value in (LARGEST, -LARGEST, 1e39, -3e38, 1e20):
        rows = X[:2].copy()
        rows[0, 1] = value
        for name in METHODS:
            method = getattr(model, name, None)
            if method is None or (kind, name) == (VAERegressor, "score_samples"):
                continue
            assert all(np.isfinite(part).all() for part in method(rows)), (name, value)
        if kind is VAERegressor:
            y = np.array([value, 0.0])
            assert np.isfinite(model.score_samples(rows, y)).all()


@pytest.mark.filterwarnings("error")
def test_new_cells_of_frames():
    frame = pd.DataFrame({"a": X[:, 0].astype("float32"), "b": np.arange(30)})
    model = VAETransformer(**QUICK).fit(frame)
    rows = frame[:2].copy()
    rows.loc[0] = np.finfo(np.float32).max, 2**63 - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Values that no count has")
        assert np.isfinite(model.transform(rows)).all()
        assert np.isfinite(model.score_samples(rows)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity(value):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = VAETransformer(**QUICK).fit(frame)
    frame.loc[3, "b"] = value
    for use in (model.fit, model.transform, model.score_samples):
        with pytest.raises(ValueError, match="X contains infinity in column 'b'"):
            use(frame)


def test_cells_too_large_to_be_used_as_they_are():
    with pytest.raises(ValueError, match=r"Column 'x0' .* too large"):
        VAETransformer(numeric_transform="none", **QUICK).fit(X * [1e16, 1, 1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_ampute(mechanism):
    expected = ampute(X, mechanism=mechanism, random_state=0)
    for scale in (2.0**1021, 2.0**-1000):
        found = ampute(X * scale, mechanism=mechanism, random_state=0)
        np.testing.assert_array_equal(found, expected * scale)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_of_the_largest_numbers_vary(dtype):
    largest = np.finfo(dtype).max
    X = np.tile([[largest], [-largest], [largest / 2]], (10, 1)).astype(dtype)
    model = VAETransformer(**QUICK).fit(X)
    assert len(np.unique(model.transform(X))) == 3
    found = model.sample(100, random_state=0)
    assert np.isfinite(found).all() and len(np.unique(found)) > 1


@pytest.mark.filterwarnings("error")
def test_differences_beyond_the_largest_number():
    largest = np.finfo(np.float64).max
    values = np.array([largest, largest, largest, -largest] * 5)[:, None]
    expected = VAETransformer(**QUICK).fit(values / largest).transform(values / largest)
    found = VAETransformer(**QUICK).fit(values).transform(values)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    rows = np.where(np.arange(20)[:, None] == 3, np.nan, values)
    assert np.isfinite(VAEImputer(**QUICK).fit_transform(rows)).all()
