"""Monotone maps of one numeric column, and the choice between them.

A map takes the values of a column, in the units of the table, to values near
N(0, 1). Every map is invertible on the whole line and has a slope everywhere, so
that a density of the encoded value gives a density of the original value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import ndtri
from sklearn.preprocessing import QuantileTransformer

from .outliers import centre_and_spread
from .settings import DEFAULT_SETTINGS, Settings

#: Place of a knot between two values of a column, as a fraction of their distance: no
#: simple one, or it would often be another value.
BETWEEN = 0.382


@dataclass
class Affine:
    """Shift and scale: ``(x - mean) / scale``; the identity by default."""

    kind: ClassVar[str] = "affine"

    mean: float = 0.0
    scale: float = 1.0

    def forward(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            encoded = (values - self.mean) / self.scale
            if np.isinf(encoded).any():  # a difference of huge numbers
                encoded = values / self.scale - self.mean / self.scale
        return encoded

    def inverse(self, encoded: np.ndarray) -> np.ndarray:
        # float64 whatever the input: float32 would round to the digits of the mean
        encoded = np.asarray(encoded, dtype=np.float64)
        with np.errstate(over="ignore"):  # dtypes have an end, see ``held_by``
            values: np.ndarray = encoded * self.scale + self.mean
        return values

    def log_slope(self, encoded: np.ndarray) -> np.ndarray:
        return np.full(len(encoded), -np.log(self.scale))

    def without_values(self) -> Affine:
        """Return a map without values of the column: this one."""
        return self


@dataclass
class PiecewiseLinear:
    """Strictly increasing piecewise linear function, extrapolated at the ends."""

    kind: ClassVar[str] = "piecewise_linear"

    knots: np.ndarray
    scores: np.ndarray

    def forward(self, values: np.ndarray) -> np.ndarray:
        return _interpolate(values, self.knots, self.scores)

    def inverse(self, encoded: np.ndarray) -> np.ndarray:
        encoded = np.asarray(encoded, dtype=np.float64)
        with np.errstate(over="ignore"):
            return _interpolate(encoded, self.scores, self.knots)

    def log_slope(self, encoded: np.ndarray) -> np.ndarray:
        slopes = np.diff(self.scores) / np.diff(self.knots)
        return np.log(slopes)[_segment(encoded, self.scores)]

    def without_values(self) -> PiecewiseLinear:
        """Return nearly the same map without values of the column, as its knots are.

        Its knots lie between two of this one. The first and the last segment have two
        of them: beyond these, extrapolation is the same.
        """
        n_segments = len(self.knots) - 1
        places = np.arange(n_segments) + BETWEEN
        ends = [1 - BETWEEN, n_segments - BETWEEN]
        places = np.unique([*places, *ends])
        knots, scores = (
            np.interp(places, np.arange(n_segments + 1), points)
            for points in (self.knots, self.scores)
        )
        return PiecewiseLinear(knots, scores)


def map_to_state(map_: Affine | PiecewiseLinear) -> dict[str, Any]:
    """Return a map as plain values: its kind and its parameters."""
    return {"kind": map_.kind, **asdict(map_)}


def map_from_state(state: dict[str, Any]) -> Affine | PiecewiseLinear:
    """Return the map that :func:`map_to_state` was called on."""
    parameters = {key: value for key, value in state.items() if key != "kind"}
    maps = {map_.kind: map_ for map_ in (Affine, PiecewiseLinear)}
    return maps[state["kind"]](**parameters)


def _segment(points: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the segment of each point; the end segments reach to infinity."""
    return np.searchsorted(knots[1:-1], points, side="right")


def _interpolate(points: np.ndarray, knots: np.ndarray, values: np.ndarray):
    segment = _segment(points, knots)
    slopes = np.diff(values) / np.diff(knots)
    return values[segment] + (points - knots[segment]) * slopes[segment]


def power_of_two(values: np.ndarray) -> float:
    """Return a power of two near the largest absolute value, 1 if that is 0.

    Dividing by it is exact and keeps the squares of huge and tiny values finite.
    """
    largest = max(abs(float(values.min())), abs(float(values.max())))
    return float(2.0 ** min(np.frexp(largest)[1], 1023)) if largest > 0 else 1.0


def moments(
    values: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of every column of ``values``.

    Of values of any size, (n_values,) or (n_values, n_columns). They are centred
    first: a mean far above the deviation takes none of its digits.
    """
    size = power_of_two(values)
    scaled = np.asarray(values, dtype=np.float64) / size
    centre = scaled.min(axis=0) / 2 + scaled.max(axis=0) / 2
    scaled -= centre
    # differences of the values may be as small as their last place
    unit = power_of_two(scaled)
    scaled /= unit
    shift = np.average(scaled, axis=0, weights=weights)
    scaled -= shift
    variance = np.average(scaled * scaled, axis=0, weights=weights)
    mean = (centre + shift * unit) * size
    return mean, np.sqrt(variance) * unit * size


def constant_of(
    values: np.ndarray, settings: Settings = DEFAULT_SETTINGS
) -> float | int | None:
    """Return the only value of a column, None where it varies.

    Floats that differ by a few units in the last place are one value, rounded in
    several ways; integers, and the coarse halves, are equal or not.
    """
    if len(values) == 0:
        return None
    low, high = values.min(), values.max()
    if low == high:
        only: float | int = low.item()
        return only
    if values.dtype.kind != "f" or values.dtype.itemsize < 4:
        return None
    # the same as that of the largest number, which has none above it
    end = values.dtype.type(0.75 * float(np.finfo(values.dtype).max))
    last_place = np.spacing(min(max(abs(low), abs(high)), end))
    if high / 2 - low / 2 > settings.max_constant_ulps * last_place / 2:
        return None
    middle: float = np.sort(values)[len(values) // 2].item()
    return middle


def fit_affine(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> Affine:
    """Fit the map to mean 0 and standard deviation 1.

    A constant column gets the scale 1, and its value becomes 0.
    """
    if len(values) == 0:
        return Affine()
    constant = constant_of(values, settings)
    if constant is not None:
        return Affine(mean=float(constant))
    mean, deviation = moments(values, weights)
    return Affine(float(mean), float(deviation) or 1.0)


def fit_robust(
    values: np.ndarray, settings: Settings = DEFAULT_SETTINGS
) -> PiecewiseLinear | None:
    """Fit a map with compressed tails; None where the tails do not hide the body.

    The body, within a few robust standard deviations of the median, gets mean 0 and
    standard deviation 1. Beyond it every doubling of the distance adds 1.
    """
    if len(values) < settings.min_cells_for_outliers:
        return None
    size = power_of_two(values)
    ordered = np.sort(values) / np.float64(size)
    median, spread = centre_and_spread(ordered)
    if moments(ordered)[1] <= settings.min_deviation_ratio * spread or spread == 0:
        return None
    start = settings.tail_from
    body = ordered[np.abs(ordered - median) <= start * spread]
    mean, deviation = moments(body)
    farthest = max(ordered[-1] - mean, mean - ordered[0]) / deviation
    n_doublings = np.log2(farthest / start)
    scores = start + np.append(np.arange(np.ceil(n_doublings)), n_doublings)
    knots = mean + deviation * start * 2.0 ** (scores - start)
    low_knots = mean - (knots - mean)
    return PiecewiseLinear(
        np.concatenate([low_knots[::-1], knots]) * size,
        np.concatenate([-scores[::-1], scores]),
    )


def fit_quantile(
    values: np.ndarray, settings: Settings = DEFAULT_SETTINGS
) -> Affine | PiecewiseLinear:
    """Fit the map of the quantiles of the observed values to those of N(0, 1).

    scikit-learn's ``QuantileTransformer`` supplies the quantiles. Its own map is
    not used, because it clips beyond the training range: it has no inverse there
    and no density.
    """
    n_values = len(values)
    if n_values < 2:
        return fit_affine(values)
    size = power_of_two(values)
    scaled = np.asarray(values, dtype=np.float64) / size
    quantiles = QuantileTransformer(
        n_quantiles=min(n_values, settings.max_quantiles, max(10, n_values // 20)),
        output_distribution="normal",
        random_state=0,
    ).fit(scaled.reshape(-1, 1))
    # The ends stand for the smallest and the largest of n values, whose expected
    # ranks are about 0.5 / n and 1 - 0.5 / n: finite normal scores.
    references = np.clip(quantiles.references_, 0.5 / n_values, 1 - 0.5 / n_values)
    # The slope between knots a subnormal number apart would overflow.
    knots, scores = _merge_ties(
        quantiles.quantiles_[:, 0], ndtri(references), least_gap=1e-306 / size
    )
    if len(knots) < 2:
        return fit_affine(values)
    return PiecewiseLinear(knots * size, scores)


def _merge_ties(knots: np.ndarray, scores: np.ndarray, least_gap: float):
    """Merge equal knots and average their scores, so that both strictly increase."""
    # A gap far below the column's range is rounding.
    smallest_gap = max(1e-12 * (knots[-1] - knots[0]), least_gap)
    starts = np.concatenate([[True], np.diff(knots) > smallest_gap])
    group = np.cumsum(starts) - 1
    counts = np.bincount(group)
    return knots[starts].astype(np.float64), np.bincount(group, scores) / counts


def quantile_helps(values: np.ndarray, settings: Settings = DEFAULT_SETTINGS) -> bool:
    """Tell whether a quantile map clearly raises the held-out density of a column.

    The Normal density of standardised values and that of quantile-transformed
    values, both in the units of the column, are fitted on every other value and
    compared on the rest. Columns with few cells or many repeated values are left out.
    """
    if len(values) < settings.min_cells_for_quantile:
        return False
    most = settings.max_cells_for_choice
    if len(values) > most:
        # Drawn, not strided: the rows of a table often have a period.
        chosen = np.random.default_rng(0).choice(len(values), most, replace=False)
        values = values[np.sort(chosen)]
    values = values.astype(np.float64)
    if len(np.unique(values)) < settings.min_distinct_for_quantile * len(values):
        return False
    train, held_out = values[::2], values[1::2]
    gain = _mean_log_density(fit_quantile(train, settings), held_out)
    gain -= _mean_log_density(fit_affine(train), held_out)
    return bool(gain > settings.min_gain_of_quantile)


def _mean_log_density(map_: Affine | PiecewiseLinear, values: np.ndarray) -> float:
    """Return the mean Normal log-density but for its constant, -log(2π) / 2."""
    encoded = map_.forward(values)
    return float(np.mean(map_.log_slope(encoded) - 0.5 * encoded**2))
