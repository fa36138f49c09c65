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
peers_generation.txt.
"""

import json
import subprocess
import tempfile
import time
import warnings
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    markdown_table,
    write_report,
)
from scipy.stats import norm
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    StratifiedKFold,
    cross_val_predict,
    train_test_split,
)
from sklearn.neighbors import NearestNeighbors

from skvae import VAEClassifier, VAEImputer, VAETransformer

TABLES = ("adult", "credit_g", "titanic", "abalone", "wine_white", "penguins")
MAX_TRAINING_ROWS = 2_000
TEST_SHARE = 0.3
MAX_MISSING = 0.2
MIN_CLASS = 10
TARGET = "target"
MIXTURE_COMPONENTS = (1, 2, 5, 10, 20)

OURS = ("VAETransformer", "VAEImputer", "VAEClassifier")
PEERS = ("TVAE", "CTGAN")
#: Settings other than the defaults, as rows of their own.
VARIANTS = {
    "VAETransformer, max_iter=50, learning_rate_init=0.02": {
        "max_iter": 50,
        "learning_rate_init": 0.02,
    },
    'VAETransformer, prior="vamp"': {"prior": "vamp"},
    'VAETransformer, numeric_transform="quantile"': {"numeric_transform": "quantile"},
}
REFERENCE = "training rows"
SCORES = {
    "quality": "SDMetrics quality (1 is best)",
    "shapes": "Column shapes (1 is best)",
    "pairs": "Column pair trends (1 is best)",
    "detection": "Detection, area under the ROC curve (0.5 is best)",
    "utility": "Trained on synthetic rows, tested on real ones (accuracy, or R²)",
    "closeness": "Share of rows nearer to a training row than the median test row is",
    "fit_seconds": "CPU seconds of fit",
}


def parse_arguments():
    parser = argument_parser("generation", __doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument(
        "--max-rows",
        type=int,
        default=MAX_TRAINING_ROWS,
        help="training rows at most (default: %(default)s)",
    )
    parser.add_argument(
        "--methods", nargs="+", help="names or patterns with * (default: all)"
    )
    parser.add_argument(
        "--peers-python",
        help="interpreter of the environment of peers_generation.txt; needed to run",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write what is finished"
    )
    parser.add_argument("--note", help="a sentence for the report")
    arguments = parser.parse_args()
    if arguments.peers_python is None and not arguments.report_only:
        parser.error("--peers-python is needed: SDMetrics runs there")
    return arguments


# Data


def load_split(data, name, seed, max_rows):
    """Return training and test rows, complete, with the target as the last column.

    Columns of which more than a fifth is missing are dropped, then rows with a missing
    cell and of classes with fewer than 10 rows.
    """
    table = pd.read_parquet(data / f"{name}.parquet")
    table = table.loc[:, table.isna().mean() <= MAX_MISSING].dropna()
    n_rows = min(len(table), int(max_rows / (1 - TEST_SHARE)))
    table = table.sample(n_rows, random_state=seed)
    classes = is_category(table[TARGET])
    if classes:
        counts = table[TARGET].value_counts()
        table = table[table[TARGET].isin(counts.index[counts >= MIN_CLASS])]
    table = table.reset_index(drop=True)
    for column in table.columns:
        if is_category(table[column]):
            table[column] = table[column].astype(str).astype("category")
    return train_test_split(
        table,
        test_size=TEST_SHARE,
        random_state=seed,
        stratify=table[TARGET] if classes else None,
    )


def is_category(column):
    """Return whether a column holds categories."""
    return not pd.api.types.is_numeric_dtype(column)


def kinds(table):
    """Return "numbers" or "categories" for every column."""
    return {
        name: "categories" if is_category(table[name]) else "numbers" for name in table
    }


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
            columns[name] = pd.Categorical(
                values.astype(str), categories=column.cat.categories
            )
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
    model = VAETransformer(random_state=seed, **parameters).fit(train)
    return lambda n_rows: model.sample(n_rows, random_state=seed)


def fit_imputer(train, seed):
    model = VAEImputer(random_state=seed).fit(train)

    def draw(n_rows):
        empty = {
            name: pd.Series(
                np.nan,
                index=range(n_rows),
                dtype=column.dtype if is_category(column) else np.float64,
            )
            for name, column in train.items()
        }
        return model.sample(pd.DataFrame(empty), n_draws=1, random_state=seed)[0]

    return draw


def fit_classifier(train, seed):
    features, labels = train.drop(columns=TARGET), train[TARGET].astype(str)
    model = VAEClassifier(random_state=seed).fit(features, labels.to_numpy(object))

    def draw(n_rows):
        rows, classes = model.sample(n_rows, random_state=seed)
        return rows.assign(**{TARGET: classes})

    return draw


def fit_copula(train, seed):
    """Gaussian copula: empirical marginals, and the correlation of normal scores.

    Numbers are ranked, categories ordered by frequency; ties and categories are spread
    at random over their share of the unit interval.
    """
    rng = np.random.default_rng(seed)
    levels, edges, scores = {}, {}, []
    for name, column in train.items():
        if is_category(column):
            values = column.value_counts().index.to_numpy()
            shares = column.value_counts(normalize=True).to_numpy()
        else:
            values, counts = np.unique(column, return_counts=True)
            shares = counts / len(column)
        levels[name] = values
        edges[name] = np.concatenate([[0.0], np.cumsum(shares)])
        codes = pd.Index(values).get_indexer(column.to_numpy())
        uniform = edges[name][codes] + rng.random(len(codes)) * shares[codes]
        scores.append(norm.ppf(uniform.clip(1e-6, 1 - 1e-6)))
    correlation = np.corrcoef(scores)

    def draw(n_rows):
        mean = np.zeros(len(correlation))
        normal = rng.multivariate_normal(mean, correlation, n_rows, method="eigh")
        table = {}
        for name, uniform in zip(train, norm.cdf(normal).T, strict=True):
            codes = np.searchsorted(edges[name][1:-1], uniform, side="right")
            table[name] = levels[name][codes]
        return pd.DataFrame(table)

    return draw


def fit_mixture(train, seed):
    """Gaussian mixture of scaled numbers and one-hot categories, chosen by the BIC."""
    numbers = [name for name in train if not is_category(train[name])]
    one_hot = pd.get_dummies(train.drop(columns=numbers), dtype=np.float64)
    mean, scale = train[numbers].mean(), train[numbers].std().replace(0, 1)
    X = np.hstack([(train[numbers] - mean) / scale, one_hot])
    models = [
        GaussianMixture(n, reg_covar=1e-3, random_state=seed).fit(X)
        for n in MIXTURE_COMPONENTS
    ]
    model = min(models, key=lambda model: model.bic(X))

    def draw(n_rows):
        rows = model.sample(n_rows)[0]
        table = pd.DataFrame(rows[:, : len(numbers)], columns=numbers) * scale + mean
        start = len(numbers)
        for name in train.columns.drop(numbers):
            categories = train[name].cat.categories
            block = rows[:, start : start + len(categories)]
            table[name] = categories.to_numpy()[block.argmax(axis=1)]
            start += len(categories)
        return table

    return draw


METHODS = {
    "VAETransformer": fit_transformer,
    "VAEImputer": fit_imputer,
    "VAEClassifier": fit_classifier,
    "Gaussian copula": fit_copula,
    "GaussianMixture": fit_mixture,
    REFERENCE: lambda train, seed: lambda n_rows: train,
}
ORDER = (*OURS, *PEERS, "Gaussian copula", "GaussianMixture", REFERENCE, *VARIANTS)


class Worker:
    """The process of the other environment, started at the first request."""

    def __init__(self, python):
        self.python = python
        self.process = None

    def ask(self, **request):
        """Send a request and return the answer."""
        if self.process is None:
            script = Path(__file__).with_name("_generation_worker.py")
            self.process = subprocess.Popen(
                [self.python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("The peers' process ended; its error is above.")
        return json.loads(answer)


def generate(method, train, seed, worker, folder):
    """Return as many synthetic rows as there are training rows, and the CPU seconds."""
    if method in PEERS:
        output = folder / "synthetic.csv"
        train.to_csv(folder / "train.csv", index=False)
        answer = worker.ask(
            task="generate",
            method=method,
            train=str(folder / "train.csv"),
            output=str(output),
            kinds=kinds(train),
            n_samples=len(train),
            seed=seed,
        )
        text = {name: str for name in train if is_category(train[name])}
        synthetic = pd.read_csv(output, dtype=text, keep_default_na=False)
        return like(train, synthetic), answer["fit_seconds"]
    fit = METHODS.get(method, fit_transformer)
    start = time.process_time()
    draw = fit(train, seed, **VARIANTS.get(method, {}))
    seconds = time.process_time() - start
    return like(train, draw(len(train))), seconds


# Scores


def detection(test, synthetic, seed):
    """Return the area under the ROC curve of a classifier, real rows against drawn."""
    size = min(len(test), len(synthetic))
    rows = [t.sample(size, random_state=seed) for t in (test, synthetic)]
    X, y = pd.concat(rows, ignore_index=True), np.repeat([0, 1], size)
    model = HistGradientBoostingClassifier(random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, scores))


def utility(test, synthetic, seed):
    """Return accuracy or R² on test rows of a model of the synthetic ones."""
    X, X_test = (table.drop(columns=TARGET) for table in (synthetic, test))
    y, y_test = synthetic[TARGET], test[TARGET]
    if not is_category(y):
        model = HistGradientBoostingRegressor(random_state=seed)
    elif y.nunique() == 1:
        return float((y_test.astype(str) == str(y.iloc[0])).mean())
    else:
        model = HistGradientBoostingClassifier(random_state=seed)
        y, y_test = y.astype(str), y_test.astype(str)
    return float(model.fit(X, y).score(X_test, y_test))


def closeness(train, test, synthetic):
    """Return the share of synthetic rows nearer to training than the median test row.

    Numbers count in standard deviations, a category that differs as one of these.
    """
    numbers = [name for name in train if not is_category(train[name])]
    scale = train[numbers].std().replace(0, 1)
    points = [
        np.hstack(
            [
                table[numbers] / scale,
                pd.get_dummies(table.drop(columns=numbers), dtype=float) / np.sqrt(2),
            ]
        )
        for table in (train, test, synthetic)
    ]
    nearest = NearestNeighbors(n_neighbors=1).fit(points[0])
    real, drawn = (nearest.kneighbors(rows)[0][:, 0] for rows in points[1:])
    # half of the ties, as rows that repeat have distances that do
    median = np.median(real)
    return float((drawn < median).mean() + (drawn == median).mean() / 2)


def evaluate(method, train, test, seed, worker):
    """Return all the scores of a method."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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


def run(arguments, checkpoint):
    """Run the cells that the checkpoint lacks, seed by seed."""
    worker = Worker(arguments.peers_python)
    checkpoint.put(("versions",), worker.ask(task="versions"))
    for seed in arguments.seeds:
        for name in arguments.tables:
            train, test = load_split(arguments.data, name, seed, arguments.max_rows)
            for method in ORDER:
                key = (label(name, arguments), method, seed)
                if key in checkpoint or not is_wanted(method, arguments.methods):
                    continue
                if method == "VAEClassifier" and not is_category(train[TARGET]):
                    continue
                checkpoint.put(key, evaluate(method, train, test, seed, worker))
                rounded = {k: round(v, 3) for k, v in checkpoint.get(key).items()}
                print(*key, rounded, flush=True)


def label(name, arguments):
    """Return the name of a table, with its limit of rows if that is another."""
    limit = arguments.max_rows
    return name if limit == MAX_TRAINING_ROWS else f"{name}, {limit} rows"


def is_wanted(method, patterns):
    """Return whether a method is among those asked for."""
    return patterns is None or any(fnmatch(method, pattern) for pattern in patterns)


# Report


def collect(checkpoint, arguments):
    """Return the finished cells: by table and method a dict of seed to scores."""
    found = {}
    methods = [m for m in ORDER if is_wanted(m, arguments.methods)]
    for name in (label(name, arguments) for name in arguments.tables):
        cells = {
            method: {
                seed: checkpoint.get((name, method, seed))
                for seed in arguments.seeds
                if (name, method, seed) in checkpoint
            }
            for method in methods
        }
        cells = {method: row for method, row in cells.items() if row}
        if cells:
            found[name] = cells
    return found, [m for m in methods if any(m in row for row in found.values())]


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
    return markdown_table(header, rows, digits)


def target_lines(found, methods):
    """Return for each of our methods how it stands against TVAE on its tables."""
    rows = []
    for method in methods:
        if not method.startswith(OURS):
            continue
        # rows that rest on the same splits
        seeds = {
            name: sorted(set(row.get(method, ())) & set(row.get("TVAE", ())))
            for name, row in found.items()
        }
        names = [name for name in found if seeds[name]]
        if not names:
            continue

        def over(score, of, names=names, seeds=seeds):
            return np.array(
                [mean_score(found[name][of], score, seeds[name]) for name in names]
            )

        quality = over("quality", method) - over("quality", "TVAE")
        distances = [abs(over("detection", m) - 0.5) for m in (method, "TVAE")]
        distance = distances[0] - distances[1]
        ratio = over("fit_seconds", "TVAE") / over("fit_seconds", method)
        rows.append(
            [
                method,
                f"{quality.mean():+.3f} ({(quality > 0).sum()} of {len(names)})",
                f"{distance.mean():+.3f} ({(distance < 0).sum()} of {len(names)})",
                f"{np.exp(np.log(ratio).mean()):.2f} "
                f"({ratio.min():.2f} to {ratio.max():.2f})",
            ]
        )
    header = [
        "against TVAE",
        "quality, difference (tables won)",
        "distance of AUC from 0.5, difference (tables won)",
        "TVAE's fit seconds / ours, geometric mean (range)",
    ]
    return markdown_table(header, rows)


def report(checkpoint, arguments):
    """Write the report of finished cells."""
    found, methods = collect(checkpoint, arguments)
    peers = checkpoint.get(("versions",)) or {}
    surroundings = environment()
    surroundings.update({f"{name} (peers)": text for name, text in peers.items()})
    lines = ["# Synthetic tables", "", *environment_lines(surroundings)]
    lines += [f"- seeds: {arguments.seeds}"]
    lines += ["", __doc__.split("\n", 2)[2].strip(), ""]
    if arguments.note:
        lines += [arguments.note, ""]
    lines += ["## Targets", ""]
    lines += [
        "Quality above TVAE's on the average, detection nearer to 0.5, training at "
        "least 5 times faster.",
        "",
        *target_lines(found, methods),
        "",
    ]
    for score, title in SCORES.items():
        lines += [f"## {title}", "", *score_lines(found, methods, score), ""]
    lines.append(
        '"Classification" are the tables whose target is a class, which VAEClassifier '
        "needs."
    )
    write_report(arguments.output, lines, found)


def main():
    arguments = parse_arguments()
    checkpoint = Checkpoint(cache_path("generation.jsonl"))
    if not arguments.report_only:
        run(arguments, checkpoint)
    report(checkpoint, arguments)


if __name__ == "__main__":
    main()
