"""Saved models: the same results after loading, and nothing of torch inside."""

import copy
import io
import pickle
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import GradientNormClipping

import skvae
from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae.datasets import load_penguins


def through_pickle(vae):
    return pickle.loads(pickle.dumps(vae))


def through_joblib(vae):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(vae, file)
    file.seek(0)
    return joblib.load(file)


def through_cloudpickle(vae):
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(vae))


def through_skops(vae):
    skops_io = pytest.importorskip("skops.io")
    saved = skops_io.dumps(vae)
    untrusted = skops_io.get_untrusted_types(data=saved)
    assert all(name.startswith("skvae.") for name in untrusted)
    return skops_io.loads(saved, trusted=untrusted)


def through_file(vae):
    pytest.importorskip("safetensors")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        skvae.save(vae, path)
        return skvae.load(path)


WAYS = [
    through_pickle,
    through_joblib,
    through_cloudpickle,
    through_skops,
    through_file,
    copy.deepcopy,
    copy.copy,
]


def to_array(result):
    if hasattr(result, "to_pandas"):
        result = result.to_pandas()
    return result.to_numpy() if hasattr(result, "to_numpy") else np.asarray(result)


@pytest.fixture(params=["numpy", "pandas", "polars", "pyarrow"])
def fitted(request, numbers, mixed_table):
    """A model and its training table, in each container."""
    X = numbers if request.param == "numpy" else mixed_table(request.param)
    vae = VAETransformer(n_components=2, max_iter=2, random_state=0)
    if request.param == "numpy":
        vae.set_params(numeric_transform="quantile")
    return vae.fit(X), X


@pytest.mark.parametrize("save_and_load", WAYS)
def test_results_survive(fitted, calls, save_and_load):
    vae, X = fitted
    loaded = save_and_load(vae)
    for name, call in calls.items():
        expected, found = call(vae, X), call(loaded, X)
        assert type(found) is type(expected)
        np.testing.assert_array_equal(to_array(found), to_array(expected), name)
    np.testing.assert_array_equal(loaded.loss_curve_, vae.loss_curve_)
    assert loaded.get_params() == vae.get_params()
    assert loaded.device_ == vae.device_


IMPUTER_CALLS = {
    "transform": lambda vae, X: vae.transform(X),
    "sample": lambda vae, X: vae.sample(X, 1, random_state=0)[0],
    "predict_interval": lambda vae, X: vae.predict_interval(X)[0],
    "score_samples": lambda vae, X: vae.score_samples(X),
    "get_feature_names_out": lambda vae, X: vae.get_feature_names_out(),
}


@pytest.mark.parametrize("container", ["numpy", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("save_and_load", WAYS)
def test_imputers_survive(numbers, mixed_table, container, save_and_load):
    options = {"add_indicator": True, "missingness": "agnostic", "random_state": 0}
    vae = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), **options)
    if container == "numpy":
        X = np.where(np.arange(400).reshape(80, 5) % 7, numbers, np.nan)
        vae.set_params(numeric_transform="quantile", hidden_layer_sizes=())
    else:
        X = mixed_table(container)
    loaded = save_and_load(vae.fit(X))
    for name, call in IMPUTER_CALLS.items():
        expected, found = to_array(call(vae, X)), to_array(call(loaded, X))
        assert found.tolist() == expected.tolist(), name
    for name in ("stacking_weights_", "missingness_slopes_", "likelihood_"):
        assert getattr(loaded, name) == getattr(vae, name)


@pytest.mark.parametrize("save_and_load", WAYS)
def test_a_loaded_imputer_trains_on_without_touching_the_first(numbers, save_and_load):
    X = np.where(np.arange(400).reshape(80, 5) % 7, numbers, np.nan)
    vae = VAEImputer(max_iter=2, hidden_layer_sizes=(8,), random_state=0)
    vae.set_params(warm_start=True).fit(X)
    before = vae.transform(X)
    loaded = save_and_load(vae).fit(X)
    np.testing.assert_array_equal(vae.transform(X), before)
    np.testing.assert_array_equal(loaded.transform(X), vae.fit(X).transform(X))


def test_no_torch_object_in_the_state_of_an_imputer(mixed_table):
    vae = VAEImputer(max_iter=2).fit(mixed_table())
    found = list(walk(vae.__getstate__()))
    for path, value in found:
        assert not type(value).__module__.startswith("torch"), path
    arrays = [path for path, value in found if isinstance(value, np.ndarray)]
    assert any(".mean_weights." in path for path in arrays)


@pytest.mark.parametrize("save_and_load", WAYS)
def test_a_loaded_model_trains_on_without_touching_the_first(numbers, save_and_load):
    vae = VAETransformer(2, random_state=0).partial_fit(numbers)
    before = vae.transform(numbers)
    loaded = save_and_load(vae).partial_fit(numbers)
    np.testing.assert_array_equal(vae.transform(numbers), before)
    vae.partial_fit(numbers)
    np.testing.assert_array_equal(loaded.transform(numbers), vae.transform(numbers))


def test_unfitted_models_can_be_saved():
    for save_and_load in WAYS:
        loaded = save_and_load(VAETransformer(3))
        assert loaded.n_components == 3


def walk(value, path="state"):
    """Yield every object inside, with the path to it."""
    yield path, value
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple | set):
        parts = enumerate(value)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        parts = enumerate(value.ravel())
    elif type(value).__module__.startswith("skvae"):
        state = value.__getstate__() if path != "state" else {}
        parts = state.items()
    else:
        parts = []
    for key, part in parts:
        yield from walk(part, f"{path}.{key}")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_no_torch_object_in_the_state(mixed_table, method):
    vae = VAETransformer(2, max_iter=2, callbacks=[GradientNormClipping()])
    getattr(vae, method)(mixed_table())
    found = list(walk(vae.__getstate__()))
    for path, value in found:
        assert not type(value).__module__.startswith("torch"), path
        assert not isinstance(value, torch.Tensor | torch.nn.Module), path
    arrays = [path for path, value in found if isinstance(value, np.ndarray)]
    assert any(".weights." in path for path in arrays)


def test_a_pickle_loads_without_naming_torch(numbers):
    vae = VAETransformer(2, max_iter=2).fit(numbers)

    class Strict(pickle.Unpickler):
        def find_class(self, module, name):
            assert module.split(".")[0] in {"skvae", "numpy", "builtins", "copyreg"}
            return super().find_class(module, name)

    loaded = Strict(io.BytesIO(pickle.dumps(vae))).load()
    np.testing.assert_array_equal(loaded.transform(numbers), vae.transform(numbers))


def test_getstate_leaves_the_model_alone(numbers):
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(numbers)
    before = vae.transform(numbers)
    weights = vae.__getstate__()["_state"]["model"]["weights"]
    assert len(weights) > 4
    for name, array in weights.items():
        assert isinstance(array, np.ndarray), name
        array[...] = 0
    np.testing.assert_array_equal(vae.transform(numbers), before)


def test_another_version_warns(numbers):
    vae = VAETransformer(2, max_iter=2).fit(numbers)
    state = vae.__getstate__()
    state["_versions"]["skvae"] = "0.0.1"
    loaded = VAETransformer()
    with pytest.warns(UserWarning, match="saved with skvae 0.0.1"):
        loaded.__setstate__(state)
    np.testing.assert_array_equal(loaded.transform(numbers), vae.transform(numbers))


def test_a_device_that_is_not_there(numbers):
    vae = VAETransformer(2, max_iter=2).fit(numbers)
    state = vae.__getstate__()
    state["device_"] = "cuda:97"
    loaded = VAETransformer()
    loaded.__setstate__(state)
    assert loaded.device_ in ("cpu", "cuda", "mps")
    latents = loaded.transform(numbers)
    np.testing.assert_allclose(latents, vae.transform(numbers), atol=1e-4)
    rows = loaded.sample(2, random_state=0)
    assert rows.shape == (2, 5)


def test_a_pickle_is_small():
    X = load_penguins().data
    vae = VAETransformer(max_iter=30, early_stopping=False, random_state=0).fit(X)
    size = len(pickle.dumps(vae))
    assert size < 1e6
    # training longer does not make it grow: only the curves do
    vae.set_params(max_iter=60).fit(X)
    assert len(pickle.dumps(vae)) - size < 10_000


def test_a_model_from_another_process(tmp_path, numbers):
    np.save(tmp_path / "X.npy", numbers)
    code = (
        "import pickle, numpy; from skvae import VAETransformer;"
        "X = numpy.load('X.npy');"
        "vae = VAETransformer(2, max_iter=2, random_state=0).fit(X);"
        "pickle.dump((vae, vae.transform(X)), open('vae.pickle', 'wb'))"
    )
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=tmp_path,
        check=True,
    )
    with open(tmp_path / "vae.pickle", "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        vae, latents = pickle.load(file)
    np.testing.assert_allclose(vae.transform(numbers), latents, atol=1e-6)


def test_clone_forgets_what_was_learned(numbers):
    vae = VAETransformer(2, max_iter=2, random_state=0).fit(numbers)
    copied = clone(vae)
    assert copied.get_params() == vae.get_params()
    assert not hasattr(copied, "n_components_")
    np.testing.assert_array_equal(copied.fit_transform(numbers), vae.transform(numbers))


# -- every kind of estimator ---------------------------------------------------------

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}

KINDS = {
    "transformer": VAETransformer(2, **SMALL),
    "chunks": VAETransformer(2, **SMALL),
    "imputer": VAEImputer(2, missingness="agnostic", **SMALL),
    "linear imputer": VAEImputer(2, **{**SMALL, "hidden_layer_sizes": ()}),
    "m1": VAEClassifier(2, objective="m1", **SMALL),
    "m2": VAEClassifier(2, objective="m2", **SMALL),
    "shot": VAEClassifier(2, objective="shot", **SMALL),
    "m1+m2": VAEClassifier(2, objective="m1+m2", **SMALL),
    "regressor": VAERegressor(2, **SMALL),
    "images": VAERegressor(2, image_shape=(2, 2), **SMALL),
}

#: What the methods of an estimator return for a table.
METHODS = {
    VAETransformer: {
        "transform": lambda vae, X: vae.transform(X),
        "inverse_transform": lambda vae, X: vae.inverse_transform(np.full((3, 2), 0.4)),
        "sample": lambda vae, X: vae.sample(4, random_state=0),
        "sample_posterior": lambda vae, X: vae.sample_posterior(X, 2, random_state=0),
        "score_samples": lambda vae, X: vae.score_samples(X),
        "names": lambda vae, X: vae.get_feature_names_out(),
    },
    VAEImputer: {
        "transform": lambda vae, X: vae.transform(X),
        "sample": lambda vae, X: vae.sample(X, 2, random_state=0),
        "predict_interval": lambda vae, X: vae.predict_interval(X),
        "score_samples": lambda vae, X: vae.score_samples(X),
        "names": lambda vae, X: vae.get_feature_names_out(),
    },
    VAEClassifier: {
        "predict": lambda vae, X: vae.predict(X),
        "predict_proba": lambda vae, X: vae.predict_proba(X),
        "transform": lambda vae, X: vae.transform(X),
        "decode": lambda vae, X: vae.decode(np.full((3, 2), 0.4), [0, 1, 0]),
        "sample": lambda vae, X: vae.sample(4, random_state=0)[0],
        "classes": lambda vae, X: vae.sample(4, random_state=0)[1],
        "score_samples": lambda vae, X: vae.score_samples(X),
        "names": lambda vae, X: vae.get_feature_names_out(),
    },
    VAERegressor: {
        "predict": lambda vae, X: vae.predict(X, return_std=True),
        "sample": lambda vae, X: vae.sample(X, 2, random_state=0),
        "predict_interval": lambda vae, X: vae.predict_interval(X),
        "score_samples": lambda vae, X: vae.score_samples(X, X[:, 1:5]),
    },
}

#: Parameters that decide what is built or completed, with values that were not fitted.
CHANGES = {
    VAETransformer: {"latent": "gamma", "prior": "vamp", "early_stopping": False},
    VAEImputer: {
        "missingness": "agnostic",
        "strategy": "median",
        "add_indicator": True,
        "keep_empty_features": True,
        "missing_values": -1,
    },
    VAEClassifier: {"consistency_weight": 0.5, "early_stopping": False},
    VAERegressor: {"prior": "vamp", "image_shape": (1, 4), "early_stopping": False},
}

STRUCTURE = {
    "n_components": 3,
    "hidden_layer_sizes": (4, 4),
    "activation": "tanh",
    "likelihood": "normal",
    "numeric_transform": "quantile",
    "categorical_features": [0],
    "device": "cuda:97",
}


@pytest.fixture(params=KINDS)
def kind(request, numbers):
    """An estimator of every kind, and its table; a column is empty or constant."""
    vae, X = clone(KINDS[request.param]), np.column_stack([numbers, np.ones(80)])
    if isinstance(vae, VAEImputer):
        X[::7, :3] = X[:, 5] = np.nan
        with pytest.warns(UserWarning, match="dropped"):
            return vae.fit(X), X
    if request.param == "chunks":
        return vae.partial_fit(X), X
    y = X[:, 1:5] if isinstance(vae, VAERegressor) else (X[:, 0] > 0).astype(int)
    return vae.fit(X, y), X


def results(vae, X):
    return {name: call(vae, X) for name, call in METHODS[type(vae)].items()}


def assert_same(found, expected):
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_the_state_of_a_model_is_plain(kind):
    state = kind[0].__getstate__()
    for path, value in walk(state["_state"]):
        if isinstance(value, np.ndarray):
            assert value.dtype.kind in "fiubU", path
        else:
            assert type(value) in (dict, list, str, int, float, bool, type(None)), path
    assert type(state["_format"]) is int
    for path, value in walk(state):
        assert not type(value).__module__.startswith("skvae"), path


@pytest.mark.parametrize("save_and_load", [through_pickle, through_file])
def test_every_kind_survives(kind, save_and_load):
    vae, X = kind
    assert_same(results(save_and_load(vae), X), results(vae, X))


@pytest.mark.parametrize("number", [None, 0, 2, "1"])
def test_another_format_is_refused(kind, number):
    vae, _ = kind
    state = vae.__getstate__()
    state.pop("_format")
    if number is not None:
        state["_format"] = number
    with pytest.raises(ValueError, match=f"This {type(vae).__name__} .*fit it again"):
        type(vae)().__setstate__(state)


def test_models_of_before_the_formats_are_refused(numbers):
    state = VAETransformer(2, **SMALL).fit(numbers).__getstate__()
    state["_weights"] = state.pop("_state")["model"]["weights"]
    del state["_format"], state["_versions"]
    with pytest.raises(ValueError, match="fit it again"):
        VAETransformer().__setstate__(state)


def test_parameters_that_are_set_after_the_fit_wait_for_the_next(kind):
    """No method reads them before, nor does what is saved."""
    vae, X = kind
    expected = results(vae, X)
    changes = STRUCTURE | CHANGES[type(vae)]
    if isinstance(vae, VAEClassifier):
        for objective in {"m1", "m2", "shot", "m1+m2"} - {vae.objective}:
            vae.set_params(objective=objective)
            assert_same(results(vae, X), expected)
            assert_same(results(through_pickle(vae), X), expected)
    vae.set_params(**changes)
    assert_same(results(vae, X), expected)
    loaded = through_pickle(vae)
    assert_same(results(loaded, X), expected)
    assert loaded.get_params() == vae.get_params()
