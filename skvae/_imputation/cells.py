"""Distributions of single cells: expected values, medians, intervals and draws.

Input is a :class:`Batch` on the device, output encoded NumPy arrays with the columns in
the order of the heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from .._distributions.noise import RowStream, Source, draw_normal, draw_places
from .._networks.batch import (
    CACHED_FLOATS,
    INFERENCE_FLOATS,
    Batch,
    chunked,
    rows_at_once,
)
from .conditional_mean import ConditionalMean
from .masking import uniform
from .residual_vae import ResidualVAE
from .scales import Scales, clamp
from .settings import SETTINGS, Settings
from .streams import new_generator, new_row_stream


@dataclass
class CellDistribution:
    """Distribution of single cells under a fitted imputer.

    Draws of a chunk of rows have the shape (draws, rows, columns).

    Attributes
    ----------
    mean : ConditionalMean
        Expected values of cells.
    vae : ResidualVAE
        Distribution of residuals. Without networks the normal in ``mean`` gives both.
    scales : Scales
        Maps between ``x`` and ``x_original``, and the ranges of cells.
    slopes : dict of int to float
        Slopes of self-masking by column position.
    seed : int
        Seed of the streams that are the same at every call, see ``STREAMS``.
    width : int
        Width of the widest layer of ``vae``.
    settings : Settings
        Tuning constants.
    """

    mean: ConditionalMean
    vae: ResidualVAE
    scales: Scales
    slopes: dict[int, float]
    seed: int
    width: int
    settings: Settings = SETTINGS

    def expected(self, data: Batch) -> np.ndarray:
        """Return means and the most probable categories, (rows, columns)."""
        encoded = self._means(data)
        if self.slopes:
            self._tilt_means(encoded, data)
        return encoded

    def medians(self, data: Batch) -> np.ndarray:
        """Return medians of numbers and the most probable categories, (rows, columns).

        They are medians over draws of the latents, or where columns mask themselves
        over tilted draws of the cells.
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
        """Yield chunks of rows with draws by common random numbers."""
        return self.draw(data, INTERVAL_DRAWS, None)

    def intervals(self, data: Batch, columns: list[int], coverage: float) -> np.ndarray:
        """Return prediction interval bounds of columns, (2, rows, len(columns))."""
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
        """Yield draws for prediction intervals, by chunks of rows."""
        parameters = None
        if self.mean.ensemble is None:
            # draws of the VAE are calibrated on out-of-fold residuals, which include
            # the error of the parameters already
            n_drawn = len(self.mean.gaussian.drawn_means)
            parameters = sorted(k % n_drawn for k in range(n_draws))
        cells = new_row_stream(self.seed, "intervals")
        choices = new_row_stream(self.seed, "resampling")
        for chunk, x in self.draw(data, n_draws, cells, parameters=parameters):
            if self.slopes:
                source = choices.of(chunk.x, observed_mask(chunk))
                x = self._resample(chunk, x, n_draws, source)
            yield x

    def tables(
        self, data: Batch, n_draws: int, generator: torch.Generator
    ) -> Iterator[np.ndarray]:
        """Yield draws of all cells for multiple imputation, by chunks of rows.

        Every draw has its own parameters of the normal, the same for all rows, so that
        tables differ by the error of the parameters as well.
        """
        n_drawn = len(self.mean.gaussian.drawn_means)
        device = generator.device
        order = torch.randperm(n_drawn, generator=generator, device=device).tolist()
        # consecutive tables have the same parameters where there are more tables
        chosen = [order[k * min(n_drawn, n_draws) // n_draws] for k in range(n_draws)]
        n_candidates = self.settings.n_candidates if self.slopes else 1
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
            # the normal alone draws cells jointly, and tilted draws keep their weights
            empty = ~observed_mask(chunk).any(1).cpu().numpy()
            if empty.any() and self.mean.ensemble is not None and not self.slopes:
                new = self.new_rows(n_draws * int(empty.sum()), generator)
                x[:, empty] = new.reshape(n_draws, -1, x.shape[2])
            yield x

    def new_rows(self, n_rows: int, generator: torch.Generator) -> np.ndarray:
        """Return draws of rows without an observed cell, (rows, columns).

        The conditional mean of an empty row is constant, so that its cells would depend
        on each other through the latents alone. Drawn in stages, in a random order of
        the columns for every row, cells are conditioned on those of earlier stages.
        """
        device = self.mean.marginal.device
        shape = (n_rows, len(self.scales.columns))
        place = uniform(shape, generator).argsort(1)
        n_stages = min(self.settings.n_stages, shape[1])
        x = torch.zeros(shape, dtype=torch.float32, device=device)
        observed = torch.zeros(shape, dtype=torch.bool, device=device)
        for stage in range(n_stages):
            original = self.scales.rows_to_original(x, observed)
            data = Batch(x, observed, x_original=original)
            chunks = [draws[0] for _, draws in self.draw(data, 1, generator)]
            drawn = torch.from_numpy(np.concatenate(chunks)).to(x)
            now = place * n_stages // shape[1] == stage
            x, observed = torch.where(now, drawn, x), observed | now
        return x.cpu().numpy()

    def draw(
        self,
        data: Batch,
        n_draws: int,
        noise: torch.Generator | RowStream | None,
        mask: Tensor | None = None,
        parameters: list[int] | None = None,
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield chunks of the rows with draws, as if cells were missing at random.

        Inputs are the observed cells, or those in ``mask``. ``parameters`` are indices
        of drawn parameters of the normal, one for each draw. Without ``noise`` draws
        have common random numbers: of the latents, and of the cells where columns mask
        themselves (else the cells are means given the latents).
        """
        groups: list[tuple[int | None, int]] = [(None, n_draws)]
        if parameters is not None:
            groups = [(k, len(list(same))) for k, same in groupby(parameters)]
        by_generator = isinstance(noise, torch.Generator)
        limit = INFERENCE_FLOATS if by_generator else CACHED_FLOATS
        at_once = rows_at_once(self._floats_per_row(n_draws), limit)
        for start in range(0, len(data), at_once):
            chunk = data.rows(start, start + at_once)
            own = observed_mask(chunk)
            if mask is not None:
                own = mask[start : start + len(chunk)]
            source = noise.of(chunk.x, own) if isinstance(noise, RowStream) else noise
            with torch.inference_mode():
                contexts: Iterable[Tensor | None] = [None] * len(groups)
                if self.mean.ensemble is not None:
                    c = self.mean.context(chunk.x, originals(chunk), own)
                    contexts = self.mean.contexts_by_draw(
                        c, originals(chunk), own, [k for k, _ in groups]
                    )
                x = [
                    self._draw_normal(chunk, own, n, source, k)
                    if c is None
                    else self._draw_residuals(c, n, source)
                    for c, (k, n) in zip(contexts, groups, strict=True)
                ]
            yield chunk, np.concatenate(x)

    def generator(self, name: str) -> torch.Generator:
        """Return the generator of a stream, see ``STREAMS``."""
        return new_generator(self.seed, name, self.mean.marginal.device)

    def _means(self, data: Batch) -> np.ndarray:
        parts = []
        with torch.inference_mode():
            for chunk in chunked(data, self._floats_per_row(1)):
                mask = observed_mask(chunk)
                means = self.mean.expected(chunk.x, originals(chunk), mask)
                if self.mean.ensemble is not None:
                    means = clamp(means, self.scales.expected)
                parts.append(self.scales.rows_to_encoded(means))
        return np.concatenate(parts)

    def _draw_normal(
        self,
        chunk: Batch,
        mask: Tensor,
        n_draws: int,
        source: Source | None,
        parameters: int | None,
    ) -> np.ndarray:
        """Return draws of all cells from the normal alone."""
        gaussian = self.mean.gaussian
        inputs, given = self.mean.gaussian_inputs(originals(chunk), mask)
        if source is None:
            like = inputs.new_empty(n_draws, 1, inputs.shape[1])
            noise = common_noise(like, self.generator("common"))
        else:
            noise = draw_normal(inputs.new_empty(n_draws, *inputs.shape), source)
        draws = gaussian.sample(inputs, given, noise, parameters)
        return self.scales.rows_to_encoded(draws)

    def _draw_residuals(
        self, c: Tensor, n_draws: int, source: Source | None
    ) -> np.ndarray:
        """Return draws of all cells from the residual VAE."""
        vae = self.vae
        if source is None:
            generator = self.generator("common")
            like = c.new_empty(n_draws, 1, vae.n_prior_noise)
            noise = common_noise(like, generator)
            function = vae.joint.point_estimate
            if self.slopes:
                function = partial(vae.joint.sample_common, generator=generator)
        else:
            like = c.new_empty(n_draws, len(c), vae.n_prior_noise)
            noise = draw_normal(like, source)
            function = partial(vae.joint.sample, source=source)
        x = function(vae.decode(vae.prior(c).rsample(noise), c))
        return clamp(x, self.scales.drawn).cpu().numpy()

    # -- self-masking ------------------------------------------------------------

    def single_cells(
        self, data: Batch, positions: Sequence[int], generator: torch.Generator
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield draws of single columns given the other cells, (draws, rows).

        They are on the scale of ``x_original``, one column after another, as if cells
        were missing at random. Beyond ``slope_passes`` columns, groups of them are
        masked together.
        """
        if not len(positions):
            return
        mask = observed_mask(data)
        if self.mean.ensemble is None:
            cells = self.mean.gaussian_inputs(originals(data), mask)
            means, deviations = self.mean.gaussian.leave_one_out(*cells)
            for position in positions:
                mean, deviation = means[:, position], deviations[:, position]
                noise = mean.new_empty(INTERVAL_DRAWS, len(mean))
                noise.normal_(generator=generator)
                yield position, (mean + deviation * noise).cpu().numpy()
            return
        n_groups = min(len(positions), self.settings.slope_passes)
        for group in np.array_split(positions, n_groups):
            left = mask.clone()
            left[:, group] = False
            parts = [
                x[..., group]
                for _, x in self.draw(data, INTERVAL_DRAWS, generator, left)
            ]
            draws = np.concatenate(parts, axis=1)
            for k, position in enumerate(group.tolist()):
                yield position, self.scales.to_original(draws[..., k], position)

    def _resample(
        self,
        chunk: Batch,
        x: np.ndarray,
        n_draws: int,
        source: Source,
    ) -> np.ndarray:
        """Return draws resampled by their importance weights under self-masking."""
        weights = torch.from_numpy(self._tilt(chunk, x).T).to(chunk.x.device)
        chosen = draw_places(weights, n_draws, source)
        return np.take_along_axis(x, chosen.cpu().numpy().T[..., None], axis=0)

    def _tilt(self, chunk: Batch, x: np.ndarray) -> np.ndarray:
        """Return importance weights of draws under self-masking, (draws, rows)."""
        logs = np.zeros(x.shape[:2])
        missing = ~observed_mask(chunk).cpu().numpy()
        for position, slope in self.slopes.items():
            original = self.scales.to_original(x[..., position], position)
            logs += slope * original * missing[:, position]
        weights = np.exp(logs - logs.max(0))
        return weights / weights.sum(0)

    def _tilt_means(self, encoded: np.ndarray, data: Batch) -> None:
        """Shift the means of self-masking columns by exponential tilting."""
        start = 0
        for chunk, x in self._common_draws(data):
            weights = self._tilt(chunk, x)
            rows = slice(start, start + len(chunk))
            for position in self.slopes:
                draws = self.scales.to_original(x[..., position], position)
                shift = (weights * draws).sum(0) - draws.mean(0)
                mean = self.scales.to_original(encoded[rows, position], position)
                # not clamped: missing values may lie beyond the observed range
                encoded[rows, position] = self.scales.to_encoded(mean + shift, position)
            start = rows.stop

    def _floats_per_row(self, n_draws: int) -> int:
        """Return the memory per row with ``n_draws`` draws, in floats."""
        mean = self.mean
        width = len(mean.gaussian.mean) ** 2  # a matrix is solved for every row
        if mean.ensemble is None:
            return max(width, n_draws * width)
        members = mean.n_members * max(w.shape[1] for w in mean.ensemble.weights)
        inputs = self.vae.n_latent + mean.n_context
        return max(width, members, n_draws * max(inputs, self.width))


def observed_mask(batch: Batch) -> Tensor:
    """Return the mask of the observed cells, which is never None here."""
    assert batch.observed is not None
    return batch.observed


def originals(batch: Batch) -> Tensor:
    """Return ``x_original``, which is never None here."""
    assert batch.x_original is not None
    return batch.x_original
