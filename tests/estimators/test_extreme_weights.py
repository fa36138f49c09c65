"""Row weights of any size: only their ratios matter."""

import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
LABELS = (X[:, 0] > 0).astype(int)
TABLES = {
    VAETransformer: (X,),
    VAEImputer: (X,),
    VAEClassifier: (X, LABELS),
    VAERegressor: (X, X[:, 0]),
}
WEIGHTS = RNG.uniform(0.5, 2, 40)


@pytest.mark.parametrize("estimator", TABLES)
@pytest.mark.parametrize("exponent", [1020, -1020])
def test_the_size_of_weights_does_not_matter(estimator, exponent):
    tables = TABLES[estimator]
    fits, scores = [], []
    for weights in (WEIGHTS, np.ldexp(WEIGHTS, exponent)):
        model = estimator(**QUICK).fit(*tables, sample_weight=weights)
        fits.append(model.history_["objective"])
        scores.append(model.score(*tables, sample_weight=weights))
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-6)
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


@pytest.mark.parametrize("estimator", TABLES)
@pytest.mark.parametrize("wrong", [np.inf, np.nan, -1.0])
def test_weights_that_are_none_are_named(estimator, wrong):
    tables, weights = TABLES[estimator], WEIGHTS.copy()
    weights[3] = wrong
    model = estimator(**QUICK).fit(*tables)
    for method in (model.fit, model.score):
        with pytest.raises(ValueError, match="sample_weight"):
            method(*tables, sample_weight=weights)
