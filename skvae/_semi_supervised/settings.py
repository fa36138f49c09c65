"""Tuning constants of the models of labels, with the reason of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._training.settings import Budget


class Regularisation(NamedTuple):
    """Regularisation that cross-validation chooses, as parameters of the estimator."""

    masking_rate: float
    consistency_weight: float


@dataclass(frozen=True)
class Settings:
    """Tuning constants of the models of labels.

    Unless stated otherwise, chosen on the tables of ``benchmarks/semi_supervised.py``.
    """

    #: Steps of a fit of "m1".
    m1_budget: Budget = Budget(steps=1_200)
    #: Steps of the others: a decoder of every class learns slower than a classifier.
    budget: Budget = Budget(steps=3_000)

    #: First candidate of "auto": with regularisation (cluster assumption).
    regularised: Regularisation = Regularisation(0.2, 1.0)
    #: Second candidate of "auto": without.
    unregularised: Regularisation = Regularisation(0.0, 0.0)

    #: Maximum of rows per step times labels that are summed over, where
    #: ``batch_size="auto"``: 256 rows of up to 512 classes. Less than 100 MB a layer.
    rows_times_labels: int = 2**17

    #: Maximum number of labelled rows per step.
    labelled_rows: int = 256

    #: Rows on which the distance between neighbours is measured.
    neighbour_rows: int = 2_000

    #: Fraction of the labelled rows for validation, if that makes enough rows.
    validation_fraction: float = 0.1

    #: Fraction of training over which the interpolation weight rises, t from 0 to 1 in
    #: exp(-5 (1 - t)^2) (Feng et al. 2021, section 5).
    ramp_fraction: float = 0.4

    #: Labels from which cross-validation chooses the regularisation. With 30 it loses
    #: as much as it gains, with more it never lost on average (results/ablations.md).
    min_labels: int = 50
    #: Folds of the cross-validation.
    n_folds: int = 4
    #: Maximum number of labelled rows in it.
    max_labels: int = 2_000
    #: Maximum number of rows, labelled or not, for its consistency loss.
    max_rows: int = 20_000
    #: Hidden layers of its networks.
    search_widths: tuple[int, ...] = (64, 64)
    #: Maximum number of its training steps.
    search_steps: int = 400
    #: Batch size of its consistency loss.
    search_batch: int = 256
    #: Initial learning rate of its networks.
    search_learning_rate: float = 1e-2

    #: Importance draws of ``score_samples``, for every class.
    evidence_draws: int = 64

    #: Candidates per row in resampling for "m1".
    candidates_per_row: int = 64
    #: Minimum number of candidates.
    min_candidates: int = 4_096
    #: Maximum number of candidates.
    max_candidates: int = 2**17

    #: Minimum standard deviation of the posterior mean of a latent variable of M1 that
    #: M2 models (Kingma et al. 2014, their code).
    min_deviation: float = 0.1


SETTINGS = Settings()
