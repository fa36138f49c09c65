"""Synthetic tables: skvae against TVAE, CTGAN, a Gaussian copula and a mixture.

Every method learns from the same training rows (complete, by default at most 2,000) and
draws as many new ones. Numbers are then rounded to the decimals of the training column
and clipped to its range, whatever the method. Scores, all against test rows (30%) that
no method has seen:

- quality: SDMetrics' quality report, the mean of column shapes and column pair trends;
- detection: cross-validated area under the ROC curve of a classifier
  (HistGradientBoosting) that tells test rows from synthetic ones; 0.5 is best;
- utility: accuracy, or R² of a regression, of HistGradientBoosting trained on the
  synthetic rows, on test rows;
- closeness: share of synthetic rows that are nearer to a training row than the median
  test row is; 0.5 is what new rows of the same distribution have, and 1 a copy.

Rows of VAETransformer with parameters are extra: the targets are about the defaults.
A tenth of the steps at a higher rate is what suffices for drawing rows; the defaults
are made for likelihoods too. Both were set on other splits (seeds 100 and 101), which
share rows with these. Methods that take long have fewer seeds.

"training rows" stands for the table itself: what can be reached, and what a copy costs.
TVAE, CTGAN and SDMetrics run in an environment of their own, see
harness/peers/generation.txt.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from harness import report
from harness.cases import TARGET, drop_rare_classes, read_table
from harness.peers.generation import fit_copula, fit_mixture
from harness.processes import Server
from harness.run import Run, read_options
from harness.table_metrics import closeness, detection, utility
from harness.tables import is_category
from sklearn.model_selection import train_test_split

TABLES = ("adult", "credit_g", "titanic", "abalone", "wine_white", "penguins")
MAX_TRAINING_ROWS = 2_000
TEST_SHARE = 0.3
MAX_MISSING = 0.2

WORKER = Path(__file__).parent / "harness" / "peers" / "generation_worker.py"
OURS = ("VAETransformer", "VAEImputer", "VAEClassifier")
EXTERNAL = ("TVAE", "CTGAN")
#: Settings other than the defaults, as rows of their own.
VARIANTS = {
    "VAETransformer, max_iter=50, learning_rate_init=0.02": {
        "max_iter": 50,
        "learning_rate_init": 0.02,
    },
    'VAETransformer, prior="vamp"': {"prior": "vamp"},
    'VAETransformer, numeric_transform="quantile"': {"numeric_transform": "quantile"},
}
SCORES = {
    "quality": "SDMetrics quality (1 is best)",
    "shapes": "Column shapes (1 is best)",
    "pairs": "Column pair trends (1 is best)",
    "detection": "Detection, area under the ROC curve (0.5 is best)",
    "utility": "Trained on synthetic rows, tested on real ones (accuracy, or R²)",
    "closeness": "Share of rows nearer to a training row than the median test row is",
    "fit_seconds": "CPU seconds of fit",
}


def load_split(data, name, seed, max_rows):
    """Return training and test rows, complete, with the target as the last column.

    Columns of which more than a fifth is missing are dropped, then rows with a missing
    cell and of classes with fewer than 10 rows.
    """
    table = read_table(data, name)
    table = table.loc[:, table.isna().mean() <= MAX_MISSING].dropna()
    n_rows = min(len(table), int(max_rows / (1 - TEST_SHARE)))
    table = table.sample(n_rows, random_state=seed)
    classes = is_category(table[TARGET])
    table = drop_rare_classes(table) if classes else table
    table = table.reset_index(drop=True)
    for column in table.columns:
        if is_category(table[column]):
            table[column] = table[column].astype(str).astype("category")
    strata = table[TARGET] if classes else None
    return train_test_split(
        table, test_size=TEST_SHARE, random_state=seed, stratify=strata
    )


def kinds(table):
    """Return "numbers" or "categories" for every column."""
    names = {True: "categories", False: "numbers"}
    return {name: names[is_category(table[name])] for name in table}


def decimals(column):
    """Return the least number of decimals, up to 6, that writes a column exactly."""
    for digits in range(6):
        if np.allclose(column.round(digits), column, rtol=0, atol=1e-9):
            return digits
    return 6


def like(train, synthetic):
    """Return synthetic rows with the dtypes, decimals and ranges of training rows."""
    columns = {}
    for name, column in train.items():
        values = synthetic[name]
        if is_category(column):
            categories = column.cat.categories
            columns[name] = pd.Categorical(values.astype(str), categories=categories)
        else:
            numbers = np.asarray(values, dtype=np.float64)
            numbers = numbers.round(decimals(column)).clip(column.min(), column.max())
            columns[name] = numbers
    table = pd.DataFrame(columns)
    if table.isna().any(axis=None):
        raise ValueError("A method drew missing or unknown cells.")
    return table


# Methods: each takes training rows and a seed, fits, and returns a function that draws


def fit_transformer(train, seed, **parameters):
    from skvae import VAETransformer

    model = VAETransformer(random_state=seed, **parameters).fit(train)
    return lambda n_rows: model.sample(n_rows, random_state=seed)


def fit_imputer(train, seed):
    from skvae import VAEImputer

    model = VAEImputer(random_state=seed).fit(train)

    def draw(n_rows):
        empty = train.iloc[:0].reindex(range(n_rows))
        return model.sample(empty, n_draws=1, random_state=seed)[0]

    return draw


def fit_classifier(train, seed):
    from skvae import VAEClassifier

    features, labels = train.drop(columns=TARGET), train[TARGET].astype(str)
    model = VAEClassifier(random_state=seed).fit(features, labels.to_numpy(object))

    def draw(n_rows):
        rows, classes = model.sample(n_rows, random_state=seed)
        return rows.assign(**{TARGET: classes})

    return draw


METHODS = {
    "VAETransformer": fit_transformer,
    "VAEImputer": fit_imputer,
    "VAEClassifier": fit_classifier,
    **dict.fromkeys(EXTERNAL),  # in an environment of their own
    "Gaussian copula": fit_copula,
    "GaussianMixture": fit_mixture,
    "training rows": lambda train, seed: lambda n_rows: train,
    **dict.fromkeys(VARIANTS, fit_transformer),
}


def generate(method, train, seed, worker, folder):
    """Return as many synthetic rows as there are training rows, and the CPU seconds."""
    if method in EXTERNAL:
        paths = {key: str(folder / f"{key}.csv") for key in ("train", "output")}
        train.to_csv(paths["train"], index=False)
        request = {"task": "generate", "method": method, "seed": seed, **paths}
        answer = worker.ask(**request, kinds=kinds(train), n_samples=len(train))
        text = {name: str for name in train if is_category(train[name])}
        synthetic = pd.read_csv(paths["output"], dtype=text, keep_default_na=False)
        return like(train, synthetic), answer["fit_seconds"]
    start = time.process_time()
    draw = METHODS[method](train, seed, **VARIANTS.get(method, {}))
    seconds = time.process_time() - start
    return like(train, draw(len(train))), seconds


def evaluate(method, split, seed, worker):
    """Return all the scores of a method."""
    train, test = split
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic, seconds = generate(method, train, seed, worker, folder)
        paths = {key: str(folder / f"{key}.csv") for key in ("real", "synthetic")}
        test.to_csv(paths["real"], index=False)
        synthetic.to_csv(paths["synthetic"], index=False)
        return {
            **worker.ask(task="quality", kinds=kinds(train), **paths),
            "detection": detection(test, synthetic, seed),
            "utility": utility(test, synthetic, seed),
            "closeness": closeness(train, test, synthetic),
            "fit_seconds": seconds,
        }


def mean_score(cells, score, seeds=None):
    """Return the mean of a score over seeds (None: those there are)."""
    return float(np.mean([cells[seed][score] for seed in seeds or cells]))


def score_lines(found, methods, score):
    """Return the table of a score: methods in rows; mean over seeds, over tables."""
    classes = [name for name, row in found.items() if "VAEClassifier" in row]
    rows = []
    for method in methods:
        cells = {
            name: mean_score(row[method], score)
            for name, row in found.items()
            if method in row
        }
        means = [
            float(np.mean([cells[name] for name in names]))
            if names and all(name in cells for name in names)
            else None
            for names in (list(found), classes)
        ]
        n_seeds = {len(row[method]) for row in found.values() if method in row}
        seeds = " to ".join(map(str, sorted({min(n_seeds), max(n_seeds)})))
        rows.append([method, seeds, *(cells.get(name) for name in found), *means])
    digits = 1 if score == "fit_seconds" else 3
    header = ["mean over seeds", "seeds", *found, "mean", "mean of classification"]
    return report.table(header, rows, digits)


def target_row(found, method):
    """Return how a method stands against TVAE on the splits of both, if there are."""
    seeds = {
        name: sorted(set(row.get(method, ())) & set(row.get("TVAE", ())))
        for name, row in found.items()
    }
    names = [name for name in found if seeds[name]]
    if not names:
        return []

    def over(score, of):
        return np.array(
            [mean_score(found[name][of], score, seeds[name]) for name in names]
        )

    quality = over("quality", method) - over("quality", "TVAE")
    distances = [abs(over("detection", m) - 0.5) for m in (method, "TVAE")]
    distance = distances[0] - distances[1]
    ratio = over("fit_seconds", "TVAE") / over("fit_seconds", method)
    mean = np.exp(np.log(ratio).mean())
    return [
        method,
        f"{quality.mean():+.3f} ({(quality > 0).sum()} of {len(names)})",
        f"{distance.mean():+.3f} ({(distance < 0).sum()} of {len(names)})",
        f"{mean:.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
    ]


def target_lines(found, methods):
    """Return for each of our methods how it stands against TVAE."""
    rows = [target_row(found, m) for m in methods if m.startswith(OURS)]
    header = [
        "against TVAE",
        "quality, difference (tables won)",
        "distance of AUC from 0.5, difference (tables won)",
        "TVAE's fit seconds / ours, geometric mean (range)",
    ]
    return report.table(header, [row for row in rows if row])


def page(raw):
    found = raw["found"]
    methods = [m for m in METHODS if any(m in row for row in found.values())]
    sections = [
        report.blocks(f"## {title}", score_lines(found, methods, score))
        for score, title in SCORES.items()
    ]
    return report.blocks(
        "# Synthetic tables",
        report.items(raw, f"seeds: {raw['seeds']}"),
        report.prose(__doc__),
        raw.get("note"),
        "## Targets",
        "Quality above TVAE's on the average, detection nearer to 0.5, training at "
        "least 5 times faster.",
        target_lines(found, methods),
        *sections,
        '"Classification" are the tables whose target is a class, which VAEClassifier '
        "needs.",
    )


def main():
    options = read_options(
        __doc__,
        seeds=[0, 1, 2],
        tables=list(TABLES),
        max_rows=MAX_TRAINING_ROWS,
        peers_python=None,
    )
    run = Run(options, [m for m in METHODS if not m.startswith(OURS)])
    worker = Server(options.peers_python, WORKER)
    if not options.report_only:
        run.cache.put(("versions",), worker.ask(task="versions"))
    versions = run.cache.get(("versions",)) or {}
    limit = (
        "" if options.max_rows == MAX_TRAINING_ROWS else f", {options.max_rows} rows"
    )

    def cases(seed):
        for name in options.tables:
            split = load_split(options.data, name, seed, options.max_rows)
            classes = is_category(split[0][TARGET])
            methods = [m for m in METHODS if classes or m != "VAEClassifier"]
            yield name + limit, methods, split

    def compute(method, split, seed):
        return evaluate(method, split, seed, worker)

    found = run.grid(cases, compute, peers=versions)
    more = {f"{name} (peers)": text for name, text in versions.items()}
    report.publish(options, more, found=found)


if __name__ == "__main__":
    main()
