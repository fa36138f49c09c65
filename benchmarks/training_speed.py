"""Speed and memory of VAETransformer.fit and transform against plain loops.

Seconds of one epoch, for one and two threads, two batch sizes and two networks
(inputs, hidden, hidden, latents; encoder and mirrored decoder, ReLU, Adam, Normal
likelihood with a learned scale per column). The methods take turns in every
repetition; medians over the repetitions are reported, and medians of the ratios
within a repetition. Where a method has only ``fit``, an epoch is the difference of a
long and a short fit, divided by the difference of their epochs; what remains of the
short fit is its set-up.

The bound is the matrix products of a training step alone: forward, gradient of the
weights, and gradient of the inputs except for the first layer.
"""

import json
import os
import statistics
import subprocess
import sys
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
from _training_methods import METHODS, SLOW, layer_shapes

# Inputs, hidden sizes, latents -> rows of an epoch, epochs timed by the fast methods.
NETWORKS = {(30, 128, 128, 8): (20480, 8), (784, 200, 200, 50): (5120, 4)}
BATCHES = (256, 1024)
THREADS = (1, 2)
TARGET = {"network": (30, 128, 128, 8), "batch": 256, "ratio": 2.5}
TRANSFORM_ROWS, TRANSFORM_TARGET = 200_000, 500_000
MEMORY_SHAPE, MEMORY_TARGET = (1_000_000, 30), 3.0


# Workers: each runs in a process of its own and returns a JSON-able dict


def epoch_worker(network, batch, repeats):
    """Return the seconds of every repetition of every method, interleaved."""
    network = tuple(network)
    rows, n_epochs = NETWORKS[network]
    X = np.random.default_rng(0).standard_normal((rows, network[0]), dtype=np.float32)
    timers = {
        name: build(network, X, batch, 1 if name in SLOW else n_epochs)
        for name, build in METHODS.items()
    }
    for timer in timers.values():
        timer()  # the first call pays for lazy imports and allocation
    times = {name: [] for name in timers}
    for _ in range(repeats):
        for name, timer in timers.items():
            times[name].append(timer())
    return times


def transform_worker(repeats):
    """Return the seconds of ``transform`` and of the encoder's matrix products."""
    import torch

    from skvae import VAETransformer

    n_features = 30
    rng = np.random.default_rng(0)
    X = rng.standard_normal((TRANSFORM_ROWS, n_features), dtype=np.float32)
    model = VAETransformer(8, likelihood="normal", max_iter=1, random_state=0)
    model.fit(X[:20480])
    layers = [torch.randn(shape) for shape in layer_shapes((30, 128, 128, 8))[:3]]

    def products():
        for start in range(0, len(X), 4096):
            hidden = torch.from_numpy(X[start : start + 4096])
            for weight in layers:
                hidden = hidden @ weight

    times = {"transform": [], "products": []}
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model.transform(X)
        middle = time.perf_counter()
        products()
        times["transform"].append(middle - start)
        times["products"].append(time.perf_counter() - middle)
    return {name: values[1:] for name, values in times.items()}


def memory_bytes():
    """Return (resident, highest resident) bytes of this process.

    The high-water mark of ``getrusage`` survives ``exec`` on Linux and would include
    the parent process, so /proc is read; this benchmark needs Linux.
    """
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return tuple(1024 * int(status[key].split()[0]) for key in ("VmRSS", "VmHWM"))


def memory_worker():
    """Return the memory of one epoch of ``fit`` on the large table, in bytes."""
    import skorch  # noqa: F401  (part of the idle process)
    import torch  # noqa: F401

    from skvae import VAETransformer

    idle = memory_bytes()[0]
    rng = np.random.default_rng(0)
    # torch imports a part of itself (about 100 MB) with the first optimizer
    small = rng.standard_normal((1000, MEMORY_SHAPE[1]), dtype=np.float32)
    VAETransformer(max_iter=1, random_state=0).fit(small)
    used = memory_bytes()[0]
    X = rng.standard_normal(MEMORY_SHAPE, dtype=np.float32)
    holding = memory_bytes()[0]
    start = time.perf_counter()
    VAETransformer(max_iter=1, random_state=0).fit(X)
    seconds = time.perf_counter() - start
    return {
        "data": X.nbytes,
        "above_idle": memory_bytes()[1] - idle,
        "above_used": memory_bytes()[1] - used,
        "above_holding": memory_bytes()[1] - holding,
        "seconds": seconds,
    }


WORKERS = {
    "epoch": epoch_worker,
    "transform": transform_worker,
    "memory": memory_worker,
}


def run_worker(name, threads, **arguments):
    """Run a worker in a fresh process, as thread counts are global, and return it."""
    job = json.dumps({"name": name, "threads": threads, "arguments": arguments})
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    answer = subprocess.run(
        [sys.executable, __file__, "--worker", job],
        env={**os.environ, **dict.fromkeys(counts, str(threads))},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def worker_main(job):
    """Run the worker described by a JSON string and print its result."""
    job = json.loads(job)
    if job["name"] != "memory":
        import torch

        torch.set_num_threads(job["threads"])
    warnings.simplefilter("ignore")  # a fit of so few epochs warns
    print(json.dumps(WORKERS[job["name"]](**job["arguments"])))


# Report


def epoch_lines(network, batch, threads, times):
    """Return table rows: seconds, ratios and set-up of every method."""
    rows = []
    for name, values in times.items():
        seconds = [value[0] for value in values]
        ratios = [
            statistics.median(
                mine / other[0] for mine, other in zip(seconds, base, strict=True)
            )
            for base in (times["bound"], times["loop"])
        ]
        setups = [value[1] for value in values if value[1] is not None]
        setup = 1e3 * statistics.median(setups) if setups else None
        label = f"{network}, {batch}, {threads}"
        epoch = 1e3 * statistics.median(seconds)
        rows.append([label, name, epoch, *ratios, setup])
    return rows


def report_lines(results):
    """Return the Markdown lines of all finished results."""
    rows, targets, other = [], [], []
    for key, value in results.items():
        if key[0] == "epoch":
            network, batch, threads = tuple(key[1]), key[2], key[3]
            mine = epoch_lines(network, batch, threads, value)
            rows += mine
            _, _, _, over_bound, over_loop, _ = next(r for r in mine if r[1] == "ours")
            if (network, batch) == (TARGET["network"], TARGET["batch"]):
                met = over_bound <= TARGET["ratio"] and over_loop <= 1
                targets.append(
                    f"- {threads} thread(s): ours {over_bound:.2f} x the bound (target "
                    f"{TARGET['ratio']}), {over_loop:.2f} x the hand-written loop "
                    f"(target 1): {'met' if met else 'NOT met'}"
                )
        elif key[0] == "transform":
            speed = TRANSFORM_ROWS / statistics.median(value["transform"])
            bound = TRANSFORM_ROWS / statistics.median(value["products"])
            other.append(
                f"- transform, 30 columns, {key[1]} thread(s): {speed:,.0f} rows/s "
                f"(target {TRANSFORM_TARGET:,}; matrix products alone {bound:,.0f}): "
                f"{'met' if speed >= TRANSFORM_TARGET else 'NOT met'}"
            )
        else:
            ratio = value["above_idle"] / value["data"]
            used = value["above_used"] / value["data"]
            other.append(
                f"- fit of {MEMORY_SHAPE[0]:,} x {MEMORY_SHAPE[1]} float32 "
                f"({value['data'] / 1e6:.0f} MB), one epoch, {value['seconds']:.1f} s, "
                f"{key[1]} thread(s): peak "
                f"{value['above_idle'] / 1e6:.0f} MB above the process with the "
                f"libraries imported, {ratio:.2f} x the data (target {MEMORY_TARGET}; "
                f"{used:.2f} x above the process that has fitted a small table); "
                f"{value['above_holding'] / 1e6:.0f} MB above the process that holds "
                f"the data: {'met' if ratio <= MEMORY_TARGET else 'NOT met'}"
            )
    header = ["network, batch, threads", "method", "epoch, ms"]
    table = markdown_table([*header, "/ bound", "/ loop", "set-up, ms"], rows, 2)
    return ["## One epoch", "", *table, "", "## Targets", "", *targets, *other]


def parse_arguments():
    """Return the command line's options."""
    parser = argument_parser("training_speed", __doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=list(THREADS))
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument(
        "--network", type=int, nargs="+", choices=[30, 784], default=[30, 784]
    )
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--worker", help="internal: a job as JSON")
    return parser.parse_args()


def main():
    """Run what is missing, then write the report."""
    options = parse_arguments()
    if options.worker:
        return worker_main(options.worker)
    path = cache_path("training_speed.jsonl")
    if options.fresh:
        path.unlink(missing_ok=True)
    checkpoint = Checkpoint(path)
    jobs = {}
    for threads in options.threads:
        for network in (n for n in NETWORKS if n[0] in options.network):
            for batch in options.batch:
                arguments = {"network": network, "batch": batch}
                jobs["epoch", network, batch, threads] = arguments
        jobs["transform", threads] = {}
    jobs["memory", options.threads[0]] = {}
    results = {}
    for key, arguments in jobs.items():
        flat = [str(word) for word in key]
        if flat not in checkpoint:
            if key[0] != "memory":
                arguments = {**arguments, "repeats": options.repeats}
            checkpoint.put(flat, run_worker(key[0], key[-1], **arguments))
            print(*key, flush=True)
        results[key] = checkpoint.get(flat)

    report = environment()
    report["load average"] = f"{os.getloadavg()[0]:.1f}"
    lines = ["# Speed and memory", "", __doc__.split("\n\n", 1)[1].strip(), ""]
    lines += [*environment_lines(report), f"- repetitions: {options.repeats}", ""]
    lines += report_lines(results)
    named = {" ".join(map(str, key)): value for key, value in results.items()}
    write_report(options.output, lines, {"environment": report, "results": named})


if __name__ == "__main__":
    main()
