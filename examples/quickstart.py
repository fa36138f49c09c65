"""Train on two real data sets, print the results, and write pictures.

Run by ``make quickstart``. By hand: ``python examples/quickstart.py FOLDER``.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skvae import VAEImputer, VAETransformer
from skvae.datasets import ampute, load_penguins

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SPECIES_COLORS = {"Adelie": "#d55e00", "Chinstrap": "#7b3f99", "Gentoo": "#007a87"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("quickstart"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    print("\n1. Penguins: a mixed table with missing cells")
    print("---------------------------------------------")
    penguins(folder)
    print("\n2. The same table with 30% more of its cells missing")
    print("---------------------------------------------------")
    missing_cells()
    print("\n3. Digits: 1797 small images")
    print("----------------------------")
    digits(folder)
    print(f"\nThe pictures are in {folder}/. Next: README.md and `make docs`.")


def penguins(folder):
    """Learn from six columns of four kinds, without the species."""
    X, species = load_penguins(return_X_y=True)
    print(
        f"{X.shape[0]} rows, {X.shape[1]} columns, {int(X.isna().sum().sum())} missing "
        "cells. The model is trained without the species."
    )
    X_train, X_test, y_train, y_test = train_test_split(
        X, species, test_size=0.3, random_state=0, stratify=species
    )
    model = timed_fit(VAETransformer(random_state=0), X_train)
    for column, likelihood in model.likelihood_.items():
        print(f"  {column:18s} {likelihood}")

    linear = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(), ["island", "sex"]),
            remainder=make_pipeline(SimpleImputer(), StandardScaler()),
        ),
        PCA(model.n_components_, random_state=0),
    ).fit(X_train)
    compare_species(model, linear, X_train, X_test, y_train, y_test)

    print(f"Log-likelihood of held-out rows: {model.score(X_test):.2f} nats per row.")
    odd = X_test.iloc[[int(np.argmin(model.score_samples(X_test)))]]
    print("The most unusual held-out row:")
    print(indent(odd.to_string(index=False)))
    print("Three rows drawn from the model:")
    print(indent(model.sample(3, random_state=0).round(1).to_string(index=False)))
    draw_penguins(model, X, species, folder / "penguins.png")


def compare_species(model, linear, X_train, X_test, y_train, y_test):
    """Print the accuracy of a linear classifier of the species, on ours and PCA."""
    print(f"Species found by logistic regression from {model.n_components_} numbers:")
    for name, reducer in {"VAETransformer": model, "PCA (one-hot)": linear}.items():
        accuracy = latent_accuracy(reducer, X_train, X_test, y_train, y_test)
        print(f"  {name:18s} {accuracy:6.1%} of the held-out rows")


def missing_cells():
    """Mask cells of training and of test rows, and complete the test rows."""
    X, _ = load_penguins(return_X_y=True)
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=0)
    train, test = (ampute(part, random_state=0) for part in (X_train, X_test))
    numbers = X.select_dtypes("number").columns.tolist()
    imputer = VAEImputer(random_state=0)
    start = time.perf_counter()
    imputer.fit(train)
    print(f"Trained in {time.perf_counter() - start:.1f} s.")
    lower, upper = imputer.predict_interval(test, coverage=0.9)
    completed = {
        "mean": SimpleImputer(),
        "IterativeImputer": IterativeImputer(max_iter=100),
    }
    completed = {
        name: peer.fit(train[numbers]).transform(test[numbers])
        for name, peer in completed.items()
    }
    completed["VAEImputer"] = imputer.transform(test)[numbers].to_numpy()
    masked = (test.isna() & X_test.notna())[numbers].to_numpy()
    truth, deviation = X_test[numbers].to_numpy(), X_train[numbers].std().to_numpy()
    print("Root mean squared error of masked numbers, in standard deviations:")
    for name, values in completed.items():
        error = ((values - truth) / deviation)[masked]
        print(f"  {name:18s} {np.sqrt(np.mean(error**2)):6.2f}")
    inside = (lower[numbers] <= truth) & (truth <= upper[numbers])
    share = inside.to_numpy()[masked].mean()
    print(f"Intervals of 90% cover {share:.0%} of them.")


def digits(folder):
    """Learn from grey values, without the labels."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.2, random_state=0, stratify=y
    )
    # one noise scale for all pixels, as in PCA
    model = VAETransformer(8, likelihood="normal_isotropic", random_state=0)
    timed_fit(model, X_train)
    k = model.n_components_
    linear = PCA(k, random_state=0).fit(X_train)
    print(f"Digit found by logistic regression from {k} numbers:")
    for name, reducer in {"VAETransformer": model, "PCA": linear}.items():
        accuracy = latent_accuracy(reducer, X_train, X_test, y_train, y_test)
        print(f"  {name:18s} {accuracy:6.1%} of the held-out images")
    error = {
        "VAETransformer": model.inverse_transform(model.transform(X_test)) - X_test,
        "PCA": linear.inverse_transform(linear.transform(X_test)) - X_test,
    }
    print("Root mean squared error of the reconstruction (grey values are 0 to 16;")
    print("no linear map to as many numbers has less than PCA on the training rows):")
    for name, difference in error.items():
        print(f"  {name:18s} {np.sqrt(np.mean(difference**2)):6.2f}")
    draw_digits(model, X_test, folder / "digits.png")


def timed_fit(model, X):
    """Fit, and print the time."""
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    print(
        f"Trained {model.n_iter_} epochs in {seconds:.1f} s: "
        f"{model.n_components_} latent components."
    )
    return model


def latent_accuracy(reducer, X_train, X_test, y_train, y_test):
    """Return the held-out accuracy of logistic regression on a representation."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(reducer.transform(X_train), y_train)
    return classifier.score(reducer.transform(X_test), y_test)


def draw_penguins(model, X, species, path):
    """Draw the latent space, and sampled rows beside the real ones."""
    Z = PCA(2).fit_transform(model.transform(X))
    sampled = model.sample(len(X), random_state=0)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for name, color in SPECIES_COLORS.items():
        here = (species == name).to_numpy()
        axes[0].scatter(*Z[here].T, s=14, color=color, alpha=0.75, lw=0, label=name)
    axes[0].legend(frameon=False, handletextpad=0)
    axes[0].set(
        title="latent space, species shown afterwards",
        xlabel="first principal axis of the latents",
        ylabel="second",
    )
    for ax, table, title in zip(
        axes[1:], [X, sampled], ["real", "sampled"], strict=True
    ):
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
        ax.set(title=title, xlabel="flipper length (mm)", ylabel="bill depth (mm)")
    axes[1].legend(frameon=False, handletextpad=0)
    axes[2].sharex(axes[1])
    axes[2].sharey(axes[1])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_digits(model, X_test, path):
    """Draw held-out images, their reconstructions, and decoded draws of the prior."""
    columns = 14
    prior = np.random.default_rng(0).standard_normal((columns, model.n_components_))
    rows = {
        "held-out image": X_test[:columns],
        "reconstruction": model.inverse_transform(model.transform(X_test[:columns])),
        "from the prior": model.inverse_transform(prior),
    }
    figure, axes = plt.subplots(3, columns, figsize=(10, 2.5), layout="constrained")
    for row, (title, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(row, images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("0.8")
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
    save(figure, path)


def save(figure, path):
    """Write a figure and print its path."""
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"Picture: {path}")


def indent(text):
    """Return the text moved to the right by two spaces."""
    return "\n".join("  " + line for line in text.splitlines())


if __name__ == "__main__":
    main()
