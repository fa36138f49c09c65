"""Processor time of fit and inference of the estimators under two versions of skvae.

The versions take turns, one process each, so that a machine whose speed drifts treats
both alike; what counts is the ratio within a pair. A digest of the results tells
whether both versions computed the same numbers.

    python benchmarks/compare_versions.py --checkouts OLD NEW --text "what they are"

A comparison is added to the page, or takes the place of the one with its ``--title``.
"""

import hashlib
import time
from pathlib import Path
from statistics import median

from harness import report
from harness.processes import Processes, answer
from harness.run import read_options

CASES = ["VAETransformer", "VAEImputer", "VAEClassifier", "VAERegressor"]
TABLES = ["diabetes", "breast_cancer", "penguins"]
HEADER = ["estimator", "table", "fit old s", "ratio", "use old ms", "ratio", "results"]


def load(name):
    """Return a table of numbers or of mixed columns, and a target."""
    from sklearn import datasets

    if name == "penguins":
        from skvae.datasets import load_penguins

        return load_penguins(return_X_y=True)
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def prepare(case, table, max_iter):
    """Return an estimator, what it is fitted to, and a function that uses it."""
    import numpy as np

    import skvae
    from skvae.datasets import ampute

    X, y = load(table)
    codes = np.unique(np.asarray(y), return_inverse=True)[1]
    model = getattr(skvae, case)(max_iter=max_iter, random_state=0)
    if case == "VAEImputer":
        X = ampute(X, random_state=0)
    if case == "VAEClassifier":
        few = np.where(np.arange(len(codes)) % 10 == 0, codes % 3, -1)
        return model, (X, few), lambda: model.predict_proba(X)
    if case == "VAERegressor":
        return model, (X, codes.astype(float)), lambda: model.predict(X)
    return model, (X,), lambda: model.transform(X)


def measure(case, table, max_iter):
    """Return processor seconds of fit and of one use, and a digest of the result."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    model, arguments, use = prepare(case, table, max_iter)
    start = time.process_time()
    model.fit(*arguments)
    fitted = time.process_time()
    for _ in range(5):
        result = use()
    used = time.process_time()
    digest = hashlib.sha256(repr(np.asarray(result).tolist()).encode()).hexdigest()
    return fitted - start, (used - fitted) / 5, digest[:12]


def compare(processes, old, new, options):
    """Yield the row of every estimator and table."""
    for case in options.cases:
        for table in options.tables:
            job = {"case": case, "table": table, "max_iter": options.max_iter}
            pairs = []
            for index in range(options.repeats):
                found = {}
                for path in (old, new) if index % 2 == 0 else (new, old):
                    found[path] = processes.result(job, PYTHONPATH=str(path))
                pairs.append((found[old], found[new]))
            row = {
                "estimator": case,
                "table": table,
                "fit": median(a[0] for a, _ in pairs),
                "fit ratio": median(b[0] / a[0] for a, b in pairs),
                "use": median(a[1] for a, _ in pairs),
                "use ratio": median(b[1] / a[1] for a, b in pairs),
                "same": all(a[2] == b[2] for a, b in pairs),
            }
            print(*row.values(), flush=True)
            yield row


def comparison_lines(found):
    """Return the table of one comparison and its medians."""
    rows = [
        [
            *(row["estimator"], row["table"], row["fit"], row["fit ratio"]),
            *(f"{1e3 * row['use']:.1f}", row["use ratio"]),
            "same" if row["same"] else "differ",
        ]
        for row in found["rows"]
    ]
    fit, use = found["medians"]
    medians = f"Median ratios: fit {fit:.3f}, use {use:.3f}"
    return report.blocks(report.table(HEADER, rows, 2), medians)


def page(raw):
    (title, first), *others = raw["comparisons"].items()
    sections = [
        report.blocks(f"## {name}", found["text"], comparison_lines(found))
        for name, found in others
    ]
    return report.blocks(
        f"# {title}",
        report.items(raw, first["text"]),
        "Processor seconds of `fit` and milliseconds of one use of the fitted "
        "estimator; both\nversions take turns, and a ratio is the median of those "
        "within pairs.",
        comparison_lines(first),
        *sections,
    )


def main():
    if answer(measure):
        return
    options = read_options(
        __doc__,
        checkouts=["OLD", "NEW"],
        title="Speed of two versions",
        text="OLD, NEW: not said",
        repeats=5,
        max_iter=40,
        cases=CASES,
        tables=TABLES,
    )
    old, new = (Path(path).resolve() for path in options.checkouts)
    rows = list(compare(Processes(), old, new, options))
    medians = [median(row[f"{what} ratio"] for row in rows) for what in ("fit", "use")]
    comparisons = (report.read_raw(options.output) or {}).get("comparisons", {})
    found = {"text": options.text, "rows": rows, "medians": medians}
    comparisons[options.title] = {**found, "environment": report.environment()}
    report.publish(options, comparisons=comparisons)


if __name__ == "__main__":
    main()
