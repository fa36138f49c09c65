"""
Display a latent space
======================

The displays of ``skvae.plotting`` show the losses of a fit, the latent variables of the
rows of a table, and the decoder's output for any latent variables. Each display is made
from a fitted estimator and keeps the drawn values as arrays. Here they show the
handwritten digits of scikit-learn, 1797 images of 8 by 8 pixels.
"""

# %%
# Losses by epoch
# ---------------
# For grey values between 0 and 1 the Bernoulli likelihood is suitable. Two latent
# variables are few for a digit, but they can be drawn.
#
# The objective is the reconstruction term minus the Kullback-Leibler (KL) term, all in
# nats per image. The dotted line marks the validation score of the weights that were
# kept. The weight of the KL term rises over the first epochs, so the KL is larger there
# than later.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skvae import VAETransformer
from skvae.plotting import LossCurveDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.2, random_state=0, stratify=y
)
flat = VAETransformer(
    n_components=2, likelihood="bernoulli", max_iter=100, random_state=0
).fit(X_train)
_ = LossCurveDisplay.from_estimator(flat)

# %%
# Latent variables of images
# --------------------------
# The posterior means of images that were not used in training. The model has no labels.

from skvae.plotting import LatentScatterDisplay

_ = LatentScatterDisplay.from_estimator(flat, X_test, y_test)

# %%
# Images over the latent plane
# ----------------------------
# The decoder's output over the same plane. The grid follows the quantiles of the prior:
# each image represents the same share of the images that the model would generate. So
# the picture also shows how often the model would generate a 1 or a 3.

from skvae.plotting import LatentManifoldDisplay

SHAPE = (8, 8)
_ = LatentManifoldDisplay.from_estimator(flat, image_shape=SHAPE, n_steps=17)

# %%
# More latent variables
# ---------------------
# Two latent variables give blurred digits. A model with sixteen reconstructs held-out
# images:

from skvae.plotting import ReconstructionDisplay

model = VAETransformer(
    n_components=16, likelihood="bernoulli", max_iter=100, random_state=0
).fit(X_train)
_ = ReconstructionDisplay.from_estimator(model, X_test, image_shape=SHAPE)

# %%
# The next display starts at the latent variables of an image and changes one of them,
# from one end of its prior to the other. The latent variables with the largest effect
# on the image come first.

from skvae.plotting import LatentTraversalDisplay

start = model.transform(X_test[:1])[0]
_ = LatentTraversalDisplay.from_estimator(model, image_shape=SHAPE, start=start)

# %%
# Tables
# ------
# The same displays draw the columns of a table: numbers as lines or colours, categories
# as names.

from skvae.datasets import load_penguins

penguins = load_penguins().data
table_model = VAETransformer(n_components=2, max_iter=150, random_state=0).fit(penguins)
_ = LatentTraversalDisplay.from_estimator(table_model)

# %%
# How well do two latent variables reconstruct a penguin? The closer points are to the
# line, the better a column is reconstructed. For categories the display counts the
# reconstructions of each.

_ = ReconstructionDisplay.from_estimator(table_model, penguins)

# %%
# One column over the latent plane:

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, name in zip(axes, ["body_mass_g", "island"], strict=True):
    LatentManifoldDisplay.from_estimator(table_model, feature=name, n_steps=40, ax=ax)
