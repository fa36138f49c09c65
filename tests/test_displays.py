"""Displays of latents, reconstructions and trainings: their arrays, drawn on Agg."""

import builtins
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from conftest import CONTAINERS, LEVELS, make_mixed_table
from skvae import VAEImputer, VAETransformer
from skvae.plotting import (
    ConditionalGridDisplay,
    LatentManifoldDisplay,
    LatentScatterDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skvae.plotting._axes import MISSING_PIXEL, few, plot_mosaic
from skvae.plotting._latents import move, prior_centre, prior_draws, quantiles
from skvae.plotting._scatter import _as_array

SHAPE = (2, 3)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    """Return a model of small images, and the images as rows."""
    X = np.random.default_rng(0).normal(size=(40, 2)) @ np.arange(12.0).reshape(2, 6)
    return fit(VAETransformer(n_components=3), X), X


@pytest.fixture(scope="module")
def mixed():
    """Return a model of the mixed pandas table, and the table."""
    X = make_mixed_table("pandas")
    return fit(VAETransformer(n_components=2), X), X


def fit(model, X):
    model.set_params(hidden_layer_sizes=(8,), max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three epochs do not converge
        return model.fit(X)


class Labelled(VAETransformer):
    """A stand-in for a model of labels, which shift every column by their place."""

    @property
    def classes_(self):
        return np.array(["a", "b", "c"])

    def predict(self, X):
        return np.repeat("b", len(X))

    def decode(self, Z, y):
        shift = np.searchsorted(self.classes_, y)
        return super().inverse_transform(Z) + 100 * shift[:, None]


@pytest.fixture(scope="module")
def labelled(images):
    return fit(Labelled(n_components=3), images[1])


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
    law = scipy.stats.dirichlet([2, 1, 3])
    assert_allclose(Z.mean(0), law.mean(), atol=1e-4)
    assert_allclose(np.cov(Z.T), law.cov(), atol=2e-4)


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


# ---------------------------------------------------------------------------
# Scatter
# ---------------------------------------------------------------------------
@pytest.mark.parametrize("container", CONTAINERS)
def test_scatter(container):
    X = make_mixed_table(container)
    model = fit(VAETransformer(n_components=3), X)
    display = LatentScatterDisplay.from_estimator(
        model, X, X["island"], components=(2, 0)
    )
    Z = model.transform(X)
    assert_array_equal(display.latents, Z[:, [2, 0]])
    assert_array_equal(display.classes_, ["Biscoe", "Dream", "Torgersen"])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["unknown", "Biscoe", "Dream", "Torgersen"]
    drawn = [np.asarray(c.get_offsets()) for c in display.ax_.collections]
    assert sum(map(len, drawn)) == 60
    names = make_mixed_table("pandas")["island"]
    assert_allclose(drawn[2], Z[(names == "Dream").to_numpy()][:, [2, 0]])
    assert display.ax_.get_xlabel() == "latent component 2"


def test_scatter_of_numbers_and_of_nothing(images):
    model, X = images
    numbers = np.linspace(0, 1, 40)
    numbers[0] = np.nan
    display = LatentScatterDisplay.from_estimator(model, X, numbers)
    assert display.classes_ is None
    assert_allclose(display.ax_.collections[1].get_array(), numbers[1:])
    plain = LatentScatterDisplay.from_estimator(model, X)
    assert plain.ax_.get_legend() is None
    few_labels = LatentScatterDisplay.from_estimator(model, X, np.arange(40) % 3)
    assert_array_equal(few_labels.classes_, [0, 1, 2])
    some = np.where(numbers < 0.5, 1.0, np.nan)
    labels = LatentScatterDisplay.from_estimator(model, X, some).ax_.get_legend()
    assert [text.get_text() for text in labels.get_texts()] == ["unknown", "1"]
    mixture = np.array([10, 9, "b", True] * 10, dtype=object)
    assert len(LatentScatterDisplay.from_estimator(model, X, mixture).classes_) == 4


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0, 1], "i"), ([0, None], "f"), ([0.5, 1.5], "f"), ([True, None], "O")],
)
def test_labels_keep_their_kind(container, labels, kind):
    series = {
        "pandas": lambda pd: pd.Series(labels),
        "polars": lambda pl: pl.Series(labels),
        "pyarrow": lambda pa: pa.chunked_array([labels]),
    }[container](pytest.importorskip(container))
    array = _as_array(series)
    assert array.dtype.kind == kind
    assert_array_equal(array[:1], labels[:1])


def test_scatter_of_another_transformer(images):
    _, X = images
    pca = PCA(2).fit(X)
    display = LatentScatterDisplay.from_estimator(pca, X)
    assert_array_equal(display.latents, pca.transform(X))


def test_bad_y(images):
    model, X = images
    with pytest.raises(ValueError, match=r"y must have the shape \(40,\)"):
        LatentScatterDisplay.from_estimator(model, X, np.zeros(39))


# ---------------------------------------------------------------------------
# Loss curve
# ---------------------------------------------------------------------------
def test_loss_curve(images):
    model, _ = images
    display = LossCurveDisplay.from_estimator(model)
    for name in ("objective", "reconstruction", "kl", "active_units"):
        assert_array_equal(getattr(display, name), model.history_[name])
    assert_array_equal(display.validation, model.validation_scores_)
    assert display.kept == model.best_validation_score_
    objective, reconstruction, kl, units = display.axes_
    training, validation, kept = objective.lines
    assert_array_equal(training.get_xdata(), [1, 2, 3])
    assert_allclose(training.get_ydata(), display.objective)
    assert_allclose(validation.get_ydata(), display.validation)
    assert_allclose(kept.get_ydata(), display.kept)
    assert_allclose(reconstruction.lines[0].get_ydata(), display.reconstruction)
    assert_allclose(kl.lines[0].get_ydata(), display.kl)
    assert_allclose(units.lines[0].get_ydata(), display.active_units)


def test_loss_curve_without_validation_rows(images):
    _, X = images
    model = fit(VAETransformer(n_components=2, early_stopping=False), X)
    display = LossCurveDisplay.from_estimator(model)
    assert display.validation is None
    assert len(display.axes_[0].lines) == 1


def test_scores_of_a_warm_start_belong_to_the_last_epochs():
    display = LossCurveDisplay(
        objective=[-9, -5, -4, -3],
        reconstruction=[-8, -4, -3, -2],
        kl=[1, 1, 1, 1],
        active_units=[0, 1, 1, 2],
        validation=[-4.5, -3.5],
    ).plot()
    assert_array_equal(display.axes_[0].lines[1].get_xdata(), [3, 4])


def test_a_bad_start_does_not_flatten_the_curve():
    objective = np.concatenate([[-1e6], -10 / np.arange(1.0, 60)])
    parts = dict.fromkeys(["objective", "reconstruction", "kl"], objective)
    display = LossCurveDisplay(**parts, active_units=[1] * 60).plot()
    low, high = display.axes_[0].get_ylim()
    # of 60 epochs the first two may be out of sight
    assert -7 < low < -5 and -0.2 < high < 3


def test_loss_curve_of_an_imputer(images):
    X = images[1].copy()
    X[::3, 1] = np.nan
    imputer = fit(VAEImputer(), X)
    display = LossCurveDisplay.from_estimator(imputer)
    assert_array_equal(display.objective, imputer.history_["objective"])


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
    plot_mosaic(None, np.zeros((1, 2, 3, 3)))


@pytest.mark.parametrize(("n", "most"), [(1, 7), (2, 7), (7, 7), (15, 7), (100, 7)])
def test_few_places_lie_evenly(n, most):
    places = few(n, most)
    assert 1 <= len(places) <= most
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
    with pytest.raises(TypeError, match="but got PCA"):
        DRAW[name](PCA(2).fit(X), X)


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
