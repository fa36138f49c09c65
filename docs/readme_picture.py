"""Draw the picture of the README (`make picture`)."""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skvae import VAETransformer
from skvae.datasets import load_penguins

SPECIES_COLORS = {"Adelie": "#d55e00", "Chinstrap": "#7b3f99", "Gentoo": "#007a87"}
COLUMNS = 7


def main():
    figure = plt.figure(figsize=(12, 3.7), layout="constrained")
    latent, table, images = figure.subfigures(1, 3, width_ratios=[1, 1, 1.15])
    draw_penguins(latent.subplots(), table.subplots())
    draw_digits(images)
    figure.savefig(sys.argv[1], dpi=130)


def draw_penguins(latent, table):
    """Draw the latents of the penguins, and real beside sampled rows."""
    X, species = load_penguins(return_X_y=True)
    model = VAETransformer(n_components=2, random_state=0).fit(X)
    Z = model.transform(X)
    for name, color in SPECIES_COLORS.items():
        here = (species == name).to_numpy()
        latent.scatter(*Z[here].T, s=14, color=color, alpha=0.75, lw=0, label=name)
    latent.legend(
        frameon=False, handletextpad=0, columnspacing=1, ncols=3, loc="upper center"
    )
    latent.margins(y=0.14)
    latent.set(
        title="Penguins: two latent numbers",
        xlabel="latent component 0",
        ylabel="latent component 1",
    )
    sampled = model.sample(len(X), random_state=0)
    for rows, label, style in [
        (X, "real", {"color": "0.7", "lw": 0}),
        (sampled, "sampled", {"color": "#007a87", "alpha": 0.7, "lw": 0}),
    ]:
        table.scatter(
            rows["flipper_length_mm"], rows["bill_depth_mm"], s=16, label=label, **style
        )
    table.legend(frameon=False, handletextpad=0.1)
    table.set(
        title="Penguins: real and sampled",
        xlabel="flipper length (mm)",
        ylabel="bill depth (mm)",
    )
    for ax in (latent, table):
        ax.spines[["top", "right"]].set_visible(False)


def draw_digits(figure):
    """Draw held-out digits, their reconstructions, and decoded draws of the prior."""
    X_train, X_test = train_test_split(
        load_digits().data, test_size=0.2, random_state=0
    )
    model = VAETransformer(random_state=0).fit(X_train)
    shape = (2 * COLUMNS, model.n_components_)
    prior = np.random.default_rng(0).standard_normal(shape)
    given = X_test[: 2 * COLUMNS]
    rebuilt = model.inverse_transform(model.transform(given))
    rows = [given[:COLUMNS], rebuilt[:COLUMNS], given[COLUMNS:], rebuilt[COLUMNS:]]
    rows += np.split(model.inverse_transform(prior), 2)
    axes = figure.subplots(len(rows), COLUMNS)
    labels = ["held out", "rebuilt", "held out", "rebuilt", "from prior", ""]
    for row, images, label in zip(axes, rows, labels, strict=True):
        for ax, image in zip(row, images, strict=True):
            ax.imshow(np.reshape(image, (8, 8)), cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("0.8")
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle("Digits", fontsize="large")


if __name__ == "__main__":
    main()
