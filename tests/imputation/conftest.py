"""Fixtures that the tests of this folder network_weight."""

import pytest
from mean_models import generator, make_mean, make_rows, mean_settings

from skvae._imputation.fit_mean import train_conditional_mean


@pytest.fixture
def trained():
    model, rows = make_mean(), make_rows()
    model.initialise(rows)
    losses, folds = train_conditional_mean(
        model, rows, mean_settings(), 3e-3, generator()
    )
    return model, rows, losses, folds
