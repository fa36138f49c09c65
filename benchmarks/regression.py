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
"""

import time

import numpy as np
from harness import report
from harness.cases import TARGET, read_table
from harness.metrics import covered, crps_of_draws, rmse
from harness.peers.regression import PEERS
from harness.run import Run, read_options
from harness.tables import is_category
from sklearn.model_selection import train_test_split

TABLES = ("abalone", "california", "concrete", "energy", "kin8nm", "power_plant")
MAX_ROWS, TEST_SHARE, MAX_TEST_ROWS = 2_000, 0.3, 2_000
N_DRAWS, COVERAGE = 200, 0.9
SCORES = {
    "rmse": ("RMSE of the mean, in standard deviations", 3),
    "crps": ("CRPS, in standard deviations", 3),
    "nll": ("Negative log-likelihood, nats", 3),
    "coverage": ("Coverage of the 90% interval", 3),
    "seconds": ("CPU seconds of fit", 1),
}


def load_split(data, name, seed, max_rows):
    """Return features and scaled targets of training and test rows."""
    table = read_table(data, name).dropna()
    X, y = table.drop(columns=TARGET), table[TARGET].to_numpy(np.float64)
    for column in X.columns:
        if is_category(X[column]):
            X[column] = X[column].astype(str).astype("category")
    train, test, y_train, y_test = train_test_split(
        X, y, test_size=TEST_SHARE, random_state=seed
    )
    train, y_train = train[:max_rows], y_train[:max_rows]
    test, y_test = test[:MAX_TEST_ROWS], y_test[:MAX_TEST_ROWS]
    mean, scale = y_train.mean(), y_train.std()
    return train, (y_train - mean) / scale, test, (y_test - mean) / scale


def run_ours(train, y_train, test, y_test, seed):
    from skvae import VAERegressor

    start = time.process_time()
    model = VAERegressor(random_state=seed).fit(train, y_train)
    seconds = time.process_time() - start
    lower, upper = model.predict_interval(test, COVERAGE)
    draws = np.asarray(model.sample(test, n_draws=N_DRAWS, random_state=seed))
    return seconds, {
        "rmse": rmse(y_test, model.predict(test)),
        "crps": float(crps_of_draws(y_test, draws).mean()),
        "nll": float(-model.score_samples(test, y_test).mean()),
        "coverage": covered(y_test, lower, upper),
    }


METHODS = {"VAERegressor": run_ours, **PEERS}


def evaluate(method, split, seed):
    """Return the scores of a method and its seconds."""
    seconds, scores = METHODS[method](*split, seed)
    return {**scores, "seconds": seconds}


def values_of(row, method, score):
    """Return the scores of a method on one table, a list over seeds."""
    return [cell[score] for cell in row[method].values()]


def score_lines(found, methods, score, digits):
    """Return the table of a score: mean ± standard deviation over seeds."""
    rows = []
    for method in methods:
        cells = [values_of(row, method, score) for row in found.values()]
        if None in cells[0]:
            rows.append([method, *[None] * (len(cells) + 1)])
            continue
        texts = [f"{np.mean(c):.{digits}f} ± {np.std(c):.{digits}f}" for c in cells]
        rows.append([method, *texts, float(np.mean(cells))])
    return report.table(["mean ± sd over seeds", *found, "mean"], rows, digits)


def wins(found, ours, peer, score):
    """Return on how many tables ours has the lower mean; None without that score."""
    pairs = [[values_of(row, m, score) for m in (ours, peer)] for row in found.values()]
    if any(None in theirs for _, theirs in pairs):
        return None
    return f"{sum(np.mean(a) < np.mean(b) for a, b in pairs)} of {len(pairs)}"


def page(raw):
    found = raw["found"]
    ours, *peers = methods = list(next(iter(found.values())))
    scores = ("rmse", "crps", "nll")
    rows = [
        [peer, *(wins(found, ours, peer, score) for score in scores)] for peer in peers
    ]
    sections = [
        report.blocks(f"## {title}", score_lines(found, methods, score, digits))
        for score, (title, digits) in SCORES.items()
    ]
    limit = f"training rows: at most {raw['max_rows']:,}"
    return report.blocks(
        "# Distributions of one number given a table",
        report.items(raw, f"seeds: {raw['seeds']}", limit),
        report.prose(__doc__),
        report.table([f"{ours} lower than", "RMSE", "CRPS", "NLL"], rows),
        *sections,
    )


def main():
    tables, limit = list(TABLES), MAX_ROWS
    options = read_options(__doc__, seeds=[0, 1, 2], tables=tables, max_rows=limit)
    run = Run(options, PEERS)

    def cases(seed):
        for name in options.tables:
            split = load_split(options.data, name, seed, options.max_rows)
            yield name, METHODS, split

    report.publish(options, found=run.grid(cases, evaluate))


if __name__ == "__main__":
    main()
