"""Part "metamorphic": what must not change a result, does not.

Each seed draws a table and checks one relation: the same data in another library or
layout, renamed columns, a second call, a pickle, a weight of one, rows in another order
or alone. Results are equal bit for bit unless a relation says otherwise.
"""

import pickle
import zlib
from dataclasses import replace

import numpy as np
from sklearn.base import clone

import skvae
from fuzz import ambient
from fuzz.cells import read
from fuzz.columns import DTYPES, DType
from fuzz.oracle import call
from fuzz.sessions import ESTIMATORS, QUICK, Report
from fuzz.tables import LAYOUTS, Hostile, draw_table, pick

#: The names that the same dtype has in each library.
SAME = {
    "float64": {"pandas": "float64", "polars": "float64", "pyarrow": "float64"},
    "int64": {"pandas": "Int64", "polars": "int64", "pyarrow": "int64"},
    "bool": {"pandas": "boolean", "polars": "bool", "pyarrow": "bool"},
    "string": {"pandas": "string[python]", "polars": "string", "pyarrow": "string"},
}


def run(seed):
    rng = np.random.default_rng([seed, 41])
    relation = pick(rng, RELATIONS)
    report = Report(tables=1)
    name = pick(rng, ESTIMATORS)
    problem = relation(Runner(report, name, seed), rng)
    if problem:
        report.failures.append((f"{name}, {relation.__name__}", problem))
    return report


class Runner:
    """Fits an estimator with one seed and collects what its methods return."""

    def __init__(self, report, name, seed, call=call):
        self.report, self.name, self.seed, self.call = report, name, seed, call

    def fit(self, X, y=None, weights=None, **params):
        """Return the fitted estimator, None where the table is refused."""
        params = {**QUICK, "random_state": self.seed % 1000, **params}
        model = getattr(skvae, self.name)(**params)
        if self.name == "VAETransformer" or self.name == "VAEImputer":
            y = None
        elif y is None:
            y = np.arange(len(read(X)[0].values)) % 2
            if self.name == "VAERegressor":
                y = np.sin(np.arange(len(y)))
        outcome = self.call(model.fit, X, y, sample_weight=weights)
        self.report.calls += 1
        return model if outcome.is_ok else None

    def results(self, model, X):
        """Return the results of all deterministic and seeded methods, by name."""
        if model is None:
            return None
        steps = {
            "transform": lambda: model.transform(X),
            "score_samples": lambda: model.score_samples(X),
            "predict": lambda: model.predict(X),
            "predict_proba": lambda: model.predict_proba(X),
            "predict_interval": lambda: model.predict_interval(X),
            "sample": lambda: self.sample(model, X),
        }
        if self.name == "VAERegressor":
            del steps["score_samples"]
        found = {}
        for key, step in steps.items():
            if hasattr(model, key):
                outcome = self.call(step)
                self.report.calls += 1
                found[key] = outcome.value if outcome.is_ok else type(outcome.error)
        return found

    def sample(self, model, X):
        if self.name in ("VAETransformer", "VAEClassifier"):
            return model.sample(4, random_state=0)
        return model.sample(X, 2, random_state=0)


def texts(value):
    """Results as text, without labels and dtypes: one list of columns."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, tuple | list):
        return [texts(part) for part in value]
    return [
        ["-" if gap else repr(v) for v, gap in zip(c.values, c.missing, strict=True)]
        for c in read(value if getattr(value, "ndim", 2) < 3 else np.concatenate(value))
    ]


def difference(first, second):
    """Return which results differ bit for bit, None if none does."""
    if first is None or second is None:
        return None if first is second else "only one of the two fits was accepted"
    names = [key for key in first if texts(first[key]) != texts(second[key])]
    return f"{', '.join(names)} differ" if names else None


def common_table(rng, n_rows=None):
    """Return a table of dtypes that all libraries have."""
    n_rows = n_rows or int(rng.choice([8, 25]))
    table = draw_table(rng, "polars", n_rows, int(rng.integers(1, 5)), odd=False)
    kept = [c for c in table.columns if c.dtype.name in SAME]
    if not kept:
        return common_table(rng, n_rows)
    return Hostile("polars", tuple(kept), n_rows)


def numeric_table(rng, n_rows=25):
    table = draw_table(rng, "numpy", n_rows, int(rng.integers(2, 5)), odd=False)
    table = replace(table, layout="")
    dtype = table.columns[0].dtype.name
    return table if dtype in ("float64", "int64") else numeric_table(rng, n_rows)


def in_library(table, library):
    """Return the same values in another library."""
    known = {t.name: t for t in DTYPES[library]}

    def converted(column):
        return replace(column, dtype=known[SAME[column.dtype.name][library]])

    return replace(table, library=library, columns=tuple(map(converted, table.columns)))


# -- relations -------------------------------------------------------------------------


def same_in_every_library(runner, rng):
    table = common_table(rng)
    found = []
    for library in ("pandas", "polars", "pyarrow"):
        X = in_library(table, library).build()
        found.append(runner.results(runner.fit(X), X))
    return difference(found[0], found[1]) or difference(found[1], found[2])


def same_as_array(runner, rng):
    """A frame of floats is the array of its values."""
    table = numeric_table(rng)
    floats = [
        replace(c, dtype=DType("float64", "float", plain="float64"))
        for c in table.columns
    ]
    floats = [
        replace(c, values=tuple(None if v is None else float(v) for v in c.values))
        for c in floats
    ]
    table = Hostile("numpy", tuple(floats), table.n_rows)
    X, frame = table.build(), replace(table, library="pandas").build()
    return difference(
        runner.results(runner.fit(X), X), runner.results(runner.fit(frame), frame)
    )


def same_in_every_layout(runner, rng):
    table = draw_table(rng, n_rows=12, n_columns=3, odd=False)
    if table.texts:
        table = numeric_table(rng)
    first = replace(table, layout="").build()
    second = replace(table, layout=pick(rng, LAYOUTS[table.library])).build()
    return difference(
        runner.results(runner.fit(first), first),
        runner.results(runner.fit(second), second),
    )


def same_with_other_names(runner, rng):
    table = common_table(rng)
    renamed = table.mapped(lambda column: replace(column, label=f"new {column.label}"))
    library = pick(rng, ["pandas", "polars", "pyarrow"])
    X, Z = in_library(table, library).build(), in_library(renamed, library).build()
    return difference(
        runner.results(runner.fit(X), X), runner.results(runner.fit(Z), Z)
    )


def same_again(runner, rng):
    X = draw_table(rng, n_rows=12, odd=False).build()
    first, second = runner.fit(X), runner.fit(X)
    if first is None or second is None:
        return difference(first, second)
    found = runner.results(first, X)
    return difference(found, runner.results(second, X)) or difference(
        found, runner.results(first, X)
    )


def same_after_pickle(runner, rng):
    X = draw_table(rng, n_rows=12, odd=False).build()
    model = runner.fit(X)
    if model is None:
        return None
    loaded = pickle.loads(pickle.dumps(model))
    if pickle.dumps(loaded) != pickle.dumps(pickle.loads(pickle.dumps(loaded))):
        return "a pickle of a pickle differs"
    return difference(runner.results(model, X), runner.results(loaded, X))


def same_as_clone(runner, rng):
    X = draw_table(rng, n_rows=12, odd=False).build()
    model = runner.fit(X)
    if model is None:
        return None
    copy = clone(model)
    if hasattr(copy, "_model"):
        return "a clone is fitted"
    y = None
    if runner.name in ("VAEClassifier", "VAERegressor"):
        y = (
            np.arange(12) % 2
            if runner.name == "VAEClassifier"
            else np.sin(np.arange(12))
        )
    call(copy.fit, X, y)
    return difference(runner.results(model, X), runner.results(copy, X))


def same_with_weights_of_one(runner, rng):
    X = draw_table(rng, n_rows=12, odd=False).build()
    first, second = runner.fit(X), runner.fit(X, weights=np.full(12, 3.0))
    return difference(runner.results(first, X), runner.results(second, X))


def same_without_rows_of_weight_zero(runner, rng):
    table = draw_table(rng, n_rows=12, odd=False)
    weights = (np.arange(12) % 3 > 0).astype(float)
    rows = np.flatnonzero(weights)
    y = np.arange(12) % 2 if runner.name == "VAEClassifier" else np.sin(np.arange(12.0))
    X, some = table.build(), table.rows(rows).build()
    first = runner.fit(X, y, weights)
    second = runner.fit(some, y[rows])
    if first is None or second is None:
        return None  # a level may be in the other rows alone
    return difference(runner.results(first, some), runner.results(second, some))


def same_with_a_marker(runner, rng):
    """A number that marks missing cells is as NaN."""
    table = numeric_table(rng)
    values = np.array([[float(v or 0.5) for v in c.values] for c in table.columns]).T
    gaps = rng.random(values.shape) < 0.2
    gaps[0] = False
    missing, marked = values.copy(), values.copy()
    missing[gaps], marked[gaps] = np.nan, -987.0
    runner = Runner(runner.report, "VAEImputer", runner.seed)
    first = runner.results(runner.fit(missing), missing)
    second = runner.results(runner.fit(marked, missing_values=-987.0), marked)
    return difference(first, second)


def same_in_every_state(runner, rng):
    """What a user has set of torch, NumPy or pandas changes no result."""
    X = draw_table(rng, n_rows=12, odd=False).build()
    expected = runner.results(runner.fit(X), X)
    state = pick(rng, list(ambient.STATES))
    with ambient.every_call(state):
        found = runner.results(runner.fit(X), X)
    problem = difference(expected, found)
    return problem and f"{problem} with {state}"


ROWS = ("transform", "predict", "predict_proba", "score_samples")


def same_in_other_company(runner, rng):
    """A row has the same result alone and among others, within rounding."""
    table = numeric_table(rng)
    X = table.build()
    model = runner.fit(X)
    if model is None:
        return None
    order = rng.permutation(len(table))
    among = runner.results(model, X)
    shuffled = runner.results(model, table.rows(order).build())
    alone = runner.results(model, table.rows([0]).build())
    for key in ROWS:
        value = among.get(key)
        if isinstance(value, np.ndarray):
            scale = np.abs(value).max() + 1.0
            for part, other in ((value[order], shuffled[key]), (value[:1], alone[key])):
                if not np.allclose(part / scale, other / scale, rtol=1e-5, atol=1e-6):
                    return f"{key} differs"
    return None


RELATIONS = [
    same_in_every_library,
    same_as_array,
    same_in_every_layout,
    same_with_other_names,
    same_again,
    same_after_pickle,
    same_as_clone,
    same_with_weights_of_one,
    same_without_rows_of_weight_zero,
    same_with_a_marker,
    same_in_other_company,
    same_in_every_state,
]


def seed_of(relation):
    """Return a seed that draws a relation, for tests of each."""
    start = zlib.crc32(relation.__name__.encode())
    while pick(np.random.default_rng([start, 41]), RELATIONS) is not relation:
        start += 1
    return start
