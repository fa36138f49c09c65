"""The registry of likelihoods, and what the data choose by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opening_encoder import TableEncoder
from scipy import stats

from skvae._distributions.head import Head
from skvae._distributions.registry import LIKELIHOODS, make_head, with_scale_per_column

KINDS = {"numeric", "count", "boolean", "ordinal", "categorical"}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_makes_a_head_for_some_kind_of_column(name):
    spec = LIKELIHOODS[name]
    assert spec.kinds and set(spec.kinds) <= KINDS
    head = make_head(name, 3, 4)
    assert isinstance(head, Head)
    assert head.n_columns == 3
    assert spec.domain in ("real", "unit interval", "counts", "codes")
    assert spec.is_numeric == head.is_numeric
    if spec.domain == "real":
        assert spec.kinds == ("numeric",)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_with_a_scale_per_cell_know_that_with_a_scale_per_column(name):
    simpler = with_scale_per_column(name)
    assert with_scale_per_column(simpler) == simpler
    per_cell, per_column = (make_head(n, 3, 4) for n in (name, simpler))
    assert type(per_cell) is type(per_column)
    assert not per_column.log_scale_outputs()
    assert bool(per_cell.log_scale_outputs()) == (simpler != name)


def test_every_kind_has_a_likelihood():
    assert {kind for spec in LIKELIHOODS.values() for kind in spec.kinds} == KINDS


def test_unknown_likelihood():
    with pytest.raises(ValueError, match="Unknown likelihood 'gauss'"):
        make_head("gauss", 1, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_densities_of_whole_columns(weighted):
    rng = np.random.default_rng(0)
    values, new = rng.poisson(4, 50), np.arange(12)
    weights = rng.uniform(0, 2, 50) if weighted else None
    mean = np.average(values, weights=weights)
    variance = np.average((values - mean) ** 2, weights=weights)
    poisson = LIKELIHOODS["poisson"].fit_column(values, weights)
    np.testing.assert_allclose(poisson(new), stats.poisson(mean).logpmf(new))
    normal = LIKELIHOODS["normal"].fit_column(values, weights)
    exact = stats.norm(mean, np.sqrt(variance))
    np.testing.assert_allclose(normal(new), exact.logpdf(new))


def is_count(values, weights=None):
    encoder = TableEncoder().fit(np.array(values)[:, None], sample_weight=weights)
    return encoder.columns_[0].likelihood == "poisson"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_counts_are_what_a_poisson_describes_as_well_as_a_normal(values, seed):
    values = np.array(values)
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(values))
    mean = np.average(values, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    expected = False
    if len(np.unique(values)) > 2:
        gain = stats.poisson(mean).logpmf(values) - stats.norm(mean, spread).logpdf(
            values
        )
        gain = np.average(gain, weights=weights)
        if abs(gain) < 1e-9:
            return
        expected = gain > 0
    assert is_count(values, weights) == expected


def test_what_is_never_a_count():
    counts = np.random.default_rng(0).poisson(3, 200)
    assert is_count(counts)
    assert not is_count(counts.astype(float))  # by their dtype no integers
    assert not is_count(counts - 1)  # negative ones
    assert not is_count(np.minimum(counts, 1))  # two values
    assert not is_count(100 * counts)  # too dispersed
