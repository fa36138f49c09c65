"""Cells far beyond all others of their column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opening_encoder import TableEncoder

from skvae._tables.numpy_table import ArrayTable
from skvae._tables.outliers import body_range
from skvae._tables.settings import Settings

SETTINGS = Settings()

BODIES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "far from 0": lambda rng, n: rng.normal(50, 10, n),
    "uniform": lambda rng, n: rng.uniform(0, 100, n),
    "ages": lambda rng, n: rng.normal(40, 13, n).clip(17, 90).round(),
    "skewed": lambda rng, n: rng.exponential(size=n),
    "digits": lambda rng, n: rng.integers(1, 11, n).astype(float),
    "years": lambda rng, n: rng.integers(1990, 2024, n).astype(float),
}

HEAVY = {
    "log-normal": lambda rng, n: np.exp(2 * rng.normal(size=n)),
    "Student-t": lambda rng, n: rng.standard_t(3, n),
    "money, often 0": lambda rng, n: rng.exponential(1e3, n) * (rng.random(n) < 0.1),
    "counts": lambda rng, n: rng.poisson(0.3, n).astype(float),
    "overdispersed": lambda rng, n: rng.poisson(rng.gamma(0.3, 20, n)).astype(float),
    "booleans": lambda rng, n: (rng.random(n) < 0.03) * 1e6,
    "two groups": lambda rng, n: rng.normal(size=n) + 100 * (rng.random(n) < 0.1),
    "one value": lambda rng, n: np.where(np.arange(n) == 3, 1e6, 5.0),
}

WILD = {
    "one": [999999.0],
    "one below": [-1e30],
    "several": [1e5, -1e6, 3e8, -4e5, 1e5, 7e9],
    "marker": [-9999.0] * 3,
    "frequent marker": [-9999.0] * 30,
    "largest float": [1.7e308],
}


def spoiled(name, wild, n_rows=300, seed=0):
    """A column with wild cells at its start."""
    values = BODIES[name](np.random.default_rng(seed), n_rows)
    values[: len(wild)] = wild
    return values


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("wild", WILD.values(), ids=WILD)
def test_wild_cells_are_found_and_no_others(name, wild):
    values = spoiled(name, wild)
    low, high = body_range(values, SETTINGS)
    outside = (values < low) | (values > high)
    assert outside.tolist() == [row < len(wild) for row in range(300)]


@pytest.mark.parametrize("name", [*BODIES, *HEAVY])
@pytest.mark.parametrize("n_rows", [30, 300, 3000])
def test_tails_and_groups_are_no_outliers(name, n_rows):
    make = {**BODIES, **HEAVY}[name]
    if (name, n_rows) == ("two groups", 30):
        return  # one of 30 cells may be all that is seen of a group
    found = [
        body_range(make(np.random.default_rng(seed), n_rows), SETTINGS) is not None
        for seed in range(5)
    ]
    assert not any(found)


def test_few_cells_show_no_tails():
    values = np.append(np.arange(18.0), 1e6)
    assert body_range(values, SETTINGS) is None
    assert body_range(np.append(values, 3.0), SETTINGS) is not None


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(BODIES)),
    st.lists(st.sampled_from([1e5, -1e6, 3e8, -9999.0]), max_size=9),
    st.sampled_from([1.0, -1.0, 2.0**-900, -(2.0**900), 3.7e-9]),
    st.sampled_from([0.0, 7.0, -1e4]),
    st.integers(0, 2**32 - 1),
)
def test_outliers_do_not_depend_on_units(name, wild, factor, shift, seed):
    values = spoiled(name, wild, seed=seed)
    limits = body_range(values, SETTINGS)
    moved = body_range(factor * (values + shift), SETTINGS)
    assert (limits is None) == (moved is None)
    if limits is not None:
        ends = np.sort(factor * (np.array(limits) + shift))
        np.testing.assert_allclose(moved, ends, rtol=1e-6)


TRANSFORMS = ["auto", "standard", "quantile", "none"]


def table_with_outliers(n_rows=600):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 4))
    X[:, 2] = np.exp(X[:, 2])
    X[:, 3] = X[:, 3].round()
    marked = X.copy()
    for column, wild in ((1, [999999]), (2, [1e9, -1e7, 1e300]), (3, [7e5])):
        X[: len(wild), column] = wild
        marked[: len(wild), column] = np.nan
    return X, marked


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_table_is_encoded_as_without_its_wild_cells(transform):
    X, marked = table_with_outliers()
    encoder = TableEncoder(numeric_transform=transform)
    with pytest.warns(UserWarning, match="far beyond all others") as caught:
        spoiled = encoder.fit(X).encode(X)
    assert len(caught) == 1
    columns = [column.to_state() for column in encoder.columns_]
    clean = encoder.fit(marked).encode(marked)
    for found, expected in zip(spoiled, clean, strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(columns, encoder.columns_, strict=True):
        assert (found.pop("lowest") is None) == (expected.name == "x0")
        state = {key: expected.to_state()[key] for key in found if key != "highest"}
        found.pop("highest")
        np.testing.assert_equal(found, state)


def test_the_warning_names_columns_and_values():
    X, _ = table_with_outliers()
    with pytest.warns(UserWarning) as caught:
        TableEncoder().fit(X)
    (message,) = {str(warning.message) for warning in caught}
    assert "Column 'x1': 999999.0 (1 of 600 cells)" in message
    assert "Column 'x2': -10000000.0, 1000000000.0, 1e+300 (3 of 600" in message
    assert "x0" not in message


@pytest.mark.filterwarnings("ignore:Values far beyond")
def test_outliers_of_a_density_are_encoded():
    X, _ = table_with_outliers()
    inner = TableEncoder(numeric_transform="standard").fit(X).encoder
    values, observed = inner.encode(ArrayTable(X), outliers=True)
    assert observed is None
    expected = inner.columns_[1].map.forward(X[:1, 1])
    np.testing.assert_allclose(values[:1, 1], expected, rtol=1e-6)
    assert values[2, 2] == np.float32(1e15)


@pytest.mark.filterwarnings("ignore:Values far beyond")
def test_new_cells_beyond_the_range_are_missing_and_infinite_ones_refused():
    X, _ = table_with_outliers()
    encoder = TableEncoder().fit(X)
    new = np.zeros((3, 4))
    new[:, 1] = [5.0, -1e5, np.nan]
    _, observed = encoder.encode(new)
    assert observed[:, 1].tolist() == [True, False, False]
    new[:, 1] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*'x1'"):
        encoder.encode(new)
    # columns without outliers take all cells
    new[:, 0], new[:, 1] = 1e5, 0
    assert encoder.encode(new)[1] is None
    assert encoder.restored(encoder.to_state()).encode(X)[1][0, 1] == 0


def test_categories_and_declared_domains_have_no_outliers():
    X = np.arange(40.0).reshape(-1, 1) % 10
    X[0] = 1e6
    for likelihood in ("categorical", "ordinal"):
        encoder = TableEncoder(likelihood={0: likelihood}).fit(X)
        assert encoder.columns_[0].categories[-1] == 1e6
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        TableEncoder(likelihood="bernoulli").fit(X / 10)
    X[0] = -1e6
    with pytest.raises(ValueError, match="non-negative whole"):
        TableEncoder(likelihood="poisson").fit(X)


@pytest.mark.filterwarnings("ignore:Values far beyond")
@pytest.mark.parametrize("rate", [0.3, 4.0, 50.0])
def test_counts_are_counts_beside_a_wild_cell(rate):
    counts = np.random.default_rng(0).poisson(rate, (400, 1))
    kind = TableEncoder().fit(counts).columns_[0].likelihood
    counts[7] = 10**9
    assert TableEncoder().fit(counts).columns_[0].likelihood == kind == "poisson"


@pytest.mark.filterwarnings("ignore:Values far beyond")
def test_which_outliers_a_column_repeats():
    digits = np.random.default_rng(0).integers(1, 11, (200, 1)).astype(float)
    for wild, kept in (([1e10] * 10, [1e10]), ([1e6], []), ([1e6, 1e7, 1e8], [])):
        X = digits.copy()
        X[: len(wild), 0] = wild
        column = TableEncoder().fit(X).columns_[0]
        assert column.support.tolist() == [*range(1, 11), *kept]
        assert column.frequencies.sum() == pytest.approx(1)
        if kept:
            assert column.frequencies[-1] == pytest.approx(0.05)


def test_thresholds_are_settings():
    values = spoiled("normal", [30.0])[:, None]
    assert TableEncoder().fit(values).columns_[0].lowest is None
    with pytest.warns(UserWarning, match="30.0"):
        TableEncoder(settings=Settings(min_outlier_factor=5.0)).fit(values)
