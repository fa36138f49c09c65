"""
Synthetic rows of a census
==========================

Synthetic rows, drawn from a model, can replace a table that must not be shared. The
example draws adults of the US census of 1994 and checks the synthetic rows. Do they
look real? Can a classifier be trained on them? Are they copies of training rows?
"""

# %%
# The table
# ---------
# 2,000 of the 48,842 rows of *Adult* (B. Becker and R. Kohavi, UCI Machine Learning
# Repository, CC BY 4.0) lie beside this example;
# ``sklearn.datasets.fetch_openml("adult", version=2)`` fetches them all. Missing cells
# need no treatment. A quarter of the rows is held out.

import pandas as pd
from sklearn.model_selection import train_test_split

adults = pd.read_csv("adult_rows.csv.gz")
text = adults.select_dtypes(exclude="number").columns
adults[text] = adults[text].astype("category")
train, test = train_test_split(
    adults, test_size=0.25, random_state=0, stratify=adults["income"]
)
train.head()

# %%
# Fit and draw
# ------------
# Income is a column like the others. The numbers are far from normal (nine in ten
# adults have no capital gain), so ``numeric_transform="quantile"`` maps them by their
# ranks. ``max_iter`` keeps this page short.

from skvae import VAETransformer

model = VAETransformer(numeric_transform="quantile", max_iter=150, random_state=0)
model.fit(train)
synthetic = model.sample(len(train), random_state=0)
synthetic.head()

# %%
# Do they look real?
# ------------------
# Column by column, and two columns at a time:

import matplotlib.pyplot as plt
import numpy as np

COLORS = {"real": "#d55e00", "synthetic": "#007a87"}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for title, table in {"real": adults, "synthetic": synthetic}.items():
    color = COLORS[title]
    weights = np.full(len(table), 100 / len(table))
    for ax, name in zip(axes, ["age", "hours-per-week"], strict=False):
        bins = np.arange(0, 101, 5)
        ax.hist(table[name], bins, weights=weights, histtype="step", lw=2, color=color)
        ax.set(xlabel=name, ylabel="rows (%)")
    rich = table["income"] == ">50K"
    shares = 100 * rich.groupby(table["education-num"]).mean().loc[7:14]
    axes[2].plot(shares.index, shares, "o-", color=color, label=title)
axes[2].set(xlabel="education-num", ylabel="with more than 50,000 dollars (%)")
axes[2].legend(frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)

# %%
# A classifier that separates real from synthetic rows compares all columns together.
# The area under its ROC curve is 0.5 if it cannot separate them, and 1 if it makes no
# error. Synthetic rows are complete, so only complete real rows are used.

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

real = test.dropna()
both = pd.concat([real, synthetic[: len(real)]], ignore_index=True)
is_synthetic = np.repeat([0, 1], len(real))
detector = HistGradientBoostingClassifier(random_state=0)
odds = cross_val_predict(detector, both, is_synthetic, cv=5, method="predict_proba")
print(f"area under the ROC curve {roc_auc_score(is_synthetic, odds[:, 1]):.2f}")

# %%
# Can a classifier be trained on them?
# ------------------------------------
# A classifier of the same kind predicts income, trained on real and on synthetic rows.

X_test, y_test = test.drop(columns="income"), test["income"].astype(str)
for title, table in {"real": train, "synthetic": synthetic}.items():
    learner = HistGradientBoostingClassifier(random_state=0)
    learner.fit(table.drop(columns="income"), table["income"].astype(str))
    print(f"trained on {title} rows: accuracy {learner.score(X_test, y_test):.3f}")
print(f"most frequent class: {y_test.value_counts(normalize=True).max():.3f}")

# %%
# Are they copies?
# ----------------
# The distance to the nearest training row counts numbers in standard deviations, and a
# different category as one standard deviation. If synthetic rows are nearer than
# held-out real rows, they may reveal training rows.

from sklearn.neighbors import NearestNeighbors


def points(table):
    numbers = table.select_dtypes("number") / train.select_dtypes("number").std()
    categories = pd.get_dummies(table[text], dtype=float)
    return np.hstack([numbers, categories / np.sqrt(2)])


nearest = NearestNeighbors(n_neighbors=1).fit(points(train))
distances = {
    title: np.sort(nearest.kneighbors(points(table))[0][:, 0])
    for title, table in {"real": test, "synthetic": synthetic}.items()
}
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for title, values in distances.items():
    share = 100 * np.arange(1, len(values) + 1) / len(values)
    ax.plot(values, share, color=COLORS[title], lw=2, label=title)
ax.set(xlabel="distance to the nearest training row", ylabel="rows nearer (%)")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

nearer = (distances["synthetic"] < np.median(distances["real"])).mean()
print(f"{nearer:.0%} of the synthetic rows are nearer than half of the real ones")
print(f"{(distances['synthetic'] == 0).mean():.1%} of the synthetic rows are copies")

# %%
# This does not guarantee privacy: the model is not differentially private, and it may
# reproduce an unusual training row.
