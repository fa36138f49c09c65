"""What a fit reports, and how Ctrl-C, callbacks and failures end its loops."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.callback._callback_support import callback_management_context

from skvae import VAEClassifier, VAEImputer, VAETransformer, inference
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._imputation import fit_mean
from skvae._imputation.conditional_mean import ConditionalMean, Rows
from skvae._imputation.fit_mean import train_conditional_mean
from skvae._imputation.settings import MeanSettings
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._semi_supervised import selection
from skvae._semi_supervised.labelled_vae import LabelledVAE
from skvae._semi_supervised.selection import Regularisation, choose_regularisation
from skvae._training import loop
from skvae._training.loop import train
from skvae._training.plan import Plan
from skvae._training.progress import MAIN, Progress, Stage, plan_units

INTERRUPTED = "Training interrupted by user; the best weights so far are kept."
SETTINGS = [Regularisation(0.2, 1.0), Regularisation(0.0, 0.0)]


class Recorder:
    """A callback of scikit-learn that notes every hook, and may stop."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.events, self.tables, self.n_units = [], [], None

    def setup(self, estimator, context):
        self.n_units = context.max_subtasks

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.events.append(("begin", context.task_name, context.task_id))
        if context.task_name == "fit":
            self.tables.append(X)

    def on_fit_task_end(self, estimator, context, *, X=None):
        self.events.append(("end", context.task_name, context.task_id))
        if context.task_name == "fit":
            self.tables.append(X)
        return (context.task_name, context.task_id) == self.stop_at

    @property
    def begun(self):
        return [name for what, name, _ in self.events if what == "begin"]

    def check_balance(self):
        """Every hook that began has ended, one unit after the other."""
        assert self.events[0] == ("begin", "fit", 0)
        assert self.events[-1] == ("end", "fit", 0)
        units = self.events[1:-1]
        for k, (begin, end) in enumerate(zip(units[::2], units[1::2], strict=True)):
            assert begin[0] == "begin" and end[0] == "end"
            assert begin[1:] == end[1:]
            assert begin[2] == k


class Estimator(CallbackSupportMixin, BaseEstimator):
    """A fit of two stages of steps, which are noted."""

    def fit(self, X, units, raises=None):
        self.steps = []
        with callback_management_context(self):
            progress = Progress(self, X)
            progress.open(units)
            for name, n_steps in (("first", 7), ("second", 12)):
                with progress.stage(name, n_steps) as steps:
                    for step in steps:
                        self.steps.append((name, step))
                        if raises is not None and (name, step) == raises[0]:
                            raise raises[1]
            progress.close()
        self.progress = progress
        return self


ALL_STEPS = [("first", k) for k in range(7)] + [("second", k) for k in range(12)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def press(after):
    """Return a function that presses Ctrl-C at a call, and its calls."""
    calls = []

    def count(*args, **kwargs):
        calls.append(args)
        if len(calls) == after:
            raise KeyboardInterrupt

    return count, calls


def press_in(monkeypatch, module, name, after):
    """Press Ctrl-C at a call of a function of a module."""
    function = getattr(module, name)
    count, calls = press(after)

    def interrupted(*args, **kwargs):
        count(*args)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)
    return calls


# -- units ---------------------------------------------------------------------------


def test_units_are_shared_out_by_cost():
    main = Stage(MAIN, n_steps=400, floats_per_step=10.0)  # 20 epochs of 200
    units = plan_units(
        main,
        20,
        [
            Stage("dear", n_steps=1_500, floats_per_step=2.0),  # 15 epochs
            Stage("cheap", n_steps=400, floats_per_step=0.01),
            Stage("coarse", n_steps=3, floats_per_step=1_000.0),
        ],
    )
    assert units == {"dear": 15, "cheap": 1, "coarse": 3, MAIN: 20}


@given(st.integers(0, 50), st.integers(1, 80))
def test_a_stage_takes_all_of_its_steps(n_steps, n_units):
    progress = Progress()
    progress.units = {"stage": n_units}
    with progress.stage("stage", n_steps) as steps:
        assert list(steps) == list(range(n_steps))


def test_hooks_are_matched_and_add_up():
    recorder, X = Recorder(), object()
    model = Estimator().set_callbacks(recorder).fit(X, {"first": 3, "second": 4})
    recorder.check_balance()
    assert recorder.begun == ["fit", *["first"] * 3, *["second"] * 4]
    assert recorder.n_units == 7
    assert recorder.tables == [X, X]
    assert model.steps == ALL_STEPS


def test_a_stage_that_was_not_planned_is_silent():
    recorder = Recorder()
    model = Estimator().set_callbacks(recorder).fit(None, {"second": 2})
    recorder.check_balance()
    assert recorder.begun == ["fit", "second", "second"]
    assert model.steps == ALL_STEPS


def test_without_an_estimator_nothing_is_reported():
    progress = Progress()
    progress.open({"stage": 2})
    with progress.stage("stage", 4) as steps:
        assert list(steps) == [0, 1, 2, 3]
    progress.close()
    assert not progress.is_over


def test_a_callback_stops_its_stage_and_the_rest():
    recorder = Recorder(stop_at=("first", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Estimator().set_callbacks(recorder)
        model.fit(None, {"first": 3, "second": 4})
    recorder.check_balance()
    assert recorder.begun == ["fit", "first", "first"]
    assert model.steps == ALL_STEPS[:4]  # two thirds of seven steps
    assert model.progress.stopped and not model.progress.interrupted


@pytest.mark.parametrize("units", [{"first": 3, "second": 4}, {}])
def test_ctrl_c_ends_its_stage_and_the_rest(units):
    recorder = Recorder()
    model = Estimator().set_callbacks(recorder)
    with pytest.warns(UserWarning) as caught:
        model.fit(None, units, raises=(("first", 3), KeyboardInterrupt()))
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    recorder.check_balance()
    assert model.steps == ALL_STEPS[:4]
    assert model.progress.interrupted and not model.progress.stopped


def test_errors_pass():
    with pytest.raises(ValueError, match="mistake"):
        Estimator().fit(None, {}, raises=(("first", 3), ValueError("mistake")))


def test_progress_bar_counts_every_stage(capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    Estimator().set_callbacks(ProgressBar()).fit(None, {"first": 3, "second": 4})
    assert "100%" in capsys.readouterr().out


def test_lines_are_printed_if_the_fit_is_verbose(capsys):
    Progress(verbose=True).say("told")
    Progress().say("not told")
    assert capsys.readouterr().out == "told\n"


# -- the loops -----------------------------------------------------------------------


def make_mean(n_rows=200):
    joint = Joint([make_head("normal", 3, 0)])
    model = ConditionalMean(joint, (8,), 3, "silu", generator())
    level = torch.randn(n_rows, 1, generator=generator(1))
    x = 0.9 * level + 0.4 * torch.randn(n_rows, 3, generator=generator(2))
    observed = torch.rand(x.shape, generator=generator(3)) > 0.2
    x = x * observed
    rows = Rows(x, x.clone(), observed, torch.ones(n_rows))
    model.initialise(rows)
    return model, rows


MEAN_SETTINGS = MeanSettings((8,), 3, 0.9, 0.1, 64, 40, 1.0, 128, cross_fit=False)


def train_mean(progress=None, learning_rate=3e-3, mean_settings=MEAN_SETTINGS):
    model, rows = make_mean()
    found, folds = train_conditional_mean(
        model, rows, mean_settings, learning_rate, generator(), progress=progress
    )
    return model, found, folds


def make_vae():
    joint = Joint([make_head("normal", 3, 0)])
    x = torch.randn(80, 3, generator=generator())
    return VAE(joint, 2, (4,), "tanh", generator()), Batch(x)


PLAN = Plan("elbo", "pathwise", 1, 1.0, 0, 5, 16, 1e-2, "cosine", True, math.inf, 0.0)


def train_vae(progress, plan=PLAN, **options):
    vae, data = make_vae()
    rows = torch.arange(60), torch.arange(60, 80)
    record, _ = train(vae, data, *rows, plan, generator(), progress=progress, **options)
    return vae, record


def search(progress=None, scale=1.0, **options):
    joint = Joint([make_head("normal", 4, 0)])
    vae = LabelledVAE(joint, 2, (8,), "relu", generator(), n_classes=2, kind="m2")
    x = scale * torch.randn(60, 4, generator=generator(1))
    labelled = Batch(x, y=F.one_hot((x[:, 0] > 0).long(), 2).float())
    arguments = vae, labelled, Batch(x), SETTINGS, 0.5, generator()
    return choose_regularisation(*arguments, progress=progress, **options)


def test_ctrl_c_in_the_mean_keeps_the_best_weights(monkeypatch):
    trainers = []

    class Trainer(fit_mean.MeanTrainer):
        def __init__(self, *args):
            super().__init__(*args)
            trainers.append(self)

    monkeypatch.setattr(fit_mean, "MeanTrainer", Trainer)
    press_in(monkeypatch, fit_mean, "minimise", 27)  # after six of ten scores
    progress = Progress()
    with pytest.warns(UserWarning) as caught:
        _, found, folds = train_mean(progress)
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    assert progress.interrupted
    assert len(found) == 6 and folds is not None
    (trainer,) = trainers
    assert trainer.best_loss == min(found)
    kept = torch.cat([p.detach().flatten() for p in trainer.parameters])
    assert torch.equal(kept, trainer.best)
    loss = trainer.model.loss(*trainer.held_out).item()
    assert loss == pytest.approx(min(found), rel=1e-5)
    # up to there it is the training that nobody interrupts
    monkeypatch.undo()
    assert train_mean()[1][:6] == found


def test_ctrl_c_in_the_search_passes(monkeypatch):
    """Nothing has learned of the labels yet."""
    calls = press_in(monkeypatch, selection, "minimise", 5)
    with pytest.raises(KeyboardInterrupt):
        search()
    assert len(calls) == 5


def test_a_search_that_is_cut_short_leaves_the_usual_setting(monkeypatch):
    """Even where the networks so far speak for the other one."""
    wrong = torch.tensor([[1.0], [0.0]]).expand(2, 60)
    monkeypatch.setattr(selection.LabelSearch, "errors", lambda self: wrong)
    assert search(n_steps=2) == SETTINGS[1]
    progress = Progress()
    progress.stopped = True
    assert search(progress) == SETTINGS[0]


def test_the_search_takes_the_steps_that_it_is_given(monkeypatch):
    calls = press_in(monkeypatch, selection, "minimise", None)
    search(n_steps=7)
    assert len(calls) == 7


def test_ctrl_c_in_the_vae_keeps_the_best_weights(monkeypatch):
    found = []
    press_in(monkeypatch, loop, "minimise", 10)  # in the fourth of epochs of 3 batches

    class Weights(loop.Callback):
        def on_epoch_end(self, net, **kwargs):
            found.append(net.flat_.detach().clone())

    progress = Progress(callbacks=[Weights()])
    plan = replace(PLAN, prefer_initial=False)
    with pytest.warns(UserWarning) as caught:
        vae, record = train_vae(progress, plan)
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    assert progress.interrupted
    assert len(record.objective) == len(record.validation) == 3
    kept = torch.cat([p.detach().flatten() for p in vae.parameters()])
    assert torch.equal(kept, found[int(np.argmax(record.validation))])


def test_ctrl_c_while_the_start_is_scored_keeps_it(monkeypatch):
    before = torch.cat([p.detach().flatten() for p in make_vae()[0].parameters()])
    press_in(monkeypatch, loop.Monitor, "score_rows", 1)
    with pytest.warns(UserWarning, match="interrupted by user"):
        vae, record = train_vae(Progress())
    assert record.objective == []
    kept = torch.cat([p.detach().flatten() for p in vae.parameters()])
    assert torch.equal(kept, before)


@pytest.mark.parametrize("n_done", [0, 30, 88])
def test_ctrl_c_in_variational_inference_keeps_the_average_so_far(monkeypatch, n_done):
    """Averaging begins at step 75 of 100; before it the parameters stand as they are.

    The start is N(0, 1).
    """
    found, step = [torch.zeros(2, dtype=torch.float64)], inference.minimise

    def recorded(loss, optimizer, *args, **options):
        step(loss, optimizer, *args, **options)
        found.append(optimizer.flat.detach().clone())

    count, _ = press(n_done + 1)

    def log_joint(z):
        count()
        return -0.5 * (z - 3).square().sum(-1)

    monkeypatch.setattr(inference, "minimise", recorded)
    with pytest.warns(UserWarning) as caught:
        fit = inference.fit_variational(log_joint, max_iter=100, random_state=0)
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    assert len(found) == n_done + 1
    tail = torch.stack(found[76:] or found[-1:]).mean(0)
    assert fit.parameters["loc"][0] == pytest.approx(tail[0].item(), rel=1e-9)
    log_scale = np.log(fit.parameters["scale"][0])
    assert log_scale == pytest.approx(tail[1].item(), rel=1e-9, abs=1e-12)
    assert fit.elbo_curve.shape == (n_done,)
    assert np.isfinite(fit.elbo)


def test_a_fit_that_is_over_takes_no_step(monkeypatch):
    modules = fit_mean, selection, loop
    calls = [press_in(monkeypatch, module, "minimise", None) for module in modules]
    for name in ("interrupted", "stopped"):
        progress = Progress()
        setattr(progress, name, True)
        _, found, folds = train_mean(progress)
        assert found == [] and folds is not None
        assert search(progress) == SETTINGS[0]
        _, record = train_vae(progress)
        assert record.objective == [] and math.isfinite(record.best_score)
    assert calls == [[], [], []]


class TwoStages(CallbackSupportMixin, BaseEstimator):
    """A mean and a VAE, under one progress."""

    def fit(self):
        with callback_management_context(self):
            progress = Progress(self)
            progress.open({fit_mean.STAGE: 4, MAIN: PLAN.max_iter})
            self.losses = train_mean(progress)[1]
            self.record = train_vae(progress)[1]
            progress.close()
        return self


def test_loops_report_their_units():
    recorder = Recorder()
    model = TwoStages().set_callbacks(recorder).fit()
    recorder.check_balance()
    assert recorder.begun == ["fit", *[fit_mean.STAGE] * 4, *[MAIN] * 5]
    assert recorder.n_units == 9
    assert len(model.losses) == 10 and len(model.record.objective) == 5


def test_a_callback_that_stops_the_first_loop_stops_the_second():
    recorder = Recorder(stop_at=(fit_mean.STAGE, 1))
    model = TwoStages().set_callbacks(recorder).fit()
    recorder.check_balance()
    assert recorder.begun == ["fit", fit_mean.STAGE, fit_mean.STAGE]
    assert len(model.losses) == 5 and model.record.objective == []


def test_callbacks_of_skorch_watch_the_main_stage_alone():
    class Counter(loop.Callback):
        n_epochs = 0

        def on_epoch_end(self, net, **kwargs):
            self.n_epochs += 1

    counter = Counter()
    progress = Progress(callbacks=[counter])
    train_vae(progress, stage="another")
    assert counter.n_epochs == 0
    train_vae(progress)
    assert counter.n_epochs == 5


# -- a loss that is no number --------------------------------------------------------


def test_every_loop_refuses_what_is_not_finite():
    remedy = "numeric_transform='quantile'"
    match = rf"in epoch 1. Lower learning_rate_init \(now 1e\+30\), .*{remedy}"
    with pytest.raises(ValueError, match=match):
        train_vae(Progress(), replace(PLAN, learning_rate_init=1e30))
    match = rf"conditional mean became non-finite. Lower learning_rate_init.*{remedy}"
    with pytest.raises(ValueError, match=match):
        train_mean(learning_rate=1e30)
    match = (
        rf"masking_rate and consistency_weight became non-finite. Look for .*{remedy}"
    )
    with pytest.raises(ValueError, match=match):
        search(scale=math.nan)
    with pytest.raises(ValueError, match="parameters of q became non-finite"):
        inference.fit_variational(
            lambda z: -torch.tanh(z).sum(-1), max_iter=30, learning_rate_init=1e308
        )


# -- the estimators ------------------------------------------------------------------


def test_ctrl_c_in_the_first_stage_of_the_imputer(numbers, monkeypatch):
    X = numbers.copy()
    X[::3, 0] = np.nan
    press_in(monkeypatch, fit_mean, "minimise", 25)
    with pytest.warns(UserWarning, match="interrupted by user") as caught:
        model = VAEImputer(max_iter=50, random_state=0).fit(X)
    assert len(caught) == 1
    assert model.n_iter_ == 0 and 0 < len(model.mean_losses_) < 10
    assert np.isfinite(model.transform(X)).all()


@pytest.mark.parametrize("objective", ["m2", "m1+m2"])
def test_ctrl_c_before_labels_count_ends_the_fit(numbers, monkeypatch, objective):
    """An untrained classifier is no "best so far": the fit of before stays."""
    numbers = np.tile(numbers, (3, 1))  # enough labels for a search
    y = (numbers[:, 0] > 0).astype(int)
    model = VAEClassifier(objective=objective, max_iter=3, random_state=0)
    before = model.fit(numbers, y).predict_proba(numbers)
    module = loop if objective == "m1+m2" else selection
    press_in(monkeypatch, module, "minimise", 3)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        warnings.simplefilter("error")
        model.fit(numbers[::-1], y[::-1])
    np.testing.assert_array_equal(model.predict_proba(numbers), before)


def test_epochs_are_the_units_of_a_transformer(numbers):
    recorder = Recorder()
    vae = VAETransformer(2, max_iter=3, random_state=0).set_callbacks(recorder)
    vae.fit(numbers)
    recorder.check_balance()
    assert recorder.begun == ["fit", MAIN, MAIN, MAIN]
    assert recorder.n_units == 3
    assert all(table is numbers for table in recorder.tables)
