"""Shift and scale equivariance: other units change the units of the outputs alone.

With likelihood and transform given, x -> a x + b maps every output of every estimator
likewise, and a log-density by -log |a|.
"""

import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

QUICK = {"max_iter": 2, "hidden_layer_sizes": (8,), "random_state": 0}

# Values and shifts are multiples of 2^-8: a shift of 1e12 rounds nothing.
RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(60, 3)) @ np.array([[1, 1, 0], [0, 0.5, -1], [0, 0, 0.5]])
X = np.round(MIXED * 256) / 256
MISSING = RNG.random(X.shape) < 0.15
LABELS = (X[:, 0] > 0).astype(int)

UNITS = [
    pytest.param(2.0**-40, 0.0, id="tiny"),
    pytest.param(2.0**100, 0.0, id="huge"),
    pytest.param(1e-300, 0.0, id="near 0"),
    pytest.param(1e300, 0.0, id="near the largest"),
    pytest.param(1.0, 1e12, id="far"),
    pytest.param(1.0, -1e9, id="far below"),
    pytest.param(3.7e-5, 11.0, id="rounded"),
    pytest.param([1.0, 1e-5, 1e8], [1e5, -3.0, 1e9], id="by column"),
]

MODELS = [("normal", "standard"), ("student_t_heteroscedastic", "quantile")]


class Units:
    """Units of the columns, with the way back."""

    def __init__(self, factor, shift):
        self.factor, self.shift = np.broadcast_arrays(factor, shift, X[0])[:2]

    def there(self, x):
        return x * self.factor + self.shift

    def back(self, values, columns=slice(None)):
        """Values in the units of ``X``, of some columns."""
        values = np.asarray(values, dtype=np.float64)
        return (values - self.shift[columns]) / self.factor[columns]

    def log_factors(self, cells=True):
        """Sums of log |a| over the observed cells, by row."""
        return (np.log(np.abs(self.factor)) * cells * np.ones(X.shape)).sum(1)

    def resolution(self):
        """Rounding of the data, and of float32, in the units of ``X``."""
        return float(np.max(np.spacing(np.abs(self.shift)) / np.abs(self.factor)))


def transformer_outputs(units, **options):
    table = units.there(X)
    model = VAETransformer(**QUICK, **options).fit(table)
    Z = model.transform(table)
    return {
        "transform": Z,
        "inverse_transform": units.back(model.inverse_transform(Z)),
        "sample": units.back(model.sample(30, random_state=1)),
        "sample_posterior": model.sample_posterior(table, random_state=1),
        "score_samples": model.score_samples(table) + units.log_factors(),
    }


def classifier_outputs(units, **options):
    table = units.there(X)
    model = VAEClassifier(**QUICK, **options).fit(table, LABELS)
    Z = model.transform(table)
    return {
        "predict_proba": model.predict_proba(table),
        "transform": Z,
        "decode": units.back(model.decode(Z, 1)),
        "sample": units.back(model.sample(30, random_state=1)[0]),
        "score_samples": model.score_samples(table) + units.log_factors(),
    }


def regressor_outputs(units, dtype=np.float64, **options):
    table, last = units.there(X), slice(1, None)
    features, outputs = table[:, :1].astype(dtype), table[:, 1:]
    model = VAERegressor(**QUICK, **options).fit(features, outputs)
    mean, deviation = model.predict(features, return_std=True)
    lower, upper = model.predict_interval(features)
    log_p = model.score_samples(features, outputs)
    inputs = np.log(np.abs(units.factor[0]))
    return {
        "predict": units.back(mean, last),
        "deviation": deviation / np.abs(units.factor[last]),
        "lower": units.back(lower, last),
        "upper": units.back(upper, last),
        "sample": units.back(model.sample(features, 2, random_state=1), last),
        "score_samples": log_p + units.log_factors() - inputs,
        "score": model.score(features, outputs),
    }


def imputer_outputs(units, **options):
    options = {**QUICK, **options}
    table = units.there(X)
    table[MISSING] = np.nan
    model = VAEImputer(**options).fit(table)
    median = VAEImputer(strategy="median", **options).fit(table)
    lower, upper = model.predict_interval(table)
    log_p = model.score_samples(table)
    return {
        "transform": units.back(model.transform(table)),
        "median": units.back(median.transform(table)),
        "lower": units.back(lower),
        "upper": units.back(upper),
        "sample": units.back(model.sample(table, 2, random_state=1)),
        "score_samples": log_p + units.log_factors(~MISSING),
    }


CASES = {
    "transformer": transformer_outputs,
    "classifier": classifier_outputs,
    "regressor": regressor_outputs,
    "imputer": imputer_outputs,
}


def assert_equal_outputs(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.isfinite(values).all(), name
        assert np.abs(values - expected[name]).max() <= tolerance, name


@pytest.mark.parametrize(("likelihood", "transform"), MODELS)
@pytest.mark.parametrize("outputs", CASES.values(), ids=CASES)
def test_every_output_has_the_units_of_the_table(outputs, likelihood, transform):
    options = {"likelihood": likelihood, "numeric_transform": transform}
    expected = outputs(Units(1.0, 0.0), **options)
    for case in UNITS:
        units = Units(*case.values)
        # a quantile map has steep pieces, and 2 epochs of Adam enlarge a rounding
        tolerance = 2e-5 + 20 * units.resolution()
        assert_equal_outputs(outputs(units, **options), expected, tolerance)


@pytest.mark.parametrize("factor", [-1.0, -(2.0**40), -3.7e-5])
def test_the_linear_imputer_does_not_know_the_direction_of_a_column(factor):
    """Its estimates; draws have noise of one sign."""
    options = {
        "hidden_layer_sizes": (),
        "likelihood": "normal",
        "numeric_transform": "standard",
    }
    expected = imputer_outputs(Units(1.0, 0.0), **options)
    for units in (Units(factor, 3.0), Units([factor, 1.0, 2.0], [1e9, 0.0, 0.0])):
        found = imputer_outputs(units, **options)
        for name in ("transform", "median", "score_samples"):
            tolerance = 2e-5 + 20 * units.resolution()
            assert np.abs(found[name] - expected[name]).max() <= tolerance, name


@pytest.mark.parametrize("transform", ["standard", "quantile"])
def test_features_in_single_precision_do_not_round_the_outputs(transform):
    options = {"likelihood": "normal", "numeric_transform": transform}
    expected = regressor_outputs(Units(1.0, 0.0), np.float32, **options)
    units = Units([1.0, 1.0, 1.0], [0.0, 1e9, 1e12])
    found = regressor_outputs(units, np.float32, **options)
    assert_equal_outputs(found, expected, 2e-5 + 20 * units.resolution())
    assert len(np.unique(found["predict"][:, 0])) > 50


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_tables_near_the_largest_number(dtype):
    largest = float(np.finfo(dtype).max)
    table = (X / np.abs(X).max() * largest).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        model = VAETransformer(**QUICK).fit(table)
        drawn = model.sample(2_000, random_state=0)
        table[MISSING] = np.nan
        imputer = VAEImputer(**QUICK).fit(table)
        completed = [
            imputer.transform(table),
            *imputer.predict_interval(table),
            *imputer.sample(table, 3, random_state=0),
        ]
    for values in (drawn, *completed):
        assert values.dtype == dtype
        assert np.isfinite(values).all()


def test_an_irrelevant_column_does_not_move_the_others():
    """Ids whose deviation is far below the rounding error of their sum."""
    table = X.copy()
    table[MISSING] = np.nan
    ids = 1.8e18 + 300.0 * RNG.permutation(len(X))
    errors = {}
    for name, columns in {
        "alone": [table],
        "ids": [table, ids[:, None]],
        "rounding": [table, 0.1 + np.spacing(0.1) * (np.arange(len(X)) % 3)[:, None]],
    }.items():
        model = VAEImputer(**{**QUICK, "hidden_layer_sizes": ()})
        completed = model.fit_transform(np.hstack(columns))[:, :3]
        errors[name] = np.sqrt(np.mean((completed - X)[MISSING] ** 2))
    assert errors["ids"] < 1.1 * errors["alone"]
    assert errors["rounding"] == pytest.approx(errors["alone"], rel=1e-6)


def test_time_stamps_in_nanoseconds():
    """A window of a minute, 51 years after 1970."""
    pd = pytest.importorskip("pandas")
    stamps = 1_611_111_111_111_111_111 + np.arange(200) * 300_000_000
    column = pd.array(stamps, dtype="Int64")
    column[100] = pd.NA
    table = pd.DataFrame({"t": column, "k": np.arange(200.0)})
    model = VAEImputer(hidden_layer_sizes=(), random_state=0).fit(table)
    assert model.likelihood_["t"] == "normal"
    assert abs(int(model.transform(table)["t"][100]) - stamps[100]) < 1e6
    default = VAEImputer(max_iter=20, random_state=0).fit(table)
    error = abs(int(default.transform(table)["t"][100]) - stamps[100])
    assert error < 0.05 * stamps.std()
