"""Classification with few labels: VAEClassifier and scikit-learn's methods.

Parts: "digits" (load_digits, 30 and 100 labels), "tables" (5% and 10% of the labels),
"labels" and "rows" (digits, error by the number of labels and of training rows) and
"mnist" (100 and 1,000 labels; minutes a fit). Every method sees the same rows and
labels; methods that take no missing cells and no categories get medians and one-hot
columns, scaled.

For one figure of MNIST (``--labels`` takes numbers of labels, or of rows):

    python benchmarks/semi_supervised.py --parts mnist --labels 100 --seeds 0 \\
        --methods VAEClassifier*m1*

Seconds are those of the clock and of the processor, both of one fit and predict.
"""

import itertools
import time

import numpy as np
from harness import cases, report
from harness.peers.labels import PEERS, as_numbers
from harness.run import Run, read_options
from harness.tables import is_category
from sklearn.model_selection import train_test_split

#: Development was done on other rows (the training part of optdigits) and tables
#: (raisin, credit_g, phoneme, wine_white, mushroom, titanic).
NAMES = "adult banknote cmc credit_approval letter magic nursery sick"
TABLES = NAMES.split()
SHARES = (0.05, 0.10)
DIGIT_LABELS, MNIST_LABELS = (30, 100), (100, 1000)
#: Pixels have one unit: rare ones should not weigh more than others. The rest was
#: chosen on the first 40,000 training rows, tested on the others of the first 50,000.
MNIST_PARAMETERS = {
    "numeric_transform": "none",
    "n_components": 50,
    "hidden_layer_sizes": (256, 256),
    "masking_rate": 0.0,
    "consistency_weight": 1.0,
    "vat_radius": 0.2,
    "max_iter": 20,
}
CURVE_LABELS = (20, 50, 100, 200, 500)
CURVE_ROWS = (100, 200, 400, 800, 1257)
MAX_ROWS = 5_000

OURS = "VAEClassifier"
ALONE = "VAEClassifier, labelled rows alone"
EVERYONE = (OURS, ALONE, *PEERS)
OBJECTIVES = {f'VAEClassifier, objective="{o}"': o for o in ("m1", "m1+m2", "shot")}
TITLES = {
    "digits": "Digits (load_digits, 30% test rows), by the number of labels",
    "tables": "Tables (at most 5,000 rows, 30% of them for testing), by labels",
    "labels": "Digits: curve over the number of labels",
    "rows": "Digits with 100 labels: curve over the number of training rows",
    "mnist": "MNIST (50,000 training and 10,000 test rows of its training part)",
}
CLOCKS = ("seconds", "processor_seconds")


# Data: each returns training rows, labels (-1: none), test rows and their labels


def load_digits_split(n_labels, seed, data):
    X, y = cases.load_images(data, "digits")
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.3, random_state=seed, stratify=y
    )
    few = cases.hide_labels(y, cases.balanced(y, n_labels, np.random.default_rng(seed)))
    return X, few, X_test, y_test


def load_fewer_rows(n_rows, seed, data):
    """Digits with 100 labels, among ``n_rows`` rows."""
    X, few, X_test, y_test = load_digits_split(100, seed, data)
    known, others = np.flatnonzero(few >= 0), np.flatnonzero(few < 0)
    kept = np.concatenate([known, others[: n_rows - len(known)]])
    return X[kept], few[kept], X_test, y_test


def load_mnist_split(n_labels, seed, data):
    """50,000 rows to learn from; the last 10,000 of the training images for testing."""
    X, y = cases.load_mnist(data)
    X, y = X.astype(np.float32) / 255, y.astype(int)
    train, test = slice(0, 50_000), slice(50_000, None)
    kept = cases.balanced(y[train], n_labels, np.random.default_rng(seed))
    return X[train], cases.hide_labels(y[train], kept), X[test], y[test]


def load_table_split(name, share, seed, data):
    """Return a mixed table, at most 5,000 rows of it, without classes of few rows."""
    import pandas as pd

    table = cases.read_table(data, name)
    table = table[table[cases.TARGET].notna()]
    table = table.sample(min(len(table), MAX_ROWS), random_state=seed)
    table = cases.drop_rare_classes(table)
    y = pd.factorize(table.pop(cases.TARGET).astype(str), sort=True)[0]
    for column in table:
        categories = is_category(table[column])
        table[column] = table[column].astype("category" if categories else "float64")
    X, X_test, y, y_test = train_test_split(
        table, y, test_size=0.3, random_state=seed, stratify=y
    )
    kept = cases.random_share(y, share, np.random.default_rng(seed))
    return X, cases.hide_labels(y, kept), X_test, y_test


def make_model(part, method, seed):
    """Return the classifier of a method."""
    from skvae import VAEClassifier

    if method in PEERS:
        return PEERS[method](seed)
    parameters = MNIST_PARAMETERS if part == "mnist" else {}
    if method in OBJECTIVES:
        parameters = {**parameters, "objective": OBJECTIVES[method]}
    return VAEClassifier(**parameters, random_state=seed)


def evaluate(part, method, split, seed):
    """Return the error in percent, and the seconds of fit and predict."""
    X, y, X_test, y_test = split
    known = np.flatnonzero(y >= 0)
    if method in PEERS:
        X, X_test = as_numbers(X, X_test)
    if method.endswith("alone"):
        X = X[known] if isinstance(X, np.ndarray) else X.iloc[known]
        y = y[known]
    model = make_model(part, method, seed)
    start, start_cpu = time.perf_counter(), time.process_time()
    found = model.fit(X, y).predict(X_test)
    return {
        "error": 100 * float(np.mean(found != y_test)),
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - start_cpu,
    }


def cases_of(part, options, seed):
    """Yield name, methods and the split of every case of a part."""
    data, labels = options.data, options.labels

    def of_labels(counts, load, methods):
        for n in counts:
            if not labels or str(n) in labels:
                yield str(n), methods, load(n, seed, data)

    if part == "digits":
        methods = (*EVERYONE, *OBJECTIVES)
        yield from of_labels(DIGIT_LABELS, load_digits_split, methods)
    if part == "labels":
        methods = (OURS, ALONE, "SelfTraining(SVC)", "LabelSpreading")
        yield from of_labels(CURVE_LABELS, load_digits_split, methods)
    if part == "rows":
        yield from of_labels(CURVE_ROWS, load_fewer_rows, (OURS,))
    if part == "mnist":
        methods = (OURS, ALONE, "SVC, labelled rows alone", *OBJECTIVES)
        yield from of_labels(MNIST_LABELS, load_mnist_split, methods)
    if part == "tables":
        for name, share in itertools.product(options.tables, SHARES):
            split = load_table_split(name, share, seed, data)
            yield f"{name} {share:.0%}", EVERYONE, split


def figures(cells):
    """Return errors by name and method, and the median seconds by method."""
    clocks = {}
    for row in cells.values():
        for method, found in row.items():
            clocks.setdefault(method, []).extend(found.values())
    errors = {
        name: {m: [c["error"] for c in found.values()] for m, found in row.items()}
        for name, row in cells.items()
    }
    seconds = {
        method: [float(np.median([cell[clock] for cell in found])) for clock in CLOCKS]
        for method, found in clocks.items()
    }
    return {"errors": errors, "seconds": seconds}


def error_lines(table, names, methods):
    """Return the table of errors: methods in rows."""
    rows = []
    for method in methods:
        row = [method]
        for name in names:
            errors = table[name].get(method)
            if errors is None:
                row.append(None)
                continue
            spread = f" ± {np.std(errors, ddof=1):.1f}" if len(errors) > 1 else ""
            row.append(f"{np.mean(errors):.1f}{spread} ({len(errors)})")
        rows.append(row)
    return report.table(["error %, mean ± sd (seeds)", *names], rows)


def rank_lines(table, methods):
    """Return the average rank of every method over complete rows, ties shared."""
    from scipy.stats import rankdata

    places = [
        rankdata([np.mean(row[m]) for m in methods])
        for row in table.values()
        if all(m in row for m in methods)
    ]
    if not places:
        return []
    means = np.mean(places, axis=0)
    rows = [[methods[i], float(means[i])] for i in np.argsort(means)]
    title = f"Average rank over {len(places)} cells (1 is best):"
    return report.blocks(title, report.table(["method", "rank"], rows, 2))


def part_lines(part, found):
    """Return the lines of one part."""
    table = found["errors"]
    numbers = all(name.isdigit() for name in table)
    names = sorted(table, key=int) if numbers else sorted(table)
    methods = [m for m in (*EVERYONE, *OBJECTIVES) if m in found["seconds"]]
    given = ", ".join(f"{k}={v!r}" for k, v in MNIST_PARAMETERS.items())
    head = ["seconds of fit and predict, median", "clock", "processor"]
    return report.blocks(
        f"## {TITLES[part]}",
        error_lines(table, names, methods),
        f"Parameters of VAEClassifier: {given}." if part == "mnist" else None,
        rank_lines(table, methods) if part == "tables" else None,
        report.table(head, [[m, *found["seconds"][m]] for m in methods], 1),
    )


def page(raw):
    parts = raw["parts"]
    sections = [part_lines(part, parts[part]) for part in TITLES if part in parts]
    return report.blocks("# Few labels", report.items(raw), *sections)


def main():
    options = read_options(
        __doc__,
        parts=["digits", "tables", "labels", "rows"],
        seeds=[0, 1, 2, 3, 4],
        tables=TABLES,
        labels=[],
    )
    run, parts = Run(options, PEERS), {}
    for part in options.parts:
        cells = run.grid(
            lambda seed, part=part: cases_of(part, options, seed),
            lambda *cell, part=part: evaluate(part, *cell),
            ours=MNIST_PARAMETERS if part == "mnist" else None,
        )
        if cells:
            parts[part] = figures(cells)
    report.publish(options, parts=parts)


if __name__ == "__main__":
    main()
