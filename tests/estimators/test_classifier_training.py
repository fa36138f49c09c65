"""VAEClassifier: weights of rows, resuming, and the choice of its setting."""

import itertools

import numpy as np
import pytest
import torch
from short_classifiers import OBJECTIVES, SHORT

from skvae import VAEClassifier
from skvae._density import model as density
from skvae._semi_supervised import fit_labels
from skvae._semi_supervised.fit_labels import neighbour_distance, split_labels
from skvae._semi_supervised.objectives import LabelOptions
from skvae._semi_supervised.settings import SETTINGS

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
        1, consistency_weight=0.0, early_stopping=False, max_iter=300, random_state=0
    )
    vae.set_params(batch_size=80, hidden_layer_sizes=(16,), likelihood="normal")
    weighted = vae.fit(X, y, sample_weight=weights).predict_proba(X)[:, 1]
    repeated = np.flatnonzero(np.ones(80)).repeat(weights.astype(int))
    copies = vae.fit(X[repeated], y[repeated]).predict_proba(X)[:, 1]
    assert weighted.mean() == pytest.approx(0.8, abs=0.06)
    assert weighted.mean() == pytest.approx(copies.mean(), abs=0.06)
    assert vae.fit(X, y).predict_proba(X)[:, 1].mean() < 0.65


def test_the_vat_radius_is_in_units_of_the_distance_of_neighbours(monkeypatch):
    """Neighbours are 2 sqrt(2) apart in the plane."""
    radii = []

    def recorded(*, vat_radius, **options):
        radii.append(vat_radius)
        return LabelOptions(vat_radius=vat_radius, **options)

    monkeypatch.setattr(fit_labels, "LabelOptions", recorded)
    X = 2.0 * np.arange(40).reshape(-1, 1) * np.ones((1, 2))
    y = np.arange(40) // 20
    vae = VAEClassifier(1, numeric_transform="none", vat_radius=0.5)
    vae.set_params(**SHORT | {"max_iter": 1}).fit(X, y)
    assert radii == [pytest.approx(np.sqrt(2))]


def test_only_decoders_of_every_class_take_3000_steps(blobs, monkeypatch):
    X, few, _ = blobs
    plans = []

    def train(module, data, rows, valid, plan, *args, **options):
        plans.append(plan)
        raise RuntimeError

    monkeypatch.setattr(density, "train", train)
    for objective, steps in (("m1", 1_200), ("m2", 3_000)):
        with pytest.raises(RuntimeError):
            VAEClassifier(objective=objective, batch_size=60).fit(X, few)
        assert plans[-1].max_iter == steps // 2  # two batches an epoch


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
        ("classification_weight", 30.0),
        ("consistency_weight", 0.0),
        ("vat_radius", 2.0),
        ("masking_rate", 0.0),
        ("kl_weight", 0.1),
        ("likelihood", "normal"),
    ],
)
def test_every_parameter_has_an_effect(blobs, name, value):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT)
    plain = vae.fit(X, few).predict_proba(X)
    changed = vae.set_params(**{name: value}).fit(X, few).predict_proba(X)
    assert (changed != plain).any()


# -- masking rate and consistency weight ---------------------------------------------


def balance(n_labelled=220, seed=0):
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
    assert (vae.masking_rate_, vae.consistency_weight_) == (0.0, 0.0)
    usual = VAEClassifier(masking_rate=0.2, consistency_weight=1.0, **options)
    usual.fit(X, few)
    assert (usual.masking_rate_, usual.consistency_weight_) == (0.2, 1.0)
    assert vae.score(X, y) > usual.score(X, y) + 0.02


def test_few_labels_leave_the_usual_setting(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    assert (vae.masking_rate_, vae.consistency_weight_) == (0.2, 1.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_given_is_taken(objective, monkeypatch):
    """The search runs over what is left open; "shot" mixes rows in any case."""
    X, few, _ = balance()
    offered = []

    def choose(vae, labelled, rows, settings, radius, generator, **options):
        offered.append(settings)
        assert len(labelled) == 220 and len(rows) == len(X)
        return settings[-1]

    monkeypatch.setattr(fit_labels, "choose_regularisation", choose)
    vae = VAEClassifier(objective=objective, **SHORT | {"max_iter": 1}).fit(X, few)
    weight = 1.0 if objective == "shot" else 0.0
    assert (vae.masking_rate_, vae.consistency_weight_) == (0.0, weight)
    vae.set_params(masking_rate=0.3).fit(X, few)
    assert vae.masking_rate_ == 0.3
    vae.set_params(masking_rate="auto", consistency_weight=2.0).fit(X, few)
    assert (vae.masking_rate_, vae.consistency_weight_) == (0.0, 2.0)
    n_searches = len(offered)
    vae.set_params(masking_rate=0.1).fit(X, few)
    assert (vae.masking_rate_, vae.consistency_weight_) == (0.1, 2.0)
    assert len(offered) == n_searches  # nothing is open


def test_going_on_keeps_the_setting(monkeypatch):
    X, few, _ = balance()
    vae = VAEClassifier(warm_start=True, **SHORT | {"max_iter": 1}).fit(X, few)
    chosen = vae.masking_rate_, vae.consistency_weight_
    monkeypatch.setattr(fit_labels, "choose_regularisation", None)
    vae.fit(X, few)
    assert (vae.masking_rate_, vae.consistency_weight_) == chosen


def test_a_sorted_table_is_searched_at_random(monkeypatch):
    X, few, _ = balance()
    X, few = np.repeat(X, 160, axis=0), np.repeat(few, 160)
    assert len(np.unique(X[: SETTINGS.max_rows, 0])) < 5
    seen = []

    def choose(vae, labelled, rows, settings, radius, generator, **options):
        seen.append(rows.x[:, 0].unique())
        assert len(rows) == SETTINGS.max_rows
        return settings[0]

    monkeypatch.setattr(fit_labels, "choose_regularisation", choose)
    VAEClassifier(**SHORT | {"max_iter": 1}).fit(X, few)
    assert len(seen[0]) == 5  # of the first column


def test_the_distance_of_neighbours_is_that_of_all_rows(monkeypatch):
    """A sorted table: the first rows are much closer to each other than most."""
    distances = []

    def measured(module, rows):
        assert len(rows) == SETTINGS.neighbour_rows
        distances.append(neighbour_distance(module, rows))
        return distances[-1]

    monkeypatch.setattr(fit_labels, "neighbour_distance", measured)
    rng = np.random.default_rng(0)
    close = 1e-3 * rng.normal(size=(SETTINGS.neighbour_rows, 3))
    X = np.vstack([close, 10 + rng.normal(size=(4 * SETTINGS.neighbour_rows, 3))])
    few = np.full(len(X), -1)
    few[:3], few[-3:] = 0, 1
    vae = VAEClassifier(**SHORT | {"max_iter": 1}, numeric_transform="standard")
    vae.fit(X, few)
    assert distances[0] > 0.02


def test_the_weights_that_score_best_are_kept():
    """However little they gain on the start: that knows nothing of the labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + 3 * rng.normal(size=600) > 1).astype(int)
    vae = VAEClassifier(
        consistency_weight=0.0, masking_rate=0.0, **SHORT | {"max_iter": 5}
    )
    vae.fit(X, y)
    assert vae.early_stopping_
    assert vae.best_validation_score_ == vae.validation_scores_.max()
    assert vae.score(X, y) >= max(y.mean(), 1 - y.mean()) - 0.02


def test_many_labels_leave_every_class_to_judge(blobs):
    X, _, y = blobs
    params = {"early_stopping": True, "validation_fraction": 0.5}
    codes = np.sort(y)
    rows, valid = split_labels(codes, 3, params, np.random.RandomState(0), max_rows=15)
    assert np.bincount(codes[valid]).tolist() == [5, 5, 5]
    assert len(rows) == len(X) - 15


def test_going_on_takes_what_is_given(blobs):
    X, _, y = blobs
    vae = VAEClassifier(warm_start=True, **SHORT).fit(X, y)
    chosen = vae.masking_rate_
    vae.set_params(consistency_weight=0.5).fit(X, y)
    assert (vae.masking_rate_, vae.consistency_weight_) == (chosen, 0.5)
