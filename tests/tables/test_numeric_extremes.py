"""Maps of numeric columns that float32 or squares in float64 would spoil."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opening_encoder import TableEncoder

from skvae._tables.transforms import (
    Affine,
    PiecewiseLinear,
    constant_of,
    fit_affine,
    fit_quantile,
    fit_robust,
    moments,
)

UNITS = [1e-300, 1e-160, 1.0, 1e12, 1e160, 1e298]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e3, 1e9])
def test_mean_and_deviation_of_any_size(unit, offset):
    values = np.random.default_rng(0).normal(size=400)
    weights = np.random.default_rng(1).uniform(0, 2, 400)
    for own in (None, weights):
        mean = np.average(values, weights=own)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=own))
        found = moments((values + offset) * unit, own)
        rounding = 4e-16 * (1 + abs(offset))
        assert found[0] / unit == pytest.approx(mean + offset, rel=1e-14, abs=1e-15)
        assert found[1] / unit == pytest.approx(deviation, rel=1e-12 + rounding)


def test_integers_as_large_as_time_stamps_vary():
    """Their deviation is far below the rounding error of a naive mean."""
    ids = 1.8e18 + 300.0 * np.arange(400)
    assert fit_affine(ids).scale == pytest.approx(34641, rel=1e-3)
    assert fit_affine(ids.astype(np.int64)).scale == pytest.approx(34641, rel=1e-3)
    assert fit_affine(ids[::-1].astype(np.uint64)).scale == pytest.approx(34641, 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", [0.1, -7e5, 3e30])
def test_floats_are_constant_within_four_units_in_the_last_place(dtype, level):
    level = np.dtype(dtype).type(level)
    step = np.spacing(abs(level))
    values = level + step * np.array([0, 1, 3, 2, 4, 0, 4]).astype(dtype)
    assert constant_of(values) in values.tolist()
    assert fit_affine(values).scale == 1
    values[3] = level + np.dtype(dtype).type(6) * step
    assert constant_of(values) is None
    assert fit_affine(values).scale < 10 * float(step)


def test_integers_and_halves_are_constant_where_they_are_equal():
    assert constant_of(np.array([2**62, 2**62])) == 2**62
    assert constant_of(np.array([2**62, 2**62 + 1])) is None
    assert constant_of(np.array([2016, 2018], dtype=np.float16)) is None
    assert constant_of(np.array([2.5, 2.5], dtype=np.float16)) == 2.5
    assert constant_of(np.array([])) is None


def test_a_constant_up_to_rounding_is_a_constant():
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[:, 1] = 0.1 + np.spacing(0.1) * (np.arange(40) % 3)
    column = TableEncoder().fit(X).columns_[1]
    assert column.constant in X[:, 1]
    assert column.support is None


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([2.0**-990, 2.0**-500, 2.0**500, 2.0**990]),
    st.integers(0, 2**32 - 1),
)
def test_maps_do_not_depend_on_the_unit(unit, seed):
    """A power of two changes no digit."""
    values = np.random.default_rng(seed).standard_cauchy(200).round(9)
    for fit in (fit_affine, fit_quantile, fit_robust):
        map_, scaled = fit(values), fit(values * unit)
        if map_ is None:
            assert scaled is None
            continue
        encoded = map_.forward(values)
        np.testing.assert_array_equal(scaled.forward(values * unit), encoded)
        np.testing.assert_allclose(
            scaled.log_slope(encoded), map_.log_slope(encoded) - np.log(unit)
        )


# ---- tails that hide the body -----------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-200, 1e200])
def test_a_robust_map_keeps_body_and_order(factor):
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 2_000)
    values[:60] *= 10.0 ** rng.uniform(1, 6, 60)
    values *= factor
    map_ = fit_robust(values)
    encoded = map_.forward(values)
    body = encoded[60:]
    assert abs(body.mean()) < 0.1
    assert body.std() == pytest.approx(1, rel=0.1)
    assert np.abs(encoded).max() < 30
    order = np.argsort(values)
    assert (np.diff(encoded[order]) > 0).all()
    np.testing.assert_allclose(map_.inverse(encoded), values, rtol=1e-6)
    # linear in the body
    slopes = np.diff(body[np.argsort(values[60:])]) / np.diff(np.sort(values[60:]))
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).lognormal(size=3_000),
        np.random.default_rng(0).standard_t(3, 3_000),
        np.random.default_rng(0).exponential(size=300) * (np.arange(300) % 3 == 0),
        np.arange(10.0) ** 9,
    ],
    ids=["log-normal", "Student-t", "half zeros", "few"],
)
def test_ordinary_tails_are_left_alone(values):
    assert fit_robust(values) is None


@pytest.mark.parametrize("transform", ["auto", "standard"])
def test_columns_with_compressed_tails_are_named(transform):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2_000, 1))
    values[:60, 0] *= 10.0 ** rng.uniform(1, 6, 60)
    values = values.round(1) if transform == "auto" else values
    encoder = TableEncoder(numeric_transform=transform)
    with pytest.warns(UserWarning, match=r"tails.*compressed.*'x0': from -\d.* to \d"):
        encoder.fit(values)
    assert encoder.columns_[0].transform == "robust"
    assert isinstance(encoder.columns_[0].map, PiecewiseLinear)


# ---- values that leave -------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("transform", ["standard", "quantile"])
def test_values_beyond_a_dtype_are_its_largest(dtype, transform):
    largest = np.finfo(dtype).max
    X = np.random.default_rng(0).uniform(-0.4, 0.4, (60, 2)).astype(dtype) * largest
    encoder = TableEncoder(numeric_transform=transform).fit(X)
    far = np.array([[1e9, -1e9], [0, 3]], dtype=np.float32)
    with np.errstate(all="raise"):
        values = encoder.decode(far)
    assert values.dtype == dtype
    assert values[0].tolist() == [largest, -largest]
    assert np.isfinite(values).all()


def test_inverse_is_in_float64_whatever_comes_in():
    encoded = np.float32([-1.5, 0, 0.25])
    expected = [1e9 - 3, 1e9, 1e9 + 0.5]
    assert Affine(1e9, 2.0).inverse(encoded).tolist() == expected
    knots = PiecewiseLinear(np.array([1e9 - 4, 1e9 + 4]), np.array([-2.0, 2.0]))
    assert knots.inverse(encoded).tolist() == expected


def test_repeated_values_are_given_by_their_indices():
    """Their codes are one number in float32."""
    digits = np.arange(1.0, 11)
    values = np.concatenate([digits, 1e15 + digits]).repeat(5)[:, None]
    encoder = TableEncoder().fit(values)
    assert len(np.unique(encoder.encode(values)[0])) == 2
    indices = np.arange(20, dtype=np.float32)[:, None]
    decoded = encoder.decode(indices, drawn=True, indexed=[0])
    np.testing.assert_array_equal(decoded[:, 0], np.unique(values))
