"""Ctrl-C in every stage: the epochs before, or the state before; twice ends all."""

import signal
import warnings

import numpy as np
import pytest
from fuzz.interrupts import FITS, INTERRUPTED, copied, state_of
from recorders import StopAt
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._conditional.model import ConditionalModel
from skvae._density import model as density
from skvae._estimators.base import BaseVAE
from skvae._imputation.gaussian import Gaussian
from skvae._imputation.model import ImputationModel
from skvae._semi_supervised import model as semi
from skvae._semi_supervised import stacked
from skvae._training import loop
from skvae._training.progress import INTERRUPTS


def fit_of(name, **params):
    """Return a function that fits a new estimator, and returns it."""
    model, arguments, method = FITS[name]

    def fit(*callbacks):
        again = copied(model).set_params(callbacks=list(callbacks), **params)
        return getattr(again, method)(*arguments)

    return fit


@pytest.fixture
def press(monkeypatch):
    """Return a function: press Ctrl-C at the begin or the end of a call."""

    def press_in(owner, name, call=1, *, at_end=False):
        function, calls = getattr(owner, name), []

        def pressed(*args, **kwargs):
            calls.append(name)
            if len(calls) == call and not at_end:
                raise KeyboardInterrupt
            value = function(*args, **kwargs)
            if len(calls) == call and at_end:
                raise KeyboardInterrupt
            return value

        monkeypatch.setattr(owner, name, pressed)

    return press_in


@pytest.fixture
def keyboard():
    """Ctrl-C as Python has it at first, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


class PressAt(Callback):
    """Press Ctrl-C at the begin of a batch."""

    def __init__(self, epoch, key):
        self.epoch, self.key = epoch, key

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.key()


# -- what is kept ---------------------------------------------------------------------


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "name",
    ["transformer", "last weights", "imputer", "m2, few labels", "regressor", "images"],
)
def test_an_epoch_that_is_cut_short_was_never_begun(name, press, at_end):
    """Bit for bit: weights, history, intervals, what is drawn later."""
    fit = fit_of(name)
    n_epochs = FITS[name][0].max_iter
    expected = state_of(fit(StopAt(n_epochs - 1)))
    batches = []
    with pytest.MonkeyPatch.context() as patch:
        step = loop.train_step
        patch.setattr(loop, "train_step", lambda *a: batches.append(a) or step(*a))
        fit()
    press(loop, "train_step", len(batches), at_end=at_end)
    with pytest.warns(UserWarning) as caught:
        model = fit()
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    assert [w.filename for w in caught] == [__file__]
    assert model.n_iter_ == n_epochs - 1
    assert state_of(model) == expected


OUTSIDE = [
    ("transformer", loop, "choose_scales"),
    ("transformer", density, "cut_points_of_values"),
    ("regressor", ConditionalModel, "_calibrate"),
    ("imputer", ImputationModel, "_calibrate"),
    ("normal", Gaussian, "draw_parameters"),
    ("normal", ImputationModel, "_fit_slopes"),
    ("m2, few labels", semi, "class_limits"),
    ("m1+m2", stacked, "class_limits"),
    ("transformer", BaseVAE, "_describe"),
]


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("name", "owner", "function"), OUTSIDE)
def test_ctrl_c_after_the_training_changes_nothing(
    name, owner, function, press, at_end
):
    fit = fit_of(name)
    expected = state_of(fit())
    press(owner, function, at_end=at_end)
    with pytest.warns(UserWarning) as caught:
        model = fit()
    assert [str(w.message) for w in caught] == [INTERRUPTED]
    assert state_of(model) == expected


def test_ctrl_c_between_two_stages_skips_the_second(press):
    fit = fit_of("imputer")
    losses = fit().mean_losses_
    press(ImputationModel, "_fit_vae")
    with pytest.warns(UserWarning, match="interrupted"):
        model = fit()
    assert model.n_iter_ == 0
    np.testing.assert_array_equal(model.mean_losses_, losses)
    assert np.isfinite(model.transform(FITS["imputer"][1][0])).all()


@pytest.mark.parametrize(
    ("name", "owner", "function", "call"),
    [
        ("transformer", density, "factor_analysis", 1),
        ("regressor", ConditionalModel, "_initialise", 1),
        ("m2", loop, "train_step", 2),  # in the first epoch
        ("m2", semi, "fit_labelled_vae", 1),
        ("m1+m2", loop, "train_step", 2),
        ("m1+m2", stacked, "posterior_means", 1),
    ],
)
def test_ctrl_c_before_anything_can_be_used(name, owner, function, call, press):
    model, arguments, _ = FITS[name]
    model = copied(model).fit(*(part[::-1] for part in arguments))
    before = state_of(model)
    press(owner, function, call)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        warnings.simplefilter("error")
        model.fit(*arguments)
    assert state_of(model) == before


def test_ctrl_c_in_the_first_epoch_of_a_warm_start_keeps_the_labels(press):
    model, arguments, _ = FITS["m2, few labels"]
    model = copied(model).set_params(warm_start=True).fit(*arguments)
    before = model.predict_proba(arguments[0])
    press(loop, "train_step", at_end=True)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(*arguments)
    np.testing.assert_array_equal(model.predict_proba(arguments[0]), before)


class Hook:
    """Raise an exception in one hook of scikit-learn."""

    def __init__(self, task, exception):
        self.task, self.exception, self.managed = task, exception, []

    def setup(self, estimator, context):
        self.managed.append("setup")

    def teardown(self, estimator, context):
        self.managed.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if (context.task_name, context.task_id) == self.task:
            raise self.exception


@pytest.mark.parametrize(("task", "n_epochs"), [(("epoch", 1), 2), (("fit", 0), 3)])
def test_ctrl_c_in_a_callback_of_scikit_learn(numbers, task, n_epochs):
    hook = Hook(task, KeyboardInterrupt)
    model = VAETransformer(2, max_iter=3, random_state=0).set_callbacks(hook)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(numbers)
    assert model.n_iter_ == n_epochs
    assert hook.managed == ["setup", "teardown"]


@pytest.mark.parametrize("exception", [MemoryError, SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("task", [("epoch", 1), ("fit", 0)])
def test_other_exceptions_of_callbacks_pass(numbers, task, exception):
    model = VAETransformer(2, max_iter=3, random_state=0).fit(numbers)
    before = state_of(model)
    hook = Hook(task, exception)
    with pytest.raises(exception):
        model.set_callbacks(hook).fit(numbers[::-1])
    assert state_of(model) == before
    assert hook.managed == ["setup", "teardown"]


# -- a key, or a callback -------------------------------------------------------------


def test_the_key_in_a_callback_of_skorch_is_ctrl_c(numbers, keyboard):
    """Not the KeyboardInterrupt by which callbacks stop, which gives no warning."""
    model = VAETransformer(2, batch_size=24, max_iter=5, random_state=0)
    model.set_params(callbacks=[PressAt(3, keyboard)])
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(numbers)
    assert model.n_iter_ == 2


def test_callbacks_of_skorch_are_told_of_the_end(numbers, press):
    ended = []

    class End(Callback):
        def on_train_end(self, net, **kwargs):
            ended.append(len(net.history))

    press(loop, "train_step", 2)
    model = VAETransformer(2, batch_size=56, max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match="interrupted"):
        model.set_params(callbacks=[End()]).fit(numbers)
    model.set_params(callbacks=[End(), StopAt(2)]).fit(numbers)
    assert ended == [1, 2]


# -- twice ----------------------------------------------------------------------------


def test_the_second_ctrl_c_ends_a_search(numbers, keyboard):
    begun = []

    class Press(Callback):
        def on_train_begin(self, net, **kwargs):
            begun.append(net)

        def on_epoch_end(self, net, **kwargs):
            keyboard()

    model = VAETransformer(2, max_iter=3, callbacks=[Press()], random_state=0)
    search = GridSearchCV(model, {"learning_rate_init": [1e-3, 1e-2]}, cv=3)
    with (
        pytest.warns(UserWarning, match="interrupted") as caught,
        pytest.raises(KeyboardInterrupt),
    ):
        search.fit(numbers)
    assert len(begun) == 2 and len(caught) == 1


def test_two_seconds_later_it_is_the_first_again(numbers, keyboard):
    model = VAETransformer(2, batch_size=24, max_iter=3, random_state=0)
    model.set_params(callbacks=[PressAt(2, keyboard)])
    for _ in range(2):
        with pytest.warns(UserWarning, match="interrupted"):
            assert model.fit(numbers).n_iter_ == 1
        INTERRUPTS.last -= 2
    INTERRUPTS.last += 1
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(numbers)
    assert state_of(model) == before


def test_ctrl_c_again_ends_a_fit_that_finishes(press):
    """However much later: what is left takes no time, or is not wanted."""
    fit = fit_of("regressor")
    press(loop, "train_step", 2)
    press(ConditionalModel, "_calibrate")
    with (
        pytest.warns(UserWarning, match="interrupted"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit()


@pytest.mark.parametrize("name", ["transformer", "imputer", "regressor"])
def test_ctrl_c_is_no_warning_where_warnings_are_errors(name, press):
    model, arguments, _ = FITS[name]
    model = copied(model).fit(*(part[::-1] for part in arguments))
    before = state_of(model)
    press(loop, "train_step", 4)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        warnings.simplefilter("error")
        model.fit(*arguments)
    assert state_of(model) == before
