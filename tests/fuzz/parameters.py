"""Part "parameters": combinations of constructor parameters on one ordinary table.

Valid ones must work, through fit and every method. An invalid value must be refused at
fit by an error that names the parameter, and leave a fitted estimator as it was.
"""

import pickle
import warnings
from functools import cache

import numpy as np
import pandas as pd

import skvae
from fuzz.columns import DType, draw_column
from fuzz.labels import build_y, draw_labels
from fuzz.oracle import call
from fuzz.sessions import ESTIMATORS, Case
from fuzz.tables import Hostile, pick

NUMBERS = [DType("float64", "float", plain="float64")]
#: Values that the documentation allows, beyond the default.
VALID = {
    "n_components": [1, 2, 3, 7, np.int64(2), None],
    "hidden_layer_sizes": [(), 5, (3,), [4, 3], np.array([3, 2]), (2, 2, 2)],
    "activation": ["relu", "silu", "gelu", "tanh"],
    "likelihood": [
        "auto",
        "normal",
        "student_t",
        "normal_isotropic",
        {"c0": "normal"},
        {},
        {0: "student_t_heteroscedastic"},
        {-1: "normal"},
        "normal_heteroscedastic",
    ],
    "numeric_transform": [
        "auto",
        "standard",
        "quantile",
        "none",
        {},
        {"c0": "quantile"},
    ],
    "categorical_features": ["from_dtype", [], None, ["c0"], [0], np.array([0])],
    "max_iter": [1, 2, np.int32(2)],
    "batch_size": ["auto", 1, 4, 10_000],
    "learning_rate_init": [1e-10, 1e-3, 0.5, 1, np.float32(0.01)],
    "warm_start": [False, True, np.bool_(True)],
    "callbacks": [None, [], ()],
    "device": [None, "cpu", "auto"],
    "verbose": [False, 0],
    "random_state": [0, 7, np.random.RandomState, None, np.int64(3), 2**32 - 1],
    "kl_weight": [0.0, 0, 0.5, 1.0, 10],
    "learning_rate": ["cosine", "adaptive", "constant"],
    "early_stopping": [True, False],
    "validation_fraction": [None, 0.1, 0.5, 0.9],
    "n_iter_no_change": [None, 1, 3, np.inf],
    "tol": [0.0, 1e-4, 1.0],
    "latent": ["normal", "lognormal", "gamma", "beta", "dirichlet"],
    "prior": [None, "mixture", "vamp", {"mixture": 2}, {"vamp": 1}],
    "objective": {
        "VAETransformer": ["elbo", "iwae"],
        "VAEClassifier": ["m1", "m2", "m1+m2", "shot"],
    },
    "gradient": ["pathwise", "stl", "dreg", "score", "rloo", "grep"],
    "n_draws": [1, 2, 5],
    "missing_values": [np.nan, -1.0, 0, None, pd.NA, -999],
    "add_indicator": [False, True],
    "keep_empty_features": [False, True],
    "strategy": ["mean", "median"],
    "missingness": ["mar", "high", "low", "agnostic", {"c0": "high"}, {0: "low"}, {}],
    "classification_weight": [None, 0.1, 3],
    "consistency_weight": ["auto", 0, 0.5, 2],
    "vat_radius": [0, 0.1, 2.0],
    "masking_rate": ["auto", 0.0, 0.5, 0.99],
    "image_shape": [None],
    "weight_decay": [0, 0.5, 3.0],
}
ODD = ["", "no such", -1, 0.5, (), [None], {"c9": "normal"}, object(), np.nan, b"relu"]
ODD += [
    True,
    (True,),
    {2: 1},
    1e300,
    {},
    [],
    np.inf,
    np.array(3),
    np.array([1.0]),
    10**30,
]
#: Values that must be refused, by parameter.
INVALID = {
    "n_components": [0, -1, 1.5, "2", np.nan, [2]],
    "hidden_layer_sizes": [0, (0,), (-1,), (1.5,), "8", ("a",), [[2]]],
    "activation": ["step", None, 3, ("relu",)],
    "likelihood": ["gamma", None, 3, {"c9": "normal"}, {"c0": 3}, {99: "normal"}],
    "numeric_transform": ["log", None, 3, {"c9": "none"}, {"c0": None}, {-99: "none"}],
    "categorical_features": ["all", ["c9"], [99], [True], 3, [1.5], [None], [[0]]],
    "max_iter": [0, -1, 1.5, "1", np.inf, np.nan],
    "batch_size": [0, -1, 1.5, "large", None, np.nan],
    "learning_rate_init": [0, -1e-3, "a", None, np.nan, np.inf],
    "warm_start": ["yes", None, 2, []],
    "callbacks": ["stop", 3, [1], ["a"], [None], {}],
    "device": ["tpu", "cuda:first", 0, "", b"cpu"],
    "verbose": ["yes", -1, None],
    "random_state": ["seed", -1, 1.5, 2**32, []],
    "kl_weight": [-1.0, "a", None, np.nan, np.inf],
    "learning_rate": ["invscaling", None, 3],
    "early_stopping": ["yes", None, 2],
    "validation_fraction": [0.0, 1.0, -0.1, 2, "a", np.nan],
    "n_iter_no_change": [0, -1, 1.5, "a", -np.inf, np.nan],
    "tol": [-1e-9, "a", None, np.nan],
    "latent": ["cauchy", None, 3],
    "prior": [
        "flat",
        3,
        {"mixture": 0},
        {"mixture": 3, "vamp": 3},
        {"no": 1},
        [1, 2, 3],
    ],
    "objective": ["vae", None, 3],
    "gradient": ["reinforce", None, 3],
    "n_draws": [0, -1, 1.5, "a", None],
    "missing_values": [[-1, -9], {"a": 1}, {1, 2}, pd.Timestamp(0), np.inf, object()],
    "add_indicator": ["yes", None, 2],
    "keep_empty_features": ["yes", None, 2],
    "strategy": ["mode", None, 3],
    "missingness": ["mnar", None, 3, {"c9": "high"}, {"c0": "up"}, {"c0": None}],
    "classification_weight": [0, -1, "a", np.nan, np.inf],
    "consistency_weight": [-1, "a", None, np.nan, np.inf],
    "vat_radius": [-1, "a", None, np.nan, np.inf],
    "masking_rate": [1.0, -0.1, "a", None, np.nan],
    "image_shape": [(0, 0), (2,), (7, 7), "a", 3, (1.5, 2), (-1, -1), (1, 2, 3, 4)],
    "weight_decay": [-1, "a", None, np.nan, np.inf],
}


def valid_values(name, estimator):
    values = VALID[name]
    return values[estimator] if isinstance(values, dict) else values


def draw_params(rng, estimator):
    """Return parameters that must work together."""
    names = sorted(getattr(skvae, estimator)().get_params())
    params = {"hidden_layer_sizes": (4,), "max_iter": 1, "random_state": 0}
    for name in rng.permutation(names)[: rng.choice([1, 2, 4, 8])]:
        value = pick(rng, valid_values(str(name), estimator))
        params[str(name)] = (
            np.random.RandomState(5) if isinstance(value, type) else value
        )
    return _agreeing(params)


def _agreeing(params):
    """Mend what the documentation says does not go together."""
    gradient, draws = params.get("gradient"), params.get("n_draws", 1)
    iwae = params.get("objective") == "iwae"
    if gradient == "dreg":
        params |= {"objective": "iwae", "n_draws": max(draws, 2)}
    elif gradient in ("score", "rloo", "grep"):
        params["objective"] = "elbo"
        params["n_draws"] = max(draws, 2) if gradient == "rloo" else draws
    elif gradient == "stl" and iwae:
        params["n_draws"] = 1
    if params.get("latent", "normal") != "normal":
        params["prior"] = None
    if params.get("latent") == "dirichlet":
        params["n_components"] = 3
    if params.get("max_iter") is None:
        params["max_iter"] = 1
    declared = params.get("categorical_features")
    if declared is not None and not isinstance(declared, str):
        if isinstance(params.get("hidden_layer_sizes"), tuple):  # no networks
            params["hidden_layer_sizes"] = (4,)
        params |= {"likelihood": "auto", "numeric_transform": "auto"}
        params.pop("missingness", None)
    return params


def draw_case(seed):
    """Return a session on an ordinary table of numbers, with many parameters."""
    rng = np.random.default_rng([seed, 31])
    estimator = pick(rng, ESTIMATORS)
    X = ordinary_table(rng)
    y = None
    if estimator == "VAEClassifier":
        y = draw_labels(rng, len(X))
    elif estimator == "VAERegressor":
        outputs = (normal_column(rng, f"c{k}", len(X)) for k in range(2))
        y = Hostile("pandas", tuple(outputs), len(X))
    return Case(seed, estimator, draw_params(rng, estimator), X, y, "array")


def normal_column(rng, label, n_rows):
    column = draw_column(rng, label, NUMBERS[0], n_rows)
    values = tuple(float(v) for v in np.round(rng.normal(size=n_rows), 3))
    return type(column)(label, NUMBERS[0], values, (), "normal")


def ordinary_table(rng):
    n_rows = int(rng.choice([12, 30]))
    columns = tuple(normal_column(rng, f"c{k}", n_rows) for k in range(3))
    whole = tuple(float(round(v)) for v in columns[0].values)
    first = type(columns[0])("c0", NUMBERS[0], whole, (), "whole")
    return Hostile("pandas", (first, *columns[1:]), n_rows)


def run(seed):
    """Run a valid combination; then give one parameter an invalid value."""
    case = draw_case(seed)
    report = case.run()
    rng = np.random.default_rng([seed, 32])
    name = str(pick(rng, sorted(getattr(skvae, case.estimator)().get_params())))
    bad = pick(rng, INVALID[name] if rng.random() < 0.7 else odd_values(name))
    X = case.X.build()
    arguments = (X,) if case.y is None else (X, build_y(case.y, case.container))
    estimator = fitted_estimator(case.estimator)
    estimator.set_params(**{name: bad})
    before = pickle.dumps(vars(estimator).get("_model").to_state())
    is_surely_bad = any(bad is value for value in INVALID[name])
    attributes = dict(vars(estimator))
    outcome = call(
        estimator.fit, *arguments, names=[name, "c0", "c9"], must_fail=is_surely_bad
    )
    where = f"fit({name}={bad!r})"
    report.add(where, outcome)
    if not outcome.is_ok:
        is_lost = bad == 1e300 if isinstance(bad, float) else False
        is_lost = is_lost and "loss became non-finite" in str(outcome.error)
        if name not in str(outcome.error) and not is_lost:
            report.failures.append(
                (where, f"does not name {name}: {outcome.error!s:.160}")
            )
        same = pickle.dumps(vars(estimator)["_model"].to_state()) == before
        if not same or vars(estimator).keys() != attributes.keys():
            report.failures.append((where, "changed the fitted state"))
    return report


def odd_values(name):
    """Values that may happen to be valid, but for those that would take for ever."""
    huge = name in (
        "max_iter",
        "n_components",
        "hidden_layer_sizes",
        "n_draws",
        "prior",
    )
    return [v for v in ODD if not (huge and isinstance(v, int) and v > 1e9)]


@cache
def _fitted(estimator):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(12, 3)).round(1), columns=["c0", "c1", "c2"])
    y = (rng.random(12) < 0.5).astype(int)
    model = getattr(skvae, estimator)(
        max_iter=1, hidden_layer_sizes=(4,), random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pickle.dumps(model.fit(X, y))


def fitted_estimator(estimator):
    return pickle.loads(_fitted(estimator))
