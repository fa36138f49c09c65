"""Latent families and gradient estimators on count tables.

Data: the 8 x 8 digits of scikit-learn, whose grey values 0 to 16 are taken as counts,
and a table of counts drawn from topics (1,500 rows, 40 words, 5 topics, shares from
Dirichlet(0.3), 60 words a row on average). A fifth of the rows is held out. Columns are
Poisson; ``max_iter`` is ``--epochs``, and the other parameters are defaults. Times are
CPU time.

1. Families: held-out evidence (``score``: importance-weighted, 256 draws) by family of
   the latent variables, and learned priors. ``n_components`` is 16 for the digits and 5
   for the topics. "topics" is the mean largest correlation between the share of a
   true topic and a latent variable (posterior mean), on held-out rows.
2. Gradients: gamma variables on the digits, the same start, ``--seconds`` of training
   for every estimator, constant learning rate 1e-3; score by epoch on validation
   rows, and the held-out evidence of the weights that scored best.
"""

import math
import time

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

FAMILIES = {
    "normal": {},
    "normal, mixture prior": {"prior": "mixture"},
    "normal, VampPrior": {"prior": "vamp"},
    "lognormal": {"latent": "lognormal"},
    "gamma": {"latent": "gamma"},
    "gamma, prior (0.3, 0.3)": {"latent": "gamma", "prior": (0.3, 0.3)},
    "beta": {"latent": "beta"},
    "dirichlet": {"latent": "dirichlet"},
    "dirichlet, prior 0.3": {"latent": "dirichlet", "prior": (0.3,)},
}
ESTIMATORS = {
    "score, 4 draws": {"gradient": "score", "n_draws": 4},
    "score, RLOO, 4 draws": {"gradient": "rloo", "n_draws": 4},
    "G-REP, 1 draw": {"gradient": "grep"},
    "G-REP, 4 draws": {"gradient": "grep", "n_draws": 4},
    "implicit, 1 draw": {"gradient": "pathwise"},
    "implicit, 4 draws": {"gradient": "pathwise", "n_draws": 4},
    "STL, 1 draw": {"gradient": "stl"},
}
COMPONENTS = {"digits": 16, "topics": 5}


def load(name, seed):
    """Return training rows, held-out rows, and the true shares of the latter."""
    from sklearn.datasets import load_digits

    random = np.random.default_rng(seed)
    if name == "digits":
        X, shares = load_digits().data, None
    else:
        topics = random.dirichlet(np.full(40, 0.15), size=5)
        shares = random.dirichlet(np.full(5, 0.3), size=1_500)
        X = random.poisson(60 * shares @ topics).astype(float)
    order = random.permutation(len(X))
    held_out, rows = np.split(order, [len(X) // 5])
    return X[rows], X[held_out], None if shares is None else shares[held_out]


def topic_correlation(shares, Z):
    """Return the mean over topics of the largest absolute correlation."""
    matrix = np.corrcoef(shares.T, Z.T)[: shares.shape[1], shares.shape[1] :]
    return float(np.abs(matrix).max(1).mean())


def fit_family(data, family, seed, epochs):
    """Return held-out evidence, seconds and the recovery of topics."""
    from skvae import VAETransformer

    X, X_test, shares = load(data, seed)
    start = time.process_time()
    model = VAETransformer(
        COMPONENTS[data],
        likelihood="poisson",
        max_iter=epochs,
        random_state=seed,
        **FAMILIES[family],
    ).fit(X)
    seconds = time.process_time() - start
    topics = (
        None if shares is None else topic_correlation(shares, model.transform(X_test))
    )
    return {"value": model.score(X_test), "seconds": seconds, "topics": topics}


def fit_estimator(estimator, seed, budget):
    """Train for so many seconds; return the curve and the held-out evidence."""
    from skorch.callbacks import Callback

    from skvae import VAETransformer

    class Clock(Callback):
        """Stops the training in time, and records when epochs end."""

        def on_train_begin(self, net, **_):
            self.start, self.times = time.process_time(), []

        def on_epoch_end(self, net, **_):
            self.times.append(time.process_time() - self.start)
            if self.times[-1] > budget:
                raise KeyboardInterrupt

    X, X_test, _ = load("digits", seed)
    clock = Clock()
    model = VAETransformer(
        COMPONENTS["digits"],
        latent="gamma",
        likelihood="poisson",
        learning_rate="constant",
        learning_rate_init=1e-3,
        max_iter=100_000,
        n_iter_no_change=np.inf,
        callbacks=[clock],
        random_state=seed,
        **ESTIMATORS[estimator],
    ).fit(X)
    n = len(model.validation_scores_)
    return {
        "value": model.score(X_test),
        "epochs": n,
        "times": clock.times[:n],
        "scores": model.validation_scores_.tolist(),
    }


def draw_picture(curves, path):
    """Draw the validation score over time, the first seed of each estimator."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    ax = figure.subplots()
    lowest = min(max(c["scores"]) for c in curves.values())
    highest = max(max(c["scores"]) for c in curves.values())
    for name, curve in curves.items():
        ax.plot(curve["times"], curve["scores"], lw=1.2, label=name)
    margin = 0.15 * (highest - lowest)
    ax.set(
        xlabel="seconds of CPU time",
        ylabel="validation ELBO (nats per row)",
        xscale="log",
    )
    ax.set_xlim(left=0.05 * max(curves["score, 4 draws"]["times"]))
    ax.set_ylim(lowest - 3 * margin, highest + margin)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def mean_and_error(values):
    """Return "mean ± standard error"."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0
    return f"{np.mean(values):.2f} ± {error:.2f}"


def main():
    parser = argument_parser("latents", __doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    checkpoint = Checkpoint(cache_path("latents.jsonl"))
    seeds = range(options.seeds)

    def once(key, function, *arguments):
        if key not in checkpoint:
            checkpoint.put(key, function(*arguments))
        return checkpoint.get(key)

    lines = ["# Latent families and gradient estimators", "", __doc__.strip(), ""]
    report = {"families": {}, "gradients": {}}
    for data in COMPONENTS:
        rows = []
        for family in FAMILIES:
            fits = [
                once(
                    ("family", data, family, seed, options.epochs),
                    fit_family,
                    data,
                    family,
                    seed,
                    options.epochs,
                )
                for seed in seeds
            ]
            row = [family, mean_and_error([f["value"] for f in fits])]
            row.append(float(np.mean([f["seconds"] for f in fits])))
            if data == "topics":
                row.append(mean_and_error([f["topics"] for f in fits]))
            rows.append(row)
            report["families"][f"{data}: {family}"] = fits
        header = ["latent variables", "evidence, nats per row", "seconds"]
        header += ["topics"] if data == "topics" else []
        title = {"digits": "Families: digits", "topics": "Families: topics"}[data]
        lines += [f"## {title}", "", *markdown_table(header, rows, 1), ""]
    rows, curves = [], {}
    for estimator in ESTIMATORS:
        fits = [
            once(
                ("gradient", estimator, seed, options.seconds),
                fit_estimator,
                estimator,
                seed,
                options.seconds,
            )
            for seed in seeds
        ]
        curves[estimator] = fits[0]
        best = mean_and_error([max(f["scores"]) for f in fits])
        evidence = mean_and_error([f["value"] for f in fits])
        epochs = float(np.mean([f["epochs"] for f in fits]))
        rows.append([estimator, best, evidence, epochs])
        report["gradients"][estimator] = fits
    header = ["estimator", "best validation ELBO", "evidence, nats per row", "epochs"]
    title = (
        f"Gradients: gamma variables on the digits, {options.seconds:g} seconds each"
    )
    lines += [f"## {title}", "", *markdown_table(header, rows, 0), ""]
    picture = options.output.with_suffix(".png")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_picture(curves, picture)
    lines += [f"![Validation ELBO by time]({picture.name})", ""]
    lines += [
        f"Mean ± standard error over {options.seeds} splits and seeds. Every seed",
        "draws another table of topics, hence the errors of their evidence.",
        "",
    ]
    lines += environment_lines(environment())
    for fits in report["gradients"].values():
        for f in fits:
            f["times"] = [round(t, 2) for t in f["times"][::10]]
            f["scores"] = [round(s, 2) for s in f["scores"][::10]]
    write_report(options.output, lines, report)


if __name__ == "__main__":
    main()
