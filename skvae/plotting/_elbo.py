"""The evidence lower bound at work: a gamma distribution approaches a normal one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln, polygamma
from scipy.stats import gamma, norm

from .._validation import check_count, numpy_defaults
from ._animation_page import animation_page
from ._axes import ORANGE, TEAL, bare, check_matplotlib, panels

#: Points at which the two densities are drawn.
N_POINTS = 401

#: Size of an animation, in inches.
SIZE = (6.4, 5.2)

#: A step of an ascent changes the logarithm of a parameter by this much at most.
MAX_STEP = 0.3

#: Seconds that the last picture stays before a GIF starts again.
LAST_SECONDS = 1.5


def expected_log_normal(concentration: Any, rate: Any, loc: float, scale: float) -> Any:
    """Return E log N(z; loc, scale²) for gamma z, in nats."""
    mean = concentration / rate
    # about the mean: the second moment about 0 would cancel for narrow distributions
    square = mean / rate + (mean - loc) ** 2
    return -0.5 * math.log(2 * math.pi) - math.log(scale) - square / (2 * scale**2)


def gamma_entropy(concentration: Any, rate: Any) -> Any:
    """Return the entropy of a gamma distribution, in nats."""
    return (
        concentration
        - np.log(rate)
        + gammaln(concentration)
        + (1 - concentration) * digamma(concentration)
    )


def elbo_gradient(
    concentration: float, rate: float, loc: float, scale: float
) -> np.ndarray:
    """Return the derivatives of the ELBO by concentration and rate, (2,)."""
    variance = scale**2
    shift = concentration / rate - loc
    by_concentration = (
        -(0.5 / rate + shift) / (rate * variance)
        + 1
        + (1 - concentration) * polygamma(1, concentration)
    )
    by_rate = concentration * (1 / rate + shift) / (rate**2 * variance) - 1 / rate
    return np.array([by_concentration, by_rate])


def natural_step(
    concentration: float, rate: float, loc: float, scale: float
) -> np.ndarray:
    """Return the natural gradient of the ELBO by the two log-parameters, (2,)."""
    parameters = np.array([concentration, rate])
    gradient = parameters * elbo_gradient(concentration, rate, loc, scale)
    curvature = polygamma(1, concentration) * concentration**2
    information = [[curvature, -concentration], [-concentration, concentration]]
    return np.linalg.solve(information, gradient)


class ElboAnimation:
    """Animation of the evidence lower bound: q, a gamma, approaches p, a normal.

    Above runs the ELBO E_q[log p(z) - log q(z)], below are the two densities. As p is
    normalised, its evidence is 1 and the ELBO is -KL(q || p): it rises towards 0, and
    never gets there, because no gamma distribution is normal. Everything is computed
    in closed form [1]_ [2]_.

    Use :meth:`from_optimization` or :meth:`from_path` to make an animation. The
    arguments are kept as attributes.

    Parameters
    ----------
    concentration, rate : array-like of shape (n_frames,)
        Parameters of q, all positive.
    loc : float, default=5.0
        Mean of p.
    scale : float, default=1.0
        Standard deviation of p, positive.

    Attributes
    ----------
    expected_log_density : ndarray of shape (n_frames,)
        E_q log p(z) in nats.
    entropy : ndarray of shape (n_frames,)
        -E_q log q(z) in nats.
    elbo : ndarray of shape (n_frames,)
        The sum of the two, which is -KL(q || p).
    z : ndarray of shape (n_points,)
        Where the densities are drawn.
    p : ndarray of shape (n_points,)
        Density of the normal distribution.
    q : ndarray of shape (n_frames, n_points)
        Density of the gamma distribution.
    axes_ : ndarray of matplotlib Axes of shape (2,)
        The panels: the ELBO, the densities.
    figure_ : matplotlib Figure
        The figure of these axes.

    References
    ----------
    .. [1] R. Ranganath, S. Gerrish, D. M. Blei (2014). Black Box Variational
       Inference.
    .. [2] S.-I. Amari (1998). Natural Gradient Works Efficiently in Learning.

    Examples
    --------
    >>> from skvae.plotting import ElboAnimation
    >>> animation = ElboAnimation.from_optimization(loc=5.0, scale=1.0)
    >>> print(f"{animation.elbo[-1]:.4f}")
    -0.0133
    >>> animation.save("elbo.gif")  # doctest: +SKIP
    >>> animation.save("elbo.html")  # doctest: +SKIP
    """

    @numpy_defaults()
    def __init__(
        self, *, concentration: Any, rate: Any, loc: float = 5.0, scale: float = 1.0
    ):
        self.concentration = _positive(concentration, "concentration")
        self.rate = _positive(rate, "rate")
        if self.concentration.shape != self.rate.shape:
            raise ValueError(
                f"concentration has {len(self.concentration)} values, but rate has "
                f"{len(self.rate)}: both need one for each frame."
            )
        self.loc, self.scale = _normal(loc, scale)
        self.expected_log_density = expected_log_normal(
            self.concentration, self.rate, self.loc, self.scale
        )
        self.entropy = gamma_entropy(self.concentration, self.rate)
        self.elbo = self.expected_log_density + self.entropy
        self.z = self._points()
        self.p = norm.pdf(self.z, self.loc, self.scale)
        self.q = gamma.pdf(
            self.z, self.concentration[:, None], scale=1 / self.rate[:, None]
        )

    @classmethod
    @numpy_defaults()
    def from_optimization(
        cls,
        loc: float = 5.0,
        scale: float = 1.0,
        *,
        start: tuple[float, float] = (2.0, 1.0),
        n_iterations: int = 80,
        step_size: float = 0.1,
    ) -> ElboAnimation:
        """Climb the ELBO, one frame per iteration.

        The path follows the natural gradient (Amari 1998) of the logarithms of
        concentration and rate.

        Parameters
        ----------
        loc : float, default=5.0
            Mean of p.
        scale : float, default=1.0
            Standard deviation of p, positive.
        start : tuple of two float, default=(2.0, 1.0)
            Concentration and rate of q at the start, positive.
        n_iterations : int, default=80
            Number of steps.
        step_size : float, default=0.1
            Length of a step, between 0 and 1.

        Returns
        -------
        animation : ElboAnimation
            The animation, not yet drawn.

        Raises
        ------
        ValueError
            If an argument is out of its range.
        """
        loc, scale = _normal(loc, scale)
        logs = np.log(_positive(start, "start"))
        if logs.shape != (2,):
            raise ValueError("start must hold a concentration and a rate.")
        n_iterations = check_count(n_iterations, "n_iterations")
        if not 0 < step_size <= 1:
            raise ValueError(
                f"step_size must lie between 0 and 1, but got {step_size!r}."
            )
        path = [logs]
        for _ in range(n_iterations):
            concentration, rate = np.exp(logs)
            step = step_size * natural_step(concentration, rate, loc, scale)
            logs = logs + step * min(1, MAX_STEP / max(np.abs(step).max(), 1e-300))
            path.append(logs)
        concentration, rate = np.exp(path).T
        return cls(concentration=concentration, rate=rate, loc=loc, scale=scale)

    @classmethod
    @numpy_defaults()
    def from_path(
        cls, concentration: Any, rate: Any, *, loc: float = 5.0, scale: float = 1.0
    ) -> ElboAnimation:
        """Follow any path of parameters, such as that of another optimizer.

        Parameters
        ----------
        concentration, rate : float or array-like of shape (n_frames,)
            Parameters of q, all positive; a single number holds for all frames.
        loc : float, default=5.0
            Mean of p.
        scale : float, default=1.0
            Standard deviation of p, positive.

        Returns
        -------
        animation : ElboAnimation
            The animation, not yet drawn.

        Raises
        ------
        ValueError
            If an argument is out of its range.
        """
        pair = np.broadcast_arrays(np.atleast_1d(concentration), np.atleast_1d(rate))
        return cls(concentration=pair[0], rate=pair[1], loc=loc, scale=scale)

    @numpy_defaults()
    def plot(self, ax: Any = None, *, frame: int = -1) -> ElboAnimation:
        """Draw one frame.

        Parameters
        ----------
        ax : matplotlib Axes, array of two Axes or None, default=None
            Where to draw: one Axes is divided into two; None makes a new figure.
        frame : int, default=-1
            The frame; negative numbers count from the end.

        Returns
        -------
        animation : ElboAnimation
            The animation itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such frame, or the number of axes is wrong.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        n_frames = len(self.elbo)
        if not -n_frames <= frame < n_frames:
            raise ValueError(
                f"There is no frame {frame}: the animation has {n_frames} frames."
            )
        self.axes_ = panels(ax, 2, 1, (SIZE[0], SIZE[1] / 2))
        self._draw(self.axes_)(frame % n_frames)
        self.figure_ = self.axes_[0].figure
        return self

    def animate(self, *, frames_per_second: int = 15) -> Any:
        """Return an animation of matplotlib, to show in a window or a notebook.

        Parameters
        ----------
        frames_per_second : int, default=15
            Speed.

        Returns
        -------
        animation : matplotlib.animation.FuncAnimation
            The animation. Keep it in a variable for as long as it is shown.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(f"{type(self).__name__}.animate")
        import matplotlib.pyplot as plt

        return self._animation(plt.figure, frames_per_second, hold=0)

    def save(self, path: Any, *, frames_per_second: int = 15, dpi: float = 100) -> None:
        """Write the animation to a file.

        Parameters
        ----------
        path : str or path
            A name that ends with ".gif", for a GIF, or ".html", for a page with a
            slider, which holds all it needs.
        frames_per_second : int, default=15
            Speed, positive.
        dpi : float, default=100
            Pixels per inch; the picture has 6.4 by 5.2 inches.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the name has another ending.
        """
        check_matplotlib(f"{type(self).__name__}.save")
        path = Path(path)
        ending = path.suffix.lower()
        if ending not in (".gif", ".html"):
            raise ValueError(
                f"An animation is saved as .gif or .html, but got {path.name!r}."
            )
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        if ending == ".gif":
            from matplotlib.animation import PillowWriter

            hold = round(LAST_SECONDS * frames_per_second)
            animation = self._animation(Figure, frames_per_second, hold=hold)
            animation.save(path, writer=PillowWriter(frames_per_second), dpi=dpi)
            return
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        show = self._draw_settled(figure)
        figure.set_dpi(dpi)
        page = animation_page(figure, show, len(self.elbo), 1000 / frames_per_second)
        path.write_text(page, encoding="utf-8")

    def _animation(self, new_figure: Any, frames_per_second: int, hold: int) -> Any:
        from matplotlib.animation import FuncAnimation

        figure = new_figure(figsize=SIZE, layout="constrained")
        last = len(self.elbo) - 1
        return FuncAnimation(
            figure,
            self._draw_settled(figure),
            frames=[*range(last + 1), *[last] * hold],
            interval=1000 / frames_per_second,
            init_func=lambda: None,  # the first frame is drawn once, not twice
            blit=False,
        )

    def _draw_settled(self, figure: Any) -> Any:
        """Draw into a new figure, and arrange it once, not in every frame."""
        show = self._draw(figure.subplots(2))
        show(len(self.elbo) - 1)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return show

    def _draw(self, axes: Any) -> Any:
        """Draw what stays, and return a function that draws a frame."""
        above, below = axes
        iterations = np.arange(len(self.elbo))
        above.axhline(0, color="black", lw=1, ls=":")
        above.annotate(
            "log evidence", (0, 0), (2, 3), above.get_yaxis_transform(), "offset points"
        )
        (curve,) = above.plot([], [], color=TEAL, lw=2)
        (point,) = above.plot([], [], "o", color=TEAL, ms=6)
        low = self.elbo.min()
        above.set(
            xlim=(-0.02 * max(1, iterations[-1]), max(1, iterations[-1]) * 1.02),
            ylim=(1.12 * low, -0.16 * low),
            xlabel="iteration",
            ylabel="ELBO = −KL(q‖p)  (nats)",
        )
        label = f"p: normal({self.loc:g}, {self.scale:g}²)"
        below.plot(self.z, self.p, color="black", lw=1.5, label=label)
        (line,) = below.plot([], [], color=ORANGE, lw=2, label="q: gamma")
        (area,) = below.fill([0], [0], color=ORANGE, alpha=0.2, lw=0)
        top = 1.6 * max(self.p.max(), np.max(self.q[-1][np.isfinite(self.q[-1])]))
        below.set(
            xlim=(self.z[0], self.z[-1]), ylim=(0, top), xlabel="z", ylabel="density"
        )
        text = below.legend(frameon=False, loc="upper right").get_texts()[1]
        for ax in axes:
            bare(ax)

        def show(frame: int) -> list:
            curve.set_data(iterations[: frame + 1], self.elbo[: frame + 1])
            point.set_data([frame], [self.elbo[frame]])
            # a concentration below 1 has an infinite density at 0
            height = np.minimum(self.q[frame], 10 * top)
            line.set_data(self.z, height)
            area.set_xy(np.column_stack([self.z, height]))
            parameters = f"{self.concentration[frame]:.2f}, {self.rate[frame]:.2f}"
            text.set_text(f"q: gamma({parameters})")
            value = f"{self.elbo[frame]:.4f}".replace("-", "\N{MINUS SIGN}")
            above.set_title(f"iteration {frame}:  ELBO = {value} nats")
            return [curve, point, line, area]

        return show

    def _points(self) -> np.ndarray:
        """Return places that show p, and q at the end of the path."""
        low, high = self.loc - 4 * self.scale, self.loc + 4 * self.scale
        start, end = gamma.ppf(
            [0.001, 0.999], self.concentration[-1], scale=1 / self.rate[-1]
        )
        return np.linspace(min(low, start), max(high, end), N_POINTS)


def _positive(values: Any, name: str) -> np.ndarray:
    values = np.array(values, dtype=float)
    fits = np.isfinite(values) & (values > 0)
    if values.ndim != 1 or not len(values) or not fits.all():
        raise ValueError(f"{name} must hold positive finite numbers in one dimension.")
    return values


def _normal(loc: Any, scale: Any) -> tuple[float, float]:
    if not np.isfinite(loc):
        raise ValueError(f"loc must be finite, but got {loc!r}.")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive and finite, but got {scale!r}.")
    return float(loc), float(scale)
