"""TVAE, CTGAN and the scores of SDMetrics, run by generation.py in an environment of
their own.

The worker reads requests from its standard input, one JSON object a line, and answers
each with a line of JSON. Tables are .csv files, because the environments do not share a
version of pandas; ``kinds`` tells of every column whether it holds "numbers" or
"categories".
"""

import json
import os
import sys
import time
import warnings
from importlib import metadata

import numpy as np
import pandas as pd


def read_table(path, kinds):
    """Return a table: numbers as float64, categories as strings."""
    dtypes = {
        name: np.float64 if kind == "numbers" else str for name, kind in kinds.items()
    }
    return pd.read_csv(path, dtype=dtypes, keep_default_na=False)


def generate(request):
    """Fit a method with its default settings and write its rows."""
    import ctgan
    import torch

    kinds, seed = request["kinds"], request["seed"]
    table = read_table(request["train"], kinds)
    np.random.seed(seed)  # noqa: NPY002 (what its mixtures draw from)
    torch.manual_seed(seed)
    # On a CPU, as the methods of skvae that they are compared with.
    method = {"TVAE": ctgan.TVAE, "CTGAN": ctgan.CTGAN}[request["method"]]
    model = method(enable_gpu=False)
    model.set_random_state(seed)
    categories = [name for name, kind in kinds.items() if kind == "categories"]
    start = time.process_time()
    model.fit(table, categories)
    seconds = time.process_time() - start
    model.sample(request["n_samples"]).to_csv(request["output"], index=False)
    return {"fit_seconds": seconds}


def quality(request):
    """Return SDMetrics' quality of a table, and its two parts."""
    from sdmetrics.reports.single_table import QualityReport

    kinds = request["kinds"]
    names = {"numbers": "numerical", "categories": "categorical"}
    columns = {name: {"sdtype": names[kind]} for name, kind in kinds.items()}
    report = QualityReport()
    real, synthetic = (read_table(request[key], kinds) for key in ("real", "synthetic"))
    report.generate(real, synthetic, {"columns": columns}, verbose=False)
    parts = dict(report.get_properties().itertuples(index=False))
    return {
        "quality": report.get_score(),
        "shapes": parts["Column Shapes"],
        "pairs": parts["Column Pair Trends"],
    }


def versions(request):
    """Return the versions of the packages of this environment."""
    return {name: metadata.version(name) for name in ("ctgan", "sdmetrics", "torch")}


def main():
    """Answer requests until the input ends."""
    warnings.simplefilter("ignore")
    # What the packages print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tasks = {"generate": generate, "quality": quality, "versions": versions}
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(tasks[request["task"]](request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
