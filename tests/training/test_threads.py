"""Loops of small steps run with one thread of torch, and nobody else notices."""

import signal
import threading
from contextlib import contextmanager, suppress

import pytest
import torch
from skorch.callbacks import Callback
from small_estimators import assert_same_answers, fit_and_answer

from skvae import VAETransformer
from skvae._training.settings import Settings
from skvae._training.threads import in_new_thread, threads_for


@contextmanager
def threads(number):
    """As a user sets the number of threads; a test must not leave another one."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def three_threads():
    with threads(3):
        yield
        assert torch.get_num_threads() == 3
        assert in_new_thread(torch.get_num_threads) == 3


class Counts(Callback):
    """The number of threads at the end of every epoch, of this thread and of a new."""

    def __init__(self, then=None):
        self.then = then

    def on_epoch_end(self, net, **kwargs):
        found = torch.get_num_threads(), in_new_thread(torch.get_num_threads)
        self.found_ = [*getattr(self, "found_", []), found]
        if self.then is not None:
            self.then()


def small_fit(numbers, callback, **params):
    params = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0} | params
    return VAETransformer(2, callbacks=[callback], **params).fit(numbers)


def test_a_small_loop_runs_with_one_thread(numbers):
    small_fit(numbers, counts := Counts())
    assert counts.found_ == [(1, 3)] * 2


def test_a_large_loop_runs_with_all(numbers):
    params = {"hidden_layer_sizes": (1000, 1000), "batch_size": 80, "max_iter": 1}
    small_fit(numbers, counts := Counts(), **params)
    assert counts.found_ == [(3, 3)]


def fail():
    raise RuntimeError("stop")


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore:Training interrupted")
@pytest.mark.parametrize("error", [fail, interrupt])
def test_errors_and_interrupts_restore_the_number(numbers, error):
    with suppress(RuntimeError, KeyboardInterrupt):
        small_fit(numbers, Counts(error))
    assert torch.get_num_threads() == 3


def test_what_the_user_sets_meanwhile_stays(numbers):
    with threads(3):
        small_fit(numbers, Counts(lambda: torch.set_num_threads(2)))
        assert torch.get_num_threads() == 2


def test_fits_at_a_time_do_not_meet(numbers):
    """Each of them is in its loop while another begins and ends."""
    barrier = threading.Barrier(3, timeout=60)
    found = {}

    def run(key, n_threads, n_meetings):
        torch.get_num_threads()  # the first call of a thread takes the common number
        torch.set_num_threads(n_threads)
        counts = Counts(lambda: [barrier.wait() for _ in range(n_meetings)])
        small_fit(numbers, counts, max_iter=1)
        found[key] = torch.get_num_threads(), [own for own, _ in counts.found_]
        for _ in range(3 - n_meetings):
            barrier.wait()

    runs = [
        threading.Thread(target=run, args=(key, 2 + key, 1 + key)) for key in range(3)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert found == {key: (2 + key, [1]) for key in range(3)}
    torch.set_num_threads(3)  # what each of them set was also that of new threads


def test_contexts_may_be_nested_and_have_their_own_limits():
    with threads_for(1.0):
        with threads_for(1.0):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    settings = Settings(threaded_work=10.0, threaded_work_side_by_side=5.0)
    for work, side_by_side, expected in (
        *((9.0, False, 1), (10.0, False, 3), (4.0, True, 1), (5.0, True, 3)),
    ):
        with threads_for(work, side_by_side=side_by_side, settings=settings):
            assert torch.get_num_threads() == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["transformer", "imputer", "m1+m2", "regressor"])
def test_small_fits_do_not_depend_on_the_number(name):
    with threads(1):
        expected = fit_and_answer(name)
    assert_same_answers(fit_and_answer(name), expected)
