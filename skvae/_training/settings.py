"""Numbers of the training loop that experience chose, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Budget(NamedTuple):
    """Steps and epochs where ``max_iter`` and ``n_iter_no_change`` are None."""

    steps: int = 5_000
    epochs: int = 50
    patience_steps: int = 1_000
    patience_epochs: int = 10


@dataclass(frozen=True)
class Settings:
    """Tuning constants of the training loop.

    Those without a source are choices of the first versions, under which all records
    in ``benchmarks/results`` ran.
    """

    #: Optimizer steps over which the weight of the KL term rises from 0, where training
    #: does not start at a linear model: all latents could switch off before they are
    #: used.
    kl_warmup_steps: int = 1_000

    #: Steps over which the learning rate rises; short fits (checks, partial budgets)
    #: warm up over a tenth of their steps.
    learning_rate_warmup: int = 100

    #: The share of the learning rate that "cosine" falls to in the end.
    cosine_end: float = 0.01

    #: Without improvement a schedule goes back to the best weights and divides the
    #: learning rate by the first number, at most as often as the second, before
    #: training stops.
    rate_factor: float = 4.0
    rate_drops: int = 3

    #: Gradient norms above this, per square root of the number of columns, are clipped.
    gradient_clip: float = 5.0

    #: Validation rows of small tables: fewer choose weights by chance.
    min_validation_rows: int = 50

    #: The most rows that the validation score is computed on.
    max_validation_rows: int = 10_000

    #: Draws of a validation score of the ELBO, as long as rows times draws stay below
    #: the second number.
    validation_draws: int = 16
    validation_evaluations: int = 4_000

    #: The most that a validation row may count for or against the initial model, in
    #: nats: a row that this cannot explain at all would make the standard error as
    #: large as the gain. It kept untrained models of adult and credit_approval; with
    #: the limit the quality of adult's generated rows rose from .842 to .920.
    gain_limit: float = 10.0

    #: Training rows that the choice between scales per cell and per column is fitted
    #: on.
    scale_rows: int = 5_000

    #: A latent variable is active if the variance of its posterior mean over rows
    #: exceeds this share of the prior's (Burda, Grosse, Salakhutdinov 2016, section
    #: 5.2), and the rows that this is measured on.
    active_unit_variance: float = 0.01
    active_unit_rows: int = 256


SETTINGS = Settings()
