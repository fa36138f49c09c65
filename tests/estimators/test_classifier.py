"""VAEClassifier: classes, draws of a class, densities and latents."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from short_classifiers import OBJECTIVES, SHORT
from sklearn.datasets import load_digits

from skvae import VAEClassifier
from skvae._density.evidence import log_jacobian
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.vae import VAE
from skvae.plotting import ConditionalGridDisplay


@pytest.fixture(scope="module", params=OBJECTIVES)
def fitted(request, blobs):
    """A model of each kind, trained well enough to tell clusters apart."""
    X, few, _ = blobs
    vae = VAEClassifier(
        2, objective=request.param, hidden_layer_sizes=(32,), random_state=0
    )
    vae.set_params(max_iter=150, batch_size=60, learning_rate_init=0.02)
    return vae.fit(X, few)


# -- learning ------------------------------------------------------------------------


def test_clusters_are_told_apart(fitted, blobs):
    X, _, y = blobs
    assert fitted.score(X, y) > 0.95
    proba = fitted.predict_proba(X)
    assert proba.shape == (120, 3) and proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(
        fitted.predict(X), fitted.classes_[proba.argmax(axis=1)]
    )
    np.testing.assert_allclose(fitted.class_prior_, 1 / 3)
    assert fitted.n_labelled_ == 6


def test_rows_of_a_class_look_like_it(fitted, blobs):
    X, _, y = blobs
    centres = np.stack([X[y == label].mean(axis=0) for label in range(3)])
    for label in range(3):
        rows, drawn = fitted.sample(300, y=label, random_state=0)
        assert drawn.tolist() == [label] * 300
        distance = np.linalg.norm(centres - rows.mean(axis=0), axis=1)
        assert distance.argmin() == label
        if fitted.objective in ("m2", "shot"):  # which have a decoder by class
            assert distance[label] < 1.5  # the centres are some 10 apart
            assert fitted.score(rows, drawn) > 0.8


def test_densities_are_near_those_of_the_mixture(fitted, blobs):
    """Against the mixture of normals that the clusters were drawn from."""
    X, _, y = blobs
    centres = np.stack([X[y == label].mean(axis=0) for label in range(3)])
    squares = np.square(X[:, None] - centres).sum(-1)
    exact = np.logaddexp.reduce(-0.5 * squares, axis=1) - np.log(3)
    exact -= 1.5 * np.log(2 * np.pi)
    found = fitted.score_samples(X)
    assert found.shape == (120,) and found.dtype == np.float64
    # one decoder by class fits three clusters, a single N(0, I) only nearly
    near = 0.6 if fitted.objective in ("m2", "shot") else 2.0
    assert abs(found.mean() - exact.mean()) < near
    far = fitted.score_samples(X + 30)
    assert (far < found).all()


def test_latents(fitted, blobs):
    X, _, _ = blobs
    latents = fitted.transform(X)
    assert latents.shape == (120, 2) and latents.dtype == np.float32
    assert fitted.get_feature_names_out().tolist() == [
        "vaeclassifier0",
        "vaeclassifier1",
    ]
    np.testing.assert_allclose(fitted.transform(X[:5]), latents[:5], atol=1e-5)


def test_unlabelled_rows_help():
    """Two moons' worth of rows: six labels alone leave the border open."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 400)
    side = np.arange(400) % 2
    X = np.column_stack(
        [np.cos(angle) + side, np.where(side, -1, 1) * np.sin(angle) + 0.4 * side]
    )
    X += 0.08 * rng.normal(size=X.shape)
    y = np.full(400, -1)
    y[:6] = side[:6]
    vae = VAEClassifier(
        objective="m1", max_iter=100, batch_size=100, masking_rate=0.0, random_state=0
    )
    few = vae.fit(X, y).score(X, side)
    alone = vae.fit(X[:6], y[:6]).score(X, side)
    assert few > alone + 0.02


# -- drawing -------------------------------------------------------------------------


def test_pixels_are_seen_in_their_unit():
    X, y = load_digits(return_X_y=True)
    few = np.where(np.arange(300) < 40, y[:300], -1)
    vae = VAEClassifier(**SHORT).fit(X[:300], few)
    spread = X[:300].std(0)
    seen = (vae.input_scale_ != 1) & (spread > 0)
    ratio = vae.input_scale_[seen] / spread[seen]
    np.testing.assert_allclose(ratio, ratio[0])
    assert seen.sum() >= 50
    rows = vae._model.groups.batch(vae._encode(X[:300]), "cpu").x
    inputs = vae._model.module.inputs(rows, None)
    # embedding draws far outliers, as of rare pixels, nearer
    varied = np.sort(inputs.std(0, correction=0).numpy())
    assert (varied <= np.sort(vae.input_scale_[spread > 0]) + 1e-4).all()
    assert varied[0] < 0.05
    for other in ({"objective": "m1"}, {"numeric_transform": "standard"}):
        vae = VAEClassifier(**SHORT, **other).fit(X[:300], few)
        assert (vae.input_scale_ == 1).all()


def test_draws_of_repeated_values_are_as_frequent_as_in_training():
    random = np.random.default_rng(0)
    y = random.integers(2, size=600)
    hours = np.where(random.random(600) < 0.5, 40, random.choice([20, 30, 50, 60], 600))
    X = np.column_stack([hours + 10.0 * y, random.normal(size=600) + y])
    vae = VAEClassifier(2, max_iter=3, random_state=0).fit(X, y)
    drawn, _ = vae.sample(2000, random_state=0)
    values, counts = np.unique(X[:, 0], return_counts=True)
    assert set(drawn[:, 0]) <= set(values)
    shares = [(drawn[:, 0] == value).mean() for value in values]
    np.testing.assert_allclose(shares, counts / len(X), atol=0.04)


def test_sample_always_returns_rows_and_labels(fitted):
    rows, labels = fitted.sample(random_state=0)
    assert rows.shape == (1, 3) and labels.shape == (1,)
    rows, labels = fitted.sample(4, random_state=0)
    assert rows.shape == (4, 3) and labels.shape == (4,)
    rows, labels = fitted.sample(y=[2, 0], random_state=0)
    assert rows.shape == (2, 3) and labels.tolist() == [2, 0]
    rows, labels = fitted.sample(2, y=[2, 0], random_state=0)
    assert labels.tolist() == [2, 0]
    again = fitted.sample(2, y=[2, 0], random_state=0)[0]
    np.testing.assert_array_equal(rows, again)
    assert (rows != fitted.sample(2, y=[2, 0], random_state=1)[0]).all()


def test_labels_are_drawn_from_their_prior(blobs):
    X, few, _ = blobs
    weights = np.where(few == 1, 8.0, 1.0)
    vae = VAEClassifier(**SHORT).fit(X, few, sample_weight=weights)
    np.testing.assert_allclose(vae.class_prior_, [0.1, 0.8, 0.1])
    _, labels = vae.sample(2000, random_state=0)
    shares = np.bincount(labels) / 2000
    np.testing.assert_allclose(shares, vae.class_prior_, atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"y": 3}, "none of the classes"),
        ({"y": [0, -1]}, "none of the classes"),
        ({"y": []}, "one for each"),
        ({"y": [[0, 1]]}, "one for each"),
        ({"n_samples": 3, "y": [0, 1]}, "one for each"),
        ({"n_samples": 0}, "at least 1"),
    ],
)
def test_draws_that_cannot_be(fitted, arguments, match):
    with pytest.raises(ValueError, match=match):
        fitted.sample(**arguments)


# -- densities -----------------------------------------------------------------------


def test_evidence_of_the_stack_is_exact_where_m2_adds_nothing(blobs):
    """M2 as N(0, I) on the latents of a linear VAE leaves probabilistic PCA."""
    X, few, _ = blobs
    vae = VAEClassifier(1, objective="m1+m2", hidden_layer_sizes=(), max_iter=1)
    vae.set_params(likelihood="normal", random_state=0, early_stopping=False).fit(
        X, few
    )
    vae._model.density.module = VAE(
        Joint([make_head("normal", 3, 0)]), 1, (), "relu", torch.Generator()
    )
    features, module = vae._model.density.module, vae._model.module
    loadings, noise_sd = torch.tensor([[1.0], [-0.5], [2.0]]), torch.tensor([0.6] * 3)
    precision = float(1 + (loadings / noise_sd.unsqueeze(1)).square().sum())
    with torch.no_grad():
        features.joint.heads[0].set_deviation(noise_sd)
        features.decoder.output.weight.copy_(loadings)
        features.decoder.output.bias.zero_()
        gain = (loadings.t() / noise_sd.square()) / precision
        features.encoder.output.weight.copy_(torch.cat([gain, 0 * gain]))
        bias = torch.tensor([0.0, -0.5 * np.log(precision)])
        features.encoder.output.bias.copy_(bias)
        features.joint.heads[0].low.fill_(-np.inf)
        features.joint.heads[0].high.fill_(np.inf)
        for network in (module.encoder, module.decoder):
            for parameter in network.parameters():
                parameter.zero_()
        module.joint.heads[0].set_deviation(torch.ones(1))
    covariance = loadings @ loadings.t() + noise_sd.square().diag()
    data = vae._encode(X)
    encoded = vae._model.density.batch(data)
    exact = torch.distributions.MultivariateNormal(torch.zeros(3), covariance)
    expected = exact.log_prob(encoded.x).numpy()
    expected += log_jacobian(vae._model.groups, data.encoder, encoded)
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=1e-3)


# -- latent variables ----------------------------------------------------------------


def test_decode_follows_latents_and_label(fitted):
    Z = np.random.default_rng(0).normal(size=(5, fitted._model.module.n_latent))
    rows = [fitted.decode(Z, label) for label in range(3)]
    assert rows[0].shape == (5, 3)
    np.testing.assert_array_equal(fitted.decode(Z, [2, 1, 0, 1, 2])[1], rows[1][1])
    np.testing.assert_allclose(fitted.decode(Z[:1], 2), rows[2][:1], rtol=1e-5)
    depends = not np.allclose(rows[0], rows[1], atol=1e-3)
    assert depends == (fitted.objective != "m1")


def test_decode_refuses_what_it_cannot_read(fitted):
    Z = np.zeros((2, fitted._model.module.n_latent))
    with pytest.raises(ValueError, match="columns, but the model has"):
        fitted.decode(Z[:, :1], 0)
    with pytest.raises(ValueError, match="none of the classes"):
        fitted.decode(Z, 7)
    with pytest.raises(ValueError, match="one label, or one for each"):
        fitted.decode(Z, [0, 1, 2])


def test_the_grid_of_latents_and_labels(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(2, **SHORT).fit(X, few)
    display = ConditionalGridDisplay.from_estimator(vae, n_rows=2, random_state=0)
    decoded = np.asarray(display.decoded)
    for row, z in enumerate(display.latents):
        for place, label in enumerate(vae.classes_):
            np.testing.assert_allclose(
                decoded[row, place].ravel(), vae.decode([z], label)[0], rtol=1e-5
            )


@pytest.mark.parametrize("objective", ["m1", "m2", "shot"])
def test_densities_of_rows_with_gaps_integrate_to_one(blobs, objective):
    """Although no cell was missing in training."""
    X, few, _ = blobs
    vae = VAEClassifier(2, objective=objective, **SHORT | {"max_iter": 40}).fit(X, few)
    grid = np.linspace(-40, 40, 801)
    rows = np.full((len(grid), 3), np.nan)
    rows[:, 1] = grid
    density = np.exp(vae.score_samples(rows).astype(float))
    assert trapezoid(density, grid) == pytest.approx(1, abs=0.1)


def test_a_row_of_nothing_has_probability_one(fitted):
    assert fitted.score_samples(np.full((2, 3), np.nan)).tolist() == [0, 0]
