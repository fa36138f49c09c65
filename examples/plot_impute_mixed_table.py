"""
Missing cells of a mixed table
==============================

We hide cells of a table of penguins, measurements and categories, complete it, and
compare with what was hidden: single cells, whole distributions, and prediction
intervals.
"""

# %%
# The table, and the same with holes
# ----------------------------------
# ``ampute`` hides cells. With "mar" (missing at random) a third of the columns stays
# complete, and their values decide which cells of the other columns go. The table comes
# with 19 holes of its own, of which nobody knows the content.

from skvae.datasets import ampute, load_penguins

X = load_penguins().data
X_missing = ampute(X, "mar", rate=0.3, random_state=0)
X_missing.isna().sum()

# %%
# Complete it
# -----------
# Nothing is encoded or scaled by hand. Observed cells come back as they are, and the
# data frame has its dtypes and categories.

from skvae import VAEImputer

imputer = VAEImputer(random_state=0)
X_complete = imputer.fit_transform(X_missing)
X_complete.head()

# %%
# How good are the guesses?
# -------------------------
# The error of a measurement is the root of the mean squared error in hidden cells, that
# of a category the share of wrong guesses. Beside the mean and the most frequent
# category stands scikit-learn's :class:`~sklearn.impute.IterativeImputer`. It takes
# numbers only, so it gets the measurements.

import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

measurements = list(X.select_dtypes("number"))
hidden = X_missing.isna() & X.notna()


def errors(completed):
    """Return the error of every column on the cells that were hidden."""
    result = {}
    for name in completed.columns[hidden[completed.columns].any()]:
        cells = hidden[name]
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
        "hidden cells": hidden.sum()[hidden.any()],
        "mean or mode": errors(X_missing.fillna(averages)),
        "IterativeImputer": errors(iterative.fit_transform(X_missing[measurements])),
        "VAEImputer": errors(X_complete),
    }
).round(2)

# %%
# A point estimate is a mean of what the cell may hold. ``stacking_weights_`` tells what it is made
# of: shares of the marginal mean, of the multivariate normal and of the networks that
# correct it, chosen on rows that the networks had left out.

pd.DataFrame(imputer.stacking_weights_).T.round(2)

# %%
# Whole distributions
# -------------------
# A table that is completed with means is too tidy: its columns vary less than they
# should, and are too much alike. ``sample`` draws instead. The display compares the
# observed cells with the draws of the missing ones. Since cells are not hidden
# blindly here, the two may differ; what counts is that draws agree with the truth,
# which we know for once.

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
# ``predict_interval`` gives bounds, and the display draws them. A cell lies outside
# with a probability of 10%. Intervals are short where the rest of the row says much.

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
# How many hidden cells do they hold, over all measurements? About 90% would be right.

lower, upper = imputer.predict_interval(X_missing, coverage=0.9)
low, high, truth = (table[measurements].to_numpy() for table in (lower, upper, X))
inside = ((low <= truth) & (truth <= high))[hidden[measurements].to_numpy()]
print(f"{inside.mean():.0%} of {inside.size} hidden measurements")
