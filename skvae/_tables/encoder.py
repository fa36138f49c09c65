"""Tables as float32 matrices: kinds of columns, likelihoods, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from .._validation import warn
from .columns import Column, decode_column, raise_infinite
from .infer import TRANSFORMS, ColumnFitter, Likelihoods
from .libraries import TableSchema
from .table import Table
from .transforms import PiecewiseLinear
from .values import object_families

# Rows of a block in encode: its float64 buffer stays in the processor's cache.
BLOCK_ROWS = 4096

# Columns of a data frame whose temporary copies exist at the same time.
COLUMNS_AT_ONCE = 16


class TableEncoder:
    """Turn a table of mixed columns into a float32 matrix and back.

    Every column of the table becomes one column of the matrix, whatever its kind;
    missing cells (NaN, None, null) may occur in any column. Tables come opened:
    :func:`open_table` checks them, as the estimator that owns the encoder wants it.

    Parameters
    ----------
    likelihoods : mapping of str to Likelihood
        The likelihoods that there are, by name; only ``fit`` needs them.
    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
            default="from_dtype"
        Columns that hold categories.

        - "from_dtype": columns of a data frame with a category or string dtype.
          Ordered dtypes (ordered pandas categories, polars ``Enum``, ordered
          pyarrow dictionaries) give ordinal columns, the others categorical ones.
        - names, indices or a boolean mask: these columns are categorical,
          whatever their dtype.
        - None: no column is categorical.

    numeric_transform : {"auto", "standard", "quantile", "none"} or dict, \
            default="auto"
        Map of the numeric columns; a dict gives it by column name or index.

        - "standard": subtract the mean, divide by the standard deviation.
        - "quantile": map quantiles to those of N(0, 1), linear in between and
          beyond the ends.
        - "none": leave values as they are.
        - "auto": "quantile" where the column has at least 500 observed cells, at
          least 80% of them distinct, and the quantile map raises the Normal
          log density of held-out cells by more than 0.1 nats per cell over
          "standard" (fitted on one half of at most 20,000 cells, compared on the
          other); else "standard".

    likelihood : str or dict, default="auto"
        Likelihood of every column: "normal", "normal_heteroscedastic",
        "normal_isotropic", "student_t", "student_t_heteroscedastic", "bernoulli",
        "poisson", "negative_binomial", "categorical" or "ordinal"; a dict gives them by
        column name or index, and the columns that it leaves out follow "auto". One of
        the first eight names applies to all numeric columns, the others follow "auto".

        "auto" gives numeric columns "student_t_heteroscedastic", boolean columns
        "bernoulli", columns of categories "categorical" or "ordinal". A column of
        non-negative integers (by its dtype) with more than two distinct values gets
        "poisson" where a Poisson with its mean has at least the average
        log-likelihood of a Normal with its mean and variance. Where its variance
        exceeds its mean, it gets "negative_binomial" if that, fitted to one half of at
        most 20,000 cells, describes the other half better than a Poisson (by more than
        0.1 nats per cell and two standard errors) and, unless the column would be
        "poisson", than a Normal (by at least 0.5 nats per cell). At least 50 cells
        must be above 0, none above 2**24, and values that stop where the distribution
        would go on (grey values) are no such counts.

        "bernoulli" also takes numeric columns within [0, 1], which stay as they
        are, and columns of two categories; "poisson" and "negative_binomial" take
        numeric columns of non-negative whole numbers, which stay as they are;
        "categorical" and "ordinal" also take boolean columns and numeric columns of
        whole numbers.

    Attributes
    ----------
    columns_ : list of Column
        Name, kind, likelihood and map of every column.
    schema_ : TableSchema
        Library, labels and dtypes of the training table.

    Examples
    --------
    >>> import pandas as pd
    >>> from skvae._distributions.registry import LIKELIHOODS
    >>> from skvae._tables.encoder import TableEncoder
    >>> from skvae._tables.pandas_table import PandasTable
    >>> frame = pd.DataFrame({"mass": [1.0, 3.0, None], "sex": ["f", None, "m"]})
    >>> table = PandasTable(frame)
    >>> encoder = TableEncoder(LIKELIHOODS).fit(table)
    >>> values, observed = encoder.encode(table)
    >>> values
    array([[-1.,  0.],
           [ 1.,  0.],
           [ 0.,  1.]], dtype=float32)
    >>> observed
    array([[ True,  True],
           [ True, False],
           [False,  True]])
    >>> encoder.decode(values)
       mass sex
    0   1.0   f
    1   3.0   f
    2   2.0   m
    """

    columns_: list[Column]
    schema_: TableSchema

    def __init__(
        self,
        likelihoods: Likelihoods,
        *,
        categorical_features: Any = "from_dtype",
        numeric_transform: Any = "auto",
        likelihood: Any = "auto",
    ):
        self.likelihoods = likelihoods
        self.categorical_features = categorical_features
        self.numeric_transform = numeric_transform
        self.likelihood = likelihood

    def __getstate__(self):
        """Leave out the likelihoods: they are code, which no state should hold."""
        return {**vars(self), "likelihoods": {}}

    def fit(self, table: Table, sample_weight: Any = None) -> TableEncoder:
        """Learn kinds, categories and maps of the columns.

        Parameters
        ----------
        table : Table
            The training table, with at least two rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in means, standard deviations and the choice of
            counts. Rows of weight zero do not enter a quantile map.

        Returns
        -------
        self : TableEncoder
            The fitted encoder.
        """
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, np.empty((table.n_rows, 0)), ensure_non_negative=True
            )
        types = [table.column_type(index) for index in range(table.n_columns)]
        declared = _resolve_categorical(self.categorical_features, table)
        names = _resolve_by_column(
            self.likelihood, "likelihood", self.likelihoods, table
        )
        transforms = _resolve_by_column(
            self.numeric_transform, "numeric_transform", TRANSFORMS, table
        )
        fitter = ColumnFitter(
            self.likelihoods,
            table,
            types,
            declared,
            weights,
            likelihoods_by_column=isinstance(self.likelihood, dict),
            transforms_by_column=isinstance(self.numeric_transform, dict),
        )
        self.columns_ = [
            fitter.fit(index, names[index], transforms[index])
            for index in range(table.n_columns)
        ]
        self.schema_ = TableSchema(table.library, table.labels, types)
        return self

    def to_state(self) -> dict[str, Any]:
        """Return what was learned: plain containers, values and NumPy arrays."""
        return {
            "columns": [column.to_state() for column in self.columns_],
            "schema": self.schema_.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TableEncoder:
        """Return an encoder that encodes and decodes as that of the state did."""
        encoder = cls({})
        encoder.columns_ = [Column.from_state(column) for column in state["columns"]]
        encoder.schema_ = TableSchema.from_state(state["schema"])
        return encoder

    def encode(self, table: Table) -> tuple[np.ndarray, np.ndarray | None]:
        """Encode a table.

        Unknown categories count as missing, with one warning, and so do numbers that
        are no counts in a column that was taken for one. A column without an
        observed cell in training is missing whatever it holds.

        Parameters
        ----------
        table : Table
            A table with the columns of the training table.

        Returns
        -------
        values : ndarray of shape (n_samples, n_features), float32, C-contiguous
            Mapped numbers, counts, 0 or 1, and codes of categories; 0 where missing.
        observed : ndarray of bool of shape (n_samples, n_features), or None
            Mask of the cells that are not missing; None where none is missing.
        """
        encoded = _Encoded(table.n_rows, table.n_columns)
        numeric, unknown = [], []
        for index, column in enumerate(self.columns_):
            if column.is_empty:
                encoded.values[:, index] = 0
                encoded.mark_missing(slice(None), index)
            elif column.has_categories:
                unknown += _encode_categories(encoded, table, index, column)
            else:
                numeric.append(index)
        _check_readable(table, self.columns_, numeric)
        impossible = []
        for group in _groups(numeric, table):
            impossible += _encode_numbers(encoded, table, group, self.columns_)
        if unknown:
            _warn_missing("Categories that were not seen in training", unknown)
        if impossible:
            _warn_missing("Values that no count has", impossible)
        return encoded.values, encoded.observed

    def decode(self, values, *, drawn: bool = False) -> Any:
        """Build a table like the training table from encoded values.

        Integers are rounded and kept in the range of their dtype; a constant
        column gives its constant; a column without an observed cell in training
        gives missing cells. NaN decodes to a missing cell.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_features)
            Values in the encoded space.
        drawn : bool, default=False
            Whether the values are draws or quantiles rather than means: columns of
            numbers that repeat their values then hold values of the training table.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features)
            Table with the library, column order and dtypes of the training table.
        """
        values = self._check_encoded(values)
        decoded = [
            decode_column(values[:, index], column, drawn=drawn)
            for index, column in enumerate(self.columns_)
        ]
        return self.schema_.build(decoded)

    def log_jacobian(self, values) -> np.ndarray:
        """Log slope of the map of every cell, at encoded values.

        The log density of an original value is that of the encoded value plus
        this number.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_features)
            Values in the encoded space.

        Returns
        -------
        log_slopes : ndarray of shape (n_samples, n_features)
            log |d encoded / d original|, float64; 0 for columns that are not
            numeric.
        """
        values = self._check_encoded(values)
        log_slopes = np.zeros(values.shape)
        for index, column in enumerate(self.columns_):
            if column.kind == "numeric" and column.transform != "none":
                log_slopes[:, index] = column.map.log_slope(
                    values[:, index].astype(np.float64)
                )
        return log_slopes

    def _check_encoded(self, values) -> np.ndarray:
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != len(self.columns_):
            raise ValueError(
                f"Expected encoded values of shape (n_samples, {len(self.columns_)}), "
                f"but got shape {values.shape}."
            )
        return values


# ---------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------
def _resolve_categorical(requested: Any, table: Table) -> np.ndarray | None:
    """Mask of the declared columns; None stands for "from_dtype"."""
    if isinstance(requested, str) and requested == "from_dtype":
        return None
    mask = np.zeros(table.n_columns, dtype=bool)
    if requested is None:
        return mask
    if isinstance(requested, str):
        raise ValueError(
            "categorical_features must be 'from_dtype', None, or a list of column "
            f"names, indices or booleans, but got {requested!r}."
        )
    requested = list(np.asarray(requested).tolist())
    if requested and all(isinstance(item, bool) for item in requested):
        if len(requested) != table.n_columns:
            raise ValueError(
                f"categorical_features is a mask of {len(requested)} values, but the "
                f"table has {table.n_columns} columns."
            )
        return np.asarray(requested)
    for key in requested:
        mask[_column_index(key, table, "categorical_features")] = True
    return mask


def _column_index(key: Any, table: Table, parameter: str) -> int:
    """Position of a column given by name or index."""
    if isinstance(key, str) and key in table.labels:
        return table.labels.index(key)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if -table.n_columns <= key < table.n_columns:
            return int(key) % table.n_columns
        raise ValueError(
            f"{parameter} names the column index {key}, but the table has "
            f"{table.n_columns} columns."
        )
    raise ValueError(f"{parameter} names the unknown column {key!r}.")


def _resolve_by_column(
    requested: Any, parameter: str, allowed: Iterable[str], table: Table
) -> list[str]:
    """Name per column; "auto" for columns that a dict leaves out."""
    if isinstance(requested, dict):
        names = ["auto"] * table.n_columns
        for key, name in requested.items():
            names[_column_index(key, table, parameter)] = name
    else:
        names = [requested] * table.n_columns
    allowed = ("auto", *(name for name in allowed if name != "auto"))
    for name in names:
        if not isinstance(name, str) or name not in allowed:
            raise ValueError(
                f"{parameter} must be one of {', '.join(allowed)}, or a dict of these "
                f"by column, but got {name!r}."
            )
    return names


# ---------------------------------------------------------------------------
# Encoding
# ---------------------------------------------------------------------------
class _Encoded:
    """The matrix in the making; the mask exists from the first missing cell on."""

    def __init__(self, n_rows: int, n_columns: int):
        self.values = np.empty((n_rows, n_columns), dtype=np.float32)
        self.observed: np.ndarray | None = None

    def mark_missing(self, rows: Any, columns: Any, missing: Any = True) -> None:
        """Record missing cells among some rows and columns."""
        if self.observed is None:
            self.observed = np.ones(self.values.shape, dtype=bool)
        self.observed[rows, columns] = np.logical_not(missing)


def _encode_categories(
    encoded: _Encoded, table: Table, index: int, column: Column
) -> list[tuple[str, list]]:
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
    # A category dtype may declare values that no cell has, and NaN is no value.
    unknown = [
        values[code]
        for code in np.unique(codes[missing & (codes >= 0)])
        if values[code] == values[code]
    ]
    return [(column.name, unknown)] if unknown else []


def _warn_missing(what: str, unknown: list[tuple[str, list]]) -> None:
    parts = []
    for name, values in unknown:
        shown = ", ".join(repr(value) for value in values[:5])
        parts.append(f"column {name!r}: {shown}{', ...' if len(values) > 5 else ''}")
    warn(f"{what} are treated as missing: {'; '.join(parts)}")


def _check_readable(table: Table, columns: list[Column], numeric: list[int]) -> None:
    """Refuse columns without numbers where training had numbers."""
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
                f"Column {column.name!r} was {column.kind} in training, but now has "
                f"the dtype {type_.name} and is not wholly numeric."
            )


def _groups(numeric: list[int], table: Table) -> Iterator[list[int]]:
    """Numeric columns in groups that are encoded together."""
    if table.array is not None:
        size = max(1, len(numeric))
    else:
        size = COLUMNS_AT_ONCE
    for start in range(0, len(numeric), size):
        yield numeric[start : start + size]


def _encode_numbers(
    encoded: _Encoded, table: Table, group: list[int], columns: list[Column]
) -> list[tuple[str, list]]:
    """Write numeric, count and boolean columns, one block of rows after another.

    Returns the names of columns that were taken for counts with what is none.
    """
    members = [columns[index] for index in group]
    impossible: dict[str, set] = {}
    means, scales = np.zeros(len(group)), np.ones(len(group))
    bent: list[tuple[int, PiecewiseLinear]] = []
    for k, column in enumerate(members):
        if isinstance(column.map, PiecewiseLinear):
            bent.append((k, column.map))
        else:
            means[k], scales[k] = column.map.mean, column.map.scale
    read_rows = _row_reader(table, group)
    # A slice writes much faster than the list of all columns.
    target = slice(None) if len(group) == table.n_columns else group
    buffer = np.empty((min(BLOCK_ROWS, table.n_rows), len(group)))
    for start in range(0, table.n_rows, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, table.n_rows))
        block = buffer[: rows.stop - start]
        read_rows(rows, block)
        for k, column in enumerate(members):
            if column.is_restricted:
                found = column.drop_impossible(block[:, k])
                impossible.setdefault(column.name, set()).update(found)
        block -= means
        block /= scales
        for k, map_ in bent:
            block[:, k] = map_.forward(block[:, k])
        # A value beyond float32 becomes an infinity, which is an error below.
        with np.errstate(over="ignore"):
            encoded.values[rows, target] = block
        if not _fits_float32(block):
            _settle_not_finite(encoded, block, rows, group, members)
    return [(name, sorted(values)) for name, values in impossible.items() if values]


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


def _fits_float32(block: np.ndarray) -> bool:
    """Tell whether all values are finite in float32; NaN fails both comparisons."""
    limit = np.finfo(np.float32).max
    return bool(block.max() <= limit and block.min() >= -limit)


def _settle_not_finite(
    encoded: _Encoded,
    block: np.ndarray,
    rows: slice,
    group: list[int],
    members: list[Column],
) -> None:
    """Mark NaN as missing, and refuse infinities."""
    missing = np.isnan(block)
    too_large = np.any(np.abs(block) > np.finfo(np.float32).max, axis=0)
    if too_large.any():
        raise_infinite(members[int(np.argmax(too_large))].name)
    encoded.values[rows, group] = np.where(missing, 0, block)
    encoded.mark_missing(rows, group, missing)
