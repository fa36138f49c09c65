"""Columns of more categories than a model takes: frequent ones are modelled.

The others count as missing cells. Where hardly any category occurs twice, as in a
column of identifiers, the most frequent one stays: the column is constant to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._validation import warn
from .columns import Column
from .settings import Settings


def modelled_levels(
    categories: Sequence[Any], counts: np.ndarray, settings: Settings
) -> list[Any]:
    """Return the categories that are modelled, in their order.

    Parameters
    ----------
    categories : sequence
        All categories of a column.
    counts : ndarray of int of shape (n_categories,)
        Numbers of their cells.
    settings : Settings
        Most categories, and fewest cells of each where there are more.
    """
    if len(categories) <= settings.max_levels:
        return list(categories)
    by_frequency = np.argsort(-counts, kind="stable")[: settings.max_levels]
    frequent = counts[by_frequency] >= settings.min_cells_per_level
    frequent[0] = True
    return [categories[code] for code in np.sort(by_frequency[frequent])]


def warn_of_rare_levels(columns: Sequence[Column], titles: Sequence[str]) -> None:
    """Warn of columns some of whose categories are not modelled, by name."""
    parts = []
    for column, title in zip(columns, titles, strict=True):
        if not column.n_levels:
            continue
        n_levels, n_modelled = column.n_levels, len(column.categories)
        if n_modelled > 1:
            parts.append(f"{title}: {n_modelled} of {n_levels:,} are modelled")
        else:
            parts.append(f"{title}: {n_levels:,}, too rare: the column is left out")
    if parts:
        warn(
            "Columns with too many categories are modelled in part; cells of rare "
            f"categories count as missing for the model. {'; '.join(parts)}. Drop "
            "identifiers, and group rare categories."
        )
