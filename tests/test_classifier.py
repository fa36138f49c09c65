"""VAEClassifier: labels, unlabelled rows, draws of a class, densities."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAEClassifier
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._estimators import base, classifier
from skvae._networks.vae import VAE
from skvae._semi_supervised.labels import declared_classes, encode_labels
from skvae._semi_supervised.objectives import LabelOptions
from skvae.plotting import ConditionalGridDisplay

OBJECTIVES = ["m1", "m2", "m1+m2", "shot"]
SHORT = {"max_iter": 3, "hidden_layer_sizes": (16,), "random_state": 0}


@pytest.fixture(scope="module")
def blobs():
    """Three clusters of 40 rows in three columns, two labels of each."""
    X, y = make_blobs([40, 40, 40], 3, cluster_std=1.0, random_state=3)
    few = np.full(120, -1)
    for label in range(3):
        few[np.flatnonzero(y == label)[:2]] = label
    return X, few, y


@pytest.fixture(scope="module", params=OBJECTIVES)
def fitted(request, blobs):
    """A model of each kind, trained well enough to tell clusters apart."""
    X, few, _ = blobs
    vae = VAEClassifier(
        2, objective=request.param, hidden_layer_sizes=(32,), random_state=0
    )
    vae.set_params(max_iter=150, batch_size=60, learning_rate_init=0.02)
    return vae.fit(X, few)


def labelled_table(mixed_table, container="pandas"):
    X = mixed_table(container)
    y = np.where(np.arange(60) % 3 == 0, np.arange(60) % 2, -1)
    return X, y


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
    assert found.shape == (120,) and found.dtype == np.float32
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
        objective="m1", max_iter=100, batch_size=100, hidden_share=0.0, random_state=0
    )
    few = vae.fit(X, y).score(X, side)
    alone = vae.fit(X[:6], y[:6]).score(X, side)
    assert few > alone + 0.02


# -- labels --------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["b", "a", "c"], [7, 3, 9], [True, False, True]])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_labels_of_any_kind(blobs, names, missing):
    X, few, _ = blobs
    labels = np.array([missing if k < 0 else names[k] for k in few], dtype=object)
    vae = VAEClassifier(**SHORT).fit(X, labels)
    assert vae.classes_.tolist() == sorted(set(names))
    assert type(vae.predict(X).tolist()[0]) is type(names[0])
    assert (vae.classes_.dtype == object) == isinstance(names[0], str)
    assert vae.n_labelled_ == 6
    codes = [vae.classes_.tolist().index(names[k]) for k in (0, 1, 2)]
    expected = np.bincount(codes, minlength=len(vae.classes_)) / 3
    np.testing.assert_allclose(vae.class_prior_, expected)


def test_marks_of_no_label():
    for y in (
        [2, -1, 5],
        [2.0, -1.0, 5.0],
        [2.0, np.nan, 5.0],
        np.array([2, None, 5], dtype=object),
        np.array([2, -1, 5], dtype=object),
    ):
        classes, codes = encode_labels(np.asarray(y))
        assert classes.tolist() == [2, 5] and codes.tolist() == [0, -1, 1]
    classes, codes = encode_labels(np.array(["x", "-1"]))
    assert classes.tolist() == ["-1", "x"] and codes.tolist() == [1, 0]
    classes, codes = encode_labels(np.array([200, 255], dtype=np.uint8))
    assert codes.tolist() == [0, 1]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_labels_from_a_column(blobs, library):
    X, few, _ = blobs
    names = [None if k < 0 else "abc"[k] for k in few]
    module = pytest.importorskip(library)
    column = module.array(names) if library == "pyarrow" else module.Series(names)
    vae = VAEClassifier(**SHORT).fit(X, column)
    reference = VAEClassifier(**SHORT).fit(X, np.array(names, dtype=object))
    assert vae.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(vae.predict_proba(X), reference.predict_proba(X))


def test_nullable_integers(blobs):
    pd = pytest.importorskip("pandas")
    X, few, _ = blobs
    column = pd.array([None if k < 0 else k for k in few], dtype="Int64")
    vae = VAEClassifier(**SHORT).fit(X, pd.Series(column))
    assert vae.classes_.tolist() == [0, 1, 2] and vae.n_labelled_ == 6


def test_a_class_without_any_label(blobs):
    pd = pytest.importorskip("pandas")
    X, few, _ = blobs
    names = pd.Categorical.from_codes(few, ["a", "b", "c"])
    assert declared_classes(pd.Series(names)) == ["a", "b", "c"]
    vae = VAEClassifier(**SHORT).fit(X, pd.Series(names))
    assert vae.classes_.tolist() == ["a", "b", "c"]
    unseen = pd.Series(names.add_categories("d"))
    with pytest.raises(ValueError, match="No row is labelled 'd'"):
        vae.fit(X, unseen)


def test_a_single_label(blobs):
    X, _, _ = blobs
    for objective in OBJECTIVES:
        y = np.full(120, -1)
        y[4] = 7
        vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
        assert vae.classes_.tolist() == [7] and vae.n_labelled_ == 1
        assert set(vae.predict(X)) == {7}
        assert (vae.predict_proba(X) == 1).all()
        assert np.isfinite(vae.score_samples(X)).all()
        assert vae.sample(2, random_state=0)[1].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.full(120, -1), "no label"),
        (np.full(120, np.nan), "no label"),
        (np.full(120, None), "no label"),
        (np.full(120, np.inf), "infinity"),
        (np.linspace(0, 1, 120), "Unknown label type"),
        (np.array(["a", 1] * 60, dtype=object), "mixes strings"),
        (np.arange(119) % 2, "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_labels_that_cannot_be_used(blobs, y, match):
    X, _, _ = blobs
    with pytest.raises(ValueError, match=match):
        VAEClassifier(**SHORT).fit(X, y)


def test_a_column_vector_is_flattened_with_a_warning(blobs):
    X, few, _ = blobs
    with pytest.warns(DataConversionWarning):
        vae = VAEClassifier(**SHORT).fit(X, few[:, None])
    reference = VAEClassifier(**SHORT).fit(X, few)
    np.testing.assert_array_equal(vae.predict_proba(X), reference.predict_proba(X))


def test_a_failed_fit_changes_nothing(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    before = vae.predict_proba(X)
    for y in (np.full(120, -1), few[:5]):
        with pytest.raises(ValueError, match=r"no label|inconsistent numbers"):
            vae.fit(X, y)
    with pytest.raises(ValueError, match="non-finite"):
        vae.set_params(learning_rate_init=1e30).fit(X, few)
    np.testing.assert_array_equal(vae.predict_proba(X), before)
    assert not hasattr(vae, "_codes")


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
    inputs = vae._module.inputs(vae._batch(*vae._encoder.encode(X[:300]), None).x, None)
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
    vae._features = VAE(
        Joint([make_head("normal", 3, 0)]), 1, (), "relu", torch.Generator()
    )
    features, module = vae._features, vae._module
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
    encoded = torch.from_numpy(vae._encoder.encode(X)[0])
    exact = torch.distributions.MultivariateNormal(torch.zeros(3), covariance)
    expected = exact.log_prob(encoded).numpy() + vae._log_jacobian(vae._encode(X))
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=1e-3)


# -- weights, stopping, going on -----------------------------------------------------


def test_rows_of_weight_zero_are_not_there(blobs):
    X, few, _ = blobs
    weights = (np.arange(120) % 5 > 0).astype(float)
    weights[few == 2] = 1
    poisoned, labels = X.copy(), few.copy()
    poisoned[weights == 0] = 1e6
    labels[weights == 0] = 9
    kept = weights > 0
    for objective in OBJECTIVES:
        vae = VAEClassifier(objective=objective, **SHORT)
        found = vae.fit(poisoned, labels, sample_weight=weights).predict_proba(X)
        removed = vae.fit(X[kept], few[kept]).predict_proba(X)
        np.testing.assert_array_equal(found, removed)


def test_weights_stand_for_repeated_labels():
    """Contradictory labels of the same rows: the weights decide their odds."""
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 40, axis=0)
    X = X + 0.01 * np.random.default_rng(0).normal(size=X.shape)
    y = np.arange(80) % 2
    weights = np.where(y == 1, 4.0, 1.0)
    vae = VAEClassifier(
        1, smoothness=0.0, early_stopping=False, max_iter=300, random_state=0
    )
    vae.set_params(batch_size=80, hidden_layer_sizes=(16,), likelihood="normal")
    weighted = vae.fit(X, y, sample_weight=weights).predict_proba(X)[:, 1]
    repeated = np.flatnonzero(np.ones(80)).repeat(weights.astype(int))
    copies = vae.fit(X[repeated], y[repeated]).predict_proba(X)[:, 1]
    assert weighted.mean() == pytest.approx(0.8, abs=0.06)
    assert weighted.mean() == pytest.approx(copies.mean(), abs=0.06)
    assert vae.fit(X, y).predict_proba(X)[:, 1].mean() < 0.65


def test_radius_is_in_units_of_the_distance_of_neighbours(monkeypatch):
    """Neighbours are 2 sqrt(2) apart in the plane."""
    radii = []

    def labelling(*, radius, **options):
        radii.append(radius)
        return LabelOptions(radius=radius, **options)

    monkeypatch.setattr(classifier, "LabelOptions", labelling)
    X = 2.0 * np.arange(40).reshape(-1, 1) * np.ones((1, 2))
    y = np.arange(40) // 20
    vae = VAEClassifier(1, numeric_transform="none", radius=0.5)
    vae.set_params(**SHORT | {"max_iter": 1}).fit(X, y)
    assert radii == [pytest.approx(np.sqrt(2))]


def test_only_decoders_of_every_class_take_3000_steps(blobs, monkeypatch):
    X, few, _ = blobs
    plans = []

    def train(module, data, rows, valid, plan, *args, **options):
        plans.append(plan)
        raise RuntimeError

    monkeypatch.setattr(base, "train", train)
    for objective, steps in (("m1", 1_200), ("m2", 3_000)):
        with pytest.raises(RuntimeError):
            VAEClassifier(objective=objective, batch_size=60).fit(X, few)
        assert plans[-1].max_iter == steps // 2  # two batches an epoch


def test_enough_labels_stop_early(blobs):
    X, few, y = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    assert vae.early_stopping_ is False
    assert vae.validation_scores_ is None and vae.best_validation_score_ is None
    vae.set_params(validation_fraction=0.25).fit(X, y)
    assert vae.early_stopping_ is True
    assert len(vae.validation_scores_) == vae.n_iter_
    assert vae.best_validation_score_ == pytest.approx(
        max(*vae.validation_scores_, -np.log(3)), abs=0.2
    )
    vae.set_params(early_stopping=False).fit(X, y)
    assert vae.early_stopping_ is False


def test_validation_leaves_a_label_of_every_class(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT | {"validation_fraction": 0.9}).fit(X, few)
    assert vae.early_stopping_ and vae.classes_.tolist() == [0, 1, 2]
    rows = vae.set_params(validation_fraction=None).fit(X, np.arange(120) % 2)
    assert rows.early_stopping_ is False  # a tenth of 120 labels is too few


def test_going_on(blobs):
    X, few, _ = blobs
    for objective in OBJECTIVES:
        vae = VAEClassifier(objective=objective, warm_start=True, **SHORT).fit(X, few)
        prior = vae.class_prior_
        first = vae.predict_proba(X)
        vae.fit(X, np.where(few == 2, -1, few))  # all of its classes, not all labels
        assert vae.n_iter_ == 6 and vae.classes_.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(vae.class_prior_, prior)
        assert (vae.predict_proba(X) != first).any()
        with pytest.raises(ValueError, match="label 5, which the first fit"):
            vae.fit(X, np.where(few == 1, 5, few))


def test_going_on_from_another_objective(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(warm_start=True, **SHORT).fit(X, few)
    with pytest.raises(ValueError, match="objective"):
        vae.set_params(objective="m1").fit(X, few)


# -- tables, containers, persistence -------------------------------------------------


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_mixed_tables(mixed_table, container, objective):
    X, y = labelled_table(mixed_table, container)
    vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
    for values in (vae.predict_proba(X), vae.transform(X), vae.score_samples(X)):
        assert np.isfinite(values).all()
    rows, _ = vae.sample(5, y=1, random_state=0)
    assert type(rows) is type(X)
    with pytest.warns(UserWarning, match="Categories"):
        unknown = mixed_table("pandas")
        unknown["island"] = "Atlantis"
        assert np.isfinite(vae.predict_proba(unknown)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_models_survive_a_pickle(mixed_table, objective):
    X, y = labelled_table(mixed_table)
    vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(loaded.predict_proba(X), vae.predict_proba(X))
    np.testing.assert_array_equal(loaded.transform(X), vae.transform(X))
    np.testing.assert_array_equal(loaded.score_samples(X), vae.score_samples(X))
    expected = vae.sample(3, random_state=0)[0]
    assert loaded.sample(3, random_state=0)[0].equals(expected)
    again = loaded.set_params(warm_start=True).fit(X, y)
    assert (again.predict_proba(X) != vae.predict_proba(X)).any()


def test_fits_are_reproducible(blobs):
    X, few, _ = blobs
    for objective in OBJECTIVES:
        state = torch.get_rng_state()
        vae = VAEClassifier(objective=objective, **SHORT)
        first = vae.fit(X, few).predict_proba(X)
        np.testing.assert_array_equal(vae.fit(X, few).predict_proba(X), first)
        other = vae.set_params(random_state=1).fit(X, few).predict_proba(X)
        assert (other != first).any()
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pairing", "random"),
        ("classification_weight", 30.0),
        ("smoothness", 0.0),
        ("hidden_share", 0.0),
        ("label_smoothing", 0.2),
        ("n_draws", 2),
        ("kl_weight", 0.1),
        ("kl_warmup_steps", 4),
        ("likelihood", "normal"),
    ],
)
def test_every_parameter_has_an_effect(blobs, name, value):
    X, few, _ = blobs
    vae = VAEClassifier(objective="shot" if name == "pairing" else "m2", **SHORT)
    plain = vae.fit(X, few).predict_proba(X)
    changed = vae.set_params(**{name: value}).fit(X, few).predict_proba(X)
    assert (changed != plain).any()


def test_in_a_search_and_a_pipeline(blobs):
    X, _, y = blobs
    search = GridSearchCV(VAEClassifier(**SHORT), {"smoothness": [0.0, 1.0]}, cv=2)
    assert 0 <= search.fit(X, y).best_score_ <= 1
    weights = np.arange(120) % 3 + 1
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        vae = VAEClassifier(**SHORT).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, vae.set_score_request(sample_weight=True))
        pipeline.fit(X, y, sample_weight=weights)
    by_hand = VAEClassifier(**SHORT).fit(scaler.transform(X), y, weights)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), by_hand.predict_proba(scaler.transform(X))
    )


def test_latents_as_a_data_frame(blobs):
    pytest.importorskip("pandas")
    X, few, _ = blobs
    vae = VAEClassifier(2, **SHORT).set_output(transform="pandas")
    frame = vae.fit_transform(X, few)
    assert frame.columns.tolist() == ["vaeclassifier0", "vaeclassifier1"]


# -- latent variables ----------------------------------------------------------------


def test_decode_follows_latents_and_label(fitted):
    Z = np.random.default_rng(0).normal(size=(5, fitted._module.n_latent))
    rows = [fitted.decode(Z, label) for label in range(3)]
    assert rows[0].shape == (5, 3)
    np.testing.assert_array_equal(fitted.decode(Z, [2, 1, 0, 1, 2])[1], rows[1][1])
    np.testing.assert_allclose(fitted.decode(Z[:1], 2), rows[2][:1], rtol=1e-5)
    depends = not np.allclose(rows[0], rows[1], atol=1e-3)
    assert depends == (fitted.objective != "m1")


def test_decode_refuses_what_it_cannot_read(fitted):
    Z = np.zeros((2, fitted._module.n_latent))
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


@pytest.mark.parametrize(
    "options",
    [
        {"latent": "gamma"},
        {"latent": "lognormal", "objective": "shot"},
        {"latent": "beta", "objective": "m1"},
        {"latent": "dirichlet", "n_components": 3},
        {"prior": "mixture", "n_prior_components": 3},
        {"prior": "vamp", "n_prior_components": 3},
        {"prior": (1.0, 2.0)},
    ],
)
def test_latent_families_and_priors(blobs, options):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT | options).fit(X, few)
    assert np.isfinite(vae.score_samples(X)).all()
    assert np.isfinite(vae.sample(4, y=1, random_state=0)[0]).all()
    Z = vae.transform(X)
    assert np.isfinite(Z).all()
    if options.get("latent", "normal") != "normal":
        assert Z.min() > 0


def test_stacked_models_take_normal_latents(blobs):
    X, few, _ = blobs
    with pytest.raises(ValueError, match="needs latent='normal'"):
        VAEClassifier(objective="m1+m2", latent="gamma", **SHORT).fit(X, few)


# -- hidden share and smoothness -----------------------------------------------------


def balance(n_labelled=120, seed=0):
    """Which arm of a scale is heavier: a rule, without clusters."""
    grid = np.array(list(itertools.product(range(1, 6), repeat=4)), dtype=float)
    y = np.sign(grid[:, 0] * grid[:, 1] - grid[:, 2] * grid[:, 3]).astype(int) + 1
    few = np.full(len(y), -1)
    kept = np.random.default_rng(seed).permutation(len(y))[:n_labelled]
    few[kept] = y[kept]
    return grid, few, y


def test_a_rule_is_learned_from_whole_rows():
    X, few, y = balance()
    options = SHORT | {"max_iter": 30, "hidden_layer_sizes": (32, 32)}
    vae = VAEClassifier(**options).fit(X, few)
    assert (vae.hidden_share_, vae.smoothness_) == (0.0, 0.0)
    usual = VAEClassifier(hidden_share=0.2, smoothness=1.0, **options).fit(X, few)
    assert (usual.hidden_share_, usual.smoothness_) == (0.2, 1.0)
    assert vae.score(X, y) > usual.score(X, y) + 0.02


def test_few_labels_leave_the_usual_setting(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    assert (vae.hidden_share_, vae.smoothness_) == (0.2, 1.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_given_is_taken(objective, monkeypatch):
    """The search runs over what is left open; "shot" mixes rows in any case."""
    X, few, _ = balance()
    offered = []

    def choose(vae, labelled, rows, settings, radius, generator, progress):
        offered.append(settings)
        assert len(labelled) == 120 and len(rows) == len(X)
        return settings[-1]

    monkeypatch.setattr(classifier, "choose_setting", choose)
    vae = VAEClassifier(objective=objective, **SHORT | {"max_iter": 1}).fit(X, few)
    weight = 1.0 if objective == "shot" else 0.0
    assert (vae.hidden_share_, vae.smoothness_) == (0.0, weight)
    vae.set_params(hidden_share=0.3).fit(X, few)
    assert vae.hidden_share_ == 0.3
    vae.set_params(hidden_share="auto", smoothness=2.0).fit(X, few)
    assert (vae.hidden_share_, vae.smoothness_) == (0.0, 2.0)
    n_searches = len(offered)
    vae.set_params(hidden_share=0.1).fit(X, few)
    assert (vae.hidden_share_, vae.smoothness_) == (0.1, 2.0)
    assert len(offered) == n_searches  # nothing is open


def test_going_on_keeps_the_setting(monkeypatch):
    X, few, _ = balance()
    vae = VAEClassifier(warm_start=True, **SHORT | {"max_iter": 1}).fit(X, few)
    chosen = vae.hidden_share_, vae.smoothness_
    monkeypatch.setattr(classifier, "choose_setting", None)
    vae.fit(X, few)
    assert (vae.hidden_share_, vae.smoothness_) == chosen


def test_a_sorted_table_is_searched_at_random(monkeypatch):
    X, few, _ = balance()
    seen = []

    def choose(vae, labelled, rows, settings, radius, generator, progress):
        seen.append(rows.x[:, 0].unique())
        assert len(rows) == 100
        return settings[0]

    monkeypatch.setattr(classifier, "MAX_ROWS", 100)
    monkeypatch.setattr(classifier, "choose_setting", choose)
    VAEClassifier(**SHORT | {"max_iter": 1}).fit(X, few)
    assert len(seen[0]) == 5  # of the first column, which the first 100 rows share


def test_the_distance_of_neighbours_is_that_of_all_rows(monkeypatch):
    """A sorted table: the first rows are much closer to each other than most."""
    monkeypatch.setattr(classifier, "NEIGHBOUR_ROWS", 40)
    rng = np.random.default_rng(0)
    X = np.vstack([1e-3 * rng.normal(size=(200, 3)), 10 + rng.normal(size=(800, 3))])
    few = np.full(1000, -1)
    few[:3], few[-3:] = 0, 1
    vae = VAEClassifier(**SHORT | {"max_iter": 1}, numeric_transform="standard")
    vae.fit(X, few)
    data = vae._batch(*vae._encoder.encode(X), None)
    assert vae._neighbour_distance(data) > 0.05


# -- what a review found -------------------------------------------------------------


def test_the_weights_that_score_best_are_kept():
    """However little they gain on the start: that knows nothing of the labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + 3 * rng.normal(size=600) > 1).astype(int)
    vae = VAEClassifier(smoothness=0.0, hidden_share=0.0, **SHORT | {"max_iter": 5})
    vae.fit(X, y)
    assert vae.early_stopping_
    assert vae.best_validation_score_ == vae.validation_scores_.max()
    assert vae.score(X, y) >= max(y.mean(), 1 - y.mean()) - 0.02


def test_many_labels_leave_every_class_to_judge(blobs, monkeypatch):
    X, _, y = blobs
    monkeypatch.setattr(classifier, "MAX_VALIDATION_ROWS", 15)
    vae = VAEClassifier(validation_fraction=0.5, **SHORT)
    vae.classes_, vae._codes = np.arange(3), np.sort(y)
    vae._random = np.random.RandomState(0)
    rows, valid = vae._split_labels()
    assert np.bincount(vae._codes[valid]).tolist() == [5, 5, 5]
    assert len(rows) == len(X) - 15


def test_going_on_takes_what_is_given(blobs):
    X, _, y = blobs
    vae = VAEClassifier(warm_start=True, **SHORT).fit(X, y)
    chosen = vae.hidden_share_
    vae.set_params(smoothness=0.5).fit(X, y)
    assert (vae.hidden_share_, vae.smoothness_) == (chosen, 0.5)


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_lists_of_strings_may_lack_labels(blobs, nothing):
    X, few, _ = blobs
    y = [nothing if label < 0 else "abc"[label] for label in few]
    vae = VAEClassifier(**SHORT).fit(X, y)
    assert vae.classes_.tolist() == ["a", "b", "c"]
    y = [-1 if label < 0 else "abc"[label] for label in few]
    with pytest.raises(ValueError, match="mixes strings and other labels"):
        VAEClassifier(**SHORT).fit(X, y)


def test_arrow_labels_and_dates(blobs):
    pa = pytest.importorskip("pyarrow")
    X, few, _ = blobs
    names = pa.array([None if label < 0 else "abc"[label] for label in few])
    for y in (names, names.dictionary_encode(), pa.chunked_array([names])):
        vae = VAEClassifier(**SHORT).fit(X, y)
        assert vae.classes_.tolist() == ["a", "b", "c"]
    y = np.where(few < 0, np.datetime64("NaT"), np.datetime64("2020-01-01") + few)
    assert len(VAEClassifier(**SHORT).fit(X, y).classes_) == 3


@pytest.mark.parametrize("objective", ["m1", "m2", "shot"])
def test_densities_of_rows_with_gaps_integrate_to_one(blobs, objective):
    """Although no cell was missing in training."""
    X, few, _ = blobs
    vae = VAEClassifier(2, objective=objective, **SHORT | {"max_iter": 40}).fit(X, few)
    grid = np.linspace(-40, 40, 801)
    rows = np.full((len(grid), 3), np.nan)
    rows[:, 1] = grid
    density = np.exp(vae.score_samples(rows).astype(float))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.1)


def test_a_row_of_nothing_has_probability_one(fitted):
    assert fitted.score_samples(np.full((2, 3), np.nan)).tolist() == [0, 0]
