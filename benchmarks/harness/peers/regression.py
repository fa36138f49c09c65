"""The peers of regression: a distribution of one number given a table.

Each takes training and test rows with their targets and a seed, fits, and returns the
CPU seconds of that and its scores. BayesianRidge has a normal distribution of its own;
those of the others are made as the page of regression.py says.
"""

import time

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor

from ..metrics import normal_scores, quantile_scores
from ..tables import scaled_numbers

LEVELS = np.arange(1, 20) / 20


def run_bayesian_ridge(train, y_train, test, y_test, seed):
    start = time.process_time()
    X, X_test = scaled_numbers(train, test)
    model = BayesianRidge().fit(X, y_train)
    seconds = time.process_time() - start
    return seconds, normal_scores(*model.predict(X_test, return_std=True), y_test)


def run_forest(train, y_train, test, y_test, seed):
    start = time.process_time()
    X, X_test = scaled_numbers(train, test)
    model = RandomForestRegressor(oob_score=True, random_state=seed).fit(X, y_train)
    seconds = time.process_time() - start
    deviation = np.sqrt(np.square(y_train - model.oob_prediction_).mean())
    return seconds, normal_scores(model.predict(X_test), deviation, y_test)


def run_boosting(train, y_train, test, y_test, seed):
    def boost(**options):
        model = HistGradientBoostingRegressor(
            categorical_features="from_dtype", random_state=seed, **options
        )
        return model.fit(train, y_train).predict(test)

    start = time.process_time()
    mean = boost()
    quantiles = [boost(loss="quantile", quantile=level) for level in LEVELS]
    quantiles = np.sort(quantiles, axis=0)
    seconds = time.process_time() - start
    return seconds, quantile_scores(mean, quantiles, LEVELS, y_test)


def run_mlp(train, y_train, test, y_test, seed):
    start = time.process_time()
    rows, held_out = train_test_split(
        np.arange(len(train)), test_size=0.1, random_state=seed
    )
    X, X_test = scaled_numbers(train, test)
    model = MLPRegressor(early_stopping=True, max_iter=1_000, random_state=seed)
    model.fit(X[rows], y_train[rows])
    seconds = time.process_time() - start
    errors = y_train[held_out] - model.predict(X[held_out])
    deviation = np.sqrt(np.square(errors).mean())
    return seconds, normal_scores(model.predict(X_test), deviation, y_test)


PEERS = {
    "BayesianRidge": run_bayesian_ridge,
    "RandomForest": run_forest,
    "HistGradientBoosting": run_boosting,
    "MLPRegressor": run_mlp,
}
