"""Numbers that choose the likelihood and the transform of a column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Thresholds of the choices that "auto" makes, each with its reason.

    Where a record is named, it lies in ``benchmarks/results``; the thresholds of counts
    were set on all tables of that record, so that it does not confirm them. The other
    numbers are conventions without a benchmark of their own.
    """

    #: Most cells that a choice by held-out cells uses. The standard error of a mean
    #: over 10,000 held-out cells is far below the gains that are asked for.
    max_cells_for_choice: int = 20_000

    # -- columns without variation -----------------------------------------------

    #: Largest range of a constant column of floats, in units in the last place: sums
    #: of the same numbers in another order differ by so much.
    max_constant_ulps: float = 4.0

    # -- outliers ----------------------------------------------------------------

    #: Fewest observed cells of a column with outliers: fewer show no tails.
    min_cells_for_outliers: int = 20

    #: Most outliers, as a fraction of the observed cells: more are a group of rows of
    #: their own.
    max_outlier_fraction: float = 0.05

    #: The same where they repeat few values: a marker such as -999, in 10% of cells.
    #: The quartiles stay those of the other cells.
    max_marker_fraction: float = 0.15
    max_markers: int = 3

    #: Least ratio of the distances from the median of an outlier and of the farthest
    #: other cell of its side, and the same where more than half of the cells are equal:
    #: amounts of money that are often 0 span three powers of ten.
    min_outlier_factor: float = 10.0
    min_outlier_factor_of_rare: float = 1_000.0

    #: The farthest other cell counts as this many robust standard deviations away at
    #: least: a skewed column has a short side.
    min_body_spreads: float = 2.0

    #: Cells that show how heavy a tail is: a tenth of its side, but as many as these
    #: where that is no more than half of it. Where half of the cells are equal, so many
    #: others are needed to tell an outlier.
    min_body_cells: int = 10

    #: Least logarithm of that ratio, in means of the logarithms of the excesses in the
    #: tail. In a Pareto tail the largest of them exceeds it by chance once in 1,000
    #: columns.
    outlier_gap: float = 7.0

    # -- robust transform --------------------------------------------------------

    #: Least ratio of the standard deviation to the robust one of a column with tails
    #: that hide its body. The largest among 500 columns of 42 public tables is 18.
    min_deviation_ratio: float = 30.0

    #: Where the tails begin, in robust standard deviations from the median.
    tail_from: float = 5.0

    # -- quantile or standard transform ------------------------------------------

    #: Fewest observed cells: with fewer, the quantiles themselves are uncertain.
    min_cells_for_quantile: int = 500

    #: Least fraction of distinct values: a repeated value is an atom, which no
    #: continuous map makes normal.
    min_distinct_for_quantile: float = 0.8

    #: Least gain in nats per held-out cell over the standard transform: less is no
    #: reason for a nonlinear map, as the decoder has to learn linear relations again.
    min_gain_of_quantile: float = 0.1

    #: Most knots of a quantile map: more would follow the noise of the sample. Smaller
    #: columns have a knot per 20 cells, and at least 10.
    max_quantiles: int = 100

    # -- negative binomial, Poisson or a numeric likelihood ----------------------

    #: Fewest cells above 0: the dispersion shows in them alone.
    min_cells_for_dispersion: int = 50

    #: Least gain of a negative binomial over a Poisson, in nats per held-out cell (and
    #: twice its standard error): latent variables explain a smaller one as well.
    #: Record: counts_development.md, column "over Poisson".
    min_gain_over_poisson: float = 0.1

    #: Least gain over a Normal where that is better than a Poisson: a scale per cell,
    #: heavy tails and latent variables make up for a smaller one. With counts, models
    #: of ages, prices or home runs got worse by 0.1 to 2 nats per cell; those of sums
    #: of money that are often 0 got better by 0.5 to 5. Record: counts_development.md,
    #: column "over numbers".
    min_gain_over_normal: float = 0.5

    #: Most cells that the fitted negative binomial expects outside the range of the
    #: column: with more the values have bounds, as grey values of pixels do. In a
    #: simulation one column in 150 of true counts exceeds it (counts_development.md).
    max_cells_out_of_range: float = 5.0

    #: Largest count of a column that is tested for bounds: grey values and grades are
    #: smaller, and the test sums over all counts up to it.
    max_bounded_count: int = 2**16

    # -- many categories -----------------------------------------------------------

    #: Most categories of a column that are modelled, the most frequent ones. Each costs
    #: as much as half a numeric column.
    max_levels: int = 500
    #: Fewest cells of a modelled category in a column that has more. One cell tells
    #: nothing of its category: where it is masked, none is left.
    min_cells_per_level: int = 2

    # -- repeated values ---------------------------------------------------------

    #: Most distinct values of a column that repeats its values, in total and as a
    #: fraction of its observed cells: every value occurs twice on average.
    max_distinct: int = 1_000
    max_distinct_fraction: float = 0.5

    #: Fewest columns with the same lowest and highest value, in total and as a fraction
    #: of those that repeat their values, that share a unit, as pixels do. A few columns
    #: of one range are no image, and each may matter as much as the others.
    min_columns_of_one_unit: int = 32
    min_fraction_of_one_unit: float = 0.5

    #: Rows drawn after training to find the cut points between repeated values: the
    #: standard error of a frequency is at most 0.8%.
    n_draws_for_cut_points: int = 4_096


DEFAULT_SETTINGS = Settings()
