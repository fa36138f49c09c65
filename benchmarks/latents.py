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

import time

import numpy as np
from harness import report
from harness.run import Run, read_options

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
#: Of the epochs of a curve the raw figures hold every tenth.
EVERY = 10


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


def fit_family(data, family, split, seed, epochs):
    """Return held-out evidence, seconds and the recovery of topics."""
    from skvae import VAETransformer

    X, X_test, shares = split
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


def stop_after(budget):
    """Return a callback that ends training in time and records when epochs end."""
    from skorch.callbacks import Callback

    class Clock(Callback):
        def on_train_begin(self, net, **_):
            self.start, self.times = time.process_time(), []

        def on_epoch_end(self, net, **_):
            self.times.append(time.process_time() - self.start)
            if self.times[-1] > budget:
                raise KeyboardInterrupt

    return Clock()


def fit_estimator(estimator, split, seed, budget):
    """Train for so many seconds; return the curve and the held-out evidence."""
    from skvae import VAETransformer

    X, X_test, _ = split
    clock = stop_after(budget)
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
    scores = model.validation_scores_
    return {
        "value": model.score(X_test),
        "epochs": len(scores),
        "best": float(max(scores)),
        "times": [round(t, 2) for t in clock.times[: len(scores) : EVERY]],
        "scores": [round(float(s), 2) for s in scores[::EVERY]],
    }


def draw_picture(raw, path):
    """Draw the validation score over time, the first seed of each estimator."""
    from matplotlib.figure import Figure

    curves = {name: found["fits"][0] for name, found in raw["gradients"].items()}
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    ax = figure.subplots()
    tops = [max(curve["scores"]) for curve in curves.values()]
    for name, curve in curves.items():
        ax.plot(curve["times"], curve["scores"], lw=1.2, label=name)
    margin = 0.15 * (max(tops) - min(tops))
    ax.set(
        xlabel="seconds of CPU time",
        ylabel="validation ELBO (nats per row)",
        xscale="log",
    )
    ax.set_xlim(left=0.05 * max(curves["score, 4 draws"]["times"]))
    ax.set_ylim(min(tops) - 3 * margin, max(tops) + margin)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def with_error(mean, error):
    """Return "mean ± standard error"."""
    return f"{mean:.2f} ± {error:.2f}"


def over_seeds(fits, what):
    """Return "mean ± standard error" of a figure."""
    return with_error(*report.mean_and_error([fit[what] for fit in fits]))


def family_lines(raw, data):
    """Return the table of the families on one data set."""
    rows = []
    for family in FAMILIES:
        fits = raw["families"][f"{data}: {family}"]
        seconds = float(np.mean([fit["seconds"] for fit in fits]))
        row = [family, over_seeds(fits, "value"), seconds]
        rows.append(row + ([over_seeds(fits, "topics")] if data == "topics" else []))
    header = ["latent variables", "evidence, nats per row", "seconds"]
    header += ["topics"] if data == "topics" else []
    return report.blocks(f"## Families: {data}", report.table(header, rows, 1))


def gradient_lines(raw):
    """Return the table of the estimators."""
    rows = []
    for estimator, found in raw["gradients"].items():
        fits = found["fits"]
        epochs = float(np.mean([fit["epochs"] for fit in fits]))
        best = with_error(*found["best"])
        rows.append([estimator, best, over_seeds(fits, "value"), epochs])
    header = ["estimator", "best validation ELBO", "evidence, nats per row", "epochs"]
    return report.table(header, rows, 0)


def page(raw):
    return report.blocks(
        "# Latent families and gradient estimators",
        __doc__.strip(),
        *(family_lines(raw, data) for data in COMPONENTS),
        f"## Gradients: gamma variables on the digits, {raw['seconds']:g} seconds each",
        gradient_lines(raw),
        f"![Validation ELBO by time]({raw['page']}.png)",
        f"Mean ± standard error over {len(raw['seeds'])} splits and seeds. Every seed\n"
        "draws another table of topics, hence the errors of their evidence.",
        report.items(raw),
    )


def main():
    options = read_options(__doc__, seeds=[0, 1, 2], epochs=200, seconds=20.0)
    run = Run(options)
    families, gradients = {}, {}
    for data in COMPONENTS:
        found = run.grid(
            lambda seed, data=data: [(data, FAMILIES, load(data, seed))],
            lambda *cell, data=data: fit_family(data, *cell, options.epochs),
            epochs=options.epochs,
        )
        for family, fits in found[data].items():
            families[f"{data}: {family}"] = list(fits.values())
    found = run.grid(
        lambda seed: [("digits", ESTIMATORS, load("digits", seed))],
        lambda *cell: fit_estimator(*cell, options.seconds),
        seconds=options.seconds,
    )
    for estimator, fits in found["digits"].items():
        best = report.mean_and_error([fit["best"] for fit in fits.values()])
        gradients[estimator] = {"best": best, "fits": list(fits.values())}
    report.publish(options, families=families, gradients=gradients)


if __name__ == "__main__":
    main()
