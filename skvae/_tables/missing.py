"""Missing cells of a table: their mask, their marker, and filling them.

The table to fill and the completed one may come from different libraries: a model of a
pandas table completes a polars table, or an array. They exchange the cells of one
column as an array.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import numpy_table
from .libraries import column_of, library_of, native
from .values import FillPlan, is_missing


def missing_mask(X: Any) -> np.ndarray:
    """Return the mask of the missing cells of a table, (n_samples, n_features)."""
    X = native(X)
    return library_of(X).missing_mask(X)


def replace_marker(X: Any, marker: Any) -> Any:
    """Return the table with NaN or null in the cells that equal ``marker``.

    The marker is removed from the categories, and integers may become floats.
    """
    X = native(X)
    return X if is_missing(marker) else library_of(X).replace_marker(X, marker)


def fill_missing(
    X: Any,
    completed: Any,
    mask: np.ndarray,
    kept: list[int],
    empty: dict[int, bool],
    flagged: list[int],
) -> Any:
    """Return ``X`` with the masked cells taken from ``completed``.

    All other cells, the library, the dtypes, labels and the index are those of ``X``.
    A dtype changes only where it cannot hold the cells: categories that it does not
    declare are added, a column of nulls gets the dtype of training.

    ``completed``, of the shape of ``X``, is a table like that of training without
    missing cells. The cells to fill and the columns of the result: :class:`FillPlan`.
    """
    X = native(X)
    library, source = library_of(X), library_of(completed)
    read = numpy_table.cells if source is numpy_table else column_of
    plan = FillPlan(mask, kept, empty, flagged, partial(read, completed))
    return library.fill(X, completed if source is library else None, plan)
