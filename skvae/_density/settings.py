"""Tuning constants of the model of a table, with the reason of each."""

from __future__ import annotations

from dataclasses import dataclass

from .._training.settings import Budget


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._density.model.VAEModel`."""

    #: Steps and epochs of a fit. Half of the steps at twice the rate is level on 2,000
    #: rows and loses 0.3 nats on 10,000 (training_budget_development.md).
    budget: Budget = Budget()

    #: Maximum number of rows for the linear model that training starts at.
    linear_start_rows: int = 5_000

    #: Maximum number of latent variables under ``n_components=None``.
    max_components: int = 32

    #: Maximum number of columns for factor analysis; wider tables start at
    #: probabilistic PCA, which takes one decomposition.
    factor_analysis_columns: int = 100

    #: Importance draws of ``score_samples``.
    evidence_draws: int = 256


SETTINGS = Settings()
