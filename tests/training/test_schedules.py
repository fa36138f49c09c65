"""Training: learning rates, warm-up, and every parameter has an effect."""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._training import loop, plan

# -- schedules -----------------------------------------------------------------------


def rates(X, **params):
    vae = VAETransformer(2, batch_size=20, learning_rate_init=0.01, random_state=0)
    vae.set_params(early_stopping=False, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return vae.fit(X).history_["learning_rate"] / 0.01


def test_constant_learning_rate(numbers):
    found = rates(numbers, learning_rate="constant", max_iter=6)
    np.testing.assert_allclose(found, 1)


def test_cosine_learning_rate(numbers):
    found = rates(numbers, learning_rate="cosine", max_iter=30, n_iter_no_change=np.inf)
    np.testing.assert_array_less(np.diff(found[4:]), 0)  # after the warm-up
    assert found.max() == pytest.approx(1, abs=0.1)
    assert found[15] == pytest.approx(0.5, abs=0.1)
    assert found[-1] == pytest.approx(0.01, abs=0.01)


def test_adaptive_learning_rate(numbers):
    found = rates(
        numbers, learning_rate="adaptive", max_iter=40, n_iter_no_change=3, tol=1e6
    )
    # a rule that is never content: the first rate and three lower ones, then the end
    assert len(found) == 1 + 4 * 3  # the first epoch has nothing to compare with
    first, second, third, fourth = found[[3, 6, 9, 12]]
    assert first == pytest.approx(1, abs=0.1)  # close to the end of the warm-up
    assert second / third == pytest.approx(third / fourth)
    assert 2 < second / third < 10


def test_kl_warmup_ends_at_half_of_the_steps(numbers, monkeypatch):
    function, found = loop.train_step, []

    def recorded(*args):
        found.append(args[6])  # the weight of the KL term
        return function(*args)

    monkeypatch.setattr(loop, "train_step", recorded)
    vae = VAETransformer(2, batch_size=20, early_stopping=False, max_iter=10)
    vae.set_params(kl_weight=0.8, latent="gamma").fit(numbers)
    assert len(found) == 40
    assert found[0] < 0.1
    np.testing.assert_array_less(0, np.diff(found[:20]))
    np.testing.assert_allclose(found[20:], 0.8)

    found.clear()
    shorter = replace(plan.SETTINGS, kl_warmup_steps=4)
    monkeypatch.setattr(plan, "SETTINGS", shorter)
    vae.fit(numbers)
    np.testing.assert_array_less(0, np.diff(found[:5]))
    np.testing.assert_allclose(found[4:], 0.8)

    found.clear()
    vae.set_params(latent="normal").fit(numbers)  # starts at a linear model
    np.testing.assert_allclose(found, 0.8)


# -- every parameter has an effect ---------------------------------------------------

BASE = {
    "n_components": 2,
    "max_iter": 4,
    "batch_size": 16,
    "early_stopping": False,
    "random_state": 0,
}

STOPPED = {"max_iter": 12, "learning_rate": "constant"}

#: Parameter: its other value, and what else must be set for it to matter.
EFFECTS = {
    "n_components": (3, {}),
    "hidden_layer_sizes": ((7,), {}),
    "activation": ("tanh", {}),
    "likelihood": ("normal_isotropic", {}),
    "numeric_transform": ("none", {}),
    "categorical_features": ([0], {}),
    "objective": ("iwae", {"n_draws": 3}),
    "gradient": ("stl", {}),
    "n_draws": (4, {}),
    "latent": ("gamma", {}),
    "prior": ((0.0, 2.0), {}),
    "kl_weight": (0.3, {}),
    "max_iter": (6, {}),
    "batch_size": (40, {}),
    "learning_rate_init": (0.02, {}),
    "learning_rate": ("constant", {}),
    "early_stopping": (True, {}),
    "validation_fraction": (0.4, {"early_stopping": True, "max_iter": 12}),
    "n_iter_no_change": (1, STOPPED | {"tol": 1e6}),
    "tol": (1e6, STOPPED | {"n_iter_no_change": 2}),
    "random_state": (1, {}),
}

#: Parameters without an effect on the result, and the tests that hold them.
ELSEWHERE = {
    "warm_start": "test_resuming.py",
    "callbacks": "test_interrupts.py, test_callbacks.py",
    "device": "test_bad_input.py, test_device.py",
    "verbose": "test_callbacks.py",
}


def test_the_list_of_parameters_is_complete():
    parameters = set(inspect.signature(VAETransformer).parameters)
    assert set(EFFECTS) | set(ELSEWHERE) == parameters


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", EFFECTS)
def test_every_parameter_has_an_effect(numbers, name):
    value, others = EFFECTS[name]
    X = numbers.round(0)  # whole numbers may be categories
    vae = VAETransformer(**BASE | others)
    default = vae.fit(X).score_samples(X, 8)
    again = VAETransformer(**BASE | others).fit(X).score_samples(X, 8)
    np.testing.assert_array_equal(again, default)
    changed = vae.set_params(**{name: value}).fit(X).score_samples(X, 8)
    assert np.abs(changed - default).max() > 1e-4


def test_adam_keeps_no_denormal_numbers(numbers):
    # what never has a gradient: a unit whose output is always negative
    model = VAETransformer(hidden_layer_sizes=(8,), max_iter=1, random_state=0)
    model.fit(numbers)
    with torch.no_grad():
        model._model.module.encoder.hidden[0].bias[:4] = -1e6
    model.set_params(warm_start=True, early_stopping=False, batch_size=16)
    seen = []

    class Keep(Callback):
        def on_train_end(self, net, **_):
            seen.append({name: s.clone() for name, s in net.optimizer_.state.items()})

    model.set_params(callbacks=[Keep()], max_iter=2).fit(numbers)
    for name in ("exp_avg", "exp_avg_sq"):
        assert (seen[0][name].abs() >= torch.finfo(torch.float32).tiny).all()
