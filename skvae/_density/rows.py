"""Encoded rows, and the groups of columns with the same likelihood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._distributions.joint import Joint
from .._distributions.registry import make_head, with_scale_per_column
from .._networks.batch import Batch
from .._tables.columns import Column
from .._tables.encoder import TableEncoder


@dataclass(frozen=True)
class Encoded:
    """Encoded rows of a table, the input of the models.

    Attributes
    ----------
    encoder : TableEncoder
        Encoder of the rows.
    values : ndarray of shape (n_rows, n_columns), float32
        Encoded cells; 0 where missing.
    observed : ndarray of bool of shape (n_rows, n_columns) or None
        Mask of the observed cells; None where none is missing.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows; None where they are equal.
    codes : ndarray of int of shape (n_rows,) or None
        Class index of every row, -1 where unlabelled.
    classes : ndarray or None
        Sorted classes.
    features : Encoded or None
        Rows of the features that these are conditioned on.
    attributes : dict of str to object
        Fitted attributes of the estimator that follow from the tables.
    """

    encoder: TableEncoder
    values: np.ndarray
    observed: np.ndarray | None = None
    weight: np.ndarray | None = None
    codes: np.ndarray | None = None
    classes: np.ndarray | None = None
    features: Encoded | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


class ColumnGroups:
    """Columns of a model, grouped by likelihood.

    Parameters
    ----------
    columns : list of Column
        The columns of the table.
    keep_constants : bool, default=False
        Whether columns with a single value stay too: pixels keep their places.

    Attributes
    ----------
    order : ndarray of int
        Table index of every column of the model.
    heads : list of tuple
        Likelihood, number of columns and number of categories of every group.
    """

    def __init__(
        self, columns: Sequence[Column], *, keep_constants: bool = False
    ) -> None:
        self.table = list(columns)
        keys = {i: head_key(column) for i, column in enumerate(self.table)}
        varying = {i: key for i, key in keys.items() if not is_constant(self.table[i])}
        if varying and not keep_constants:
            keys = varying  # else nothing varies: the constants rather than nothing
        counts = Counter(keys.values())  # in the order of first appearance
        self.order = np.array(
            [index for group in counts for index, key in keys.items() if key == group]
        )
        self.heads = [(name, counts[name, n], n) for name, n in counts]

    @property
    def columns(self) -> list[Column]:
        """The columns of the model, in the order of the heads."""
        return [self.table[index] for index in self.order]

    def joint(self) -> Joint:
        """Return the joint likelihood of the columns."""
        return make_joint(self.heads)

    def cells(self, values: np.ndarray, observed: np.ndarray | None) -> Batch:
        """Return rows of the table in the order of the heads, on the CPU."""
        if not np.array_equal(self.order, np.arange(values.shape[1])):
            values = np.ascontiguousarray(values[:, self.order])
            observed = None if observed is None else observed[:, self.order]
        mask = None if observed is None else torch.from_numpy(observed)
        return Batch(torch.from_numpy(values), mask)

    def batch(self, data: Encoded, device: str) -> Batch:
        """Return rows on the device; their weights have mean one."""
        cells = self.cells(data.values, data.observed)
        weight = None
        if data.weight is not None:
            weight = torch.as_tensor(
                data.weight / data.weight.mean(), dtype=torch.float32, device=device
            )
        observed = None if cells.observed is None else cells.observed.to(device)
        return Batch(cells.x.to(device), observed, weight)

    def restored(self, rows: Tensor | np.ndarray) -> np.ndarray:
        """Return rows of the model in the order of the table, constants as 0."""
        values = np.zeros((len(rows), len(self.table)), dtype=np.float32)
        values[:, self.order] = np.asarray(rows)
        return values


def make_joint(heads: Sequence[tuple[str, int, int]]) -> Joint:
    """Return the joint likelihood of groups of columns."""
    return Joint([make_head(*head) for head in heads])


def head_key(column: Column) -> tuple[str, int]:
    """Return the group key of a column: likelihood, number of categories or 0."""
    if not column.has_categories:
        return column.likelihood, 0
    # a single category has no order
    has_one = column.n_categories == 1
    return "categorical" if has_one else column.likelihood, column.n_categories


def is_constant(column: Column) -> bool:
    """Return whether the column had at most one value in training."""
    single = column.has_categories and len(column.categories) < 2
    return column.is_empty or column.constant is not None or single


def drop_cell_scales(columns: Sequence[Column]) -> None:
    """Replace likelihoods that the data chose by those with a scale per column.

    Validation rows choose between the two: without them it is one per column.
    """
    for column in columns:
        if column.is_automatic:
            column.likelihood = with_scale_per_column(column.likelihood)
