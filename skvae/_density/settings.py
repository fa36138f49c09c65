"""Numbers of the model of a table that experience chose, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass

from .._training.settings import Budget


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._density.model.VAEModel`."""

    #: Steps and epochs of a fit. Half of the steps at twice the rate is level on 2,000
    #: rows and loses 0.3 nats on 10,000 (training_budget_development.md).
    budget: Budget = Budget()

    #: Rows from which the linear model is computed that training starts at.
    linear_start_rows: int = 5_000

    #: The most latent variables that ``n_components=None`` gives.
    max_components: int = 32

    #: Wider tables start at probabilistic PCA, which is one decomposition.
    factor_analysis_columns: int = 100

    #: Importance draws of ``score_samples``.
    evidence_draws: int = 256


SETTINGS = Settings()
