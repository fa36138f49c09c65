"""Accuracy of classifiers after imputation, and of trees that take NaN themselves.

30% of the feature cells of training and test rows are hidden (MCAR); imputers are
fitted on the training rows without the labels. Accuracy on the test rows.
"""

import time

import numpy as np
import pandas as pd
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    markdown_table,
    write_report,
)
from _imputation_peers import is_categorical, make_imputer
from imputation import load_table
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TABLES = [
    "seeds",
    "glass",
    "heart_cleveland",
    "vote",
    "soybean",
    "credit_approval",
    "titanic",
    "cmc",
    "wine_red",
    "wine_white",
]
METHODS = ("native NaN", "mean_mode", "knn", "ice", "missforest", "em", "ours")


def make_classifier(name):
    """Return a classifier of mixed tables."""
    if name == "boosting":
        return HistGradientBoostingClassifier(
            categorical_features="from_dtype", random_state=0
        )
    return make_pipeline(LinearEncoder(), LogisticRegression(max_iter=1_000))


class LinearEncoder(TransformerMixin, BaseEstimator):
    """Standardised numbers and one-hot categories."""

    def fit(self, X, y=None):
        numbers = [name for name in X if not is_categorical(X[name])]
        others = [name for name in X if is_categorical(X[name])]
        self.encode_ = make_column_transformer(
            (StandardScaler(), numbers),
            (OneHotEncoder(handle_unknown="ignore"), others),
        ).fit(X)
        return self

    def transform(self, X):
        return self.encode_.transform(X)


def accuracies(data, name, method, seed):
    """Return the accuracies of both classifiers after one imputer."""
    from skvae import VAEImputer
    from skvae.datasets import ampute

    X = load_table(data, name)
    y = pd.read_parquet(data / f"{name}.parquet")["target"].astype(str).to_numpy()
    masked = ampute(X, "mcar", 0.3, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(X))
    n_train = round(0.7 * len(X))
    train, test = order[:n_train], order[n_train:]
    start = time.process_time()
    if method == "native NaN":
        completed = masked.iloc[train], masked.iloc[test]
    else:
        imputer = (
            VAEImputer(random_state=seed)
            if method == "ours"
            else make_imputer(method, seed)
        )
        completed = (
            imputer.fit_transform(masked.iloc[train]),
            imputer.transform(masked.iloc[test]),
        )
    results = {"seconds": time.process_time() - start}
    for classifier in ("boosting", "logistic"):
        if method == "native NaN" and classifier == "logistic":
            continue
        model = make_classifier(classifier).fit(completed[0], y[train])
        results[classifier] = float(model.score(completed[1], y[test]))
    return results


def main():
    parser = argument_parser("imputation_downstream", __doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--rerun", default=None, help="method to compute again")
    options = parser.parse_args()
    checkpoint = Checkpoint(cache_path("imputation_downstream.jsonl"))
    for seed in options.seeds:
        for name in options.tables:
            for method in METHODS:
                key = (name, method, seed)
                if key not in checkpoint or method == options.rerun:
                    value = accuracies(options.data, *key)
                    checkpoint.put(key, value)
                    print(*key, value, flush=True)
    lines = ["# Accuracy after imputation", "", *environment_lines(environment()), ""]
    for classifier in ("boosting", "logistic"):
        rows = []
        for name in options.tables:
            row = [name]
            for method in METHODS:
                found = [checkpoint.get((name, method, s)) for s in options.seeds]
                values = [f[classifier] for f in found if classifier in f]
                row.append(float(np.mean(values)) if values else None)
            rows.append(row)
        means = [
            float(np.mean([row[i] for row in rows])) if rows[0][i] else None
            for i in range(1, len(METHODS) + 1)
        ]
        lines += [f"## {classifier}, mean over seeds {options.seeds}", ""]
        table = markdown_table(["data", *METHODS], [*rows, ["mean", *means]])
        lines += [*table, ""]
    results = {" ".join(map(str, k)): v for k, v in checkpoint.records.items()}
    write_report(options.output, lines, results)


if __name__ == "__main__":
    main()
