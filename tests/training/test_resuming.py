"""Training that is resumed: partial_fit and warm_start."""

import pickle

import numpy as np
import pandas as pd
import pytest
from recorders import lengths

from skvae import VAEClassifier, VAERegressor, VAETransformer


def test_partial_fit_improves(numbers):
    vae = VAETransformer(2, batch_size=16, random_state=0)
    scores = []
    for count in range(1, 31):
        vae.partial_fit(numbers)
        assert vae.n_iter_ == count
        scores.append(vae.score(numbers))
    assert np.mean(scores[-5:]) > np.mean(scores[:5]) + 0.05
    assert lengths(vae) == {30}
    assert vae.validation_scores_ is None


def test_partial_fit_takes_chunks(numbers, mixed_table):
    vae = VAETransformer(2, random_state=0)
    for chunk in np.split(numbers, 4):
        vae.partial_fit(chunk)
    vae.partial_fit(numbers[:1])  # a single row, too
    assert vae.n_iter_ == 5
    X = mixed_table()
    vae = VAETransformer(2, random_state=0).partial_fit(X[:30])
    vae.partial_fit(X[30:], sample_weight=np.arange(1, 31))
    assert vae.n_iter_ == 2
    # the weights of a chunk count
    again = VAETransformer(2, random_state=0).partial_fit(X[:30]).partial_fit(X[30:])
    assert vae.score(X) != again.score(X)


def test_partial_fit_honours_a_changed_learning_rate(numbers):
    vae = VAETransformer(2, random_state=0, learning_rate_init=0.01)
    vae.partial_fit(numbers)
    before = vae.transform(numbers)
    vae.set_params(learning_rate_init=1e-12).partial_fit(numbers)
    np.testing.assert_allclose(vae.transform(numbers), before, atol=1e-5)
    vae.set_params(learning_rate_init=0.02).partial_fit(numbers)
    assert np.abs(vae.transform(numbers) - before).max() > 1e-3
    np.testing.assert_allclose(vae.history_["learning_rate"], [0.01, 1e-12, 0.02])


def test_partial_fit_goes_on_after_a_pickle(numbers):
    vae = VAETransformer(2, random_state=0).partial_fit(numbers).partial_fit(numbers)
    restored = pickle.loads(pickle.dumps(vae))
    for estimator in (vae, restored):
        estimator.partial_fit(numbers).partial_fit(numbers)
    np.testing.assert_array_equal(restored.transform(numbers), vae.transform(numbers))
    np.testing.assert_array_equal(restored.loss_curve_, vae.loss_curve_)


def test_partial_fit_keeps_the_state_of_the_optimizer(numbers, monkeypatch):
    vae = VAETransformer(2, random_state=0, batch_size=20).partial_fit(numbers)
    vae.partial_fit(numbers)
    with_momentum = vae.transform(numbers)
    cold = VAETransformer(2, random_state=0, batch_size=20).partial_fit(numbers)
    cold._model.optimizer_state = None
    without = cold.partial_fit(numbers).transform(numbers)
    assert np.abs(without - with_momentum).max() > 1e-4


def test_partial_fit_after_fit(numbers):
    vae = VAETransformer(2, max_iter=3, random_state=0).fit(numbers)
    vae.partial_fit(numbers)
    assert vae.n_iter_ == 4
    assert lengths(vae) == {4}


def test_warm_start_goes_on(numbers):
    vae = VAETransformer(2, max_iter=5, warm_start=True, random_state=0)
    vae.set_params(early_stopping=False, learning_rate="constant")
    vae.set_params(n_iter_no_change=np.inf).fit(numbers)
    first = vae.transform(numbers)
    vae.set_params(learning_rate_init=1e-12).fit(numbers)
    np.testing.assert_allclose(vae.transform(numbers), first, atol=1e-5)
    assert vae.n_iter_ == 10
    assert lengths(vae) == {10}
    vae.set_params(warm_start=False).fit(numbers)
    assert vae.n_iter_ == 5


def test_fit_starts_afresh(numbers, mixed_table):
    vae = VAETransformer(2, max_iter=2, random_state=0)
    first = vae.fit(numbers).transform(numbers)
    vae.fit(mixed_table())
    assert vae.feature_names_in_.tolist() == list(mixed_table().columns)
    np.testing.assert_array_equal(vae.fit(numbers).transform(numbers), first)
    assert not hasattr(vae, "feature_names_in_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "changed",
    [
        {"n_components": 3},
        {"hidden_layer_sizes": (8, 8)},
        {"activation": "tanh"},
        {"likelihood": {0: "student_t"}},
        {"numeric_transform": "none"},
        {"categorical_features": [0]},
        {"prior": "mixture"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_builds_the_model_must_stay(numbers, method, changed):
    vae = VAETransformer(2, warm_start=True, max_iter=1, random_state=0).fit(numbers)
    latents = vae.transform(numbers)
    vae.set_params(**changed)
    (name,) = changed
    with pytest.raises(ValueError, match=f"resumes a model with {name}="):
        getattr(vae, method)(numbers)
    np.testing.assert_array_equal(vae.transform(numbers), latents)
    vae.set_params(warm_start=False, numeric_transform="none").fit(numbers)


def test_the_number_of_prior_components_must_stay(numbers):
    vae = VAETransformer(2, prior="mixture", warm_start=True, max_iter=1)
    vae.fit(numbers).set_params(prior={"mixture": 3})
    with pytest.raises(ValueError, match="resumes a model with prior='mixture'"):
        vae.fit(numbers)


def test_what_only_trains_the_model_may_change(numbers):
    vae = VAETransformer(2, warm_start=True, max_iter=1, random_state=0).fit(numbers)
    vae.set_params(learning_rate_init=1e-3, max_iter=2, kl_weight=0.5).fit(numbers)
    assert vae.n_iter_ == 3


def test_the_objective_of_a_classifier_must_stay(numbers):
    codes = (numbers[:, 0] > 0).astype(int)
    model = VAEClassifier(2, warm_start=True, max_iter=1, random_state=0)
    model.fit(numbers, codes).set_params(objective="m1")
    with pytest.raises(ValueError, match="resumes a model with objective='m2'"):
        model.fit(numbers, codes)


def test_the_shape_of_images_must_stay(numbers):
    y = numbers[:, :4]
    model = VAERegressor(warm_start=True, max_iter=1, random_state=0)
    model.fit(numbers, y).set_params(image_shape=(2, 2))
    with pytest.raises(ValueError, match="resumes a model with image_shape=None"):
        model.fit(numbers, y)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"hidden_layer_sizes": 4}, {"hidden_layer_sizes": (4,)}),
        ({"hidden_layer_sizes": pd.Series([4])}, {"hidden_layer_sizes": [4]}),
        ({"categorical_features": pd.Index([0])}, {"categorical_features": [0]}),
    ],
)
def test_other_words_for_the_same_model_are_no_change(numbers, before, after):
    X = np.column_stack([np.arange(80) % 3, numbers])
    vae = VAETransformer(2, warm_start=True, max_iter=1, random_state=0, **before)
    assert vae.fit(X).set_params(**after).fit(X).n_iter_ == 2


def test_a_list_that_is_changed_in_place_is_a_change(numbers):
    sizes = [4]
    vae = VAETransformer(2, hidden_layer_sizes=sizes, warm_start=True, max_iter=1)
    vae.fit(numbers)
    sizes.append(5)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        vae.fit(numbers)
