"""Batches of rows on the device, and chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Maximum floats per layer in inference: bounds memory, and keeps the activations in
#: the processor's cache.
INFERENCE_FLOATS = 2**22


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

    def rows(self, start: int, stop: int) -> Batch:
        """Return a view of consecutive rows."""
        return self._map(lambda tensor: tensor[start:stop])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        parts = (function(t) if isinstance(t, Tensor) else t for t in self)
        return Batch(*parts)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.x.shape[0]


def rows_at_once(floats_per_row: int) -> int:
    """Return the rows per chunk in inference, see ``INFERENCE_FLOATS``."""
    return max(1, INFERENCE_FLOATS // max(1, floats_per_row))


def map_chunks(
    function: Callable[[Batch], Tensor], data: Batch, floats_per_row: int
) -> np.ndarray:
    """Return ``function(rows)``, evaluated in chunks of bounded memory."""
    with torch.inference_mode():
        parts = [function(chunk).cpu() for chunk in chunked(data, floats_per_row)]
    return torch.cat(parts).numpy()


def chunked(data: Batch, floats_per_row: int) -> Iterator[Batch]:
    """Yield chunks of consecutive rows of bounded memory."""
    step = rows_at_once(floats_per_row)
    for start in range(0, len(data), step):
        yield data.rows(start, start + step)
