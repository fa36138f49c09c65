"""Processor time of fit and inference of the estimators under two versions of skvae.

The versions take turns, one process each, so that a machine whose speed drifts treats
both alike; what counts is the ratio within a pair. A digest of the results tells
whether both versions computed the same numbers.

    python benchmarks/compare_versions.py OLD_CHECKOUT NEW_CHECKOUT [--repeats 5]
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median

CASES = ["VAETransformer", "VAEImputer", "VAEClassifier", "VAERegressor"]
TABLES = ["diabetes", "breast_cancer", "penguins"]


def load(name):
    """Return a table of numbers or of mixed columns, and a target."""
    from sklearn import datasets

    if name == "penguins":
        from skvae.datasets import load_penguins

        return load_penguins(return_X_y=True)
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def run(case, table):
    """Fit and use one estimator; print processor seconds and a digest."""
    import numpy as np
    import torch

    import skvae
    from skvae.datasets import ampute

    torch.set_num_threads(1)
    X, y = load(table)
    codes = np.unique(np.asarray(y), return_inverse=True)[1]
    model = getattr(skvae, case)(max_iter=40, random_state=0)
    if case == "VAEImputer":
        X = ampute(X, random_state=0)
        arguments, use = (X,), lambda: model.transform(X)
    elif case == "VAETransformer":
        arguments, use = (X,), lambda: model.transform(X)
    elif case == "VAEClassifier":
        few = np.where(np.arange(len(codes)) % 10 == 0, codes % 3, -1)
        arguments, use = (X, few), lambda: model.predict_proba(X)
    else:
        arguments, use = (X, codes.astype(float)), lambda: model.predict(X)
    start = time.process_time()
    model.fit(*arguments)
    fitted = time.process_time()
    for _ in range(5):
        result = use()
    used = time.process_time()
    digest = hashlib.sha256(repr(np.asarray(result).tolist()).encode()).hexdigest()
    print(json.dumps([fitted - start, (used - fitted) / 5, digest[:12]]))


def measure(checkout, case, table):
    """Return what a process of its own prints for one version."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--run", case, table]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(old, new, repeats):
    """Print a row for every estimator and table, and the median ratios."""
    print(f"{date.today()}, {platform.processor() or platform.machine()}, one thread")
    print(f"Command: python benchmarks/compare_versions.py OLD NEW --repeats {repeats}")
    print("\n| estimator | table | fit old s | ratio | use old ms | ratio | results |")
    print("|---|---|---|---|---|---|---|", flush=True)
    ratios = [[], []]
    for case in CASES:
        for table in TABLES:
            pairs = []
            for index in range(repeats):
                order = [old, new] if index % 2 == 0 else [new, old]
                found = {path: measure(path, case, table) for path in order}
                pairs.append((found[old], found[new]))
            seconds = [median(a[k] for a, _ in pairs) for k in range(2)]
            ratio = [median(b[k] / a[k] for a, b in pairs) for k in range(2)]
            for k in range(2):
                ratios[k].append(ratio[k])
            same = "same" if all(a[2] == b[2] for a, b in pairs) else "differ"
            print(
                f"| {case} | {table} | {seconds[0]:.2f} | {ratio[0]:.2f} "
                f"| {1e3 * seconds[1]:.1f} | {ratio[1]:.2f} | {same} |",
                flush=True,
            )
    print(f"\nMedian ratios: fit {median(ratios[0]):.3f}, use {median(ratios[1]):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="old and new checkout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", nargs=2, metavar=("CASE", "TABLE"))
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
    else:
        old, new = (path.resolve() for path in arguments.paths)
        compare(old, new, arguments.repeats)


if __name__ == "__main__":
    main()
