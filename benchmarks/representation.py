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

import time

import numpy as np
from harness import report
from harness.cases import density_columns, load_images, load_index, load_numeric_table
from harness.peers.representation import DENSITIES, LATENTS
from harness.run import Run, our_parameters, read_options
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ROWS = 5000
IMAGE_ROWS = {"mnist": 2000, "usps": 3000, "digits": MAX_ROWS}
METHODS = {"A": ("ours", "ours (defaults)", *LATENTS, "raw"), "B": ("ours", *DENSITIES)}
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


def load_rows(data, name, seed):
    """Return rows and targets, a sample of large data sets; strata to split by."""
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
    strata = y.astype(str) if discrete else None
    if discrete and np.unique(strata, return_counts=True)[1].min() < 2:
        strata = None
    return X, y, strata


def split_data(data, name, seed, part):
    """Return train and test rows, scaled like the former, and their targets."""
    X, y, strata = load_rows(data, name, seed)
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
    else:
        model = LATENTS[method](n_components, seed)
    return model.fit(X_train).transform(X_train), model.transform(X_test)


def accuracy(method, X_train, X_test, y_train, y_test, seed, parameters):
    """Return the test accuracy of a logistic regression on the latents."""
    y_train, y_test = y_train.astype(str), y_test.astype(str)
    n_features = X_train.shape[1]
    n_components = max(2, min(16, n_features // 2))
    Z_train, Z_test = latents(method, X_train, X_test, n_components, seed, parameters)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    score = classifier.fit(Z_train, y_train).score(Z_test, y_test)
    return {"value": score, "n_components": n_components, "n_features": n_features}


def fit_ours(X, seed, parameters):
    """Fit a density of ours; return it and what was chosen."""
    model = our_model(seed, parameters).fit(X)
    heads = set(model.likelihood_.values())
    # A density cannot be compared with the mass of a discrete likelihood.
    if not all(head.startswith(("normal", "student_t")) for head in heads):
        raise ValueError(f"Expected continuous likelihoods, but got {heads}")
    return model, {"n_components": int(model.n_components_)}


def likelihood(method, X_train, X_test, y_train, y_test, seed, parameters):
    """Return the mean log-likelihood of the test rows, in nats per row."""
    if method == "ours":
        model, chosen = fit_ours(X_train, seed, parameters)
    else:
        model, chosen = DENSITIES[method](X_train, seed)
    per_row = model.score_samples(X_test)
    return {
        "value": float(np.mean(per_row)),
        "n_features": X_train.shape[1],
        "n_rows": len(X_train),
        "fewest_values": min(len(np.unique(column)) for column in X_train.T),
        **chosen,
    }


def compute(part, method, split, seed, parameters):
    """Return the result of one method on one split, with its seconds."""
    start = time.perf_counter()
    measure = {"A": accuracy, "B": likelihood}[part]
    result = measure(method, *split, seed, parameters)
    return {**result, "seconds": round(time.perf_counter() - start, 2)}


def run_part(options, run, part):
    """Return the raw figures of one part."""
    parameters, label = our_parameters(options)
    names = dataset_names(options.data, part)

    def cases(seed):
        for name in names:
            if not options.datasets or name in options.datasets:
                split = split_data(options.data, name, seed, part)
                yield name, METHODS[part], split

    def evaluate(method, split, seed):
        return compute(part, method, split, seed, parameters)

    cells = run.grid(cases, evaluate, ours=parameters, part=part)
    cells = {
        name: {label if m == "ours" else m: list(c.values()) for m, c in row.items()}
        for name, row in cells.items()
    }
    return figures(part, cells, len(options.seeds))


def figures(part, cells, n_seeds):
    """Return medians over seeds, facts about the data and seconds.

    A median is there only when every seed is finished, so that all the figures of a
    row rest on the same splits.
    """
    medians, about, seconds = {}, {}, {}
    for name, row in cells.items():
        medians[name] = {
            method: float(np.median([cell["value"] for cell in found]))
            for method, found in row.items()
            if len(found) == n_seeds
        }
        known = next(iter(row.values()))[0]
        about[name] = [known.get(field) for field in ABOUT[part].values()]
        for method, found in row.items():
            seconds.setdefault(method, []).extend(cell["seconds"] for cell in found)
    seconds = {m: [float(np.sum(s)), float(np.median(s))] for m, s in seconds.items()}
    medians = {name: row for name, row in medians.items() if row}
    return {"medians": medians, "about": about, "seconds": seconds}


def differences_of(medians, ours, peer):
    """Return the differences ours minus peer, a dict by data set."""
    return {
        name: row[ours] - row[peer]
        for name, row in medians.items()
        if ours in row and peer in row
    }


def comparison_lines(medians, ours, peers):
    """Return on how many data sets ours is above each peer."""
    lines = []
    for peer in peers:
        if differences := differences_of(medians, ours, peer):
            losses = [name for name, value in differences.items() if value <= 0]
            lines.append(
                f"- {ours} above {peer} on {len(differences) - len(losses)} of "
                f"{len(differences)}, mean difference "
                f"{np.mean(list(differences.values())):+.3f}; "
                f"not above on: {', '.join(losses) or 'none'}"
            )
    return lines


def part_lines(part, found):
    """Return the Markdown lines of one part: table, comparisons and cost."""
    medians, methods = found["medians"], list(found["seconds"])
    rows = [
        [name, *found["about"][name], *map(row.get, methods), max(row, key=row.get)]
        for name, row in medians.items()
    ]
    seconds = [
        f"- {method}: {total:,.0f} s in all, median {median:.2f} s for fit and score"
        for method, (total, median) in found["seconds"].items()
    ]
    return report.blocks(
        f"## {TITLES[part]}",
        report.table(["data", *ABOUT[part], *methods, "best"], rows),
        comparison_lines(medians, methods[0], methods[1:]) + seconds,
    )


def target_lines(parts, ours):
    """Return the lines that compare the results with the targets of the project."""
    lines = []
    medians = {part: found["medians"] for part, found in parts.items()}
    for peer, share in (("FactorAnalysis", 1.0), ("GaussianMixture", 0.5)):
        found = differences_of(medians.get("B", {}), ours, peer)
        wins = sum(value > 0 for value in found.values())
        met = wins == len(found) if share == 1 else wins > share * len(found)
        if found:
            lines.append(
                f"- log-likelihood above {peer} on {wins} of {len(found)} (target: "
                f"{'all' if share == 1 else 'more than half'}): {report.VERDICTS[met]}"
            )
    for peer in ("PCA", "FactorAnalysis"):
        if found := differences_of(medians.get("A", {}), ours, peer):
            mean = np.mean(list(found.values()))
            lines.append(
                f"- mean accuracy minus that of {peer}, {len(found)} sets: {mean:+.4f} "
                f"(target: above 0): {report.VERDICTS[bool(mean > 0)]}"
            )
    return lines


def page(raw):
    return report.blocks(
        "# Representation and density",
        report.prose(__doc__),
        report.items(raw, f"seeds: {raw['seeds']}, medians"),
        *(part_lines(part, found) for part, found in raw["parts"].items()),
        "## Targets",
        target_lines(raw["parts"], raw["ours"]),
    )


def main():
    options = read_options(
        __doc__, seeds=[0, 1, 2], part=["A", "B"], datasets=[], set=[]
    )
    run = Run(options, {*LATENTS, *DENSITIES, "raw"})
    parts = {part: run_part(options, run, part) for part in options.part}
    ours = our_parameters(options)[1]
    report.publish(options, ours=ours, parts=parts)


if __name__ == "__main__":
    main()
