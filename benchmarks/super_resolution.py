"""Super-resolution and in-painting of small images with VAERegressor.

Every image is reduced by means over blocks, and is to be restored from that. The
reconstructions are the mean of the conditional distribution (``predict``), its centre
(temperature 0), and single draws of the latents at several temperatures. For
in-painting, one model learns the missing pixels of binarised MNIST given one, two or
three observed quadrants. Needs scikit-image.
"""

import time
from typing import NamedTuple

import numpy as np
from harness import report
from harness.cache import digest
from harness.cases import load_images
from harness.metrics import block_means, covered, image_scores
from harness.peers.images import enlarge, regressions
from harness.run import Run, read_options


class Task(NamedTuple):
    factor: int
    n_train: int
    n_test: int
    width: int  # of hidden layers
    epochs: int  # of ours
    mlp_budget: tuple  # most epochs of the MLP, and those without improvement
    first_row: int = 0  # the rows before it served development


TASKS = {
    "mnist": Task(4, 8000, 2000, 512, 25, (60, 8), first_row=10_000),
    "usps": Task(2, 7300, 1998, 256, 40, (300, 20)),
    "frey_faces": Task(2, 1500, 465, 256, 60, (300, 20)),
}
SHAPES = {"mnist": (28, 28), "usps": (16, 16), "frey_faces": (28, 20)}
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)
SSIM_ROWS, INTERVAL_ROWS = 1000, 500
OBSERVED = {0: "none", 1: "lower left", 2: "left half", 3: "all but the upper right"}
NETWORK = {
    "n_components": 32,
    "activation": "silu",
    "learning_rate_init": 2e-3,
    "batch_size": 128,
    "random_state": 0,
}


def load_task(options, name):
    """Return low and high resolution rows in [0, 1] of training, then of test rows."""
    task = TASKS[name]
    rows = load_images(options.data, name)[0][task.first_row :] / 255.0
    order = np.random.default_rng(0).permutation(len(rows))
    high = rows[order[: task.n_train + task.n_test]].astype(np.float32)
    low = block_means(high, SHAPES[name], task.factor)
    cut = task.n_train
    return low[:cut], high[:cut], low[cut:], high[cut:]


def run_task(options, run, name):
    """Return the scores of all methods on one set of images, by method."""
    task, shape = TASKS[name], SHAPES[name]
    split = load_task(options, name)
    low, high, test_low, test_high = split
    case = digest(*split)

    def scores(guess, seconds, **more):
        """Measure one reconstruction of the test images."""
        found = image_scores(test_high, guess, test_low, shape, task.factor, SSIM_ROWS)
        return {**found, "seconds": seconds, **more}

    def resized(order):
        return scores(enlarge(test_low, shape, task.factor, order), 0)

    def regressed(model):
        start = time.perf_counter()
        model.fit(low, high)
        seconds = time.perf_counter() - start
        return scores(model.predict(test_low), seconds)

    models = regressions(task.width, *task.mlp_budget)
    cells = {
        "nearest pixel": (resized, 0),
        "bicubic": (resized, 3),
        **{method: (regressed, model) for method, model in models.items()},
    }
    budget = {"width": task.width, "budget": task.mlp_budget}
    found = {m: run.cell(name, case, m, 0, *c, **budget) for m, c in cells.items()}
    epochs = options.epochs or task.epochs
    arguments = (run_ours, split, shape, task.width, epochs, scores)
    ours = run.cell(name, case, "VAERegressor", 0, *arguments, epochs=epochs)
    found.update(ours or {})
    return {method: value for method, value in found.items() if value}


def run_ours(split, shape, width, epochs, scores):
    """Return the scores of the mean, of the centre and of draws, by their name."""
    from skvae import VAERegressor

    low, high, test_low, test_high = split
    start = time.perf_counter()
    model = VAERegressor(
        **NETWORK, image_shape=shape, hidden_layer_sizes=(width, width), max_iter=epochs
    ).fit(low, high)
    seconds = time.perf_counter() - start
    some = slice(0, INTERVAL_ROWS)
    lower, upper = model.predict_interval(test_low[some])
    # a pixel that is black in every training image needs no interval
    varied = high.std(0) > 0.05
    bounds = (test_high[some], lower, upper)
    log_likelihood = model.score_samples(test_low[some], test_high[some]).mean()
    found = {
        "VAERegressor, mean": scores(
            model.predict(test_low),
            seconds,
            coverage=covered(*bounds),
            coverage_varied=covered(*(values[:, varied] for values in bounds)),
            log_likelihood=float(log_likelihood),
        )
    }
    for temperature in (0.0, *TEMPERATURES):
        draw = model.sample(
            test_low, temperature=temperature, random_state=0, add_noise=False
        )
        name = f"VAERegressor, temperature {temperature:g}"
        found[name] = scores(draw[0], 0.0)
    draw = model.sample(test_low, random_state=0)[0]
    return {**found, "VAERegressor, draw with noise": scores(draw, 0.0)}


def hide_quadrants(images, n_observed):
    """Return images with NaN in the quadrants that are not observed."""
    seen = images.reshape(-1, 28, 28).copy()
    upper, right = slice(0, 14), slice(14, 28)
    if n_observed == 0:
        seen[:] = np.nan
    if n_observed == 1:
        seen[:, upper] = np.nan
    if n_observed <= 2:
        seen[:, :, right] = np.nan
    else:
        seen[:, upper, right] = np.nan
    return seen.reshape(len(images), -1)


def load_inpainting(options, n_test=1000):
    """Return features and outputs of training rows, and whole test images."""
    rng = np.random.default_rng(0)
    n_train = options.inpainting_rows
    rows = load_images(options.data, "mnist")[0][10_000:]
    rows = rows[: n_train + n_test] / 255.0
    images = (rng.random(rows.shape) < rows).astype(np.float32)
    train, test = images[:n_train], images[n_train:]
    n_observed = rng.integers(0, 4, size=n_train)
    X = np.empty_like(train)
    for k in OBSERVED:
        X[n_observed == k] = hide_quadrants(train[n_observed == k], k)
    return X, np.where(np.isnan(X), train, np.nan).astype(np.float32), test


def inpaint(X, y, test, epochs):
    """Learn missing quadrants; return the scores of test images and the seconds."""
    from skvae import VAERegressor

    start = time.perf_counter()
    model = VAERegressor(
        **NETWORK,
        image_shape=(28, 28),
        likelihood="bernoulli",
        hidden_layer_sizes=(512, 512),
        max_iter=epochs,
    ).fit(X, y)
    found = {"seconds": time.perf_counter() - start}
    for k in OBSERVED:
        seen = hide_quadrants(test, k)
        hidden = np.where(np.isnan(seen), test, np.nan).astype(np.float32)
        found[str(k)] = float(model.score_samples(seen, hidden).mean())
    return found


def run_inpainting(options, run):
    """Return the scores of in-painting and its budget."""
    rows, epochs = options.inpainting_rows, options.inpainting_epochs
    split = load_inpainting(options)
    arguments = ("VAERegressor", 0, inpaint, *split, epochs)
    found = run.cell("inpainting", digest(*split), *arguments, epochs=epochs)
    return found and {"rows": rows, "epochs": epochs, **found}


INTRODUCTION = f"""\
PSNR in dB and SSIM are averages over test images (SSIM: the first {SSIM_ROWS}), \
on grey values in [0, 1]; consistency is the RMSE between the reduced output and the \
input.
Seconds are those of the fit, on a machine that did other work as well. All networks \
see the same training rows. Architecture and budget of VAERegressor were set on other \
rows of MNIST; the budget of the MLP was raised once where it had not converged. \
Frames of frey_faces come from one film: test images have near twins in training."""


def task_lines(name, found, epochs):
    """Return the lines of one set of images."""
    task = TASKS[name]
    keys = ("psnr", "ssim", "consistency")
    rows = [
        [method, *(scores[key] for key in keys), round(scores["seconds"])]
        for method, scores in found.items()
    ]
    ours = found.get("VAERegressor, mean")
    return report.blocks(
        f"## {name}, x{task.factor}",
        f"{task.n_train} training and {task.n_test} test images; hidden layers "
        f"({task.width}, {task.width}) in VAERegressor and in the MLP; "
        f"{epochs or task.epochs} epochs of VAERegressor.",
        report.table(["method", "PSNR", "SSIM", "consistency", "seconds"], rows),
        ours
        and f"90% intervals cover {100 * ours['coverage']:.1f}% of all pixels and "
        f"{100 * ours['coverage_varied']:.1f}% of those with a standard deviation "
        f"above 0.05; log p(y given x) is {ours['log_likelihood']:.1f} nats per image.",
    )


def inpainting_lines(found):
    """Return the lines of in-painting."""
    rows = [[str(k), which, -found[str(k)]] for k, which in OBSERVED.items()]
    return report.blocks(
        "## In-painting of binarised MNIST",
        f"One model for all four patterns, {found['rows']} training images, "
        f"{found['epochs']} epochs ({found['seconds']:.0f} s); 1000 test images, "
        "256 importance draws. Negative conditional log-likelihood of the hidden "
        "pixels, nats per image.",
        report.table(["observed quadrants", "which", "VAERegressor"], rows, 2),
    )


def page(raw):
    return report.blocks(
        "# Super-resolution and in-painting",
        report.items(raw),
        INTRODUCTION,
        *(task_lines(*task, raw.get("epochs")) for task in raw["tasks"].items()),
        raw["inpainting"] and inpainting_lines(raw["inpainting"]),
    )


def main():
    options = read_options(
        __doc__,
        tasks=[*TASKS, "inpainting"],
        epochs=0,
        inpainting_rows=8_000,
        inpainting_epochs=12,
    )
    peers = ("nearest pixel", "bicubic", *regressions(1, 1, 1))
    packages = ("scikit-learn", "scikit-image")
    run = Run(options, peers, packages)
    tasks = {n: run_task(options, run, n) for n in TASKS if n in options.tasks}
    inpainting = "inpainting" in options.tasks and run_inpainting(options, run)
    report.publish(options, tasks=tasks, inpainting=inpainting or None)


if __name__ == "__main__":
    main()
