"""The same seed gives the same result, and no method touches global state."""

import pickle
import threading

import numpy as np
import pytest
import torch
from global_state import assert_untouched
from joblib import Parallel, delayed

from skvae import VAEImputer, VAETransformer


def fit_and_transform(X, seed):
    vae = VAETransformer(2, max_iter=3, early_stopping=False, random_state=seed).fit(X)
    return vae.transform(X), vae.score_samples(X), vae.sample(5, random_state=seed)


def assert_same(found, expected):
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def serial():
    """Results of two seeds, one after the other."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    return X, [fit_and_transform(X, seed) for seed in (0, 1)]


def test_same_seed_same_result(serial):
    X, expected = serial
    assert_same(fit_and_transform(X, 0), expected[0])


def test_other_seed_other_result(serial):
    _, (first, second) = serial
    for left, right in zip(first, second, strict=True):
        assert not np.array_equal(left, right)


def impute(X, seed):
    X = np.where(np.arange(X.size).reshape(X.shape) % 5, X, np.nan)
    vae = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), random_state=seed).fit(X)
    tables = vae.sample(X, 2, random_state=seed)
    return vae.transform(X), vae.score_samples(X), *vae.predict_interval(X), *tables


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_imputers_in_parallel_are_as_in_series(serial, backend):
    X, _ = serial
    expected = [impute(X, seed) for seed in (0, 1)]
    assert_same(impute(X, 0), expected[0])
    assert not np.array_equal(expected[0][-1], expected[1][-1])
    results = Parallel(n_jobs=2, backend=backend)(
        delayed(impute)(X, seed) for seed in (0, 1)
    )
    for found, reference in zip(results, expected, strict=True):
        assert_same(found, reference)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_is_as_serial(serial, backend):
    X, expected = serial
    results = Parallel(n_jobs=2, backend=backend)(
        delayed(fit_and_transform)(X, seed) for seed in (0, 1)
    )
    for found, reference in zip(results, expected, strict=True):
        assert_same(found, reference)


def test_threads_share_a_fitted_model(serial):
    X, _ = serial
    vae = VAETransformer(2, max_iter=3, random_state=0).fit(X)
    expected, found = vae.score_samples(X), {}

    def score(key):
        found[key] = vae.score_samples(X)

    threads = [threading.Thread(target=score, args=(key,)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(found.values(), [expected] * 4)


def test_same_seed_same_validation_rows(serial):
    X, _ = serial
    vae = VAETransformer(2, max_iter=2, random_state=0)
    scores = [vae.fit(X).validation_scores_ for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    assert not np.array_equal(
        scores[0], vae.set_params(random_state=1).fit(X).validation_scores_
    )


def test_order_of_fits_does_not_matter(serial):
    X, expected = serial
    torch.manual_seed(3)
    VAETransformer(2, max_iter=1, random_state=None).fit(X)
    assert_same(fit_and_transform(X, 1), expected[1])


def test_random_state_instance(serial):
    X, expected = serial
    state = np.random.RandomState(0)
    vae = VAETransformer(2, max_iter=3, early_stopping=False, random_state=state)
    vae.fit(X)
    np.testing.assert_array_equal(vae.transform(X), expected[0][0])
    # it goes on from where the first fit left it
    again = vae.fit(X).transform(X)
    assert not np.array_equal(again, expected[0][0])
    draws = [vae.sample(3, random_state=np.random.RandomState(5)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    np.testing.assert_array_equal(draws[0], vae.sample(3, random_state=5))
    assert not np.array_equal(*(vae.sample(3, random_state=state) for _ in range(2)))


def test_fresh_seeds_differ(serial):
    X, _ = serial
    vae = VAETransformer(2, max_iter=2, early_stopping=False, random_state=None)
    assert not np.array_equal(vae.fit(X).transform(X), vae.fit(X).transform(X))
    assert not np.array_equal(vae.sample(3), vae.sample(3))
    assert not np.array_equal(vae.sample_posterior(X), vae.sample_posterior(X))
    # a score is a property of the model, not of the call
    np.testing.assert_array_equal(vae.score_samples(X), vae.score_samples(X))


def test_draws_of_rows_differ(serial):
    X, _ = serial
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    rows = vae.sample(50, random_state=0)
    assert len(np.unique(rows, axis=0)) == 50
    first, second = vae.sample_posterior(X[[0, 0]], random_state=0)[0]
    assert not np.array_equal(first, second)
    more = vae.sample(50, random_state=1)
    assert not np.array_equal(rows, more)


# -- global state --------------------------------------------------------------------


@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_fit_leaves_global_state_alone(mixed_table, random_state, objective):
    X = mixed_table()
    vae = VAETransformer(2, max_iter=2, random_state=random_state, n_draws=2)
    vae.set_params(objective=objective)
    assert_untouched(lambda: vae.fit(X))
    assert_untouched(lambda: vae.partial_fit(X))
    assert_untouched(lambda: vae.fit(X, sample_weight=np.arange(60)))
    assert_untouched(lambda: vae.fit_transform(X))


def test_methods_leave_global_state_alone(mixed_table, mixed_vae, calls):
    X = mixed_table()
    for call in calls.values():
        assert_untouched(lambda call=call: call(mixed_vae, X))
    assert_untouched(lambda: mixed_vae.sample(3))
    assert_untouched(lambda: mixed_vae.sample_posterior(X))
    saved = assert_untouched(lambda: pickle.dumps(mixed_vae))
    assert_untouched(lambda: pickle.loads(saved))


IMPUTER_CALLS = {
    "transform": lambda vae, X: vae.transform(X),
    "sample": lambda vae, X: vae.sample(X, 2, random_state=0),
    "predict_interval": lambda vae, X: vae.predict_interval(X),
    "score_samples": lambda vae, X: vae.score_samples(X),
    "score": lambda vae, X: vae.score(X),
    "get_feature_names_out": lambda vae, X: vae.get_feature_names_out(),
}


@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_imputers_leave_global_state_and_themselves_alone(
    mixed_table, random_state, strategy
):
    X = mixed_table()
    vae = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), random_state=random_state)
    vae.set_params(missingness="agnostic", strategy=strategy)
    assert_untouched(lambda: vae.fit(X, sample_weight=np.arange(60)))
    attributes, saved = dict(vars(vae)), pickle.dumps(vae)
    for name, call in IMPUTER_CALLS.items():
        assert_untouched(lambda call=call: call(vae, X))
        assert list(vars(vae)) == list(attributes), name
        assert all(vars(vae)[key] is attributes[key] for key in attributes), name
    assert_untouched(lambda: vae.sample(X))
    assert pickle.dumps(vae) == saved


def test_imputers_in_threads_share_a_model(serial):
    X = np.where(np.arange(240).reshape(60, 4) % 5, serial[0], np.nan)
    vae = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), random_state=0).fit(X)
    expected = vae.predict_interval(X)
    results = Parallel(n_jobs=4, backend="threading")(
        delayed(vae.predict_interval)(X) for _ in range(4)
    )
    for found in results:
        assert_same(found, expected)


def test_errors_leave_global_state_alone(mixed_table):
    def fail():
        with pytest.raises(ValueError, match="non-finite"):
            VAETransformer(2, learning_rate_init=1e30).fit(mixed_table())

    assert_untouched(fail)


def test_methods_leave_the_model_alone(mixed_table, mixed_vae, calls):
    X = mixed_table()
    attributes, saved = dict(vars(mixed_vae)), pickle.dumps(mixed_vae)
    for name, call in calls.items():
        call(mixed_vae, X)
        assert list(vars(mixed_vae)) == list(attributes), name
        assert all(vars(mixed_vae)[key] is attributes[key] for key in attributes), name
    mixed_vae.sample()
    assert pickle.dumps(mixed_vae) == saved
