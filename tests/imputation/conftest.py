"""Fixtures that the tests of this folder share."""

import pytest
from mean_models import generator, make_mean, make_rows, recipe

from skvae._imputation.fit_mean import train_conditional_mean


@pytest.fixture
def trained():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    losses, folds = train_conditional_mean(model, rows, recipe(), 3e-3, generator())
    return model, rows, losses, folds
