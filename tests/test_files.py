"""skvae.save and skvae.load: what comes back, what is refused, and with which error."""

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from saved_models import (
    arrays_in,
    fitted,
    load_state,
    replaced,
    rewrite,
    sealed,
    sizes,
    state_of,
)
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from skorch.callbacks import GradientNormClipping
from small_estimators import ESTIMATORS, answers, assert_same_answers

import skvae
from skvae import SavedModelError, VAEClassifier, VAEImputer, VAETransformer
from skvae._container import read_state, write_state

pytest.importorskip("safetensors")

#: Far more than any weights here, and little enough to allocate by mistake.
LARGE = 10**7

#: Flags, and bounds that decide no size.
NO_SIZES = ("linear_path", "masked_features", "widest_normal", "n_members")


@pytest.fixture(params=ESTIMATORS)
def model(request):
    """A fitted estimator of every kind."""
    return fitted(request.param)[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skvae"


def saved(model, path, **options):
    skvae.save(model, path, **options)
    return skvae.load(path)


# -- what comes back -----------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_loaded_estimator_is_as_the_saved_one(name, path):
    model, *data = fitted(name)
    loaded = saved(model, path)
    assert_same_answers(answers(loaded, *data), answers(model, *data))
    assert vars(loaded).keys() == vars(model).keys()
    np.testing.assert_equal(clone(loaded).get_params(), model.get_params())
    again = pickle.loads(pickle.dumps(loaded))
    assert_same_answers(answers(again, *data), answers(model, *data))
    before = path.read_bytes()
    assert saved(loaded, path) is not loaded
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["transformer", "imputer", "m2", "regressor"])
def test_a_loaded_estimator_trains_on(name, path):
    model, X, y = fitted(name)
    resumed = [
        copy.deepcopy(one).set_params(warm_start=True).fit(X, y)
        for one in (model, saved(model, path))
    ]
    assert_same_answers(answers(resumed[1], X, y), answers(resumed[0], X, y))
    refitted = saved(model, path).set_params(max_iter=2).fit(X, y)
    expected = clone(model).set_params(max_iter=2).fit(X, y)
    assert_same_answers(answers(refitted, X, y), answers(expected, X, y))


def test_chunks_go_on(path):
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = VAETransformer(2, hidden_layer_sizes=(4,), random_state=0)
    loaded = saved(model.partial_fit(X[:30]), path).partial_fit(X[30:])
    expected = model.partial_fit(X[30:]).transform(X)
    np.testing.assert_array_equal(loaded.transform(X), expected)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"hidden_layer_sizes": [4, 5], "n_iter_no_change": np.inf},
        {"hidden_layer_sizes": np.array([4, 5]), "max_iter": np.int64(3)},
        {"prior": {"loc": (0.5, 1.0)}, "categorical_features": None, "device": "cpu"},
        {"prior": ([0.0, 1.0], np.array([1.0, 2.0])), "tol": np.float32(0.1)},
        {"likelihood": {"a": "normal", 2: "poisson", np.int64(3): "auto"}},
        {"random_state": np.random.RandomState(3), "verbose": True, "tol": 1},
        {"categorical_features": np.array([True, False]), "activation": "é\ud800"},
    ],
)
def test_parameters_keep_their_types(path, params):
    model = VAETransformer(**params)
    loaded = saved(model, path)
    for name, value in model.get_params().items():
        found = getattr(loaded, name)
        assert type(found) is type(value)
        if name == "random_state" and value is not None:
            found, value = found.get_state(), value.get_state()
        np.testing.assert_equal(found, value)
    if isinstance(loaded.likelihood, dict):
        assert list(map(type, loaded.likelihood)) == [str, int, np.int64]


@pytest.mark.parametrize("marker", [np.nan, None, -1, "?", np.float64(-9)])
def test_markers_of_missing_cells_keep_their_types(path, marker):
    found = saved(VAEImputer(missing_values=marker), path).missing_values
    assert type(found) is type(marker)
    assert repr(found) == repr(marker)


@pytest.mark.parametrize(
    "y", [[1, 0, -1, 1], ["é", "b", None, "b"], [True, False, None, True]], ids=str
)
def test_classes_keep_their_types(path, y):
    X = np.random.default_rng(0).normal(size=(40, 2))
    labels = np.array(y * 10, dtype=object if None in y else None)
    model = VAEClassifier(2, max_iter=1, hidden_layer_sizes=(4,)).fit(X, labels)
    loaded = saved(model, path)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.predict(X).tolist() == model.predict(X).tolist()


def test_callbacks_are_left_out(path):
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = VAETransformer(1, max_iter=1, callbacks=[GradientNormClipping()]).fit(X)
    with pytest.warns(UserWarning, match="VAETransformer is saved without its callb"):
        loaded = saved(model, path)
    assert loaded.callbacks is None
    assert len(model.callbacks) == 1
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))


# -- what is refused -----------------------------------------------------------------


class Inherited(VAEImputer):
    pass


@pytest.mark.parametrize(
    "other",
    [make_pipeline(VAEImputer()), Inherited(), VAEImputer, None, "model"],
    ids=lambda other: type(other).__name__,
)
def test_other_estimators_are_refused(path, other):
    with pytest.raises(TypeError, match=r"must be one of VAEC.*save the parts"):
        skvae.save(other, path)
    assert not path.exists()


def test_parameters_without_a_plain_value_are_named(path):
    with pytest.raises(TypeError, match=r"attributes\.kl_weight, of type object"):
        skvae.save(VAETransformer(kl_weight=object()), path)
    with pytest.raises(TypeError, match="RandomState of PCG64"):
        state = np.random.RandomState(np.random.PCG64(0))
        skvae.save(VAETransformer(random_state=state), path)
    with pytest.raises(TypeError, match="forget_values must be a bool, but got 'yes'"):
        skvae.save(VAETransformer(), path, forget_values="yes")
    assert not path.exists()


def test_a_path_is_one(path):
    with pytest.raises(TypeError):
        skvae.save(VAETransformer(), open)
    with pytest.raises(FileNotFoundError):
        skvae.load(path)
    skvae.save(VAETransformer(), str(path))
    assert skvae.load(bytes(path)).get_params() == VAETransformer().get_params()


# -- versions and formats ------------------------------------------------------------


def test_versions_are_recorded(model):
    versions = model.__getstate__()["_versions"]
    assert versions.keys() == {"skvae", "scikit-learn", "torch", "numpy"}
    assert versions["numpy"] == np.__version__


def test_another_minor_version_warns(model, path):
    def other(version):
        def change(content):
            content["attributes"]["_versions"]["skvae"] = version

        skvae.save(model, path)
        rewrite(path, change)
        return skvae.load(path)

    major, minor, patch = skvae.__version__.split(".")[:3]
    with pytest.warns(UserWarning, match=r"saved with skvae 9\.1\.0") as caught:
        other("9.1.0")
    assert Path(caught[0].filename).name == "test_files.py"
    with pytest.warns(UserWarning, match="check its results"):
        other(f"{major}.{int(minor) + 1}.{patch}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other(f"{major}.{minor}.{int(patch[0]) + 1}")


@pytest.mark.parametrize("number", [None, 0, 99, True, "1"])
def test_another_format_says_so(model, path, number):
    def change(content):
        content["attributes"]["_format"] = number

    skvae.save(model, path)
    rewrite(path, change)
    with pytest.raises(SavedModelError, match=r"another version.*fit it again"):
        skvae.load(path)


def test_a_state_without_a_digest_warns(model):
    state = state_of(model)
    del state["_digest"]
    with pytest.warns(UserWarning, match="without a digest"):
        load_state(model, state)


# -- corrupt states ------------------------------------------------------------------


def test_every_changed_array_is_seen(model):
    state = state_of(model)
    arrays = [a for a in arrays_in(state) if a.size and a.dtype != object]
    assert len(arrays) > 8
    for array in arrays:
        raw = array.reshape(-1)[:1].view(np.uint8)
        raw[0] ^= 1
        with pytest.raises(SavedModelError, match="corrupt"):
            load_state(model, state)
        raw[0] ^= 1
    load_state(model, state)


def test_every_changed_value_is_seen(model):
    state = state_of(model)
    paths = [p for p in sizes(state) if p[0] not in ("_format", "_versions")]
    assert len(paths) > 10
    for place in paths:
        with pytest.raises(SavedModelError, match="corrupt"):
            load_state(model, replaced(state, place, 7))


def test_the_state_of_another_class_is_refused(model):
    others = [e for e in ESTIMATORS.values() if type(e) is not type(model)]
    for other in others:
        with pytest.raises(SavedModelError, match="saved as another class"):
            load_state(other, state_of(model))


@pytest.mark.parametrize("state", [None, [], (), b"", "state", 3])
def test_what_is_no_state_is_no_model(state):
    with pytest.raises(SavedModelError, match="not a skvae model"):
        VAEImputer().__setstate__(state)


def test_an_estimator_survives_a_corrupt_state(model):
    X = fitted("transformer")[1]
    own = copy.deepcopy(fitted("transformer")[0])
    expected = own.transform(X)
    with pytest.raises(SavedModelError):
        own.__setstate__({**state_of(model), "_format": 7})
    np.testing.assert_array_equal(own.transform(X), expected)


def edits():
    """Changes of what a file holds, with the words of the error."""
    state = "attributes"

    def with_class(name):
        return lambda content: content.update({"class": name})

    yield with_class("Pipeline"), "not a skvae model"
    yield with_class(["VAEImputer"]), "not a skvae model"
    yield lambda content: content.pop("class"), "not a skvae model"
    yield lambda content: content.pop(state), "not a skvae model"
    yield lambda content: content.update({state: [1]}), "not a skvae model"
    yield lambda content: content[state].pop("device"), "not a skvae model"
    yield lambda content: content[state].update(predict=1), "'predict'"
    yield lambda content: content[state].update(_model=1), "'_model'"
    yield lambda content: content[state].update(__class__=1), "'__class__'"


@pytest.mark.parametrize(("change", "words"), list(edits()))
def test_other_contents_of_files_are_refused(path, change, words):
    skvae.save(fitted("transformer")[0], path)
    rewrite(path, change)
    with pytest.raises(SavedModelError, match=words) as caught:
        skvae.load(path)
    assert str(path) in str(caught.value)


def test_a_checkpoint_is_no_estimator(path):
    write_state(path, "checkpoint", {})
    with pytest.raises(SavedModelError, match="not a skvae estimator"):
        skvae.load(path)
    skvae.save(VAEImputer(), path)
    with pytest.raises(SavedModelError, match="not a skvae checkpoint"):
        read_state(path, "checkpoint")


# -- made to harm: the digest is right, sizes are not --------------------------------


def peak_memory():
    """Return the largest resident size since it was reset, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("no VmHWM")


def reset_peak_memory():
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def can_measure():
    try:
        return reset_peak_memory() > 0
    except OSError:
        return False


def model_sizes(state):
    """Yield the paths of the numbers in the state of a model, but for its seeds."""
    for place in sizes(state):
        is_level = "encoders" in place and place[-1] == "n_categories"
        if is_level or (place[:2] == ("_state", "model") and place[-1] != "seed"):
            yield place


def test_no_size_is_believed(model):
    """Every number of a state, made large: an error, and no memory of that size."""
    state = state_of(model)
    places = list(model_sizes(state))
    assert len(places) > 8
    for place in places:
        evil = sealed(model, replaced(state, place, LARGE))
        before = reset_peak_memory() if can_measure() else None
        try:
            load_state(model, evil)
        except SavedModelError as error:
            assert "is corrupt" in str(error), place
            assert "allocate" not in str(error), place
        else:
            assert place[-1] in NO_SIZES, place
        if before is not None:
            assert peak_memory() - before < LARGE, place


@pytest.mark.parametrize("size", [0, -1, 1.5, "2", None, 10**30])
def test_sizes_of_other_types_are_corrupt(model, size):
    state = state_of(model)
    for place in model_sizes(state):
        evil = sealed(model, replaced(state, place, size))
        try:
            load_state(model, evil)
        except SavedModelError as error:
            assert "is corrupt" in str(error)


def test_layers_without_end_are_corrupt(path):
    model = fitted("transformer")[0]

    def change(content):
        state = content["attributes"]
        architecture = state["_state"]["model"]["architecture"]
        architecture["hidden_layer_sizes"] = [8] * 100_000
        content["attributes"] = sealed(model, state)

    skvae.save(model, path)
    rewrite(path, change)
    with pytest.raises(SavedModelError, match="100000 hidden layers"):
        skvae.load(path)


def test_one_array_is_not_used_twice(model):
    state = state_of(model)
    weights = state["_state"]["model"]["weights"]
    names = {}
    for name, array in weights.items():
        names.setdefault((array.shape, array.dtype), []).append(name)
    first, second, *_ = next(pair for pair in names.values() if len(pair) > 1)
    weights[second] = weights[first]
    with pytest.raises(SavedModelError, match="two weights are one array"):
        load_state(model, sealed(model, state))


@pytest.mark.skipif(not can_measure(), reason="needs the peak memory of a process")
def test_loading_takes_memory_in_proportion(path):
    X = np.random.default_rng(0).normal(size=(30, 3))
    model = VAETransformer(2, hidden_layer_sizes=(2000, 1000), max_iter=1).fit(X)
    for _ in range(2):  # the first time fills what stays in memory
        skvae.save(model, path)
        skvae.load(path)
    before = reset_peak_memory()
    skvae.load(path)
    assert peak_memory() - before < 4 * path.stat().st_size + 2**24
