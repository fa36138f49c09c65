"""Columns of numbers that repeat their values, and draws cut into such values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .columns import Column
from .transforms import Affine

#: Columns of numbers share a unit where so many of them, and so large a share of those
#: that repeat their values, have the same lowest and highest value. A few columns of
#: one range are no image, and each may matter as much as the others.
LEAST_SHARING, SHARE_SHARING = 32, 0.5

#: Rows drawn after training to tell which draws stand for which repeated value.
LIMIT_DRAWS = 4_096


def relative_deviations(columns: Sequence[Column]) -> np.ndarray:
    """Return the spread of every column, relative to those that share its unit.

    Most pixels have the same lowest and highest value, and so do measurements that
    were brought to one range. Their standard deviations, divided by the root of their
    mean square, tell how much a column varies in that unit. All other columns have the
    spread 1.
    """
    spreads = np.ones(len(columns))
    repeating, scales = {}, np.ones(len(columns))
    for index, column in enumerate(columns):
        if column.transform == "standard" and column.support is not None:
            assert isinstance(column.map, Affine)
            repeating[index], scales[index] = column.support, column.map.scale
    ranges = Counter((values[0], values[-1]) for values in repeating.values())
    if not ranges:
        return spreads
    common, count = ranges.most_common(1)[0]
    if count < max(LEAST_SHARING, SHARE_SHARING * len(repeating)):
        return spreads
    unit = np.unique(
        np.concatenate([v for v in repeating.values() if (v[0], v[-1]) == common])
    )
    # pixels at the border may be grey at most: some of the values are enough
    sharing = [i for i, values in repeating.items() if np.isin(values, unit).all()]
    spreads[sharing] = scales[sharing] / np.sqrt(np.mean(scales[sharing] ** 2))
    return spreads


def cut_points_of_values(
    columns: Sequence[Column], draw: Callable[[int], np.ndarray]
) -> dict[int, np.ndarray]:
    """Return what draws of a column that repeats its values are cut at.

    ``draw`` gives as many encoded rows of the model, (rows, n_columns), whose columns
    are ``columns``; it is called if one of them repeats values. Between the limits lies
    the share of the draws that is the value's share of the training table: 40 hours a
    week are a spike that a density only approaches. Order, and with it dependence,
    stays as drawn.
    """
    shares = {i: c.shares for i, c in enumerate(columns) if c.shares is not None}
    if not shares:
        return {}
    draws = draw(LIMIT_DRAWS)
    return {
        position: np.quantile(draws[:, position], share.cumsum()[:-1])
        for position, share in shares.items()
    }


def cut_into_values(
    rows: np.ndarray, columns: Sequence[Column], limits: dict[int, np.ndarray]
) -> None:
    """Turn draws of columns that repeat their values into such values, in place."""
    for position, cuts in limits.items():
        column = columns[position]
        assert column.support is not None
        values = column.support[np.searchsorted(cuts, rows[:, position])]
        rows[:, position] = column.map.forward(values)
