"""
Multiple imputation: a regression coefficient and its interval
==============================================================

By how much does y rise with x, if cells of x are missing? Three methods are common.
*Complete cases*: drop the rows with missing cells. *Single imputation*: complete the
table once, and treat imputed cells as measured. *Multiple imputation*: draw several
completed tables, estimate in each, and pool the estimates by Rubin's rules. Only the
last gives a correct estimate and interval if x is missing at random.
"""

# %%
# Data with a known answer
# ------------------------
# The outcome rises by 1 with ``x`` and by 1 with ``w``. The larger the outcome, the
# more often ``x`` is missing. As the outcome itself is always observed, ``x`` is
# *missing at random*.

import numpy as np


def draw_table(rng, n_rows=500):
    """Return columns x, w and y, complete and with missing cells in x."""
    w = rng.normal(size=n_rows)
    x = 0.5 * w + rng.normal(size=n_rows)
    y = x + w + 1.5 * rng.normal(size=n_rows)
    complete = np.column_stack([x, w, y])
    standardised = (y - y.mean()) / y.std()
    chance = 1 / (1 + np.exp(0.3 - 1.5 * standardised))
    table = complete.copy()
    table[rng.random(n_rows) < chance, 0] = np.nan
    return complete, table


complete, table = draw_table(np.random.default_rng(0))
is_complete = ~np.isnan(table).any(axis=1)
print(f"x is missing in {1 - is_complete.mean():.0%} of the rows")

# %%
# The regression
# --------------
# Least squares, with the squared standard errors of the two slopes.


def regress(rows):
    """Return the slopes of x and w, and their squared standard errors."""
    design = np.column_stack([np.ones(len(rows)), rows[:, :2]])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ rows[:, 2]
    residuals = rows[:, 2] - design @ coefficients
    variance = residuals @ residuals / (len(rows) - 3)
    return coefficients[1:], variance * np.diag(inverse)[1:]


# %%
# Draw, estimate, pool
# --------------------
# The imputed table includes the outcome, because it predicts ``x``.
# ``complete_degrees_of_freedom`` are those of the regression on a complete table: 500
# rows minus 3 coefficients.

from skvae import VAEImputer, pool

imputer = VAEImputer(random_state=0).fit(table)
tables = imputer.sample(table, n_draws=20, random_state=0)
answers = [regress(drawn) for drawn in tables]
pooled = pool(
    [slopes for slopes, _ in answers],
    [variances for _, variances in answers],
    complete_degrees_of_freedom=len(table) - 3,
)
lost = pooled.fraction_missing_information[0]
print(f"slope of x {pooled.estimate[0]:.2f} +- {pooled.standard_error[0]:.2f}")
print(f"share of the information about it that is missing: {lost:.0%}")

# %%
# The other methods
# -----------------
# Complete cases have smaller outcomes, which makes the slopes too small. Imputed means
# have no noise, which makes the slope of ``x`` too large. The standard errors of single
# imputation ignore that cells were imputed.

import matplotlib.pyplot as plt
from scipy import stats


def interval(slopes, variances, n_rows):
    """Return the slope of x with the bounds of its 95% interval."""
    margin = stats.t.ppf(0.975, n_rows - 3) * np.sqrt(variances[0])
    return slopes[0], slopes[0] - margin, slopes[0] + margin


intervals = {
    "nothing missing": interval(*regress(complete), len(complete)),
    "complete cases": interval(*regress(table[is_complete]), is_complete.sum()),
    "single imputation": interval(*regress(imputer.transform(table)), len(table)),
    "multiple imputation": (pooled.estimate[0], pooled.lower[0], pooled.upper[0]),
}
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for place, (name, (slope, low, high)) in enumerate(reversed(intervals.items())):
    color = "#d55e00" if name == "multiple imputation" else "0.45"
    ax.plot([low, high], [place, place], color=color, lw=3, alpha=0.5)
    ax.plot(slope, place, "o", color=color)
ax.axvline(1, color="#007a87", ls="--", lw=1.5)
ax.text(1.01, 3.5, "truth", color="#007a87")
ax.set_yticks(range(4), list(reversed(intervals)))
ax.set(xlabel="slope of x, with its 95% interval", ylim=(-0.5, 3.8))
ax.spines[["top", "right", "left"]].set_visible(False)

# %%
# Two hundred tables
# ------------------
# One table is not enough to compare the methods. Do 95% of the intervals contain the
# true slope? These columns are jointly normal. So the imputer without hidden layers, a
# multivariate normal, is the right model, and it is fitted in hundredths of a second.
# If you know that relations are linear, use it. The script
# ``benchmarks/multiple_imputation.py`` measures the coverage of the default, which has
# to learn from 500 rows that relations are linear.

rng = np.random.default_rng(1)
found = {"complete cases": [], "multiple imputation": []}
for repetition in range(200):
    _, table = draw_table(rng)
    rows = table[~np.isnan(table).any(axis=1)]
    found["complete cases"].append(interval(*regress(rows), len(rows)))
    linear = VAEImputer(hidden_layer_sizes=(), random_state=repetition).fit(table)
    answers = [regress(drawn) for drawn in linear.sample(table, 20, repetition)]
    pooled = pool(
        [slopes for slopes, _ in answers],
        [variances for _, variances in answers],
        complete_degrees_of_freedom=len(table) - 3,
    )
    found["multiple imputation"].append(
        (pooled.estimate[0], pooled.lower[0], pooled.upper[0])
    )

for name, values in found.items():
    slopes, low, high = np.array(values).T
    covered = np.mean((low <= 1) & (high >= 1))
    print(f"{name:20s} mean slope {slopes.mean():.2f}, coverage {covered:.0%}")

# %%
# Every table of ``sample`` has its own draw of the mean and the covariance of the
# multivariate normal from their posterior. So the intervals include the uncertainty of
# these parameters.
