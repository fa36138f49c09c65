"""The tuning constants of the imputer, each with its reason.

Where a record chose a value, it is named: "development" stands for
benchmarks/results/imputation_development.md, "budgets" for
benchmarks/results/training_budget_development.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .._networks.batch import INFERENCE_FLOATS
from .._training.settings import Budget


@dataclass(frozen=True)
class MeanSettings:
    """How the networks of the conditional mean are built and trained.

    They depend on the size of the table, see :func:`choose_mean_settings`.
    """

    hidden_layer_sizes: tuple[int, ...]
    n_members: int
    #: The highest masking rate of a row, which is uniform up to here.
    most_masked: float
    #: Decoupled weight decay (Loshchilov and Hutter 2019).
    weight_decay: float
    batch_size: int
    n_steps: int
    #: Learning rate, as a multiple of the estimator's.
    learning_rate_factor: float
    #: With more inputs than this the normal models the numeric ones alone, or none: its
    #: cost per step grows with their cube.
    widest_normal: int
    #: Whether training rows are conditioned by a normal that was fitted without them.
    cross_fit: bool


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._imputation.model.ImputationModel`."""

    # -- conditional mean --------------------------------------------------------

    #: Rows from which a table is large. The settings of small tables up to 8,000 rows
    #: gain on one of three tables and lose on two (development).
    large_table: int = 5_000

    #: Small tables need regularisation. Eight networks, a third layer or twice the
    #: steps gain at most 0.4%, and lower masking rates or weight decays lose on some
    #: tables (development). The normal's width is that of 256 rows per batch.
    small: MeanSettings = MeanSettings(
        (128, 128), 4, 0.9, 0.3, 256, 1_500, 2.0, widest_normal=128, cross_fit=True
    )

    #: Large tables need training time: layers, batch size, weight decay and learning
    #: rate are those of the development record, which also lowered the masking rate (to
    #: 0.6; 0.5 has no record). Four networks gain up to 2% and take 1.7 times as long.
    #: ``n_steps`` is an upper limit.
    large: MeanSettings = MeanSettings(
        (256, 256, 256),
        2,
        0.5,
        0.02,
        512,
        4_000,
        1.0,
        widest_normal=48,
        cross_fit=False,
    )

    #: Steps per column of a large table, between those of ``small`` and of ``large``.
    steps_per_column: int = 250

    #: Frequencies of the periodic features of a number; 8 are as good as 16 within 0.3%
    #: (development).
    n_frequencies: int = 16

    #: Weight in the loss of the cells that are inputs: reconstruction keeps the
    #: features informative. Weights of 0 and 1 lose 1% (development).
    input_weight: float = 0.1

    #: The normal's probabilities, which may be negative, are clipped here and at one
    #: minus this. 0.02 loses 3% on soybean (development).
    probability_floor: float = 0.002

    #: The lowest masking rate of a row in the training of the mean.
    least_masked: float = 0.1

    #: Decay of the moving average of the weights.
    averaging: float = 0.995

    #: The most rows that are held out, each by one network, to choose averaged weights
    #: and stacking weights: more cost time at every score.
    held_out_rows: int = 3_000

    #: Tables with fewer rows per network hold out none.
    rows_per_member: int = 5

    #: Input masks per held-out row, in stacking and in calibration. 16 change nothing
    #: (development).
    masks_per_row: int = 4

    #: Times that the averaged weights are scored on held-out rows.
    n_scores: int = 10

    #: Folds that the normal is fitted without, per network: smaller folds leave a fit
    #: that is closer to that of all rows.
    folds_per_member: int = 2

    # -- stacking ----------------------------------------------------------------

    #: Weights of the networks that are tried, evenly spaced from 0 to 1.
    n_weights: int = 11

    #: Cells of all columns of a kind that count beside a column's own, as a column with
    #: few cells has a noisy loss.
    pooled_cells: float = 50.0

    #: The least gain over the normal, in nats per cell: linear relations stay exactly
    #: as the normal has them.
    least_gain: float = 0.01

    #: Candidates for the error of estimation, as a part of the residual variance; one
    #: for all numeric columns, as single columns follow outliers (development).
    error_ratios: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

    #: Standard errors that the gain of a shrinkage has to exceed (development).
    least_evidence: float = 2.0

    # -- multivariate normal -----------------------------------------------------

    #: Beside networks the normal is fitted to a random part of the rows, so many that
    #: rows x columns^3 stays below the first number, between the other two: networks
    #: correct it, so its standard errors matter little. Alone it is fitted to all rows.
    normal_work: float = 1e9
    least_normal_rows: int = 500
    most_normal_rows: int = 5_000

    #: EM stops after this many iterations, or when no entry of the covariance matrix
    #: (relative to the largest variance) changes by more than the tolerance.
    em_iterations: int = 50
    em_tolerance: float = 1e-3

    #: Iterations of fits without a fold, which are initialised at the fit of all rows.
    fold_iterations: int = 5

    #: Ridge on the diagonal, times columns by rows: small tables are shrunk more, and
    #: rare categories, whose 0/1 inputs vary little, more than numbers (development).
    ridge: float = 0.05

    #: Draws of the parameters, and floats of their matrices that are aimed at.
    least_draws: int = 5
    most_draws: int = 20
    drawn_floats: int = 80_000

    #: Rounds of data augmentation from one draw to the next, and rows x columns^3 of
    #: all rounds that is aimed at. With 70% of a column missing, restarts with few
    #: rounds cover 85% where textbook regression covers 93.5% (budgets).
    least_rounds: int = 2
    most_rounds: int = 20
    rounds_work: float = 3e8

    #: Rounds before the first draw, as a multiple of those between two.
    burn_in: int = 5

    #: Columns from which rows are conditioned in groups with about as many inputs, for
    #: smaller matrices, and the number of groups. Exact, and four times faster on
    #: soybean (development).
    wide: int = 24
    n_groups: int = 4

    #: Floats of the matrices that are solved at a time, and rows of EM's: they bound
    #: the memory.
    solve_floats: int = INFERENCE_FLOATS
    em_rows: int = 512

    # -- conditional VAE ---------------------------------------------------------

    #: Hidden layers. Three of 256 take a third more time for the whole fit and change
    #: CRPS by 0.1 to 0.3% (development).
    vae_layers: tuple[int, ...] = (128, 128)

    #: Its training is short: most of the work is done by the conditional mean.
    budget: Budget = field(
        default_factory=lambda: Budget(
            steps=400, epochs=3, patience_steps=200, patience_epochs=2
        )
    )

    #: Lowest and highest masking rate of a row; above 1 for some rows, so that whole
    #: rows are generated as well.
    masking_range: tuple[float, float] = (0.05, 1.1)

    #: Missing part of a table from which input masks are those of other rows: in the
    #: validation always, in the training of the VAE for this part of the rows.
    least_missing: float = 0.05
    permuted_rows: float = 0.5

    #: Pairs of opposite latent nodes whose average stands for the mean over the prior.
    node_pairs: int = 4

    #: The least scale of a column that repeats its values, as a part of the gaps
    #: between them: the density of repeated values is unbounded.
    floor_per_gap: float = 0.25

    #: Calibration: held-out rows, draws per cell, the largest change of a scale, and
    #: the cells that count as much as those of a column for no change.
    calibration_rows: int = 1_000
    calibration_draws: int = 16
    most_rescaling: float = 2.0
    unscaled_cells: float = 20.0

    # -- draws -------------------------------------------------------------------

    #: Draws may lie beyond the observed range by this part of it.
    range_margin: float = 0.25

    #: Stages in which rows without an observed cell are drawn, a few columns in each.
    n_stages: int = 8

    #: Rows that the slopes of self-masking are learned from, and the largest slope per
    #: standard deviation: beyond it no draw is left to weigh.
    self_masking_rows: int = 2_000
    most_slope: float = 3.0

    #: Draws that are resampled to one where columns mask themselves.
    n_candidates: int = 50


#: The settings of the imputer.
SETTINGS = Settings()


def choose_mean_settings(
    n_rows: int, n_columns: int, settings: Settings = SETTINGS
) -> MeanSettings:
    """Return the settings of the networks for a table of so many rows and columns."""
    small, large = settings.small, settings.large
    if n_rows < settings.large_table:
        # batches of few rows leave time for wider matrices
        ratio = max(1.0, small.batch_size / n_rows)
        return replace(small, widest_normal=int(small.widest_normal * ratio ** (1 / 3)))
    n_steps = max(settings.steps_per_column * n_columns, small.n_steps)
    return replace(large, n_steps=min(n_steps, large.n_steps))
