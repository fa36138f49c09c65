"""Numbers of the model of outputs that experience chose, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._conditional.model.ConditionalModel`."""

    #: Draws of z behind predicted means and deviations, in pairs of opposite signs.
    mean_draws: int = 64

    #: Points that stand for the noise of an output with a quantile map.
    n_noise_levels: int = 50

    #: Penalties that the ridge regression chooses from by leaving single rows out.
    penalties: tuple[float, ...] = tuple(10.0**power for power in range(-5, 6))

    #: Times that missing outputs are filled with their predictions in the regression.
    filling_rounds: int = 3

    #: Held-out rows that a conformal factor needs, and the coverage that it restores.
    conformal_rows: int = 20
    conformal_coverage: float = 0.9

    #: Features are divided by their standard deviation, or by this if it is smaller:
    #: rare categories would otherwise be as large as numbers.
    least_deviation: float = 0.25


SETTINGS = Settings()
