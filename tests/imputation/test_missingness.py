"""The slope of self-masking, from masks whose slope is known."""

import numpy as np
import pytest

from skvae._imputation.self_masking import fit_slope
from skvae._imputation.settings import SETTINGS


def simulate(slope, seed=0, n_rows=2_000, signal=0.6):
    """Return draws of the observed kind, given another column, and the mask.

    Values that are observed are N(mean, 1 - signal^2) by row; missing ones are those
    tilted by exp(slope x), which moves their mean and leaves their variance.
    """
    rng = np.random.default_rng(seed)
    mean = signal * rng.normal(size=n_rows)
    variance = 1 - signal**2
    tilt = slope * mean + 0.5 * slope**2 * variance  # log E exp(slope x)
    chance = 1 / (1 + np.exp(0.7 - tilt))
    missing = rng.random(n_rows) < chance
    draws = mean + np.sqrt(variance) * rng.normal(size=(99, n_rows))
    return draws, missing


@pytest.mark.parametrize("slope", [-1.5, -0.7, 0.7, 1.5])
def test_the_slope_is_recovered(slope):
    found = [fit_slope(*simulate(slope, seed), 0) for seed in range(4)]
    # the noise of an expectation over 99 draws takes some 5% off large slopes, and
    # the standard error of the mean is 0.04
    assert np.mean(found) == pytest.approx(0.95 * slope, abs=0.12)
    declared = fit_slope(*simulate(slope), int(np.sign(slope)))
    assert declared == pytest.approx(fit_slope(*simulate(slope), 0), abs=1e-3)


@pytest.mark.parametrize("slope", [-1.5, 1.5])
def test_the_declared_sign_holds(slope):
    found = fit_slope(*simulate(slope), -int(np.sign(slope)))
    assert found == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_no_slope_where_cells_are_missing_at_random(sign):
    found = [fit_slope(*simulate(0.0, seed), sign) for seed in range(8)]
    # the standard error of one is about 2 / (0.6 sqrt(2000)) = 0.08
    assert abs(np.mean(found)) < 0.1
    assert max(map(abs, found)) < 0.3


@pytest.mark.parametrize("missing", [True, False])
def test_a_mask_without_information(missing):
    draws, mask = simulate(1.0, n_rows=50)
    assert fit_slope(draws, np.full_like(mask, missing), 0) == 0


def test_draws_without_information():
    """Where x is independent of the other columns, so is its mask."""
    draws, missing = simulate(1.0, signal=0.0)
    assert abs(fit_slope(draws, missing, 0)) < 1


def test_slopes_are_bounded():
    draws, _ = simulate(1.0, n_rows=400, signal=0.99)
    missing = draws.mean(axis=0) > 0  # no chance about it
    assert 1 < fit_slope(draws, missing, 0) <= SETTINGS.max_slope
    assert 1 < fit_slope(draws, missing, 1) <= SETTINGS.max_slope
