"""TableEncoder: likelihoods and maps of numeric columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mixed_frames import (
    assert_tables_equal,
    kinds,
    likelihoods,
    mixed_frame,
    round_trip,
    transforms,
)
from opening_encoder import TableEncoder
from scipy.stats import norm

from skvae._tables.repeated_values import relative_deviations
from skvae._tables.settings import Settings
from skvae._tables.transforms import Affine, PiecewiseLinear, fit_affine, fit_quantile

pd = pytest.importorskip("pandas")


# ---- containers -------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8"])
def test_round_trip_of_an_array(dtype):
    array = np.random.default_rng(0).uniform(1, 200, (50, 4)).astype(dtype)
    encoder = TableEncoder(numeric_transform="standard").fit(array)
    values, observed = encoder.encode(array)
    assert observed is None
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-2)
    result = encoder.decode(values)
    assert result.dtype == array.dtype
    np.testing.assert_allclose(result, array, rtol=1e-3 if dtype == "float16" else 1e-5)
    assert not hasattr(encoder, "feature_names_in_")
    assert [column.name for column in encoder.columns_] == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("numeric_transform", ["standard", "quantile", "none"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "Int64", "Float32"])
def test_drawn_values_of_a_column_that_repeats_them(dtype, numeric_transform):
    """The nearest value of the table, bit for bit."""
    values = [-7, 0, 3, 12, 100] if "nt" in dtype else [-0.7, 0.1, 0.35, 1.2, 9.9]
    rng = np.random.default_rng(0)
    column = pd.Series(rng.choice(values, 80), dtype=dtype)
    frame = pd.DataFrame({"a": column, "b": rng.normal(size=80)})
    encoder = TableEncoder(numeric_transform=numeric_transform).fit(frame)
    assert encoder.columns_[0].support is not None
    encoded, _ = encoder.encode(frame)
    noisy = encoded + rng.normal(scale=0.3, size=encoded.shape).astype(np.float32)
    noisy[0], noisy[1] = 50, -50  # far outside
    drawn, plain = encoder.decode(noisy, drawn=True), encoder.decode(noisy)
    assert drawn.dtypes.tolist() == frame.dtypes.tolist()
    support = np.unique(frame["a"].to_numpy(dtype=np.float64))
    exact = encoder.columns_[0].map.inverse(noisy[:, 0].astype(np.float64))
    nearest = support[np.abs(exact[:, None] - support).argmin(axis=1)]
    np.testing.assert_array_equal(drawn["a"].to_numpy(dtype=np.float64), nearest)
    # means and columns without repeats are left alone
    assert not plain["a"].equals(drawn["a"])
    pd.testing.assert_series_equal(plain["b"], drawn["b"])
    # missing cells stay missing where the dtype has them
    noisy[3] = np.nan
    if dtype != "int16":
        assert encoder.decode(noisy, drawn=True)["a"].isna().tolist() == (
            np.isnan(noisy[:, 0]).tolist()
        )


def test_which_columns_repeat_their_values():
    array = np.random.default_rng(0).normal(size=(4_000, 6))
    array[:, 1] = np.arange(4_000) // 2  # too many
    array[:, 2] = np.arange(4_000) // 4
    array[:, 3] = 5  # a constant has no other value
    array[:, 4] = np.where(np.arange(4_000) < 3_990, np.nan, np.arange(4_000) % 6)
    array[:, 5] = np.where(np.arange(4_000) < 3_990, np.nan, np.arange(4_000) % 5)
    columns = TableEncoder().fit(array).columns_
    supports = [column.support for column in columns]
    assert [support is not None for support in supports] == [
        False,
        False,
        True,
        False,
        False,  # six values in ten cells
        True,
    ]
    np.testing.assert_array_equal(supports[2], np.arange(1_000))
    np.testing.assert_array_equal(supports[5], np.arange(5))


# ---- likelihoods ------------------------------------------------------------------


def test_counts_by_data():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "poisson": rng.poisson(4, 500),
            "overdispersed": rng.negative_binomial(1, 0.02, 500),
            "two_values": rng.integers(0, 2, 500) * 3,
            "negative": rng.poisson(4, 500) - 1 - 4,
            "floats": rng.poisson(4, 500).astype(float),
        }
    )
    encoder = TableEncoder().fit(frame)
    assert kinds(encoder) == {
        "poisson": "count",
        "overdispersed": "numeric",
        "two_values": "numeric",
        "negative": "numeric",
        "floats": "numeric",
    }
    values, _ = encoder.encode(frame)
    np.testing.assert_array_equal(values[:, 0], frame["poisson"])
    decoded = encoder.decode(np.full((1, 5), -3.4))
    assert decoded["poisson"][0] == 0
    assert (encoder.log_jacobian(values)[:, 0] == 0).all()


def test_one_head_for_every_numeric_column():
    frame = mixed_frame("pandas").drop(columns="count")
    encoder = TableEncoder(likelihood="normal_isotropic").fit(frame)
    assert likelihoods(encoder) == {
        "mass": "normal_isotropic",
        "flag": "bernoulli",
        "island": "categorical",
        "size": "ordinal",
        "whole": "normal_isotropic",
    }


def test_likelihoods_by_column():
    frame = pd.DataFrame(
        {
            "grey": [0.0, 0.25, np.nan, 1.0],
            "yes": pd.Categorical(["n", "y", "n", None]),
            "n": [0.0, 3.0, np.nan, 2.0],
            "grade": [3, 1, 2, 3],
            "flag": [True, False, True, True],
            "free": [0.1, 0.5, 2.0, 4.0],
        }
    )
    likelihood = {
        "grey": "bernoulli",
        "yes": "bernoulli",
        "n": "poisson",
        "grade": "ordinal",
        4: "categorical",
    }
    encoder = TableEncoder(likelihood=likelihood).fit(frame)
    assert kinds(encoder) == {
        "grey": "numeric",
        "yes": "boolean",
        "n": "count",
        "grade": "ordinal",
        "flag": "categorical",
        "free": "numeric",
    }
    assert transforms(encoder) == ["none"] * 5 + ["standard"]
    values, _ = encoder.encode(frame)
    np.testing.assert_array_equal(values[:, 0], [0, 0.25, 0, 1])
    np.testing.assert_array_equal(values[:, 1], [0, 1, 0, 0])
    np.testing.assert_array_equal(values[:, 2], [0, 3, 0, 2])
    np.testing.assert_array_equal(values[:, 3], [2, 0, 1, 2])
    np.testing.assert_array_equal(values[:, 4], [1, 0, 1, 1])
    assert_tables_equal(round_trip(encoder, frame), frame)


@pytest.mark.parametrize(
    ("values", "head", "reason"),
    [
        ([0.5, 1.5], "bernoulli", r"outside \[0, 1\]"),
        ([0.5, 1.0], "poisson", "non-negative whole"),
        ([-1, 1], "poisson", "non-negative whole"),
        ([0.5, 1.0], "categorical", "not whole numbers"),
        ([0.5, 1.0], "ordinal", "not whole numbers"),
        (["a", "b"], "normal", "not numeric"),
        (["a", "b"], "poisson", "not numeric"),
        (["a", "a"], "bernoulli", "1 categories, not 2"),
        ([True, False], "student_t", "boolean"),
    ],
)
def test_likelihoods_that_do_not_fit(values, head, reason):
    frame = pd.DataFrame({"col": values})
    with pytest.raises(
        ValueError, match=f"'col' cannot have the likelihood '{head}'.*{reason}"
    ):
        TableEncoder(likelihood={"col": head}).fit(frame)


@pytest.mark.parametrize(
    ("head", "train", "new", "message"),
    [
        ("poisson", [1, 2, 3], [1.0, -1.0], "'a' has the likelihood 'poisson'.*-1"),
        ("poisson", [1, 2, 3], [1.0, 0.5], "'a' has the likelihood 'poisson'.*0.5"),
        ("bernoulli", [0.0, 1.0], [2.0, 1.0], "'a' has the likelihood 'bernoulli'.*2"),
        ("bernoulli", [True, False], [2, 1], "the likelihood 'bernoulli'.*0 or 1"),
        ("bernoulli", [0.0, 1.0], [np.inf, 1.0], "infinity"),
    ],
)
def test_new_values_outside_the_head(head, train, new, message):
    encoder = TableEncoder(likelihood=head).fit(pd.DataFrame({"a": train}))
    with pytest.raises(ValueError, match=message):
        encoder.encode(pd.DataFrame({"a": new}))


def test_what_is_no_count_is_missing_where_nobody_asked_for_counts():
    train = pd.DataFrame({"a": pd.array([0, 3, 1, 2, 2, 1, 0, 4, 1, 2], dtype="Int64")})
    encoder = TableEncoder().fit(train)
    assert encoder.columns_[0].kind == "count"
    new = pd.DataFrame({"a": [2.0, 2.5, -1.0, np.nan]})
    with pytest.warns(UserWarning, match=r"no count has.*missing.*'a': -1.0, 2.5"):
        values, observed = encoder.encode(new)
    assert observed[:, 0].tolist() == [True, False, False, False]
    assert values[:, 0].tolist() == [2, 0, 0, 0]
    assert new["a"].tolist()[:3] == [2.0, 2.5, -1.0]


# ---- numeric maps -----------------------------------------------------------


def test_transform_by_data():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=2000)
    array = np.column_stack(
        [
            normal,
            np.exp(2 * normal),
            np.where(normal > 0, normal + 5, normal - 5),
            np.round(np.exp(2 * normal)),  # ties
        ]
    )
    encoder = TableEncoder().fit(array)
    assert transforms(encoder) == ["standard", "quantile", "quantile", "standard"]
    few = TableEncoder().fit(array[:99])
    assert set(transforms(few)) == {"standard"}
    array[::2, 1] = np.nan
    assert transforms(TableEncoder().fit(array))[1] == "quantile"


def test_transforms_by_column():
    array = np.random.default_rng(0).lognormal(size=(600, 3))
    by_column = {0: "none", "x1": "standard"}
    encoder = TableEncoder(numeric_transform=by_column).fit(array)
    assert transforms(encoder) == ["none", "standard", "quantile"]
    values, _ = encoder.encode(array)
    np.testing.assert_allclose(values[:, 0], array[:, 0], rtol=1e-6)


def test_standard_map_uses_the_weights():
    array = np.random.default_rng(0).normal(3, 2, (40, 2))
    array[0, 0] = np.nan
    weights = np.random.default_rng(1).integers(0, 4, 40)
    encoder = TableEncoder(numeric_transform="standard")
    weighted = encoder.fit(array, sample_weight=weights).columns_
    repeated = encoder.fit(np.repeat(array, weights, axis=0)).columns_
    for left, right in zip(weighted, repeated, strict=True):
        assert left.map.mean == pytest.approx(right.map.mean)
        assert left.map.scale == pytest.approx(right.map.scale)


finite = st.floats(-1e6, 1e6, allow_nan=False)


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.lists(finite, min_size=2, max_size=60), st.lists(finite, min_size=1))
def test_quantile_map_has_an_inverse_and_a_slope(train, points):
    train = np.array(train)
    map_ = fit_quantile(train)
    if isinstance(map_, Affine):
        assert len(np.unique(train)) < 2 or np.ptp(train) < 1e-6
        return
    assert (np.diff(map_.knots) > 0).all()
    assert (np.diff(map_.scores) > 0).all()
    # Around a steep segment the inverse loses the digits that the slope eats.
    encoded = np.clip(map_.forward(np.array(points)), -20, 20)
    again = map_.forward(map_.inverse(encoded))
    steepest = np.exp(map_.log_slope(encoded))
    size = np.abs(map_.inverse(encoded)) + np.abs(map_.knots).max() + 1
    assert (np.abs(again - encoded) <= 1e-9 + 1e-14 * size * steepest.max()).all()
    # Both ends of a short step inside one segment.
    middle = (map_.scores[1:] + map_.scores[:-1]) / 2
    step = np.diff(map_.scores) / 8
    rise = map_.inverse(middle + step) - map_.inverse(middle - step)
    expected = 2 * step / np.exp(map_.log_slope(middle))
    np.testing.assert_allclose(rise, expected, rtol=1e-6, atol=1e-9 * size.max())


def test_log_jacobian_against_finite_differences():
    rng = np.random.default_rng(0)
    array = np.column_stack([rng.normal(10, 3, 800), rng.lognormal(0, 1, 800)])
    encoder = TableEncoder().fit(array)
    assert transforms(encoder) == ["standard", "quantile"]
    probe = np.array([[-6.0, -6.0], [-0.4, -0.41], [0.3, 0.33], [5.0, 5.0]])
    step = 1e-6
    rise = encoder.decode(probe + step) - encoder.decode(probe - step)
    expected = -np.log(rise / (2 * step))
    log_slopes = encoder.log_jacobian(probe)
    assert log_slopes.dtype == np.float64
    np.testing.assert_allclose(log_slopes, expected, atol=1e-4)


def test_density_of_the_original_values_integrates_to_one():
    array = np.random.default_rng(0).lognormal(0, 1, (600, 1))
    encoder = TableEncoder(numeric_transform="quantile").fit(array)
    grid = np.linspace(-20, 60, 400_001)[:, None]
    values, _ = encoder.encode(grid)
    density = np.exp(norm.logpdf(values) + encoder.log_jacobian(values))
    assert density.sum() * (grid[1, 0] - grid[0, 0]) == pytest.approx(1, abs=1e-3)


def test_quantile_map_extends_beyond_the_training_range():
    map_ = fit_quantile(np.random.default_rng(0).exponential(size=1000))
    assert isinstance(map_, PiecewiseLinear)
    outside = np.array([-1.0, 50.0])
    np.testing.assert_allclose(map_.inverse(map_.forward(outside)), outside)
    assert map_.scores[0] == pytest.approx(norm.ppf(0.5 / 1000))


def test_mean_and_scale_are_computed_in_float64():
    values = (1e6 + np.random.default_rng(0).normal(size=200_000)).astype(np.float32)
    map_ = fit_affine(values)
    assert map_.mean == pytest.approx(values.astype(np.float64).mean(), rel=1e-12)
    assert map_.scale == pytest.approx(values.astype(np.float64).std(), rel=1e-6)
    assert fit_affine(np.array([1e300, -1e300])).scale == pytest.approx(1e300)
    assert fit_affine(np.full(10, 0.1)).scale == 1


def test_integers_are_rounded_and_kept_in_range():
    array = np.array([[0, -128], [200, 5], [255, 127]])
    frame = pd.DataFrame({"u": array[:, 0].astype("u1"), "i": array[:, 1].astype("i1")})
    encoder = TableEncoder(likelihood="normal").fit(frame)
    low, high = encoder.decode(np.array([[-50.0, -50], [50, 50]])).to_numpy().tolist()
    assert low == [0, -128]
    assert high == [255, 127]
    wide = TableEncoder(likelihood="normal").fit(np.array([[0], [2**62]]))
    assert wide.decode([[1e9]])[0, 0] > 2**62


def test_blocks_of_rows_join_up():
    array = np.random.default_rng(0).normal(size=(9001, 3))
    array[8999, 1] = np.nan
    values, observed = TableEncoder().fit(array).encode(array)
    expected = (array - np.nanmean(array, axis=0)) / np.nanstd(array, axis=0)
    np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(observed, ~np.isnan(array))


def test_many_columns_of_a_frame_join_up():
    array = np.random.default_rng(0).normal(size=(50, 40))
    frame = pd.DataFrame(array).rename(columns=str)
    frame.insert(20, "c", ["a", "b"] * 25)
    values, observed = TableEncoder().fit(frame).encode(frame)
    assert observed is None
    expected, _ = TableEncoder().fit(array).encode(array)
    np.testing.assert_allclose(np.delete(values, 20, axis=1), expected, rtol=1e-6)


def test_thresholds_of_the_quantile_map_are_settings():
    skewed = np.exp(np.random.default_rng(0).normal(size=(200, 1)))
    assert transforms(TableEncoder().fit(skewed)) == ["standard"]
    for settings, expected in (
        (Settings(min_cells_for_quantile=200), "quantile"),
        (Settings(min_cells_for_quantile=200, min_gain_of_quantile=9.0), "standard"),
    ):
        assert transforms(TableEncoder(settings=settings).fit(skewed)) == [expected]


# -- units -----------------------------------------------------------------------------


def pixels(n_rows=60, n_columns=40, highest=16):
    """Whole numbers from 0 to ``highest``, reached by every column."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, highest + 1, (n_rows, n_columns)).astype(float)
    X[0], X[1] = 0, highest
    return X


def deviations_of(X, **options):
    return relative_deviations(TableEncoder(**options).fit(X).columns_)


def test_columns_of_one_unit_keep_their_relative_deviations():
    X = pixels()
    X[:, 0] = X[:, 0] > 12  # grey at most, and rarely
    X[:, 1] = np.random.default_rng(1).normal(size=len(X))
    deviations = deviations_of(X)
    sharing = np.delete(np.arange(40), 1)
    expected = X[:, sharing].std(0)
    expected /= np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(deviations[sharing], expected)
    assert deviations[0] < 0.2
    assert deviations[1] == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda X: X[:, :31], id="few columns"),
        pytest.param(lambda X: X * np.arange(1, 41), id="ranges of their own"),
        pytest.param(
            lambda X: np.hstack([X[:, :36], X[:, :37] * np.arange(2, 39)]),
            id="few of them",
        ),
        pytest.param(lambda X: X + np.linspace(0, 1, 2400).reshape(X.shape), id="rare"),
    ],
)
def test_other_columns_have_units_of_their_own(change):
    X = change(pixels())
    assert np.array_equal(deviations_of(X), np.ones(X.shape[1]))


def test_maps_that_are_asked_for_leave_no_common_unit():
    assert np.array_equal(
        deviations_of(pixels(), numeric_transform="none"), np.ones(40)
    )
