"""Encoding of the columns of a table, given the fitted columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._validation import warn
from .columns import Column, raise_infinite
from .table import Table
from .transforms import PiecewiseLinear
from .values import object_families

# Rows of a block: its float64 buffer stays in the processor's cache.
BLOCK_ROWS = 4096

# Columns of a data frame whose temporary copies exist at the same time.
COLUMNS_AT_ONCE = 16

# Encoded values are bounded: the square of one, in units of the least scale, is finite
# in float32. Rows of a fit come this far with numeric_transform="none" alone.
LARGEST = 1e15

#: Names of columns, each with values that count as missing.
Unusable = list[tuple[str, list]]


def encode_columns(
    table: Table, columns: list[Column], *, outliers: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the encoded cells and the mask of the observed ones: see the encoder.

    Cells beyond the range of their column count as missing unless ``outliers``.
    """
    encoded = _Encoded(table.n_rows, table.n_columns)
    numeric: list[int] = []
    unknown: Unusable = []
    for index, column in enumerate(columns):
        if column.is_empty:
            encoded.values[:, index] = 0
            encoded.mark_missing(slice(None), index)
        elif column.has_categories:
            unknown += _encode_categories(encoded, table, index, column)
        else:
            numeric.append(index)
    _check_readable(table, columns, numeric)
    impossible: Unusable = []
    size = COLUMNS_AT_ONCE if table.array is None else max(1, len(numeric))
    for start in range(0, len(numeric), size):
        group = numeric[start : start + size]
        impossible += _encode_numeric(encoded, table, group, columns, outliers)
    for what, unusable in (
        ("Categories that were not seen in training", unknown),
        ("Values that no count has", impossible),
    ):
        if unusable:
            listed = "; ".join(_listed(*part) for part in unusable)
            warn(f"{what} are treated as missing: {listed}")
    return encoded.values, encoded.observed


class _Encoded:
    """Encoded cells; their mask is None until a cell is missing."""

    def __init__(self, n_rows: int, n_columns: int):
        self.values = np.empty((n_rows, n_columns), dtype=np.float32)
        self.observed: np.ndarray | None = None

    def mark_missing(self, rows: Any, columns: Any, missing: Any = True) -> None:
        """Mark the missing cells of some rows and columns."""
        if self.observed is None:
            self.observed = np.ones(self.values.shape, dtype=bool)
        self.observed[rows, columns] = np.logical_not(missing)


def _encode_categories(
    encoded: _Encoded, table: Table, index: int, column: Column
) -> Unusable:
    """Write the codes of one column; return its name with its unknown values."""
    codes, values = table.factorize(index)
    position = {value: code for code, value in enumerate(column.categories)}
    # The last entry serves the code -1 of missing cells.
    lookup = np.array([position.get(value, -1) for value in values] + [-1])
    mapped = lookup[codes]
    missing = mapped < 0
    encoded.values[:, index] = np.where(missing, 0, mapped)
    if not missing.any():
        return []
    encoded.mark_missing(slice(None), index, missing)
    if column.n_levels:  # fit has warned
        return []
    # A category dtype may declare values that no cell has, and NaN is no value.
    unknown = [
        values[code]
        for code in np.unique(codes[missing & (codes >= 0)])
        if values[code] == values[code]
    ]
    return [(column.name, unknown)] if unknown else []


def _listed(name: str, values: list) -> str:
    return f"column {name!r}: {shown_values(values)}"


def shown_values(values: list) -> str:
    """Return the first values of a list as text."""
    shown = ", ".join(repr(value) for value in values[:5])
    return f"{shown}{', ...' if len(values) > 5 else ''}"


def _check_readable(table: Table, columns: list[Column], numeric: list[int]) -> None:
    """Refuse columns that were numeric in training and are not now."""
    if table.array is not None:
        return
    for index in numeric:
        type_ = table.column_type(index)
        family = type_.family
        if family == "object" and table.library != "numpy":
            found = set(object_families(table.objects(index)))
            family = "float" if found in ({"number"}, {"boolean"}) else "object"
        if family not in ("float", "integer", "boolean", "null"):
            column = columns[index]
            raise ValueError(
                f"{table.title(column.name)} was {column.kind} in training, but now "
                f"has the dtype {type_.name} and is not wholly numeric."
            )


def _encode_numeric(
    encoded: _Encoded,
    table: Table,
    group: list[int],
    columns: list[Column],
    outliers: bool,
) -> Unusable:
    """Write numeric, count and boolean columns, one block of rows after another.

    Returns the names of columns that the data made counts, with values that are none.
    """
    members = [columns[index] for index in group]
    impossible: dict[str, set] = {}
    limited = [k for k, column in enumerate(members) if column.lowest is not None]
    means, scales, nonlinear = _maps(members)
    read_rows = _row_reader(table, group)
    # A slice writes much faster than the list of all columns.
    target = slice(None) if len(group) == table.n_columns else group
    buffer = np.empty((min(BLOCK_ROWS, table.n_rows), len(group)))
    for start in range(0, table.n_rows, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, table.n_rows))
        block = buffer[: rows.stop - start]
        read_rows(rows, block)
        for k in () if outliers else limited:
            _drop_outliers(block[:, k], members[k], table)
        for k, column in enumerate(members):
            if column.is_restricted:
                found = _drop_impossible(block[:, k], column, table)
                impossible.setdefault(column.name, set()).update(found)
        with np.errstate(over="ignore"):  # beyond the bound, see below
            block -= means
            block /= scales
            for k, map_ in nonlinear:
                block[:, k] = map_.forward(block[:, k])
        # NaN fails both comparisons
        is_plain = block.max() <= LARGEST and block.min() >= -LARGEST
        if not is_plain:
            missing = np.isnan(block)
            far = np.abs(block) > LARGEST
            if far.any():
                cells = np.empty_like(block)
                read_rows(rows, cells)
                _refuse_infinite(cells, members, table.input_name)
                # a difference of huge numbers overflows, that of their quotients not
                far[:, [k for k, _ in nonlinear]] = False
                with np.errstate(over="ignore", invalid="ignore"):
                    quotients = cells / scales - means / scales
                np.copyto(block, quotients, where=far)
                np.clip(block, -LARGEST, LARGEST, out=block)
        encoded.values[rows, target] = block
        if not is_plain and missing.any():
            encoded.values[rows, group] = np.where(missing, 0, block)
            encoded.mark_missing(rows, group, missing)
    return [(name, sorted(values)) for name, values in impossible.items() if values]


def _maps(
    columns: list[Column],
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, PiecewiseLinear]]]:
    """Return means and scales of the affine maps, and the nonlinear maps by place."""
    means, scales = np.zeros(len(columns)), np.ones(len(columns))
    nonlinear: list[tuple[int, PiecewiseLinear]] = []
    for k, column in enumerate(columns):
        if isinstance(column.map, PiecewiseLinear):
            nonlinear.append((k, column.map))
        else:
            means[k], scales[k] = column.map.mean, column.map.scale
    return means, scales, nonlinear


def _drop_outliers(cells: np.ndarray, column: Column, table: Table) -> None:
    """Set cells to NaN that lie beyond the range of their column."""
    if np.isinf(cells).any():
        raise_infinite(table.input_name, column.name)
    cells[column.is_outlier(cells)] = np.nan


def _drop_impossible(cells: np.ndarray, column: Column, table: Table) -> list[float]:
    """Set cells to NaN that the likelihood does not allow; return their values."""
    if np.isinf(cells).any():
        raise_infinite(table.input_name, column.name)
    return column.drop_impossible(cells, table.title(column.name))


def _refuse_infinite(cells: np.ndarray, columns: list[Column], input_name: str) -> None:
    is_infinite = np.isinf(cells).any(axis=0)
    if is_infinite.any():
        raise_infinite(input_name, columns[int(np.argmax(is_infinite))].name)


def _row_reader(table: Table, group: list[int]) -> Callable[[slice, np.ndarray], None]:
    """Return a function that copies some rows of the columns into a buffer."""
    array = table.array
    if array is not None and len(group) == table.n_columns:

        def read_rows(rows: slice, block: np.ndarray) -> None:
            block[...] = array[rows]
    else:
        sources = [table.numbers(index) for index in group]

        def read_rows(rows: slice, block: np.ndarray) -> None:
            for k, source in enumerate(sources):
                block[:, k] = source[rows]

    return read_rows
