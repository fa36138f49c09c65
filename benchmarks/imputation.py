"""Imputation: VAEImputer against the classical methods, on the same masks.

Cells of tables are hidden by ``ampute``, 70% of the rows train, 30% test. In sample:
hidden cells of the training rows after ``fit_transform``; out of sample: hidden cells
of the test rows after ``transform``. The error of a numeric column is its RMSE relative
to that of the mean, the error of a categorical column its error rate relative to that
of the mode, both of the training rows; the error of a table is the mean over its
columns. Lower is better.

A cell of the benchmark is (table, scenario, seed, method). Each runs in a process of
its own with one thread and lands in ``benchmarks/results/.cache/imputation.jsonl`` as
it finishes, so interrupted runs resume; ``--rerun ours`` computes our cells again and
keeps those of the peers. miceforest and HyperImpute need an environment of their own
(``benchmarks/peers.txt``) and are left out unless its interpreter is given.
"""

import concurrent.futures
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    load_index,
    markdown_table,
    write_report,
)
from _imputation_peers import (
    Encoder,
    fill,
    fill_constants,
    is_categorical,
    make_imputer,
    start_values,
)

NUMERIC = (
    "seeds glass climate concrete wine_red wine_white kin8nm power_plant magic letter"
)
MIXED = "autos heart_cleveland credit_approval titanic cmc abalone california sick"
CATEGORICAL = "vote soybean mushroom"
TABLES = tuple(f"{NUMERIC} {MIXED} {CATEGORICAL}".split())
SCENARIOS = {
    "mcar30": ("mcar", 0.3),
    "mar30": ("mar", 0.3),
    "mnar30": ("mnar", 0.3),
    "mcar10": ("mcar", 0.1),
    "mcar50": ("mcar", 0.5),
}
# In the environment of this script, and in environments of their own.
LOCAL = ("mean_mode", "knn", "ice", "missforest", "em")
EXTERNAL = ("miceforest", "hyperimpute")
METHODS = (*LOCAL, *EXTERNAL, "ours")
# Of two methods that are as good as each other, no table may tell them far apart.
STRONG_PEERS = ("missforest", "em", "miceforest")
# Rows of the largest table for methods that would take days on the others.
MAX_ROWS = {"hyperimpute": 2000}
PARTS = {"test": "out of sample", "train": "in sample"}
N_DRAWS = 20
N_POOLED = 5
ENERGY_ROWS = 1000
COVERAGES = (0.9, 0.5)
VERDICTS = {True: "met", False: "NOT met"}
HERE = Path(__file__).parent


# Data


@dataclass
class Case:
    """One split of one table: the truth, the masked table, the cells to score."""

    truth: dict  # part -> table
    masked: dict
    hidden: dict  # part -> boolean array

    def fingerprint(self):
        """Return a hash of the masks, by which results are known to be comparable."""
        parts = b"".join(np.packbits(mask).tobytes() for mask in self.hidden.values())
        return hashlib.sha256(parts).hexdigest()[:12]


def load_table(data, name):
    """Return the columns to impute: float64 or category, none constant."""
    table = pd.read_parquet(data / f"{name}.parquet")
    if load_index(data)[name]["task"] != "regression":
        table = table.drop(columns="target")
    table = table.loc[:, table.nunique() > 1]
    columns = {}
    for label, column in table.items():
        numeric = pd.api.types.is_numeric_dtype(column)
        if numeric and not pd.api.types.is_bool_dtype(column):
            columns[label] = column.astype("float64")
        else:
            column = column.astype("category").cat.remove_unused_categories()
            columns[label] = column
    return pd.DataFrame(columns)


def mask_seed(seed, part):
    """Return the seed of a mask, derived from that of the split."""
    sequence = np.random.SeedSequence([seed, list(PARTS).index(part)])
    return int(sequence.generate_state(1)[0])


def make_case(data, name, scenario, seed):
    """Split a table and hide cells of both parts."""
    from skvae.datasets import ampute

    table = load_table(data, name)
    order = np.random.default_rng(seed).permutation(len(table))
    n_train = round(0.7 * len(table))
    truth = {
        "train": table.iloc[np.sort(order[:n_train])],
        "test": table.iloc[np.sort(order[n_train:])],
    }
    mechanism, rate = SCENARIOS[scenario]
    if mechanism == "mcar":
        masked = {
            part: ampute(rows, mechanism, rate, random_state=mask_seed(seed, part))
            for part, rows in truth.items()
        }
    else:  # one mechanism for both parts: the same kept columns and scores
        whole = ampute(table, mechanism, rate, random_state=mask_seed(seed, "train"))
        masked = {part: whole.loc[rows.index] for part, rows in truth.items()}
    hidden = {
        part: masked[part].isna().to_numpy() & rows.notna().to_numpy()
        for part, rows in truth.items()
    }
    return Case(truth, masked, hidden)


# Scores


def part_errors(case, part, completed):
    """Return the errors of a part: the mean, its halves, and every column's."""
    truth, hidden = case.truth[part], case.hidden[part]
    constants = start_values(case.masked["train"])
    columns, numeric, categorical, absolute = {}, [], [], []
    for index, (name, column) in enumerate(truth.items()):
        cells = hidden[:, index]
        if not cells.any():
            continue
        if is_categorical(column):
            true = column.cat.codes.to_numpy()[cells]
            guess = completed[name].cat.codes.to_numpy()[cells]
            base = np.mean(true != constants[name])
            if base > 0:
                columns[name] = float(np.mean(true != guess) / base)
                categorical.append(columns[name])
            continue
        true, guess = column.to_numpy()[cells], completed[name].to_numpy()[cells]
        base = np.sqrt(np.mean((true - constants[name]) ** 2))
        if base > 0:
            columns[name] = float(np.sqrt(np.mean((true - guess) ** 2)) / base)
            numeric.append(columns[name])
        median = np.nan_to_num(case.masked["train"][name].median())
        base = np.mean(np.abs(true - median))
        if base > 0:
            absolute.append(float(np.mean(np.abs(true - guess)) / base))

    def mean(values):
        return float(np.mean(values)) if values else None

    return {
        "error": mean([*columns.values()]),
        "numeric": mean(numeric),
        "categorical": mean(categorical),
        "absolute": mean(absolute),
        "columns": columns,
    }


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


def draw_scores(case, draws, intervals):
    """Return coverage and CRPS of the hidden numbers of the test rows.

    Parameters
    ----------
    draws : list of tables
    intervals : dict from coverage to a lower and an upper table, or None
        Without it the intervals are quantiles of the draws.
    """
    truth, hidden = case.truth["test"], case.hidden["test"]
    scores = {}
    for index, (name, column) in enumerate(truth.items()):
        cells = hidden[:, index]
        if is_categorical(column) or not cells.any():
            continue
        scale = case.masked["train"][name].std()
        true = column.to_numpy()[cells] / scale
        drawn = np.stack([draw[name].to_numpy()[cells] for draw in draws]) / scale
        found = {"crps": float(crps(true, drawn).mean())}
        for coverage in COVERAGES:
            level = round(100 * coverage)
            # By i / (n + 1), so that truth exchangeable with the draws is covered at
            # the nominal rate however few the draws are.
            ends = (0.5 - coverage / 2, 0.5 + coverage / 2)
            bounds = np.quantile(drawn, ends, axis=0, method="weibull")
            found[f"draws{level}"] = covered(true, bounds)
            if intervals is not None:
                bounds = [
                    table[name].to_numpy()[cells] / scale
                    for table in intervals[coverage]
                ]
            found[f"coverage{level}"] = covered(true, bounds)
            found[f"width{level}"] = float(np.mean(bounds[1] - bounds[0]))
        for key, value in found.items():
            scores.setdefault(key, []).append(value)
    return {key: float(np.mean(values)) for key, values in scores.items()}


def covered(true, bounds):
    """Return the share of values between two bounds."""
    return float(np.mean((bounds[0] <= true) & (true <= bounds[1])))


def crps(true, drawn):
    """Return the continuous ranked probability score by draws, of every value."""
    n_draws = len(drawn)
    to_truth = np.abs(drawn - true).mean(axis=0)
    # The mean over pairs of different draws, from the sorted ones.
    weights = 2 * np.arange(n_draws) - n_draws + 1
    pairs = weights @ np.sort(drawn, axis=0) * 2 / (n_draws * (n_draws - 1))
    return to_truth - 0.5 * pairs


def energy_distance(case, tables):
    """Return the energy distance of completed test rows, pooled, from the true ones.

    Cells that are missing natively have no truth; they are set to a constant in both.
    """
    from scipy.spatial.distance import cdist

    encoder = Encoder().fit(case.truth["train"])
    truth = case.truth["test"]
    rows = np.random.default_rng(0).permutation(len(truth))[:ENERGY_ROWS]
    true = encoder.encode(truth)[rows]
    unknown = np.isnan(true)
    true[unknown] = 0
    clouds = []
    for table in tables:
        cloud = encoder.encode(table)[rows]
        cloud[unknown] = 0
        clouds.append(cloud)
    across = np.mean([cdist(cloud, true).mean() for cloud in clouds])
    within = np.mean([cdist(a, b).mean() for a in clouds for b in clouds])
    return float(2 * across - within - cdist(true, true).mean())


# One cell


@dataclass
class Completion:
    """What a method makes of a case."""

    completed: dict  # part -> table
    seconds: dict
    draws: list = field(default_factory=list)
    intervals: dict | None = None


class Stopwatch:
    """Wall-clock and CPU seconds, by label."""

    def __init__(self):
        self.seconds = {"cpu": 0.0}

    def time(self, label, function, *arguments, **options):
        """Call the function and store its seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*arguments, **options)
        self.seconds[label] = round(time.perf_counter() - wall, 3)
        self.seconds["cpu"] += round(time.process_time() - cpu, 3)
        return result


def complete(case, method, seed, parameters):
    """Run a method of this environment."""
    if method == "ours":
        from skvae import VAEImputer

        imputer = VAEImputer(**{"random_state": seed, **parameters})
    else:
        imputer = make_imputer(method, seed)
    watch = Stopwatch()
    train, test = case.masked["train"], case.masked["test"]
    completion = Completion(
        completed={
            "train": watch.time("fit", imputer.fit_transform, train),
            "test": watch.time("transform", imputer.transform, test),
        },
        seconds=watch.seconds,
    )
    if method == "ours":
        cpu = watch.seconds["cpu"]
        completion.draws = watch.time(
            "draws", imputer.sample, test, n_draws=N_DRAWS, random_state=seed
        )
        completion.intervals = {
            coverage: imputer.predict_interval(test, coverage=coverage)
            for coverage in COVERAGES
        }
        watch.seconds["cpu"] = cpu  # of fit and transform alone
    return completion


def to_codes(table):
    """Return a table as a float64 array, categories by their codes."""
    columns = [
        np.where(column.isna(), np.nan, column.cat.codes)
        if is_categorical(column)
        else column.to_numpy()
        for _, column in table.items()
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def from_codes(values, table):
    """Return the table, its missing cells filled from an array of numbers and codes."""
    columns = zip(table.items(), values.T, strict=True)
    return pd.DataFrame({name: fill(column, part) for (name, column), part in columns})


def complete_externally(case, method, seed, python):
    """Run a method in its environment, by way of files."""
    train = case.masked["train"]
    kinds = [
        len(column.cat.categories) if is_categorical(column) else 0
        for _, column in train.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        np.savez(
            inputs,
            train=to_codes(train),
            test=to_codes(case.masked["test"]),
            kinds=np.array(kinds),
            seed=seed,
            n_draws=N_DRAWS,
        )
        worker = HERE / "_hyperimpute_worker.py"
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
    draws = [from_codes(d, case.masked["test"]) for d in results.get("draws", [])]
    return Completion(completed, seconds, draws)


def run_cell(task):
    """Return the result of one cell; called in a process of its own."""
    case = make_case(Path(task["data"]), task["table"], task["scenario"], task["seed"])
    method, seed = task["method"], task["seed"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method in EXTERNAL:
            completion = complete_externally(case, method, seed, task["python"])
        else:
            completion = complete(case, method, seed, task["parameters"])
    result = {
        "status": "finished",
        "mask": case.fingerprint(),
        "rows": len(case.truth["train"]),
        "columns": case.truth["train"].shape[1],
        "seconds": completion.seconds,
    }
    for part, table in completion.completed.items():
        check_completed(case.masked[part], table)
        result[part] = part_errors(case, part, table)
    if method in EXTERNAL:
        check_not_constant(case, completion.completed)
    if "test" in completion.completed:
        result["energy_point"] = energy_distance(case, [completion.completed["test"]])
    if completion.draws:
        for draw in completion.draws:
            check_completed(case.masked["test"], draw)
        result["draws"] = draw_scores(case, completion.draws, completion.intervals)
        result["draws"]["energy"] = energy_distance(case, completion.draws[:N_POOLED])
        single = part_errors(case, "test", completion.draws[0])
        result["draws"]["single"] = {k: single[k] for k in single if k != "columns"}
    usage = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    result["memory_mb"] = round(usage / 1024)
    return result


def check_not_constant(case, completed):
    """Raise if a method returned means and modes, as HyperImpute may without a word."""
    for part, table in completed.items():
        masked = case.masked[part]
        constant = fill_constants(masked, start_values(masked))
        different = 0
        for index, name in enumerate(masked):
            cells = case.hidden[part][:, index]
            guess, mean = table[name][cells], constant[name][cells]
            if is_categorical(guess):
                different += int((guess != mean).sum())
            else:
                different += int((~np.isclose(guess, mean)).sum())
        if different < 0.05 * case.hidden[part].sum():
            raise ValueError(f"The {part} rows were completed with means and modes")


# The run


def last_line(text):
    """Return the last line of a traceback."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "no message"


class Runner:
    """Runs cells in processes of their own, and ends these when the script ends."""

    def __init__(self, timeout):
        self.timeout = timeout
        self.processes = set()
        self.stopped = False
        self.lock = threading.Lock()

    def run(self, task):
        """Return the result of a cell, or what kept it from finishing."""
        threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "LOKY_MAX_CPU")
        one = {f"{name}_NUM_THREADS": "1" for name in threads}
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "result.json")
            words = [sys.executable, __file__, "--cell", json.dumps(task), str(output)]
            with self.lock:
                if self.stopped:
                    return None
                process = subprocess.Popen(
                    words,
                    env={**os.environ, **one},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # a group to kill with its workers
                )
                self.processes.add(process)
            try:
                _, errors = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                return {"status": "timeout", "seconds": {"fit": self.timeout}}
            finally:
                self.kill(process)
            if self.stopped:
                return None
            if process.returncode or not output.exists():
                return {"status": "failed", "message": last_line(errors)}
            return json.loads(output.read_text())

    def kill(self, process):
        """End a process and those that it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.discard(process)

    def stop(self):
        """End all processes, and start no more."""
        with self.lock:
            self.stopped = True
        for process in list(self.processes):
            self.kill(process)


def row_limits(words):
    """Return the limits of ``--max-rows`` as a dict; the key None is for all."""
    limits = dict(MAX_ROWS)
    for word in words:
        method, _, number = word.rpartition("=")
        limits[method or None] = int(number)
    return limits


def make_tasks(options, parameters, label):
    """Return the cells to run, a dict from key to task, in the order to run them."""
    index = load_index(options.data)
    pythons = {
        "hyperimpute": options.hyperimpute_python,
        "miceforest": options.miceforest_python or options.hyperimpute_python,
    }
    limits = row_limits(options.max_rows)
    n_rows = {name: int(index[name]["rows"]) for name in options.tables}
    tasks = {}
    for seed in options.seeds:
        for scenario in options.scenarios:
            for table in sorted(options.tables, key=n_rows.get):
                for method in options.methods:
                    limit = min(limits.get(key, np.inf) for key in (None, method))
                    if n_rows[table] > limit:
                        continue
                    if method in pythons and pythons[method] is None:
                        continue
                    name = label if method == "ours" else method
                    tasks[table, scenario, seed, name] = {
                        "data": str(options.data),
                        "table": table,
                        "scenario": scenario,
                        "seed": seed,
                        "method": method,
                        "parameters": parameters if method == "ours" else {},
                        "python": pythons.get(method),
                    }
    return tasks


def run_tasks(tasks, checkpoint, options):
    """Run the cells that the checkpoint lacks."""
    waiting = {
        key: task
        for key, task in tasks.items()
        if key not in checkpoint or task["method"] in options.rerun
    }
    runner = Runner(options.cell_timeout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        futures = {pool.submit(runner.run, task): key for key, task in waiting.items()}
        for future in concurrent.futures.as_completed(futures):
            key, result = futures[future], future.result()
            checkpoint.put(key, result)
            short = {
                part: round(result[part]["error"], 4)
                for part in PARTS
                if part in result
            }
            about = {k: result[k] for k in ("seconds", "message") if k in result}
            print(*key, result["status"], json.dumps({**short, **about}), flush=True)
    finally:
        runner.stop()
        pool.shutdown(cancel_futures=True)


# Report


class Results:
    """The finished cells, and medians over the seeds that two methods share."""

    def __init__(self, checkpoint, options, methods):
        self.methods = methods
        self.tables, self.scenarios = options.tables, options.scenarios
        self.seeds = options.seeds
        self.cells, self.unfinished, self.mixed = {}, [], []
        masks = {}
        for table in self.tables:
            for scenario in self.scenarios:
                for seed in self.seeds:
                    for method in methods:
                        key = (table, scenario, seed, method)
                        self.add(key, checkpoint.get(key), masks)

    def add(self, key, result, masks):
        """Keep a finished result whose mask is that of the other methods."""
        if result is None:
            return
        if result["status"] != "finished":
            self.unfinished.append((*key, result))
        elif masks.setdefault(key[:3], result["mask"]) != result["mask"]:
            self.mixed.append(key)
        else:
            self.cells[key] = result

    def seeds_of(self, table, scenario, *methods, part="test"):
        """Return the seeds that all the methods finished."""
        return [
            seed
            for seed in self.seeds
            if all(
                part in self.cells.get((table, scenario, seed, method), {})
                for method in methods
            )
        ]

    def median(self, table, scenario, method, path, seeds):
        """Return the median over seeds of what is at a path, None if nothing is."""
        values = []
        for seed in seeds:
            value = self.cells[table, scenario, seed, method]
            for step in path:
                value = value.get(step) if value is not None else None
            if value is not None:
                values.append(value)
        return float(np.median(values)) if values else None

    def error(self, table, scenario, method, part):
        """Return the median error over the seeds that the method finished."""
        seeds = self.seeds_of(table, scenario, method, part=part)
        return self.median(table, scenario, method, (part, "error"), seeds)

    def pair(self, table, scenario, ours, peer, part):
        """Return the errors of two methods over the seeds of both, or None."""
        seeds = self.seeds_of(table, scenario, ours, peer, part=part)
        if not seeds:
            return None
        return tuple(
            self.median(table, scenario, method, (part, "error"), seeds)
            for method in (ours, peer)
        )

    def ratio(self, table, scenario, ours, peers, part):
        """Return our error over that of the best of the peers, or None."""
        pairs = [self.pair(table, scenario, ours, peer, part) for peer in peers]
        ratios = [pair[0] / pair[1] for pair in pairs if pair and pair[1] > 0]
        return max(ratios, default=None)

    def seconds(self, table, scenario, method):
        """Return the median CPU seconds of fit and transform.

        Every process has one thread, so on a machine without other work these are
        the seconds on the clock.
        """
        cells = [self.cells.get((table, scenario, s, method)) for s in self.seeds]
        values = [cell["seconds"]["cpu"] for cell in cells if cell]
        return float(np.median(values)) if values else None


def error_lines(results, scenario, part, ours):
    """Return the table of errors of one scenario and part, and its summary."""
    methods = [
        m
        for m in results.methods
        if any(results.seeds_of(t, scenario, m, part=part) for t in results.tables)
    ]
    peers = [m for m in methods if m != ours]
    have_ours = ours in methods
    rows, errors = [], {}
    for table in results.tables:
        counts = {
            m: len(results.seeds_of(table, scenario, m, part=part)) for m in methods
        }
        most = max(counts.values(), default=0)
        if not most:
            continue
        cells = []
        for method in methods:
            value = results.error(table, scenario, method, part)
            if value is not None:
                errors[table, method] = value
            few = value is not None and counts[method] < most
            cells.append(f"{value:.3f} ({counts[method]})" if few else value)
        row = [table, most, *cells]
        if have_ours:
            row.append(results.ratio(table, scenario, ours, ["missforest"], part))
            row.append(results.ratio(table, scenario, ours, peers, part))
        rows.append(row)
    if not rows:
        return []
    header = ["data", "seeds", *methods]
    if have_ours:
        header += ["ours/missforest", "ours/best peer"]
    # Methods that are not run on every table do not decide which tables are averaged.
    widely = [m for m in methods if m not in MAX_ROWS]
    shared = [t for t in results.tables if all((t, m) in errors for m in widely)]
    if shared:
        means = [
            float(np.mean([errors[t, m] for t in shared])) if m in widely else None
            for m in methods
        ]
        filler = [None, None] if have_ours else []
        rows.append([f"mean of {len(shared)}", None, *means, *filler])
    lines = [f"### {scenario}, {PARTS[part]}", "", *markdown_table(header, rows), ""]
    if have_ours:
        lines += comparison_lines(results, scenario, part, ours, peers)
    return lines


def comparison_lines(results, scenario, part, ours, peers):
    """Return the comparisons of ours with every peer, and with the best."""
    lines = []
    for peer in peers:
        pairs = {
            table: pair
            for table in results.tables
            if (pair := results.pair(table, scenario, ours, peer, part))
        }
        if not pairs:
            continue
        our_mean, peer_mean = np.mean(list(pairs.values()), axis=0)
        ratios = {table: pair[0] / pair[1] for table, pair in pairs.items()}
        losses = [table for table, ratio in ratios.items() if ratio > 1]
        lines.append(
            f"- ours against {peer} on {len(pairs)} tables: mean error "
            f"{our_mean:.3f} against {peer_mean:.3f}, ratio of means "
            f"{our_mean / peer_mean:.3f}, mean of ratios "
            f"{np.mean(list(ratios.values())):.3f}; at or below on "
            f"{len(pairs) - len(losses)}; above on: {', '.join(losses) or 'none'}"
        )
    for title, group in (
        ("the best peer", peers),
        (f"the best of {', '.join(STRONG_PEERS)}", STRONG_PEERS),
    ):
        ratios = ratios_to_best(results, scenario, part, ours, group)
        if ratios:
            worst = max(ratios, key=ratios.get)
            wins = sum(ratio <= 1 for ratio in ratios.values())
            lines.append(
                f"- ours at or below {title} on {wins} of {len(ratios)} tables "
                f"({wins / len(ratios):.0%}); worst ratio {ratios[worst]:.3f} ({worst})"
            )
    return [*lines, ""]


def ratios_to_best(results, scenario, part, ours, peers):
    """Return our error over the best peer's, a dict by table."""
    found = {
        table: results.ratio(table, scenario, ours, peers, part)
        for table in results.tables
    }
    return {table: ratio for table, ratio in found.items() if ratio is not None}


def second_lines(results, scenario):
    """Return the table of CPU seconds of fit and transform."""
    methods = [
        method
        for method in results.methods
        if any(results.seconds(t, scenario, method) for t in results.tables)
    ]
    rows = []
    for table in results.tables:
        seconds = [results.seconds(table, scenario, m) for m in methods]
        if any(value is not None for value in seconds):
            sizes = next(
                (cell["rows"], cell["columns"])
                for key, cell in results.cells.items()
                if key[0] == table
            )
            rows.append([table, *sizes, *seconds])
    if not rows:
        return []
    header = ["data", "training rows", "columns", *methods]
    lines = [f"### {scenario}, CPU seconds of fit and transform", ""]
    return [*lines, *markdown_table(header, rows, digits=1), ""]


def draw_lines(results, scenario, ours):
    """Return the table of coverage, CRPS and energy distance of draws."""
    facts = {
        "90%": "coverage90",
        "50%": "coverage50",
        "width 90%": "width90",
        "CRPS": "crps",
        "energy": "energy",
    }
    rows, columns = [], {}
    for table in results.tables:
        for method in (ours, "miceforest"):
            seeds = results.seeds_of(table, scenario, method)
            values = [
                results.median(table, scenario, method, ("draws", fact), seeds)
                for fact in facts.values()
            ]
            single = ("draws", "single", "error")
            values.append(results.median(table, scenario, method, single, seeds))
            if any(value is not None for value in values):
                rows.append([table, method, *values])
                columns.setdefault(method, []).append(values)
    if not rows:
        return []
    for method, found in columns.items():
        numbers = np.array(found, dtype=float)  # None becomes NaN
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mean of no numbers
            means = np.nanmean(numbers, axis=0)
        means = [None if np.isnan(mean) else float(mean) for mean in means]
        rows.append([f"mean of {len(found)}", method, *means])
    header = ["data", "method", *facts, "error of one draw"]
    lines = [f"### {scenario}, draws on the test rows", ""]
    return [*lines, *markdown_table(header, rows), ""]


def target_lines(results, scenario, ours):
    """Return the comparison with the targets of the project."""
    lines = []

    def add(text, value, met, digits=3):
        lines.append(f"- {text}: {value:.{digits}f}: {VERDICTS[bool(met)]}")

    for part, target in (("test", 0.88), ("train", 0.92)):
        pairs = [
            pair
            for table in results.tables
            if (pair := results.pair(table, scenario, ours, "missforest", part))
        ]
        if pairs:
            our_mean, peer_mean = np.mean(pairs, axis=0)
            ratio = our_mean / peer_mean
            text = f"mean error over missforest's, {PARTS[part]}, {len(pairs)} tables"
            add(f"{text} (target: at most {target})", ratio, ratio <= target)
        peers = [method for method in results.methods if method != ours]
        ratios = ratios_to_best(results, scenario, part, ours, peers)
        if ratios:
            share = np.mean([ratio <= 1 for ratio in ratios.values()])
            text = f"share of {len(ratios)} tables at or below the best peer"
            add(
                f"{text}, {PARTS[part]} (target: at least 0.80)", share, share >= 0.8, 2
            )
        ratios = ratios_to_best(results, scenario, part, ours, STRONG_PEERS)
        if ratios:
            worst = max(ratios.values())
            text = f"worst ratio to the best of {', '.join(STRONG_PEERS)}"
            add(f"{text}, {PARTS[part]} (target: at most 1.03)", worst, worst <= 1.03)
    lines += time_target_lines(results, scenario, ours)
    coverages = {}
    for table in results.tables:
        seeds = results.seeds_of(table, scenario, ours)
        for level in (90, 50):
            path = ("draws", f"coverage{level}")
            value = results.median(table, scenario, ours, path, seeds)
            if value is not None:
                coverages.setdefault(level, []).append(value)
    for level, low, high in ((90, 0.87, 0.93), (50, 0.46, 0.54)):
        if level in coverages:
            mean = float(np.mean(coverages[level]))
            text = f"coverage of {level}% intervals, mean of {len(coverages[level])}"
            add(f"{text} (target: {low} to {high})", mean, low <= mean <= high)
    return lines


def time_target_lines(results, scenario, ours):
    """Return the targets on the seconds, by the size of the tables."""
    lines = []
    for peer, low, high, target in (
        ("missforest", 2000, 10_000, 1.0),
        ("missforest", 10_000, np.inf, 1 / 3),
        ("hyperimpute", 0, np.inf, 1 / 3),
    ):
        ratios = {}
        for table in results.tables:
            spent = [results.seconds(table, scenario, m) for m in (ours, peer)]
            sizes = [c["rows"] for k, c in results.cells.items() if k[0] == table]
            if None not in spent and low <= sizes[0] < high:
                ratios[table] = spent[0] / spent[1]
        if ratios:
            worst = max(ratios, key=ratios.get)
            span = f"{low:,} to {high:,} training rows"
            if high == np.inf:
                span = f"from {low:,} training rows up" if low else "all sizes"
            lines.append(
                f"- CPU seconds over {peer}'s, {span}, {len(ratios)} tables, worst "
                f"{ratios[worst]:.2f} ({worst}) (target: at most {target:.2f}): "
                f"{VERDICTS[ratios[worst] <= target]}"
            )
    return lines


def problem_lines(results):
    """Return the cells that did not finish, and those with a mask of their own."""
    lines = [
        f"- {table}, {scenario}, seed {seed}, {method}: {result['status']} "
        f"{result.get('message', '')}".rstrip()
        for table, scenario, seed, method, result in results.unfinished
    ]
    lines += [
        f"- {' '.join(map(str, key))}: left out, its mask is not that of the others"
        for key in results.mixed
    ]
    return ["## Not finished", "", *lines, ""] if lines else []


def draw_picture(results, scenario, path):
    """Draw the errors by table and method; one panel per part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tables = [
        table
        for table in results.tables
        if any(results.seeds_of(table, scenario, m) for m in results.methods)
    ]
    if not tables:
        return
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 1.5 + 0.3 * len(tables)), sharey=True, layout="constrained"
    )
    markers = dict(zip(METHODS, "|v^sDPXo", strict=True))
    for axis, (part, title) in zip(axes, PARTS.items(), strict=True):
        for number, method in enumerate(results.methods):
            marked = method.split()[0] == "ours"
            points = [
                (error, place)
                for place, table in enumerate(tables)
                if (error := results.error(table, scenario, method, part)) is not None
            ]
            if not points:
                continue
            axis.scatter(
                *zip(*points, strict=True),
                marker=markers[method.split()[0]],
                s=60 if marked else 32,
                color="black" if marked else f"C{number}",
                zorder=3 if marked else 2,
                alpha=1.0 if marked else 0.8,
                label=method,
            )
        axis.set_title(f"{title}, {scenario}")
        axis.set_xlabel("error relative to mean / mode (lower is better)")
        axis.grid(alpha=0.4)
    axes[0].set_yticks(range(len(tables)), tables)
    axes[0].invert_yaxis()
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def write(checkpoint, options, label):
    """Write the report, its JSON and the picture."""
    methods = [m for m in METHODS if m != "ours" and m in options.methods]
    if "ours" in options.methods:
        methods.append(label)
    results = Results(checkpoint, options, methods)
    report = environment()
    lines = ["# Imputation", "", __doc__.split("\n\n", 2)[1].strip(), ""]
    lines += [
        "Medians over seeds; a number in brackets counts the seeds of a cell that",
        "rests on fewer than its row. HyperImpute cannot complete new rows.",
        "",
        *environment_lines(report),
        f"- seeds: {options.seeds}",
        "",
    ]
    for scenario in options.scenarios:
        found = []
        for part in PARTS:
            found += error_lines(results, scenario, part, label)
        if not found:
            continue
        found += draw_lines(results, scenario, label)
        found += second_lines(results, scenario)
        targets = target_lines(results, scenario, label)
        if targets:
            found += [f"### {scenario}, targets", "", *targets, ""]
        lines += [f"## {scenario}", "", *found]
    lines += problem_lines(results)
    cells = [
        {"table": t, "scenario": c, "seed": s, "method": m, **result}
        for (t, c, s, m), result in results.cells.items()
    ]
    write_report(options.output, lines, {"environment": report, "cells": cells})
    draw_picture(results, options.scenarios[0], options.output.with_suffix(".png"))


def parse_arguments():
    """Return the command line's options."""
    parser = argument_parser("imputation", __doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS)
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--max-rows",
        nargs="+",
        default=[],
        metavar="[METHOD=]N",
        help="leave out tables with more rows, for all methods or for one",
    )
    parser.add_argument(
        "--cell-timeout",
        type=float,
        default=1800,
        metavar="SECONDS",
        help="a cell that takes longer is ended and recorded (default: %(default)s)",
    )
    parser.add_argument("--rerun", nargs="+", default=[], choices=METHODS)
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=JSON",
        help="parameters of ours, stored under a label of their own",
    )
    parser.add_argument(
        "--hyperimpute-python",
        metavar="PATH",
        help="interpreter of the environment of benchmarks/peers.txt",
    )
    parser.add_argument(
        "--miceforest-python",
        metavar="PATH",
        help="the same for miceforest (default: that of HyperImpute)",
    )
    parser.add_argument(
        "--report", action="store_true", help="compute nothing, write the report"
    )
    return parser.parse_args()


def main():
    """Compute what is missing, then write the report."""
    if sys.argv[1:2] == ["--cell"]:
        task, output = sys.argv[2:]
        Path(output).write_text(json.dumps(run_cell(json.loads(task))))
        return
    options = parse_arguments()
    checkpoint = Checkpoint(cache_path("imputation.jsonl"))
    parameters = dict(word.split("=", 1) for word in options.set)
    parameters = {name: json.loads(value) for name, value in parameters.items()}
    label = " ".join(["ours", *sorted(options.set)])
    if not options.report:
        tasks = make_tasks(options, parameters, label)
        run_tasks(tasks, checkpoint, options)
    write(checkpoint, options, label)


if __name__ == "__main__":
    main()
