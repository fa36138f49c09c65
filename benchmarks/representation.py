"""Representation and density: VAETransformer against the classical methods.

Part A: test accuracy of a logistic regression on the latents, equal dimension; "ours"
has ``likelihood="normal_isotropic"``, "ours (defaults)" the default likelihood.
Part B: held-out log-likelihood per row (nats) of standardised numeric columns, ours
with all defaults.

The tables are all those of the data folder with at least four numeric columns and
more numeric than categorical ones; only the numeric columns are used. Interrupted
runs resume from ``benchmarks/results/.cache/representation.jsonl``; ``--rerun ours``
computes our results again and keeps those of the peers.
"""

import functools
import json
import time
import warnings

import numpy as np
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    comparison,
    density_columns,
    environment,
    environment_lines,
    load_images,
    load_index,
    load_numeric_table,
    markdown_table,
    medians,
    write_report,
)
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ROWS = 5000
IMAGE_ROWS = {"mnist": 2000, "usps": 3000, "digits": MAX_ROWS}
METHODS = {
    "A": ("ours", "ours (defaults)", "PCA", "FactorAnalysis", "KernelPCA", "raw"),
    "B": ("ours", "FactorAnalysis", "GaussianMixture", "KernelDensity"),
}
# Columns on one scale with one noise for all, as in PCA: latents that keep what moves
# the values. The defaults are made for densities, and are shown beside it.
REPRESENTATION = {"likelihood": "normal_isotropic"}
TITLES = {
    "A": "Part A: test accuracy of LogisticRegression on the latents",
    "B": "Part B: held-out log-likelihood per row (nats)",
}
# Columns of each table that describe the data: title, field of the result.
ABOUT = {
    "A": {"columns": "n_features", "latents": "n_components"},
    "B": {"columns": "n_features", "rows": "n_rows", "fewest values": "fewest_values"},
}
VERDICTS = {True: "met", False: "NOT met"}
# A density cannot be compared with the mass of a discrete likelihood.
CONTINUOUS_HEADS = {
    "normal",
    "normal_heteroscedastic",
    "normal_isotropic",
    "student_t",
    "student_t_heteroscedastic",
}


# Data


def dataset_names(data, part):
    """Return the data sets of a part, chosen by the rule of the module docstring."""
    names = []
    for name, row in load_index(data).items():
        if not row["file"].endswith(".parquet"):
            continue
        numeric, categorical = int(row["numeric_cols"]), int(row["categorical_cols"])
        classes = row["task"] != "regression"
        if numeric >= 4 and numeric > categorical and (part == "B" or classes):
            names.append(name)
    return names + (list(IMAGE_ROWS) if part == "A" else [])


@functools.lru_cache(maxsize=1)
def split_data(data, name, seed, part):
    """Return scaled train and test rows and their targets.

    Returns
    -------
    X_train, X_test : float64 arrays, scaled by the mean and deviation of X_train
    y_train, y_test : arrays
    """
    if name in IMAGE_ROWS:
        X, y = load_images(data, name)
        discrete = True
    else:
        X, y = load_numeric_table(data, name)
        discrete = load_index(data)[name]["task"] != "regression"
    n_rows = IMAGE_ROWS.get(name, MAX_ROWS)
    if len(X) > n_rows:
        rows = np.random.default_rng(seed).choice(len(X), n_rows, replace=False)
        X, y = X[rows], y[rows]
    strata = None
    if discrete and np.unique(y.astype(str), return_counts=True)[1].min() >= 2:
        strata = y.astype(str)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, random_state=seed, stratify=strata
    )
    keep = X_train.min(axis=0) < X_train.max(axis=0)
    scaler = StandardScaler().fit(X_train[:, keep])
    X_train, X_test = (scaler.transform(X[:, keep]) for X in (X_train, X_test))
    if part == "B":
        keep = density_columns(X_train)
        X_train, X_test = X_train[:, keep], X_test[:, keep]
    return X_train, X_test, y_train, y_test


# Methods


def our_model(seed, parameters, n_components=None):
    """Return a VAETransformer with default parameters except those given."""
    from skvae import VAETransformer

    if n_components is not None:
        parameters = {**parameters, "n_components": n_components}
    return VAETransformer(**{"random_state": seed, **parameters})


def latents(method, X_train, X_test, n_components, seed, parameters):
    """Return the latents of train and test rows under one method."""
    if method == "raw":
        return X_train, X_test
    if method == "ours":
        model = our_model(seed, {**REPRESENTATION, **parameters}, n_components)
    elif method == "ours (defaults)":
        model = our_model(seed, {}, n_components)
    elif method == "PCA":
        model = PCA(n_components, random_state=seed)
    elif method == "FactorAnalysis":
        model = FactorAnalysis(n_components, random_state=seed)
    else:
        model = KernelPCA(n_components, kernel="rbf", random_state=seed)
    return model.fit(X_train).transform(X_train), model.transform(X_test)


def accuracy(method, X_train, X_test, y_train, y_test, seed, parameters):
    """Return the test accuracy of a logistic regression on the latents."""
    n_features = X_train.shape[1]
    n_components = max(2, min(16, n_features // 2))
    Z_train, Z_test = latents(method, X_train, X_test, n_components, seed, parameters)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    score = classifier.fit(Z_train, y_train).score(Z_test, y_test)
    return {"value": score, "n_components": n_components, "n_features": n_features}


def fit_factor_analysis(X, seed):
    """Fit a FactorAnalysis, components by three-fold cross-validation."""
    n_features = X.shape[1]
    powers = 2 ** np.arange(int(np.log2(max(n_features - 1, 1))) + 1)
    grid = {"n_components": sorted({*powers.tolist(), n_features - 1})}
    return GridSearchCV(FactorAnalysis(random_state=seed), grid, cv=3).fit(X)


def fit_gaussian_mixture(X, seed):
    """Fit a GaussianMixture, full covariance, 1 to 20 components by BIC."""
    best, best_bic = None, np.inf
    for n_components in range(1, min(20, len(X)) + 1):
        model = GaussianMixture(n_components, random_state=seed)
        try:
            bic = model.fit(X).bic(X)
        except ValueError:  # a component collapsed onto too few rows
            continue
        if bic < best_bic:
            best, best_bic = model, bic
    return best


def fit_kernel_density(X):
    """Fit a KernelDensity, bandwidth by three-fold cross-validation."""
    grid = {"bandwidth": np.logspace(-1.5, 0.5, 9)}
    return GridSearchCV(KernelDensity(), grid, cv=3).fit(X)


def likelihood(method, X_train, X_test, seed, parameters):
    """Return the mean log-likelihood of the test rows, in nats per row."""
    if method == "ours":
        model = our_model(seed, parameters).fit(X_train)
        heads = set(model.likelihood_.values())
        if not heads <= CONTINUOUS_HEADS:
            raise ValueError(f"Expected continuous likelihoods, but got {heads}")
        chosen = {"n_components": int(model.n_components_)}
    elif method == "FactorAnalysis":
        model = fit_factor_analysis(X_train, seed)
        chosen = model.best_params_
    elif method == "GaussianMixture":
        model = fit_gaussian_mixture(X_train, seed)
        chosen = {"n_components": model.n_components}
    else:
        model = fit_kernel_density(X_train)
        chosen = model.best_params_
    if hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    per_row = model.score_samples(X_test)
    distinct = min(len(np.unique(column)) for column in X_train.T)
    return {
        "value": float(np.mean(per_row)),
        "median_row": float(np.median(per_row)),
        "n_features": X_train.shape[1],
        "n_rows": len(X_train),
        "fewest_values": distinct,
        **chosen,
    }


def compute(part, name, method, seed, data, parameters):
    """Return the result of one method on one split, with its seconds."""
    X_train, X_test, y_train, y_test = split_data(data, name, seed, part)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if part == "A":
            y_train, y_test = y_train.astype(str), y_test.astype(str)
            result = accuracy(
                method, X_train, X_test, y_train, y_test, seed, parameters
            )
        else:
            result = likelihood(method, X_train, X_test, seed, parameters)
    return {**result, "seconds": round(time.perf_counter() - start, 2)}


# Report


def part_lines(part, table, checkpoint, methods, seeds):
    """Return the Markdown lines of one part: table, comparisons and cost."""
    about = ABOUT[part]
    rows = []
    for name, row in table.items():
        known = checkpoint.get((part, name, next(iter(row)), seeds[0]))
        facts = [known.get(field) for field in about.values()]
        rows.append(
            [name, *facts, *(row.get(m) for m in methods), max(row, key=row.get)]
        )
    lines = [f"## {TITLES[part]}", ""]
    lines += [*markdown_table(["data", *about, *methods, "best"], rows), ""]
    ours, *peers = methods
    for peer in peers:
        differences = comparison(table, ours, peer)
        if differences:
            losses = [name for name, value in differences.items() if value <= 0]
            lines.append(
                f"- {ours} above {peer} on {len(differences) - len(losses)} of "
                f"{len(differences)}, mean difference "
                f"{np.mean(list(differences.values())):+.3f}; "
                f"not above on: {', '.join(losses) or 'none'}"
            )
    for method in methods:
        found = [checkpoint.get((part, n, method, s)) for n in table for s in seeds]
        seconds = [result["seconds"] for result in found if result]
        if seconds:
            lines.append(
                f"- {method}: {np.sum(seconds):,.0f} s in all, "
                f"median {np.median(seconds):.2f} s for fit and score"
            )
    return [*lines, ""]


def target_lines(tables, ours):
    """Return the lines that compare the results with the targets of the project."""
    lines = []
    for peer, share in (("FactorAnalysis", 1.0), ("GaussianMixture", 0.5)):
        found = comparison(tables.get("B", {}), ours, peer)
        wins = sum(value > 0 for value in found.values())
        met = wins == len(found) if share == 1 else wins > share * len(found)
        if found:
            lines.append(
                f"- log-likelihood above {peer} on {wins} of {len(found)} (target: "
                f"{'all' if share == 1 else 'more than half'}): {VERDICTS[met]}"
            )
    for peer in ("PCA", "FactorAnalysis"):
        found = comparison(tables.get("A", {}), ours, peer)
        if found:
            mean = np.mean(list(found.values()))
            lines.append(
                f"- mean accuracy minus that of {peer}, {len(found)} sets: "
                f"{mean:+.4f} (target: above 0): {VERDICTS[bool(mean > 0)]}"
            )
    return ["## Targets", "", *lines]


def parse_arguments():
    """Return the command line's options."""
    parser = argument_parser("representation", __doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", choices=["A", "B"], nargs="+", default=["A", "B"])
    parser.add_argument("--datasets", nargs="+", help="only these data sets")
    parser.add_argument("--method", nargs="+", help="compute only these methods")
    parser.add_argument("--rerun", nargs="+", default=[], help="compute these again")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=JSON",
        help="parameters of ours, stored under a label of their own",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="print what is finished"
    )
    return parser.parse_args()


def main():
    """Compute what is missing, then write the report."""
    options = parse_arguments()
    checkpoint = Checkpoint(cache_path("representation.jsonl"))
    parameters = dict(word.split("=", 1) for word in options.set)
    parameters = {name: json.loads(value) for name, value in parameters.items()}
    ours = " ".join(["ours", *sorted(options.set)])
    names = {part: dataset_names(options.data, part) for part in options.part}
    if options.datasets:
        names = {p: [n for n in names[p] if n in options.datasets] for p in names}
    tasks = [
        (part, name, method, seed)
        for seed in options.seeds
        for part in options.part
        for name in names[part]
        for method in METHODS[part]
        if not options.method or method in options.method
    ]
    for part, name, method, seed in [] if options.report_only else tasks:
        label = ours if method == "ours" else method
        key = (part, name, label, seed)
        if key in checkpoint and method not in options.rerun:
            continue
        result = compute(part, name, method, seed, options.data, parameters)
        checkpoint.put(key, result)
        print(*key, json.dumps(result), flush=True)

    report = environment()
    lines = ["# Representation and density", "", __doc__.split("\n\n", 1)[1].strip()]
    lines += ["", *environment_lines(report), f"- seeds: {options.seeds}, medians", ""]
    tables = {}
    for part in options.part:
        labels = [ours if m == "ours" else m for m in METHODS[part]]
        done = [(n, s) for n in names[part] for s in options.seeds]
        labels = [
            m for m in labels if any((part, n, m, s) in checkpoint for n, s in done)
        ]
        tables[part] = medians(checkpoint, part, names[part], labels, options.seeds)
        lines += part_lines(part, tables[part], checkpoint, labels, options.seeds)
    lines += target_lines(tables, ours)
    write_report(options.output, lines, {"environment": report, "medians": tables})


if __name__ == "__main__":
    main()
