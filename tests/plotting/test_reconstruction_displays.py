"""Displays of reconstructions and of labels, drawn on Agg."""

import warnings

import numpy as np
import pytest
from mixed_tables import CONTAINERS, LEVELS, make_mixed_table
from numpy.testing import assert_allclose, assert_array_equal
from small_models import SHAPE, fit

from skvae import VAETransformer
from skvae.plotting import (
    ConditionalGridDisplay,
    ReconstructionDisplay,
)

# ---------------------------------------------------------------------------
# Reconstruction
# ---------------------------------------------------------------------------


def test_reconstruction_of_images(images):
    model, X = images
    X = X.copy()
    X[1, 2] = np.nan
    display = ReconstructionDisplay.from_estimator(model, X, image_shape=SHAPE)
    assert_array_equal(display.original, X[:10].reshape(10, *SHAPE))
    expected = model.inverse_transform(model.transform(X[:10]))
    assert_allclose(display.reconstructed, expected.reshape(10, *SHAPE), rtol=1e-5)
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["original", "reconstruction"]
    chosen = ReconstructionDisplay.from_estimator(
        model, X, image_shape=SHAPE, rows=[7, 3]
    )
    assert_array_equal(chosen.original, X[[7, 3]].reshape(2, *SHAPE))


def test_reconstruction_of_columns(mixed):
    model, X = mixed
    display = ReconstructionDisplay.from_estimator(model, X)
    assert display.feature_names == list(X.columns)
    assert display.original.shape == display.reconstructed.shape == (60, 5)
    assert_array_equal(np.isnan(display.original[:, 0]), X["mass"].isna())
    assert_allclose(display.original[:, 4], X["visits"])
    made = model.inverse_transform(model.transform(X))
    assert_allclose(display.reconstructed[:, 0], made["mass"], rtol=1e-5)
    places = [LEVELS.index(value) for value in made["size"]]
    assert_array_equal(display.reconstructed[:, 2], places)
    assert np.isfinite(display.reconstructed).all()
    # of each original category, the shares of what became of it
    shares = display.axes_[2].images[0].get_array()
    assert_allclose(shares.sum(0), 1)
    known = X["size"].notna().to_numpy()
    low = known & (X["size"] == "low").to_numpy()
    assert_allclose(shares[:, 0], [(made["size"][low] == v).mean() for v in LEVELS])


@pytest.mark.parametrize("container", CONTAINERS)
def test_reconstruction_in_any_container(container):
    X = make_mixed_table(container)
    model = fit(VAETransformer(n_components=2), X)
    display = ReconstructionDisplay.from_estimator(model, X, rows=np.arange(9, 20))
    assert display.original.shape == (11, 5)
    assert display.categories[2:] == [LEVELS, [False, True], None]


def test_a_category_that_training_has_not_seen():
    X = make_mixed_table("pandas")
    seen = X[X["size"] != "high"].assign(size=lambda t: t["size"].astype(str))
    other = X.assign(size=X["size"].astype(str).where(X["size"].notna(), None))
    seen["size"] = seen["size"].astype("category")
    other["size"] = other["size"].astype("category")
    model = fit(VAETransformer(n_components=2), seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown categories count as missing
        display = ReconstructionDisplay.from_estimator(model, other, features="size")
    categories = display.categories[0]
    assert "high" in categories
    new = (display.original[:, 0] == categories.index("high")).sum()
    assert new == (other["size"] == "high").sum()
    assert (display.reconstructed[:, 0] != categories.index("high")).all()


def test_a_column_of_categories_that_was_empty_in_training():
    X = make_mixed_table("pandas")
    empty = X.assign(size=X["size"].mask(X["size"].notna()))
    model = fit(VAETransformer(n_components=2), empty)
    display = ReconstructionDisplay.from_estimator(model, X, features="size")
    assert display.categories == [LEVELS]
    assert_array_equal(np.isnan(display.original[:, 0]), X["size"].isna())
    assert np.isnan(display.reconstructed).all()
    assert not display.axes_[0].images[0].get_array().any()


def test_booleans_that_are_numbers(numbers):
    X = np.column_stack([numbers, numbers[:, 0] > 0])
    likelihood = {5: "bernoulli"}
    model = fit(VAETransformer(n_components=2, likelihood=likelihood), X)
    display = ReconstructionDisplay.from_estimator(model, X, features=[5])
    assert display.categories == [None]
    assert_array_equal(display.original[:, 0], X[:, 5])
    assert ((display.reconstructed > 0) & (display.reconstructed < 1)).all()


def test_reconstruction_with_the_predicted_label(labelled, images):
    X = images[1]
    display = ReconstructionDisplay.from_estimator(labelled, X, features=[1])
    plain = VAETransformer.inverse_transform(labelled, labelled.transform(X))
    assert_allclose(display.reconstructed[:, 0], plain[:, 1] + 100, rtol=1e-5)


@pytest.mark.parametrize("rows", [[40], [-1], [0.5], []])
def test_bad_rows(images, rows):
    model, X = images
    with pytest.raises(ValueError, match="rows must"):
        ReconstructionDisplay.from_estimator(model, X, rows=rows)


def test_categories_are_no_pixels(mixed):
    model, X = mixed
    with pytest.raises(ValueError, match="'island' holds categories"):
        ReconstructionDisplay.from_estimator(model, X, image_shape=(1, 5))


# ---------------------------------------------------------------------------
# Conditional grid
# ---------------------------------------------------------------------------


def test_conditional_grid(labelled):
    display = ConditionalGridDisplay.from_estimator(
        labelled, image_shape=SHAPE, n_rows=4, random_state=0
    )
    assert display.latents.shape == (4, 3)
    assert_array_equal(display.classes, ["a", "b", "c"])
    assert display.decoded.shape == (4, 3, *SHAPE)
    for row, z in zip(display.decoded, display.latents, strict=True):
        plain = VAETransformer.inverse_transform(labelled, [z]).reshape(SHAPE)
        for place in range(3):
            assert_allclose(row[place], plain + 100 * place, rtol=1e-4)
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["a", "b", "c"]
    again, other = (
        ConditionalGridDisplay.from_estimator(
            labelled, image_shape=SHAPE, n_rows=4, random_state=seed
        )
        for seed in (0, 1)
    )
    assert_array_equal(again.decoded, display.decoded)
    assert (other.latents != display.latents).all()


def test_conditional_grid_of_columns(labelled):
    latents = [[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]
    display = ConditionalGridDisplay.from_estimator(
        labelled, features=[1, 4], latents=latents, classes=["c", "a"]
    )
    assert_allclose(display.latents, latents)
    assert display.decoded.shape == (2, 2, 2)
    assert_allclose(display.decoded[:, 0] - display.decoded[:, 1], 200, rtol=1e-4)
    assert display.feature_names == ["x1", "x4"]
    assert_allclose(display.axes_[1].lines[0].get_ydata(), display.decoded[0, :, 1])


def test_conditional_grid_needs_labels(images, labelled):
    with pytest.raises(TypeError, match="with classes, such as VAEClassifier"):
        ConditionalGridDisplay.from_estimator(images[0], image_shape=SHAPE)
    with pytest.raises(ValueError, match="label 'z'; the model knows"):
        ConditionalGridDisplay.from_estimator(labelled, classes=["a", "z"])
    with pytest.raises(ValueError, match="latents must hold"):
        ConditionalGridDisplay.from_estimator(labelled, latents=[[0.0, 1.0]])
    with pytest.raises(ValueError, match="n_rows must be"):
        ConditionalGridDisplay.from_estimator(labelled, n_rows=0)
