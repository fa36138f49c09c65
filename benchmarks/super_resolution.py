"""Super-resolution and in-painting of small images with VAERegressor.

Every image is reduced by means over blocks, and is to be restored from that. The
reconstructions are the mean of the conditional distribution (``predict``), its centre
(temperature 0), and single draws of the latents at several temperatures. For
in-painting, one model learns the missing pixels of binarised MNIST given one, two or
three observed quadrants.

    python benchmarks/super_resolution.py

An interrupted run resumes when the same command is given again. Needs scikit-image.
"""

import time
import warnings

import numpy as np
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    load_images,
    markdown_table,
    write_report,
)

# factor, training rows, test rows, hidden width, epochs of ours
TASKS = {
    "mnist": (4, 8000, 2000, 512, 25),
    "usps": (2, 7300, 1998, 256, 40),
    "frey_faces": (2, 1500, 465, 256, 60),
}
#: Rows of MNIST before this one served development.
FIRST_ROW = {"mnist": 10_000}
#: Most epochs of the MLP, and epochs without improvement after which it stops.
MLP_BUDGET = {"mnist": (60, 8), "usps": (300, 20), "frey_faces": (300, 20)}
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)
SSIM_ROWS = 1000
INTERVAL_ROWS = 500
OBSERVED = {0: "none", 1: "lower left", 2: "left half", 3: "all but the upper right"}
#: Negative conditional log-likelihoods in nats, Sohn, Lee, Yan (2015), table 1.
PUBLISHED = {}


def load_task(options, name):
    """Return low and high resolution rows in [0, 1] of both parts, and the shape."""
    factor, n_train, n_test, _, _ = TASKS[name]
    if name == "mnist":
        rows, shape = load_images(options.data, name)[0] / 255.0, (28, 28)
    else:
        with np.load(options.data / f"{name}.npz") as file:
            rows, shape = file["x"] / 255.0, file["x"].shape[1:]
        rows = rows.reshape(len(rows), -1)
    rows = rows[FIRST_ROW.get(name, 0) :]
    order = np.random.default_rng(0).permutation(len(rows))
    high = rows[order[: n_train + n_test]].astype(np.float32)
    low = reduce_images(high, shape, factor)
    return low[:n_train], high[:n_train], low[n_train:], high[n_train:], shape


def reduce_images(rows, shape, factor):
    """Return the means over blocks of factor x factor pixels."""
    height, width = shape
    blocks = rows.reshape(-1, height // factor, factor, width // factor, factor)
    return blocks.mean((2, 4)).reshape(len(rows), -1)


def measure(truth, guess, low, shape, factor):
    """Return PSNR and SSIM, averaged over images, and the consistency RMSE."""
    from skimage.metrics import structural_similarity

    guess = np.clip(guess, 0, 1)
    error = np.square(truth - guess).mean(1)
    similarity = [
        structural_similarity(a.reshape(shape), b.reshape(shape), data_range=1.0)
        for a, b in zip(truth[:SSIM_ROWS], guess[:SSIM_ROWS], strict=True)
    ]
    reduced = reduce_images(guess, shape, factor)
    return {
        "psnr": float(-10 * np.log10(np.maximum(error, 1e-10)).mean()),
        "ssim": float(np.mean(similarity)),
        "consistency": float(np.sqrt(np.square(reduced - low).mean())),
    }


def enlarge(low, shape, factor, order):
    from skimage.transform import resize

    small = low.reshape(-1, shape[0] // factor, shape[1] // factor)
    return np.stack([resize(image, shape, order=order) for image in small]).reshape(
        len(low), -1
    )


def peers(width, epochs, patience):
    """Return the regressions, a dict of name to estimator."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor

    return {
        "ridge": RidgeCV(np.logspace(-3, 3, 7)),
        "nearest neighbours": KNeighborsRegressor(),
        # as in scikit-learn's example of face completion
        "extra trees": ExtraTreesRegressor(
            n_estimators=10, max_features=32, random_state=0
        ),
        "MLP regression": MLPRegressor(
            hidden_layer_sizes=(width, width),
            early_stopping=True,
            max_iter=epochs,
            n_iter_no_change=patience,
            random_state=0,
        ),
    }


def run_task(options, checkpoint, name):
    """Measure all methods on one set of images."""
    factor, _, _, width, epochs = TASKS[name]
    low, high, test_low, test_high, shape = load_task(options, name)

    def record(method, guess, seconds, **more):
        scores = measure(test_high, guess, test_low, shape, factor)
        scores.update(seconds=seconds, **more)
        checkpoint.put((name, method), scores)
        print(name, method, scores, flush=True)

    for method, order in (("nearest pixel", 0), ("bicubic", 3)):
        if (name, method) not in checkpoint:
            record(method, enlarge(test_low, shape, factor, order), 0.0)
    for method, model in peers(width, *MLP_BUDGET[name]).items():
        if (name, method) not in checkpoint:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(low, high)
            seconds = time.perf_counter() - started
            record(method, model.predict(test_low), seconds)
    if (name, "VAERegressor, draw with noise") not in checkpoint:
        run_ours(name, low, high, test_low, test_high, shape, width, epochs, record)


def run_ours(name, low, high, test_low, test_high, shape, width, epochs, record):
    from skvae import VAERegressor

    started = time.perf_counter()
    model = VAERegressor(
        32,
        image_shape=shape,
        hidden_layer_sizes=(width, width),
        activation="silu",
        learning_rate_init=2e-3,
        batch_size=128,
        max_iter=epochs,
        random_state=0,
    ).fit(low, high)
    seconds = time.perf_counter() - started
    some = slice(0, INTERVAL_ROWS)
    lower, upper = model.predict_interval(test_low[some])
    inside = (lower <= test_high[some]) & (test_high[some] <= upper)
    # a pixel that is black in every training image needs no interval
    varied = high.std(0) > 0.05
    score = model.score_samples(test_low[some], test_high[some]).mean()
    record(
        "VAERegressor, mean",
        model.predict(test_low),
        seconds,
        coverage=float(inside.mean()),
        coverage_varied=float(inside[:, varied].mean()),
        log_likelihood=float(score),
    )
    options = {"random_state": 0, "add_noise": False}
    centre = model.sample(test_low, temperature=0.0, **options)[0]
    record("VAERegressor, temperature 0", centre, 0.0)
    for temperature in TEMPERATURES:
        draw = model.sample(test_low, temperature=temperature, **options)[0]
        record(f"VAERegressor, temperature {temperature:g}", draw, 0.0)
    record(
        "VAERegressor, draw with noise", model.sample(test_low, random_state=0)[0], 0.0
    )


# In-painting


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


def run_inpainting(options, checkpoint):
    """Learn missing quadrants of binarised MNIST; score them on test images."""
    from skvae import VAERegressor

    if ("inpainting", "seconds") in checkpoint:
        return
    rng = np.random.default_rng(0)
    n_train, n_test = options.inpainting_rows, 1000
    rows = load_images(options.data, "mnist")[0][10_000:]
    rows = rows[: n_train + n_test] / 255.0
    images = (rng.random(rows.shape) < rows).astype(np.float32)
    train, test = images[:n_train], images[n_train:]
    n_observed = rng.integers(0, 4, size=n_train)
    X = np.empty_like(train)
    for k in OBSERVED:
        X[n_observed == k] = hide_quadrants(train[n_observed == k], k)
    y = np.where(np.isnan(X), train, np.nan).astype(np.float32)
    started = time.perf_counter()
    model = VAERegressor(
        32,
        image_shape=(28, 28),
        likelihood="bernoulli",
        hidden_layer_sizes=(512, 512),
        activation="silu",
        learning_rate_init=2e-3,
        batch_size=128,
        max_iter=options.inpainting_epochs,
        random_state=0,
    ).fit(X, y)
    seconds = time.perf_counter() - started
    for k in OBSERVED:
        seen = hide_quadrants(test, k)
        hidden = np.where(np.isnan(seen), test, np.nan).astype(np.float32)
        score = float(model.score_samples(seen, hidden).mean())
        checkpoint.put(("inpainting", k), score)
        print("inpainting", k, score, flush=True)
    checkpoint.put(("inpainting", "seconds"), seconds)


# Report


def report(options, checkpoint):
    lines = [
        "# Super-resolution and in-painting",
        "",
        *environment_lines(environment()),
        "",
        "PSNR in dB and SSIM are averages over test images (SSIM: the first "
        f"{SSIM_ROWS}), on grey values in [0, 1]; consistency is the RMSE between the "
        "reduced output and the input.",
        "Seconds are those of the fit, on a machine that did other work as well. All "
        "networks see the same training rows. Architecture and budget of VAERegressor "
        "were set on other rows of MNIST; the budget of the MLP was raised once where "
        "it had not converged. Frames of frey_faces come from one film: test images "
        "have near twins in training.",
    ]
    for name, (factor, n_train, n_test, width, epochs) in TASKS.items():
        rows = [
            [
                method,
                *(scores.get(k) for k in ("psnr", "ssim", "consistency")),
                round(scores["seconds"]),
            ]
            for (task, method), scores in checkpoint.records.items()
            if task == name
        ]
        if not rows:
            continue
        lines += ["", f"## {name}, x{factor}", ""]
        lines += [
            f"{n_train} training and {n_test} test images; hidden layers ({width}, "
            f"{width}) in VAERegressor and in the MLP; "
            f"{epochs} epochs of VAERegressor.",
            "",
        ]
        header = ["method", "PSNR", "SSIM", "consistency", "seconds"]
        lines += markdown_table(header, rows)
        ours = checkpoint.get((name, "VAERegressor, mean"))
        if ours:
            lines += [
                "",
                f"90% intervals cover {100 * ours['coverage']:.1f}% of all pixels and "
                f"{100 * ours['coverage_varied']:.1f}% of those with a standard "
                "deviation above 0.05; log p(y given x) is "
                f"{ours['log_likelihood']:.1f} nats per image.",
            ]
    if ("inpainting", "seconds") in checkpoint:
        lines += ["", "## In-painting of binarised MNIST", ""]
        lines += [
            f"One model for all four patterns, {options.inpainting_rows} training "
            f"images, {options.inpainting_epochs} epochs "
            f"({checkpoint.get(('inpainting', 'seconds')):.0f} s); 1000 test images, "
            "256 importance draws. Negative conditional log-likelihood of the hidden "
            "pixels, nats per image.",
            "",
        ]
        header = ["observed quadrants", "which", "VAERegressor", *PUBLISHED]
        rows = [
            [str(k), which, -checkpoint.get(("inpainting", k))]
            + [figures[k] for figures in PUBLISHED.values()]
            for k, which in OBSERVED.items()
        ]
        lines += markdown_table(header, rows, digits=2)
    results = {" / ".join(map(str, k)): v for k, v in checkpoint.records.items()}
    write_report(options.output, lines, results)


def main():
    parser = argument_parser("super_resolution", __doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=[*TASKS, "inpainting"])
    parser.add_argument("--inpainting-rows", type=int, default=8_000)
    parser.add_argument("--inpainting-epochs", type=int, default=12)
    options = parser.parse_args()
    checkpoint = Checkpoint(cache_path("super_resolution.jsonl"))
    for name in options.tasks:
        if name == "inpainting":
            run_inpainting(options, checkpoint)
        else:
            run_task(options, checkpoint, name)
    report(options, checkpoint)


if __name__ == "__main__":
    main()
