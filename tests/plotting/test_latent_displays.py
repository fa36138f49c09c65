"""Displays of the prior: its quantiles, manifolds and traversals, drawn on Agg."""

import numpy as np
import pytest
import scipy.stats
from mixed_tables import LEVELS
from numpy.testing import assert_allclose, assert_array_equal
from small_models import SHAPE, fit

from skvae import VAETransformer
from skvae.plotting import (
    LatentManifoldDisplay,
    LatentTraversalDisplay,
)
from skvae.plotting._priors import move, prior_centre, prior_draws, quantiles
from skvae.plotting._traversal import _strongest


class Prior:
    """An estimator's latents alone."""

    def __init__(self, latent, n_components, **attributes):
        self.latent, self.n_components_ = latent, n_components
        self.__dict__.update(attributes)


# ---------------------------------------------------------------------------
# Quantiles of the prior
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latent", "prior", "law"),
    [
        ("normal", None, scipy.stats.norm()),
        ("normal", (1.0, 2.0), scipy.stats.norm(1, 2)),
        ("lognormal", (0.5, 0.3), scipy.stats.lognorm(0.3, scale=np.exp(0.5))),
        ("gamma", None, scipy.stats.expon()),
        ("gamma", {"rate": 2.0, "concentration": 3.0}, scipy.stats.gamma(3, scale=0.5)),
        ("gamma", {"rate": 2.0}, scipy.stats.gamma(1, scale=0.5)),
        ("beta", None, scipy.stats.uniform()),
        ("beta", (2.0, 5.0), scipy.stats.beta(2, 5)),
    ],
)
def test_quantiles_of_independent_latents(latent, prior, law):
    estimator = Prior(latent, 3, prior=prior)
    p = np.linspace(0.05, 0.95, 7)
    rows = quantiles(estimator, (2, 0), p)
    assert_allclose(rows, [law.ppf(p)] * 2)
    assert_allclose(prior_centre(estimator), [law.median()] * 3)
    draws = prior_draws(estimator, 2000, np.random.RandomState(0))
    assert draws.shape == (2000, 3)
    assert scipy.stats.kstest(draws.ravel(), law.cdf).pvalue > 1e-3


def test_parameters_by_component():
    estimator = Prior("gamma", 2, prior=([1.0, 4.0], 2.0))
    rows = quantiles(estimator, (1, 0), np.array([0.3]))
    expected = [scipy.stats.gamma(a, scale=0.5).ppf(0.3) for a in (4, 1)]
    assert_allclose(rows[:, 0], expected)
    assert_allclose(
        prior_centre(estimator), scipy.stats.gamma([1, 4], scale=0.5).median()
    )


def test_a_dirichlet_grid_is_the_prior():
    """Uniform probabilities of the shares give Dirichlet moments."""
    estimator = Prior("dirichlet", 3, prior=([2.0, 1.0, 3.0],))
    p = (np.arange(400) + 0.5) / 400
    first, second = quantiles(estimator, (2, 0), p)
    plane = np.stack(np.meshgrid(first, second), -1)
    Z = move(estimator, prior_centre(estimator), (2, 0), plane).reshape(-1, 3)
    assert_allclose(Z.sum(1), 1)
    mean = np.array([2, 1, 3]) / 6
    assert_allclose(Z.mean(0), mean, atol=1e-4)
    covariance = (np.diag(mean) - np.outer(mean, mean)) / (6 + 1)
    assert_allclose(np.cov(Z.T), covariance, atol=2e-4)


def test_dirichlet_latents_stay_on_the_simplex():
    estimator = Prior("dirichlet", 4)
    start = np.array([0.1, 0.2, 0.3, 0.4])
    Z = move(estimator, start, (1,), np.array([[0.6]]))[0]
    assert_allclose(Z, [0.05, 0.6, 0.15, 0.2])
    assert_allclose(prior_centre(estimator), 0.25)
    assert_allclose(prior_draws(estimator, 5, np.random.RandomState(0)).sum(1), 1)
    with pytest.raises(ValueError, match="at most 1 can be set"):
        move(Prior("dirichlet", 2), np.full(2, 0.5), (0, 1), np.array([[0.2, 0.3]]))


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_learned_priors_need_values(images, prior):
    estimator = Prior("normal", 2, prior=prior)
    with pytest.raises(ValueError, match=f"'{prior}' has no quantiles.*values of the"):
        quantiles(estimator, (0, 1), np.array([0.5]))
    with pytest.raises(ValueError, match="give start"):
        prior_centre(estimator)


# ---------------------------------------------------------------------------
# Manifold
# ---------------------------------------------------------------------------


def test_manifold_decodes_prior_quantiles(images):
    model, _ = images
    display = LatentManifoldDisplay.from_estimator(
        model, image_shape=SHAPE, components=(2, 0), n_steps=4
    )
    steps = scipy.stats.norm.ppf([0.125, 0.375, 0.625, 0.875])
    assert_allclose(display.values, [steps, steps])
    assert display.decoded.shape == (4, 4, *SHAPE)
    for up, across in ((0, 3), (2, 1)):  # component 2 across, 0 up, 1 at its median
        Z = [[steps[up], 0, steps[across]]]
        expected = model.inverse_transform(Z).reshape(SHAPE)
        assert_allclose(display.decoded[up, across], expected, rtol=1e-4)
    assert display.ax_.get_xlabel() == "latent component 2"
    assert display.ax_.get_ylabel() == "latent component 0"
    # low values of the vertical axis are below
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    from_above = steps[::-1][display.ax_.get_yticks()]
    assert labels == [f"{value:.2g}" for value in from_above]


def test_manifold_of_a_number_and_of_categories(mixed):
    model, _ = mixed
    values = [[-1.0, 0.0, 1.0], [0.5, 2.0]]
    Z = [[x, y] for y in values[1] for x in values[0]]
    table = model.inverse_transform(Z)
    number = LatentManifoldDisplay.from_estimator(model, feature="mass", values=values)
    assert number.categories is None
    assert_allclose(number.decoded, np.reshape(table["mass"], (2, 3)), rtol=1e-4)
    assert_array_equal(number.ax_.images[0].get_array(), number.decoded[::-1])
    kind = LatentManifoldDisplay.from_estimator(model, feature="size", values=values)
    assert kind.categories == LEVELS
    decoded = [LEVELS[int(place)] for place in kind.decoded.ravel()]
    assert decoded == table["size"].tolist()
    bar = kind.figure_.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == LEVELS
    flag = LatentManifoldDisplay.from_estimator(model, feature="flag", values=values)
    assert flag.categories == [False, True]


def test_start_of_a_manifold(images):
    model, _ = images
    start = [5.0, 6.0, 7.0]
    display = LatentManifoldDisplay.from_estimator(
        model, image_shape=SHAPE, values=([0.0], [1.0]), start=start
    )
    expected = model.inverse_transform([[0.0, 1.0, 7.0]]).reshape(SHAPE)
    assert_allclose(display.decoded[0, 0], expected, rtol=1e-5)


def test_manifold_of_a_model_with_labels(labelled):
    from_estimator = LatentManifoldDisplay.from_estimator
    a, c = (
        from_estimator(labelled, image_shape=SHAPE, n_steps=2, y=y) for y in ("a", "c")
    )
    assert_allclose(c.decoded - a.decoded, 200, rtol=1e-4)
    with pytest.raises(ValueError, match="give y, one of"):
        from_estimator(labelled, image_shape=SHAPE)
    with pytest.raises(ValueError, match="y has the label 'd'"):
        from_estimator(labelled, image_shape=SHAPE, y="d")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either image_shape, for images, or feature"),
        ({"image_shape": SHAPE, "feature": 0}, "either image_shape"),
        ({"image_shape": (2, 4)}, "with 6 pixel values"),
        ({"image_shape": (6,)}, "with 6 pixel values"),
        ({"feature": "y"}, "no feature 'y'"),
        ({"feature": 0, "components": (0, 3)}, "components must be 2 different"),
        ({"feature": 0, "components": (1, 1)}, "components must be 2 different"),
        ({"feature": 0, "components": (0, 1, 2)}, "components must be 2 different"),
        ({"feature": 0, "n_steps": 1}, "n_steps must be an int of at least 2"),
        ({"feature": 0, "values": [[0.0, 1.0]]}, "values must be a pair"),
        ({"feature": 0, "values": ([], [1.0])}, "values must hold finite"),
        ({"feature": 0, "start": [0.0, 1.0]}, "start must hold"),
        ({"feature": 0, "y": "a"}, "has no classes"),
    ],
)
def test_bad_arguments_of_a_manifold(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentManifoldDisplay.from_estimator(images[0], **arguments)


def test_a_manifold_needs_two_latents(numbers):
    model = fit(VAETransformer(n_components=1), numbers)
    with pytest.raises(ValueError, match="use LatentTraversalDisplay"):
        LatentManifoldDisplay.from_estimator(model, feature=0)


# ---------------------------------------------------------------------------
# Traversal
# ---------------------------------------------------------------------------


def test_traversal_moves_one_latent_at_a_time(images):
    model, _ = images
    start = np.array([0.3, -0.2, 0.1])
    display = LatentTraversalDisplay.from_estimator(
        model, image_shape=SHAPE, components=[2, 0], n_steps=5, start=start
    )
    assert display.components == (2, 0)
    steps = np.linspace(-2.5, 2.5, 5)
    assert_allclose(display.values, [steps, steps])
    assert display.decoded.shape == (2, 5, *SHAPE)
    Z = np.repeat(start[None], 5, axis=0)
    Z[:, 2] = steps
    expected = model.inverse_transform(Z).reshape(5, *SHAPE)
    assert_allclose(display.decoded[0], expected, rtol=1e-4, atol=1e-5)
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["component 2", "component 0"]
    assert display.axes_ is None


def test_the_strongest_latents_come_first(images):
    model, _ = images
    display = LatentTraversalDisplay.from_estimator(model, image_shape=SHAPE)
    strength = display.decoded.var(1).sum((1, 2))
    assert sorted(display.components) == [0, 1, 2]
    assert (np.diff(strength) <= 0).all()


def test_columns_without_values_leave_the_order_alone():
    decoded = np.full((3, 5, 2), np.nan)
    decoded[..., 0] = np.outer([1, 3, 2], np.arange(5.0))
    assert_array_equal(_strongest(decoded, is_image=False), [1, 2, 0])


def test_traversal_of_columns_that_were_empty_in_training(mixed):
    _, X = mixed
    X = X.assign(nothing=np.nan)
    X["no size"] = X["size"].mask(X["size"].notna())
    display = LatentTraversalDisplay.from_estimator(
        fit(VAETransformer(n_components=2), X)
    )
    assert np.isnan(display.decoded[..., 5:]).all()
    assert display.categories[5:] == [None, LEVELS]


def test_traversal_of_columns(mixed):
    model, _ = mixed
    display = LatentTraversalDisplay.from_estimator(
        model, features=["size", "mass"], components=1, values=[-1.0, 0.0, 2.0]
    )
    assert display.feature_names == ["size", "mass"]
    assert display.categories == [LEVELS, None]
    table = model.inverse_transform([[0.0, v] for v in (-1.0, 0.0, 2.0)])
    assert_allclose(display.decoded[0, :, 1], table["mass"], rtol=1e-5)
    sizes = [LEVELS[int(place)] for place in display.decoded[0, :, 0]]
    assert sizes == table["size"].tolist()
    size, mass = display.axes_
    assert [text.get_text() for text in size.get_yticklabels()] == LEVELS
    assert_allclose(mass.lines[0].get_ydata(), display.decoded[0, :, 1])
    assert mass.get_title() == "mass"
    everything = LatentTraversalDisplay.from_estimator(model)
    assert everything.feature_names == ["mass", "island", "size", "flag", "visits"]


def test_traversal_with_a_label(labelled):
    displays = [
        LatentTraversalDisplay.from_estimator(labelled, components=0, y=y)
        for y in ("a", "b")
    ]
    difference = displays[1].decoded - displays[0].decoded
    assert_allclose(difference, 100, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": []}, "components must be different latent variables"),
        ({"components": 3}, "between 0 and 2"),
        ({"components": [0.5]}, "components must be"),
        ({"n_steps": 1}, "n_steps must be an int of at least 2"),
        ({"values": [np.nan]}, "values must hold finite"),
        ({"features": []}, "features is empty"),
        ({"features": ["x9"]}, "no feature 'x9'"),
    ],
)
def test_bad_arguments_of_a_traversal(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentTraversalDisplay.from_estimator(images[0], **arguments)


def test_pictures_are_of_the_prior_of_the_last_fit():
    X = np.random.default_rng(0).normal(size=(40, 3))
    vae = VAETransformer(2, max_iter=1, latent="gamma", random_state=0).fit(X)
    centre = prior_centre(vae)
    vae.set_params(latent="normal")
    assert_allclose(prior_centre(vae), centre)
    assert (centre > 0).all()
