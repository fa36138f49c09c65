"""
Tune the imputer together with the classifier
=============================================

Imputation is a step of a pipeline like scaling: it is fitted on the training part of
every fold, so that no test row leaks into it, and its parameters are searched together
with those of the classifier.
"""

# %%
# Tumours with missing measurements
# ---------------------------------
# Ten measurements of the cells of 569 breast tumours. We hide half of the cells of two
# thirds of the columns, so that few rows are complete.

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
# ``memory`` keeps what the first steps have learned on disk. The imputer takes seconds
# and the classifier milliseconds, so the search takes hardly longer than one fit of
# the imputer for every fold and every setting of its own.

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
# Without hidden layers the imputer is a multivariate normal, which may be all that
# some hundred rows support.

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
# mean nothing.

spread = search.cv_results_["std_test_score"].mean()
print(f"standard deviation between the folds: {spread:.3f}")
print(search.best_params_)

# %%
# On rows that the search has not seen
# ------------------------------------
# Test rows have missing cells too. They are completed from what they show, by the model
# of the training rows, without a new fit. The rivals get the same search over ``C``.

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
# Differences below the standard error are luck of the split: the example shows how to
# tune, not which imputer is best.
