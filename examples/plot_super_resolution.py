"""
Super-resolution of digits
==========================

The features are sixteen numbers, the means over blocks of two by two pixels of an
image. The outputs are its 64 pixels. A regression predicts the mean of all possible
images. :class:`~skvae.VAERegressor` learns their distribution: its mean, the standard
deviation of each pixel, and images drawn from it.
"""

# %%
# Coarse and fine images
# ----------------------
# ``image_shape`` declares that the outputs are the pixels of an image. The sixteen
# features are then recognised as a smaller image.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV

from skvae import VAERegressor

fine = load_digits().data.astype(np.float32)
coarse = fine.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
n_train = 1500
model = VAERegressor(
    16,
    image_shape=(8, 8),
    hidden_layer_sizes=(256,),
    activation="silu",
    learning_rate_init=2e-3,
    max_iter=60,
    random_state=0,
)
model.fit(coarse[:n_train], fine[:n_train])
X_test, y_test = coarse[n_train:], fine[n_train:]

# %%
# The mean against ridge regression
# ---------------------------------
# The peak signal-to-noise ratio (PSNR) measures the error of an image in decibels.


def psnr(guess):
    error = np.square(guess - y_test).mean(axis=1)
    return float(np.mean(10 * np.log10(16**2 / error)))


ridge = RidgeCV(np.logspace(-3, 3, 7)).fit(coarse[:n_train], fine[:n_train])
nearest = X_test.reshape(-1, 4, 4).repeat(2, axis=1).repeat(2, axis=2).reshape(-1, 64)
mean, deviation = model.predict(X_test, return_std=True)
for name, guess in {
    "nearest pixel": nearest,
    "ridge regression": ridge.predict(X_test),
    "VAERegressor, mean": mean,
    "VAERegressor, one draw": model.sample(X_test, random_state=0)[0],
}.items():
    print(f"{name:24} {psnr(guess):5.2f} dB")

# %%
# The squared error of a draw is about twice that of the mean, which is 3 dB: this holds
# for draws from the right distribution. A draw looks like a digit, the mean like an
# average of digits.
#
# Means, deviations and draws
# ---------------------------
# ``add_noise=False`` leaves out the noise of single pixels, and a ``temperature`` below
# one keeps draws closer to the centre.

import matplotlib.pyplot as plt

COLUMNS = 10
options = {"random_state": 1, "add_noise": False}
draws = model.sample(X_test[:COLUMNS], n_draws=2, **options)
rows = {
    "features": (X_test, 4),
    "truth": (y_test, 8),
    "ridge": (ridge.predict(X_test), 8),
    "mean": (mean, 8),
    "deviation": (3 * deviation, 8),
    "draw": (draws[0], 8),
    "another draw": (draws[1], 8),
}
figure, axes = plt.subplots(len(rows), COLUMNS, figsize=(9, 6.5), layout="constrained")
for row, (title, (images, size)) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, images[:COLUMNS], strict=True):
        ax.imshow(image.reshape(size, size), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    row[0].set_ylabel(title, rotation=0, ha="right", va="center")

# %%
# Are the intervals right?
# ------------------------
# Of the pixels that vary, about nine in ten should lie in intervals of 90%.

lower, upper = model.predict_interval(X_test, coverage=0.9)
inside = (lower <= y_test) & (y_test <= upper)
varied = fine[:n_train].std(axis=0) > 1
print(f"covered: {inside[:, varied].mean():.1%}")
