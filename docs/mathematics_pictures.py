"""Draw the pictures of the page on mathematics; the documentation's build runs it.

The formulas of the page are implemented here independently, so that the pictures test
them.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import digamma, polygamma
from scipy.stats import gamma, norm

from skvae._training.gradients import importance_weighted
from skvae.plotting import ElboAnimation

COLORS = ["#007a87", "#d55e00", "#7b3f99", "#4d4d4d"]
N_DRAWS = 200_000


def write(folder):
    """Write all pictures into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ElboAnimation.from_optimization(n_iterations=60).save(folder / "elbo.html", dpi=80)
    for name, draw in {
        "bounds": draw_bounds,
        "residuals": draw_residuals,
        "variances": draw_variances,
    }.items():
        figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
        draw(ax)
        ax.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{name}.png", dpi=120)
        plt.close(figure)


def draw_bounds(ax):
    """Draw the importance-weighted bound over the number of draws.

    z is N(0, 1), x is N(z, 1) and 2, and q is N(0.3, 0.8²) instead of N(1, 1/2).
    """
    x, loc, scale = 2.0, 0.3, 0.8
    z = np.random.default_rng(0).normal(loc, scale, N_DRAWS)
    log_weight = norm.logpdf(z) + norm.logpdf(x, z) - norm.logpdf(z, loc, scale)
    n_draws = 2 ** np.arange(9)
    bounds = []
    for k in n_draws:
        rows = log_weight[: N_DRAWS // k * k].reshape(k, -1)
        bounds.append(importance_weighted(torch.from_numpy(rows)).mean())
    ax.axhline(norm.logpdf(x, 0, np.sqrt(2)), ls=":", color="black", label="log p(x)")
    ax.plot(n_draws, bounds, "o-", color=COLORS[0], label="bound of K draws")
    ax.annotate("ELBO", (1, bounds[0]), (8, -3), textcoords="offset points")
    ax.legend(frameon=False, loc="lower right")
    ax.set_xscale("log", base=2)
    ax.set_xticks(n_draws, [str(k) for k in n_draws])
    ax.set(xlabel="draws K", ylabel="nats", title="More draws, tighter bounds")


def draw_residuals(ax):
    """Draw the density of the residual of G-REP for gamma variables."""
    places = np.linspace(-4.5, 3, 500)
    for concentration, color in zip([0.3, 1.0, 10.0], COLORS, strict=False):
        scale = np.sqrt(polygamma(1, concentration))
        z = np.exp(places * scale + digamma(concentration))
        density = gamma.pdf(z, concentration) * z * scale
        ax.plot(places, density, color=color, label=f"α = {concentration:g}")
    ax.plot(places, norm.pdf(places), ":", color="black", label="N(0, 1)")
    ax.legend(frameon=False)
    ax.set(
        xlabel="ε",
        ylabel="density",
        title="ε has mean 0 and variance 1, but still depends on α",
    )


def draw_variances(ax):
    """Draw the variance of three gradients of E z² by α, for gamma variables."""
    concentrations = np.geomspace(0.3, 30, 13)
    rows = np.array([gradients(alpha).var(1) for alpha in concentrations])
    squared = (2 * concentrations + 1) ** 2  # of the gradient itself
    for row, name, color in zip(
        rows.T, ["score", "G-REP", "implicit"], COLORS, strict=False
    ):
        ax.plot(concentrations, row / squared, "o-", ms=4, color=color, label=name)
    ax.legend(frameon=False)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="α",
        ylabel="variance / squared gradient",
        title="Gradients of E z² for z ~ Gamma(α, 1), one draw each",
    )


def gradients(alpha, n_draws=N_DRAWS):
    """Return estimates of d/dα E z² for Gamma(α, 1): score, G-REP, implicit."""
    z = gamma.rvs(alpha, size=n_draws, random_state=np.random.RandomState(0))
    f, slope = z**2, 2 * z
    trigamma, tetragamma = polygamma(1, alpha), polygamma(2, alpha)
    score = np.log(z) - digamma(alpha)
    epsilon = score / np.sqrt(trigamma)
    moved = 0.5 * epsilon * tetragamma / np.sqrt(trigamma) + trigamma  # h / z
    u = moved + 0.5 * tetragamma / trigamma
    correction = ((alpha - 1) / z - 1) * z * moved + score + u
    draws = torch.from_numpy(z)
    implicit = torch._standard_gamma_grad(torch.full_like(draws, alpha), draws)
    return np.array(
        [f * score, slope * z * moved + f * correction, slope * implicit.numpy()]
    )


if __name__ == "__main__":
    write(sys.argv[1])
