"""
Digits of a class
=================

The decoder of a :class:`~skvae.VAEClassifier` takes a class and latent variables. The
latent variables hold what varies within a class: slant, width and weight of the stroke.
Here a hundred labels among 1,797 images are enough to draw new images of every digit.
"""

# %%
# Fit with ten labels of each digit
# ---------------------------------

import numpy as np
from sklearn.datasets import load_digits

from skvae import VAEClassifier

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(y))
labelled = np.concatenate([order[y[order] == digit][:10] for digit in range(10)])
few = np.full(len(y), -1)
few[labelled] = y[labelled]
model = VAEClassifier(8, max_iter=125, random_state=0).fit(X, few)
print(f"{model.n_labelled_} labels, accuracy on all rows {model.score(X, y):.1%}")

# %%
# New digits of given classes
# ---------------------------
# ``sample`` returns rows and their classes: the classes of ``y``, or, without ``y``,
# classes drawn from ``class_prior_``. Every column of the picture is a class.

import matplotlib.pyplot as plt

classes = np.tile(np.arange(10), 5)
images, labels = model.sample(y=classes, random_state=0)
figure, axes = plt.subplots(5, 10, figsize=(7, 3.7), layout="constrained")
for ax, image in zip(axes.flat, images, strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("0.8")
for ax, label in zip(axes[0], labels, strict=False):
    ax.set_title(str(label))

# %%
# The same latent variables for all digits
# ----------------------------------------
# All images of a row have the same latent variables and different classes. So the
# model has separated the style of writing from the digit.

from skvae.plotting import ConditionalGridDisplay

display = ConditionalGridDisplay.from_estimator(
    model, image_shape=(8, 8), n_rows=5, random_state=0
)

# %%
# The classes of drawn images
# ---------------------------
# The classifier predicts the class of images that the decoder drew. The diagonal
# counts the images for which both agree.

from sklearn.metrics import ConfusionMatrixDisplay

images, labels = model.sample(y=np.repeat(np.arange(10), 50), random_state=1)
ConfusionMatrixDisplay.from_predictions(
    labels, model.predict(images), cmap="Blues", colorbar=False
)
