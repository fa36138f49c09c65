"""The likelihoods of all columns side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .head import Cells, Head
from .location_scale import LocationScale


class Joint(nn.Module):
    """Independent heads over consecutive groups of columns.

    Parameters
    ----------
    heads : sequence of Head
        Their columns stand side by side, in this order, in every table ``x``.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.columns = [head.n_columns for head in heads]
        self.inputs = [head.n_inputs for head in heads]
        self.outputs = [head.n_outputs for head in heads]
        self.n_columns, self.n_inputs = sum(self.columns), sum(self.inputs)
        self.n_outputs = sum(self.outputs)

    def embed(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return (..., n_inputs); a missing cell's inputs are zero."""
        cells = zip(self._heads(), x.split(self.columns, -1), strict=True)
        parts = [head.embed(part) for head, part in cells]
        if observed is not None:
            for index, mask in enumerate(observed.split(self.columns, -1)):
                repeats = self.inputs[index] // self.columns[index]
                mask = mask.to(x.dtype).repeat_interleave(repeats, -1)
                parts[index] = parts[index] * mask
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def initialise(self, x: Tensor, weight: Tensor) -> Tensor:
        """Set every head to its marginal fit; return biases (n_outputs,)."""
        groups = zip(
            self._heads(),
            x.split(self.columns, -1),
            weight.split(self.columns, -1),
            strict=True,
        )
        return torch.cat([head.initialise(*cells) for head, *cells in groups])

    def log_prob_cells(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of every cell, (..., n_columns)."""
        if len(self.heads) == 1:
            return self._head(0).log_prob(outputs, x)
        groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
        return torch.cat([h.log_prob(out, part) for (h, out), part in groups], -1)

    def log_prob(self, outputs: Tensor, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the log-density of the observed cells of each row, (...,)."""
        if observed is None:
            groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
            first, *others = [h.log_prob_rows(out, part) for (h, out), part in groups]
            return sum(others, start=first)
        cells = self.log_prob_cells(outputs, x)
        if observed is not None:
            cells = cells * observed.to(cells.dtype)
        return cells.sum(-1)

    def point(self, outputs: Tensor) -> Tensor:
        """Return means of number columns and modes of the others."""
        return torch.cat([h.point(o) for h, o in self.split(outputs)], -1)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a table, (..., n_columns)."""
        return torch.cat([h.sample(o, generator) for h, o in self.split(outputs)], -1)

    def number_slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return where columns with location and scale, their inputs and locations are.

        Three index vectors of the same length: into the columns, into the encoder
        inputs and into the decoder outputs.
        """
        slots: list[tuple[int, int, int]] = []
        column = first_input = first_output = 0
        for head in self._heads():
            if isinstance(head, LocationScale):
                slots += [
                    (column + i, first_input + i, first_output + i)
                    for i in range(head.n_columns)
                ]
            column += head.n_columns
            first_input += head.n_inputs
            first_output += head.n_outputs
        columns, inputs, outputs = torch.tensor(slots, dtype=torch.long).view(-1, 3).t()
        return columns, inputs, outputs

    def set_deviation(self, deviation: Tensor) -> Tensor:
        """Set the noise of the number columns, in the order of number_slots.

        Returns what was set: columns that share a scale get their average.
        """
        deviation = deviation.clone()
        for head, part in self._by_number_head(deviation):
            if head.raw_log_scale.numel() == 1:
                part[:] = part.square().mean().sqrt()
            head.set_deviation(part[: head.raw_log_scale.numel()])
        return deviation

    def set_floor(self, floor: Tensor) -> None:
        """Set the smallest scales of the number columns, as number_slots has them.

        Columns that share a scale get the smallest.
        """
        for head, part in self._by_number_head(floor):
            head.floor.copy_(part.min() if len(head.floor) == 1 else part)

    @torch.no_grad()
    def scale_by(self, factor: Tensor) -> None:
        """Multiply the scales of the number columns, as number_slots has them.

        Columns that share a scale get the geometric mean.
        """
        for head, part in self._by_number_head(factor.log()):
            shared = len(head.raw_log_scale) == 1
            head.raw_log_scale.add_(part.mean() if shared else part)

    def _by_number_head(self, values: Tensor) -> Iterator[tuple[LocationScale, Tensor]]:
        """Yield heads with a location and a scale, and their part of ``values``."""
        start = 0
        for head in self._heads():
            if isinstance(head, LocationScale):
                yield head, values[start : start + head.n_columns]
                start += head.n_columns

    def choose_scales(
        self,
        train: tuple[Tensor, Tensor, Tensor],
        valid: tuple[Tensor, Tensor, Tensor],
        free: Tensor,  # (n_columns,) bool
    ) -> None:
        """Choose between scales per cell and per column, see LocationScale."""
        sides = []
        for outputs, x, weight in (train, valid):
            parts = (
                outputs.split(self.outputs, -1),
                x.split(self.columns, -1),
                weight.split(self.columns, -1),
            )
            sides.append([Cells(*cells) for cells in zip(*parts, strict=True)])
        masks = free.split(self.columns)
        for head, *group in zip(self._heads(), *sides, masks, strict=True):
            if isinstance(head, LocationScale) and head.per_cell:
                head.choose_scale(*group)

    def has_scale_per_cell(self) -> list[bool]:
        """Tell for every column whether its scale moves from cell to cell."""
        flags: list[bool] = []
        for head in self._heads():
            if isinstance(head, LocationScale) and head.per_cell:
                flags += [bool(gate) for gate in head.gate]
            else:
                flags += [False] * head.n_columns
        return flags

    def _head(self, index: int) -> Head:
        head = self.heads[index]
        assert isinstance(head, Head)
        return head

    def _heads(self) -> list[Head]:
        return list(self.heads)  # type: ignore[arg-type]

    def split(self, outputs: Tensor) -> list[tuple[Head, Tensor]]:
        """Return the heads with their parts of decoder outputs."""
        return list(zip(self._heads(), outputs.split(self.outputs, -1), strict=True))
