"""Test negative log-likelihood of binarised MNIST, after Burda et al. (2016).

Dynamic binarisation: every pass draws fresh Bernoulli pixels from the grey values;
the test images are drawn once. Architecture 784-200-200-50, tanh, mirrored decoder,
one stochastic layer. 50,000 images train, 10,000 test, both from the official
training set. The test figure is the importance-weighted estimate with 5,000 samples
an image. Where the protocol departs from the paper: the learning rate follows a
cosine over a budget of minutes (a tenth of it in the first pass) instead of 3,280
passes in eight stages, and batches are larger.

    python benchmarks/mnist_nll.py --model vae --minutes 40 --threads 1

An interrupted run resumes when the same command is given again. The budget holds the
training and the estimates along the curve; the final estimate comes on top.
"""

import math
import pickle
import time
import warnings

import numpy as np
from harness import report
from harness.cache import OURS, Cache, cache_path, digest, version
from harness.cases import load_mnist
from harness.run import read_options

MODELS = {
    "vae": {"objective": "elbo", "n_draws": 1},
    "iwae5": {"objective": "iwae", "n_draws": 5},
}
TARGETS = {"vae": 87.8, "iwae5": 85.6}
# Dynamic binarisation, one stochastic layer: the paper, and a published re-run.
PUBLISHED = {"vae": (86.76, 87.75), "iwae5": (85.54, 85.50)}
CURVE_ROWS, CURVE_DRAWS = 2000, 50
CHUNK = 250


def binarise(grey, rng):
    """Draw Bernoulli pixels with the grey values as probabilities, as float32."""
    return (rng.random(grey.shape, dtype=np.float32) < grey).astype(np.float32)


def load_data(options):
    """Return grey training rows, and test rows binarised once, both float32."""
    images = load_mnist(options.data)[0]
    grey = images[: options.train_rows].astype(np.float32) / 255
    test = images[-options.test_rows :].astype(np.float32) / 255
    return grey, binarise(test, np.random.default_rng(options.seed + 1))


def new_state(options):
    """Return the state of a run that has not started."""
    from skvae import VAETransformer

    model = VAETransformer(
        n_components=50,
        hidden_layer_sizes=(200, 200),
        activation="tanh",
        likelihood="bernoulli",
        gradient=options.gradient,
        batch_size=options.batch,
        random_state=options.seed,
        **MODELS[options.model],
    )
    return {
        "model": model,
        "rng": np.random.default_rng(options.seed),
        "seconds": 0.0,
        "finished": False,
        "curve": [],
    }


def settings(options):
    """Return what defines a run."""
    names = ("model", "minutes", "threads", "batch", "learning_rate", "gradient")
    names += ("seed", "train_rows", "test_rows")
    return {name: getattr(options, name) for name in names}


def save_state(state, path):
    """Write the state so that an interruption leaves the old or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(pickle.dumps(state))
    temporary.replace(path)


def learning_rate(options, fraction, first_pass):
    """Return the rate at a fraction of the budget: cosine down to a fiftieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return options.learning_rate * (0.1 if first_pass else 0.02 + 0.98 * cosine)


def mean_nll(model, X, n_draws):
    """Return the importance-weighted estimate of the mean of -log p(x), in nats."""
    return -float(np.mean(model.score_samples(X, n_draws=n_draws), dtype=np.float64))


def train_pass(state, grey, options):
    """Train for one pass over fresh pixels; return what is known of it."""
    model, curve = state["model"], state["curve"]
    fraction = state["seconds"] / (60 * options.minutes)
    rate = learning_rate(options, fraction, not curve)
    model.set_params(learning_rate_init=rate)
    X = binarise(grey, state["rng"])
    if not curve:
        # Constant columns are left out of a model, and would then cost nothing
        # at test: one white and one black image make every pixel vary.
        X[0], X[1] = 1, 0
    model.partial_fit(X)
    objective = -float(model.loss_curve_[-1])
    return {"pass": len(curve) + 1, "learning_rate": rate, "objective": objective}


def train(state, grey, test, options, path):
    """Train until the budget is spent; the state is changed and saved in place."""
    curve, budget = state["curve"], 60 * options.minutes
    start = time.perf_counter() - state["seconds"]
    longest = 0.0
    while state["seconds"] + longest <= budget:
        began = time.perf_counter()
        point = train_pass(state, grey, options)
        longest = max(longest, time.perf_counter() - began) if curve else 0.0
        last = time.perf_counter() - start + longest > budget
        if len(curve) % options.every == 0 or last:
            point["nll"] = mean_nll(state["model"], test[:CURVE_ROWS], CURVE_DRAWS)
        state["seconds"] = time.perf_counter() - start
        point["minutes"] = state["seconds"] / 60
        curve.append(point)
        if "nll" in point:
            print({key: round(value, 5) for key, value in point.items()}, flush=True)
            save_state(state, path)
    state["finished"] = True
    save_state(state, path)


def final_nll(model, test, options, chunks):
    """Return the test NLL by chunks, each kept in a cache, and its seconds."""
    total, seconds = 0.0, 0.0
    for first in range(0, len(test), CHUNK):
        rows = test[first : first + CHUNK]
        key = (options.draws, first, len(rows))
        if key not in chunks:
            start = time.perf_counter()
            value = mean_nll(model, rows, options.draws) * len(rows)
            chunks.put(key, [value, time.perf_counter() - start])
        value, duration = chunks.get(key)
        total, seconds = total + value, seconds + duration
        done = first + len(rows)
        print(f"{done:,} test rows: NLL {total / done:.3f}", flush=True)
    return total / len(test), seconds


def figure_lines(runs):
    """Return the table of the figures of all runs."""
    rows = []
    for name, result in runs.items():
        model = result["settings"]["model"]
        met = report.VERDICTS[result["nll"] <= TARGETS[model]]
        training = f"{result['minutes']:.1f}"
        estimate = f"{result['final_minutes']:.1f}"
        threads, passes = result["settings"]["threads"], len(result["curve"])
        figures = (result["nll"], TARGETS[model], met, *PUBLISHED[model])
        cost = (training, threads, passes, estimate)
        rows.append([name, *figures, *cost, result["draws"]])
    header = ["run", "test NLL", "target", "verdict", "paper", "re-run"]
    header += ["minutes", "threads", "passes", "estimate, min", "draws"]
    return report.table(header, rows, 2)


def curve_lines(name, result):
    """Return the curve of a run, about 20 points of it."""
    points = [point for point in result["curve"] if "nll" in point]
    shown = points[:: max(1, len(points) // 20)]
    shown += [] if shown[-1] is points[-1] else [points[-1]]
    keys = ("minutes", "objective", "nll")
    rows = [[str(point["pass"]), *(point[key] for key in keys)] for point in shown]
    title = f"test NLL, {CURVE_DRAWS} draws, {CURVE_ROWS:,} rows"
    return report.blocks(
        f"## Curve of {name}",
        f"Settings: `{result['settings']}`",
        report.table(["pass", "minutes", "train objective", title], rows, 2),
    )


def page(raw):
    return report.blocks(
        "# MNIST likelihood",
        report.prose(__doc__),
        report.items(raw),
        "## Test negative log-likelihood, nats an image",
        figure_lines(raw["runs"]),
        *(curve_lines(name, result) for name, result in raw["runs"].items()),
    )


def parse_arguments():
    """Return the command line's options; the name of a run is by default its model."""
    options = read_options(
        __doc__,
        model="vae",
        minutes=40.0,
        threads=1,
        batch=128,
        learning_rate=1e-3,
        gradient="pathwise",
        seed=0,
        draws=5000,
        every=10,  # passes between the points of a curve
        train_rows=50_000,
        test_rows=10_000,
        name=None,
    )
    options.name = options.name or options.model
    return options


def main():
    """Train within the budget, estimate, and add the run to the raw figures."""
    options = parse_arguments()
    import torch

    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # A run of other settings or sources is not resumed.
    identity = digest(settings(options), version(*OURS))
    path = cache_path(f"mnist_nll_{options.name}_{identity}.pkl")
    # The chunks belong to one trained model, so they live and die with its state.
    chunks = path.with_suffix(".jsonl")
    if options.rerun:
        chunks.unlink(missing_ok=True)
    resumes = path.exists() and not options.rerun
    state = pickle.loads(path.read_bytes()) if resumes else new_state(options)
    grey, test = load_data(options)
    if not state["finished"]:
        train(state, grey, test, options, path)
    nll, seconds = final_nll(state["model"], test, options, Cache(chunks))
    runs = (report.read_raw(options.output) or {}).get("runs", {})
    runs.pop(options.name, None)
    runs[options.name] = {
        "settings": settings(options),
        "nll": nll,
        "draws": options.draws,
        "minutes": state["seconds"] / 60,
        "final_minutes": seconds / 60,
        "curve": state["curve"],
        "environment": report.environment(),
    }
    report.publish(options, runs=runs)


if __name__ == "__main__":
    main()
