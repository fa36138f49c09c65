"""
Classify images with few labels
===============================

Labels often cost more than rows. Of 1,257 images of digits 50 have a label here, five
of each class. :class:`~skvae.VAEClassifier` learns from the images without labels as
well.
"""

# %%
# Labels for 50 images
# --------------------
# A row without a label has -1, as in all semi-supervised estimators of scikit-learn.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.3, random_state=0, stratify=y
)
rng = np.random.default_rng(0)
order = rng.permutation(len(y_train))
labelled = np.concatenate([order[y_train[order] == digit][:5] for digit in range(10)])
few = np.full(len(y_train), -1)
few[labelled] = y_train[labelled]

# %%
# Fit and compare
# ---------------
# The last row is the same classifier without the images that have no label.
# ``max_iter`` keeps this page short: the default trains three times as long.

import pandas as pd
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC

from skvae import VAEClassifier

settings = {"max_iter": 125, "random_state": 0}
model = VAEClassifier(**settings).fit(X_train, few)
others = {
    "LabelSpreading": LabelSpreading(kernel="knn").fit(X_train, few),
    "SVC, labelled rows alone": SVC().fit(X_train[labelled], y_train[labelled]),
    "VAEClassifier, labelled rows alone": VAEClassifier(**settings).fit(
        X_train[labelled], y_train[labelled]
    ),
}
accuracy = {
    name: other.score(X_test, y_test)
    for name, other in {"VAEClassifier": model, **others}.items()
}
pd.Series(accuracy, name="accuracy").round(3).to_frame()

# %%
# Certain and uncertain predictions
# ---------------------------------
# The test images with the lowest and the highest probability of their predicted class.
# Wrong predictions are red.

import matplotlib.pyplot as plt

proba = model.predict_proba(X_test)
found = model.classes_[proba.argmax(axis=1)]
by_certainty = proba.max(axis=1).argsort()
rows = {"least certain": by_certainty[:10], "most certain": by_certainty[-10:]}
figure, axes = plt.subplots(2, 10, figsize=(9, 2.6), layout="constrained")
for row, (title, places) in zip(axes, rows.items(), strict=True):
    for ax, place in zip(row, places, strict=True):
        ax.imshow(X_test[place].reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        right = found[place] == y_test[place]
        ax.set_title(
            f"{found[place]}: {proba[place].max():.0%}",
            fontsize=9,
            color="black" if right else "firebrick",
        )
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    row[0].set_ylabel(title, rotation=0, ha="right", va="center")
