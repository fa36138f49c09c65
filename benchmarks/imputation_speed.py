"""Time and memory of VAEImputer: one row, many rows, a million rows.

Targets: ``transform`` of one row in at most 5 ms and of 100,000 x 20 in at most 10 s
after fit; 1,000,000 x 20 fits and transforms in bounded memory; time linear in rows.
"""

import resource
import time

import numpy as np
from _common import (
    RESULTS,
    argument_parser,
    environment,
    environment_lines,
    markdown_table,
    write_report,
)


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


def main():
    parser = argument_parser("imputation_speed", __doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    options = parser.parse_args()

    from skvae import VAEImputer
    from skvae.datasets import load_penguins

    VAEImputer(max_iter=1).fit_transform(make_rows(100))  # imports are not timed
    rows, results = [], {}
    for n_rows in options.rows:
        X = make_rows(n_rows)
        before = peak_megabytes()
        imputer = VAEImputer(random_state=0)
        fit = seconds(imputer.fit, X)
        transform = seconds(imputer.transform, X)
        memory = (peak_megabytes() - before) / (X.nbytes / 2**20)
        rows.append([n_rows, fit, transform, one_row(imputer, X), memory])
        results[n_rows] = dict(
            zip(("fit", "transform", "one row", "memory"), rows[-1][1:], strict=True)
        )
        print(rows[-1], flush=True)
    mixed = load_penguins().data
    results["mixed"] = one_row(VAEImputer(random_state=0).fit(mixed), mixed)
    header = ["rows x 20", "fit, s", "transform, s", "one row, ms", "peak / table"]
    lines = [
        "# Time and memory of VAEImputer",
        "",
        *environment_lines(environment()),
        "",
        "Peak memory is what the process grew by, over the size of the float64 table.",
        "",
        *markdown_table(header, rows, digits=2),
        "",
        "One row of a mixed pandas table (penguins, 7 columns): "
        f"{results['mixed']:.2f} ms.",
    ]
    write_report(options.output or RESULTS / "imputation_speed.md", lines, results)


if __name__ == "__main__":
    main()
