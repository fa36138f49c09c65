"""Distributions of one number given a table: VAERegressor against regressions.

Every method learns from the same training rows (at most 2,000 by default) and is scored
on at most 2,000 test rows. The target has mean 0 and variance 1 on training rows:

- RMSE of the mean: 1 is what the mean of the training rows has;
- CRPS, the mean distance between the distribution and the outcome, of 200 draws, in
  closed form of a normal distribution, or twice the mean pinball loss of 19 quantiles;
- NLL, the negative log-density of the outcome in nats;
- coverage of the interval of 90%.

BayesianRidge has a normal distribution of its own. Of RandomForest and MLPRegressor it
is made: normal, with the standard deviation of out-of-bag errors, or of the errors on a
tenth of the training rows that the network does not see. HistGradientBoosting fits the
quantiles 5%, 10% to 95% one by one (sorted afterwards) and the mean with squared
errors; it has no density. All have their default parameters, but MLPRegressor stops
early within 1,000 epochs.

    python benchmarks/regression.py

An interrupted run resumes when the same command is given again.
"""

import time
import warnings

import numpy as np
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
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TABLES = ("abalone", "california", "concrete", "energy", "kin8nm", "power_plant")
MAX_ROWS, TEST_SHARE, MAX_TEST_ROWS = 2_000, 0.3, 2_000
TARGET = "target"
LEVELS = np.arange(1, 20) / 20
N_DRAWS, COVERAGE = 200, 0.9
SCORES = {
    "rmse": ("RMSE of the mean, in standard deviations", 3),
    "crps": ("CRPS, in standard deviations", 3),
    "nll": ("Negative log-likelihood, nats", 3),
    "coverage": ("Coverage of the 90% interval", 3),
    "seconds": ("CPU seconds of fit", 1),
}


# Data


def load_split(data, name, seed, max_rows):
    """Return features and scaled targets of training and test rows."""
    import pandas as pd

    table = pd.read_parquet(data / f"{name}.parquet").dropna()
    X, y = table.drop(columns=TARGET), table[TARGET].to_numpy(np.float64)
    for column in X.columns:
        if not pd.api.types.is_numeric_dtype(X[column]):
            X[column] = X[column].astype(str).astype("category")
    train, test, y_train, y_test = train_test_split(
        X, y, test_size=TEST_SHARE, random_state=seed
    )
    train, y_train = train[:max_rows], y_train[:max_rows]
    test, y_test = test[:MAX_TEST_ROWS], y_test[:MAX_TEST_ROWS]
    mean, scale = y_train.mean(), y_train.std()
    return train, (y_train - mean) / scale, test, (y_test - mean) / scale


def as_numbers(train, test):
    """Return features as scaled numbers and one-hot categories."""
    encoder = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    return encoder.fit_transform(train), encoder.transform(test)


# Scores


def normal_scores(mean, deviation, y):
    """Return the scores of normal distributions."""
    z = (y - mean) / deviation
    crps = deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)
    return {
        "rmse": float(np.sqrt(np.square(y - mean).mean())),
        "crps": float(crps.mean()),
        "nll": float(-norm.logpdf(y, mean, deviation).mean()),
        "coverage": float((np.abs(z) <= norm.ppf((1 + COVERAGE) / 2)).mean()),
    }


def draws_crps(draws, y):
    """Return the CRPS of draws (draws, rows): E|x - y| - E|x - x'| / 2."""
    n_draws = len(draws)
    ranks = 2 * np.arange(1, n_draws + 1) - n_draws - 1
    spread = 2 * (np.sort(draws, 0) * ranks[:, None]).sum(0) / (n_draws * (n_draws - 1))
    return float((np.abs(draws - y).mean(0) - spread / 2).mean())


# Methods: each fits, and returns its seconds and its scores


def run_ours(train, y_train, test, y_test, seed):
    from skvae import VAERegressor

    start = time.process_time()
    model = VAERegressor(random_state=seed).fit(train, y_train)
    seconds = time.process_time() - start
    lower, upper = model.predict_interval(test, COVERAGE)
    draws = np.asarray(model.sample(test, n_draws=N_DRAWS, random_state=seed))
    error = y_test - model.predict(test)
    return seconds, {
        "rmse": float(np.sqrt(np.square(error).mean())),
        "crps": draws_crps(draws, y_test),
        "nll": float(-model.score_samples(test, y_test).mean()),
        "coverage": float(((lower <= y_test) & (y_test <= upper)).mean()),
    }


def run_bayesian_ridge(train, y_train, test, y_test, seed):
    start = time.process_time()
    X, X_test = as_numbers(train, test)
    model = BayesianRidge().fit(X, y_train)
    seconds = time.process_time() - start
    return seconds, normal_scores(*model.predict(X_test, return_std=True), y_test)


def run_forest(train, y_train, test, y_test, seed):
    start = time.process_time()
    X, X_test = as_numbers(train, test)
    model = RandomForestRegressor(oob_score=True, random_state=seed).fit(X, y_train)
    seconds = time.process_time() - start
    deviation = np.sqrt(np.square(y_train - model.oob_prediction_).mean())
    return seconds, normal_scores(model.predict(X_test), deviation, y_test)


def run_mlp(train, y_train, test, y_test, seed):
    start = time.process_time()
    rows, held_out = train_test_split(
        np.arange(len(train)), test_size=0.1, random_state=seed
    )
    X, X_test = as_numbers(train, test)
    model = MLPRegressor(early_stopping=True, max_iter=1_000, random_state=seed)
    model.fit(X[rows], y_train[rows])
    seconds = time.process_time() - start
    errors = y_train[held_out] - model.predict(X[held_out])
    deviation = np.sqrt(np.square(errors).mean())
    return seconds, normal_scores(model.predict(X_test), deviation, y_test)


def run_boosting(train, y_train, test, y_test, seed):
    def boost(**options):
        model = HistGradientBoostingRegressor(
            categorical_features="from_dtype", random_state=seed, **options
        )
        return model.fit(train, y_train).predict(test)

    start = time.process_time()
    mean = boost()
    quantiles = np.sort(
        [boost(loss="quantile", quantile=level) for level in LEVELS], axis=0
    )
    seconds = time.process_time() - start
    above = y_test - quantiles
    pinball = np.maximum(LEVELS[:, None] * above, (LEVELS[:, None] - 1) * above)
    inside = (quantiles[0] <= y_test) & (y_test <= quantiles[-1])
    return seconds, {
        "rmse": float(np.sqrt(np.square(y_test - mean).mean())),
        "crps": float(2 * pinball.mean()),
        "nll": None,
        "coverage": float(inside.mean()),
    }


METHODS = {
    "VAERegressor": run_ours,
    "BayesianRidge": run_bayesian_ridge,
    "RandomForest": run_forest,
    "HistGradientBoosting": run_boosting,
    "MLPRegressor": run_mlp,
}


def run(options, checkpoint):
    """Run the cells that the checkpoint lacks, seed by seed."""
    for seed in options.seeds:
        for name in options.tables:
            split = load_split(options.data, name, seed, options.max_rows)
            for method in options.methods:
                key = (name, method, seed, options.max_rows)
                if key in checkpoint:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    seconds, scores = METHODS[method](*split, seed)
                checkpoint.put(key, {**scores, "seconds": seconds})
                print(*key, checkpoint.get(key), flush=True)


# Report


def collect(options, checkpoint):
    """Return arrays of scores over seeds, by table and method; tables finished."""
    found = {}
    for name in options.tables:
        cells = {
            method: [
                checkpoint.get((name, method, seed, options.max_rows))
                for seed in options.seeds
            ]
            for method in options.methods
        }
        if all(all(row) for row in cells.values()):
            found[name] = {
                method: {score: [cell[score] for cell in row] for score in SCORES}
                for method, row in cells.items()
            }
    return found


def score_lines(found, methods, score, digits):
    """Return the table of a score: mean ± standard deviation over seeds."""
    rows = []
    for method in methods:
        cells = [row[method][score] for row in found.values()]
        if None in cells[0]:
            rows.append([method, *[None] * (len(cells) + 1)])
            continue
        texts = [f"{np.mean(c):.{digits}f} ± {np.std(c):.{digits}f}" for c in cells]
        rows.append([method, *texts, float(np.mean(cells))])
    return markdown_table(["mean ± sd over seeds", *found, "mean"], rows, digits)


def comparison_lines(found, methods):
    """Return on how many tables ours has the lower mean."""
    ours, *peers = methods
    rows = []
    for peer in peers:
        counts = []
        for score in ("rmse", "crps", "nll"):
            pairs = [(row[ours][score], row[peer][score]) for row in found.values()]
            if any(None in theirs for _, theirs in pairs):
                counts.append(None)
                continue
            wins = sum(np.mean(a) < np.mean(b) for a, b in pairs)
            counts.append(f"{wins} of {len(pairs)}")
        rows.append([peer, *counts])
    return markdown_table([f"{ours} lower than", "RMSE", "CRPS", "NLL"], rows)


def report(options, checkpoint):
    """Write the report of the finished tables."""
    found = collect(options, checkpoint)
    lines = ["# Distributions of one number given a table", ""]
    lines += [*environment_lines(environment()), f"- seeds: {options.seeds}"]
    lines += [f"- training rows: at most {options.max_rows:,}", ""]
    lines += [__doc__.split("\n", 2)[2].split("\n    python")[0].strip(), ""]
    if found:
        lines += [*comparison_lines(found, options.methods), ""]
        for score, (title, digits) in SCORES.items():
            table = score_lines(found, options.methods, score, digits)
            lines += [f"## {title}", "", *table, ""]
    write_report(options.output, lines, found)


def main():
    parser = argument_parser("regression", __doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--max-rows",
        type=int,
        default=MAX_ROWS,
        help="training rows at most (default: %(default)s)",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write what is finished"
    )
    options = parser.parse_args()
    checkpoint = Checkpoint(cache_path("regression.jsonl"))
    if not options.report_only:
        run(options, checkpoint)
    report(options, checkpoint)


if __name__ == "__main__":
    main()
