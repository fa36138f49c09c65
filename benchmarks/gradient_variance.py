"""Variance and time of the gradient estimators, for gamma and beta variables.

The gradient of E z² + H(q) with respect to the first parameter of q(z), α: the
concentration of Gamma(α, 1), or a of Beta(α, α). The entropy H(q) is in closed form and
adds no variance. The variance is that of one draw; of RLOO, that of an estimate of
``--draws`` draws times their number. The time is that of one draw, out of a large
batch, with its gradient.
"""

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

CONCENTRATIONS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
ESTIMATORS = ("score", "rloo", "grep", "pathwise")
LABELS = {
    "score": "score",
    "rloo": "score, RLOO",
    "grep": "G-REP",
    "pathwise": "implicit",
}
FAMILIES = {"gamma": "concentration", "beta": "a"}


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


def draw_picture(results, path):
    """Draw the variances over α, one panel per family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, family in zip(axes, FAMILIES, strict=True):
        for gradient in ESTIMATORS:
            values = [results[family, a, gradient]["variance"] for a in CONCENTRATIONS]
            ax.loglog(CONCENTRATIONS, values, "o-", ms=4, label=LABELS[gradient])
        ax.set(title={"gamma": "Gamma(α, 1)", "beta": "Beta(α, α)"}[family], xlabel="α")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("variance of the gradient of E z²")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main():
    parser = argument_parser("gradient_variance", __doc__)
    parser.add_argument("--estimates", type=int, default=200_000)
    parser.add_argument("--draws", type=int, default=10, help="draws of RLOO")
    options = parser.parse_args()
    checkpoint = Checkpoint(cache_path("gradient_variance.jsonl"))
    results = {}
    for family in FAMILIES:
        for concentration in CONCENTRATIONS:
            for gradient in ESTIMATORS:
                setting = (options.draws, options.estimates)
                key = (family, concentration, gradient, *setting)
                if key not in checkpoint:
                    checkpoint.put(key, measure(*key))
                results[key[:3]] = checkpoint.get(key)
    lines = ["# Variance of gradient estimators", "", __doc__.strip(), ""]
    for family, name in FAMILIES.items():
        title = {"gamma": "Gamma(α, 1)", "beta": "Beta(α, α)"}[family]
        rows = [
            [f"{a:g}"]
            + [f"{results[family, a, g]['variance']:.3g}" for g in ESTIMATORS]
            + [f"{results[family, a, g]['mean']:.3g}" for g in ESTIMATORS]
            for a in CONCENTRATIONS
        ]
        header = ["α", *LABELS.values(), *(f"mean: {v}" for v in LABELS.values())]
        lines += [f"## {title}: by {name}", "", *markdown_table(header, rows), ""]
    rows = [
        [family]
        + [
            float(
                np.median(
                    [results[family, a, g]["microseconds"] for a in CONCENTRATIONS]
                )
            )
            for g in ESTIMATORS
        ]
        for family in FAMILIES
    ]
    lines += ["## Microseconds per draw and its gradient", ""]
    lines += [*markdown_table(["", *LABELS.values()], rows, 2), ""]
    picture = options.output.with_suffix(".png")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_picture(results, picture)
    lines += [f"![Variance of the estimators over α]({picture.name})", ""]
    lines += environment_lines(environment())
    values = [{"key": list(key), **value} for key, value in results.items()]
    write_report(options.output, lines, values)


if __name__ == "__main__":
    main()
