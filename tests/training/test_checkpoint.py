"""Checkpoints: a fit that is cut off anywhere resumes to the same result."""

import os
import pickle

import numpy as np
import pytest
from fuzz.interrupts import FITS, copied, state_of
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping

from skvae import Checkpoint, VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae._container import read_state, write_state
from skvae._training import checkpoint, loop

SMALL = {"max_iter": 3, "batch_size": 40, "hidden_layer_sizes": (4,)}


#: Fits whose stages differ.
RESUMED = [
    *("transformer", "last weights", "warm", "imputer", "normal", "m2", "m1", "shot"),
    *("m1+m2", "warm m1+m2", "regressor", "images"),
]


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.ckpt"


@pytest.fixture
def writes(monkeypatch):
    """Count the writes of checkpoints, and end the process after one of them."""

    class Writes:
        last = None

        def __init__(self):
            self.loops = []  # the one that runs, by write

        def __call__(self, path, kind, state):
            self.loops.append(state["loops"][-1]["name"] if state["loops"] else None)
            # what is written over at once need not be written
            if self.last is None or self.count in (1, self.last):
                write_state(path, kind, state)
            if self.count == self.last:
                raise Killed

        @property
        def count(self):
            return len(self.loops)

        def end_after(self, last):
            self.loops, self.last = [], last

    writes = Writes()
    monkeypatch.setattr(checkpoint, "write_state", writes)
    return writes


@pytest.fixture
def steps(monkeypatch):
    """Return the batches that the main loop takes."""
    taken, step = [], loop.train_step

    def recorded(vae, batch, *arguments):
        taken.append(len(batch))
        return step(vae, batch, *arguments)

    monkeypatch.setattr(loop, "train_step", recorded)
    return taken


def transformer(path, every=0, **params):
    params = {**SMALL, "random_state": 0, **params}
    return VAETransformer(2, callbacks=[Checkpoint(path, every)], **params)


def cut_off(writes, last, fit):
    """Run a fit whose process ends after a write."""
    writes.end_after(last)
    with pytest.raises(Killed):
        fit()
    writes.end_after(None)


def change(path, function):
    """Change what a checkpoint holds."""
    state = read_state(path, "checkpoint")
    function(state)
    write_state(path, "checkpoint", state)


# -- the same result ------------------------------------------------------------------


@pytest.mark.parametrize("name", RESUMED)
def test_a_fit_resumes_to_the_same_result(name, tmp_path, writes):
    """Cut off somewhere in every stage."""
    model, arguments, _ = FITS[name]
    model = copied(model)
    if model.warm_start:
        model.fit(*(part[::-1] for part in arguments))

    def fit(last):
        file = Checkpoint(tmp_path / f"{last}", every=0)
        return copied(model).set_params(callbacks=[file]).fit(*arguments)

    writes.end_after(10**9)  # without a file that matters
    expected, loops = state_of(fit(0)), np.array(writes.loops[1:])
    random = np.random.RandomState(0)
    for stage in set(loops):
        last = 2 + random.choice(np.flatnonzero(loops == stage))
        cut_off(writes, last, lambda: fit(last))  # noqa: B023
        assert state_of(fit(last)) == expected, (stage, last)


def test_it_changes_nothing(numbers, path):
    expected = transformer(path).set_params(callbacks=None).fit(numbers)
    assert state_of(transformer(path).fit(numbers)) == state_of(expected)


def test_a_fit_may_be_cut_off_again_and_again(numbers, path, writes):
    expected = state_of(transformer(None).set_params(callbacks=None).fit(numbers))
    n_cut = 0
    while True:
        writes.end_after(2)
        try:
            model = transformer(path).fit(numbers)
        except Killed:
            n_cut += 1
            continue
        break
    assert n_cut > 1
    assert state_of(model) == expected


def test_what_has_ended_takes_no_step(numbers, path, steps, writes):
    first = transformer(path).fit(numbers)
    assert len(steps) == 3
    assert state_of(transformer(path).fit(numbers)) == state_of(first)
    assert len(steps) == 3
    writes.end_after(3)
    assert state_of(first.fit(numbers)) == state_of(first)
    assert len(steps) == 3 and writes.count == 0


def test_how_often_it_is_written_changes_nothing(numbers, path, writes):
    expected = state_of(transformer(path, every=1e9).fit(numbers))
    assert writes.count == 2  # at the beginning and at the end
    path.unlink()
    assert state_of(transformer(path, every=0).fit(numbers)) == expected
    assert writes.count > 5


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(5)])
def test_a_fit_goes_on_with_its_own_random_numbers(numbers, path, writes, random_state):
    seed = random_state if random_state is None else random_state.get_state()

    def fit():
        if seed is not None:
            random_state.set_state(seed)
        params = {"early_stopping": False, "random_state": random_state}
        return transformer(path, **params).fit(numbers)

    cut_off(writes, 3, fit)
    stored = path.read_bytes()
    latents = fit().transform(numbers)
    path.write_bytes(stored)
    np.testing.assert_array_equal(fit().transform(numbers), latents)
    path.unlink()
    other = fit().transform(numbers)
    assert np.array_equal(other, latents) == (seed is not None)


def test_ctrl_c_leaves_a_fit_that_can_be_resumed(numbers, path, monkeypatch):
    expected = state_of(transformer(None).set_params(callbacks=None).fit(numbers))
    step = loop.train_step
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        kept = transformer(path, every=1e9).fit(numbers)
    assert kept.n_iter_ == 2
    assert state_of(transformer(path).fit(numbers)) == expected
    assert len(calls) == 4


# -- callbacks ------------------------------------------------------------------------


class Epochs(Callback):
    """Note epochs."""

    def __init__(self):
        self.begun, self.losses = 0, []

    def on_epoch_begin(self, net, **kwargs):
        self.begun += 1

    def on_epoch_end(self, net, **kwargs):
        self.losses.append(net.history[-1, "train_loss"])


class Units:
    """Note units of scikit-learn; stop at one of them."""

    def __init__(self, stop_at=None):
        self.ended, self.stop_at = [], stop_at

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.task_name, context.task_id))
        return context.task_id == self.stop_at and context.task_name != "fit"


@pytest.mark.parametrize("last", [2, 4, 6])
def test_callbacks_are_told_of_all_epochs(numbers, path, writes, last):
    epochs, units = Epochs(), Units()

    def fit():
        model = transformer(path).set_callbacks(units)
        model.callbacks.append(epochs)
        return model.fit(numbers)

    cut_off(writes, last, fit)
    epochs.begun, epochs.losses[:], units.ended[:] = 0, [], []
    model = fit()
    assert epochs.begun == 3
    np.testing.assert_array_equal(epochs.losses, model.loss_curve_)
    assert units.ended == [("epoch", 0), ("epoch", 1), ("epoch", 2), ("fit", 0)]


def test_early_stopping_of_skorch_goes_on_counting(numbers, path, writes):
    def fit(callbacks):
        model = transformer(path, max_iter=20, learning_rate="constant")
        model.set_params(learning_rate_init=1e-12, early_stopping=False)
        stop = EarlyStopping("train_loss", patience=4, threshold=10.0)
        return model.set_params(callbacks=[*callbacks, stop]).fit(numbers)

    expected = fit([])
    assert 4 < expected.n_iter_ < 8
    cut_off(writes, 5, lambda: fit([Checkpoint(path, 0)]))
    assert state_of(fit([Checkpoint(path, 0)])) == state_of(expected)
    assert state_of(fit([Checkpoint(path, 0)])) == state_of(expected)


def test_a_fit_that_a_callback_stopped_has_ended(numbers, path, steps):
    X = np.where(np.arange(5) == np.arange(80)[:, None] % 9, np.nan, numbers)
    model = VAEImputer(**SMALL, callbacks=[Checkpoint(path)], random_state=0)
    first = model.set_callbacks(Units(stop_at=1)).fit(X)
    assert first.n_iter_ == 0 and steps == []
    again = clone(model).set_callbacks().fit(X)
    assert state_of(again) == state_of(first)
    assert steps == []


def test_a_line_tells_that_a_fit_resumes(numbers, path, writes, capsys):
    cut_off(writes, 4, lambda: transformer(path).fit(numbers))
    transformer(path, verbose=True).fit(numbers)
    out = capsys.readouterr().out
    assert out.startswith("Resumed from a checkpoint: epoch\nIteration 3,")


# -- other fits -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_iter": 4}, "max_iter is 4 and was 3"),
        ({"random_state": 1}, "random_state is 1 and was 0"),
        ({"random_state": None}, "random_state is None and was 0"),
        ({"hidden_layer_sizes": [5]}, r"hidden_layer_sizes is \[5\] and was \[4\]"),
        ({"likelihood": {0: "student_t"}}, "likelihood is {0: 'student_t'} and was"),
    ],
)
def test_other_parameters_are_another_fit(numbers, path, change, message):
    transformer(path).fit(numbers)
    stored = path.read_bytes()
    with pytest.raises(ValueError, match=f"checkpoint of another fit: {message}"):
        transformer(path, **change).fit(numbers)
    assert path.read_bytes() == stored
    transformer(path, verbose=True, device="cpu").fit(numbers)  # no other fit


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (lambda X, y, w: (X[::-1], y, w), "X"),
        (lambda X, y, w: (2 * X, y, w), "X"),
        (lambda X, y, w: (np.where(X[0, 0] == X, np.nan, X), y, w), "X"),
        (lambda X, y, w: (X, 1 - y, w), "y"),
        (lambda X, y, w: (X, y, w[::-1]), "sample_weight"),
    ],
)
@pytest.mark.parametrize("estimator", [VAEClassifier, VAERegressor])
def test_other_tables_are_another_fit(numbers, path, changed, name, estimator):
    model = estimator(**SMALL, callbacks=[Checkpoint(path)], random_state=0)
    y = (numbers[:, 0] > 0) * 1.0 + 0.1 * (estimator is VAERegressor)
    arguments = numbers, y, 1.0 + np.arange(80)
    model.fit(*arguments)
    with pytest.raises(ValueError, match=f"another fit: .*{name} is another one"):
        model.fit(*changed(*arguments))


def test_other_starting_weights_are_another_fit(numbers, path):
    model = transformer(path, warm_start=True).fit(numbers)
    with pytest.raises(ValueError, match="the fitted model is another one"):
        model.fit(numbers)


def test_another_version_is_another_fit(numbers, path):
    transformer(path).fit(numbers)
    change(path, lambda state: state["identity"].update(numpy="0.1"))
    with pytest.raises(ValueError, match=r"numpy is \d.* and was 0\.1"):
        transformer(path).fit(numbers)


def test_a_search_is_refused(numbers, path):
    grid = {"learning_rate_init": [1e-3, 1e-2]}
    search = GridSearchCV(transformer(path), grid, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="X is another one"):
        search.fit(numbers)


def test_two_fits_at_a_time_are_refused(numbers, path):
    """The one that comes later takes the file; the other one sees it."""

    class Second(Callback):
        def on_epoch_end(self, net, **kwargs):
            path.unlink()
            transformer(path, random_state=1).fit(numbers)

    model = transformer(path)
    model.callbacks.append(Second())
    with pytest.raises(ValueError, match=r"Another fit writes to .*, too: give"):
        model.fit(numbers)
    assert not hasattr(model, "_model")


def test_a_file_that_only_looks_new_is_no_other_fit(numbers, path):
    """As where a network gives files other numbers and times."""

    class Touch(Callback):
        def on_epoch_end(self, net, **kwargs):
            os.utime(path, (0, 0))

    model = transformer(path)
    model.callbacks.append(Touch())
    assert model.fit(numbers).n_iter_ == 3


def test_a_file_that_is_deleted_is_written_again(numbers, path):
    class Delete(Callback):
        def on_epoch_end(self, net, **kwargs):
            path.unlink(missing_ok=True)

    model = transformer(path)
    model.callbacks.append(Delete())
    assert state_of(model.fit(numbers)) == state_of(transformer(path).fit(numbers))


# -- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", "half", "model", "loops"])
def test_other_files_are_refused_and_kept(numbers, path, content):
    if content == "half":
        transformer(path).fit(numbers)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif content == "model":
        write_state(path, "estimator", {})
    elif content == "loops":
        transformer(path).fit(numbers)
        change(path, lambda state: state.update(loops=3))
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"fit\.ckpt.* Give Checkpoint another path"):
        transformer(path).fit(numbers)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["flat", "best_rows"])
def test_weights_of_another_shape_are_refused(numbers, path, name):
    transformer(path).fit(numbers)

    def shorten(state):
        place = state["loops"][0]["state"]
        place = place if name in place else place["monitor"]
        place[name] = place[name][:1]

    change(path, shorten)
    with pytest.raises(ValueError, match=r"fit\.ckpt: corrupt \(it does not fit"):
        transformer(path).fit(numbers)


def test_another_beginning_is_told(numbers, path):
    """As on another machine, whose first weights differ by rounding."""
    model = transformer(path).fit(numbers)
    change(path, lambda state: state["loops"][0].update(start="another"))
    with pytest.warns(UserWarning, match="began with other numbers") as caught:
        again = transformer(path).fit(numbers)
    assert len(caught) == 1
    assert state_of(again) == state_of(model)


def test_a_disk_that_is_full_leaves_the_file_before(numbers, path, writes):
    resource = pytest.importorskip("resource")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Callback):  # from the second epoch on
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))

    expected = state_of(transformer(None).set_params(callbacks=None).fit(numbers))
    model = transformer(path)
    model.callbacks.append(Full())
    try:
        with pytest.warns(UserWarning, match="fit.ckpt cannot be written") as caught:
            model.fit(numbers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [str(warning.filename) for warning in caught] == [__file__]
    assert state_of(model) == expected
    assert os.listdir(path.parent) == [path.name]
    assert read_state(path, "checkpoint")["loops"][0]["n_done"] == 1
    assert state_of(transformer(path).fit(numbers)) == expected


def test_a_file_that_cannot_be_written_at_first_is_an_error(numbers, tmp_path, steps):
    with pytest.raises(FileNotFoundError):
        transformer(tmp_path / "none" / "fit.ckpt").fit(numbers)
    with pytest.raises(OSError):
        transformer(tmp_path).fit(numbers)
    assert steps == []


# -- arguments ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "path of Checkpoint must be a path, but got 3"),
        ((None,), TypeError, "path of Checkpoint"),
        (("a", "often"), TypeError, "every of Checkpoint must be a number, but got 'o"),
        (("a", True), TypeError, "every of Checkpoint"),
        (("a", -1), ValueError, "every of Checkpoint must not be negative, but got -1"),
        (("a", np.nan), ValueError, "every of Checkpoint"),
    ],
)
def test_wrong_arguments(numbers, arguments, error, message):
    model = VAETransformer(callbacks=[Checkpoint(*arguments)])
    with pytest.raises(error, match=message):
        model.fit(numbers)


def test_fits_that_take_no_checkpoint(numbers, path):
    with pytest.raises(ValueError, match=r"Checkpoint, which partial_fit does not"):
        transformer(path).partial_fit(numbers)
    model = transformer(path)
    model.callbacks.append(Checkpoint(path))
    with pytest.raises(ValueError, match="more than one Checkpoint"):
        model.fit(numbers)
    assert not path.exists()


def test_it_is_a_parameter_like_others(numbers, path):
    model = clone(transformer(path, every=5))
    (copy,) = pickle.loads(pickle.dumps(model.fit(numbers))).callbacks
    assert (copy.path, copy.every) == (path, 5)
    assert repr(copy) == f"Checkpoint({str(path)!r}, every=5)"
