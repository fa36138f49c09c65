"""Draws of columns that repeat values which float32 cannot tell apart."""

import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAETransformer

pytestmark = pytest.mark.filterwarnings("ignore:Values far beyond all others")

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}
DIGITS = np.arange(1.0, 11)
COLUMNS = {
    "marker": np.append(DIGITS.repeat(19), np.full(10, 1e10)),
    "two groups": np.concatenate([DIGITS, 1e12 + DIGITS]).repeat(10),
    "fine steps": (1e9 + DIGITS * 1e-6).repeat(20),
}


@pytest.fixture(params=COLUMNS.values(), ids=COLUMNS)
def table(request):
    rng = np.random.default_rng(0)
    values = rng.permutation(request.param)
    return np.column_stack([values, rng.normal(size=len(values))])


def assert_same_frequencies(drawn, values):
    expected, counts = np.unique(values, return_counts=True)
    found, drawn_counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    shares = counts / len(values)
    error = 5 * np.sqrt(shares / len(drawn)) + 0.01
    assert (np.abs(drawn_counts / len(drawn) - shares) < error).all()


@pytest.mark.parametrize("transform", ["auto", "standard", "quantile", "none"])
def test_samples_have_all_values_as_often(table, transform):
    if transform == "none" and np.ptp(table[:, 0]) < 1e-4:
        pytest.xfail("values as they are, in single precision, are all alike")
    model = VAETransformer(numeric_transform=transform, **QUICK).fit(table)
    drawn = model.sample(1_500, random_state=0)
    assert_same_frequencies(drawn[:, 0], table[:, 0])


@pytest.mark.parametrize("objective", ["m1", "m2", "m1+m2"])
def test_samples_of_a_class_have_all_values_as_often(table, objective):
    labels = (table[:, 1] > 0).astype(int)
    model = VAEClassifier(objective=objective, **QUICK).fit(table, labels)
    drawn, _ = model.sample(1_500, random_state=0)
    assert_same_frequencies(drawn[:, 0], table[:, 0])


def test_imputations_are_values_of_the_column(table):
    marked = table.copy()
    marked[::6, 0] = np.nan
    model = VAEImputer(**QUICK).fit(marked)
    ends = model.predict_interval(marked)
    for completed in (*ends, *model.sample(marked, 2, random_state=0)):
        assert np.isin(completed[:, 0], table[:, 0]).all()
    assert (ends[0] <= ends[1]).all()


def test_interval_ends_are_not_neighbours_of_the_right_value():
    """1e12 + 3 and 1e12 + 4 have one code in float32."""
    values = np.concatenate([DIGITS, 1e12 + DIGITS]).repeat(10)
    table = np.column_stack([values, values])
    table[::7, 0] = np.nan
    model = VAEImputer(**QUICK).fit(table)
    lower, upper = model.predict_interval(table, coverage=0.5)
    assert np.isin(lower[:, 0], values).all()
    assert np.isin(upper[:, 0], values).all()
