"""Schema of a column: its dtype as plain values, which any serialiser can store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ColumnSchema:
    """Dtype of one column, as plain values.

    Attributes
    ----------
    family : {"float", "integer", "boolean", "string", "category", "object", \
            "null", "other"}
        Family of the dtype. "null" holds missing cells only, "other" is not
        supported.
    name : str
        The dtype as its library prints it.
    ordered : bool
        Whether the categories of the dtype have an order.
    categories : list or None
        The categories that the dtype declares, in its order.
    details : dict
        Further properties that the library needs to build the dtype.
    """

    family: str
    name: str
    ordered: bool = False
    categories: list | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecodedColumn:
    """Decoded values of one column.

    Attributes
    ----------
    values : ndarray of shape (n_rows,)
        Numbers, or, where there are categories, their integer codes.
    missing : ndarray of bool of shape (n_rows,)
        Cells without a value; ``values`` holds anything there.
    categories : list or None
        The categories of the codes.
    """

    values: np.ndarray
    missing: np.ndarray
    categories: list | None = None


Parts = list[tuple[Any, ColumnSchema, DecodedColumn]]
