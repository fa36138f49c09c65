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
import os
import pickle
import time
import warnings

import numpy as np
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    load_mnist,
    markdown_table,
    write_report,
)

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
        "settings": settings(options),
        "rng": np.random.default_rng(options.seed),
        "seconds": 0.0,
        "finished": False,
        "curve": [],
    }


def settings(options):
    """Return what defines a run: a checkpoint of other settings is not resumed."""
    names = ("model", "minutes", "threads", "batch", "learning_rate", "gradient")
    names += ("seed", "train_rows", "test_rows")
    return {name: getattr(options, name) for name in names}


def save_state(state, path):
    """Write the state so that an interruption leaves the old or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(pickle.dumps(state))
    temporary.replace(path)


def load_state(path, options):
    """Return the state of an interrupted run, or a new one."""
    if options.fresh or not path.exists():
        return new_state(options)
    state = pickle.loads(path.read_bytes())
    if state["settings"] != settings(options):
        raise SystemExit(
            f"The checkpoint of '{path.stem}' has settings {state['settings']}. "
            "Give these, another --name, or --fresh."
        )
    return state


def learning_rate(options, fraction, first_pass):
    """Return the rate at a fraction of the budget: cosine down to a fiftieth."""
    if first_pass:
        return options.learning_rate / 10
    fraction = min(fraction, 1.0)
    return options.learning_rate * (
        0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction))
    )


def mean_nll(model, X, n_draws):
    """Return the importance-weighted estimate of the mean of -log p(x), in nats."""
    return -float(np.mean(model.evidence(X, n_draws=n_draws), dtype=np.float64))


def train(state, grey, test, options, path):
    """Train until the budget is spent; the state is changed and saved in place."""
    model, curve = state["model"], state["curve"]
    budget = 60 * options.minutes
    before = state["seconds"]
    start = saved = time.perf_counter()
    longest = 0.0
    while state["seconds"] + longest <= budget:
        began = time.perf_counter()
        rate = learning_rate(options, state["seconds"] / budget, not curve)
        model.set_params(learning_rate_init=rate)
        X = binarise(grey, state["rng"])
        if not curve:
            # Constant columns are left out of a model, and would then cost nothing
            # at test: one white and one black image make every pixel vary.
            X[0], X[1] = 1, 0
        model.partial_fit(X)
        longest = max(longest, time.perf_counter() - began) if curve else 0.0
        point = {"pass": len(curve) + 1, "learning_rate": rate}
        point["objective"] = -float(model.loss_curve_[-1])
        last = time.perf_counter() - start + before + longest > budget
        if len(curve) % options.every == 0 or last:
            point["nll"] = mean_nll(model, test[:CURVE_ROWS], CURVE_DRAWS)
        now = time.perf_counter()
        state["seconds"] = before + now - start
        point["minutes"] = state["seconds"] / 60
        curve.append(point)
        if "nll" in point:
            print(
                f"pass {point['pass']:4d}  {point['minutes']:6.2f} min  "
                f"rate {rate:.1e}  objective {point['objective']:9.3f}  "
                f"test NLL ({CURVE_DRAWS} draws) {point['nll']:8.3f}",
                flush=True,
            )
        if now - saved > 60 * options.checkpoint_minutes:
            save_state(state, path)
            saved = now
    state["finished"] = True
    save_state(state, path)


def final_nll(model, test, options, checkpoint):
    """Return the test NLL by chunks, each kept in the checkpoint, and its seconds."""
    total, seconds = 0.0, 0.0
    for first in range(0, len(test), CHUNK):
        key = ("chunk", options.name, options.draws, first)
        if key not in checkpoint:
            start = time.perf_counter()
            rows = test[first : first + CHUNK]
            value = mean_nll(model, rows, options.draws) * len(rows)
            checkpoint.put(key, [value, time.perf_counter() - start])
        value, duration = checkpoint.get(key)
        total, seconds = total + value, seconds + duration
        done = min(first + CHUNK, len(test))
        if done % (10 * CHUNK) == 0 or done == len(test):
            print(
                f"{done:6,d} test rows, {options.draws:,} draws: NLL "
                f"{total / done:.3f}, {seconds / 60:.1f} min",
                flush=True,
            )
    return total / len(test), seconds


def report_lines(results):
    """Return the Markdown lines of every finished run: figures, then the curves."""
    rows, lines = [], []
    for name, result in results.items():
        chosen = result["settings"]
        model = chosen["model"]
        paper, rerun = PUBLISHED[model]
        met = "met" if result["nll"] <= TARGETS[model] else "NOT met"
        training = f"{result['minutes']:.1f}"
        estimate = f"{result['final_minutes']:.1f}"
        cost = (training, chosen["threads"], len(result["curve"]), estimate)
        figures = (result["nll"], TARGETS[model], met, paper, rerun)
        rows.append([name, *figures, *cost, result["draws"]])
    header = ["run", "test NLL", "target", "verdict", "paper", "re-run"]
    header += ["minutes", "threads", "passes", "estimate, min", "draws"]
    lines += ["## Test negative log-likelihood, nats an image", ""]
    lines += [*markdown_table(header, rows, 2), ""]
    for name, result in results.items():
        points = [point for point in result["curve"] if "nll" in point]
        shown = points[:: max(1, len(points) // 20)]
        shown += [] if shown[-1] is points[-1] else [points[-1]]
        keys = ("pass", "minutes", "objective", "nll")
        rows = [[str(point["pass"]), *(point[k] for k in keys[1:])] for point in shown]
        title = f"test NLL, {CURVE_DRAWS} draws, {CURVE_ROWS:,} rows"
        lines += [f"## Curve of {name}", "", f"Settings: `{result['settings']}`", ""]
        lines += [*markdown_table([*keys[:2], "train objective", title], rows, 2), ""]
    return lines


def draw_curves(results, path):
    """Save a picture of the test curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        points = [point for point in result["curve"] if "nll" in point]
        axes.plot(
            [point["minutes"] for point in points],
            [point["nll"] for point in points],
            label=f"{name}: {result['nll']:.2f} at the end",
        )
    axes.set(xlabel="minutes", ylabel="test NLL (nats an image)", ylim=(80, 110))
    axes.legend()
    figure.savefig(path, dpi=120)


def parse_arguments():
    """Return the command line's options."""
    parser = argument_parser("mnist_nll", __doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=list(MODELS), default="vae")
    parser.add_argument("--minutes", type=float, default=40.0, help="training budget")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gradient", default="pathwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=5000, help="final estimate")
    parser.add_argument("--every", type=int, default=10, help="passes between points")
    parser.add_argument("--checkpoint-minutes", type=float, default=3.0)
    parser.add_argument("--train-rows", type=int, default=50_000)
    parser.add_argument("--test-rows", type=int, default=10_000)
    parser.add_argument("--name", help="name of the run (default: the model)")
    parser.add_argument("--fresh", action="store_true", help="do not resume")
    parser.add_argument("--picture", action="store_true", help="draw the curves")
    options = parser.parse_args()
    options.name = options.name or options.model
    return options


def main():
    """Train within the budget, estimate, and report every finished run."""
    options = parse_arguments()
    import torch

    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    path = cache_path(f"mnist_nll_{options.name}.pkl")
    # The chunks belong to one trained model, so they live and die with its state.
    chunks = path.with_suffix(".jsonl")
    if options.fresh:
        chunks.unlink(missing_ok=True)
    state = load_state(path, options)
    grey, test = load_data(options)
    if not state["finished"]:
        train(state, grey, test, options, path)
    nll, seconds = final_nll(state["model"], test, options, Checkpoint(chunks))

    finished = Checkpoint(cache_path("mnist_nll.jsonl"))
    report = environment()
    report["load average"] = f"{os.getloadavg()[0]:.1f}"
    result = {
        "settings": settings(options),
        "nll": nll,
        "draws": options.draws,
        "minutes": state["seconds"] / 60,
        "final_minutes": seconds / 60,
        "curve": state["curve"],
        "environment": report,
    }
    finished.put((options.name,), result)
    results = {key[0]: value for key, value in finished.records.items()}
    lines = ["# MNIST likelihood", "", __doc__.split("\n\n", 1)[1].strip(), ""]
    lines += [*environment_lines(report), "", *report_lines(results)]
    write_report(options.output, lines, results)
    if options.picture:
        draw_curves(results, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
