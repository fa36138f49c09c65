"""Variance and time of the gradient estimators, for gamma and beta variables.

The gradient of E z² + H(q) with respect to the first parameter of q(z), α: the
concentration of Gamma(α, 1), or a of Beta(α, α). The entropy H(q) is in closed form and
adds no variance. The variance is that of one draw; of RLOO, that of an estimate of
``--draws`` draws times their number. The time is that of one draw, out of a large
batch, with its gradient.
"""

import time

import numpy as np
from harness.report import environment, environment_lines, markdown_table, publish
from harness.run import Run, argument_parser

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


# Page


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
    return [title, "", *markdown_table(header, rows), ""]


def page(raw):
    """Return the Markdown lines of raw figures."""
    lines = ["# Variance of gradient estimators", "", __doc__.strip(), ""]
    for family in FAMILIES:
        lines += family_lines(raw, family)
    rows = [
        [family]
        + [
            float(np.median(values_of(raw, family, estimator, "microseconds")))
            for estimator in ESTIMATORS
        ]
        for family in FAMILIES
    ]
    lines += ["## Microseconds per draw and its gradient", ""]
    lines += [*markdown_table(["", *ESTIMATORS.values()], rows, 2), ""]
    lines += [f"![Variance of the estimators over α]({raw['page']}.png)", ""]
    return lines + environment_lines(raw)


def main():
    parser = argument_parser("gradient_variance", __doc__)
    parser.add_argument("--estimates", type=int, default=200_000)
    parser.add_argument("--draws", type=int, default=10, help="draws of RLOO")
    options = parser.parse_args()
    run = Run("gradient_variance", options)
    cells = []
    for family in FAMILIES:
        for concentration in CONCENTRATIONS:
            for gradient in ESTIMATORS:
                key = (family, concentration, gradient)
                setting = (options.draws, options.estimates)
                value = run.cell(
                    family,
                    f"{family} {concentration}",
                    gradient,
                    lambda key=key, setting=setting: measure(*key, *setting),
                    setting=setting,
                )
                cells.append({"key": key, **value})
    publish(options, environment=environment(), cells=cells)


if __name__ == "__main__":
    main()
