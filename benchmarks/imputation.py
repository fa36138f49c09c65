"""Imputation: VAEImputer against the classical methods, on the same masks.

Cells of tables are hidden by ``ampute``, 70% of the rows train, 30% test. In sample:
hidden cells of the training rows after ``fit_transform``; out of sample: hidden cells
of the test rows after ``transform``. The error of a numeric column is its RMSE relative
to that of the mean, the error of a categorical column its error rate relative to that
of the mode, both of the training rows; the error of a table is the mean over its
columns. Lower is better.

A cell of the benchmark is (table, scenario, seed, method). Each runs in a process of
its own with one thread, ``--jobs`` at a time, and is ended after ``--cell-timeout``
seconds. ``--set NAME=JSON`` gives parameters to ours. miceforest and HyperImpute need
an environment of their own (``harness/peers/imputation.txt``) and are not run unless
its interpreter is given, ``--peers-python``. Peers whose cells are in the raw figures,
of the same masks and versions, are not run again.
"""

import concurrent.futures
import signal
import sys
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from harness import report
from harness.cases import PARTS, SCENARIOS, masked_case, read_features
from harness.imputation_page import draw_picture, lines_of  # noqa: F401
from harness.peers import imputation as peers
from harness.peers.imputation import EXTERNAL, IMPUTERS, Completion
from harness.processes import Processes, answer
from harness.run import Run, our_parameters, read_options
from harness.table_metrics import COVERAGES, check_not_constant, score

NUMERIC = (
    "seeds glass climate concrete wine_red wine_white kin8nm power_plant magic letter"
)
MIXED = "autos heart_cleveland credit_approval titanic cmc abalone california sick"
CATEGORICAL = "vote soybean mushroom"
TABLES = tuple(f"{NUMERIC} {MIXED} {CATEGORICAL}".split())
METHODS = (*IMPUTERS, *EXTERNAL, "ours")
NAMES = ("table", "scenario", "seed", "method")
N_DRAWS = 20


def timed(function, *arguments):
    """Return the result of a call, its wall-clock and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def complete(case, imputer):
    """Fit an imputer of this environment and complete both parts."""
    train, fit, cpu = timed(imputer.fit_transform, case.masked["train"])
    test, transform, more = timed(imputer.transform, case.masked["test"])
    seconds = {"cpu": cpu + more, "fit": fit, "transform": transform}
    seconds = {name: round(value, 3) for name, value in seconds.items()}
    return Completion({"train": train, "test": test}, seconds)


def complete_by_ours(case, seed, parameters):
    """Complete both parts by VAEImputer, and draw from it."""
    from skvae import VAEImputer

    imputer = VAEImputer(**{"random_state": seed, **parameters})
    completion, test = complete(case, imputer), case.masked["test"]
    start = time.perf_counter()
    completion.draws = imputer.sample(test, n_draws=N_DRAWS, random_state=seed)
    completion.seconds["draws"] = round(time.perf_counter() - start, 3)
    completion.intervals = {
        coverage: imputer.predict_interval(test, coverage=coverage)
        for coverage in COVERAGES
    }
    return completion


def run_cell(data, table, scenario, seed, method, parameters, python):
    """Return the result of one cell; called in a process of its own."""
    case = masked_case(read_features(Path(data), table), scenario, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method in EXTERNAL:
            completion = peers.complete_externally(case, method, seed, python, N_DRAWS)
            check_not_constant(case, completion.completed)
        elif method == "ours":
            completion = complete_by_ours(case, seed, parameters)
        else:
            completion = complete(case, IMPUTERS[method](seed))
    return {
        "mask": case.mask_digest(),
        "rows": len(case.truth["train"]),
        "columns": case.truth["train"].shape[1],
        "seconds": completion.seconds,
        **score(case, completion),
    }


def make_cases(options):
    """Yield table, scenario, seed and the case, in the order to run them."""
    features = {name: read_features(options.data, name) for name in options.tables}
    tables = sorted(features, key=lambda name: len(features[name]))
    for seed, scenario, table in product(options.seeds, options.scenarios, tables):
        yield table, scenario, seed, masked_case(features[table], scenario, seed)


def make_tasks(options, run):
    """Return the keys and the masks of all cells, and the tasks of the keys.

    Keys in the cache and digests of masks are by (table, scenario, seed, label).
    """
    parameters, label = our_parameters(options)
    keys, masks, tasks = {}, {}, {}
    for table, scenario, seed, case in make_cases(options):
        n_rows = sum(len(rows) for rows in case.truth.values())
        for method in run.wanted(METHODS):
            if n_rows > peers.MAX_ROWS.get(method, np.inf):
                continue
            given = parameters if method == "ours" else {}
            name = (table, scenario, seed, label if method == "ours" else method)
            key = run.key(case.digest(), method, seed, **given)
            keys[name], masks[name] = key, case.mask_digest()
            tasks[key] = {
                **dict(zip(NAMES, (table, scenario, seed, method), strict=True)),
                **{"data": str(options.data), "parameters": given},
                "python": options.peers_python,
            }
    return keys, masks, tasks


def adopt(run, raw, keys, masks):
    """Put the peers' cells of raw figures into the cache, if masks and versions agree.

    So that a fresh checkout does not run the peers again.
    """
    versions = raw.get("versions", {})
    for cell in raw["cells"]:
        name = tuple(cell[part] for part in NAMES)
        key, method = keys.get(name), cell["method"]
        same = key and versions.get(method) == key[2] and cell["mask"] == masks[name]
        if same and not method.startswith("ours") and key not in run.cache:
            run.cache.put(key, cell)


def run_tasks(tasks, run, options):
    """Run the cells that the cache lacks, some at a time."""
    waiting = {
        key: task
        for key, task in tasks.items()
        if run.lacks(key) and (task["method"] not in EXTERNAL or task["python"])
    }
    processes = Processes(options.cell_timeout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        futures = {pool.submit(processes.run, waiting[key]): key for key in waiting}
        for future in concurrent.futures.as_completed(futures):
            found, key = future.result(), futures[future]
            cell = {**found, **found.pop("result", {})}
            run.cache.put(key, cell)
            errors = [cell[part]["error"] for part in PARTS if part in cell]
            print(*(waiting[key][name] for name in NAMES), *errors, found, flush=True)
    finally:
        processes.stop()
        pool.shutdown(cancel_futures=True)


def page(raw):
    return lines_of(raw, __doc__.split("\n\n", 2)[1].strip())


def cells_of(run, keys):
    """Return the cells of the cache that have a key, with what they are."""
    cells = []
    for name, key in keys.items():
        if cell := run.cache.get(key):
            about = dict(zip(NAMES, name, strict=True))
            cells.append({**about, "status": "finished", **cell, **about})
    return cells


def main():
    if answer(run_cell):
        return
    options = read_options(
        __doc__,
        seeds=[0, 1, 2],
        tables=list(TABLES),
        scenarios=list(SCENARIOS),
        jobs=1,  # processes at a time
        cell_timeout=1800.0,
        peers_python=None,
        set=[],
    )
    run = Run(options, IMPUTERS)
    run.versions |= {method: peers.external_version(method) for method in EXTERNAL}
    keys, masks, tasks = make_tasks(options, run)
    if raw := report.read_raw(options.output):
        adopt(run, raw, keys, masks)
    if not options.report_only:
        run_tasks(tasks, run, options)
    label = our_parameters(options)[1]
    report.publish(
        options,
        methods=[label if m == "ours" else m for m in run.wanted(METHODS)],
        ours=label,
        versions=run.versions,
        cells=cells_of(run, keys),
    )


if __name__ == "__main__":
    main()
