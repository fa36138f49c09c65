"""Missing cells of a table: their mask, their marker, and filling them.

The table to fill may come from another library than that of training: a model of a
pandas table completes a polars table, or an array. Its cells come as decoded columns.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .libraries import LIBRARIES, TableSchema, as_array, library_of, native
from .schema import DecodedColumn
from .values import FillPlan, is_missing


def missing_mask(X: Any) -> np.ndarray:
    """Return the mask of the missing cells of a table, (n_samples, n_features)."""
    X = native(X)
    return library_of(X).missing_mask(X)


def check_marker(marker: Any) -> None:
    """Raise TypeError unless ``missing_values`` is one marker of missing cells."""
    is_nothing = marker is None or type(marker).__name__ == "NAType"
    if not is_nothing and not isinstance(marker, str | np.bool_ | numbers.Real):
        raise TypeError(
            "missing_values must be one number, string or boolean, or None, NaN or "
            f"pandas.NA, but got {marker!r} of the type {type(marker).__name__}. "
            "Replace other markers by NaN or null before."
        )


def replace_marker(X: Any, marker: Any) -> Any:
    """Return the table with NaN or null in the cells that equal ``marker``.

    It is compared in the type of each column: a string with text, a boolean with
    booleans, a number with numbers. The marker is removed from the categories, and
    integers may become floats.
    """
    X = native(X)
    check_marker(marker)
    if is_missing(marker):
        return X
    if isinstance(marker, np.generic):
        marker = marker.item()
    if isinstance(X, list | tuple):
        X = as_array(X, "X")
    return library_of(X).replace_marker(X, marker)


def fill_missing(
    X: Any,
    schema: TableSchema,
    columns: list[DecodedColumn],
    mask: np.ndarray,
    kept: list[int],
    empty: dict[int, bool],
    flagged: list[int],
) -> Any:
    """Return ``X`` with the masked cells taken from decoded columns.

    All other cells, the library, the dtypes, labels and the index are those of ``X``.
    A dtype changes only where it cannot hold the cells: categories that it does not
    declare are added, a column of nulls gets the dtype of training.

    ``columns`` are those of a completed table of the ``schema`` of training. The cells
    to fill and the columns of the result: :class:`FillPlan`.
    """
    X = native(X)
    library, source = library_of(X), LIBRARIES[schema.library]
    is_own = library is source
    plan = FillPlan(
        mask, kept, empty, flagged, columns, schema.types, is_own, source.levels
    )
    return library.fill(X, plan)
