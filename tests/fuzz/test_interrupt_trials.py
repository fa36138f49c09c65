"""The fast part of the interrupts: every kind of exception, place and estimator."""

import pytest

from fuzz.interrupts import FITS, Moment, copied, disturb, run, state_of

PLACES = 8


@pytest.mark.parametrize("exception", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", ["transformer", "normal", "m2, few labels"])
def test_lines(name, exception):
    """An exception at lines of the package, spread over a fit."""
    model, arguments, _ = FITS[name]
    expected = state_of(copied(model).fit(*arguments))
    moment = Moment(lines=(-1,))
    moment.during(lambda: copied(model).fit(*arguments))
    for k in range(PLACES):
        line = (2 * k + (exception is MemoryError)) * moment.n_lines // (2 * PLACES)
        disturbed = Moment(exception, lines=(line,))
        problems, _ = disturb(name, copied(model), expected, disturbed)
        assert not problems, (disturbed.fired, problems)


@pytest.mark.parametrize("name", ["warm", "imputer", "regressor"])
def test_hooks(name):
    """Ctrl-C in hooks of both libraries, spread over a fit."""
    model, arguments, _ = FITS[name]
    model = copied(model).fit(*arguments)
    moment = Moment(hook_number=-1)
    again = copied(model)
    disturb(name, again, None, moment)
    for k in range(PLACES // 2):
        disturbed = Moment(hook_number=k * moment.n_hooks // (PLACES // 2))
        problems, outcome = disturb(name, copied(model), state_of(again), disturbed)
        assert not problems, (disturbed.hook_number, problems)
        assert outcome != "undisturbed"


def test_a_trial_is_that_of_its_seed():
    first, again = run(19), run(19)
    assert first == again
    assert first.calls == 1 and not first.failures
