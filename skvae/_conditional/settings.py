"""Tuning constants of the model of outputs, with the reason of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._conditional.model.ConditionalModel`."""

    #: Draws of z, in antithetic pairs, for predicted means and standard deviations.
    mean_draws: int = 64

    #: Quadrature points of the noise of an output with a quantile transform.
    n_noise_levels: int = 50

    #: Candidate ridge penalties for leave-one-out cross-validation.
    penalties: tuple[float, ...] = tuple(10.0**power for power in range(-5, 6))

    #: Iterations of filling missing outputs with predictions of the ridge regression.
    filling_rounds: int = 3

    #: Minimum number of calibration rows.
    conformal_rows: int = 20
    #: Target coverage of the calibration.
    conformal_coverage: float = 0.9

    #: Minimum standard deviation that features are divided by: rare categories would
    #: otherwise be as large as numbers.
    min_deviation: float = 0.25


SETTINGS = Settings()
