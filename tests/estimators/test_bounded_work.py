"""Work of a fit: counted multiplications, never seconds."""

import numpy as np
import pytest
from counted_work import counted

from skvae import VAEClassifier, VAEImputer
from skvae._imputation.em import ExpectationMaximisation

SHORT = {"max_iter": 1, "hidden_layer_sizes": (8,), "random_state": 0}


def with_gaps(n_rows, n_columns):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_columns))
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def is_linear(fit, size):
    """Tell whether twice the size takes about twice the work and the memory."""
    once, twice = (counted(lambda n=n: fit(n)) for n in (size, 2 * size))
    assert once.multiplications > 0
    return (
        twice.multiplications < 2.2 * once.multiplications
        and twice.largest < 2.2 * once.largest
    )


def test_the_imputer_is_linear_in_columns():
    def fit(n_columns):
        VAEImputer(**SHORT).fit(with_gaps(10, n_columns))

    assert is_linear(fit, 600)


@pytest.mark.parametrize("n_labelled", [200, 400])
@pytest.mark.parametrize("objective", ["m2", "shot", "m1"])
def test_the_classifier_is_linear_in_classes(objective, n_labelled):
    X = np.random.default_rng(0).normal(size=(400, 3))

    def fit(n_classes):
        y = np.where(np.arange(400) < n_labelled, np.arange(400) % n_classes, -1)
        VAEClassifier(objective=objective, **SHORT).fit(X, y)

    assert is_linear(fit, 100)


def test_labelled_rows_have_no_sum_over_classes():
    X = np.random.default_rng(0).normal(size=(400, 60))
    model = VAEClassifier(consistency_weight=0, masking_rate=0, **SHORT)
    known, one_unknown = np.arange(400) % 100, np.arange(400) % 100
    one_unknown[0] = -1
    work = [counted(lambda y=y: model.fit(X, y)) for y in (known, one_unknown)]
    assert work[1].multiplications > 5 * work[0].multiplications


@pytest.mark.parametrize("max_iter", [1, 3])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (8,)])
def test_max_iter_bounds_every_normal(monkeypatch, max_iter, hidden_layer_sizes):
    """With networks there are 9: one of all rows, and 8 without a fold."""
    calls = []
    expect = ExpectationMaximisation._expect
    monkeypatch.setattr(
        ExpectationMaximisation,
        "_expect",
        lambda self, *args: calls.append(self) or expect(self, *args),
    )
    options = {**SHORT, "max_iter": max_iter, "hidden_layer_sizes": hidden_layer_sizes}
    VAEImputer(**options).fit(with_gaps(60, 4))
    by_normal = {id(em): 0 for em in calls}
    for em in calls:
        by_normal[id(em)] += 1
    assert len(by_normal) == (9 if hidden_layer_sizes else 1)
    assert set(by_normal.values()) == {max_iter}


def test_the_linear_imputer_refuses_more_columns_than_it_can_do():
    with pytest.raises(ValueError, match=r"at most 1000 .* X has 1001"):
        VAEImputer(hidden_layer_sizes=()).fit(np.arange(2002.0).reshape(2, 1001))
