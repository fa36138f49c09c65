"""Kills: processes that end while they fit with a checkpoint, and what resumes from it.

python tests/fuzz/interrupts.py --kills [--seed 0] [--count 100] [--record FILE]

A trial fits a small model in a process that ``kill -9`` ends at a random time, up to
three times in a row. The checkpoint must be one that loads whenever that happens, and
the fit that resumes it must be bit for bit that of a fit that nothing cut off.
"""

import os
import random
import signal
import tempfile
import time
import warnings
from functools import cache

from fuzz.interrupts import FITS, Report, copied, state_of
from skvae import Checkpoint
from skvae._container import read_container

NAMES = [name for name, (_, _, method) in FITS.items() if method == "fit"]


def fit(name, path):
    """Fit with a checkpoint that is written at every occasion."""
    model, arguments, _ = FITS[name]
    callbacks = [] if path is None else [Checkpoint(path, every=0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copied(model).set_params(callbacks=callbacks).fit(*arguments)


@cache
def reference(name):
    """Return the state after a fit that nothing cuts off, and its seconds."""
    expected = state_of(fit(name, None))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(name, os.path.join(folder, "fit.ckpt"))
        return expected, time.perf_counter() - start


def cut_off(name, path, seconds):
    """Fit in a process of its own, and kill it after some time."""
    process = os.fork()
    if process == 0:
        try:
            fit(name, path)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def run(seed):
    """Run the trial of a seed."""
    rng = random.Random(seed)
    name = rng.choice(NAMES)
    expected, seconds = reference(name)
    n_kills = rng.randint(1, 3)
    report = Report(calls=n_kills, case=name)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fit.ckpt")
        for _ in range(n_kills):
            was_cut = cut_off(name, path, rng.uniform(0, seconds))
            report.outcome = "killed" if was_cut else "ended before"
            if not os.path.exists(path):
                report.outcome = "killed before the first write"
                continue
            try:
                read_container(path)
            except Exception as error:
                report.failures.append((name, f"the file does not load: {error}"))
        try:
            if state_of(fit(name, path)) != expected:
                report.failures.append((name, "resumed, but another result"))
        except Exception as error:
            report.failures.append((name, f"not resumed: {error}"))
    return report
