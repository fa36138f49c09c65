"""Numbers of the models of labels that experience chose, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._training.settings import Budget


class Regularisation(NamedTuple):
    """What cross-validation chooses: parameters of the estimator."""

    masking_rate: float
    consistency_weight: float


@dataclass(frozen=True)
class Settings:
    """Tuning constants of the models of labels.

    Chosen on the tables of ``benchmarks/semi_supervised.py``, where nothing else is
    said.
    """

    #: Steps of a fit of "m1", and of the others: a decoder of every class takes longer
    #: to learn than a classifier.
    m1_budget: Budget = Budget(steps=1_200)
    budget: Budget = Budget(steps=3_000)

    #: What "auto" chooses from, the usual one first: classes are clusters, or rules.
    clusters: Regularisation = Regularisation(0.2, 1.0)
    rules: Regularisation = Regularisation(0.0, 0.0)

    #: Labelled rows that a step sees; up to so many labels, it sees all of them.
    labelled_rows: int = 256

    #: Rows that the distance between neighbours is measured on.
    neighbour_rows: int = 2_000

    #: Share of the labelled rows that validation takes, if that makes enough rows.
    validation_fraction: float = 0.1

    #: The interpolation's weight rises with exp(-5 (1 - t)^2) over the first part t of
    #: training (Feng et al. 2021, section 5).
    ramp: float = 0.4

    #: Labels from which cross-validation chooses the regularisation. With 250 or 500
    #: it gains on nursery and banknote, with 30 or 100 nothing (results/ablations.md).
    least_labels: int = 200

    #: Cross-validation: folds; the most rows with labels, and of any kind; the
    #: networks, and how they are trained.
    n_folds: int = 4
    most_labels: int = 2_000
    most_rows: int = 20_000
    search_widths: tuple[int, ...] = (64, 64)
    search_steps: int = 400
    search_batch: int = 256
    search_rate: float = 1e-2

    #: Importance draws of ``score_samples``, for every class.
    evidence_draws: int = 64

    #: Candidates per row among which "m1" finds rows of a class, and limits of them
    #: all.
    candidates_per_row: int = 64
    least_candidates: int = 4_096
    most_candidates: int = 2**17

    #: A latent variable of M1 whose posterior mean varies less than this carries
    #: nothing, and M2 does not see it (Kingma et al. 2014, their code).
    least_deviation: float = 0.1


SETTINGS = Settings()
