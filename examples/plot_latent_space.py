"""
Looking into a latent space
===========================

The displays of ``skvae.plotting`` show how a fit went, where the rows of a table lie
among the latent variables, and what the decoder makes of any place there. Each display
is made from a fitted estimator and keeps what it draws as arrays. Here they look at the
handwritten digits of scikit-learn, 1797 images of 8 by 8 pixels.
"""

# %%
# How the fit went
# ----------------
# Grey values between 0 and 1 suit the Bernoulli likelihood. Two latent numbers are few
# for a digit, but they can be drawn.
#
# The objective is the reconstruction term minus the Kullback-Leibler (KL) term, all in
# nats per image; the dotted line marks the validation score of the weights that were
# kept. While the weight of the KL term warms up, over the first epochs, the latents
# carry more than they will be allowed to in the end.

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
# Where the digits lie
# --------------------
# The posterior means of images that the model was not trained on. It has never seen a
# label.

from skvae.plotting import LatentScatterDisplay

_ = LatentScatterDisplay.from_estimator(flat, X_test, y_test)

# %%
# What lies where
# ---------------
# The same plane from the decoder's side. The grid follows the quantiles of the prior:
# each image stands for the same share of what the model would generate, so the picture
# also shows how often that is a 1 or a 3.

from skvae.plotting import LatentManifoldDisplay

SHAPE = (8, 8)
_ = LatentManifoldDisplay.from_estimator(flat, image_shape=SHAPE, n_steps=17)

# %%
# More latent variables
# ---------------------
# Two numbers make blurred digits. A model with sixteen reconstructs held-out images:

from skvae.plotting import ReconstructionDisplay

model = VAETransformer(
    n_components=16, likelihood="bernoulli", max_iter=100, random_state=0
).fit(X_train)
_ = ReconstructionDisplay.from_estimator(model, X_test, image_shape=SHAPE)

# %%
# What does a latent variable mean? Start at an image and move one of them, from one end
# of its prior to the other. The display takes those first that change the image most.

from skvae.plotting import LatentTraversalDisplay

start = model.transform(X_test[:1])[0]
_ = LatentTraversalDisplay.from_estimator(model, image_shape=SHAPE, start=start)

# %%
# Tables
# ------
# The same displays draw the columns of a table: numbers as lines or colours, categories
# by their names.

from skvae.datasets import load_penguins

penguins = load_penguins().data
table_model = VAETransformer(n_components=2, max_iter=150, random_state=0).fit(penguins)
_ = LatentTraversalDisplay.from_estimator(table_model)

# %%
# How much of a penguin goes through two numbers? Points near the line are columns that
# the latents carry; of categories the display counts what became of each.

_ = ReconstructionDisplay.from_estimator(table_model, penguins)

# %%
# One column over the latent plane:

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, name in zip(axes, ["body_mass_g", "island"], strict=True):
    LatentManifoldDisplay.from_estimator(table_model, feature=name, n_steps=40, ax=ax)
