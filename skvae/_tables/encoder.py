"""Tables as float32 matrices with a mask of the observed cells, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from .choice import Likelihoods
from .columns import Column, decode_column
from .encoding import encode_columns
from .infer import TRANSFORMS, ColumnFitter
from .libraries import TableSchema
from .rare_levels import warn_of_rare_levels
from .schema import DecodedColumn, by_column, column_positions
from .settings import DEFAULT_SETTINGS, Settings
from .table import Table


@dataclass(eq=False, repr=False)
class TableEncoder:
    """Encoder of a table of mixed columns as a float32 matrix.

    Every column of the table becomes one column of the matrix; missing cells (NaN,
    None, null) may occur in any column. Tables have been checked by :func:`open_table`,
    weights by the estimator.

    Parameters
    ----------
    likelihoods : mapping of str to Likelihood
        The likelihoods by name; only ``fit`` needs them.
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
        Transform of the numeric columns; a dict gives it by column name or index.

        - "standard": subtract the mean, divide by the standard deviation.
        - "quantile": map quantiles to those of N(0, 1), linear in between and
          beyond the ends.
        - "none": leave values as they are.
        - "auto": "quantile" where held-out cells ask for it, else "standard"; see
          :func:`quantile_helps`.

        With "standard" and "auto" a column whose standard deviation is far above its
        interquartile range gets compressed tails, see :func:`fit_robust`.

    likelihood : str or dict, default="auto"
        Name of a likelihood for all columns (a numeric one is for the numeric columns
        alone, the others follow "auto"), or a dict of names by column name or index;
        columns that it leaves out follow "auto".

        "auto" takes ``AUTO_LIKELIHOODS`` by the kind of column; columns of integers
        may be counts, see :func:`choose_likelihood`.

        Numeric columns may be declared otherwise by their likelihood: "bernoulli" takes
        columns within [0, 1], "poisson" and "negative_binomial" non-negative whole
        numbers, "categorical" and "ordinal" whole numbers. The last two also take
        boolean columns, and "bernoulli" columns of two categories.

    numeric_likelihood : str, default=None
        The likelihood that "auto" gives to numeric columns; None: chosen by the data.

    settings : Settings
        Thresholds of the choices by data.

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

    likelihoods: Likelihoods
    _: KW_ONLY
    categorical_features: Any = "from_dtype"
    numeric_transform: Any = "auto"
    likelihood: Any = "auto"
    numeric_likelihood: str | None = None
    settings: Settings = DEFAULT_SETTINGS
    columns_: list[Column] = field(init=False)
    schema_: TableSchema = field(init=False)

    def __getstate__(self):
        """Return the state without the likelihoods, which are code."""
        return {**vars(self), "likelihoods": {}}

    def fit(self, table: Table, weights: np.ndarray | None = None) -> TableEncoder:
        """Learn kinds, categories and maps of the columns of at least two rows.

        The ``weights`` of the rows, (n_samples,), non-negative, enter means, standard
        deviations and the choice of counts. Rows of weight zero do not enter a
        quantile map. A warning names columns whose tails are compressed, and outliers:
        cells that count as missing because they are far beyond all others, see
        :func:`body_range`.
        """
        types = [table.column_type(index) for index in range(table.n_columns)]
        declared = _resolve_categorical(self.categorical_features, table)
        names = self._by_column("likelihood", self.likelihoods, table)
        transforms = self._by_column("numeric_transform", TRANSFORMS, table)
        fitter = ColumnFitter(
            table,
            types,
            weights,
            declared,
            self.likelihoods,
            self.numeric_likelihood,
            settings=self.settings,
            likelihoods_by_column=isinstance(self.likelihood, dict),
            transforms_by_column=isinstance(self.numeric_transform, dict),
        )
        requests = enumerate(zip(names, transforms, strict=True))
        self.columns_ = [fitter.fit(index, *request) for index, request in requests]
        self.schema_ = TableSchema(table.library, table.labels, types)
        fitter.warn()
        titles = [table.title(column.name) for column in self.columns_]
        warn_of_rare_levels(self.columns_, titles)
        return self

    def to_state(self) -> dict[str, Any]:
        """Return the fitted state: plain containers, values and NumPy arrays."""
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

    def forget_values(self) -> None:
        """Forget the values that occurred, but for categories and constants."""
        for column in self.columns_:
            column.forget_values()

    def encode(
        self, table: Table, *, outliers: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Encode a table with the columns of the training table.

        Unknown categories count as missing, with one warning, and so do values that
        are no counts in a column that the data made a count column. All cells of a
        column without an observed cell in training count as missing. So do cells beyond
        the range of a column with outliers, unless ``outliers``: a density is that of
        all cells.
        Where ``fit`` warned of too many categories, those that are not modelled count
        as missing without another warning.

        Returns
        -------
        values : ndarray of shape (n_samples, n_features), float32, C-contiguous
            Transformed values, counts, 0 or 1, and codes of categories; 0 where
            missing.
        observed : ndarray of bool of shape (n_samples, n_features), or None
            Mask of the cells that are not missing; None where none is missing.
        """
        return encode_columns(table, self.columns_, outliers=outliers)

    def decode(
        self,
        values,
        *,
        drawn: bool = False,
        repeated: bool = True,
        indexed: Collection[int] = (),
    ) -> Any:
        """Build a table from encoded values, (n_samples, n_features).

        It has the library, column order and dtypes of the training table. Integers are
        rounded and kept in the range of their dtype; a constant column gives its
        constant; a column without an observed cell in training gives missing cells.
        NaN decodes to a missing cell. If the values are ``drawn``, or are quantiles,
        numeric columns of whole numbers, of any dtype, hold such numbers, and those
        that repeat their values hold values of the training table, unless ``repeated``
        is False. The ``indexed`` ones hold indices into these already.
        """
        columns = self.decode_columns(
            values, drawn=drawn, repeated=repeated, indexed=indexed
        )
        return self.schema_.build(columns)

    def decode_columns(
        self,
        values,
        *,
        drawn: bool = False,
        repeated: bool = True,
        indexed: Collection[int] = (),
    ) -> list[DecodedColumn]:
        """Return the columns of the table that :meth:`decode` builds."""
        values = self._check_encoded(values)
        return [
            decode_column(
                values[:, index],
                column,
                drawn=drawn,
                repeated=repeated,
                indexed=index in indexed,
            )
            for index, column in enumerate(self.columns_)
        ]

    def log_jacobian(self, values) -> np.ndarray:
        """Return log |d encoded / d original| of every cell, (n_samples, n_features).

        The log-density of an original value is that of the encoded value plus this log
        slope at the encoded ``values``; it is 0 for columns that are not numeric.
        """
        values = self._check_encoded(values)
        log_slopes = np.zeros(values.shape)
        for index, column in enumerate(self.columns_):
            if column.kind == "numeric" and column.transform != "none":
                log_slopes[:, index] = column.map.log_slope(
                    values[:, index].astype(np.float64)
                )
        return log_slopes

    def _by_column(
        self, parameter: str, allowed: Iterable[str], table: Table
    ) -> list[str]:
        """Return a name per column; "auto" for columns that a dict leaves out."""
        requested = getattr(self, parameter)
        names = [requested] * table.n_columns
        if isinstance(requested, dict):
            names = ["auto"] * table.n_columns
            found = by_column(requested, table.names, parameter, table.input_name)
            for place, name in found.items():
                names[place] = name
        allowed = ("auto", *(name for name in allowed if name != "auto"))
        for name in names:
            if not isinstance(name, str) or name not in allowed:
                raise ValueError(
                    f"{parameter} must be one of {', '.join(allowed)}, or a dict of "
                    f"these by column, but got {name!r}."
                )
        return names

    def _check_encoded(self, values) -> np.ndarray:
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != len(self.columns_):
            raise ValueError(
                f"Expected encoded values of shape (n_samples, {len(self.columns_)}), "
                f"but got shape {values.shape}."
            )
        return values


def _resolve_categorical(requested: Any, table: Table) -> np.ndarray | None:
    """Return the mask of the declared columns; None stands for "from_dtype"."""
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
    # as an array, a list of names and indices would be a list of names
    requested = requested.tolist() if hasattr(requested, "tolist") else list(requested)
    if requested and all(isinstance(item, bool | np.bool_) for item in requested):
        if len(requested) != table.n_columns:
            raise ValueError(
                f"categorical_features is a mask of {len(requested)} values, but "
                f"{table.input_name} has {table.n_columns} columns."
            )
        return np.asarray(requested)
    positions = column_positions(
        requested, table.names, "categorical_features", table.input_name
    )
    mask[positions] = True
    return mask
