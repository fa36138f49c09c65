"""Maps between encoded and original values, and ranges of estimates and draws.

``x`` is encoded, near N(0, 1), as heads model it; ``x_original`` holds numbers in
original units, shifted and scaled, as means are computed. Positions are those of the
columns in the order of the heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, from_numpy

from .._distributions.registry import LIKELIHOODS
from .._networks.arrays import check_array
from .._tables.columns import Column
from .._tables.transforms import Affine, moments


@dataclass
class Scales:
    """Scales and ranges of the columns.

    Attributes
    ----------
    columns : list of Column
        The columns, in the order of the heads.
    scales : dict of int to tuple of float
        Mean and standard deviation, in original units, of the numeric columns whose
        ``x_original`` differs from their ``x``, by position.
    drawn : ndarray of shape (2, n_columns)
        Lowest and highest draw of every column, in ``x``.
    expected : ndarray of shape (2, n_columns)
        Lowest and highest point estimate of every column, in ``x_original``.
    """

    columns: list[Column]
    scales: dict[int, tuple[float, float]]
    drawn: np.ndarray
    expected: np.ndarray

    @classmethod
    def fit(
        cls,
        columns: list[Column],
        values: np.ndarray,
        observed: np.ndarray | None,
        order: np.ndarray,
        margin: float,
    ) -> Scales:
        """Return the scales of an encoded table.

        ``order`` are the table indices of the columns; draws may lie beyond the
        observed range by ``margin`` of it.
        """
        scales = {}
        drawn = np.full((2, len(columns)), np.inf, dtype=np.float32)
        drawn[0] *= -1
        expected = drawn.copy()
        for position, column in enumerate(columns):
            if not is_number(column):
                continue
            cells = values[:, order[position]]
            if observed is not None:
                cells = cells[observed[:, order[position]]]
            if not len(cells):
                continue
            ends = np.array([cells.min(), cells.max()], dtype=np.float64)
            original = column.map.inverse(ends)
            expected[:, position] = ends
            drawn[:, position] = column.map.forward(widened_range(original, margin))
            # means of a robust transform would be those of its tails
            if column.transform not in ("standard", "robust"):
                cells = column.map.inverse(cells.astype(np.float64))
                mean, scale = map(float, moments(cells))
                scale = scale or 1.0
                scales[position] = (mean, scale)
                expected[:, position] = (original - mean) / scale
        return cls(columns, scales, drawn, expected)

    def to_state(self) -> dict[str, Any]:
        """Return copies as plain containers and arrays, without the columns."""
        return {
            "scales": {str(place): list(pair) for place, pair in self.scales.items()},
            "drawn": self.drawn.copy(),
            "expected": self.expected.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], columns: list[Column]) -> Scales:
        """Rebuild the scales of ``columns`` from what :meth:`to_state` returned."""
        scales = {int(place): tuple(pair) for place, pair in state["scales"].items()}
        if scales.keys() - range(len(columns)):
            raise ValueError("scales of other columns")
        for name in ("drawn", "expected"):
            check_array(state[name], (2, len(columns)), name, "float32")
        return cls(columns, scales, state["drawn"].copy(), state["expected"].copy())

    def forget_values(self, step: float) -> None:
        """Forget the ranges of the columns: widen them to multiples of a step.

        ``step`` is in standard deviations. Ends of 0 stay, and so do signs.
        """
        for position, column in enumerate(self.columns):
            drawn, expected = self.drawn[:, position], self.expected[:, position]
            if not np.isfinite(drawn[0]):
                continue
            if position in self.scales:
                mean, scale = self.scales[position]
            elif isinstance(column.map, Affine):
                mean, scale = column.map.mean, column.map.scale
            else:  # compressed tails: a step is one of encoded values
                for part in (drawn, expected):
                    ends = column.map.inverse(part)
                    wide = column.map.inverse(widened_to(part.astype(float), step))
                    wide[ends * np.sign(wide) <= 0] = 0
                    part[:] = column.map.without_values().forward(wide)
                continue
            ends = column.map.inverse(drawn.astype(np.float64))
            ends = widened_to(ends, step * scale)
            # the map that the column will have
            drawn[:] = column.map.without_values().forward(ends)
            ends = expected.astype(np.float64) * scale + mean
            expected[:] = (widened_to(ends, step * scale) - mean) / scale

    def to_original(self, x: np.ndarray, position: int) -> np.ndarray:
        """Return ``x_original`` of encoded values of a column."""
        if position not in self.scales:
            return x
        mean, scale = self.scales[position]
        return (self.columns[position].map.inverse(x.astype(np.float64)) - mean) / scale

    def to_encoded(self, original: np.ndarray, position: int) -> np.ndarray:
        """Return encoded values of a column, given its ``x_original``."""
        if position not in self.scales:
            return original
        mean, scale = self.scales[position]
        values = original.astype(np.float64) * scale + mean
        return self.columns[position].map.forward(values)

    def rows_to_original(self, x: Tensor, observed: Tensor) -> Tensor:
        """Return ``x_original`` of encoded rows, missing cells at 0."""
        if not self.scales:
            return x
        original = x.clone()
        for position in self.scales:
            column = self.to_original(x[:, position].cpu().numpy(), position)
            original[:, position] = from_numpy(column).to(original)
        return original * observed

    def rows_to_encoded(self, original: Tensor) -> np.ndarray:
        """Return encoded rows given ``x_original``, (..., columns)."""
        x = original.cpu().numpy()
        for position in self.scales:
            x[..., position] = self.to_encoded(x[..., position], position)
        return x

    def nearest_values(self, x: np.ndarray, position: int) -> np.ndarray | None:
        """Return draws rounded to a column's values, None if these do not repeat.

        Numbers are given by their indices into these values.
        """
        column = self.columns[position]
        if column.kind == "ordinal":
            return np.rint(x)
        if column.kind == "count":
            return np.maximum(np.rint(x), 0)
        if column.support is None:
            return None
        return column.nearest_index(column.map.inverse(x))

    def log_jacobian(self, x: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """Return the log-Jacobian of ``x_original``, observed cells only, by row."""
        slopes = np.zeros(x.shape)
        for position, column in enumerate(self.columns):
            if position in self.scales:
                slopes[:, position] = -np.log(self.scales[position][1])
            else:
                encoded = x[:, position].astype(np.float64)
                slopes[:, position] = column.map.log_slope(encoded)
        return (observed * slopes).sum(1)

    def ordered(self) -> list[int]:
        """Return the columns whose values have an order: numbers and ordinals."""
        return [
            position
            for position, column in enumerate(self.columns)
            if is_number(column) or column.kind == "ordinal"
        ]


def clamp(rows: Tensor, ends: np.ndarray) -> Tensor:
    """Return rows, (..., columns), clamped to the range of every column."""
    low, high = from_numpy(ends).to(rows)
    return rows.clamp(low, high)


def is_number(column: Column) -> bool:
    """Return whether the column holds numbers or counts, whose values have means."""
    return LIKELIHOODS[column.likelihood].is_numeric


def widened_to(ends: np.ndarray, unit: float) -> np.ndarray:
    """Return the smallest range between multiples of a unit that holds another one."""
    low, high = ends / unit
    return np.array([np.floor(low), np.ceil(high)]) * unit


def widened_range(ends: np.ndarray, margin: float) -> np.ndarray:
    """Return the range of draws of a column.

    Missing values may lie beyond the observed ones, above all where large ones are
    missing more often: without a margin, draws would flatten every relation. A column
    that is never negative (positive) stays so. Point estimates have the observed range,
    as few rows extrapolate badly.
    """
    low, high = ends
    limit = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        reach = margin * high - margin * low
        low, high = np.clip([low - reach, high + reach], -limit, limit)
    if ends[0] >= 0:
        low = max(low, 0.0)
    if ends[1] <= 0:
        high = min(high, 0.0)
    return np.array([low, high])
