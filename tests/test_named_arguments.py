"""What is no table, no labels or no weights is refused by the name of the argument."""

import numpy as np
import pandas as pd
import pytest

import skvae
from skvae.datasets import ampute
from skvae.inference import fit_variational, gradient_samples

QUICK = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}
X = np.random.default_rng(0).normal(size=(12, 3))
LABELS = np.arange(12) % 2
NO_ROWS = [len, 3, {1, 2}, "text", b"text", {"a": [1, 2]}, iter([1, 2]), object()]
NO_TABLE = [*NO_ROWS, None, [[1, 2], [3]], [pd.DataFrame(X)]]
ESTIMATORS = [
    skvae.VAETransformer,
    skvae.VAEImputer,
    skvae.VAEClassifier,
    skvae.VAERegressor,
]


@pytest.fixture(scope="module")
def fitted():
    return {kind: kind(**QUICK).fit(X, LABELS) for kind in ESTIMATORS}


@pytest.mark.parametrize("bad", NO_TABLE)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_tables(kind, bad, fitted):
    named = r"\bX\b|dim 3|numbers of samples"
    with pytest.raises((TypeError, ValueError), match=named):
        kind(**QUICK).fit(bad, LABELS)
    for name in ("transform", "predict", "predict_proba", "score_samples"):
        method = getattr(fitted[kind], name, None)
        more = (LABELS,) if (kind, name) == (ESTIMATORS[3], "score_samples") else ()
        if method is not None:
            with pytest.raises((TypeError, ValueError), match=named):
                method(bad, *more)


@pytest.mark.parametrize("bad", [*NO_TABLE[:-1], [[1], [2, 3]]])
@pytest.mark.parametrize("kind", ESTIMATORS[2:])
def test_labels_and_outputs(kind, bad, fitted):
    with pytest.raises((TypeError, ValueError), match=r"\by\b"):
        kind(**QUICK).fit(X, bad)
    with pytest.raises((TypeError, ValueError), match=r"\by\b"):
        fitted[kind].score(X, bad)


@pytest.mark.parametrize("bad", [*NO_TABLE, np.array([["a"]]), np.full((1, 2), 1e300)])
def test_latent_variables(bad, fitted):
    with pytest.raises((TypeError, ValueError), match=r"\bZ\b"):
        fitted[skvae.VAETransformer].inverse_transform(bad)
    with pytest.raises((TypeError, ValueError), match=r"\bZ\b"):
        fitted[skvae.VAEClassifier].decode(bad, 0)


@pytest.mark.parametrize("bad", [len, {1, 2}, "a", None, [[1], [2, 3]], 7, [0] * 5])
def test_classes_to_decode(bad, fitted):
    with pytest.raises(ValueError, match=r"\by\b"):
        fitted[skvae.VAEClassifier].decode(np.zeros((2, 2)), bad)


@pytest.mark.parametrize("bad", [len, {1, 2}, [[1, 2], [3]], "text", [pd.DataFrame(X)]])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_weights(kind, bad, fitted):
    with pytest.raises((TypeError, ValueError), match=r"[Ss]ample.weight"):
        kind(**QUICK).fit(X, LABELS, sample_weight=bad)
    with pytest.raises((TypeError, ValueError), match=r"[Ss]ample.weight"):
        fitted[kind].score(X, LABELS, sample_weight=bad)


@pytest.mark.parametrize("bad", [len, {1, 2}, [[1, 2], [3]], "text", None])
def test_functions(bad):
    with pytest.raises((TypeError, ValueError), match="estimates"):
        skvae.pool(bad, [1.0, 2.0])
    with pytest.raises((TypeError, ValueError), match="variances"):
        skvae.pool([1.0, 2.0], bad)
    with pytest.raises((TypeError, ValueError), match=r"\bX\b"):
        ampute(bad)


@pytest.mark.parametrize("bad", [None, 3, "z"])
def test_log_densities(bad):
    with pytest.raises(TypeError, match="log_joint must be a function"):
        fit_variational(bad)
    with pytest.raises(TypeError, match="log_joint must be a function"):
        gradient_samples(bad, "normal", {"loc": 0, "scale": 1})


@pytest.mark.parametrize("bad", [True, None, "stop", 1, ("name", 3), ("a", "b", "c")])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_callbacks(kind, bad):
    with pytest.raises(TypeError, match="callbacks must hold"):
        kind(callbacks=[bad], **QUICK).fit(X, LABELS)
