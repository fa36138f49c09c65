"""How a fit went: objective, reconstruction, KL and active units by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._estimators.base import BaseVAE
from .._validation import numpy_defaults
from ._axes import ORANGE, TEAL, bare, check_matplotlib, panels

#: Share of the epochs, at the start, that may run out of the picture.
HIDDEN_SHARE = 0.03


@dataclass(kw_only=True, eq=False, repr=False)
class LossCurveDisplay:
    """Picture of a training: objective, reconstruction, KL and active units by epoch.

    The objective (the ELBO, unless the estimator was told otherwise) is what training
    maximises: the reconstruction term E_q log p(x | z) less the Kullback-Leibler term
    KL(q(z | x) || p(z)). All three are in nats per row. Active units are the latent
    variables whose posterior mean varies over rows.

    Use :meth:`from_estimator` to make a display. The arguments are kept as attributes.

    Parameters
    ----------
    objective, reconstruction, kl : array-like of shape (n_epochs,)
        Objective and its two parts on the training rows, in nats per row.
    active_units : array-like of shape (n_epochs,)
        Number of latent variables in use.
    validation : array-like of shape (n_scored,) or None, default=None
        Objective on the validation rows in the last ``n_scored`` epochs.
    kept : float or None, default=None
        Validation score of the weights that were kept.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (4,)
        The panels: objective, reconstruction, KL, active units.
    figure_ : matplotlib Figure
        The figure of these axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> from skvae.plotting import LossCurveDisplay
    >>> vae = VAETransformer(n_components=2, max_iter=20, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(vae.fit(load_iris().data))
    >>> len(display.objective)
    20
    >>> plt.show()  # doctest: +SKIP
    """

    objective: Any
    reconstruction: Any
    kl: Any
    active_units: Any
    validation: Any = None
    kept: float | None = None

    @classmethod
    @numpy_defaults()
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> LossCurveDisplay:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : VAETransformer, VAEImputer or another estimator of skvae
            A fitted estimator.
        ax : matplotlib Axes, array of four Axes or None, default=None
            Where to draw: one Axes is divided into four; None makes a new figure.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator is none of skvae's.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        if not isinstance(estimator, BaseVAE):
            raise TypeError(
                f"{caller} needs an estimator of skvae, such as VAETransformer, but "
                f"got {type(estimator).__name__}."
            )
        check_is_fitted(estimator)
        history = estimator.history_
        display = cls(
            objective=history["objective"],
            reconstruction=history["reconstruction"],
            kl=history["kl"],
            active_units=history["active_units"],
            validation=estimator.validation_scores_,
            kept=estimator.best_validation_score_,
        )
        return display.plot(ax=ax)

    @numpy_defaults()
    def plot(self, ax: Any = None) -> LossCurveDisplay:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, array of four Axes or None, default=None
            Where to draw: one Axes is divided into four; None makes a new figure.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the number of axes is wrong.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        axes = panels(ax, 4, 2, (4.2, 2.6))
        epochs = np.arange(1, len(self.objective) + 1)
        curves = {
            "objective": self.objective,
            "reconstruction": self.reconstruction,
            "Kullback-Leibler term": self.kl,
            "active units": self.active_units,
        }
        for panel, (name, values) in zip(axes, curves.items(), strict=True):
            panel.plot(epochs, values, color=TEAL, lw=1.5, label="training")
            panel.set(title=name, xlabel="epoch", ylabel="nats per row")
            bare(panel)
        first, second, _, units = axes
        if self.validation is not None:
            scored = epochs[len(epochs) - len(self.validation) :]
            style = {"color": ORANGE, "lw": 1.5, "label": "validation"}
            first.plot(scored, self.validation, **style)
            if self.kept is not None:
                style = {"color": ORANGE, "lw": 1, "ls": ":", "label": "weights kept"}
                first.axhline(self.kept, **style)
            first.legend(frameon=False)
        _cut_off_start(first, self.objective, self.validation)
        _cut_off_start(second, self.reconstruction)
        units.set_ylabel("latent variables")
        units.set_ylim(0, 1.1 * max(1, np.max(self.active_units, initial=0)))
        units.yaxis.get_major_locator().set_params(integer=True)
        self.axes_ = axes
        self.figure_ = axes[0].figure
        return self


def _cut_off_start(ax: Any, *curves: Any) -> None:
    """Let the first epochs run out of the picture if they would flatten the rest."""
    drawn = [np.asarray(c, float) for c in curves if c is not None and len(c)]
    if not drawn:
        return
    everything = np.concatenate(drawn)
    later = np.concatenate([c[int(np.ceil(HIDDEN_SHARE * len(c))) :] for c in drawn])
    if not len(later) or not np.isfinite(everything).all():
        return
    low, high = later.min(), everything.max()
    if low - everything.min() > high - low > 0:
        ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
