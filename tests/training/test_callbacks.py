"""Training: callbacks of scikit-learn, what is printed and what is recorded."""

import pickle
import re
import warnings

import numpy as np
import pytest
from recorders import interrupt_epoch, lengths
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from skvae import VAEImputer, VAERegressor, VAETransformer

HISTORY = ["objective", "reconstruction", "kl", "active_units", "learning_rate"]


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


class Saving(FitCallback):
    """Save the estimator at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.saved = []

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.saved.append(pickle.dumps(estimator))


def test_hooks_are_balanced(numbers):
    callback = FitCallback()
    vae = VAETransformer(2, max_iter=4, random_state=0).set_callbacks(callback)
    vae.fit(numbers)
    callback.check_balance(4)
    assert not hasattr(vae, "_callback_fit_ctx")


@pytest.mark.parametrize("warm_start", [False, True])
def test_callbacks_see_no_estimator_that_is_half_made(numbers, warm_start):
    """In a first fit an unfitted one, in a later fit that of the fit before."""
    seen = []

    class Looking(FitCallback):
        def on_fit_task_end(self, estimator, context):
            fitted = hasattr(estimator, "_model")
            assert fitted == hasattr(estimator, "n_iter_")
            if context.task_name == "epoch":
                seen.append(estimator.transform(numbers) if fitted else None)

    vae = VAETransformer(2, max_iter=2, random_state=0, warm_start=warm_start)
    vae.set_params(learning_rate_init=0.05, early_stopping=False)
    vae.set_callbacks(Looking()).fit(numbers)
    assert seen == [None, None]
    before = vae.transform(numbers)
    vae.fit(numbers[::-1])
    for latents in seen[2:]:
        np.testing.assert_array_equal(latents, before)
    assert len(seen) == 4
    assert not np.array_equal(vae.transform(numbers), before)


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


@pytest.mark.parametrize("estimator", [VAETransformer, VAEImputer, VAERegressor])
def test_a_refit_shows_the_fit_before_until_it_ends(numbers, estimator):
    """A callback that saves the estimator saves one of one fit."""
    y = (numbers[:, 0], numbers[:, :2]) if estimator is VAERegressor else (None, None)
    model = estimator(max_iter=1, random_state=0).fit(numbers[:, :3], y[0])
    saving = Saving()
    model.set_callbacks(saving).fit(numbers, y[1])
    method = "transform" if hasattr(model, "transform") else "predict"
    assert model.n_features_in_ == 5
    assert len(saving.saved) == 1
    saved = pickle.loads(saving.saved[0])
    assert saved.n_features_in_ == 3
    expected = estimator(max_iter=1, random_state=0).fit(numbers[:, :3], y[0])
    np.testing.assert_array_equal(
        getattr(saved, method)(numbers[:, :3]),
        getattr(expected, method)(numbers[:, :3]),
    )
