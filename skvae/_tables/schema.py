"""What the columns of a table looked like, in plain values.

A schema holds no object of a data frame library, so that any serialiser can store it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ColumnSchema:
    """Plain description of the dtype of one column.

    Attributes
    ----------
    family : {"float", "integer", "boolean", "string", "category", "object", \
            "null", "other"}
        What the column can hold. "null" holds missing cells only, "other" is not
        supported.
    name : str
        The dtype as its library prints it.
    ordered : bool
        Whether the categories of the dtype have an order.
    categories : list or None
        The categories that the dtype declares, in its order.
    details : dict
        What else the library needs to build the dtype.
    """

    family: str
    name: str
    ordered: bool = False
    categories: list | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecodedColumn:
    """Values of one column on their way back into a table.

    Attributes
    ----------
    values : ndarray of shape (n_rows,)
        Numbers, or, where there are categories, their integer codes.
    missing : ndarray of bool of shape (n_rows,)
        Cells without a value; ``values`` holds anything there.
    categories : list or None
        What the codes stand for.
    """

    values: np.ndarray
    missing: np.ndarray
    categories: list | None = None


Parts = list[tuple[Any, ColumnSchema, DecodedColumn]]
