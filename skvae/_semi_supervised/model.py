"""The model of labels: constants and parts."""

from __future__ import annotations

from .selection import Regularisation

#: Importance draws of ``score_samples``, for every class.
CLASS_EVIDENCE_DRAWS = 64

#: Rows that the distance between neighbours is measured on.
NEIGHBOUR_ROWS = 2_000

#: A feature of M1 whose posterior mean varies less than this carries nothing, and
#: M2 does not see it (Kingma et al. 2014, their code).
FEATURE_DEVIATION = 0.1

#: Candidates per row among which "m1" finds rows of a class, and limits of them all.
CANDIDATES_PER_ROW = 64

MIN_CANDIDATES, MAX_CANDIDATES = 4_096, 2**17

#: What "auto" chooses from, the usual one first: classes are clusters, or rules.
SETTINGS = (Regularisation(0.2, 1.0), Regularisation(0.0, 0.0))

#: Share of the labelled rows that validation takes, if that makes enough rows.
DEFAULT_VALIDATION_FRACTION = 0.1
