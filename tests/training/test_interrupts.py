"""Training that Ctrl-C, a callback or a failure ends."""

import warnings

import numpy as np
import pytest
from joblib import hash as state_hash
from recorders import Recorder, StopAt, interrupt_epoch, lengths
from skorch.callbacks import EarlyStopping

from skvae import VAETransformer
from skvae._training import loop, monitor


def interrupt(monkeypatch, module, name, after):
    """Press Ctrl-C in a call of a function of a module."""
    function, calls = getattr(module, name), []

    def interrupted(*args, **kwargs):
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_ctrl_c_keeps_the_best_weights_and_warns(numbers, monkeypatch, early_stopping):
    vae = VAETransformer(2, batch_size=24, max_iter=20, callbacks=[Recorder()])
    vae.set_params(early_stopping=early_stopping, likelihood="normal", random_state=0)
    interrupt_epoch(monkeypatch, 3)
    with pytest.warns(UserWarning, match="interrupted by user") as record:
        vae.fit(numbers)
    assert len(record) == 1
    assert vae.n_iter_ == 2
    assert lengths(vae) == {2}
    assert np.isfinite(vae.score(numbers))
    if early_stopping:
        recorder = vae.callbacks[0]
        assert len(vae.validation_scores_) == 2
        score = recorder.monitor.mean(recorder.monitor.score_rows(recorder.net))
        assert score == pytest.approx(vae.best_validation_score_, abs=1e-5)


def test_ctrl_c_in_the_first_epoch_keeps_the_start(numbers, monkeypatch):
    interrupt(monkeypatch, loop, "train_step", after=0)
    vae = VAETransformer(2, random_state=0)
    with pytest.warns(UserWarning, match="interrupted by user"):
        vae.fit(numbers)
    assert vae.n_iter_ == 0
    assert lengths(vae) == {0}
    assert np.isnan(vae.loss_)
    assert np.isfinite(vae.best_validation_score_)
    assert np.isfinite(vae.score(numbers))


def test_ctrl_c_while_an_epoch_is_scored(numbers, monkeypatch):
    # not to be taken for the KeyboardInterrupt by which callbacks stop
    interrupt(monkeypatch, monitor, "count_active_units", after=1)
    vae = VAETransformer(2, max_iter=9, random_state=0)
    with pytest.warns(UserWarning, match="interrupted by user"):
        vae.fit(numbers)
    assert vae.n_iter_ == 1
    assert lengths(vae) == {1}
    assert len(vae.validation_scores_) == 1


def test_ctrl_c_in_partial_fit(numbers, monkeypatch):
    vae = VAETransformer(2, random_state=0).partial_fit(numbers)
    interrupt(monkeypatch, loop, "train_step", after=1)
    with pytest.warns(UserWarning, match="interrupted by user"):
        vae.partial_fit(numbers)
    assert vae.n_iter_ == 1
    assert np.isfinite(vae.score(numbers))


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_callback_of_skorch_stops_without_a_warning(numbers, early_stopping):
    vae = VAETransformer(2, max_iter=9, callbacks=[StopAt(3)], random_state=0)
    vae.set_params(early_stopping=early_stopping, learning_rate="constant")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.fit(numbers)
    assert vae.n_iter_ == 3
    assert lengths(vae) == {3}


def test_early_stopping_of_skorch(numbers):
    # it reads the validation loss from the history of the net
    vae = VAETransformer(2, learning_rate="constant", learning_rate_init=1e-12)
    vae.set_params(callbacks=[EarlyStopping(patience=2)], random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vae.fit(numbers).n_iter_ < 6


@pytest.mark.parametrize("method", ["fit", "warm fit", "partial_fit"])
def test_a_loss_that_is_not_finite_is_an_error(numbers, method):
    vae = VAETransformer(2, max_iter=2, random_state=0)
    if method == "partial_fit":
        vae.partial_fit(numbers)
    else:
        vae.fit(numbers)
    vae.set_params(learning_rate_init=1e30, warm_start=method == "warm fit")
    before, latents = state_hash(vae.__getstate__()), vae.transform(numbers)
    with pytest.raises(ValueError, match=r"non-finite in epoch 1. Lower learning_rate"):
        getattr(vae, method.removeprefix("warm "))(numbers)
    assert state_hash(vae.__getstate__()) == before
    np.testing.assert_array_equal(vae.transform(numbers), latents)


def test_a_failed_first_fit_leaves_nothing_behind(numbers):
    vae = VAETransformer(2, learning_rate_init=1e30)
    before = set(vars(vae))
    with pytest.raises(ValueError, match="non-finite"):
        vae.fit(numbers)
    assert set(vars(vae)) == before
