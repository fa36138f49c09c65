"""
A representation of handwritten digits
======================================

The digits of scikit-learn are 1797 images of 8 by 8 pixels, with grey values from 0 to
16. The example shows reconstructions and samples of a variational autoencoder, a map
of the digits with two latent variables, and the accuracy of a classifier on the
representation.
"""

# %%
# Reconstruct and sample
# ----------------------
# A fifth of the images is held out. The labels are not used in training.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skvae import VAETransformer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.2, random_state=0, stratify=y
)
model = VAETransformer(random_state=0).fit(X_train)
print(f"{model.n_components_} latent variables, trained for {model.n_iter_} epochs")

# %%
# The middle row decodes the posterior means. The images of the last row come from the
# prior alone: ``inverse_transform`` of random latent variables gives expected images.
# ``sample`` would add the pixel noise of the model.

import matplotlib.pyplot as plt
import numpy as np

COLUMNS = 12
Z_test = model.transform(X_test[:COLUMNS])
Z_prior = np.random.default_rng(0).standard_normal((COLUMNS, model.n_components_))
rows = {
    "held-out image": X_test[:COLUMNS],
    "reconstruction": model.inverse_transform(Z_test),
    "from the prior": model.inverse_transform(Z_prior),
}
figure, axes = plt.subplots(3, COLUMNS, figsize=(9, 2.6), layout="constrained")
for row, (title, images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    row[0].set_ylabel(title, rotation=0, ha="right", va="center")

# %%
# A map with two latent variables
# -------------------------------
# Two latent variables are too few to reconstruct a digit, but they arrange the digits
# on a plane. For grey values between 0 and 1 the Bernoulli likelihood is suitable: it
# does not rescale the pixels. (By default each pixel is standardised, and a pixel in a
# corner then has the same weight as one of the stroke.) The other map is that of PCA
# with two components.
#
# The accuracy is that of a 10-nearest-neighbour classifier on the held-out images. It
# measures how well the map separates the classes.

from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

flat = VAETransformer(n_components=2, likelihood="bernoulli", random_state=0)
maps = {
    "PCA": PCA(n_components=2, random_state=0).fit(X_train / 16),
    "VAETransformer": flat.fit(X_train / 16),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
for ax, (name, reducer) in zip(axes, maps.items(), strict=True):
    Z_train, Z = reducer.transform(X_train / 16), reducer.transform(X_test / 16)
    neighbours = KNeighborsClassifier(10).fit(Z_train, y_train)
    accuracy = neighbours.score(Z, y_test)
    ax.scatter(*Z_train.T, c=y_train, cmap="tab10", s=7, alpha=0.5, lw=0)
    for digit in range(10):
        centre = np.median(Z_train[y_train == digit], axis=0)
        ax.text(
            *centre,
            str(digit),
            color=plt.cm.tab10(digit),
            fontsize=14,
            fontweight="bold",
            ha="center",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
        )
    ax.set(
        title=f"{name}: {accuracy:.0%} of held-out digits correct",
        xlabel="component 0",
        ylabel="component 1",
    )
    ax.set_aspect("equal", "datalim")
    ax.spines[["top", "right"]].set_visible(False)

# %%
# The accuracy of a classifier
# ----------------------------
# Logistic regression on the representation, at equal dimension, and on the pixels. The
# last column uses 10 labels per class, while the representations are learned from all
# training images. Accuracy on the held-out images:

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

k = model.n_components_
representations = {
    f"VAETransformer ({k})": model.transform,
    f"PCA ({k})": PCA(n_components=k, random_state=0).fit(X_train).transform,
    "pixels (64)": np.asarray,
}
few = np.concatenate([np.flatnonzero(y_train == digit)[:10] for digit in range(10)])
table = {}
for name, represent in representations.items():
    Z_train, Z = represent(X_train), represent(X_test)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    table[name] = {
        "all labels": classifier.fit(Z_train, y_train).score(Z, y_test),
        "100 labels": classifier.fit(Z_train[few], y_train[few]).score(Z, y_test),
    }
pd.DataFrame(table).T.round(3)
