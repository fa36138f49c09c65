"""Part "threads": eight threads at once, results as of one after the other."""

import threading
import warnings

import numpy as np
import torch

from fuzz.metamorphic import Runner, texts
from fuzz.oracle import Outcome, ambient_state
from fuzz.sessions import ESTIMATORS, Report
from fuzz.tables import draw_table

N_THREADS = 8


def run(seed):
    """Fit and use estimators in threads; half of them share one fitted estimator."""
    rng = np.random.default_rng([seed, 51])
    report = Report()
    tables = [
        draw_table(rng, n_rows=12, n_columns=3, odd=False).build() for _ in ESTIMATORS
    ]
    jobs = list(zip(ESTIMATORS, tables, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shared = {name: Runner(report, name, seed).fit(X) for name, X in jobs}
        expected = {name: _use(report, name, seed, X, shared[name]) for name, X in jobs}
        before = ambient_state()
        found = _in_threads(report, seed, jobs, shared)
    for place, (name, results) in enumerate(found):
        if results is None:
            report.failures.append((name, f"thread {place} failed"))
        elif results != expected[name]:
            report.failures.append((name, "a thread gives another result"))
    changed = [key for key, value in ambient_state().items() if value != before[key]]
    report.failures += [("threads", f"{key} was changed") for key in changed]
    report.tables = len(tables)
    return report


def plain_call(function, *args, **kwargs):
    """Call a function; the oracle's watch over warnings is not for threads."""
    try:
        return Outcome(function(*args, **kwargs))
    except Exception as error:
        return Outcome(error=error)


def _use(report, name, seed, X, model):
    """Return the texts of all results of a new fit, and of a given estimator."""
    own = Runner(report, name, seed, plain_call)
    fresh, shared = own.results(own.fit(X), X), own.results(model, X)
    return [
        {key: texts(value) for key, value in (results or {}).items()}
        for results in (fresh, shared)
    ]


def _in_threads(report, seed, jobs, shared):
    found = [("", None)] * N_THREADS
    together = threading.Barrier(N_THREADS)

    def work(place):
        name, X = jobs[place % len(jobs)]
        found[place] = (name, None)
        together.wait()
        found[place] = (name, _use(report, name, seed, X, shared[name]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(torch.get_num_threads())
    return found
