"""Part "tables": fit an estimator to a hostile table, then call its methods.

A session is drawn from one number. A fit that is accepted must be followed by methods
that work on the training table and on variants of it; a fit that is refused must say
why and leave nothing behind.
"""

import pickle
import zlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

import skvae
from fuzz import ambient, outputs
from fuzz.labels import CONTAINERS, build_y, draw_labels, oddities_of_labels
from fuzz.oracle import call
from fuzz.outputs import Fitted
from fuzz.tables import Hostile, draw_table, pick, variants, wrong_tables
from skvae.datasets import ampute

ESTIMATORS = ["VAETransformer", "VAEImputer", "VAEClassifier", "VAERegressor"]
QUICK = {"max_iter": 1, "hidden_layer_sizes": (4,)}


@dataclass
class Report:
    """What a part did with one seed."""

    tables: int = 0
    calls: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # call, problem
    slowest: tuple[float, str] = (0.0, "")

    def add(self, name, outcome):
        self.calls += 1
        self.failures += [(name, problem) for problem in outcome.problems]
        self.slowest = max(self.slowest, (outcome.seconds, name))
        return outcome


@dataclass(frozen=True)
class Case:
    """One session: estimator, parameters and tables, which can be cut to be small."""

    seed: int
    estimator: str
    params: dict
    X: Hostile
    y: Any = None  # Column of labels, Hostile of outputs, or None
    container: str = "array"  # of y
    weights: tuple | None = None
    declares: bool = True  # columns of text are given as categorical_features
    state: str = ""  # of torch, NumPy and others around each call

    def rows(self, rows):
        weights = self.weights and tuple(self.weights[row] for row in rows)
        y = self.y if self.y is None else _rows_of(self.y, rows)
        return replace(self, X=self.X.rows(rows), y=y, weights=weights)

    def only(self, places):
        return replace(self, X=self.X.only(places))

    def __str__(self):
        lines = [
            f"skvae.{self.estimator}(**{self.all_params()!r}).fit(X, y)",
            f"X: {self.X}",
        ]
        if self.y is not None:
            lines.append(f"y, as {self.container}: {self.y}")
        if self.weights is not None:
            lines.append(f"sample_weight: {list(self.weights)}")
        if self.state:
            lines.append(f"state: {self.state}")
        return "\n".join(lines)

    def all_params(self):
        params = {**QUICK, **self.params, "random_state": self.seed % 1000}
        if self.declares and self.X.texts:
            params["categorical_features"] = self.X.categories
        return params

    # -- the session ------------------------------------------------------------------

    def run(self):
        """Return the report of the whole session."""
        with ambient.every_call(self.state):
            return self._run()

    def _run(self):
        report = Report(tables=1 + isinstance(self.y, Hostile))
        X, y = self.X.build(), build_y(self.y, self.container)
        estimator = getattr(skvae, self.estimator)(**self.all_params())
        names = [*estimator.get_params(), "sample_weight", *self.X.names]
        names += self.y.names if isinstance(self.y, Hostile) else []
        arguments = (X,) if y is None else (X, y)
        weights = None if self.weights is None else np.array(self.weights)
        before = dict(vars(estimator))
        fit = partial(report_call, report, names=names, must_work=not self.may_refuse())
        if not fit("fit", estimator.fit, *arguments, sample_weight=weights).is_ok:
            if vars(estimator) != before:
                report.failures.append(("fit", "left something behind"))
            return report
        fitted = Fitted(estimator, self.X, X, self.y, y, self.weights)
        state = pickle.dumps(estimator)
        for verb in VERBS[self.estimator]:
            verb(report, fitted, self, names)
        self._refused(report, fitted, names, arguments)
        if pickle.dumps(estimator) != state:
            report.failures.append(("methods", "changed the fitted state"))
        return report

    def may_refuse(self):
        """Reasons for which the fit may be refused."""
        reasons = list(self.X.oddities)
        if isinstance(self.y, Hostile):
            reasons += self.y.oddities + ["text"] * bool(self.y.texts)
            gaps = np.array([[v is None for v in c.values] for c in self.y.columns])
            if gaps.size and (gaps.all(axis=1).any() or (~gaps.all(axis=0)).sum() < 2):
                reasons.append("outputs without values")
        if self.estimator == "VAEClassifier":
            reasons += oddities_of_labels(self.y)
        if len(self.X) < 2 or (self.weights and np.count_nonzero(self.weights) < 2):
            reasons.append("rows")
        if self.X.texts and not self.declares:
            reasons.append("text")
        if self.X.library in ("list", "numpy") and not self.X.columns:
            reasons.append("no column")
        if self.params.get("numeric_transform") == "none" and self._is_large():
            reasons.append("numbers that are too large without a transform")
        families = {column.dtype.family for column in self.X.columns}
        is_category = any(column.dtype.is_category for column in self.X.columns)
        sizes = self.params.get("hidden_layer_sizes")
        is_linear = isinstance(sizes, tuple) and not sizes
        holds_categories = is_category or families & {"string", "boolean"}
        if is_linear and self.estimator == "VAEImputer" and holds_categories:
            reasons.append("categories without networks")
        if self.X.library == "list" and len(families) > 1:
            reasons.append("mixture")
        return reasons

    def _is_large(self):
        tables = [self.X, self.y] if isinstance(self.y, Hostile) else [self.X]
        cells = (v for table in tables for c in table.columns for v in c.values)
        return any(isinstance(v, int | float) and abs(v) > 1e15 for v in cells)

    def _refused(self, report, fitted, names, arguments):
        """Give objects that must be refused; the fitted state stays."""
        rng = self.rng("refused")
        wrong = wrong_tables(self.X)
        key = pick(rng, list(wrong))
        methods = [
            m
            for m in ("transform", "predict", "score_samples")
            if hasattr(fitted.estimator, m)
        ]
        method = pick(rng, methods)
        more = (
            arguments[1:]
            if method == "score_samples" and self.estimator == "VAERegressor"
            else ()
        )
        judge = partial(report_call, report, names=names, must_fail=True)
        judge(f"{method}({key})", getattr(fitted.estimator, method), wrong[key], *more)
        key = pick(rng, list(wrong))
        if key not in ("one column less", "one column more"):
            judge(f"fit({key})", fitted.estimator.fit, wrong[key], *arguments[1:])

    def rng(self, name):
        """A generator for one step, the same when the case is cut."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


def _rows_of(y, rows):
    return y.rows(rows) if isinstance(y, Hostile) else y.take(rows)


def report_call(report, name, function, *args, **kwargs):
    return report.add(name, call(function, *args, **kwargs))


# -- the methods of each estimator -----------------------------------------------------


def verb(function):
    """Make a step of a session that gives a method the training table and a variant."""

    def step(report, fitted, case, names):
        rng = case.rng(function.__name__)
        kinds = variants(rng)
        for kind in dict.fromkeys(["same", pick(rng, list(kinds))]):
            given = kinds[kind](fitted.X)
            native = given.build()
            judge = partial(_judged, report, names, f"({kind})")
            function(judge, fitted, given, native, rng)

    return step


def _judged(report, names, note, method, check, *args, must_work=True, **kwargs):
    """Call a method, and judge its value by a check."""
    name = getattr(method, "__name__", str(method)) + note
    outcome = report_call(
        report, name, method, *args, names=names, must_work=must_work, **kwargs
    )
    if outcome.is_ok:
        report.failures += [(name, problem) for problem in check(outcome.value)]
    return outcome.value


@verb
def transform(judge, fitted, given, native, rng):
    model, n = fitted.estimator, len(given)
    Z = judge(model.transform, lambda Z: outputs.latents(Z, fitted, n), native)
    if Z is not None and hasattr(model, "inverse_transform"):
        judge(model.inverse_transform, lambda X: _like_X(X, fitted, n), Z)
    if Z is not None and hasattr(model, "decode") and model.objective != "m1+m2":
        y = pick(rng, model.classes_.tolist())
        judge(model.decode, lambda X: _like_X(X, fitted, n), Z, y)


def _like_X(value, fitted, n_rows):
    return outputs.like_training(
        value, fitted.X, fitted.native, n_rows, fitted.is_empty
    )


@verb
def scores(judge, fitted, given, native, rng):
    model, n = fitted.estimator, len(given)
    judge(model.score_samples, lambda s: outputs.array(s, (n,)), native)
    if not hasattr(model, "predict"):
        judge(model.score, outputs.number, native)


@verb
def sample_rows(judge, fitted, given, native, rng):
    model, n = fitted.estimator, int(rng.integers(1, 5))
    judge(model.sample, lambda X: _like_X(X, fitted, n), n, random_state=0)
    draws = (2, len(given), model.n_components_)
    shaped = partial(outputs.array, shape=draws, dtypes=["float32"])
    judge(model.sample_posterior, shaped, native, n_draws=2, random_state=1)


@verb
def complete(judge, fitted, given, native, rng):
    model = fitted.estimator
    check = partial(outputs.completed, fitted=fitted, given=given, native=native)
    judge(model.transform, check, native)
    judge(
        model.sample,
        lambda tables: [p for table in tables for p in check(table)],
        *(native, 2),
        random_state=0,
    )
    ends = judge(
        model.predict_interval,
        lambda ends: [p for end in ends for p in check(end)],
        native,
        coverage=float(pick(rng, [0.5, 0.9, 0.995])),
    )
    if ends is not None and not fitted.estimator.add_indicator:
        kept = [k for k in range(len(given.columns)) if not fitted.is_empty(k)]
        shown = given if fitted.estimator.keep_empty_features else given.only(kept)
        judge(lambda: ends, lambda ends: outputs.interval(ends, shown))


@verb
def classify(judge, fitted, given, native, rng):
    model, n = fitted.estimator, len(given)
    judge(model.predict, lambda y: outputs.labels(y, fitted, n), native)
    judge(model.predict_proba, lambda p: outputs.probabilities(p, fitted, n), native)

    def rows_and_labels(pair):
        return _like_X(pair[0], fitted, 3) + outputs.labels(pair[1], fitted, 3)

    label = pick(rng, [None, pick(rng, model.classes_.tolist())])
    judge(model.sample, rows_and_labels, 3, y=label, random_state=0)
    if len(given) == len(fitted.X):
        judge(model.score, lambda s: outputs.number(s, 0, 1), native, fitted.native_y)


@verb
def regress(judge, fitted, given, native, rng):
    model, n, y = fitted.estimator, len(given), fitted.y
    is_1d = not hasattr(fitted.native_y, "columns") and np.ndim(fitted.native_y) == 1
    shape = (n,) if is_1d else (n, len(y.columns))
    named = any(levels for levels in map(_levels, y.columns))
    if named:
        judge(model.predict, lambda _: [], native)
        judge(model.predict_interval, lambda _: [], native)
    else:
        numbers = partial(outputs.array, shape=shape, dtypes=["float64"])
        judge(model.predict, numbers, native)
        judge(
            model.predict,
            lambda pair: [p for part in pair for p in numbers(part)],
            native,
            return_std=True,
        )
        judge(
            model.predict_interval,
            lambda ends: (
                [p for end in ends for p in numbers(end)]
                + ["has a lower end above the upper one"]
                * bool((ends[0] > ends[1]).any())
            ),
            native,
        )
    judge(model.sample, lambda _: [], native, n_draws=2, random_state=0)
    if n == len(fitted.X):
        judge(
            model.score_samples,
            lambda s: outputs.array(s, (n,)),
            *(native, fitted.native_y),
        )
        if not named:
            judge(model.score, lambda _: [], native, fitted.native_y, must_work=False)


def _levels(column):
    return column.dtype.is_category or column.dtype.family in ("string", "boolean")


@verb
def make_missing(judge, fitted, given, native, rng):
    mechanism = pick(rng, ["mcar", "mar", "mnar"])
    odd = bool(given.oddities) or mechanism == "mar" or given.library == "numpy"
    check = partial(outputs.amputed, given=given, native=native)
    arguments = {"mechanism": mechanism, "random_state": 0}
    judge(ampute, check, native, must_work=not odd, **arguments)


@verb
def names_out(judge, fitted, given, native, rng):
    def are_names(names):
        return [] if isinstance(names, np.ndarray) and names.ndim == 1 else ["are none"]

    judge(fitted.estimator.get_feature_names_out, are_names)


VERBS = {
    "VAETransformer": [transform, scores, sample_rows, names_out, make_missing],
    "VAEImputer": [complete, scores, names_out],
    "VAEClassifier": [classify, transform, scores, names_out],
    "VAERegressor": [regress],
}


# -- drawing a session -----------------------------------------------------------------

#: What is changed about an estimator, beyond its tiny budget; often nothing.
COMMON = {
    "n_components": [1, 2, 5],
    "hidden_layer_sizes": [(), (3, 3), 4],
    "activation": ["tanh", "gelu", "silu", "relu"],
    "numeric_transform": ["standard", "quantile", "none"],
    "likelihood": ["normal", "student_t", "normal_heteroscedastic", "normal_isotropic"],
    "batch_size": [1, 3, 1000],
    "max_iter": [2, 3],
}
TRAINING = {
    "early_stopping": [False],
    "learning_rate": ["constant", "adaptive"],
    "kl_weight": [0.0, 4.0],
}
LATENT = {
    "latent": ["lognormal", "gamma", "beta", "dirichlet"],
    "prior": ["mixture", "vamp", {"vamp": 2}],
}
CHOICES = {
    "VAETransformer": {
        **COMMON,
        **TRAINING,
        **LATENT,
        "objective": ["iwae"],
        "n_draws": [3],
    },
    "VAEImputer": {
        **COMMON,
        "strategy": ["median"],
        "missingness": ["high", "low", "agnostic"],
        "add_indicator": [True],
        "keep_empty_features": [True],
        "missing_values": [-1, 0.0, "a", "", None, True],
    },
    "VAEClassifier": {
        **COMMON,
        **TRAINING,
        "objective": ["m1", "m1+m2", "shot"],
        "consistency_weight": [0.0, 1.0],
        "masking_rate": [0.0, 0.5],
    },
    "VAERegressor": {**COMMON, **TRAINING, **LATENT, "weight_decay": [0.0]},
}


def draw_case(seed):
    """Return the session of a seed."""
    rng = np.random.default_rng(seed)
    estimator = pick(rng, ESTIMATORS)
    params = {}
    for name in rng.permutation(list(CHOICES[estimator]))[: rng.choice([0, 0, 1, 2])]:
        params[str(name)] = pick(rng, CHOICES[estimator][str(name)])
    if params.get("latent", "normal") != "normal":
        params.pop("prior", None)
        if params["latent"] == "dirichlet":
            params["n_components"] = 3
    X = draw_table(rng)
    y, container = None, pick(rng, CONTAINERS)
    if estimator == "VAEClassifier":
        y = draw_labels(rng, len(X))
    elif estimator == "VAERegressor":
        y = draw_table(rng, n_rows=len(X), n_columns=int(rng.integers(1, 4)))
        y = replace(y, layout="")
    weights = None
    if rng.random() < 0.1:
        weights = tuple(
            float(w) for w in rng.choice([0.0, 1.0, 1e-9, 1e9, 2.0], len(X))
        )
    declares = rng.random() < 0.9
    state = pick(rng, list(ambient.STATES)) if rng.random() < 0.25 else ""
    return Case(seed, estimator, params, X, y, container, weights, declares, state)


def run(seed):
    """Run the session of a seed."""
    return draw_case(seed).run()
