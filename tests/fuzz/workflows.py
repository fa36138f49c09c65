"""Part "workflows": what a user does beside one fit and its methods.

Chunks and warm starts, frames as output of a transformer, fits that fail half-way,
plots, pooled estimates, variational inference, and the functions of the data sets.
"""

import pickle
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn import config_context

import skvae
from fuzz import cells, outputs
from fuzz.labels import draw_labels, numpy_column
from fuzz.sessions import ESTIMATORS, QUICK, Report, report_call
from fuzz.tables import draw_table, pick, variants, wrong_tables
from skvae import datasets, inference, plotting


def run(seed):
    """Run one workflow, drawn from a seed."""
    rng = np.random.default_rng([seed, 71])
    report = Report(tables=1)
    pick(rng, WORKFLOWS)(report, rng, seed % 1000)
    return report


def judged(report, name, check, function, *args, **options):
    """Call a function, and judge its value by a check; return it."""
    outcome = report_call(report, name, function, *args, **options)
    if outcome.is_ok:
        report.failures += [(name, problem) for problem in check(outcome.value)]
    return outcome.value if outcome.is_ok else None


def nothing(value):
    return []


def estimator_and_data(rng, seed, names=ESTIMATORS, **params):
    """Return an estimator, a table that it must take, the table built, and y."""
    name = pick(rng, list(names))
    table = draw_table(rng, n_rows=int(rng.choice([12, 30])), odd=False)
    while not table.columns:
        table = draw_table(rng, n_rows=12, odd=False)
    given = {**QUICK, "random_state": seed, **params}
    if table.texts:
        given["categorical_features"] = table.categories
    y = None
    if name == "VAEClassifier":
        y = np.arange(len(table)) % 2
    elif name == "VAERegressor":
        y = np.sin(np.arange(len(table)))
    return getattr(skvae, name)(**given), table, table.build(), y


def state_of(model):
    return pickle.dumps({k: v for k, v in model.__getstate__().items()})


# -- fits that go on, or fail ----------------------------------------------------------


def chunks(report, rng, seed):
    """A fit chunk by chunk; a chunk that is no table leaves the state."""
    model, table, X, _ = estimator_and_data(rng, seed, ["VAETransformer"])
    names = [*model.get_params(), *table.names]
    for rows in (range(len(table)), range(3), range(2, len(table))):
        chunk = table.rows(list(rows)).build()
        report_call(
            report, "partial_fit", model.partial_fit, chunk, names=names, must_work=True
        )
    use(report, model, table, X)
    refused = wrong_tables(table)
    before, key = state_of(model), pick(rng, list(refused))
    report_call(
        report,
        f"partial_fit({key})",
        model.partial_fit,
        refused[key],
        names=names,
        must_fail=True,
    )
    if state_of(model) != before:
        report.failures.append(("partial_fit", "changed the state in a fit that fails"))


def warm_starts(report, rng, seed):
    """A second fit on other rows goes on; another architecture is refused."""
    model, table, X, y = estimator_and_data(rng, seed, warm_start=True)
    fit = partial(report_call, report, names=[*model.get_params(), *table.names])
    if not fit("fit", model.fit, X, y, must_work=True).is_ok:
        return
    kinds = variants(rng)
    more = kinds[pick(rng, ["same", "reversed", "unseen", "shuffled columns"])](table)
    fit("fit again", model.fit, more.build(), y, must_work=True)
    use(report, model, more, more.build())
    before, sizes = state_of(model), model.hidden_layer_sizes
    model.set_params(hidden_layer_sizes=(5, 5))
    fit("fit another", model.fit, X, y, must_fail=True)
    model.set_params(hidden_layer_sizes=sizes)  # the same object, for its pickle
    if state_of(model) != before:
        report.failures.append(("fit", "changed the state in a fit that fails"))


class Stop:
    """A callback that raises."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        raise ValueError("callbacks: enough")


def failed_refits(report, rng, seed):
    """A refit that fails, at its table or half-way, leaves the estimator as it was."""
    model, table, X, y = estimator_and_data(rng, seed)
    names = [*model.get_params(), *table.names]
    fit = partial(report_call, report, names=names)
    if not fit("fit", model.fit, X, y, must_work=True).is_ok:
        return
    before, kept = state_of(model), dict(vars(model))
    model.set_callbacks(Stop())
    fit("fit(stopped)", model.fit, X, y, must_fail=True)
    vars(model).pop("_skl_callbacks", None)
    for key, wrong in wrong_tables(table).items():
        if not key.startswith("one column"):
            fit(f"fit({key})", model.fit, wrong, y, must_fail=True)
    if state_of(model) != before or vars(model).keys() != kept.keys():
        report.failures.append(("fit", "changed the state in a fit that fails"))
    use(report, model, table, X)


def use(report, model, table, X):
    """Call the methods that return one row of numbers for each row."""
    for name in ("transform", "predict", "predict_proba", "score_samples"):
        method = getattr(model, name, None)
        is_conditional = isinstance(model, skvae.VAERegressor)
        if method is None or (is_conditional and name == "score_samples"):
            continue
        judged(report, name, partial(has_rows, len(table)), method, X, must_work=True)


def has_rows(n_rows, value):
    columns = cells.read(value)
    found = [f"has {len(c.values)} rows" for c in columns if len(c.values) != n_rows]
    return found + ["has missing cells"] * any(c.missing.any() for c in columns)


# -- frames as output ------------------------------------------------------------------


def frames_as_output(report, rng, seed):
    """``set_output`` and the configuration of scikit-learn choose the library."""
    model, table, X, y = estimator_and_data(rng, seed, ESTIMATORS[:3])
    library = pick(rng, ["pandas", "polars", "default"])
    if not report_call(report, "fit", model.fit, X, y, must_work=True).is_ok:
        return
    plain = model.transform(X)

    def check(value):
        expected = outputs.library(plain) if library == "default" else library
        found = [] if outputs.library(value) == expected else ["is of another library"]
        if library != "default":
            names = list(map(str, model.get_feature_names_out()))
            found += ["has other names"] * (list(map(str, value.columns)) != names)
        return found + has_rows(len(table), value)

    with config_context(transform_output=library):
        judged(report, f"transform, {library}", check, model.transform, X)
    model.set_output(transform=library)
    judged(report, f"set_output({library})", check, model.transform, X, must_work=True)


# -- functions -------------------------------------------------------------------------


def pooled(report, rng, seed):
    """Estimates of any size are pooled to an ordered interval."""
    shape = (int(rng.integers(2, 6)), int(rng.integers(1, 4)))[: rng.integers(1, 3)]
    size = pick(rng, [1.0, 1e-300, 1e150, 1e307, 0.0])
    estimates, variances = rng.normal(size=shape) * size, rng.random(shape) * size
    if rng.random() < 0.3:
        estimates[:] = estimates[0]

    def check(found):
        problems = [
            f"{name} is NaN" for name, v in vars(found).items() if np.isnan(v).any()
        ]
        bad = (np.asarray(found.lower) > np.asarray(found.estimate)).any()
        return problems + ["has a lower end above the estimate"] * bool(bad)

    options = pick(rng, [{}, {"coverage": 0.5}, {"complete_degrees_of_freedom": 10}])
    judged(
        report,
        "pool",
        check,
        partial(skvae.pool, **options),
        estimates,
        variances,
        must_work=True,
    )
    wrong = pick(rng, [None, "a", len, [1.0], np.full(shape, np.nan), -variances - 1])
    names = ["estimates", "variances"]
    report_call(
        report, "pool(bad)", skvae.pool, estimates, wrong, names=names, must_fail=True
    )


def variational(report, rng, seed):
    """Fits to log-densities, good ones and bad ones."""
    family = pick(rng, ["normal", "lognormal", "gamma", "beta", "dirichlet"])
    gradient = pick(rng, ["pathwise", "stl", "score", "rloo", "grep"])
    options = {"n_latent": int(rng.integers(2, 4)), "max_iter": 3, "random_state": seed}
    names = ["log_joint", "family", "gradient", "n_draws", "n_latent", *options]

    def check(found):
        values = [found.mean, found.variance, found.sample(3, 0), [found.elbo]]
        return ["is not finite"] * (not all(np.isfinite(v).all() for v in values))

    fit = partial(inference.fit_variational, gradient=gradient, **options)
    judged(report, "fit_variational", check, fit, density, family, must_work=True)
    bad = pick(rng, [lambda z: z, lambda z: z.sum(-1) * torch.nan, lambda z: 1.0, 3])
    report_call(
        report, "fit_variational(bad)", fit, bad, family, names=names, must_fail=True
    )


def density(z):
    return -z.square().sum(-1)


def data_sets(report, rng, seed):
    """Penguins in every form, and amputed tables."""
    is_frame, as_pair = bool(rng.integers(2)), bool(rng.integers(2))
    load = partial(datasets.load_penguins, return_X_y=as_pair, as_frame=is_frame)
    judged(report, "load_penguins", nothing, load, must_work=True)
    table = draw_table(rng, odd=False)
    X = table.build()
    names = ["rate", "mechanism", *table.names]
    mechanism = pick(rng, ["mcar", "mar", "mnar"])
    rate = pick(rng, [0.01, 0.5, 0.99, 0.0, 1.0, "a", None, np.nan])
    ampute = partial(datasets.ampute, mechanism=mechanism, random_state=seed)
    check = partial(outputs.amputed, given=table, native=X)
    judged(report, "ampute", check, ampute, X, names=names, rate=rate)


# -- plots -----------------------------------------------------------------------------


def plots(report, rng, seed):
    """Every display once, of a table that it may show."""
    model, table, X, y = estimator_and_data(rng, seed)
    if not report_call(report, "fit", model.fit, X, y, must_work=True).is_ok:
        return
    names = [*model.get_params(), *table.names, "components", "estimator", "feature"]
    show = partial(report_call, report, names=names)
    show("LossCurveDisplay", plotting.LossCurveDisplay.from_estimator, model)
    if isinstance(model, skvae.VAEImputer):
        display = plotting.ImputationDisplay.from_estimator
        for kind in ("distribution", "intervals"):
            draw = partial(display, kind=kind, random_state=0)
            show("ImputationDisplay", draw, model, X, 0)
    elif isinstance(model, skvae.VAERegressor):
        display = plotting.ConditionalGridDisplay.from_estimator
        show("ConditionalGridDisplay", display, model)
    else:
        scatter = plotting.LatentScatterDisplay.from_estimator
        show("LatentScatterDisplay", scatter, model, X, y)
        labels = numpy_column(draw_labels(rng, len(table)))
        show("LatentScatterDisplay(labels)", scatter, model, X, labels)
        for name in ("LatentTraversalDisplay", "LatentManifoldDisplay"):
            show(name, getattr(plotting, name).from_estimator, model)
        display = plotting.ReconstructionDisplay.from_estimator
        show("ReconstructionDisplay", display, model, X)
    plt.close("all")


WORKFLOWS = [
    chunks,
    warm_starts,
    failed_refits,
    frames_as_output,
    pooled,
    variational,
    data_sets,
    plots,
]
