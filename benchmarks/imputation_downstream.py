"""Accuracy of classifiers after imputation, and of trees that take NaN themselves.

30% of the feature cells of training and test rows are hidden (MCAR); imputers are
fitted on the training rows without the labels. Accuracy on the test rows.
"""

import time

import numpy as np
from harness.cache import OURS, digest
from harness.cases import TARGET, read_features, read_table, split_rows
from harness.peers.imputation import IMPUTERS
from harness.report import (
    environment,
    environment_lines,
    markdown_table,
    note_lines,
    publish,
)
from harness.run import Run, argument_parser
from harness.tables import scaled_numbers
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

SMALL = "seeds glass heart_cleveland vote soybean credit_approval titanic cmc"
TABLES = f"{SMALL} wine_red wine_white".split()
METHODS = ("native NaN", *IMPUTERS, "ours")
CLASSIFIERS = ("boosting", "logistic")


def imputer_of(method, seed):
    """Return the imputer of a method."""
    from skvae import VAEImputer

    return VAEImputer(random_state=seed) if method == "ours" else IMPUTERS[method](seed)


def accuracies(train, y_train, test, y_test, method, seed):
    """Return the accuracies of both classifiers after one imputer."""
    start = time.process_time()
    if method != "native NaN":
        imputer = imputer_of(method, seed)
        train, test = imputer.fit_transform(train), imputer.transform(test)
    results = {"seconds": time.process_time() - start}
    boosting = HistGradientBoostingClassifier(
        categorical_features="from_dtype", random_state=0
    )
    results["boosting"] = boosting.fit(train, y_train).score(test, y_test)
    if method != "native NaN":
        X, X_test = scaled_numbers(train, test)
        logistic = LogisticRegression(max_iter=1_000).fit(X, y_train)
        results["logistic"] = logistic.score(X_test, y_test)
    return results


def load_split(data, name, seed):
    """Return the training rows with hidden cells, their labels, and the test rows'."""
    from skvae.datasets import ampute

    X = read_features(data, name)
    y = read_table(data, name)[TARGET].astype(str).to_numpy()
    masked = ampute(X, "mcar", 0.3, random_state=seed)
    train, test = split_rows(len(X), seed)
    return masked.iloc[train], y[train], masked.iloc[test], y[test]


def page(raw):
    """Return the Markdown lines of raw figures."""
    lines = ["# Accuracy after imputation", "", *environment_lines(raw)]
    lines += [*note_lines(raw), ""]
    seeds, cells = raw["seeds"], raw["cells"]
    methods = [m for m in METHODS if any(m in row for row in cells.values())]
    for classifier in CLASSIFIERS:
        rows = []
        for name, row in cells.items():
            found = [[*row.get(method, {}).values()] for method in methods]
            values = [[c[classifier] for c in f if classifier in c] for f in found]
            rows.append([name, *(float(np.mean(v)) if v else None for v in values)])
        columns = list(zip(*rows, strict=True))[1:]
        means = [None if None in c else float(np.mean(c)) for c in columns]
        lines += [f"## {classifier}, mean over seeds {seeds}", ""]
        lines += [*markdown_table(["data", *methods], [*rows, ["mean", *means]]), ""]
    return lines


def main():
    parser = argument_parser("imputation_downstream", __doc__, [0, 1, 2], methods=True)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    options = parser.parse_args()
    run = Run("imputation_downstream", options)
    cells = {}
    for seed in options.seeds:
        for name in options.tables:
            split = load_split(options.data, name, seed)
            for method in filter(run.wants, METHODS):
                found = run.cell(
                    name,
                    digest(*split),
                    method,
                    lambda x=split, m=method, s=seed: accuracies(*x, m, s),
                    seed=seed,
                    packages=OURS if method == "ours" else ("numpy", "scikit-learn"),
                )
                if found:
                    row = cells.setdefault(name, {}).setdefault(method, {})
                    row[str(seed)] = found
    publish(options, environment=environment(), seeds=options.seeds, cells=cells)


if __name__ == "__main__":
    main()
