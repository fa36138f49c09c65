"""Models that are fitted in a moment."""

import warnings

import numpy as np

from skvae import VAETransformer

SHAPE = (2, 3)


def fit(model, X):
    model.set_params(hidden_layer_sizes=(8,), max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three epochs do not converge
        return model.fit(X)


class Labelled(VAETransformer):
    """A stand-in for a model of labels, which shift every column by their place."""

    @property
    def classes_(self):
        return np.array(["a", "b", "c"])

    def predict(self, X):
        return np.repeat("b", len(X))

    def decode(self, Z, y):
        shift = np.searchsorted(self.classes_, y)
        return super().inverse_transform(Z) + 100 * shift[:, None]
