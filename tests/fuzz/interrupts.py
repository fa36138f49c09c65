"""Interrupts: exceptions at random moments of a fit, and an oracle for what is left.

python tests/fuzz/interrupts.py [--kills] [--seed 0] [--count 100] [--record FILE]

A trial fits a small model and raises KeyboardInterrupt (Ctrl-C), MemoryError or
SystemExit at a random line of Python, at a random hook of a callback, or at a random
time. Two outcomes are right:

- Ctrl-C, and the fit returns with one warning and a model that can be used.
- The exception passes, and the estimator is bit for bit what it was before, or what it
  is after a fit that nobody disturbs, where that had ended already.

With ``--kills`` trials are those of :mod:`fuzz.kills`. With ``--record`` they go on
after those that a file counts, and are added to it.
"""

import argparse
import collections
import importlib
import json
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from joblib import hash as hash_of
from skorch.callbacks import Callback

import skvae
from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae._training.loop import Net, Reporter
from skvae._training.monitor import Monitor
from skvae._training.progress import INTERRUPTS

PACKAGE = str(Path(skvae.__file__).parent)
#: Modules whose lines take part beside those of the package.
AROUND = ("contextlib", "sklearn.callback", "skorch", "threading")
AROUND += ("torch.autograd.grad_mode",)
INTERRUPTED = "Training interrupted by user; the best weights so far are kept."
#: What is raised, with its weight.
EXCEPTIONS = {KeyboardInterrupt: 6, MemoryError: 1, SystemExit: 1}
#: Where it is raised, with its weight.
PLACES = {"line": 6, "hook": 2, "time": 2, "twice": 1}


# -- fits -----------------------------------------------------------------------------


def table(n_rows=70, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 4))
    return X + 0.3 * rng.normal(size=X.shape)


def with_gaps(n_rows=70, seed=0):
    X = table(n_rows, seed)
    return np.where(np.random.default_rng(seed + 1).random(X.shape) < 0.2, np.nan, X)


SMALL = {"max_iter": 3, "batch_size": 24, "hidden_layer_sizes": (4,), "random_state": 0}
LABELS = {**SMALL, "max_iter": 2}


def labelled(n_rows):
    X = table(n_rows)
    return X, np.where(np.arange(n_rows) % 5 == 4, -1, X[:, 0] > 0)


def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 2)), rng.normal(size=(40, 16)).round(2)


#: Estimator, arguments of the fit, and the method that fits, by name.
FITS = {
    "transformer": (VAETransformer(2, **SMALL), (table(),), "fit"),
    "mixture": (VAETransformer(2, prior="mixture", **SMALL), (table(),), "fit"),
    "last weights": (
        VAETransformer(2, early_stopping=False, **SMALL),
        (with_gaps(),),
        "fit",
    ),
    "chunk": (VAETransformer(2, **SMALL), (table(),), "partial_fit"),
    "warm": (VAETransformer(2, warm_start=True, **SMALL), (table(),), "fit"),
    "imputer": (VAEImputer(**SMALL), (with_gaps(),), "fit"),
    "warm imputer": (VAEImputer(warm_start=True, **SMALL), (with_gaps(),), "fit"),
    "normal": (
        VAEImputer(missingness={0: "high"}, **SMALL | {"hidden_layer_sizes": ()}),
        (with_gaps(),),
        "fit",
    ),
    "slopes": (
        VAEImputer(missingness={1: "agnostic"}, strategy="median", **SMALL),
        (with_gaps(),),
        "fit",
    ),
    "m2": (VAEClassifier(2, **LABELS), labelled(90), "fit"),
    "m2, few labels": (VAEClassifier(2, **LABELS), labelled(40), "fit"),
    "m1": (VAEClassifier(2, objective="m1", **LABELS), labelled(60), "fit"),
    "m1+m2": (VAEClassifier(2, objective="m1+m2", **LABELS), labelled(90), "fit"),
    "shot": (VAEClassifier(2, objective="shot", **LABELS), labelled(40), "fit"),
    "warm m1+m2": (
        VAEClassifier(2, objective="m1+m2", warm_start=True, **LABELS),
        labelled(40),
        "fit",
    ),
    "regressor": (VAERegressor(2, **SMALL), (table(), table()[:, :2]), "fit"),
    "images": (VAERegressor(2, image_shape=(4, 4), **SMALL), images(), "fit"),
}

#: Methods that a fitted model is asked for, as functions of it and of its table.
USES = {
    VAETransformer: {
        "transform": lambda m, X: m.transform(X),
        "inverse_transform": lambda m, X: m.inverse_transform(m.transform(X)),
        "sample": lambda m, X: m.sample(5, random_state=0),
        "sample_posterior": lambda m, X: m.sample_posterior(X, 2, random_state=0),
        "score_samples": lambda m, X: m.score_samples(X),
    },
    VAEImputer: {
        "transform": lambda m, X: m.transform(X),
        "sample": lambda m, X: m.sample(X, 2, random_state=0),
        "predict_interval": lambda m, X: m.predict_interval(X),
        "score_samples": lambda m, X: m.score_samples(X),
    },
    VAEClassifier: {
        "predict": lambda m, X: m.predict(X),
        "predict_proba": lambda m, X: m.predict_proba(X),
        "transform": lambda m, X: m.transform(X),
        "sample": lambda m, X: m.sample(5, random_state=0)[0],
        "score_samples": lambda m, X: m.score_samples(X),
    },
    VAERegressor: {
        "predict": lambda m, X: m.predict(X),
        "sample": lambda m, X: m.sample(X, 2, random_state=0),
        "predict_interval": lambda m, X: m.predict_interval(X),
    },
}


# -- callbacks ------------------------------------------------------------------------


class Hooks:
    """Hooks of scikit-learn, which tell a moment that they are called."""

    def __init__(self, moment):
        self.moment = moment
        self.open = 0

    def setup(self, estimator, context):
        self.open += 1
        self.moment.hook()

    def teardown(self, estimator, context):
        self.open -= 1

    def on_fit_task_begin(self, estimator, context):
        self.moment.hook()

    def on_fit_task_end(self, estimator, context):
        self.moment.hook()


class SkorchHooks(Callback):
    """Hooks of skorch, which tell a moment that they are called."""

    def __init__(self, moment):
        self.moment = moment

    def on_train_begin(self, net, **kwargs):
        self.moment.hook(of_skorch=True)

    def on_epoch_begin(self, net, **kwargs):
        self.moment.hook(of_skorch=True)

    def on_batch_end(self, net, **kwargs):
        self.moment.hook(of_skorch=True)

    def on_epoch_end(self, net, **kwargs):
        self.moment.hook(of_skorch=True)

    def on_train_end(self, net, **kwargs):
        self.moment.hook(of_skorch=True)


# -- moments --------------------------------------------------------------------------


@dataclass
class Moment:
    """The moments at which an exception is raised: numbers of lines or of hooks."""

    exception: type = KeyboardInterrupt
    lines: tuple = ()
    hook_number: int | None = None
    seconds: float | None = None
    own_lines: bool = True  # whether lines of the package alone count
    n_lines: int = 0
    n_hooks: int = 0
    fired: list = field(default_factory=list)
    asked_to_stop: bool = False  # by a callback of skorch, as KeyboardInterrupt does

    def hook(self, *, of_skorch=False):
        if self.n_hooks == self.hook_number:
            self.n_hooks += 1
            self.fired.append("a hook")
            is_stop = of_skorch and self.exception is KeyboardInterrupt
            self.asked_to_stop = is_stop
            raise self.exception
        self.n_hooks += 1

    def trace(self, frame, event, argument):
        name = frame.f_globals.get("__name__") or ""
        inside = frame.f_code.co_filename.startswith(PACKAGE)
        if not inside and (self.own_lines or not name.startswith(AROUND)):
            return None
        return self.trace_line

    def trace_line(self, frame, event, argument):
        if event == "line":
            if self.n_lines in self.lines:
                self.n_lines += 1
                # a tracer raises as a callback of skorch does that asks to stop
                is_stop = is_in_callback(frame)
                self.asked_to_stop = is_stop and self.exception is KeyboardInterrupt
                self._fire(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            self.n_lines += 1
        return self.trace_line

    def on_signal(self, number, frame):
        self._fire(f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "")

    def _fire(self, place):
        self.fired.append(place)
        raise self.exception

    def during(self, function):
        """Call a function that this moment disturbs."""
        if self.seconds is not None:
            before = signal.signal(signal.SIGALRM, self.on_signal)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            try:
                return function()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
        if self.lines and self.hook_number is None:
            before = sys.gettrace()
            sys.settrace(self.trace)
            try:
                return function()
            finally:
                sys.settrace(before)
        return function()


def is_in_callback(frame):
    """Return whether a frame is in a callback of skorch, or calls one."""
    while frame is not None:
        if frame.f_code is Net._tell.__code__:
            return not isinstance(frame.f_locals.get("callback"), Monitor | Reporter)
        frame = frame.f_back
    return False


# -- the oracle -----------------------------------------------------------------------


def state_of(model):
    """Return a hash of everything that a model holds, but its callbacks."""
    state = model.__getstate__()
    return hash_of({k: v for k, v in state.items() if "callbacks" not in k})


def ambient_state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_rng_state().numpy().tobytes(),
        threading.active_count(),
    )


def problems_of_use(model, X):
    """Return what is wrong with a fitted model."""
    found = []
    for name, use in USES[type(model)].items():
        try:
            values = use(model, X)
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if not all(np.isfinite(np.asarray(part, float)).all() for part in values):
            found.append(f"{name}: not finite")
    lengths = {len(values) for values in model.history_.values()}
    if lengths != {model.n_iter_}:
        found.append(f"n_iter_ is {model.n_iter_}, the history has {lengths}")
    score = model.best_validation_score_
    if score is not None and not np.isfinite(score):
        found.append("best_validation_score_ is not finite")
    return found


@cache
def reference(name, refit):
    """Return the estimator before a fit, its hash after, its lines, hooks, seconds."""
    model, arguments, method = FITS[name]
    model = new(model)
    if refit:
        getattr(model, method)(*(part[::-1] for part in arguments))
    after = None
    counts = {}
    for own_lines in (True, False):
        moment = Moment(lines=(-1,), own_lines=own_lines)
        again = copied(model)
        listen(again, moment)
        moment.during(lambda m=again: getattr(m, method)(*arguments))
        counts[own_lines] = moment.n_lines
        after = state_of(again)
    again = copied(model)
    start = time.perf_counter()
    getattr(again, method)(*arguments)
    seconds = time.perf_counter() - start
    return model, after, counts, moment.n_hooks, seconds


def new(model):
    return type(model)(**model.get_params())


def copied(model):
    """Return an estimator in the same state."""
    again = new(model)
    if hasattr(model, "_model"):
        again.__setstate__(model.__getstate__())
    return again


def listen(model, moment):
    """Attach the hooks of both libraries."""
    hooks = Hooks(moment)
    model.set_params(callbacks=[SkorchHooks(moment)]).set_callbacks(hooks)
    return hooks


@dataclass
class Report:
    """What one seed did."""

    calls: int = 1
    failures: list = field(default_factory=list)  # of pairs: fit, problem
    outcome: str = ""
    case: str = ""


def run(seed):
    """Run the trial of a seed."""
    rng = random.Random(seed)
    n_threads = rng.choice([1, 2])
    name, refit = rng.choice(list(FITS)), rng.random() < 0.5
    place = rng.choices(list(PLACES), PLACES.values())[0]
    exception = rng.choices(list(EXCEPTIONS), EXCEPTIONS.values())[0]
    if place == "twice":
        exception = KeyboardInterrupt
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after, counts, n_hooks, seconds = reference(name, refit)
    moment = Moment(exception, own_lines=rng.random() < 0.6)
    n_lines = counts[moment.own_lines]
    if place == "line":
        moment.lines = (rng.randrange(n_lines),)
    elif place == "twice":
        first = rng.randrange(n_lines)
        moment.lines = (first, first + 1 + int(rng.expovariate(0.001)))
    elif place == "hook":
        moment.hook_number = rng.randrange(n_hooks)
    else:
        moment.seconds = rng.uniform(1e-4, 1.1 * seconds)
    report = Report(case=f"{name}, {'refit' if refit else 'fit'}")
    report.case += f", {exception.__name__}, {place}"
    n_threads_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    problems, report.outcome = disturb(name, copied(before), after, moment)
    torch.set_num_threads(n_threads_before)
    where = moment.fired[-1:] and moment.fired[-1].removeprefix(PACKAGE)
    report.failures = [(report.case, f"{problem}; at {where}") for problem in problems]
    return report


def disturb(name, model, after, moment):
    """Fit a model while a moment disturbs; return what is wrong, and the outcome."""
    _, arguments, method = FITS[name]
    hooks = listen(model, moment)
    before, around, found = state_of(model), ambient_state(), []
    INTERRUPTS.last = -np.inf
    raised = None
    unraisable, sys.unraisablehook = [], lambda event: unraisable.append(event)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            moment.during(lambda: getattr(model, method)(*arguments))
        except BaseException as error:
            raised = error
            text = traceback.format_exc()
    sys.unraisablehook = sys.__unraisablehook__
    told = [w for w in caught if str(w.message) == INTERRUPTED]
    state = state_of(model)
    if ambient_state() != around:
        found.append("the state of torch, NumPy or threading was changed")
        torch.set_grad_enabled(True)
    of_teardown = ("_callback_support.py", "contextlib.py")  # its own lines
    if hooks.open and not any(name in str(moment.fired) for name in of_teardown):
        found.append("a callback was not torn down")
    if hasattr(model, "_callback_fit_ctx"):
        found.append("the callback context is left")
    if raised is not None:
        outcome = "passed, state of before"
        if type(raised) is not moment.exception:
            found.append(f"{type(raised).__name__} instead: {text[-1500:]}")
        if state == after:
            outcome = "passed after the end"
        elif state != before:
            found.append("the exception passed, but the state is another")
        if hasattr(before, "_model") and len(told) > 1:
            found.append(f"{len(told)} warnings")
        return found, outcome
    if not moment.fired:
        outcome = "undisturbed"
        if state != after:
            found.append("undisturbed, but another result")
        return found, outcome
    if moment.exception is not KeyboardInterrupt:
        outcome = f"{moment.exception.__name__} swallowed"
        if state != after or not unraisable:
            found.append(outcome)
    elif moment.asked_to_stop:
        outcome = "a callback stopped"
        found += [f"{len(told)} warnings"] * (len(told) > 1)
    else:
        outcome = "kept the best so far"
        if not (len(told) == 1 or (unraisable and state == after)):
            found.append(f"{len(told)} warnings")
        if len(moment.fired) > 1:
            found.append("the second Ctrl-C did not end the fit")
    return found + problems_of_use(model, arguments[0]), outcome


# -- the command ----------------------------------------------------------------------


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--kills", action="store_true", help="kill -9, with checkpoints"
    )
    parser.add_argument("--seed", type=int, help="the first; without, after the record")
    parser.add_argument("--count", type=int, default=100, help="number of trials")
    parser.add_argument("--minutes", type=float, default=60, help="time limit")
    parser.add_argument("--record", type=Path, help="JSON file that counts all trials")
    options = parser.parse_args()
    part = importlib.import_module(f"fuzz.{'kills' if options.kills else 'interrupts'}")
    record = {"next_seed": 0, "trials": 0, "outcomes": {}, "failures": []}
    if options.record is not None and options.record.exists():
        record = json.loads(options.record.read_text())
    first = record["next_seed"] if options.seed is None else options.seed
    outcomes = collections.Counter(record["outcomes"])
    end = time.monotonic() + 60 * options.minutes
    for seed in range(first, first + options.count):
        report = part.run(seed)
        record["trials"] += 1
        record["next_seed"] = max(record["next_seed"], seed + 1)
        outcomes[report.outcome] += 1
        for case, problem in report.failures:
            print(f"seed {seed}, {case}: {problem}", flush=True)
            record["failures"].append({"seed": seed, "case": case, "problem": problem})
        if time.monotonic() > end:
            break
    record["outcomes"] = dict(outcomes)
    if options.record is not None:
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    wrong = len({failure["seed"] for failure in record["failures"]})
    print(f"{record['trials']} trials, {wrong} wrong")
    for outcome, number in outcomes.most_common():
        print(f"{number:6d} {outcome}")
    return wrong > 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
