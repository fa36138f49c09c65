"""Saved models: the same results after loading, and nothing of torch inside."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import GradientNormClipping

from skvae import VAEImputer, VAETransformer
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


WAYS = [
    through_pickle,
    through_joblib,
    through_cloudpickle,
    through_skops,
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
    for name in ("blend_", "missingness_slopes_", "likelihood_"):
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
    assert any("_mean" in path for path in arrays)


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
    assert any("_weights" in path for path in arrays)


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
    for part, arrays in vae.__getstate__()["_weights"].items():
        assert arrays, part
        for name, weights in arrays.items():
            assert isinstance(weights, np.ndarray), name
            weights[...] = 0
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
