"""Variance and time of the gradient estimators, for gamma and beta variables.

The gradient of E z² + H(q) with respect to the first parameter of q(z), α: the
concentration of Gamma(α, 1), or a of Beta(α, α). The entropy H(q) is in closed form and
adds no variance. The variance is that of one draw; of RLOO, that of an estimate of
``--draws`` draws times their number. The time is that of one draw, out of a large
batch, with its gradient.
"""

import itertools
import time

import numpy as np
from harness import report
from harness.run import Run, read_options

CONCENTRATIONS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
ESTIMATORS = {
    "score": "score",
    "rloo": "score, RLOO",
    "grep": "G-REP",
    "pathwise": "implicit",
}
FAMILIES = {"gamma": "concentration", "beta": "a"}
TITLES = {"gamma": "Gamma(α, 1)", "beta": "Beta(α, α)"}


def measure(family, concentration, gradient, n_draws, n_estimates, repeats=5):
    """Return variance times draws, the mean, and microseconds per draw."""
    from skvae.inference import gradient_samples

    second = 1.0 if family == "gamma" else concentration

    def run(seed, n_estimates):
        start = time.perf_counter()
        samples = gradient_samples(
            lambda z: z.square().sum(-1),
            family,
            (concentration, second),
            gradient=gradient,
            # without a baseline draws are independent
            n_draws=n_draws if gradient == "rloo" else 1,
            n_estimates=n_estimates,
            random_state=seed,
        )[FAMILIES[family]]
        return samples, time.perf_counter() - start

    factor = n_draws if gradient == "rloo" else 1
    samples, _ = run(0, n_estimates)
    run(0, 1_000)
    batch = 20_000 // factor
    seconds = min(run(seed, batch)[1] for seed in range(repeats))
    return {
        "variance": float(samples.var() * factor),
        "mean": float(samples.mean()),
        "microseconds": 1e6 * seconds / (batch * factor),
    }


def values_of(raw, family, estimator, what):
    """Return a figure of an estimator, a list over the concentrations."""
    found = {tuple(cell["key"]): cell[what] for cell in raw["cells"]}
    return [found[family, a, estimator] for a in CONCENTRATIONS]


def draw_picture(raw, path):
    """Draw the variances over α, one panel per family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, family in zip(axes, FAMILIES, strict=True):
        for gradient, label in ESTIMATORS.items():
            values = values_of(raw, family, gradient, "variance")
            ax.loglog(CONCENTRATIONS, values, "o-", ms=4, label=label)
        ax.set(title=TITLES[family], xlabel="α")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("variance of the gradient of E z²")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def family_lines(raw, family):
    """Return the table of variances and means of one family."""
    columns = [
        [f"{value:.3g}" for value in values_of(raw, family, estimator, what)]
        for what in ("variance", "mean")
        for estimator in ESTIMATORS
    ]
    rows = zip((f"{a:g}" for a in CONCENTRATIONS), *columns, strict=True)
    names = ESTIMATORS.values()
    header = ["α", *names, *(f"mean: {name}" for name in names)]
    title = f"## {TITLES[family]}: by {FAMILIES[family]}"
    return report.blocks(title, report.table(header, rows))


def time_lines(raw):
    """Return the table of microseconds, medians over the concentrations."""
    rows = [
        [
            family,
            *(np.median(values_of(raw, family, e, "microseconds")) for e in ESTIMATORS),
        ]
        for family in FAMILIES
    ]
    return report.table(["", *ESTIMATORS.values()], rows, 2)


def page(raw):
    return report.blocks(
        "# Variance of gradient estimators",
        __doc__.strip(),
        *(family_lines(raw, family) for family in FAMILIES),
        "## Microseconds per draw and its gradient",
        time_lines(raw),
        f"![Variance of the estimators over α]({raw['page']}.png)",
        report.items(raw),
    )


def main():
    options = read_options(__doc__, estimates=200_000, draws=10)
    run = Run(options)
    setting = (options.draws, options.estimates)
    cells = []
    for key in itertools.product(FAMILIES, CONCENTRATIONS, ESTIMATORS):
        case = f"{key[0]} {key[1]}"
        found = run.cell(
            case, case, key[2], None, measure, *key, *setting, setting=setting
        )
        cells.append({"key": key, **found})
    report.publish(options, cells=cells)


if __name__ == "__main__":
    main()
