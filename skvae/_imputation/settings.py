"""Tuning constants of the imputer, with the reason of each.

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
    """Training of the conditional mean by table size, see choose_mean_settings."""

    hidden_layer_sizes: tuple[int, ...]
    n_members: int
    #: Upper bound of the uniform masking rate of a row.
    max_masking_rate: float
    #: Decoupled weight decay (Loshchilov and Hutter 2019).
    weight_decay: float
    batch_size: int
    n_steps: int
    #: Learning rate, as a multiple of the estimator's.
    learning_rate_factor: float
    #: Maximum number of inputs of the normal, as its cost per step grows with their
    #: cube; of more it models the numeric ones alone, or none.
    widest_normal: int
    #: Whether training rows are conditioned by a normal that was fitted without them.
    cross_fit: bool


@dataclass(frozen=True)
class Settings:
    """Tuning constants of :class:`skvae._imputation.model.ImputationModel`."""

    # -- conditional mean --------------------------------------------------------

    #: Minimum rows of a large table. The settings of small tables up to 8,000 rows gain
    #: on one of three tables and lose on two (development).
    large_table: int = 5_000

    #: Small tables need regularisation. Eight networks, a third layer or twice the
    #: steps gain at most 0.4%, and lower masking rates or weight decays lose on some
    #: tables (development). The normal's width is that of 256 rows per batch.
    small: MeanSettings = MeanSettings(
        (128, 128), 4, 0.9, 0.3, 256, 1_500, 2.0, widest_normal=128, cross_fit=True
    )

    #: Large tables need training time: layers, batch size, weight decay and learning
    #: rate are from the development record. A masking rate of 0.6 was tested, 0.5 was
    #: not. Four networks gain up to 2% and take 1.7 times as long. ``n_steps`` is an
    #: upper limit.
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

    #: Frequencies of the periodic features of a number, kept from the first version: 8
    #: are as good within 0.3% (development).
    n_frequencies: int = 16

    #: Maximum number of periodic features: 16 frequencies for up to 512 numbers, fewer
    #: in wider tables, whose first layer would otherwise be 17 times as wide as the
    #: table.
    most_waves: int = 2**14

    #: Loss weight of the cells that are inputs: reconstruction keeps the features
    #: informative. Weights of 0 and 1 lose 1% (development).
    input_weight: float = 0.1

    #: Clipping bound of the normal's probabilities, which may be negative, from 0 and
    #: from 1. 0.02 loses 3% on soybean (development).
    probability_floor: float = 0.002

    #: Lower bound of the uniform masking rate of a row.
    min_masking_rate: float = 0.1

    #: Decay of the exponential moving average (EMA) of the weights.
    ema_decay: float = 0.995

    #: Maximum number of rows held out, each by one network, for choosing averaged
    #: weights and stacking weights: more cost time at every score.
    held_out_rows: int = 3_000
    #: Maximum of these rows times floats per row: less than 300 MB. Fewer rows in
    #: tables with more than some 5,000 outputs.
    held_out_floats: int = 2**26

    #: Minimum number of rows per network; smaller tables hold out none.
    rows_per_member: int = 5

    #: Input masks per held-out row, in stacking and in calibration. 16 change nothing
    #: (development).
    masks_per_row: int = 4

    #: Number of scores of the averaged weights on held-out rows.
    n_scores: int = 10

    #: Cross-fitting folds of the normal per network: smaller folds leave a fit closer
    #: to that of all rows.
    folds_per_member: int = 2

    # -- stacking ----------------------------------------------------------------

    #: Candidate weights of the networks, evenly spaced from 0 to 1.
    n_weights: int = 11

    #: Pseudo-count of the pooled loss, in cells, that a column's own loss shrinks to.
    pooled_cells: float = 50.0

    #: Minimum gain over the normal, in nats per cell: linear relations stay exactly
    #: as the normal has them.
    min_gain: float = 0.01

    #: Candidates for the estimation error, as a fraction of the residual variance; one
    #: for all numeric columns, as single columns follow outliers (development).
    error_ratios: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

    #: Minimum gain of a shrinkage, in standard errors (development).
    min_standard_errors: float = 2.0

    # -- multivariate normal -----------------------------------------------------

    #: Maximum of rows x columns^3 for the normal beside networks: as these correct it,
    #: its standard errors matter little. Alone it is fitted to all rows.
    normal_work: float = 1e9
    #: Minimum number of rows for the normal beside networks.
    min_normal_rows: int = 500
    #: Maximum number of rows for the normal beside networks.
    max_normal_rows: int = 5_000

    #: Maximum number of EM iterations.
    em_iterations: int = 50
    #: Convergence tolerance of EM: largest change of an entry of the covariance matrix,
    #: relative to the largest variance.
    em_tolerance: float = 1e-3

    #: Maximum EM iterations per cross-fitting fold, initialised at the fit of all rows.
    fold_iterations: int = 5

    #: Maximum number of columns of the normal without networks: a fit takes their cube,
    #: some 20 s for 60 rows of 1,000 columns. More are refused.
    widest_linear: int = 1_000

    #: Ridge on the diagonal, times columns by rows: small tables are shrunk more, and
    #: rare categories, whose 0/1 inputs vary little, more than numbers (development).
    ridge: float = 0.05

    #: Minimum number of parameter draws.
    min_draws: int = 5
    #: Maximum number of parameter draws.
    max_draws: int = 20
    #: Target size of the drawn matrices, in floats.
    drawn_floats: int = 80_000

    #: Minimum rounds of data augmentation between two draws. With 70% of a column
    #: missing, restarts with few rounds cover 85%, textbook regression 93.5% (budgets).
    min_rounds: int = 2
    #: Maximum rounds of data augmentation between two draws.
    max_rounds: int = 20
    #: Target of rows x columns^3 over all rounds.
    rounds_work: float = 3e8

    #: Rounds before the first draw, as a multiple of those between two.
    burn_in: int = 5

    #: Minimum number of columns for conditioning in groups with a similar number of
    #: given cells: exact, and four times faster on soybean (development).
    wide: int = 24
    #: Number of these groups.
    n_groups: int = 4

    #: Floats of the matrices solved at a time: bounds the memory.
    solve_floats: int = INFERENCE_FLOATS
    #: Maximum number of rows solved at a time in EM.
    em_rows: int = 512

    # -- conditional VAE ---------------------------------------------------------

    #: Maximum number of weights from context to outputs, as their number grows with the
    #: square of the columns. Beyond it (some 400 numbers, or 600 categories), outputs
    #: get fixed copies of their own entries of the context.
    direct_weights: int = 2**20

    #: Hidden layers. Three of 256 take a third more time for the whole fit and change
    #: CRPS by 0.1 to 0.3% (development).
    vae_layers: tuple[int, ...] = (128, 128)

    #: Short training: most of the work is done by the conditional mean.
    budget: Budget = field(
        default_factory=lambda: Budget(
            steps=400, epochs=3, patience_steps=200, patience_epochs=2
        )
    )

    #: Range of the uniform masking rate; rates above 1 mask the whole row.
    masking_range: tuple[float, float] = (0.05, 1.1)

    #: Minimum fraction of missing cells for masks from the patterns of other rows.
    min_missing: float = 0.05
    #: Fraction of rows with such masks in the training of the VAE (all in validation).
    permuted_rows: float = 0.5

    #: Antithetic pairs of fixed draws of z, for means over the prior.
    node_pairs: int = 4

    #: Minimum scale of a column with repeated values, as a fraction of the gaps between
    #: them: the density of repeated values is unbounded.
    floor_per_gap: float = 0.25

    #: Maximum number of held-out rows for the calibration of scales.
    calibration_rows: int = 1_000
    #: Draws per cell in the calibration.
    calibration_draws: int = 16
    #: Maximum of rows, masks, draws and outputs multiplied, in the calibration: less
    #: than 300 MB. Fewer rows in tables with more than some 1,000 outputs.
    calibration_floats: int = 2**26
    #: Maximum factor, or divisor, of a scale.
    max_rescaling: float = 2.0
    #: Prior strength of factor 1, in cells (pseudo-count).
    unscaled_cells: float = 20.0

    # -- draws -------------------------------------------------------------------

    #: Margin of draws beyond the observed range, as a fraction of it.
    range_margin: float = 0.25

    #: Unit of ranges whose ends are forgotten, in standard deviations: coarse enough to
    #: hide a value, and hardly more room for extrapolation.
    forgotten_step: float = 0.25

    #: Stages, of a few columns each, in which rows without an observed cell are drawn.
    n_stages: int = 8

    #: Maximum number of rows for fitting the slopes of self-masking.
    self_masking_rows: int = 2_000
    #: Minimum number of these rows: the standard error of a slope is about 0.4.
    min_slope_rows: int = 100
    #: Maximum passes over these rows: beyond as many self-masking columns, groups of
    #: them are masked together, so that the work is linear in the columns.
    slope_passes: int = 32
    #: Target of passes x rows x draws x outputs, some 10 s.
    slope_work: float = 2.5e8
    #: Maximum slope per standard deviation: beyond it no draw is left to weigh.
    max_slope: float = 3.0

    #: Importance-resampling candidates per draw for self-masking columns.
    n_candidates: int = 50


SETTINGS = Settings()


def choose_mean_settings(
    n_rows: int, n_columns: int, settings: Settings = SETTINGS
) -> MeanSettings:
    """Return the settings of the networks for a table of this size."""
    small, large = settings.small, settings.large
    if n_rows < settings.large_table:
        # batches of few rows leave time for wider matrices
        ratio = max(1.0, small.batch_size / n_rows)
        return replace(small, widest_normal=int(small.widest_normal * ratio ** (1 / 3)))
    n_steps = max(settings.steps_per_column * n_columns, small.n_steps)
    return replace(large, n_steps=min(n_steps, large.n_steps))
