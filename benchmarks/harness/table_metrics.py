"""Scores of completed tables and of synthetic ones."""

import numpy as np
import pandas as pd

from . import metrics
from .cases import TARGET
from .tables import Encoder, fill_constants, is_category, start_values

ENERGY_ROWS = 1000
COVERAGES = (0.9, 0.5)
#: Draws whose energy distance is measured.
N_POOLED = 5


# Completed tables


def part_errors(case, part, completed):
    """Return the errors of a part: the mean, its halves, and every column's."""
    constants = start_values(case.masked["train"])
    numeric, categorical, columns = {}, {}, []
    for name, cells in _hidden_columns(case, part):
        true, guess = case.truth[part][name][cells], completed[name][cells]
        if is_category(true):
            true, guess = true.cat.codes.to_numpy(), guess.cat.codes.to_numpy()
            base = np.mean(true != constants[name])
            _put_ratio(categorical, name, np.mean(true != guess), base)
        else:
            true, guess = true.to_numpy(), guess.to_numpy()
            base = metrics.rmse(true, constants[name])
            _put_ratio(numeric, name, metrics.rmse(true, guess), base)
        columns.append(name)
    errors = {**numeric, **categorical}
    errors = {name: errors[name] for name in columns if name in errors}
    return {
        "error": _mean(errors),
        "numeric": _mean(numeric),
        "categorical": _mean(categorical),
        "columns": errors,
    }


def _hidden_columns(case, part):
    for index, name in enumerate(case.truth[part]):
        cells = case.hidden[part][:, index]
        if cells.any():
            yield name, cells


def _put_ratio(errors, name, error, base):
    if base > 0:
        errors[name] = float(error / base)


def _mean(values):
    return float(np.mean([*values.values()])) if values else None


def check_completed(masked, completed):
    """Raise unless the missing cells, and only these, were replaced."""
    pd.testing.assert_index_equal(masked.index, completed.index)
    pd.testing.assert_index_equal(masked.columns, completed.columns)
    if completed.isna().to_numpy().any():
        raise ValueError("The completed table has missing cells")
    for name, column in masked.items():
        observed = column.notna()
        kept = completed[name][observed].to_numpy() == column[observed].to_numpy()
        if not kept.all():
            raise ValueError(f"Observed cells of column {name!r} were changed")


def check_not_constant(case, completed):
    """Raise if a method returned means and modes, as HyperImpute may without a word."""
    for part, table in completed.items():
        masked = case.masked[part]
        constant = fill_constants(masked, start_values(masked))
        different = 0
        for name, cells in _hidden_columns(case, part):
            guess, mean = table[name][cells], constant[name][cells]
            if is_category(guess):
                different += int((guess != mean).sum())
            else:
                different += int((~np.isclose(guess, mean)).sum())
        if different < 0.05 * case.hidden[part].sum():
            raise ValueError(f"The {part} rows were completed with means and modes")


def draw_scores(case, draws, intervals):
    """Return coverage and CRPS of the hidden numbers of the test rows.

    ``intervals`` are a lower and an upper table for every coverage; without them the
    intervals are quantiles of the draws.
    """
    scores = {}
    for name, cells in _hidden_columns(case, "test"):
        column = case.truth["test"][name]
        if is_category(column):
            continue
        scale = case.masked["train"][name].std()

        def scaled(table, name=name, cells=cells, scale=scale):
            return table[name].to_numpy()[cells] / scale

        true, drawn = scaled(case.truth["test"]), np.stack([*map(scaled, draws)])
        found = {"crps": float(metrics.crps_of_draws(true, drawn).mean())}
        for coverage in COVERAGES:
            bounds = intervals and [scaled(table) for table in intervals[coverage]]
            found.update(interval_scores(true, drawn, bounds, coverage))
        for key, value in found.items():
            scores.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in scores.items()}


def interval_scores(true, drawn, bounds, coverage):
    """Return coverage and width of bounds (None: those of the draws)."""
    # By i / (n + 1), so that truth exchangeable with the draws is covered at the
    # nominal rate however few the draws are.
    ends = (0.5 - coverage / 2, 0.5 + coverage / 2)
    lower, upper = bounds or np.quantile(drawn, ends, axis=0, method="weibull")
    level, width = round(100 * coverage), float(np.mean(upper - lower))
    covered = metrics.covered(true, lower, upper)
    return {f"coverage{level}": covered, f"width{level}": width}


def energy_of_completed(case, tables):
    """Return the energy distance of completed test rows, pooled, from the true ones.

    Cells that are missing natively have no truth; they are set to a constant in both.
    """
    encoder = Encoder().fit(case.truth["train"])
    truth = case.truth["test"]
    rows = np.random.default_rng(0).permutation(len(truth))[:ENERGY_ROWS]
    unknown = np.isnan(encoder.encode(truth)[rows])
    true, *clouds = (
        np.where(unknown, 0, encoder.encode(table)[rows]) for table in (truth, *tables)
    )
    return metrics.energy_distance(clouds, true)


def scores_of_draws(case, completion):
    """Return the scores of the draws of the test rows."""
    for draw in completion.draws:
        check_completed(case.masked["test"], draw)
    single = part_errors(case, "test", completion.draws[0])
    return {
        **draw_scores(case, completion.draws, completion.intervals),
        "energy": energy_of_completed(case, completion.draws[:N_POOLED]),
        "single": {key: single[key] for key in single if key != "columns"},
    }


def score(case, completion):
    """Return all the scores of a completion."""
    result = {}
    for part, table in completion.completed.items():
        check_completed(case.masked[part], table)
        result[part] = part_errors(case, part, table)
    if completion.draws:
        result["draws"] = scores_of_draws(case, completion)
    return result


# Synthetic tables


def detection(test, synthetic, seed):
    """Return the area under the ROC curve of a classifier, real rows against drawn."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    size = min(len(test), len(synthetic))
    rows = [t.sample(size, random_state=seed) for t in (test, synthetic)]
    X, y = pd.concat(rows, ignore_index=True), np.repeat([0, 1], size)
    model = HistGradientBoostingClassifier(random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, scores))


def utility(test, synthetic, seed):
    """Return accuracy or R² on test rows of a model of the synthetic ones."""
    from sklearn import ensemble

    X, X_test = (table.drop(columns=TARGET) for table in (synthetic, test))
    y, y_test = synthetic[TARGET], test[TARGET]
    if not is_category(y):
        model = ensemble.HistGradientBoostingRegressor(random_state=seed)
    elif y.nunique() == 1:
        return float((y_test.astype(str) == str(y.iloc[0])).mean())
    else:
        model = ensemble.HistGradientBoostingClassifier(random_state=seed)
        y, y_test = y.astype(str), y_test.astype(str)
    return float(model.fit(X, y).score(X_test, y_test))


def closeness(train, test, synthetic):
    """Return the share of synthetic rows nearer to training than the median test row.

    Numbers count in standard deviations, a category that differs as one of these.
    """
    from sklearn.neighbors import NearestNeighbors

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
