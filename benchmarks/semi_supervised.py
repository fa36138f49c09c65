"""Classification with few labels: VAEClassifier and scikit-learn's methods.

Parts: "digits" (load_digits, 30 and 100 labels), "tables" (5% and 10% of the labels),
"curve" (digits, error by the number of unlabelled rows and of labels) and "mnist"
(100 and 1,000 labels). Every method sees the same rows and labels; methods that take no
missing cells and no categories get medians and one-hot columns, scaled.

Every finished cell is kept in results/.cache, so that a run goes on where it ended;
delete a method's lines there after a change of it. Seeds are the outer loop: what is
written after an interrupted run has whole seeds. For one figure of MNIST:

    python benchmarks/semi_supervised.py --parts mnist --labels 100 --seeds 1 \\
        --methods VAEClassifier*m1*

Seconds are those of the clock and of the processor, both of one fit and predict.
"""

import argparse
import time
import warnings
from fnmatch import fnmatch

import numpy as np
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    load_images,
    load_mnist,
    markdown_table,
    write_report,
)
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import (
    LabelPropagation,
    LabelSpreading,
    SelfTrainingClassifier,
)
from sklearn.svm import SVC

from skvae import VAEClassifier

#: Development was done on other rows (the training part of optdigits) and tables
#: (raisin, credit_g, phoneme, wine_white, mushroom, titanic).
TABLES = (
    "adult",
    "banknote",
    "cmc",
    "credit_approval",
    "letter",
    "magic",
    "nursery",
    "sick",
)
SHARES = (0.05, 0.10)
PARTS = ("digits", "tables", "curve", "mnist")
DIGIT_LABELS = (30, 100)
MNIST_LABELS = (100, 1000)
#: Pixels have one unit: rare ones should not weigh more than others. The rest was
#: chosen on the first 40,000 training rows, tested on the others of the first 50,000.
MNIST_PARAMETERS = {
    "numeric_transform": "none",
    "n_components": 50,
    "hidden_layer_sizes": (256, 256),
    "hidden_share": 0.0,
    "smoothness": 1.0,
    "radius": 0.2,
    "max_iter": 20,
}
CURVE_LABELS = (20, 50, 100, 200, 500)
CURVE_ROWS = (100, 200, 400, 800, 1257)
MAX_ROWS = 5_000
MIN_CLASS = 10

OURS = "VAEClassifier"
ALONE = "VAEClassifier, labelled rows alone"
PEERS = {
    "SVC, labelled rows alone": lambda seed: SVC(),
    "SelfTraining(SVC)": lambda seed: SelfTrainingClassifier(
        SVC(probability=True, random_state=seed)
    ),
    "SelfTraining(HistGradientBoosting)": lambda seed: SelfTrainingClassifier(
        HistGradientBoostingClassifier(random_state=seed)
    ),
    "LabelSpreading": lambda seed: LabelSpreading(kernel="knn", n_neighbors=7),
    "LabelPropagation": lambda seed: LabelPropagation(kernel="knn", n_neighbors=7),
    "pseudo-labels, MLP": lambda seed: SelfTrainingClassifier(
        MLPClassifier((128, 128), max_iter=500, random_state=seed)
    ),
}
OBJECTIVES = {f'VAEClassifier, objective="{o}"': o for o in ("m1", "m1+m2", "shot")}


def parse_arguments():
    parser = argument_parser("semi_supervised", __doc__.splitlines()[0])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=["digits", "tables", "curve"],
        help="what to run, in this order within every seed (mnist takes minutes a fit)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="splits and labels")
    parser.add_argument("--first-seed", type=int, default=0, help="to leave some out")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), metavar="NAME")
    parser.add_argument(
        "--labels", nargs="+", help="of digits and mnist, such as 100 (default: all)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="names or patterns with * (default: all); objectives are rows of their "
        "own, as VAEClassifier*m1*",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write what is finished"
    )
    return parser.parse_args()


# Data


def hide_labels(y, kept):
    """Return the labels of the rows ``kept``, -1 elsewhere."""
    few = np.full(len(y), -1)
    few[kept] = y[kept]
    return few


def balanced(y, n_labels, rng):
    """Return rows with the same number of labels of every class."""
    classes = np.unique(y)
    order = rng.permutation(len(y))
    each = n_labels // len(classes)
    return np.concatenate([order[y[order] == label][:each] for label in classes])


def random_share(y, share, rng):
    """Return a share of the rows, at random, with at least one of every class."""
    order = rng.permutation(len(y))
    kept = list(order[: round(share * len(y))])
    for label in np.setdiff1d(y, y[kept]):
        kept.append(order[y[order] == label][0])
    return np.array(kept)


def load_digits_split(n_labels, seed, data):
    X, y = load_images(data, "digits")
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.3, random_state=seed, stratify=y
    )
    few = hide_labels(y, balanced(y, n_labels, np.random.default_rng(seed)))
    return X, few, X_test, y_test


def load_mnist_split(n_labels, seed, data):
    """50,000 rows to learn from; the last 10,000 of the training images for testing."""
    X, y = load_mnist(data)
    X, y = X.astype(np.float32) / 255, y.astype(int)
    train, test = slice(0, 50_000), slice(50_000, None)
    kept = balanced(y[train], n_labels, np.random.default_rng(seed))
    return X[train], hide_labels(y[train], kept), X[test], y[test]


def load_table_split(name, share, seed, data):
    """Return a mixed table, at most 5,000 rows of it, without classes of few rows."""
    import pandas as pd

    table = pd.read_parquet(data / f"{name}.parquet")
    table = table[table["target"].notna()]
    table = table.sample(min(len(table), MAX_ROWS), random_state=seed)
    counts = table["target"].value_counts()
    table = table[table["target"].isin(counts.index[counts >= MIN_CLASS])]
    y = pd.factorize(table.pop("target").astype(str), sort=True)[0]
    for column in table:
        numeric = pd.api.types.is_numeric_dtype(table[column])
        table[column] = table[column].astype("float64" if numeric else "category")
    X, X_test, y, y_test = train_test_split(
        table, y, test_size=0.3, random_state=seed, stratify=y
    )
    kept = random_share(y, share, np.random.default_rng(seed))
    return X, hide_labels(y, kept), X_test, y_test


def as_numbers(X, X_test):
    """Return complete, scaled numbers for methods that need them."""
    if isinstance(X, np.ndarray):
        scaler = StandardScaler().fit(X) if X.max() > 1 else None
        if scaler is None:
            return X, X_test
        top = X.max()
        return X / top, X_test / top
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    encoder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return encoder.fit_transform(X), encoder.transform(X_test)


# Methods


def evaluate(part, method, seed, X, y, X_test, y_test):
    """Return the error in percent, and the seconds of fit and predict."""
    known = np.flatnonzero(y >= 0)
    if not method.startswith("VAEClassifier"):
        X, X_test = as_numbers(X, X_test)
        model = PEERS[method](seed)
    else:
        model = VAEClassifier(random_state=seed)
        if part == "mnist":
            model.set_params(**MNIST_PARAMETERS)
        if method in OBJECTIVES:
            model.set_params(objective=OBJECTIVES[method])
    if method.endswith("alone"):
        X = X[known] if isinstance(X, np.ndarray) else X.iloc[known]
        y = y[known]
    start, start_cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(X, y).predict(X_test)
    error = 100 * float(np.mean(found != y_test))
    return {
        "error": error,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - start_cpu,
    }


def jobs(arguments):
    """Yield the key and the loader of every cell, all methods of a seed together."""
    data, seeds = arguments.data, range(arguments.first_seed, arguments.seeds)
    everyone = [OURS, ALONE, *PEERS]
    for seed in seeds:
        if "digits" in arguments.parts:
            for n in DIGIT_LABELS:
                for method in [*everyone, *OBJECTIVES]:
                    key = ("digits", str(n), method, seed)
                    yield key, lambda n=n, s=seed: load_digits_split(n, s, data)
        if "tables" in arguments.parts:
            for name in arguments.tables:
                for share in SHARES:
                    for method in everyone:
                        key = ("tables", f"{name} {share:.0%}", method, seed)
                        yield (
                            key,
                            lambda a=name, b=share, s=seed: load_table_split(
                                a, b, s, data
                            ),
                        )
        if "curve" in arguments.parts:
            for n in CURVE_LABELS:
                for method in (OURS, ALONE, "SelfTraining(SVC)", "LabelSpreading"):
                    key = ("labels", str(n), method, seed)
                    yield key, lambda n=n, s=seed: load_digits_split(n, s, data)
            for n in CURVE_ROWS:
                key = ("rows", str(n), OURS, seed)
                yield key, lambda n=n, s=seed: fewer_rows(n, s, data)
        if "mnist" in arguments.parts:
            for n in MNIST_LABELS:
                for method in (OURS, ALONE, "SVC, labelled rows alone", *OBJECTIVES):
                    key = ("mnist", str(n), method, seed)
                    yield key, lambda n=n, s=seed: load_mnist_split(n, s, data)


def fewer_rows(n_rows, seed, data):
    """Digits with 100 labels, among ``n_rows`` rows."""
    X, few, X_test, y_test = load_digits_split(100, seed, data)
    known, others = np.flatnonzero(few >= 0), np.flatnonzero(few < 0)
    kept = np.concatenate([known, others[: n_rows - len(known)]])
    return X[kept], few[kept], X_test, y_test


# Report


def cells(checkpoint, part):
    """Return the errors of finished cells: name -> method -> list over seeds."""
    table = {}
    for (kind, name, method, _), value in sorted(checkpoint.records.items()):
        if kind == part:
            row = table.setdefault(name, {})
            row.setdefault(method, []).append(value["error"])
    return table


def error_lines(table, names, methods):
    rows = []
    for method in methods:
        row = [method]
        for name in names:
            errors = table.get(name, {}).get(method)
            if errors is None:
                row.append(None)
                continue
            spread = f" ± {np.std(errors, ddof=1):.1f}" if len(errors) > 1 else ""
            row.append(f"{np.mean(errors):.1f}{spread} ({len(errors)})")
        rows.append(row)
    return markdown_table(["error %, mean ± sd (seeds)", *names], rows)


def ranks(table, methods):
    """Return the average rank of every method over complete rows, ties shared."""
    from scipy.stats import rankdata

    places = [
        rankdata([np.mean(row[m]) for m in methods])
        for row in table.values()
        if all(m in row for m in methods)
    ]
    return (np.mean(places, axis=0) if places else None), len(places)


def median(checkpoint, part, method, what):
    """Return the median over the finished cells of a method; None where unknown."""
    values = [
        value[what]
        for (kind, _, name, _), value in checkpoint.records.items()
        if kind == part and name == method and what in value
    ]
    return float(np.median(values)) if values else None


def report(checkpoint, output):
    lines = ["# Few labels", "", *environment_lines(environment()), ""]
    everyone = [OURS, ALONE, *PEERS]
    results = {}
    titles = {
        "digits": "Digits (load_digits, 30% test rows), by the number of labels",
        "tables": "Tables (at most 5,000 rows, 30% of them for testing), by labels",
        "labels": "Digits: curve over the number of labels",
        "rows": "Digits with 100 labels: curve over the number of training rows",
        "mnist": "MNIST (50,000 training and 10,000 test rows of its training part)",
    }
    for part, title in titles.items():
        table = cells(checkpoint, part)
        if not table:
            continue
        results[part] = table
        names = (
            sorted(table, key=lambda name: (not name.isdigit(), int(name)))
            if all(name.isdigit() for name in table)
            else sorted(table)
        )
        methods = [
            method
            for method in [*everyone, *OBJECTIVES]
            if any(method in row for row in table.values())
        ]
        lines += [f"## {title}", "", *error_lines(table, names, methods), ""]
        if part == "mnist":
            given = ", ".join(f"{k}={v!r}" for k, v in MNIST_PARAMETERS.items())
            lines += [f"Parameters of VAEClassifier: {given}.", ""]
        if part == "tables":
            found, n = ranks(table, methods)
            if found is not None:
                lines += [f"Average rank over {n} cells (1 is best):", ""]
                order = np.argsort(found)
                rows = [[methods[i], float(found[i])] for i in order]
                lines += [*markdown_table(["method", "rank"], rows, 2), ""]
        clocks = ("seconds", "processor_seconds")
        rows = [[m, *(median(checkpoint, part, m, c) for c in clocks)] for m in methods]
        head = ["seconds of fit and predict, median", "clock", "processor"]
        lines += [*markdown_table(head, rows, 1), ""]
    write_report(output, lines, results)


def main():
    arguments = parse_arguments()
    checkpoint = Checkpoint(cache_path("semi_supervised.jsonl"))
    for key, load in [] if arguments.report_only else jobs(arguments):
        wanted = arguments.methods is None or any(
            fnmatch(key[2], pattern) for pattern in arguments.methods
        )
        if arguments.labels and key[0] in ("digits", "mnist"):
            wanted = wanted and key[1] in arguments.labels
        if not wanted or key in checkpoint:
            continue
        checkpoint.put(key, evaluate(key[0], key[2], key[3], *load()))
        print(*key, checkpoint.get(key), flush=True)
    report(checkpoint, arguments.output)


if __name__ == "__main__":
    main()
