"""Numeric columns that repeat their values: their units, and draws of such values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from .columns import Column
from .settings import DEFAULT_SETTINGS, Settings
from .transforms import Affine


def relative_deviations(
    columns: Sequence[Column], settings: Settings = DEFAULT_SETTINGS
) -> np.ndarray:
    """Return the relative standard deviations of the columns that share a unit.

    Most pixels have the same lowest and highest value, and so do measurements that
    were brought to one range. Their standard deviations are divided by the root of
    their mean square. All other columns get 1.
    """
    deviations = np.ones(len(columns))
    repeating, scales = {}, np.ones(len(columns))
    for index, column in enumerate(columns):
        if column.transform == "standard" and column.support is not None:
            assert isinstance(column.map, Affine)
            repeating[index], scales[index] = column.support, column.map.scale
    ranges = Counter((values[0], values[-1]) for values in repeating.values())
    if not ranges:
        return deviations
    common, count = ranges.most_common(1)[0]
    least = settings.min_fraction_of_one_unit * len(repeating)
    if count < max(settings.min_columns_of_one_unit, least):
        return deviations
    unit = np.unique(
        np.concatenate([v for v in repeating.values() if (v[0], v[-1]) == common])
    )
    # pixels at the border may lack the highest values: a subset of the values is enough
    sharing = [i for i, values in repeating.items() if np.isin(values, unit).all()]
    deviations[sharing] = scales[sharing] / np.sqrt(np.mean(scales[sharing] ** 2))
    return deviations


def cut_points_of_values(
    columns: Sequence[Column],
    draw: Callable[[int], np.ndarray],
    settings: Settings = DEFAULT_SETTINGS,
) -> dict[int, np.ndarray]:
    """Return the cut points of draws between the repeated values of every column.

    ``draw`` returns as many encoded rows of the model, (rows, n_columns), whose columns
    are ``columns``; it is called if one of them repeats values. Between two cut points
    lies the fraction of draws that is the frequency of the value in the training table:
    a density alone smooths the atom at 40 hours a week. Ranks, and with them the
    dependence between columns, stay as drawn.
    """
    frequencies = {
        index: column.frequencies
        for index, column in enumerate(columns)
        if column.frequencies is not None
    }
    if not frequencies:
        return {}
    draws = draw(settings.n_draws_for_cut_points)
    return {
        index: np.quantile(draws[:, index], frequency.cumsum()[:-1])
        for index, frequency in frequencies.items()
    }


def check_cut_points(
    columns: Sequence[Column], cut_points: dict[int, np.ndarray]
) -> None:
    """Raise ValueError for cut points of columns that do not repeat such values."""
    for index, cuts in cut_points.items():
        support = columns[index].support
        if support is None or cuts.shape != (len(support) - 1,):
            raise ValueError(f"column {index} has not as many repeated values")


def cut_into_values(rows: np.ndarray, cut_points: dict[int, np.ndarray]) -> None:
    """Replace draws of columns that repeat their values by indices of these, in place.

    Indices are whole and small: float32 holds them, as it does not every value.
    """
    for index, cuts in cut_points.items():
        rows[:, index] = np.searchsorted(cuts, rows[:, index])
