"""Accuracy of classifiers after imputation, and of trees that take NaN themselves.

30% of the feature cells of training and test rows are hidden (MCAR); imputers are
fitted on the training rows without the labels. Accuracy on the test rows.
"""

import time

import numpy as np
from harness import report
from harness.cases import TARGET, read_features, read_table, split_rows
from harness.peers.imputation import IMPUTERS
from harness.run import Run, read_options
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


def accuracies(method, split, seed):
    """Return the accuracies of both classifiers after one imputer."""
    train, y_train, test, y_test = split
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


def classifier_lines(raw, classifier):
    """Return the table of one classifier, means over seeds."""
    cells = raw["cells"]
    methods = [m for m in METHODS if any(m in row for row in cells.values())]
    rows = []
    for name, row in cells.items():
        found = [[*row.get(method, {}).values()] for method in methods]
        values = [[c[classifier] for c in f if classifier in c] for f in found]
        rows.append([name, *(float(np.mean(v)) if v else None for v in values)])
    columns = list(zip(*rows, strict=True))[1:]
    means = [None if None in column else float(np.mean(column)) for column in columns]
    return report.table(["data", *methods], [*rows, ["mean", *means]])


def page(raw):
    parts = ["# Accuracy after imputation", report.items(raw)]
    for name in CLASSIFIERS:
        parts.append(f"## {name}, mean over seeds {raw['seeds']}")
        parts.append(classifier_lines(raw, name))
    return report.blocks(*parts)


def main():
    options = read_options(__doc__, seeds=[0, 1, 2], tables=TABLES)
    run = Run(options, METHODS[:-1])

    def cases(seed):
        for name in options.tables:
            yield name, METHODS, load_split(options.data, name, seed)

    report.publish(options, cells=run.grid(cases, accuracies))


if __name__ == "__main__":
    main()
