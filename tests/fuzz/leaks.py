"""Part "leaks": fits and calls leave no object and no memory behind."""

import gc
import warnings
import weakref

import numpy as np

from fuzz.metamorphic import Runner
from fuzz.sessions import ESTIMATORS, Report
from fuzz.tables import draw_table

#: Rounds before the first count, and between the two counts.
WARM_UP, ROUNDS = 4, 12
#: Objects and bytes by which the counts may differ: caches of the libraries.
SLACK_OBJECTS, SLACK_BYTES = 200, 4 * 2**20


def run(seed):
    """Fit and use one estimator again and again; count objects and memory."""
    rng = np.random.default_rng([seed, 61])
    report = Report(tables=1)
    name = ESTIMATORS[seed % len(ESTIMATORS)]
    X = draw_table(rng, n_rows=12, n_columns=3, odd=False).build()
    runner = Runner(report, name, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = counts(runner, X, WARM_UP)
        after = counts(runner, X, ROUNDS)
    more = [new - old for new, old in zip(after, before, strict=True)]
    if more[0] > SLACK_OBJECTS:
        report.failures.append((name, f"{more[0]} objects more after {ROUNDS} rounds"))
    if more[1] > SLACK_BYTES:
        report.failures.append((name, f"{more[1]} bytes more after {ROUNDS} rounds"))
    return report


def counts(runner, X, rounds):
    """Return the numbers of objects and of bytes in memory after some rounds."""
    for _ in range(rounds):
        runner.results(runner.fit(X), X)
    gc.collect()
    # torch clears its weak references now and then
    objects = sum(type(item) is not weakref.ref for item in gc.get_objects())
    return objects, resident_bytes()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
