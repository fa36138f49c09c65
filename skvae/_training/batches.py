"""Shuffled batches of a table in device memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .._networks.batch import Batch


class Batches:
    """Shuffled batches of rows of the training table in device memory.

    Replaces skorch's data loader. The last batch takes the remainder, so that every
    batch has at least ``batch_size`` rows, if there are as many.
    """

    def __init__(
        self,
        data: Batch,
        rows: Tensor,
        batch_size: int,
        generator: torch.Generator,
        prepare: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.data, self.rows, self.prepare = data, rows, prepare
        self.n_batches = max(1, len(rows) // batch_size)
        self.batch_size = min(batch_size, len(rows))
        self.generator = generator

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(
            len(self.rows), generator=self.generator, device=self.rows.device
        )
        order = self.rows[order]
        for index in range(self.n_batches - 1):
            start = index * self.batch_size
            yield self.take(order[start : start + self.batch_size])
        yield self.take(order[(self.n_batches - 1) * self.batch_size :])

    def take(self, index: Tensor) -> Batch:
        """Return the rows at ``index``, prepared."""
        batch = self.data.take(index)
        return batch if self.prepare is None else self.prepare(batch)
