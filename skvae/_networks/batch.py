"""Rows on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Rows on the device."""

    x: Tensor  # (rows, columns)
    observed: Tensor | None = None  # (rows, columns) bool
    weight: Tensor | None = None  # (rows,)
    c: Tensor | None = None  # (rows, n_context)
    y: Tensor | None = None  # (rows, columns), see _completion
    fold: Tensor | None = None  # (rows,), see _completion
    noise: Tensor | None = None  # (rows, n_noise), see _semi_supervised
    labelled: Batch | None = None  # other rows, see _semi_supervised

    def take(self, index: Tensor) -> Batch:
        """Return the rows at ``index``."""
        return self._map(lambda tensor: tensor.index_select(0, index))

    def at_random(self, limit: int, generator: torch.Generator) -> Batch:
        """Return at most ``limit`` rows, at random: a table may be sorted."""
        if len(self) <= limit:
            return self
        order = torch.randperm(len(self), generator=generator, device=self.x.device)
        return self.take(order[:limit])

    def replace(self, **parts: Tensor | Batch | None) -> Batch:
        """Return the same rows with other parts."""
        return Batch(**{**self._asdict(), **parts})

    def rows(self, start: int, stop: int) -> Batch:
        """Return a view of consecutive rows."""
        return self._map(lambda tensor: tensor[start:stop])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        parts = (function(t) if isinstance(t, Tensor) else t for t in self)
        return Batch(*parts)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.x.shape[0]
