"""Which columns of integers "auto" gives a negative binomial."""

import numpy as np
import pytest
from opening_encoder import TableEncoder

from skvae._tables.settings import Settings


def chosen(values, weights=None, **options):
    encoder = TableEncoder(**options)
    encoder.fit(np.asarray(values)[:, None], sample_weight=weights)
    return encoder.columns_[0].likelihood


def overdispersed(n_rows=400, r=0.3, mean=6.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(r, mean / r, n_rows))


@pytest.mark.parametrize("seed", range(10))
def test_counts_that_vary_more_than_a_poisson(seed):
    assert chosen(overdispersed(seed=seed)) == "negative_binomial"
    # small ones, which a Poisson describes better than a Normal
    few = overdispersed(2_000, 0.3, 0.5, seed)
    assert chosen(few) == "negative_binomial"


def test_the_column_keeps_its_values():
    values = overdispersed()[:, None]
    encoder = TableEncoder().fit(values)
    column = encoder.columns_[0]
    assert (column.kind, column.transform) == ("count", "none")
    assert column.is_automatic
    np.testing.assert_array_equal(encoder.encode(values)[0], values)


@pytest.mark.parametrize("rate", [0.1, 3, 1_000])
@pytest.mark.parametrize("seed", range(10))
def test_counts_of_a_poisson_stay(rate, seed):
    """Half of them vary more than their mean, by chance."""
    values = np.random.default_rng(seed).poisson(rate, 300)
    assert chosen(values) != "negative_binomial"


def test_measurements_in_whole_units_are_no_counts():
    rng = np.random.default_rng(0)
    columns = {
        "ages": 18 + rng.gamma(2, 10, 2_000),
        "prices": 1_000 * np.exp(1 + rng.normal(size=2_000)),
        "years": 2026 - rng.exponential(5, 2_000),
        "weights": rng.normal(3_000, 500, 2_000),
        "heavy tails": 500 + 20 * rng.standard_t(3, 2_000),
        "incomes above 0": rng.gamma(1, 5_000, 2_000),
    }
    for name, values in columns.items():
        whole = values.round().astype(int)
        assert whole.var() > whole.mean() or name == "years"
        assert chosen(whole) == "student_t_heteroscedastic", name


def test_sums_of_money_that_are_often_0_are_counts():
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(2_000) < 0.6, 0, rng.exponential(2e4, 2_000))
    assert chosen(gains.astype(int)) == "negative_binomial"


def test_bounded_values_are_no_counts():
    values = overdispersed(2_000, 0.3, 40)
    assert chosen(values) == "negative_binomial"
    # grey values: a pile at the end
    assert chosen(np.minimum(values, 60)) == "student_t_heteroscedastic"
    # nothing below 5 where much would be
    assert chosen(5 + values) == "student_t_heteroscedastic"


def test_few_counts_are_judged_as_a_whole():
    values = overdispersed(2_000)
    above = np.flatnonzero(values > 0)
    enough = values[: above[49] + 1]
    assert chosen(enough) == "negative_binomial"
    assert chosen(enough[:-1]) != "negative_binomial"
    fewer = Settings(min_cells_for_dispersion=49)
    assert chosen(enough[:-1], settings=fewer) == "negative_binomial"


def test_missing_cells_and_rows_without_weight_do_not_count():
    values = overdispersed()
    other = np.random.default_rng(1).poisson(6, len(values))
    both = np.concatenate([values, other])
    of_first = np.repeat([1.0, 0.0], len(values))
    assert chosen(both, of_first) == "negative_binomial"
    assert chosen(both, 1 - of_first) == "poisson"
    assert chosen(values, np.full(len(values), 1e-9)) == "negative_binomial"


def test_the_order_of_rows_hardly_matters():
    """Halves are drawn: rows that are sorted or alternate are no trap."""
    values = np.sort(overdispersed())
    assert chosen(values) == "negative_binomial"
    alternating = np.stack([values[:200], values[200:]], 1).ravel()
    assert chosen(alternating) == "negative_binomial"


def test_it_can_be_asked_for():
    values = np.random.default_rng(0).poisson(3, (50, 1))
    encoder = TableEncoder(likelihood="negative_binomial").fit(values.astype(float))
    assert encoder.columns_[0].likelihood == "negative_binomial"
    assert encoder.columns_[0].kind == "count"
    with pytest.raises(ValueError, match=r"'negative_binomial'.*whole numbers"):
        TableEncoder(likelihood={0: "negative_binomial"}).fit(values - 0.5)


def test_integers_of_any_size_and_type():
    values = overdispersed()
    for dtype in (np.uint8, np.int16, np.uint64):
        assert chosen(np.minimum(values, 255).astype(dtype)) == "negative_binomial"
    identifiers = np.random.default_rng(0).integers(0, 2**50, 500)
    assert chosen(identifiers) == "student_t_heteroscedastic"
    assert chosen(np.append(np.zeros(499, dtype=int), 2**40)) != "negative_binomial"


@pytest.mark.parametrize("start", [2**40, 1_611_111_111_111_111_111])
@pytest.mark.parametrize("step", [1, 1_000, 300_000_000])
@pytest.mark.parametrize("n_rows", [20, 200])
def test_large_integers_are_no_counts(start, step, n_rows):
    """Terms of their log-probability cancel: naive sums differ by thousands of nats."""
    assert chosen(start + step * np.arange(n_rows)) == "student_t_heteroscedastic"
    random = start + np.random.default_rng(0).poisson(1e3, n_rows) * step
    assert chosen(random) == "student_t_heteroscedastic"


@pytest.mark.parametrize("rate", [0.2, 40, 1e5])
@pytest.mark.parametrize("factor", [5, 0.2])
def test_no_poisson_where_the_variance_is_far_from_the_mean(rate, factor):
    rng = np.random.default_rng(0)
    if factor > 1:
        values = rng.negative_binomial(rate / (factor - 1), 1 / factor, 2_000)
    elif rate < 1:
        return  # rare events vary as much as their mean
    else:
        values = np.round(rng.normal(rate, np.sqrt(factor * rate), 2_000))
    assert chosen(values.astype(int)) != "poisson"


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_counts_beyond_the_largest_rate_are_refused(likelihood):
    values = np.random.default_rng(0).poisson(1e9, 40)
    with pytest.raises(ValueError, match=r"'x0' cannot have.*counts beyond 4.85e.08"):
        chosen(values, likelihood=likelihood)
    assert chosen(values // 10, likelihood=likelihood) == likelihood
