"""Models trained with parameters that their estimators do not have."""

from skvae._training.plan import DEFAULTS
from skvae._training.progress import Progress
from skvae._training.random import Random


def train_model(estimator, X, y=None, **params):
    """Return the trained model of an unfitted estimator, and its encoded rows.

    ``params`` stand above the estimator's own, and those above ``DEFAULTS``.
    """
    data = estimator._read(X, y, None, False)
    params = {**DEFAULTS, **estimator.get_params(deep=False), **params}
    random = Random(params["random_state"], "cpu")
    model = estimator._build(data, params, random)
    model.fit(data, params, random, Progress())
    return model, data
