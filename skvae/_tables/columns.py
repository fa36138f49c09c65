"""Fitted columns: kind, likelihood and map of a column, and decoding by them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import numpy as np

from .schema import DecodedColumn
from .transforms import Affine, PiecewiseLinear, map_from_state, map_to_state

CATEGORY_KINDS = ("ordinal", "categorical")


@dataclass
class Column:
    """Properties of one column of the training table.

    Attributes
    ----------
    name : str
        Feature name, or "x0", "x1", ... where the table has none.
    kind : {"numeric", "count", "boolean", "ordinal", "categorical"}
        What the encoded values are.
    likelihood : str
        Name of the likelihood.
    domain : {"real", "unit interval", "counts", "codes"}
        Values that the likelihood allows.
    transform : {"standard", "robust", "quantile", "none"}
        Name of the transform of a numeric column.
    map : Affine or PiecewiseLinear
        The fitted transform; the identity for every other kind.
    categories : list
        Values behind the codes 0, 1, ... of a column of categories.
    n_categories : int
        Number of categories (at least 1) of an ordinal or categorical column,
        and 0 for the others.
    n_levels : int
        Number of categories of the training table where only some are modelled, and 0
        where ``categories`` holds all.
    constant : float, int or None
        The only value of a constant numeric column.
    is_empty : bool
        Whether no cell was observed in training.
    is_automatic : bool
        Whether the likelihood of a numeric column was chosen by its data.
    is_whole : bool
        Whether all values of a numeric column are whole numbers, of any dtype.
    support : ndarray or None
        The values of a numeric column that repeats them, in increasing order; integers
        of a column of integers, else float64.
    frequencies : ndarray or None
        Relative frequencies of these values, by weight.
    lowest, highest : float or None
        The range beyond which cells are outliers, which count as missing; None where
        no training cell was one.
    """

    name: str
    kind: str = "numeric"
    likelihood: str = "normal"
    domain: str = "real"
    transform: str = "none"
    map: Affine | PiecewiseLinear = field(default_factory=Affine)
    categories: list = field(default_factory=list)
    n_categories: int = 0
    n_levels: int = 0
    constant: float | int | None = None
    is_empty: bool = False
    is_automatic: bool = False
    is_whole: bool = False
    support: np.ndarray | None = None
    frequencies: np.ndarray | None = None
    lowest: float | None = None
    highest: float | None = None

    @property
    def has_categories(self) -> bool:
        """Whether encoded values are codes of ``categories``."""
        return self.kind in CATEGORY_KINDS or bool(self.categories)

    @property
    def is_restricted(self) -> bool:
        """Whether the likelihood of a numeric column allows only some values."""
        return self.domain != "real"

    @property
    def is_partial(self) -> bool:
        """Whether some observed cells of training count as missing."""
        return bool(self.n_levels) or self.lowest is not None

    def nearest_index(self, values: np.ndarray) -> np.ndarray:
        """Return the indices of the nearest values that the column repeats."""
        assert self.support is not None
        halves = self.support / 2  # as floats, whose sums do not overflow
        return np.searchsorted(halves[1:] + halves[:-1], values)

    def is_outlier(self, values: np.ndarray) -> np.ndarray:
        """Return the mask of the values beyond the range of the column."""
        if self.lowest is None or self.highest is None:
            return np.zeros(len(values), dtype=bool)
        mask: np.ndarray = (values < self.lowest) | (values > self.highest)
        return mask

    def to_state(self) -> dict[str, Any]:
        """Return plain containers that hold all attributes."""
        return asdict(self) | {"map": map_to_state(self.map)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Column:
        """Return the column that :meth:`to_state` was called on."""
        column = cls(**state | {"map": map_from_state(state["map"])})
        if column.n_categories > max(1, len(column.categories)):
            raise ValueError(f"column {column.name!r:.80} has not as many categories")
        return column

    def forget_values(self) -> None:
        """Forget the values that occurred, but for categories and a constant."""
        self.support = self.frequencies = None
        self.map = self.map.without_values()

    def drop_impossible(self, values: np.ndarray, title: str) -> list[float]:
        """Set values to NaN that are impossible under the likelihood; return them.

        They are an error unless the data chose the likelihood. ``title`` names the
        column in that.
        """
        cells, values = values, values[~np.isnan(values)]
        if self.kind == "count":
            fits, wanted = is_whole(values) & (values >= 0), "non-negative whole"
        elif self.kind == "boolean":
            fits, wanted = (values == 0) | (values == 1), "0 or 1 (boolean)"
        else:
            fits, wanted = (values >= 0) & (values <= 1), "between 0 and 1"
        if fits.all():
            return []
        if not self.is_automatic:
            raise ValueError(
                f"{title} has the likelihood {self.likelihood!r}, whose values are "
                f"{wanted}, but got {values[~fits][0]}."
            )
        impossible: list[float] = np.unique(values[~fits]).tolist()
        cells[np.isin(cells, impossible)] = np.nan
        return impossible


def is_whole(values: np.ndarray) -> np.ndarray:
    return values == np.floor(values)


def raise_infinite(input_name: str, name: str) -> NoReturn:
    """Raise an error for infinities that begins as scikit-learn's, and names one."""
    raise ValueError(
        f"Input {input_name} contains infinity in column {name!r}. Missing cells are "
        "given as NaN, infinity is no value."
    )


def decode_column(
    encoded: np.ndarray,
    column: Column,
    *,
    drawn: bool = False,
    repeated: bool = True,
    indexed: bool = False,
) -> DecodedColumn:
    """Return the values of one column, in the units of the table.

    With ``drawn`` a column that repeats its values gets the nearest of these (unless
    ``repeated`` is False), and one of whole numbers the nearest of such. If it is
    ``indexed``, it holds indices of repeated values, as float32 may not tell their
    codes apart.
    """
    missing = np.full(len(encoded), True) if column.is_empty else np.isnan(encoded)
    encoded = np.where(missing, 0.0, encoded.astype(np.float64))
    if indexed:
        assert column.support is not None
        return DecodedColumn(column.support[encoded.astype(np.intp)], missing)
    if column.has_categories:
        highest = max(0, len(column.categories) - 1)
        codes = np.clip(np.rint(encoded), 0, highest).astype(np.intp)
        return DecodedColumn(codes, missing, column.categories)
    if column.kind == "count":
        values = np.maximum(np.rint(encoded), 0)
    elif column.constant is not None:
        values = np.full(len(encoded), column.constant)
    else:
        values = column.map.inverse(encoded)
        if drawn and repeated and column.support is not None:
            values = column.support[column.nearest_index(values)]
        elif drawn and column.is_whole:
            values = np.rint(values)
    return DecodedColumn(values, missing)
