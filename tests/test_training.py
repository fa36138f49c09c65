"""The training loop as a user meets it: when it stops, what it keeps and reports."""

import inspect
import pickle
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joblib import hash as state_hash
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from skorch.callbacks import Callback, EarlyStopping

from skvae import VAEClassifier, VAETransformer
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._training import loop, monitor
from skvae._training.monitor import Monitor

HISTORY = ["objective", "reconstruction", "kl", "active_units", "learning_rate"]


class Recorder(Callback):
    """Keep the net, and the weights after every epoch."""

    def on_train_begin(self, net, **kwargs):
        self.net, self.weights = net, []

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        self.weights.append(net.flat_.detach().clone())
        self.batches = dataset_train

    @property
    def monitor(self):
        return dict(self.net.callbacks_)["monitor"]


class StopAt(Callback):
    """A callback for skorch that stops as skorch's own do."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def interrupt(monkeypatch, module, name, after):
    """Press Ctrl-C in a call of a function of a module."""
    function, calls = getattr(module, name), []

    def interrupted(*args, **kwargs):
        calls.append(name)
        if len(calls) > after:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)


def interrupt_epoch(monkeypatch, epoch):
    """Press Ctrl-C in the second batch of an epoch."""
    function, seen = loop.Net.train_step, []

    def interrupted(self, batch, **kwargs):
        if len(self.history) == epoch:
            if seen:
                raise KeyboardInterrupt
            seen.append(batch)
        return function(self, batch, **kwargs)

    monkeypatch.setattr(loop.Net, "train_step", interrupted)


def lengths(vae):
    return {len(values) for values in [*vae.history_.values(), vae.loss_curve_]}


# -- early stopping ------------------------------------------------------------------


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
    restored = torch.cat([p.detach().reshape(-1) for p in vae._module.parameters()])
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
    for name, p in vae._module.named_parameters():
        chosen = objective == "m1" or name.startswith("classifier.")
        expected = places[chosen][start : start + p.numel()]
        assert torch.equal(p.detach().reshape(-1), expected), name
        start += p.numel()


@pytest.mark.parametrize(("gain", "kept"), [(0.05, "start"), (0.5, "best")])
def test_the_start_stays_unless_it_is_clearly_beaten(gain, kept):
    weights = torch.zeros(1)
    net = SimpleNamespace(record=SimpleNamespace(best_score=9.0))
    plan = SimpleNamespace(prefer_start=True)
    monitor = Monitor(plan, Batch(torch.zeros(100, 1)), None)
    monitor.judged = weights
    monitor.start_weights, monitor.best_weights = torch.tensor([1.0]), torch.ones(1) + 1
    # gains of standard deviation 1: two standard errors of their mean are 0.2
    noise = torch.linspace(-1.72, 1.72, 100)
    monitor.start_rows = torch.linspace(-5, 3, 100)
    monitor.best_rows = monitor.start_rows + noise + gain
    monitor.restore(net)
    assert weights.item() == {"start": 1.0, "best": 2.0}[kept]
    assert (net.record.best_score == 9.0) is (kept == "best")
    plan.prefer_start = False  # a start that is no linear model
    monitor.restore(net)
    assert weights.item() == 2.0


def test_scale_choice_does_not_worsen_the_restored_model(numbers):
    vae = VAETransformer(2, max_iter=20, callbacks=[Recorder()], random_state=0)
    vae.fit(numbers)
    recorder = vae.callbacks[0]
    score = recorder.monitor.mean(recorder.monitor.score_rows(recorder.net))
    assert score > vae.best_validation_score_ - 0.05


def test_rows_that_the_start_cannot_explain_do_not_speak_for_it(numbers):
    """One of them would make the standard error as large as the gain."""
    vae = VAETransformer(2, max_iter=2, likelihood="normal", callbacks=[Recorder()])
    vae.set_params(random_state=0).fit(numbers)
    recorder = vae.callbacks[0]
    net, monitor = recorder.net, recorder.monitor
    n_rows = len(monitor.valid)
    usual = torch.linspace(0.5, 1.5, n_rows)
    for gains, kept in ((usual, "best"), (usual - 1, "start")):
        gains[-1] = 1e7
        monitor.start_rows, monitor.best_rows = torch.zeros(n_rows), gains
        monitor.best_weights = torch.full_like(monitor.best_weights, 1.0)
        monitor.start_weights = torch.full_like(monitor.best_weights, 2.0)
        monitor.judged = torch.zeros_like(monitor.best_weights)
        monitor.restore(net)
        assert (monitor.judged == {"best": 1.0, "start": 2.0}[kept]).all()


def test_without_early_stopping_the_last_weights_stay(numbers):
    vae = VAETransformer(2, max_iter=4, early_stopping=False, callbacks=[Recorder()])
    vae.fit(numbers)
    kept = torch.cat([p.detach().reshape(-1) for p in vae._module.parameters()])
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
    vae = VAETransformer(2, batch_size=80, early_stopping=False, callbacks=[StopAt(1)])
    vae.fit(numbers)
    # one batch per epoch: the budget is in steps
    plan = vae._plan(80, one_pass=False)
    assert plan.max_iter >= 1_000
    assert plan.n_iter_no_change >= 100


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
        found.append(args[-1])
        return function(*args)

    monkeypatch.setattr(loop, "train_step", recorded)
    vae = VAETransformer(2, batch_size=20, early_stopping=False, max_iter=10)
    vae.set_params(kl_weight=0.8, kl_warmup_steps=10**6).fit(numbers)
    assert len(found) == 40
    assert found[0] < 0.1
    np.testing.assert_array_less(0, np.diff(found[:20]))
    np.testing.assert_allclose(found[20:], 0.8)

    found.clear()
    vae.set_params(kl_warmup_steps=4).fit(numbers)
    np.testing.assert_array_less(0, np.diff(found[:5]))
    np.testing.assert_allclose(found[4:], 0.8)


# -- Ctrl-C, failures ----------------------------------------------------------------


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


# -- callbacks of scikit-learn -------------------------------------------------------


class FitCallback:
    """Count hooks, and stop at the end of an epoch."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.begun, self.ended, self.managed = [], [], []

    def setup(self, estimator, context):
        self.managed.append("setup")

    def teardown(self, estimator, context):
        self.managed.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.task_name, context.task_id))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_at

    def check_balance(self, n_epochs):
        epochs = [("epoch", index) for index in range(n_epochs)]
        assert self.begun == [("fit", 0), *epochs]
        assert self.ended == [*epochs, ("fit", 0)]
        assert self.managed == ["setup", "teardown"]


def test_hooks_are_balanced(numbers):
    callback = FitCallback()
    vae = VAETransformer(2, max_iter=4, random_state=0).set_callbacks(callback)
    vae.fit(numbers)
    callback.check_balance(4)
    assert not hasattr(vae, "_callback_fit_ctx")


def test_a_callback_of_scikit_learn_stops(numbers):
    callback = FitCallback(stop_at=3)
    vae = VAETransformer(2, max_iter=9, random_state=0).set_callbacks(callback)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vae.fit(numbers).n_iter_ == 3
    callback.check_balance(3)
    assert lengths(vae) == {3}


def test_hooks_are_balanced_when_training_stops_early(numbers):
    callback = FitCallback()
    vae = VAETransformer(2, learning_rate="constant", learning_rate_init=1e-12)
    vae.set_params(n_iter_no_change=2, random_state=0).set_callbacks(callback)
    assert vae.fit(numbers).n_iter_ == 2
    callback.check_balance(2)


def test_hooks_are_balanced_after_ctrl_c(numbers, monkeypatch):
    callback = FitCallback()
    vae = VAETransformer(2, batch_size=24, random_state=0).set_callbacks(callback)
    interrupt_epoch(monkeypatch, 3)
    with pytest.warns(UserWarning, match="interrupted by user"):
        vae.fit(numbers)
    callback.check_balance(3)  # the third epoch began, too


def test_hooks_are_torn_down_after_a_failure(numbers):
    callback = FitCallback()
    vae = VAETransformer(2, learning_rate_init=1e30).set_callbacks(callback)
    with pytest.raises(ValueError, match="non-finite"):
        vae.fit(numbers)
    assert callback.managed == ["setup", "teardown"]


def test_progress_bar(numbers, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    vae = VAETransformer(2, max_iter=3, random_state=0).set_callbacks(ProgressBar())
    vae.fit(numbers)
    out = capsys.readouterr().out
    assert "VAETransformer" in out
    assert "100%" in out
    # it goes into a pickle, and works again
    pickle.loads(pickle.dumps(vae)).fit(numbers)


def test_progress_bar_of_a_search(numbers, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    search = GridSearchCV(VAETransformer(2, max_iter=2), {"n_components": [2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(numbers)
    out = capsys.readouterr().out
    assert out.count("VAETransformer - fit") == 3  # two splits and the refit
    assert not hasattr(search.best_estimator_, "_skl_callbacks")


# -- what is reported ----------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [True, False])
def test_verbose_output_reads_like_that_of_the_mlp(numbers, capsys, early_stopping):
    settings = {"early_stopping": early_stopping, "n_iter_no_change": 3, "tol": 10.0}
    rule = {"verbose": True, "max_iter": 30, "random_state": 0}
    vae = VAETransformer(2, learning_rate="constant", **settings, **rule)
    vae.fit(numbers)
    ours = capsys.readouterr().out
    MLPClassifier((2,), **settings, **rule).fit(numbers, np.arange(80) % 2)
    reference = capsys.readouterr().out

    def kinds(text):
        lines = [re.sub(r"-?\d+\.?\d*", "0", line) for line in text.splitlines()]
        return list(dict.fromkeys(lines))

    assert kinds(ours)[: 1 + early_stopping] == kinds(reference)[: 1 + early_stopping]
    assert f"Iteration {vae.n_iter_}, loss = {vae.loss_:.8f}" in ours
    if early_stopping:
        assert f"Validation score: {vae.validation_scores_[-1]:f}" in ours
        assert kinds(ours) == kinds(reference)
    assert "tol=10.000000 for 3 consecutive epochs. Stopping." in ours


def test_training_is_silent_unless_verbose(numbers, capsys):
    VAETransformer(2, max_iter=2).fit(numbers).partial_fit(numbers)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("early_stopping", [True, False])
def test_history(numbers, early_stopping):
    vae = VAETransformer(2, max_iter=7, early_stopping=early_stopping, random_state=0)
    vae.fit(numbers)
    assert list(vae.history_) == HISTORY
    assert vae.n_iter_ == 7
    assert lengths(vae) == {7}
    history = vae.history_
    assert all(values.ndim == 1 for values in history.values())
    np.testing.assert_allclose(
        history["objective"], history["reconstruction"] - history["kl"], rtol=1e-4
    )
    assert (history["kl"] > 0).all()
    assert set(history["active_units"]) <= {0, 1, 2}
    np.testing.assert_array_equal(vae.loss_curve_, -history["objective"])
    assert vae.loss_ == vae.loss_curve_[-1]
    assert vae.best_loss_ == vae.loss_curve_.min()
    if early_stopping:
        assert vae.validation_scores_.shape == (7,)


def test_weighted_history(numbers):
    # the last half of the rows hardly counts, in what is reported either
    X = numbers.copy()
    X[40:] += 30
    weights = np.repeat([1.0, 1e-9], 40)
    params = {"max_iter": 1, "early_stopping": False, "learning_rate_init": 1e-12}
    vae = VAETransformer(2, likelihood="normal", random_state=0, **params)
    objective = vae.fit(X, sample_weight=weights).history_["objective"][0]
    assert objective == pytest.approx(vae.fit(X[:40]).history_["objective"][0], abs=1.5)


# -- partial_fit, warm_start ---------------------------------------------------------


def test_partial_fit_improves(numbers):
    vae = VAETransformer(2, batch_size=16, random_state=0)
    scores = []
    for count in range(1, 31):
        vae.partial_fit(numbers)
        assert vae.n_iter_ == count
        scores.append(vae.score(numbers))
    assert np.mean(scores[-5:]) > np.mean(scores[:5]) + 0.05
    assert lengths(vae) == {30}
    assert vae.validation_scores_ is None


def test_partial_fit_takes_chunks(numbers, mixed_table):
    vae = VAETransformer(2, random_state=0)
    for chunk in np.split(numbers, 4):
        vae.partial_fit(chunk)
    vae.partial_fit(numbers[:1])  # a single row, too
    assert vae.n_iter_ == 5
    X = mixed_table()
    vae = VAETransformer(2, random_state=0).partial_fit(X[:30])
    vae.partial_fit(X[30:], sample_weight=np.arange(30))
    assert np.isfinite(vae.score(X))


def test_partial_fit_honours_a_changed_learning_rate(numbers):
    vae = VAETransformer(2, random_state=0, learning_rate_init=0.01)
    vae.partial_fit(numbers)
    before = vae.transform(numbers)
    vae.set_params(learning_rate_init=1e-12).partial_fit(numbers)
    np.testing.assert_allclose(vae.transform(numbers), before, atol=1e-5)
    vae.set_params(learning_rate_init=0.02).partial_fit(numbers)
    assert np.abs(vae.transform(numbers) - before).max() > 1e-3
    np.testing.assert_allclose(vae.history_["learning_rate"], [0.01, 1e-12, 0.02])


def test_partial_fit_goes_on_after_a_pickle(numbers):
    vae = VAETransformer(2, random_state=0).partial_fit(numbers).partial_fit(numbers)
    restored = pickle.loads(pickle.dumps(vae))
    for estimator in (vae, restored):
        estimator.partial_fit(numbers).partial_fit(numbers)
    np.testing.assert_array_equal(restored.transform(numbers), vae.transform(numbers))
    np.testing.assert_array_equal(restored.loss_curve_, vae.loss_curve_)


def test_partial_fit_keeps_the_state_of_the_optimizer(numbers, monkeypatch):
    vae = VAETransformer(2, random_state=0, batch_size=20).partial_fit(numbers)
    vae.partial_fit(numbers)
    with_momentum = vae.transform(numbers)
    cold = VAETransformer(2, random_state=0, batch_size=20).partial_fit(numbers)
    cold._optimizer_state = None
    without = cold.partial_fit(numbers).transform(numbers)
    assert np.abs(without - with_momentum).max() > 1e-4


def test_partial_fit_after_fit(numbers):
    vae = VAETransformer(2, max_iter=3, random_state=0).fit(numbers)
    vae.partial_fit(numbers)
    assert vae.n_iter_ == 4
    assert lengths(vae) == {4}


def test_warm_start_goes_on(numbers):
    vae = VAETransformer(2, max_iter=5, warm_start=True, random_state=0)
    vae.set_params(early_stopping=False, learning_rate="constant")
    vae.set_params(n_iter_no_change=np.inf).fit(numbers)
    first = vae.transform(numbers)
    vae.set_params(learning_rate_init=1e-12).fit(numbers)
    np.testing.assert_allclose(vae.transform(numbers), first, atol=1e-5)
    assert vae.n_iter_ == 10
    assert lengths(vae) == {10}
    vae.set_params(warm_start=False).fit(numbers)
    assert vae.n_iter_ == 5


def test_fit_starts_afresh(numbers, mixed_table):
    vae = VAETransformer(2, max_iter=2, random_state=0)
    first = vae.fit(numbers).transform(numbers)
    vae.fit(mixed_table())
    assert vae.feature_names_in_.tolist() == list(mixed_table().columns)
    np.testing.assert_array_equal(vae.fit(numbers).transform(numbers), first)
    assert not hasattr(vae, "feature_names_in_")


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
    "n_prior_components": (3, {"prior": "mixture"}),
    "kl_weight": (0.3, {}),
    "kl_warmup_steps": (8, {}),
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
    "warm_start": test_warm_start_goes_on,
    "callbacks": test_a_callback_of_skorch_stops_without_a_warning,
    "device": "test_bad_input.py, test_device.py",
    "verbose": test_verbose_output_reads_like_that_of_the_mlp,
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
    default = vae.fit(X).evidence(X, 8)
    again = VAETransformer(**BASE | others).fit(X).evidence(X, 8)
    np.testing.assert_array_equal(again, default)
    changed = vae.set_params(**{name: value}).fit(X).evidence(X, 8)
    assert np.abs(changed - default).max() > 1e-4


def test_adam_keeps_no_denormal_numbers(numbers):
    # what never has a gradient: a unit whose output is always negative
    model = VAETransformer(hidden_layer_sizes=(8,), max_iter=1, random_state=0)
    model.fit(numbers)
    with torch.no_grad():
        model._module.encoder.hidden[0].bias[:4] = -1e6
    model.set_params(warm_start=True, early_stopping=False, batch_size=16)
    seen = []

    class Keep(Callback):
        def on_train_end(self, net, **_):
            seen.append({name: s.clone() for name, s in net.optimizer_.state.items()})

    model.set_params(callbacks=[Keep()], max_iter=2).fit(numbers)
    for name in ("exp_avg", "exp_avg_sq"):
        assert (seen[0][name].abs() >= torch.finfo(torch.float32).tiny).all()
