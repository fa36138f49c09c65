"""Batches of rows on the device, and chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .precision import doubled

#: Maximum floats per layer in inference, which bounds the memory. Draws by a generator
#: depend on it.
INFERENCE_FLOATS = 2**22

#: Maximum floats per layer of all other results: activations that stay in the cache
#: take half of the time.
CACHED_FLOATS = 2**20


class Batch(NamedTuple):
    """Rows on the device."""

    x: Tensor  # (rows, columns)
    observed: Tensor | None = None  # (rows, columns) bool
    weight: Tensor | None = None  # (rows,)
    c: Tensor | None = None  # (rows, n_context)
    y: Tensor | None = None  # (rows, classes) one-hot labels
    fold: Tensor | None = None  # (rows,), see fit_mean.assign_folds
    noise: Tensor | None = None  # (rows, n_noise), see fit_labels.preparation
    labelled: Batch | None = None  # other rows, see fit_labels.preparation
    x_original: Tensor | None = None  # (rows, columns), see conditional_mean

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

    def in_double(self) -> Batch:
        """Return the same rows in double precision."""
        return self._map(doubled)

    def rows(self, start: int, stop: int) -> Batch:
        """Return a view of consecutive rows."""
        return self._map(lambda tensor: tensor[start:stop])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        parts = (function(t) if isinstance(t, Tensor) else t for t in self)
        return Batch(*parts)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.x.shape[0]


def rows_at_once(floats_per_row: int, limit: int = INFERENCE_FLOATS) -> int:
    """Return the rows per chunk in inference, at most ``limit`` floats."""
    return max(1, limit // max(1, floats_per_row))


def map_chunks(
    function: Callable[[Batch], Tensor], data: Batch, floats_per_row: int
) -> np.ndarray:
    """Return ``function(rows)`` of rows in double precision, in chunks."""
    step = rows_at_once(floats_per_row, CACHED_FLOATS)
    with torch.inference_mode():
        parts = [
            function(data.rows(start, start + step).in_double()).cpu()
            for start in range(0, len(data), step)
        ]
    return torch.cat(parts).numpy()


def chunked(data: Batch, floats_per_row: int) -> Iterator[Batch]:
    """Yield chunks of consecutive rows of bounded memory."""
    step = rows_at_once(floats_per_row)
    for start in range(0, len(data), step):
        yield data.rows(start, start + step)
