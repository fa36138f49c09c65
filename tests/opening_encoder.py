"""An encoder that opens its tables itself, for tests of what comes back."""

import copy

from sklearn.base import BaseEstimator

from skvae._distributions.registry import LIKELIHOODS
from skvae._tables import encoder
from skvae._tables.libraries import open_table
from skvae._validation import check_weights


class TableEncoder(BaseEstimator):
    """The encoder behind a door that opens tables for it, as estimators do."""

    def __init__(self, **options):
        self.options = options

    def fit(self, X, sample_weight=None):
        table = open_table(self, X, reset=True)
        unfitted = encoder.TableEncoder(LIKELIHOODS, **self.options)
        weights = None
        if sample_weight is not None:
            weights = check_weights(sample_weight, X)
        self.encoder = unfitted.fit(table, weights)
        return self

    def encode(self, X):
        return self.encoder.encode(open_table(self, X, reset=False))

    def decode(self, values, **options):
        return self.encoder.decode(values, **options)

    def log_jacobian(self, values):
        return self.encoder.log_jacobian(values)

    def to_state(self):
        return self.encoder.to_state()

    def restored(self, state):
        """Return another door with an encoder made from a state."""
        other = copy.copy(self)
        other.encoder = encoder.TableEncoder.from_state(state)
        return other

    @property
    def columns_(self):
        return self.encoder.columns_
