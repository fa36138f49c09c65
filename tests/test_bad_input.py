"""Bad input: one clear error that names what is wrong, and nothing changes."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skvae import VAETransformer

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

N_ROWS = 12


def table(**changed):
    columns = {
        "mass": np.arange(N_ROWS) * 1.5,
        "size": np.cos(np.arange(N_ROWS)),
        "island": pd.Categorical(["Dream", "Biscoe"] * (N_ROWS // 2)),
    }
    return pd.DataFrame(columns | changed)


def replaced(value, at=(3, 1)):
    X = np.random.default_rng(0).normal(size=(N_ROWS, 3))
    X[at] = value
    return X


def with_value(value, column="mass"):
    X = table()
    X.loc[3, column] = value
    return X


def with_duplicate_names():
    X = table()
    X.columns = ["mass", "mass", "island"]
    return X


def objects(values):
    return np.array([[value, 1.0] for value in values], dtype=object)


@pytest.fixture(scope="module")
def fitted():
    vae = VAETransformer(2, max_iter=2, random_state=0)
    return vae.fit(table())


@pytest.fixture
def unchanged(fitted):
    """The fitted model; afterwards it must be as it was, to the last bit."""
    before, attributes = pickle.dumps(fitted), set(vars(fitted))
    yield fitted
    assert set(vars(fitted)) == attributes
    assert pickle.dumps(fitted) == before


def assert_fails(call, match, error=ValueError):
    """Expect one error, without warnings before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # scikit-learn says so before it looks at the shape
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        with pytest.raises(error, match=match):
            call()


# -- tables that cannot be trained on ------------------------------------------------

TABLES = {
    "infinity": (replaced(np.inf), "infinity .*'x1'"),
    "minus infinity": (replaced(-np.inf), "infinity .*'x1'"),
    "infinity in pandas": (with_value(np.inf), "infinity .*'mass'"),
    "infinity in polars": (pl.from_pandas(with_value(np.inf)), "infinity .*'mass'"),
    "infinity in pyarrow": (
        pa.Table.from_pandas(with_value(np.inf)),
        "infinity .*'mass'",
    ),
    "objects": (table(mass=np.array([1, "a"] * 6, dtype=object)), "'mass'.*object"),
    "text as objects": (
        table(mass=pd.Series(["a", "b"] * 6, dtype=object)),
        "'mass'.*object.*categorical_features",
    ),
    "text in an array": (np.array([["a", "b"]] * N_ROWS), "'x0'.*categorical_features"),
    "mixed types in an array": (objects([1, "a"] * 6), "'x0' mixes .*int.*str"),
    "no rows": (table()[:0], r"0 sample\(s\).*minimum of 2"),
    "no rows in an array": (np.empty((0, 3)), r"0 sample\(s\).*minimum of 2"),
    "one row": (table()[:1], r"1 sample\(s\).*minimum of 2"),
    "one row in an array": (np.ones((1, 3)), r"1 sample\(s\).*minimum of 2"),
    "no columns": (table()[[]], r"0 feature\(s\)"),
    "duplicate names": (with_duplicate_names(), "unique.*'mass'"),
    "names of two types": (table().rename(columns={"size": 1}), "string"),
    "dates": (table(mass=pd.date_range("2020-01-01", periods=N_ROWS)), "'mass'.*date"),
    "one dimension": (np.arange(4.0), "Reshape your data"),
    "three dimensions": (np.ones((4, 3, 2)), "dim"),
    "complex numbers": (np.ones((4, 2)) * 1j, "Complex data"),
}


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_trained_on(unchanged, case, method):
    X, match = TABLES[case]
    assert_fails(
        lambda: getattr(unchanged, method)(X), match, error=(TypeError, ValueError)
    )


# a later chunk may have a single row
@pytest.mark.parametrize("case", [case for case in TABLES if "one row" not in case])
def test_tables_that_cannot_be_gone_on_with(unchanged, case):
    X, _ = TABLES[case]
    errors = (TypeError, ValueError)
    assert_fails(lambda: unchanged.partial_fit(X), None, errors)
    vae = pickle.loads(pickle.dumps(unchanged)).set_params(warm_start=True)
    before = pickle.dumps(vae)
    assert_fails(lambda: vae.fit(X), None, errors)
    assert pickle.dumps(vae) == before


def test_nothing_is_left_of_a_failed_first_fit():
    vae = VAETransformer(max_iter=1)
    before = dict(vars(vae))
    for X, _ in TABLES.values():
        for method in (vae.fit, vae.partial_fit):
            with pytest.raises((TypeError, ValueError)):
                method(X)
    assert vars(vae) == before


def test_sparse_tables():
    X = sparse.random(20, 4, random_state=0)
    assert_fails(lambda: VAETransformer().fit(X), "[Ss]parse", TypeError)


def test_mixed_types_in_a_declared_column(unchanged):
    X = table(island=np.array(["a", 1] * 6, dtype=object))
    vae = VAETransformer(categorical_features=["island"])
    assert_fails(lambda: vae.fit(X), "'island' mixes .*int.*str")


# -- parameters ----------------------------------------------------------------------

PARAMETERS = [
    ({"n_components": 0}, "n_components"),
    ({"n_components": -2}, "n_components"),
    ({"n_components": 1.5}, "n_components"),
    ({"device": "tpu"}, "device 'tpu'.*'cpu'"),
    ({"device": "cuda:first"}, "device 'cuda:first'"),
    ({"device": "cuda:97"}, "'cuda:97' is not available"),
    ({"device": 0}, "device"),
    ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": 0}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (8, -1)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (8.5,)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": ("8",)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": [[8, 8]]}, "hidden_layer_sizes"),
    ({"activation": "step"}, "activation"),
    ({"gradient": "dreg"}, "gradient='dreg'.*objective='iwae'"),
    ({"gradient": "dreg", "objective": "iwae"}, "gradient='dreg'.*n_draws > 1"),
    ({"gradient": "dreg", "n_draws": 5}, "gradient='dreg'.*objective='iwae'"),
    (
        {"gradient": "stl", "objective": "iwae", "n_draws": 5},
        "gradient='stl' is biased.*'dreg'",
    ),
    ({"gradient": "reinforce"}, "gradient"),
    ({"objective": "vae"}, "objective"),
    ({"n_draws": 0}, "n_draws"),
    ({"kl_weight": -1.0}, "kl_weight"),
    ({"prior": {"mixture": 0}}, "number of components, at least 1"),
    ({"prior": {"mixture": 3, "vamp": 3}}, "number of components, at least 1"),
    ({"prior": 3}, "prior"),
    ({"max_iter": 0}, "max_iter"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": "large"}, "batch_size"),
    ({"learning_rate_init": 0}, "learning_rate_init"),
    ({"learning_rate": "invscaling"}, "learning_rate"),
    ({"validation_fraction": 0.0}, "validation_fraction"),
    ({"validation_fraction": 1.0}, "validation_fraction"),
    ({"n_iter_no_change": 0}, "n_iter_no_change"),
    ({"tol": -1e-3}, "tol"),
    ({"random_state": "seed"}, "random_state"),
    ({"random_state": -1}, "random_state"),
    ({"callbacks": "stop"}, "callbacks"),
    ({"likelihood": "gamma"}, "likelihood.*'gamma'"),
    ({"likelihood": {"mass": "gamma"}}, "likelihood.*'gamma'"),
    ({"likelihood": {"weight": "normal"}}, "likelihood.*'weight'"),
    ({"likelihood": {"island": "normal"}}, "'island'.*'normal'"),
    ({"likelihood": {"size": "poisson"}}, "'size'.*'poisson'"),
    ({"numeric_transform": "log"}, "numeric_transform.*'log'"),
    ({"numeric_transform": {"weight": "none"}}, "numeric_transform.*'weight'"),
    ({"categorical_features": ["weight"]}, "categorical_features.*'weight'"),
    ({"categorical_features": [7]}, "categorical_features.*7"),
    ({"categorical_features": [True]}, "categorical_features.*1 values.*3 columns"),
    ({"categorical_features": "all"}, "categorical_features"),
]


@pytest.mark.parametrize(("params", "match"), PARAMETERS, ids=lambda item: str(item))
def test_parameters(fitted, params, match):
    vae = pickle.loads(pickle.dumps(fitted)).set_params(**params)
    before = pickle.dumps(vae)
    assert_fails(lambda: vae.fit(table()), f"(?s){match}")
    assert pickle.dumps(vae) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there():
    vae = VAETransformer(device="cuda")
    assert_fails(lambda: vae.fit(table()), "'cuda' is not available.*device='auto'")


# -- weights -------------------------------------------------------------------------

WEIGHTS = {
    "negative": (np.linspace(-1, 1, N_ROWS), "[Nn]egative.*sample_weight"),
    "all zero": (np.zeros(N_ROWS), "weights must contain at least one non-zero"),
    "too few": (np.ones(N_ROWS - 1), "sample_weight.shape"),
    "NaN": (np.full(N_ROWS, np.nan), "sample_weight contains NaN"),
    "infinite": (np.full(N_ROWS, np.inf), "sample_weight contains infinity"),
    "two columns": (np.ones((N_ROWS, 2)), "[Ss]ample.weights must be 1D"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(unchanged, case, method):
    weights, match = WEIGHTS[case]
    call = getattr(unchanged, method)
    assert_fails(lambda: call(table(), sample_weight=weights), match)


def test_a_single_row_with_a_weight(unchanged):
    weights = np.eye(N_ROWS)[4]
    call = unchanged.fit
    assert_fails(
        lambda: call(table(), sample_weight=weights), r"1 sample\(s\).*minimum of 2"
    )


# -- tables that do not fit the model ------------------------------------------------

COLUMNS = {
    "missing column": (table().drop(columns="size"), "(?s)now missing:\n- size"),
    "extra column": (table(colour=1.0), "(?s)unseen at fit time:\n- colour"),
    "renamed column": (
        table().rename(columns={"mass": "weight"}),
        "(?s)unseen at fit time:\n- weight\n.*now missing:\n- mass",
    ),
    "other order": (table()[["island", "mass", "size"]], "same order"),
    "text for numbers": (table(mass=["a", "b"] * 6), "'mass' was numeric"),
    "infinity": (with_value(np.inf, "size"), "infinity .*'size'"),
    "duplicate names": (with_duplicate_names(), "unique.*'mass'"),
    "no rows": (table()[:0], r"0 sample\(s\)"),
    "one dimension": (np.arange(3.0), "Reshape your data"),
}


@pytest.mark.parametrize("method", ["transform", "score_samples", "score"])
@pytest.mark.parametrize("case", COLUMNS)
def test_tables_that_do_not_fit_the_model(unchanged, case, method):
    X, match = COLUMNS[case]
    assert_fails(lambda: getattr(unchanged, method)(X), match)


@pytest.mark.parametrize("case", COLUMNS)
def test_the_other_methods_check_alike(unchanged, case):
    X, match = COLUMNS[case]
    assert_fails(lambda: unchanged.sample_posterior(X), match)
    assert_fails(lambda: unchanged.partial_fit(X), match)


def test_wrong_number_of_columns():
    X = np.random.default_rng(0).normal(size=(20, 3))
    vae = VAETransformer(max_iter=1).fit(X)
    for other in (X[:, :2], np.c_[X, X]):
        for call in (vae.transform, vae.score_samples, vae.partial_fit):
            assert_fails(
                lambda call=call, other=other: call(other),
                f"X has {other.shape[1]} features, but VAETransformer is expecting 3",
            )


# -- other arguments -----------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, 2.5, True, "3", None])
def test_numbers_of_draws(unchanged, number):
    assert_fails(lambda: unchanged.sample(number), "n_samples must be an int")
    posterior = unchanged.sample_posterior
    assert_fails(lambda: posterior(table(), n_draws=number), "n_draws must be an int")
    density = unchanged.score_samples
    assert_fails(lambda: density(table(), n_draws=number), "n_draws must be an int")


def test_seeds(unchanged):
    assert_fails(lambda: unchanged.sample(2, random_state="a"), "'a' cannot be used")


@pytest.mark.parametrize(
    ("Z", "match"),
    [
        (np.ones((4, 3)), "Z has 3 columns.*2 latent variables"),
        (np.ones(2), "Reshape your data"),
        (np.full((2, 2), np.nan), "Z contains NaN"),
        (np.full((2, 2), np.inf), "Z contains infinity"),
        (np.empty((0, 2)), r"0 sample\(s\)"),
    ],
)
def test_latents(unchanged, Z, match):
    assert_fails(lambda: unchanged.inverse_transform(Z), match)


def test_methods_before_fit(calls, numbers):
    unfitted, vae = VAETransformer(2), VAETransformer(2, max_iter=1).fit(numbers)
    for name, call in calls.items():
        if name != "inverse_transform":  # its call transforms first
            with pytest.raises(NotFittedError, match="not fitted yet"):
                call(unfitted, numbers)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        unfitted.inverse_transform(vae.transform(numbers))
