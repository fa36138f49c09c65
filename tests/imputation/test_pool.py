import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skvae import pool

FIELDS = [
    "estimate",
    "variance",
    "standard_error",
    "degrees_of_freedom",
    "lower",
    "upper",
    "within_variance",
    "between_variance",
    "fraction_missing_information",
]


def random_estimates(n_imputations=5, n_parameters=3):
    rng = np.random.default_rng(0)
    estimates = rng.normal(size=(n_imputations, n_parameters))
    return estimates, rng.uniform(0.5, 2, size=estimates.shape)


# ---------------------------------------------------------------------------
# The formulas
# ---------------------------------------------------------------------------
def test_example_worked_by_hand():
    # W = 1, B = 1, T = 1 + 4/3 = 7/3, r = 4/3, df = 2 (1 + 3/4)^2 = 49/8
    pooled = pool([1.0, 2.0, 3.0], [0.5, 1.0, 1.5])
    assert pooled.estimate == 2
    assert pooled.within_variance == 1
    assert pooled.between_variance == 1
    assert pooled.variance == pytest.approx(7 / 3)
    assert pooled.standard_error == pytest.approx(np.sqrt(7 / 3))
    assert pooled.degrees_of_freedom == pytest.approx(49 / 8)
    # (4/3 + 2 / (49/8 + 3)) / (7/3) = (4/3 + 16/73) * 3/7 = 340/511
    assert pooled.fraction_missing_information == pytest.approx(340 / 511)
    margin = stats.t(49 / 8).ppf(0.975) * np.sqrt(7 / 3)
    assert pooled.lower == pytest.approx(2 - margin)
    assert pooled.upper == pytest.approx(2 + margin)


def test_small_sample_example_worked_by_hand():
    # lambda = 4/7, so 11/13 * 10 * 3/7 = 330/91 degrees are left of 10, and with
    # Rubin's 49/8 there are 1 / (8/49 + 91/330) = 16170 / 7099
    pooled = pool([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], complete_degrees_of_freedom=10)
    assert pooled.degrees_of_freedom == pytest.approx(16170 / 7099)
    margin = stats.t(16170 / 7099).ppf(0.975) * np.sqrt(7 / 3)
    assert pooled.upper - pooled.lower == pytest.approx(2 * margin)


@pytest.mark.parametrize("complete", [None, 30])
def test_formulas_of_the_literature(complete):
    estimates, variances = random_estimates()
    pooled = pool(
        estimates, variances, complete_degrees_of_freedom=complete, coverage=0.8
    )
    m = len(estimates)
    for column in range(estimates.shape[1]):
        Q, U = estimates[:, column].tolist(), variances[:, column].tolist()
        mean = sum(Q) / m
        W = sum(U) / m
        B = sum((q - mean) ** 2 for q in Q) / (m - 1)
        T = W + (1 + 1 / m) * B
        r = (1 + 1 / m) * B / W
        df = (m - 1) * (1 + 1 / r) ** 2
        if complete:
            left = (
                (complete + 1) / (complete + 3) * complete * (1 - (1 + 1 / m) * B / T)
            )
            df = df * left / (df + left)
        expected = {
            "estimate": mean,
            "variance": T,
            "standard_error": T**0.5,
            "degrees_of_freedom": df,
            "lower": mean - stats.t(df).ppf(0.9) * T**0.5,
            "upper": mean + stats.t(df).ppf(0.9) * T**0.5,
            "within_variance": W,
            "between_variance": B,
            "fraction_missing_information": (r + 2 / (df + 3)) / (r + 1),
        }
        for name, value in expected.items():
            assert getattr(pooled, name)[column] == pytest.approx(value)


# ---------------------------------------------------------------------------
# Limits
# ---------------------------------------------------------------------------
def test_equal_estimates_give_the_complete_data_answer():
    pooled = pool([2.0, 2.0, 2.0], [0.25, 0.25, 0.25])
    assert pooled.variance == 0.25
    assert pooled.degrees_of_freedom == np.inf
    assert pooled.fraction_missing_information == 0
    assert pooled.upper == pytest.approx(2 + 0.5 * stats.norm.ppf(0.975))


def test_equal_estimates_keep_nearly_all_complete_degrees_of_freedom():
    pooled = pool([2.0, 2.0], [0.25, 0.25], complete_degrees_of_freedom=100)
    assert pooled.degrees_of_freedom == pytest.approx(101 / 103 * 100)


def test_many_imputations_leave_no_simulation_error():
    rng = np.random.default_rng(0)
    pooled = pool(rng.normal(3, 2, size=100_000), np.ones(100_000))
    assert pooled.variance == pytest.approx(1 + 4, rel=0.02)
    assert pooled.fraction_missing_information == pytest.approx(4 / 5, rel=0.02)
    assert pooled.upper == pytest.approx(3 + np.sqrt(5) * 1.96, rel=0.02)


def test_large_tables_need_no_small_sample_correction():
    estimates, variances = random_estimates()
    rubin = pool(estimates, variances)
    pooled = pool(estimates, variances, complete_degrees_of_freedom=1e12)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(pooled, name), getattr(rubin, name))


def test_estimates_without_variance():
    pooled = pool([1.0, 1.0], [0.0, 0.0])
    assert (pooled.lower, pooled.upper) == (1, 1)
    # nothing is known about the parameter within a table
    pooled = pool([1.0, 2.0], [0.0, 0.0], complete_degrees_of_freedom=10)
    assert pooled.degrees_of_freedom == 0
    assert (pooled.lower, pooled.upper) == (-np.inf, np.inf)
    assert pooled.fraction_missing_information == 1


@st.composite
def tables_of_estimates(draw):
    m = draw(st.integers(2, 6))
    cells = st.floats(-100, 100)
    estimates = draw(st.lists(cells, min_size=m, max_size=m))
    variances = draw(st.lists(st.floats(0.01, 100), min_size=m, max_size=m))
    return estimates, variances


@given(tables_of_estimates(), st.floats(1, 1e6), st.floats(0.01, 0.99))
def test_inequalities(table, complete, coverage):
    rubin = pool(*table, coverage=coverage)
    pooled = pool(*table, complete_degrees_of_freedom=complete, coverage=coverage)
    assert 0 < pooled.degrees_of_freedom <= complete
    assert pooled.degrees_of_freedom <= rubin.degrees_of_freedom
    assert pooled.lower <= rubin.lower < rubin.estimate < rubin.upper <= pooled.upper
    assert pooled.variance >= pooled.within_variance + pooled.between_variance
    assert 0 <= pooled.fraction_missing_information <= 1


@given(tables_of_estimates(), st.floats(0.1, 10), st.floats(-100, 100))
def test_units_do_not_matter(table, scale, shift):
    estimates, variances = np.array(table)
    pooled = pool(estimates, variances, complete_degrees_of_freedom=50)
    other = pool(
        shift + scale * estimates, scale**2 * variances, complete_degrees_of_freedom=50
    )
    for name in ("estimate", "lower", "upper"):
        expected = shift + scale * getattr(pooled, name)
        assert getattr(other, name) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    for name in ("degrees_of_freedom", "fraction_missing_information"):
        assert getattr(other, name) == pytest.approx(getattr(pooled, name), rel=1e-6)


# ---------------------------------------------------------------------------
# Coverage
# ---------------------------------------------------------------------------
def test_intervals_cover_the_mean_of_a_normal_sample():
    # The mean of 25 normal values of which 10 are missing, imputed by exact draws
    # from the posterior; every column is a sample of its own.
    rng = np.random.default_rng(0)
    n_rows, n_observed, n_imputations, n_samples = 25, 15, 10, 4000
    observed = rng.normal(7, 2, size=(n_observed, n_samples))
    estimates, variances = [], []
    for _ in range(n_imputations):
        spread = observed.var(axis=0, ddof=1) * (n_observed - 1)
        variance = spread / rng.chisquare(n_observed - 1, n_samples)
        mean = rng.normal(observed.mean(axis=0), np.sqrt(variance / n_observed))
        size = (n_rows - n_observed, n_samples)
        drawn = rng.normal(mean, np.sqrt(variance), size=size)
        imputed = np.concatenate([observed, drawn])
        estimates.append(imputed.mean(axis=0))
        variances.append(imputed.var(axis=0, ddof=1) / n_rows)
    pooled = pool(estimates, variances, complete_degrees_of_freedom=n_rows - 1)
    covered = (pooled.lower <= 7) & (pooled.upper >= 7)
    # four standard errors of the share are 0.014
    assert covered.mean() == pytest.approx(0.95, abs=0.014)
    # as if the drawn values had been observed
    margin = stats.t(n_rows - 1).ppf(0.975) * np.sqrt(variances[0])
    assert (np.abs(estimates[0] - 7) <= margin).mean() < 0.9


# ---------------------------------------------------------------------------
# Input and output
# ---------------------------------------------------------------------------
def test_one_parameter_gives_floats_and_several_give_arrays():
    estimates, variances = random_estimates()
    several = pool(estimates, variances, complete_degrees_of_freedom=40)
    one = pool(
        estimates[:, 1].tolist(), variances[:, 1], complete_degrees_of_freedom=40
    )
    for name in FIELDS:
        assert isinstance(getattr(one, name), float)
        assert getattr(several, name).shape == (3,)
        assert getattr(several, name)[1] == pytest.approx(getattr(one, name))


def test_one_column_stays_an_array():
    assert pool([[1.0], [2.0]], [[1.0], [1.0]]).estimate.tolist() == [1.5]


def test_data_frames_are_accepted():
    pd = pytest.importorskip("pandas")
    estimates, variances = random_estimates()
    pooled = pool(pd.DataFrame(estimates), pd.DataFrame(variances))
    np.testing.assert_array_equal(pooled.estimate, estimates.mean(axis=0))
    assert isinstance(pool(pd.Series([1, 2]), pd.Series([1, 2])).estimate, float)


def test_result_cannot_be_changed():
    pooled = pool([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(AttributeError):
        pooled.estimate = 3.0


@pytest.mark.parametrize(
    ("estimates", "variances", "message"),
    [
        ([1.0], [1.0], "at least 2 imputed tables"),
        ([], [], "at least 2 imputed tables"),
        (1.0, 1.0, "at least 2 imputed tables"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "at least 2 imputed tables"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"same shape.*\(2,\) and \(3,\)"),
        ([1.0, 2.0], [[1.0], [2.0]], "same shape"),
        ([1.0, 2.0], [1.0, -1.0], "squared standard errors"),
        ([1.0, np.nan], [1.0, 1.0], "estimates contains NaN"),
        ([1.0, 2.0], [1.0, np.inf], "variances contains infinity"),
    ],
)
def test_bad_input(estimates, variances, message):
    with pytest.raises(ValueError, match=message):
        pool(estimates, variances)


@pytest.mark.parametrize(
    "parameters",
    [
        {"coverage": 0},
        {"coverage": 1.0},
        {"coverage": 95},
        {"complete_degrees_of_freedom": 0},
        {"complete_degrees_of_freedom": "many"},
    ],
)
def test_bad_parameters(parameters):
    with pytest.raises(ValueError, match="parameter of pool must be"):
        pool([1.0, 2.0], [1.0, 1.0], **parameters)


# ---------------------------------------------------------------------------
# Estimates of any size
# ---------------------------------------------------------------------------
@pytest.mark.parametrize("unit", [2.0**-1000, 2.0**-600, 2.0**600, 2.0**1000])
def test_units_of_the_estimates_do_not_matter(unit):
    """Where their squares leave the range of float64, only the variances do."""
    estimates, none = random_estimates()[0], np.zeros((5, 3))
    with np.errstate(all="raise", under="ignore"):
        small = pool(estimates, none, complete_degrees_of_freedom=20)
        large = pool(estimates * unit, none, complete_degrees_of_freedom=20)
    for name in ("estimate", "standard_error", "lower", "upper"):
        expected = getattr(small, name) * unit
        np.testing.assert_array_equal(getattr(large, name), expected)
    for name in ("degrees_of_freedom", "fraction_missing_information"):
        np.testing.assert_array_equal(getattr(large, name), getattr(small, name))
    assert (large.variance == (0 if unit < 1 else np.inf)).all()


@pytest.mark.parametrize(
    ("estimates", "variances"),
    [
        ([1e200, 2e200, 3e200], [1e300] * 3),
        ([1e155, -1e155], [1.0, 1.0]),
        ([1e308, 1e308], [1.7e308, 1.7e308]),
        ([1e-320, 2e-320], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_nothing_is_nan(estimates, variances):
    pooled = pool(estimates, variances)
    assert not any(np.isnan(getattr(pooled, name)) for name in FIELDS)
    assert min(estimates) <= pooled.estimate <= max(estimates)
    assert np.isfinite(pooled.standard_error)
