"""HyperImpute and miceforest, run by imputation.py in an environment of their own.

``python imputation_worker.py METHOD INPUTS OUTPUTS``: both files are .npz, because
the environments do not share a version of pandas. Tables are float64 arrays with NaN
for missing cells; ``kinds`` has the number of categories of each column, whose cells
are then codes, and 0 for numbers.
"""

import os
import sys
import time
import warnings

import numpy as np
import pandas as pd

N_DATASETS = 5
N_ITERATIONS = 5


class Clock:
    """Wall-clock and CPU seconds of the steps."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.seconds = {}

    def stop(self, label):
        now = time.perf_counter()
        self.seconds[label], self.wall = now - self.wall, now
        self.seconds["cpu"] = time.process_time() - self.cpu


# miceforest


class Columns:
    """The columns as miceforest takes them.

    Columns that do not vary in the training rows are left out, so are categories that
    these do not show. Numbers are standardised.
    """

    def __init__(self, train, kinds):
        self.kinds = kinds
        self.levels = [np.unique(column[~np.isnan(column)]) for column in train.T]
        self.varying = [i for i, found in enumerate(self.levels) if len(found) > 1]
        self.mean = [found.mean() if len(found) else 0.0 for found in self.levels]
        self.scale = [found.std() if len(found) > 1 else 1.0 for found in self.levels]

    def table(self, values):
        """Return an array as a table; unknown categories become missing."""
        columns = {}
        for i in self.varying:
            column = values[:, i]
            if self.kinds[i]:
                places = {level: code for code, level in enumerate(self.levels[i])}
                codes = [places.get(value, -1) for value in column]
                categories = [f"level {code}" for code in range(len(places))]
                column = pd.Categorical.from_codes(codes, categories=categories)
            else:
                column = (column - self.mean[i]) / self.scale[i]
            columns[f"column {i}"] = column
        return pd.DataFrame(columns)

    def values(self, table, original):
        """Return a completed table as an array; observed cells are the original."""
        completed = np.empty_like(original)
        for i, found in enumerate(self.levels):
            if i not in self.varying:
                completed[:, i] = found[0] if len(found) else 0.0
            elif self.kinds[i]:
                completed[:, i] = found[table[f"column {i}"].cat.codes]
            else:
                numbers = table[f"column {i}"].to_numpy()
                completed[:, i] = numbers * self.scale[i] + self.mean[i]
        return np.where(np.isnan(original), completed, original)


def repair_miceforest():
    """Repair two mistakes of miceforest 6.0.5, without which it fails or guesses.

    ``impute_new_data`` does not count its iterations: each starts again from random
    cells, and ``complete_data`` then returns these instead of the imputed ones. And
    probabilities of 0 and 1 have infinite log-odds, on which the search for donors
    raises.
    """
    from miceforest import ImputedData, imputation_kernel

    set_cells = ImputedData.__setitem__

    def set_cells_and_count(self, place, values):
        set_cells(self, place, values)
        if type(self) is ImputedData:  # a kernel counts by itself
            variable, iteration, dataset = place
            self.iteration_tab[variable, dataset] = iteration

    def log_odds(probability):
        probability = np.clip(probability, 1e-6, 1 - 1e-6)
        return np.log(probability / (1 - probability))

    ImputedData.__setitem__ = set_cells_and_count
    imputation_kernel.logodds = log_odds


def pool(draws, kinds):
    """Return the mean of the draws in numbers, their mode in categories."""
    point = np.mean(draws, axis=0)
    for i, n_categories in enumerate(kinds):
        if n_categories:
            codes = np.arange(n_categories)[:, None, None]
            point[:, i] = (np.stack(draws)[:, :, i] == codes).sum(axis=1).argmax(axis=0)
    return point


def miceforest(inputs):
    """Complete both tables by 5 data sets and 5 iterations, with more draws of test."""
    from miceforest import ImputationKernel

    repair_miceforest()
    train, test = inputs["train"], inputs["test"]
    kinds, seed = inputs["kinds"], int(inputs["seed"])
    clock = Clock()
    columns = Columns(train, kinds)
    table, new = columns.table(train), columns.table(test)
    # A model of every column: new rows may miss one that is complete in training.
    schema = {name: [other for other in table if other != name] for name in table}
    kernel = ImputationKernel(
        table, num_datasets=N_DATASETS, variable_schema=schema, random_state=seed
    )
    kernel.mice(N_ITERATIONS)

    def completed(data, original):
        return [
            columns.values(data.complete_data(dataset=number), original)
            for number in range(N_DATASETS)
        ]

    results = {"train": pool(completed(kernel, train), kinds)}
    clock.stop("fit")
    draws = completed(kernel.impute_new_data(new), test)
    results["test"] = pool(draws, kinds)
    clock.stop("transform")
    while len(draws) < inputs["n_draws"]:
        draws += completed(kernel.impute_new_data(new), test)
    results["draws"] = np.stack(draws)
    return results, clock.seconds


# HyperImpute


def hyperimpute(inputs):
    """Complete the training table; HyperImpute cannot complete new rows."""
    from hyperimpute.plugins.imputers import Imputers

    train, kinds = inputs["train"], inputs["kinds"]
    clock = Clock()
    imputer = Imputers().get("hyperimpute", random_state=int(inputs["seed"]))
    table = pd.DataFrame(train, columns=[f"column {i}" for i in range(train.shape[1])])
    # Its own rule takes columns of fewer than 5 values for categories. Besides, it is
    # told which columns hold categories, which it would regress if they are many.
    own_rule = imputer.model._is_categorical

    def is_categorical(X, name):
        return bool(kinds[int(name.split()[1])]) or own_rule(X, name)

    imputer.model._is_categorical = is_categorical
    completed = imputer.fit_transform(table).to_numpy(np.float64)
    clock.stop("fit")
    return {"train": np.where(np.isnan(train), completed, train)}, clock.seconds


def main():
    """Run a method on the inputs and write the outputs."""
    warnings.simplefilter("ignore")
    # One core also for the libraries that count cores instead of asking.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    method, source, target = sys.argv[1:]
    with np.load(source) as file:
        inputs = dict(file)
    run = {"miceforest": miceforest, "hyperimpute": hyperimpute}[method]
    results, seconds = run(inputs)
    timings = {f"seconds_{name}": value for name, value in seconds.items()}
    np.savez(target, **results, **timings)


if __name__ == "__main__":
    main()
