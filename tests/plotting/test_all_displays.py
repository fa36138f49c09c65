"""What all displays share: mosaics, axes, and estimators that will not do."""

import builtins
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from small_models import SHAPE

from skvae import VAEImputer, VAETransformer
from skvae.plotting import (
    LatentManifoldDisplay,
    LatentScatterDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skvae.plotting._axes import MAX_TICKS, MISSING_PIXEL, few, plot_mosaic

# ---------------------------------------------------------------------------
# Mosaic and axes
# ---------------------------------------------------------------------------


def test_mosaic():
    images = np.linspace(0, 1, 2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    images[0, 1, 0, 0] = np.nan
    ax = plot_mosaic(None, images, vmin=0, vmax=1)
    canvas = np.asarray(ax.images[0].get_array())
    assert canvas.shape == (2 * 3, 3 * 5, 4)  # a gap of one pixel
    assert_allclose(canvas[0, 5], MISSING_PIXEL)
    assert_allclose(canvas[2], 1)
    assert_allclose(canvas[:, 4], 1)
    white_to_black = canvas[..., 0]
    assert white_to_black[0, 0] == 1 and white_to_black[4, 13] == 0
    # the centre of an image is at a whole number
    left, right, bottom, top = ax.images[0].get_extent()
    assert left + 2 / 5 * (right - left) / 3 == pytest.approx(0)
    assert top + 1 / 3 * (bottom - top) / 2 == pytest.approx(0)
    assert_array_equal(ax.get_xticks(), [0, 1, 2])


def test_colour_images():
    images = np.zeros((1, 1, 2, 2, 3))
    images[0, 0, 0, 0] = 255, 0, 51
    canvas = plot_mosaic(None, images, vmin=0, vmax=255).images[0].get_array()
    assert_allclose(canvas[0, 0], [1, 0, 0.2, 1])
    assert_allclose(canvas[1, 1], [0, 0, 0, 1])


def test_images_of_one_grey():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot_mosaic(None, np.full((1, 2, 3, 3), 5.0))
    canvas = np.asarray(ax.images[0].get_array())
    assert canvas.shape == (4, 8, 4)  # a gap of one pixel
    assert len(np.unique(canvas[:3, [0, 1, 2, 4, 5, 6]].reshape(-1, 4), axis=0)) == 1
    assert not (canvas[0, 0] == MISSING_PIXEL).all()


@pytest.mark.parametrize("n", [1, 2, 7, 15, 100])
def test_few_places_lie_evenly(n):
    places = few(n)
    assert 1 <= len(places) <= MAX_TICKS
    assert places[0] >= 0 and places[-1] < n
    assert len(set(np.diff(places))) <= 1
    assert (n - 1) // 2 in places


def test_axes_that_are_given(images, mixed):
    model, X = images
    figure, axes = plt.subplots(1, 2)
    display = LatentScatterDisplay.from_estimator(model, X, ax=axes[1])
    assert display.ax_ is axes[1] and display.figure_ is figure
    display = ReconstructionDisplay.from_estimator(
        model, X, image_shape=SHAPE, ax=axes[0]
    )
    assert display.ax_ is axes[0] and display.axes_ is None
    divided = LossCurveDisplay.from_estimator(model, ax=plt.subplots(1, 2)[1][0])
    assert len(divided.axes_) == 4
    _, four = plt.subplots(2, 2)
    assert (LossCurveDisplay.from_estimator(model, ax=four).axes_ == four.ravel()).all()
    with pytest.raises(ValueError, match="4 panels, but ax holds 2"):
        LossCurveDisplay.from_estimator(model, ax=axes)
    alone = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="not part of a grid"):
        LossCurveDisplay.from_estimator(model, ax=alone)


# ---------------------------------------------------------------------------
# Estimators that will not do
# ---------------------------------------------------------------------------

DRAW = {
    "loss": lambda model, X: LossCurveDisplay.from_estimator(model),
    "scatter": lambda model, X: LatentScatterDisplay.from_estimator(model, X),
    "manifold": lambda model, X: LatentManifoldDisplay.from_estimator(model, feature=0),
    "traversal": lambda model, X: LatentTraversalDisplay.from_estimator(model),
    "reconstruction": lambda model, X: ReconstructionDisplay.from_estimator(model, X),
}


@pytest.mark.parametrize("name", DRAW)
def test_unfitted(name, images):
    with pytest.raises(NotFittedError):
        DRAW[name](VAETransformer(), images[1])


@pytest.mark.parametrize("name", sorted(set(DRAW) - {"loss"}))
def test_imputers_have_no_latents_to_draw(name, images):
    imputer = VAEImputer(hidden_layer_sizes=()).fit(images[1])
    with pytest.raises(TypeError, match="such as VAETransformer, but got VAEImputer"):
        DRAW[name](imputer, images[1])


@pytest.mark.parametrize("name", sorted(set(DRAW) - {"scatter"}))
def test_other_libraries(name, images):
    X = images[1]
    pca = PCA(2).fit(X)
    pca.kl_weight = 1.0  # a parameter of that name makes no estimator of skvae
    with pytest.raises(TypeError, match="but got PCA"):
        DRAW[name](pca, X)


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib(monkeypatch, images, name):
    real_import = builtins.__import__

    def refuse(module, *args, **kwargs):
        if module.startswith("matplotlib"):
            raise ImportError(module)
        return real_import(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"from_estimator needs matplotlib.*pip"):
        DRAW[name](*images)


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_changed(images, name):
    model, X = images
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    attributes, rows = dict(vars(model)), X.copy()
    DRAW[name](model, X)
    assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert vars(model) == attributes
    assert_array_equal(X, rows)
