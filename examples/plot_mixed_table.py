"""
A mixed table with missing cells
================================

The Palmer penguins have four measurements, two categorical columns and 19 missing
cells. The example learns a two-dimensional representation without the species, looks
for unusual rows, and draws new penguins.

The table needs no encoding, scaling or imputation beforehand.
"""

# %%
# The table
# ---------
# Categories have a categorical dtype, and missing cells are NaN.

from skvae.datasets import load_penguins

penguins = load_penguins()
X, species = penguins.data, penguins.target
X.head()

# %%
# Two latent variables for each penguin
# -------------------------------------
# ``fit`` chooses a likelihood for each column from its dtype and values.

from skvae import VAETransformer

model = VAETransformer(n_components=2, random_state=0).fit(X)
print(f"{model.n_iter_} epochs, {model.loss_:.2f} nats per row")
model.likelihood_

# %%
# The species are not part of ``X``. Colour shows them afterwards.

import matplotlib.pyplot as plt

COLORS = {"Adelie": "#d55e00", "Chinstrap": "#7b3f99", "Gentoo": "#007a87"}
Z = model.transform(X)
incomplete = X.isna().any(axis=1).to_numpy()

figure, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
for name, color in COLORS.items():
    here = (species == name).to_numpy()
    ax.scatter(
        *Z[here & ~incomplete].T, s=18, color=color, alpha=0.75, lw=0, label=name
    )
    ax.scatter(*Z[here & incomplete].T, s=38, facecolor="none", edgecolor=color)
ax.scatter(
    [], [], s=38, facecolor="none", edgecolor="0.3", label="row with missing cells"
)
ax.set(
    xlabel="latent component 0",
    ylabel="latent component 1",
    title="Posterior means of 344 penguins",
)
ax.set_aspect("equal", "datalim")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
ax.spines[["top", "right"]].set_visible(False)

# %%
# Unusual rows
# ------------
# Which errors does the likelihood find? Held-out rows get errors: two measurements are
# swapped, or a bird is assigned to the wrong island. The model is trained on the other
# half of the rows.

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

X_train, X_test = train_test_split(X, test_size=0.5, random_state=0, stratify=species)
density = VAETransformer(random_state=0).fit(X_train)

swapped = X_test.assign(
    bill_length_mm=X_test["bill_depth_mm"], bill_depth_mm=X_test["bill_length_mm"]
)
next_island = {"Biscoe": "Dream", "Dream": "Torgersen", "Torgersen": "Biscoe"}
moved = X_test.assign(
    island=X_test["island"].map(next_island).astype(X["island"].dtype)
)
lighter = X_test.assign(body_mass_g=X_test["body_mass_g"] - 1000)

complete = X_test.notna().all(axis=1).to_numpy()
scores = {
    "as recorded": density.score_samples(X_test)[complete],
    "wrong island": density.score_samples(moved)[complete],
    "1 kg too light": density.score_samples(lighter)[complete],
    "bill length and depth swapped": density.score_samples(swapped)[complete],
}
for name, values in list(scores.items())[1:]:
    recorded = scores["as recorded"]
    truth = np.repeat([1, 0], [len(recorded), len(values)])
    auc = roc_auc_score(truth, np.concatenate([recorded, values]))
    print(f"{name:30s} area under the ROC curve {auc:.2f}")

# %%
# Swapped numbers have a very low likelihood. A bird on the wrong island is found only
# if its species does not live there: Adelie penguins live on all three islands.

figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
ax.boxplot(
    [-values for values in reversed(scores.values())],
    orientation="horizontal",
    widths=0.55,
    flierprops={"markersize": 3, "markeredgecolor": "0.5"},
    medianprops={"color": "#d55e00", "lw": 2},
    tick_labels=list(reversed(scores)),
)
ax.set(
    xscale="log",
    xlabel="negative log-likelihood of a held-out row (nats, logarithmic axis)",
    title="Errors make rows improbable",
)
ax.set_xticks([15, 20, 30, 50, 100, 200], labels=["15", "20", "30", "50", "100", "200"])
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)

# %%
# New penguins
# ------------
# ``sample`` returns a data frame with the dtypes of ``X``.

sampled = model.sample(344, random_state=0)
sampled.head()

# %%
# Sampled rows and real ones. The model was trained without the species.

figure, axes = plt.subplots(
    1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained"
)
for ax, table, title in zip(axes, [X, sampled], ["real", "sampled"], strict=True):
    for sex, color in {"FEMALE": "#007a87", "MALE": "#d55e00"}.items():
        rows = table[table["sex"] == sex]
        ax.scatter(
            rows["flipper_length_mm"],
            rows["bill_depth_mm"],
            s=14,
            color=color,
            alpha=0.6,
            lw=0,
            label=sex.lower(),
        )
    ax.set(title=title, xlabel="flipper length (mm)")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("bill depth (mm)")
axes[0].legend(frameon=False)

# %%
# The shares of the categories, in per cent:

import pandas as pd

KINDS = ["island", "sex"]
shares = {
    title: pd.concat({name: table[name].value_counts(normalize=True) for name in KINDS})
    for title, table in {"real": X, "sampled": sampled}.items()
}
(100 * pd.DataFrame(shares)).round(1)
