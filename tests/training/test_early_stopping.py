"""Training as a user meets it: when it stops, and which weights it keeps."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from recorders import Recorder, StopAt
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from skvae import VAEClassifier, VAETransformer
from skvae._networks.vae import VAE
from skvae._training import loop


@pytest.fixture
def poor_start(monkeypatch):
    """Leave training something to gain: no linear model at the start."""
    monkeypatch.setattr(VAE, "initialise_factor_analysis", lambda self, *args: None)


@pytest.fixture
def overfitted(numbers, poor_start):
    """A fit that gets worse on its validation rows in the end, and a record of it."""
    vae = VAETransformer(
        2,
        likelihood="normal",
        max_iter=25,
        learning_rate="constant",
        learning_rate_init=0.03,
        n_iter_no_change=np.inf,
        validation_fraction=0.3,
        callbacks=[Recorder()],
        random_state=0,
    )
    vae.fit(numbers)
    return vae, vae.callbacks[0]


def test_the_best_weights_are_restored(overfitted):
    vae, recorder = overfitted
    best = int(np.argmax(vae.validation_scores_))
    assert 0 < best < vae.n_iter_ - 1  # else this test shows nothing
    restored = torch.cat(
        [p.detach().reshape(-1) for p in vae._model.module.parameters()]
    )
    assert torch.equal(restored, recorder.weights[best])
    assert not torch.equal(restored, recorder.weights[-1])
    # the restored model scores on the validation rows what is reported
    score = recorder.monitor.mean(recorder.monitor.score_rows(recorder.net))
    assert score == pytest.approx(vae.best_validation_score_, abs=1e-5)
    assert vae.best_validation_score_ == vae.validation_scores_.max()


def test_validation_rows_are_not_trained_on(overfitted, numbers):
    _, recorder = overfitted
    valid = recorder.monitor.valid.x.numpy()
    train = torch.cat([batch.x for batch in recorder.batches]).numpy()
    assert (len(train), len(valid)) == (56, 24)
    standardised = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)

    def rows(part):
        distances = np.abs(standardised - part[:, None]).sum(axis=2)
        return set(distances.argmin(axis=1))

    assert rows(train) | rows(valid) == set(range(80))
    assert rows(valid) not in (set(range(24)), set(range(56, 80)))  # drawn, not cut


def test_the_start_is_kept_where_no_epoch_improves_on_it(numbers):
    vae = VAETransformer(2, max_iter=2, likelihood="normal", callbacks=[Recorder()])
    vae.set_params(learning_rate="constant", learning_rate_init=3.0, random_state=0)
    vae.set_params(n_iter_no_change=np.inf).fit(numbers)
    recorder = vae.callbacks[0]
    assert vae.best_validation_score_ > vae.validation_scores_.max()
    score = recorder.monitor.mean(recorder.monitor.score_rows(recorder.net))
    assert score == pytest.approx(vae.best_validation_score_, abs=1e-5)


@pytest.mark.parametrize("objective", ["m2", "m1"])
def test_labels_choose_the_weights_of_the_classifier_alone(objective):
    # with "m1" they choose all: the classifier reads the latents of the encoder
    X, y = make_blobs(300, centers=3, cluster_std=4.0, n_features=3, random_state=0)
    vae = VAEClassifier(
        1,
        objective=objective,
        hidden_layer_sizes=(16,),
        max_iter=8,
        learning_rate="constant",
        learning_rate_init=0.05,
        n_iter_no_change=np.inf,
        validation_fraction=0.5,
        callbacks=[Recorder()],
        random_state=1,
    ).fit(X, y)
    recorder = vae.callbacks[0]
    best = int(np.argmax(vae.validation_scores_))
    assert best < vae.n_iter_ - 1  # else this test shows nothing
    places = {True: recorder.weights[best], False: recorder.weights[-1]}
    start = 0
    for name, p in vae._model.module.named_parameters():
        chosen = objective == "m1" or name.startswith("classifier.")
        expected = places[chosen][start : start + p.numel()]
        assert torch.equal(p.detach().reshape(-1), expected), name
        start += p.numel()


@pytest.fixture
def trained(numbers):
    """Return the net and the monitor of a training, best after its first epoch."""
    vae = VAETransformer(2, max_iter=2, likelihood="normal", callbacks=[Recorder()])
    vae.set_params(random_state=0).fit(numbers)
    recorder = vae.callbacks[0]
    recorder.monitor.best_weights = recorder.weights[0].clone()
    return recorder.net, recorder.monitor


@pytest.mark.parametrize(("gain", "kept"), [(0.05, "start"), (0.5, "best")])
def test_the_start_stays_unless_it_is_clearly_beaten(trained, gain, kept):
    """Clearly: by more than two standard errors of the mean gain over rows."""
    net, monitor = trained
    weights = {"start": monitor.initial_weights, "best": monitor.best_weights}
    assert not torch.equal(weights["start"], weights["best"])
    n_rows = len(monitor.valid)
    noise = torch.linspace(-1, 1, n_rows)
    noise *= 0.1 * math.sqrt(n_rows) / noise.std()  # two standard errors are 0.2
    monitor.best_rows = monitor.initial_rows + noise + gain
    net.record.best_score = best_score = monitor.mean(monitor.best_rows)
    for prefer_initial in (True, False):  # False: a start that is no linear model
        monitor.plan = replace(monitor.plan, prefer_initial=prefer_initial)
        monitor.restore(net)
        expected = weights[kept if prefer_initial else "best"]
        found = net.flat_.detach()
        assert torch.equal(found, expected)
        if prefer_initial:
            of_start = monitor.mean(monitor.initial_rows)
            expected = {"start": of_start, "best": best_score}[kept]
            assert net.record.best_score == expected


def test_scale_choice_does_not_worsen_the_restored_model(numbers):
    vae = VAETransformer(2, max_iter=20, callbacks=[Recorder()], random_state=0)
    vae.fit(numbers)
    recorder = vae.callbacks[0]
    score = recorder.monitor.mean(recorder.monitor.score_rows(recorder.net))
    assert score > vae.best_validation_score_ - 0.05


def test_rows_that_the_start_cannot_explain_do_not_speak_for_it(trained):
    """One of them would make the standard error as large as the gain."""
    net, monitor = trained
    n_rows = len(monitor.valid)
    usual = torch.linspace(0.5, 1.5, n_rows)
    for gains, kept in ((usual, "best"), (usual - 1, "initial")):
        gains[-1] = 1e7
        monitor.best_rows = monitor.initial_rows + gains
        monitor.restore(net)
        found = net.flat_.detach()
        assert torch.equal(found, getattr(monitor, f"{kept}_weights"))


def test_without_early_stopping_the_last_weights_stay(numbers):
    vae = VAETransformer(2, max_iter=4, early_stopping=False, callbacks=[Recorder()])
    vae.fit(numbers)
    kept = torch.cat([p.detach().reshape(-1) for p in vae._model.module.parameters()])
    assert torch.equal(kept, vae.callbacks[0].weights[-1])
    assert vae.validation_scores_ is None
    assert vae.best_validation_score_ is None


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_training_stops_without_improvement(numbers, n_iter_no_change):
    # at this learning rate nothing moves
    vae = VAETransformer(2, learning_rate="constant", learning_rate_init=1e-12)
    vae.set_params(n_iter_no_change=n_iter_no_change, max_iter=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.fit(numbers)
    assert vae.n_iter_ == n_iter_no_change


@pytest.mark.parametrize("early_stopping", [True, False])
def test_improvements_below_tol_do_not_count(numbers, poor_start, early_stopping):
    vae = VAETransformer(2, learning_rate="constant", early_stopping=early_stopping)
    vae.set_params(n_iter_no_change=2, max_iter=12, random_state=0)
    vae.set_params(learning_rate_init=1e-3)
    patient = vae.set_params(tol=0.0).fit(numbers).n_iter_
    demanding = vae.set_params(tol=1e6).fit(numbers).n_iter_
    assert demanding < patient
    # the first objective has nothing to be compared with; the start has a score
    assert demanding == (2 if early_stopping else 3)


def test_no_rule_no_stop(numbers):
    vae = VAETransformer(2, learning_rate="constant", n_iter_no_change=np.inf, tol=1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vae.set_params(max_iter=15, random_state=0).fit(numbers).n_iter_ == 15


@pytest.mark.parametrize("learning_rate", ["constant", "adaptive"])
def test_a_budget_that_ends_an_active_rule_warns(numbers, learning_rate):
    vae = VAETransformer(2, max_iter=3, learning_rate=learning_rate, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\)") as record:
        vae.fit(numbers)
    assert len(record) == 1
    assert record[0].filename != loop.__file__


def test_a_cosine_schedule_ends_with_its_budget(numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VAETransformer(2, max_iter=3, learning_rate="cosine").fit(numbers)


def test_default_budget(numbers):
    recorder = Recorder()
    vae = VAETransformer(2, batch_size=80, early_stopping=False)
    vae.set_params(callbacks=[recorder, StopAt(1)]).fit(numbers)
    # one batch per epoch: the budget is in steps
    plan = recorder.net.plan
    assert plan.max_iter >= 1_000
    assert plan.n_iter_no_change >= 100
