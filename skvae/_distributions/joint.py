"""Joint likelihood of all columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .head import CPU_FLOATS, Cells, Head
from .location_scale import LocationScale
from .noise import Source


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

    def __iter__(self) -> Iterator[Head]:
        return iter(self.heads)  # type: ignore[arg-type]

    def embed(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the encoder inputs, (..., n_inputs), zero for missing cells."""
        cells = zip(self, x.split(self.columns, -1), strict=True)
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
            self,
            x.split(self.columns, -1),
            weight.split(self.columns, -1),
            strict=True,
        )
        return torch.cat([head.initialise(*cells) for head, *cells in groups])

    def log_prob_cells(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of every cell, (..., n_columns)."""
        if len(self.heads) == 1:
            (head,) = self
            return head.log_prob(outputs, x)
        groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
        return torch.cat([h.log_prob(out, part) for (h, out), part in groups], -1)

    def log_prob(self, outputs: Tensor, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the log-density of the observed cells of each row, (...,)."""
        if observed is None:
            groups = zip(self.split(outputs), x.split(self.columns, -1), strict=True)
            first, *others = [h.log_prob_rows(out, part) for (h, out), part in groups]
            return sum(others, start=first)
        cells = self.log_prob_cells(outputs, x)
        return (cells * observed.to(cells.dtype)).sum(-1)

    def point_estimate(self, outputs: Tensor) -> Tensor:
        """Return the point estimates of all columns, see Head."""
        return torch.cat([h.point_estimate(o) for h, o in self.split(outputs)], -1)

    def sample(
        self, outputs: Tensor, source: Source, temperature: float = 1.0
    ) -> Tensor:
        """Draw a table, (..., n_columns), see Head."""
        parts = [h.sample(o, source, temperature) for h, o in self.split(outputs)]
        return torch.cat(parts, -1)

    def sample_common(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw with common random numbers, see Head.

        (draws, rows, n_outputs) -> (draws, rows, n_columns).
        """
        parts = [h.sample_common(o, generator) for h, o in self.split(outputs)]
        return torch.cat(parts, -1)

    @property
    def is_numeric(self) -> bool:
        """Whether all columns are numeric, see Head."""
        return all(head.is_numeric for head in self)

    # -- locations and scales ----------------------------------------------------

    def location_scale_indices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of the columns with a location and a scale.

        Three index vectors of the same length: of the columns, of their encoder inputs,
        and of the decoder outputs that are their locations.
        """
        indices: list[tuple[int, int, int]] = []
        first_column = first_input = first_output = 0
        for head in self:
            indices += [
                (
                    first_column + index.column,
                    first_input + index.input,
                    first_output + index.output,
                )
                for index in head.location_scale_indices()
            ]
            first_column += head.n_columns
            first_input += head.n_inputs
            first_output += head.n_outputs
        both = torch.tensor(indices, dtype=torch.long, device="cpu").view(-1, 3)
        columns, inputs, outputs = both.t()
        return columns, inputs, outputs

    def deviation(self) -> Tensor:
        """Return the standard deviations of the noise, see LocationScale.

        One for every column with a location and a scale, in the order of
        :meth:`location_scale_indices`, as are the arguments of the methods below.
        """
        parts = [h.deviation() for h in self if isinstance(h, LocationScale)]
        return torch.cat(parts) if parts else torch.zeros(0, **CPU_FLOATS)

    def set_deviation(self, deviation: Tensor) -> Tensor:
        """Set the standard deviations of the noise.

        Returns what was set: columns that share a scale get their average.
        """
        deviation = deviation.clone()
        for head, part in self._by_location_scale(deviation):
            part[:] = head.set_deviation(part)
        return deviation

    def set_floor(self, floor: Tensor) -> None:
        """Set the minimum scales; a shared scale gets the smallest of them."""
        for head, part in self._by_location_scale(floor):
            head.set_floor(part)

    def scale_by(self, factor: Tensor) -> None:
        """Multiply scales by factors; a shared one by their geometric mean."""
        for head, part in self._by_location_scale(factor.log()):
            head.shift_log_scale(part)

    def _by_location_scale(
        self, values: Tensor
    ) -> Iterator[tuple[LocationScale, Tensor]]:
        """Yield the heads with locations and scales, with their part of ``values``."""
        start = 0
        for head in self:
            if isinstance(head, LocationScale):
                yield head, values[start : start + head.n_columns]
                start += head.n_columns

    def quantiles(self, outputs: Tensor, levels: np.ndarray, column: int) -> np.ndarray:
        """Return quantiles of a column with a location and a scale, given z.

        (..., n_outputs) -> (levels, ...), in float64.
        """
        for head, part in self.split(outputs):
            if column < head.n_columns:
                assert isinstance(head, LocationScale)
                return head.quantiles(part, levels, column)
            column -= head.n_columns
        raise IndexError("There are fewer columns.")

    def choose_scales(
        self,
        train: tuple[Tensor, Tensor, Tensor],
        valid: tuple[Tensor, Tensor, Tensor],
        free: Tensor,  # (n_columns,) bool
    ) -> None:
        """Choose between a scale per cell and per column, see LocationScale."""
        sides = []
        for outputs, x, weight in (train, valid):
            parts = (
                outputs.split(self.outputs, -1),
                x.split(self.columns, -1),
                weight.split(self.columns, -1),
            )
            sides.append([Cells(*cells) for cells in zip(*parts, strict=True)])
        masks = free.split(self.columns)
        for head, *group in zip(self, *sides, masks, strict=True):
            if isinstance(head, LocationScale):
                head.choose_scale(*group)

    def has_scale_per_cell(self) -> list[bool]:
        """Return for every column whether its scale depends on the cell."""
        return [flag for head in self for flag in head.varies_by_cell()]

    def split(self, outputs: Tensor) -> list[tuple[Head, Tensor]]:
        """Return the heads with their parts of decoder outputs."""
        return list(zip(self, outputs.split(self.outputs, -1), strict=True))
