"""
Tune the imputer together with the classifier
=============================================

Imputation is a step of a pipeline like scaling. It is fitted on the training part of
every fold, so that no test row leaks into it. A search tunes its parameters together
with those of the classifier.
"""

# %%
# Tumours with missing measurements
# ---------------------------------
# The table has ten measurements of 569 breast tumours. ``ampute`` makes half of the
# cells of two thirds of the columns missing, so that few rows are complete.

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skvae.datasets import ampute

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X = ampute(X.iloc[:, :10], "mar", rate=0.5, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.5, stratify=y, random_state=0
)
print(f"complete: {X_train.notna().all(axis=1).sum()} of {len(X_train)} training rows")

# %%
# The pipeline
# ------------
# ``memory`` caches the fitted first steps on disk. The imputer takes seconds and the
# classifier milliseconds. So the search takes little more time than one fit of the
# imputer for every fold and every value of its own parameters.

from tempfile import TemporaryDirectory

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAEImputer

cache = TemporaryDirectory()
pipeline = Pipeline(
    [
        ("imputer", VAEImputer(random_state=0)),
        ("scaler", StandardScaler()),
        ("classifier", LogisticRegression(max_iter=1000)),
    ],
    memory=cache.name,
)

# %%
# The search
# ----------
# Without hidden layers the imputer is a multivariate normal, which can be the better
# model of some hundred rows.

import pandas as pd
from sklearn.model_selection import GridSearchCV

search = GridSearchCV(
    pipeline,
    {
        "imputer__hidden_layer_sizes": [(), (64,)],
        "classifier__C": [0.01, 0.1, 1.0, 10.0],
    },
    cv=3,
)
search.fit(X_train, y_train)
table = pd.DataFrame(search.cv_results_["params"])
table["accuracy"] = search.cv_results_["mean_test_score"]
table.columns = ["C", "hidden layers", "accuracy"]
table["hidden layers"] = table["hidden layers"].astype(str)
table.pivot(index="hidden layers", columns="C", values="accuracy").round(3)

# %%
# Accuracies of the folds vary by some hundredths, so small differences in this table
# are not significant.

deviation = search.cv_results_["std_test_score"].mean()
print(f"standard deviation between the folds: {deviation:.3f}")
print(search.best_params_)

# %%
# Accuracy on test rows
# ---------------------
# Test rows have missing cells too. The model of the training rows completes them from
# their observed cells, without a new fit. The other methods get the same search over
# ``C``.

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import KNNImputer, SimpleImputer

accuracy = {"VAEImputer, tuned": search.score(X_test, y_test)}
for imputer in (SimpleImputer(), KNNImputer()):
    steps = [("imputer", imputer), *pipeline.steps[1:]]
    rival = GridSearchCV(
        Pipeline(steps), {"classifier__C": search.param_grid["classifier__C"]}, cv=3
    )
    name = type(imputer).__name__
    accuracy[name] = rival.fit(X_train, y_train).score(X_test, y_test)
trees = HistGradientBoostingClassifier(random_state=0).fit(X_train, y_train)
accuracy["no imputation, trees"] = trees.score(X_test, y_test)
cache.cleanup()

for name, value in accuracy.items():
    error = np.sqrt(value * (1 - value) / len(y_test))
    print(f"{name:20s} {value:.3f} +- {error:.3f}")

# %%
# Differences below the standard error are not significant. The example shows how to
# tune an imputer, not which one is best.
