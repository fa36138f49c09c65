"""What a fitted imputer says of the cells of rows: expected values and draws.

Rows go in as a :class:`Batch` on the device and come out encoded, in the columns of the
heads, as NumPy arrays; tables are the business of the estimator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from .._distributions.head import common_noise
from .._distributions.intervals import (
    INTERVAL_DRAWS,
    interval_draws,
    repeated_interval,
    sorted_quantiles,
    weighted_median,
)
from .._networks.batch import Batch, chunked, rows_at_once
from .conditional_mean import ConditionalMean
from .residual_vae import ResidualVAE
from .scales import Scales, clamp

#: Draws that each table chooses from where columns mask themselves.
CANDIDATES = 50

#: New rows are drawn in at most this many stages, see ``new_rows``.
STAGES = 8


@dataclass
class CellDistribution:
    """The parts of a fitted imputer, and what follows from them for single cells.

    Draws of a chunk of rows have the shape (draws, rows, columns).

    Attributes
    ----------
    mean : ConditionalMean
        The expected values of cells.
    vae : ResidualVAE
        How cells vary around them. Without networks the normal in ``mean`` says both.
    scales : Scales
        Where ``x`` and ``x_original`` lead to each other, and the ranges of cells.
    slopes : dict of int to float
        Slopes of self-masking, of the columns that have one.
    seed : int
        Seed of draws that are the same at every call.
    width : int
        Width of the widest layer of ``vae``.
    """

    mean: ConditionalMean
    vae: ResidualVAE
    scales: Scales
    slopes: dict[int, float]
    seed: int
    width: int

    def expected(self, data: Batch) -> np.ndarray:
        """Return means and the most probable categories, (rows, columns)."""
        encoded = self._means(data)
        if self.slopes:
            self._tilt_means(encoded, data)
        return encoded

    def medians(self, data: Batch) -> np.ndarray:
        """Return the same with medians of numbers: over draws of the latents.

        Where columns mask themselves, the draws are those of the cells, tilted.
        """
        encoded = self._means(data)
        columns = self.mean.columns.cpu().numpy()
        start = 0
        for chunk, x in self._common_draws(data):
            rows = slice(start, start + len(chunk))
            numbers = x[..., columns]
            if self.slopes:
                encoded[rows, columns] = weighted_median(numbers, self._tilt(chunk, x))
            else:
                encoded[rows, columns] = sorted_quantiles(numbers, [0.5])[0]
            start = rows.stop
        return encoded

    def _common_draws(self, data: Batch) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield chunks with draws that are the same for every row like it.

        Of the latents alone, and of numbers where columns mask themselves.
        """
        generator = self.generator() if self.slopes else None
        return self.draw(data, INTERVAL_DRAWS, generator, common=True)

    def intervals(self, data: Batch, columns: list[int], coverage: float) -> np.ndarray:
        """Return ends of intervals of some columns, (2, rows, len(columns))."""
        levels = [(1 - coverage) / 2, (1 + coverage) / 2]
        parts = []
        for x in self._interval_draws(data, interval_draws(coverage)):
            ends = sorted_quantiles(x[..., columns], levels)
            for k, position in enumerate(columns):
                values = self.scales.nearest_values(x[..., position], position)
                if values is not None:
                    ends[..., k] = repeated_interval(values, coverage)
            parts.append(ends)
        return np.concatenate(parts, axis=1)

    def _interval_draws(self, data: Batch, n_draws: int) -> Iterator[np.ndarray]:
        """Yield draws for quantiles, chunk by chunk."""
        generator = self.generator()
        parameters = None
        if self.mean.ensemble is None:
            # draws of the VAE are calibrated on rows that it has not seen: they vary
            # by what the training rows leave open already
            drawn = len(self.mean.gaussian.drawn_means)
            parameters = sorted(k % drawn for k in range(n_draws))
        draws = self.draw(data, n_draws, generator, parameters=parameters)
        for chunk, x in draws:
            if self.slopes:
                x = self._resample(chunk, x, n_draws, generator)
            yield x

    def tables(
        self, data: Batch, n_draws: int, generator: torch.Generator
    ) -> Iterator[np.ndarray]:
        """Yield draws of all cells for multiple imputation, chunk by chunk.

        Every draw has its own parameters of the normal, the same for all rows: tables
        differ in what the training rows leave open as well.
        """
        drawn = len(self.mean.gaussian.drawn_means)
        device = generator.device
        order = torch.randperm(drawn, generator=generator, device=device).tolist()
        # neighbours share them where there are more tables
        chosen = [order[k * min(drawn, n_draws) // n_draws] for k in range(n_draws)]
        n_candidates = CANDIDATES if self.slopes else 1
        parameters = [k for k in chosen for _ in range(n_candidates)]
        draws = self.draw(data, len(parameters), generator, parameters=parameters)
        for chunk, x in draws:
            if self.slopes:
                x = np.concatenate(
                    [
                        self._resample(chunk, candidates, 1, generator)
                        for candidates in np.split(x, n_draws)
                    ]
                )
            # draws of the normal alone depend on each other as they should, and those
            # that mask themselves are weighed
            empty = ~observed_mask(chunk).any(1).cpu().numpy()
            if empty.any() and self.mean.ensemble is not None and not self.slopes:
                new = self.new_rows(n_draws * int(empty.sum()), generator)
                x[:, empty] = new.reshape(n_draws, -1, x.shape[2])
            yield x

    def new_rows(self, n_rows: int, generator: torch.Generator) -> np.ndarray:
        """Return draws of rows without any observed cell, (rows, columns).

        Expected values of an empty row are those of the table, whatever the row, and
        draws around them depend on each other through the latents alone. Drawn a few at
        a time, in an order that every row has of its own, cells are given the ones
        before, and depend on them as the expected values do.
        """
        device = self.mean.marginal.device
        shape = (n_rows, len(self.scales.columns))
        place = torch.rand(shape, generator=generator, device=device).argsort(1)
        stages = min(STAGES, shape[1])
        x = torch.zeros(shape, device=device)
        observed = torch.zeros(shape, dtype=torch.bool, device=device)
        for stage in range(stages):
            data = Batch(
                x, observed, x_original=self.scales.rows_to_original(x, observed)
            )
            drawn_chunks = [chunk[0] for _, chunk in self.draw(data, 1, generator)]
            drawn = torch.from_numpy(np.concatenate(drawn_chunks)).to(x)
            now = place * stages // shape[1] == stage
            x, observed = torch.where(now, drawn, x), observed | now
        return x.cpu().numpy()

    def draw(
        self,
        data: Batch,
        n_draws: int,
        generator: torch.Generator | None,
        mask: Tensor | None = None,
        parameters: list[int] | None = None,
        common: bool = False,
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield chunks of the rows with draws, as if cells were missing at random.

        The observed cells are given, or those that ``mask`` marks. ``parameters``
        are numbers of drawn parameters of the normal, one for each draw. Draws that are
        ``common`` have the same noise in every row, see ``sample_common``, or without a
        generator that of the latents alone.
        """
        groups: list[tuple[int | None, int]] = [(None, n_draws)]
        if parameters is not None:
            groups = [(k, len(list(same))) for k, same in groupby(parameters)]
        at_once = rows_at_once(self._floats_per_row(n_draws))
        for start in range(0, len(data), at_once):
            chunk = data.rows(start, start + at_once)
            own_mask = observed_mask(chunk)
            if mask is not None:
                own_mask = mask[start : start + len(chunk)]
            with torch.inference_mode():
                numbers = [k for k, _ in groups]
                contexts: Iterable[Tensor | None] = [None] * len(groups)
                if self.mean.ensemble is not None:
                    x_original = originals(chunk)
                    c = self.mean.context(chunk.x, x_original, own_mask)
                    contexts = self.mean.contexts_by_draw(
                        c, x_original, own_mask, numbers
                    )
                x = [
                    self._draw(chunk, own_mask, c, n, generator, k, common)
                    for c, (k, n) in zip(contexts, groups, strict=True)
                ]
            yield chunk, np.concatenate(x)

    def generator(self) -> torch.Generator:
        """Return the generator of draws that are the same at every call."""
        return torch.Generator(self.mean.marginal.device).manual_seed(self.seed)

    def _means(self, data: Batch) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for chunk in chunked(data, self._floats_per_row(1)):
                points = self.mean.expected(
                    chunk.x, originals(chunk), observed_mask(chunk)
                )
                if self.mean.ensemble is not None:
                    points = clamp(points, self.scales.expected)
                parts.append(self.scales.rows_to_encoded(points))
        return np.concatenate(parts)

    def _draw(
        self,
        chunk: Batch,
        mask: Tensor,
        c: Tensor | None,
        n_draws: int,
        generator: torch.Generator | None,
        parameters: int | None,
        common: bool,
    ) -> np.ndarray:
        """Draw all cells given the mask ones; ``c`` is the networks' context."""
        mean, vae, x_original = self.mean, self.vae, originals(chunk)
        if c is None:
            x_original, mask = mean.gaussian_inputs(x_original, mask)
            if common:
                like = x_original.new_empty(n_draws, 1, x_original.shape[1])
                noise = common_noise(like, self.generator())
            else:
                noise = x_original.new_empty(n_draws, *x_original.shape).normal_(
                    generator=generator
                )
            draws = [
                mean.gaussian.sample(x_original, mask, part, parameters)
                for part in noise
            ]
            return self.scales.rows_to_encoded(torch.stack(draws))
        if common:
            same = self.generator()
            noise = common_noise(c.new_empty(n_draws, 1, vae.n_prior_noise), same)
            read = vae.joint.point
            if generator is not None:
                read = partial(vae.joint.sample_common, generator=same)
        else:
            assert generator is not None
            noise = c.new_empty(n_draws, len(chunk), vae.n_prior_noise)
            noise.normal_(generator=generator)
            read = partial(vae.joint.sample, generator=generator)
        x = read(vae.decode(vae.prior(c).rsample(noise), c))
        return clamp(x, self.scales.drawn).cpu().numpy()

    def _resample(
        self,
        chunk: Batch,
        x: np.ndarray,
        n_draws: int,
        generator: torch.Generator | None,
    ) -> np.ndarray:
        """Choose draws by their weights under self-masking."""
        weights = torch.from_numpy(self._tilt(chunk, x).T).to(chunk.x.device)
        chosen = torch.multinomial(weights, n_draws, True, generator=generator)
        return np.take_along_axis(x, chosen.cpu().numpy().T[..., None], axis=0)

    def _tilt(self, chunk: Batch, x: np.ndarray) -> np.ndarray:
        """Return the weights of draws under self-masking, (draws, rows)."""
        logs = np.zeros(x.shape[:2])
        missing = ~observed_mask(chunk).cpu().numpy()
        for position, slope in self.slopes.items():
            x_original = self.scales.to_original(x[..., position], position)
            logs += slope * x_original * missing[:, position]
        weights = np.exp(logs - logs.max(0))
        return weights / weights.sum(0)

    def _tilt_means(self, encoded: np.ndarray, data: Batch) -> None:
        """Move the means of self-masking columns by what the tilt does to draws."""
        start = 0
        for chunk, x in self._common_draws(data):
            weights = self._tilt(chunk, x)
            rows = slice(start, start + len(chunk))
            for position in self.slopes:
                x_original = self.scales.to_original(x[..., position], position)
                shift = (weights * x_original).sum(0) - x_original.mean(0)
                target = (
                    self.scales.to_original(encoded[rows, position], position) + shift
                )
                # hidden values may lie beyond the observed ones on the masked side
                encoded[rows, position] = self.scales.to_encoded(target, position)
            start += len(chunk)

    def _floats_per_row(self, n_draws: int) -> int:
        """Return the floats that a row takes with so many draws."""
        mean = self.mean
        width = len(mean.normal_inputs) ** 2  # a matrix is solved for every row
        if mean.ensemble is None:
            width = max(width, n_draws * width)
        else:
            members = mean.n_members * max(w.shape[1] for w in mean.ensemble.weights)
            inputs = self.vae.n_latent + mean.n_context
            width = max(width, members, n_draws * max(inputs, self.width))
        return width


def observed_mask(batch: Batch) -> Tensor:
    """Return the mask of the observed cells, which every batch has here."""
    assert batch.observed is not None
    return batch.observed


def originals(batch: Batch) -> Tensor:
    """Return the rows in the space of ``x_original``, which every batch has here."""
    assert batch.x_original is not None
    return batch.x_original
