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

import itertools
import statistics
import time
import warnings

import numpy as np
from harness import report
from harness.cache import version
from harness.peers.loops import METHODS, SLOW, layer_shapes
from harness.processes import Processes, answer
from harness.run import Run, read_options

# Inputs, hidden sizes, latents -> rows of an epoch, epochs timed by the fast methods.
NETWORKS = {(30, 128, 128, 8): (20480, 8), (784, 200, 200, 50): (5120, 4)}
BATCHES = (256, 1024)
THREADS = (1, 2)
TARGET = {"network": [30, 128, 128, 8], "batch": 256, "ratio": 2.5}
TRANSFORM_ROWS, TRANSFORM_TARGET = 200_000, 500_000
MEMORY_SHAPE, MEMORY_TARGET = (1_000_000, 30), 3.0
HEADER = ["network, batch, threads", "method", "epoch, ms"]
HEADER += ["/ bound", "/ loop", "set-up, ms"]


# Workers: each runs in a process of its own and returns a JSON-able dict


def epoch_times(network, batch, repeats):
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


def transform_times(repeats):
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


def memory_of_fit():
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


WORKERS = {"epoch": epoch_times, "transform": transform_times, "memory": memory_of_fit}


def work(kind, threads, arguments):
    """Return the result of a worker."""
    if kind != "memory":
        import torch

        torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # a fit of so few epochs warns
    return WORKERS[kind](**arguments)


def epoch_rows(cell):
    """Return table rows: seconds, ratios and set-up of every method."""
    rows, times = [], cell["result"]
    network = tuple(cell["arguments"]["network"])
    label = f"{network}, {cell['arguments']['batch']}, {cell['threads']}"
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
        epoch = 1e3 * statistics.median(seconds)
        rows.append([label, name, epoch, *ratios, setup])
    return rows


def epoch_target_lines(cell):
    """Return the target on the time of an epoch, if the case is that of the target."""
    given = cell["arguments"]
    if any(given[name] != TARGET[name] for name in ("network", "batch")):
        return []
    rows = epoch_rows(cell)
    _, _, _, over_bound, over_loop, _ = next(row for row in rows if row[1] == "ours")
    met = over_bound <= TARGET["ratio"] and over_loop <= 1
    return [
        f"- {cell['threads']} thread(s): ours {over_bound:.2f} x the bound (target "
        f"{TARGET['ratio']}), {over_loop:.2f} x the hand-written loop "
        f"(target 1): {report.VERDICTS[met]}"
    ]


def transform_line(cell):
    """Return the target on ``transform``."""
    value = cell["result"]
    speed = TRANSFORM_ROWS / statistics.median(value["transform"])
    bound = TRANSFORM_ROWS / statistics.median(value["products"])
    return (
        f"- transform, 30 columns, {cell['threads']} thread(s): {speed:,.0f} rows/s "
        f"(target {TRANSFORM_TARGET:,}; matrix products alone {bound:,.0f}): "
        f"{report.VERDICTS[speed >= TRANSFORM_TARGET]}"
    )


def memory_line(cell):
    """Return the target on the memory."""
    value = cell["result"]
    ratio = value["above_idle"] / value["data"]
    used = value["above_used"] / value["data"]
    return (
        f"- fit of {MEMORY_SHAPE[0]:,} x {MEMORY_SHAPE[1]} float32 "
        f"({value['data'] / 1e6:.0f} MB), one epoch, {value['seconds']:.1f} s, "
        f"{cell['threads']} thread(s): peak "
        f"{value['above_idle'] / 1e6:.0f} MB above the process with the "
        f"libraries imported, {ratio:.2f} x the data (target {MEMORY_TARGET}; "
        f"{used:.2f} x above the process that has fitted a small table); "
        f"{value['above_holding'] / 1e6:.0f} MB above the process that holds "
        f"the data: {report.VERDICTS[ratio <= MEMORY_TARGET]}"
    )


def page(raw):
    cells = {kind: [] for kind in WORKERS}
    for cell in raw["cells"]:
        cells[cell["kind"]].append(cell)
    targets = [line for cell in cells["epoch"] for line in epoch_target_lines(cell)]
    targets += map(transform_line, cells["transform"])
    targets += map(memory_line, cells["memory"])
    rows = [row for cell in cells["epoch"] for row in epoch_rows(cell)]
    return report.blocks(
        "# Speed and memory",
        report.prose(__doc__),
        report.items(raw, f"repetitions: {raw['repeats']}"),
        "## One epoch",
        report.table(HEADER, rows, 2),
        "## Targets",
        targets,
    )


def make_jobs(options):
    """Return kind, threads and arguments of every job."""
    repeats = {"repeats": options.repeats}
    networks = [n for n in NETWORKS if n[0] in options.network]
    jobs = []
    for threads in options.threads:
        for network, batch in itertools.product(networks, options.batch):
            arguments = {"network": network, "batch": batch, **repeats}
            jobs.append(("epoch", threads, arguments))
        jobs.append(("transform", threads, repeats))
    jobs.append(("memory", options.threads[0], {}))
    return [job for job in jobs if job[0] in options.kinds]


def main():
    if answer(work):
        return
    options = read_options(
        __doc__,
        repeats=7,
        threads=list(THREADS),
        batch=list(BATCHES),
        network=[network[0] for network in NETWORKS],
        kinds=list(WORKERS),
    )
    run, processes, cells = Run(options), Processes(), []
    # The times of the peers count within a repetition alone: they are run with ours.
    packages = version("scikit-learn", "skorch")
    for kind, threads, arguments in make_jobs(options):
        job = {"kind": kind, "threads": threads, "arguments": arguments}

        def compute(job=job):
            return processes.result(job, threads=job["threads"])

        result = run.cell(
            *(kind, kind, "ours", None, compute), job=job, packages=packages
        )
        cells += [{**job, "result": result}] if result else []
    report.publish(options, cells=cells)


if __name__ == "__main__":
    main()
