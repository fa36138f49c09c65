"""
Missing cells of a mixed table
==============================

The example makes cells of a table of penguins missing, completes the table, and
compares the result with the true values: single cells, distributions, and prediction
intervals.
"""

# %%
# The table
# ---------
# ``ampute`` masks cells. With "mar" (missing at random) a third of the columns stays
# complete, and their values decide which cells of the other columns become missing. The
# table has 19 missing cells of its own, whose true values are unknown.

from skvae.datasets import ampute, load_penguins

X = load_penguins().data
X_missing = ampute(X, "mar", rate=0.3, random_state=0)
X_missing.isna().sum()

# %%
# Complete the table
# ------------------
# The table needs no encoding or scaling. Observed cells come back unchanged, and the
# data frame keeps its dtypes and categories.

from skvae import VAEImputer

imputer = VAEImputer(random_state=0)
X_complete = imputer.fit_transform(X_missing)
X_complete.head()

# %%
# Errors of point estimates
# -------------------------
# The error of a measurement is the root mean squared error in masked cells. The error
# of a category is the share of wrong estimates. The mean, the most frequent category
# and scikit-learn's :class:`~sklearn.impute.IterativeImputer` are compared. The latter
# takes numbers only, so it gets the measurements.

import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

measurements = list(X.select_dtypes("number"))
masked = X_missing.isna() & X.notna()


def errors(completed):
    """Return the error of every column on the masked cells."""
    result = {}
    for name in completed.columns[masked[completed.columns].any()]:
        cells = masked[name]
        guess, truth = completed.loc[cells, name], X.loc[cells, name]
        if name in measurements:
            result[name] = np.sqrt(((guess - truth) ** 2).mean())
        else:
            result[name] = (guess != truth).mean()
    return pd.Series(result)


averages = {
    name: column.mean() if name in measurements else column.mode()[0]
    for name, column in X_missing.items()
}
iterative = IterativeImputer(random_state=0, max_iter=30, tol=1e-2)
iterative.set_output(transform="pandas")

pd.DataFrame(
    {
        "masked cells": masked.sum()[masked.any()],
        "mean or mode": errors(X_missing.fillna(averages)),
        "IterativeImputer": errors(iterative.fit_transform(X_missing[measurements])),
        "VAEImputer": errors(X_complete),
    }
).round(2)

# %%
# A point estimate is a conditional mean. ``stacking_weights_`` holds the weights of the
# marginal mean, of the multivariate normal and of the networks in it. They are chosen
# on rows that the networks left out in training.

pd.DataFrame(imputer.stacking_weights_).T.round(2)

# %%
# Distributions
# -------------
# Columns that are completed with means vary too little, and their correlations are too
# high. ``sample`` draws instead. The display compares the observed cells with the draws
# of the missing ones. The two may differ, because cells are not missing completely at
# random. The draws should agree with the true values, which are known here.

import matplotlib.pyplot as plt

from skvae.plotting import ImputationDisplay

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for ax, name in zip(axes, ["bill_length_mm", "island"], strict=True):
    ImputationDisplay.from_estimator(
        imputer, X_missing, name, truth=X[name], n_draws=20, random_state=0, ax=ax
    )

# %%
# Intervals
# ---------
# The display draws the bounds of ``predict_interval``. A cell lies outside with a
# probability of 10%. Intervals are short if the other cells of the row predict the cell
# well.

figure, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
ax.set_title("The first twenty missing cells")
display = ImputationDisplay.from_estimator(
    imputer,
    X_missing,
    "bill_length_mm",
    kind="intervals",
    truth=X["bill_length_mm"],
    ax=ax,
)

# %%
# The share of masked cells inside the intervals, over all measurements, should be about
# 90%.

lower, upper = imputer.predict_interval(X_missing, coverage=0.9)
low, high, truth = (table[measurements].to_numpy() for table in (lower, upper, X))
inside = ((low <= truth) & (truth <= high))[masked[measurements].to_numpy()]
print(f"{inside.mean():.0%} of {inside.size} masked measurements")
