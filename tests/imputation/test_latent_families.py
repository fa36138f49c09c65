"""The conditional VAE of missing cells with other latent variables and priors."""

import numpy as np
import pytest
import torch
from trained_models import train_model

from skvae import VAEImputer
from skvae._imputation.model import ImputationModel


@pytest.mark.parametrize(
    "options",
    [
        {"latent": "gamma"},
        {"latent": "lognormal"},
        {"latent": "beta", "gradient": "grep"},
        {"latent": "dirichlet"},
        {"latent": "gamma", "prior": (2.0, 1.0)},
        {"prior": "mixture"},
        {"prior": {"vamp": 3}},
        {"objective": "iwae", "n_draws": 2},
    ],
)
def test_families_priors_and_objectives(options, numbers):
    X = numbers.copy()
    X[::3, 1] = np.nan
    X[5] = np.nan
    small = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    model, data = train_model(VAEImputer(2, **small), X, **options)

    def draws(model, n_draws=2):
        return model.draws(data, n_draws, torch.Generator().manual_seed(0))

    for tables in (model.estimates(data), draws(model), model.intervals(data, 0.8)):
        assert np.isfinite(tables).all()
    one, other = draws(model)
    assert (one != other)[np.isnan(X)].all()
    density = model.log_likelihood(data)
    assert np.isfinite(density).all()
    loaded = ImputationModel.from_state(model.to_state(), data.encoder.columns_)
    np.testing.assert_array_equal(draws(loaded), draws(model))
    # and the option matters
    plain, _ = train_model(VAEImputer(2, **small), X)
    assert np.abs(plain.log_likelihood(data) - density).max() > 1e-3
