"""Time and memory of VAEImputer: one row, many rows, a million rows.

Targets: ``transform`` of one row in at most 5 ms and of 100,000 x 20 in at most 10 s
after fit; 1,000,000 x 20 fits and transforms in bounded memory; time linear in rows.
"""

import resource
import time

import numpy as np
from harness import report
from harness.run import Run, read_options

HEADER = ["rows x 20", "fit, s", "transform, s", "one row, ms", "peak / table"]


def make_rows(n_rows, n_columns=20, seed=0):
    """Return curved rows of 5 factors with 30% of the cells missing."""
    random = np.random.default_rng(seed)
    factors = random.normal(size=(n_rows, 5))
    weights = np.random.default_rng(1).normal(size=(5, n_columns))
    X = np.tanh(factors @ weights) + 0.3 * random.normal(size=(n_rows, n_columns))
    X[random.random(X.shape) < 0.3] = np.nan
    return X


def seconds(function, *arguments):
    """Return the wall seconds of a call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def one_row(imputer, X):
    """Return the median milliseconds of ``transform`` on one row."""
    return 1e3 * np.median([seconds(imputer.transform, X[:1]) for _ in range(50)])


def peak_megabytes():
    """Return the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_rows, max_iter):
    """Return times and memory for so many rows."""
    from skvae import VAEImputer

    X = make_rows(n_rows)
    before = peak_megabytes()
    imputer = VAEImputer(max_iter=max_iter, random_state=0)
    fit = seconds(imputer.fit, X)
    transform = seconds(imputer.transform, X)
    memory = (peak_megabytes() - before) / (X.nbytes / 2**20)
    times = {"fit": fit, "transform": transform, "one row": one_row(imputer, X)}
    return {"rows": n_rows, **times, "memory": memory}


def measure_mixed(max_iter):
    """Return the milliseconds of one row of a mixed table."""
    from skvae import VAEImputer
    from skvae.datasets import load_penguins

    mixed = load_penguins().data
    return one_row(VAEImputer(max_iter=max_iter, random_state=0).fit(mixed), mixed)


def page(raw):
    names = ("rows", "fit", "transform", "one row", "memory")
    rows = [[cell[name] for name in names] for cell in raw["cells"]]
    return report.blocks(
        "# Time and memory of VAEImputer",
        report.items(raw),
        "Peak memory is what the process grew by, over the size of the float64 table.",
        report.table(HEADER, rows, digits=2),
        "One row of a mixed pandas table (penguins, 7 columns): "
        f"{raw['mixed']:.2f} ms.",
    )


def main():
    rows = [10**4, 10**5, 10**6]
    options = read_options(__doc__, rows=rows, max_iter=0)
    run, max_iter = Run(options), options.max_iter or None
    measure(100, 1)  # imports are not timed

    def cell(name, compute, *arguments):
        where = (name, name, "ours", None)
        return run.cell(*where, compute, *arguments, max_iter, max_iter=max_iter)

    cells = [cell(f"{rows} rows", measure, rows) for rows in options.rows]
    report.publish(options, cells=cells, mixed=cell("penguins", measure_mixed))


if __name__ == "__main__":
    main()
