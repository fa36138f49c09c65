"""The peers of imputation: imputers of pandas tables with numbers and categories.

Every imputer has ``fit_transform(train)`` and ``transform(test)``; both return a copy
of the table in which the missing cells are filled and nothing else differs. Columns
are float64 or category.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from ..cases import PARTS
from ..processes import last_line
from ..tables import (
    Encoder,
    fill,
    fill_constants,
    from_codes,
    is_category,
    start_values,
    to_codes,
)

HERE = Path(__file__).parent
#: Those that run in an environment of their own.
EXTERNAL = ("miceforest", "hyperimpute")
#: Rows of the largest table for methods that would take days on the others.
MAX_ROWS = {"hyperimpute": 2000}


class MeanMode:
    """Mean of numbers, most frequent category."""

    def fit_transform(self, train):
        self.values = start_values(train)
        return self.transform(train)

    def transform(self, test):
        return fill_constants(test, self.values)


class EncodedImputer:
    """A scikit-learn imputer of arrays, applied to the encoded table."""

    def __init__(self, imputer):
        self.imputer = imputer

    def fit_transform(self, train):
        self.encoder = Encoder().fit(train)
        if isinstance(self.imputer, ChainedEquations):
            self.imputer.places = tuple(self.encoder.slices(train).values())
        values = self.imputer.fit_transform(self.encoder.encode(train))
        return self.encoder.decode(values, train)

    def transform(self, test):
        values = self.imputer.transform(self.encoder.encode(test))
        return self.encoder.decode(values, test)


class ChainedEquations(IterativeImputer):
    """IterativeImputer that predicts no dummy from the others of its category.

    These are missing in the same cells, and where observed they add up to one. The
    regressions would learn that and nothing else, and return the start values.
    """

    places = ()  # the slices of the categories, set by EncodedImputer

    def _get_neighbor_feat_idx(self, n_features, feat_idx, abs_corr_mat):
        for place in self.places:
            if place.start <= feat_idx < place.stop:
                return np.delete(np.arange(n_features), place)
        return np.delete(np.arange(n_features), feat_idx)


class GaussianEM:
    """EM for a multivariate normal with missing cells; imputes conditional means.

    Parameters
    ----------
    ridge : float
        Times columns by rows, it is added to the variances at every step: dummies of
        a category sum to one, and a table may have few rows for its columns.
    max_iter : int
    tol : float
        EM stops when no mean or covariance of the standardised table moves by more.
    """

    def __init__(self, ridge=0.05, max_iter=50, tol=1e-3):
        self.ridge = ridge
        self.max_iter = max_iter
        self.tol = tol

    def fit_transform(self, X):
        n_rows, n_columns = X.shape
        ridge = self.ridge * n_columns / n_rows
        self.mean = np.nan_to_num(np.nanmean(X, axis=0))
        self.covariance = np.diag(np.nan_to_num(np.nanvar(X, axis=0)) + ridge)
        for _ in range(self.max_iter):
            completed, spread = self.expectation(X)
            mean = completed.mean(axis=0)
            centred = completed - mean
            covariance = (centred.T @ centred + spread) / n_rows
            covariance[np.diag_indices(n_columns)] += ridge
            change = max(
                np.abs(mean - self.mean).max(),
                np.abs(covariance - self.covariance).max(),
            )
            self.mean, self.covariance = mean, covariance
            if change < self.tol:
                break
        return self.transform(X)

    def transform(self, X):
        return self.expectation(X, with_spread=False)[0]

    def expectation(self, X, with_spread=True):
        """Return the rows with conditional means, and the sum of their covariances.

        Rows that miss the same columns share one regression. The regressions of many
        patterns are solved together: where a column is missing, the covariance of
        the observed ones has a row and column of the identity in its place.
        """
        n_columns = X.shape[1]
        patterns, group = np.unique(np.isfinite(X), axis=0, return_inverse=True)
        group = group.ravel()
        centred = np.nan_to_num(X - self.mean)
        completed = np.empty_like(X)
        spread = np.zeros((n_columns, n_columns))
        order = np.argsort(group, kind="stable")
        # About 50 MB for each of the few arrays of shape (patterns, columns, columns).
        size = max(1, int(6e6 / n_columns**2))
        for first in range(0, len(patterns), size):
            observed = patterns[first : first + size].astype(np.float64)
            missing = 1 - observed
            system = self.covariance * observed[:, :, None] * observed[:, None, :]
            system[:, np.arange(n_columns), np.arange(n_columns)] += missing
            crossed = self.covariance * observed[:, :, None] * missing[:, None, :]
            weights = np.linalg.solve(system, crossed)
            low, high = np.searchsorted(group[order], [first, first + size])
            # The slices keep the gathered weights as small as the arrays above.
            for start in range(low, high, size):
                rows = order[start : min(start + size, high)]
                means = np.einsum(
                    "ri,rij->rj", centred[rows], weights[group[rows] - first]
                )
                completed[rows] = np.where(
                    patterns[group[rows]], X[rows], self.mean + means
                )
            if with_spread:
                counts = np.bincount(group[order[low:high]] - first)
                conditional = self.covariance * missing[:, :, None] * missing[:, None]
                conditional -= crossed.transpose(0, 2, 1) @ weights
                spread += np.einsum("g,gij->ij", counts, conditional)
        return completed, spread


class MissForest:
    """missForest (Stekhoven and Buehlmann, 2012), with forests of scikit-learn.

    As in the R package: start at mean and mode; go through the columns by increasing
    missingness; 100 trees, the square root of the number of columns tried at a split;
    stop when the difference to the iteration before falls neither in the numbers nor
    in the categories, and return the iteration before; 10 iterations at most. R's
    nodesize of 5 in regressions, for all that its manual calls it a minimum size of
    terminal nodes, is the largest node that is not split. (It does better than leaves
    of at least 5 rows: errors of .66 against .71 on concrete, .45 against .51 on
    autos.)

    It differs in that categories are one-hot predictors (scikit-learn's trees cannot
    split on a set of categories), which count as columns, and in ``transform``, which
    R's does not have: new rows start at the means and modes of the training rows and
    go through the forests of the iterations that were kept.
    """

    def __init__(self, random_state, n_trees=100, max_iter=10):
        self.random_state = random_state
        self.n_trees = n_trees
        self.max_iter = max_iter

    def fit_transform(self, train):
        self.values = start_values(train)
        self.encoder = Encoder().fit(train)
        random = np.random.RandomState(self.random_state)
        shares = train.isna().mean().sort_values(kind="stable")
        incomplete = list(shares.index[shares > 0])
        current = fill_constants(train, self.values)
        self.iterations = []
        last = (np.inf, np.inf)
        while len(self.iterations) < self.max_iter:
            before = current
            current, forests = self.fit_iteration(train, current, incomplete, random)
            self.iterations.append(forests)
            now = self.differences(current, before, train)
            falling = any(new < old for new, old in zip(now, last, strict=True))
            if not falling and len(self.iterations) < self.max_iter:
                self.iterations.pop()
                current = before
                break
            last = now
        # Columns complete in the training rows, for new rows that miss them.
        complete = list(shares.index[shares == 0])
        _, self.late = self.fit_iteration(train, current, complete, random)
        return current

    def fit_iteration(self, train, current, order, random):
        """Fit a forest per column and impute it; return table and forests."""
        current, forests = current.copy(), {}
        X = self.encoder.encode(current)
        places = self.encoder.slices(current)
        for name in order:
            column, place = train[name], places[name]
            observed = column.notna().to_numpy()
            if not observed.any():
                continue
            predictors = np.delete(X, place, axis=1)
            options = {
                "n_estimators": self.n_trees,
                "max_features": max(1, int(np.sqrt(X.shape[1]))),
                "random_state": random.randint(2**31),
            }
            if is_category(column):
                forest = RandomForestClassifier(**options)
                targets = column.cat.codes.to_numpy()
            else:
                forest = RandomForestRegressor(min_samples_split=6, **options)
                targets = column.to_numpy()
            forests[name] = forest.fit(predictors[observed], targets[observed])
            self.impute_column(current, X, place, column, forest)
        return current, forests

    def impute_column(self, current, X, place, column, forest):
        """Predict the missing cells of a column, in the table and in the array."""
        missing = column.isna().to_numpy()
        if not missing.any():
            return
        predictors = np.delete(X[missing], place, axis=1)
        values = np.zeros(len(column))
        values[missing] = forest.predict(predictors)
        current[column.name] = fill(column, values)
        X[:, place] = self.encoder.encode_column(current[column.name])

    def differences(self, current, before, train):
        """Return the differences of the paper, of the numbers and the categories."""
        squares = total = changed = missing = 0
        for name, column in train.items():
            if is_category(column):
                changed += int((current[name] != before[name]).sum())
                missing += int(column.isna().sum())
            else:
                squares += float(((current[name] - before[name]) ** 2).sum())
                total += float((current[name] ** 2).sum())
        # A kind of column that the table does not have never speaks for going on.
        return (
            squares / total if total else np.inf,
            changed / missing if missing else np.inf,
        )

    def transform(self, test):
        current = fill_constants(test, self.values)
        X = self.encoder.encode(current)
        places = self.encoder.slices(current)
        for forests in self.iterations:
            for name, forest in {**forests, **self.late}.items():
                self.impute_column(current, X, places[name], test[name], forest)
        return current


#: Made of a seed, by method; all run on numpy and scikit-learn.
IMPUTERS = {
    "mean_mode": lambda seed: MeanMode(),
    "knn": lambda seed: EncodedImputer(
        KNNImputer(n_neighbors=5, keep_empty_features=True)
    ),
    "ice": lambda seed: EncodedImputer(
        ChainedEquations(random_state=seed, keep_empty_features=True)
    ),
    "missforest": lambda seed: MissForest(random_state=seed),
    "em": lambda seed: EncodedImputer(GaussianEM()),
}

# In an environment of their own


@dataclass
class Completion:
    """What a method makes of a case."""

    completed: dict  # part -> table
    seconds: dict
    draws: list = field(default_factory=list)
    intervals: dict | None = None


def external_version(package):
    """Return the version that imputation.txt asks for."""
    pins = (HERE / "imputation.txt").read_text()
    return f"{package} " + re.search(f"^{package}==(.+)$", pins, re.MULTILINE)[1]


def complete_externally(case, method, seed, python, n_draws):
    """Run a method in its environment, by way of files."""
    train, test = case.masked["train"], case.masked["test"]
    kinds = [
        len(column.cat.categories) if is_category(column) else 0
        for _, column in train.items()
    ]
    tables = {"train": to_codes(train), "test": to_codes(test)}
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(inputs, **tables, kinds=np.array(kinds), seed=seed, n_draws=n_draws)
        worker = HERE / "imputation_worker.py"
        command = [python, str(worker), method, str(inputs), str(outputs)]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(last_line(found.stderr))
        with np.load(outputs) as file:
            results = dict(file)
    seconds = {
        name.removeprefix("seconds_"): round(float(value), 3)
        for name, value in results.items()
        if name.startswith("seconds_")
    }
    completed = {
        part: from_codes(results[part], case.masked[part])
        for part in PARTS
        if part in results
    }
    draws = [from_codes(values, test) for values in results.get("draws", [])]
    return Completion(completed, seconds, draws)
