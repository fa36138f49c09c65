"""Tuning constants of the training loop, with the reason of each."""

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

    #: Steps of KL warm-up where training does not start at a linear model: without it,
    #: all latents could switch off before they are used.
    kl_warmup_steps: int = 1_000

    #: Steps of learning-rate warm-up, at most a tenth of the steps of a fit.
    learning_rate_warmup: int = 100

    #: Fraction of the learning rate that "cosine" decays to.
    cosine_end: float = 0.01

    #: Divisor of the learning rate after epochs without improvement.
    learning_rate_drop_factor: float = 4.0
    #: Maximum number of such drops; then training stops.
    learning_rate_drops: int = 3

    #: Clipping bound of the gradient norm, per square root of the number of columns.
    gradient_clip: float = 5.0

    #: Minimum number of validation rows, up to a quarter of the table: fewer choose
    #: weights by chance.
    min_validation_rows: int = 50
    #: Maximum number of validation rows.
    max_validation_rows: int = 10_000

    #: Draws per row for the validation ELBO.
    validation_draws: int = 16
    #: Maximum of rows times draws for the validation ELBO.
    validation_evaluations: int = 4_000

    #: Clipping bound of the per-row validation gains over the initial model, in nats:
    #: without it, outliers made the standard error as large as the gain, which kept the
    #: initial models of adult and credit_approval.
    gain_limit: float = 10.0

    #: Number of times that a loop of steps keeps its state, which Ctrl-C goes back to:
    #: often enough to lose little, seldom enough to cost nothing.
    n_saves: int = 10
    #: Seconds within which Ctrl-C counts as pressed twice: the time of another fit of
    #: a search to begin, and of a hand to press again.
    seconds_between_interrupts: float = 2.0

    #: Multiplications per step (rows x weights) from which a loop of one network runs
    #: with all threads of torch. On two idle cores the second thread gains nothing up
    #: to 6e7 and 1.6 x at 8e8; on busy ones it costs 12 x and 2 x (threads).
    threaded_work: float = 1e8
    #: The same for networks side by side, whose products threads share out whole: two
    #: gain 1.4 x at 5e7 and 1.5 x at 1e8 (threads).
    threaded_work_side_by_side: float = 2e7

    #: Training rows for the choice between scales per cell and per column.
    scale_rows: int = 5_000

    #: Minimum variance over rows of the posterior mean of an active latent variable, as
    #: a fraction of the prior's (Burda, Grosse, Salakhutdinov 2016, section 5.2).
    active_unit_variance: float = 0.01
    #: Rows on which active latent variables are counted.
    active_unit_rows: int = 256


SETTINGS = Settings()
