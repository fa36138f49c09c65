"""One contract for all models: state, inference, copies, devices and shapes."""

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer
from skvae._conditional.model import ConditionalModel
from skvae._conditional.outputs import open_outputs
from skvae._density.model import VAEModel
from skvae._density.rows import Encoded
from skvae._distributions.registry import LIKELIHOODS
from skvae._imputation.model import ImputationModel
from skvae._semi_supervised.model import LabelledModel
from skvae._semi_supervised.stacked import M1M2Model
from skvae._training.plan import DEFAULTS
from skvae._training.progress import Progress
from skvae._training.random import Random

N_ROWS, N_CLASSES = 60, 3
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 2, "random_state": 0}
LABELS = np.arange(N_ROWS) % N_CLASSES


def table():
    """Numbers, repeated numbers and categories with missing cells; and a constant."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=N_ROWS)
    X = pd.DataFrame(
        {
            "kind": np.array(["a", "b", "c"])[LABELS],
            "size": level + rng.normal(size=N_ROWS),
            "same": 5.0,
            "half": np.round(2 * level) / 2,
            "skewed": np.exp(level + 0.3 * rng.normal(size=N_ROWS)),
        }
    )
    missing = rng.random(X.shape) < 0.15
    missing[:, 2] = missing[:2] = False
    return X.mask(missing).astype({"kind": "category"})


def generator():
    return torch.Generator().manual_seed(3)


def latents(model):
    return np.random.default_rng(1).normal(size=(7, 2)).astype(np.float32)


CODES = np.arange(7) % N_CLASSES

# by model: results that are encoded rows, and others
DENSITY = (
    {
        "decode": lambda m, data: m.decode(latents(m)),
        "sample": lambda m, data: m.sample(7, generator()),
    },
    {
        "means": lambda m, data: m.means(data),
        "draws": lambda m, data: m.draws(data, 2, generator()),
        "log_likelihood": lambda m, data: m.log_likelihood(data, 16),
    },
)
IMPUTATION = (
    {
        "estimates": lambda m, data: m.estimates(data),
        "draws": lambda m, data: m.draws(data, 3, generator()),
        "intervals": lambda m, data: m.intervals(data, 0.8),
    },
    {"log_likelihood": lambda m, data: m.log_likelihood(data)},
)
LABELLED = (
    {
        "decode": lambda m, data: m.decode(latents(m), CODES),
        "sample": lambda m, data: m.sample(CODES, generator()),
    },
    {
        "probabilities": lambda m, data: m.probabilities(data),
        "means": lambda m, data: m.means(data),
        "log_likelihood": lambda m, data: m.log_likelihood(data),
    },
)
CONDITIONAL = (
    {
        "draws": lambda m, data: m.draws(data.features, 3, generator(), 0.7),
        "points": lambda m, data: m.draws(
            data.features, 2, generator(), add_noise=False
        ),
        "intervals": lambda m, data: m.intervals(data.features, 0.8, double=True),
    },
    {
        "moments": lambda m, data: m.moments(data.features, double=False),
        "double": lambda m, data: m.moments(data.features, double=True),
        "log_likelihood": lambda m, data: m.log_likelihood(data),
    },
)


def classifier(objective):
    return VAEClassifier(2, objective=objective, **SMALL)


CASES = {
    "density": (VAEModel, DENSITY, VAETransformer(2, **SMALL)),
    "resumable": (VAEModel, DENSITY, VAETransformer(2, **SMALL)),
    "imputation": (
        ImputationModel,
        IMPUTATION,
        VAEImputer(2, missingness="agnostic", strategy="median", **SMALL),
    ),
    "linear": (
        ImputationModel,
        IMPUTATION,
        VAEImputer(
            2, missingness="agnostic", strategy="median", hidden_layer_sizes=()
        ).set_params(random_state=0),
    ),
    "m1": (LabelledModel, LABELLED, classifier("m1")),
    "m2": (LabelledModel, LABELLED, classifier("m2")),
    "shot": (LabelledModel, LABELLED, classifier("shot")),
    "stacked": (M1M2Model, LABELLED, classifier("m1+m2")),
    "conditional": (ConditionalModel, CONDITIONAL, VAERegressor(2, **SMALL)),
}


@dataclasses.dataclass
class Case:
    """A trained model, rows for it, and what it can do with them."""

    model: object
    data: Encoded
    columns: list  # those of every encoder
    params: dict
    encoded: dict
    others: dict

    @property
    def calls(self):
        return {**self.encoded, **self.others}

    def rebuilt(self, state):
        return type(self.model).from_state(state, *self.columns)

    def train(self, model):
        """Train a model of this kind on half of the rows; the last weights stay."""
        half = np.arange(0, N_ROWS, 2)
        random = Random(1, "cpu")
        data, params = some_rows(self.data, half), {**self.params}
        params["early_stopping"] = False
        return model.fit(data, params, random, Progress(), resume=True)


def some_rows(data, index):
    parts = {
        name: None if getattr(data, name) is None else getattr(data, name)[index]
        for name in ("values", "observed", "codes")
    }
    features = None if data.features is None else some_rows(data.features, index)
    return dataclasses.replace(data, **parts, features=features)


def make_case(name):
    kind, (encoded, others), estimator = CASES[name]
    X = table()
    if name == "linear":
        X = X.drop(columns="kind")
    if name == "resumable":
        estimator.partial_fit(X)
    elif name == "conditional":
        estimator.fit(X[["kind", "half"]], X)
    else:
        estimator.fit(X, LABELS)
    columns = [estimator._encoder.columns_]
    if name == "conditional":
        outputs = open_outputs(estimator, X, estimator._encoder.schema_)
        encoder = estimator._encoder
        features = estimator._encode_features(X[["kind", "half"]])
        data = Encoded(encoder, *encoder.encode(outputs), features=features)
        columns.append(estimator._feature_encoder.columns_)
    else:
        data = estimator._encode(X)
    if isinstance(estimator, VAEClassifier):
        data = dataclasses.replace(
            data, codes=LABELS.copy(), classes=np.arange(N_CLASSES)
        )
    model = estimator._model
    assert type(model) is kind
    params = {**DEFAULTS, **estimator.get_params(deep=False)}
    return Case(model, data, columns, params, encoded, others)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A model of every kind; tests must leave it as it is."""
    return make_case(request.param)


def walk(value, path="state"):
    """Yield every object inside containers, with the path to it."""
    yield path, value
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from walk(part, f"{path}.{key}")


def assert_same(found, expected):
    """Compare nested containers and arrays bit for bit, types included."""
    found, expected = list(walk(found)), list(walk(expected))
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (path, one), (_, other) in zip(found, expected, strict=True):
        assert type(one) is type(other), path
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, path
            np.testing.assert_array_equal(one, other, path)
        elif not isinstance(one, dict | list | tuple):
            assert one == other, path


def snapshot(model):
    return pickle.loads(pickle.dumps(model.to_state()))


def differs(one, other):
    try:
        assert_same(one, other)
    except AssertionError:
        return True
    return False


# -- state ---------------------------------------------------------------------------


def test_the_state_is_plain(case):
    for path, value in walk(case.model.to_state()):
        if isinstance(value, np.ndarray):
            assert value.dtype.kind in "fiub", path
        else:
            assert type(value) in (dict, list, str, int, float, bool, type(None)), path
        if isinstance(value, dict):
            assert all(type(key) is str for key in value), path


def test_a_model_from_its_state_is_the_same_model(case):
    state = snapshot(case.model)
    rebuilt = case.rebuilt(state)
    assert type(rebuilt) is type(case.model)
    assert_same(rebuilt.to_state(), case.model.to_state())
    for name, call in case.calls.items():
        expected, found = call(case.model, case.data), call(rebuilt, case.data)
        np.testing.assert_array_equal(found, expected, name)
    assert rebuilt.likelihoods() == case.model.likelihoods()


def test_a_model_from_its_state_trains_as_the_first(case):
    first, second = copy.deepcopy(case.model), case.rebuilt(snapshot(case.model))
    case.train(first)
    case.train(second)
    assert_same(second.to_state(), first.to_state())


def test_training_leaves_the_state_that_a_model_came_from(case):
    state = case.model.to_state()
    expected = copy.deepcopy(state)
    case.train(case.rebuilt(state))
    assert_same(state, expected)


# -- inference -----------------------------------------------------------------------


def test_inference_changes_nothing(case):
    state, cells = snapshot(case.model), copy.deepcopy(case.data.values)
    names = set(vars(case.model))
    for name, call in case.calls.items():
        first = call(case.model, case.data)
        assert_same(case.model.to_state(), state)
        np.testing.assert_array_equal(call(case.model, case.data), first, name)
    case.model.likelihoods()
    assert_same(case.model.to_state(), state)
    assert set(vars(case.model)) == names
    np.testing.assert_array_equal(case.data.values, cells)


def test_a_copy_is_independent(case):
    state = snapshot(case.model)
    results = {name: call(case.model, case.data) for name, call in case.calls.items()}
    copied = copy.deepcopy(case.model)
    assert_same(copied.to_state(), state)
    case.train(copied)
    assert differs(copied.to_state(), state)
    assert_same(case.model.to_state(), state)
    for name, call in case.calls.items():
        np.testing.assert_array_equal(call(case.model, case.data), results[name], name)


# -- devices -------------------------------------------------------------------------


def networks(value):
    """Yield the modules of a model, those of models inside too."""
    for part in vars(value).values():
        if isinstance(part, nn.Module):
            yield part
        elif type(part).__module__.startswith("skvae") and hasattr(part, "to"):
            yield from networks(part)


def test_every_network_moves(case):
    copied = copy.deepcopy(case.model)
    copied.to("meta")
    found = list(networks(copied))
    assert len(found) == (1 if type(copied) in (VAEModel, LabelledModel) else 2)
    for module in found:
        for name, tensor in module.state_dict().items():
            assert tensor.device.type == "meta", name


def test_on_the_cpu_nothing_changes(case):
    copied = copy.deepcopy(case.model)
    copied.to("cpu")
    assert_same(copied.to_state(), case.model.to_state())
    for name, call in case.calls.items():
        expected = call(case.model, case.data)
        np.testing.assert_array_equal(call(copied, case.data), expected, name)


# -- shapes --------------------------------------------------------------------------


def test_every_column_has_a_likelihood(case):
    found = case.model.likelihoods()
    assert list(found) == [column.name for column in case.columns[0]]
    assert set(found.values()) <= set(LIKELIHOODS)


def test_encoded_results_have_the_width_of_the_table(case):
    names = [column.name for column in case.columns[0]]
    for name, call in case.encoded.items():
        rows = np.asarray(call(case.model, case.data))
        assert rows.shape[-1] == len(names), name
        assert rows.shape[-2] in (7, N_ROWS), name
        assert rows.dtype == np.float32, name
        assert np.isfinite(rows).all(), name
        # columns are where they were: codes of categories, nothing of the constant
        assert (rows[..., names.index("same")] == 0).all(), name
        assert np.ptp(rows[..., names.index("size")]) > 0, name
        if "kind" in names:
            assert set(np.unique(rows[..., names.index("kind")])) <= {0, 1, 2}, name


def test_there_is_one_result_for_every_row(case):
    for name, call in case.others.items():
        result = np.asarray(call(case.model, case.data))
        axis = 1 if name in ("draws", "moments", "double") else 0
        assert result.shape[axis] == N_ROWS, name
        assert np.isfinite(result).all(), name
