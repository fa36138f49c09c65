"""Residual VAE: a conditional VAE of the residuals of the conditional mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .._networks.vae import VAE
from .conditional_mean import ConditionalMean
from .settings import SETTINGS, Settings


class ResidualVAE(VAE):
    """Conditional VAE whose locations are centred on entries of the context.

    The location of a cell is m + s (g(z, c) - mean_k g(z_k, c)), where m is its entry
    in the context, s the residual scale, g the decoder's network and z_k fixed nodes
    under the prior p(z | c). So the latents model the residuals alone, and not the mean
    again, which few rows would teach them worse than they taught m.

    Parameters
    ----------
    joint, n_latent, hidden_layer_sizes, activation, generator, **options
        As for :class:`skvae._networks.vae.VAE`; ``n_context`` is at least 1.
    centres : two sequences of int, default=((), ())
        Decoder outputs that are centred, and the entries of the context that they are
        centred on.
    n_pairs : int
        Number of antithetic pairs of nodes.
    """

    def __init__(
        self,
        joint: Joint,
        n_latent: int,
        hidden_layer_sizes: tuple[int, ...],
        activation: str,
        generator: torch.Generator,
        *,
        centres: Sequence[Sequence[int]] = ((), ()),
        n_pairs: int = SETTINGS.node_pairs,
        **options: Any,
    ) -> None:
        super().__init__(
            joint, n_latent, hidden_layer_sizes, activation, generator, **options
        )
        half = torch.empty(n_pairs, 1, self.n_prior_noise, **CPU_FLOATS)
        half.normal_(generator=generator)
        self.nodes: Tensor
        self.register_buffer("nodes", torch.cat([half, -half]))
        outputs, sources = (
            torch.tensor(part, dtype=torch.long, device="cpu") for part in centres
        )
        self.centred_outputs: Tensor
        self.centred_sources: Tensor
        self.register_buffer("centred_outputs", outputs, persistent=False)
        self.register_buffer("centred_sources", sources, persistent=False)
        self.residual_scale: Tensor
        self.register_buffer("residual_scale", torch.ones(len(outputs), **CPU_FLOATS))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder outputs px, (..., n_outputs)."""
        assert c is not None
        px = super().decode(z, c)
        noise = self.nodes.expand(-1, len(c), -1)
        nodes = super().decode(self.prior(c).rsample(noise), c)
        average = nodes[..., self.centred_outputs].mean(0)
        deviation = px[..., self.centred_outputs] - average
        loc = c[..., self.centred_sources] + self.residual_scale * deviation
        return px.index_copy(-1, self.centred_outputs, loc)

    def initialise_at_mean(self, mean: ConditionalMean) -> None:
        """Initialise the decoder at the conditional mean and its residual variance."""
        n_deviations = len(mean.mean_log_deviation)
        deviations = range(mean.n_context - n_deviations, mean.n_context)
        position = {int(c): i for i, c in enumerate(mean.columns)}
        outputs: list[int] = []
        sources: list[int] = []
        column = output = source = 0
        for head, n_sources in zip(self.joint, mean.joint.outputs, strict=True):
            copies = head.point_estimate_outputs()
            outputs += [output + k for k in copies]
            sources += range(source, source + len(copies))
            if deviations:
                for k, log_scale in enumerate(head.log_scale_outputs()):
                    outputs.append(output + log_scale)
                    sources.append(deviations[position[column + k]])
            column += head.n_columns
            output, source = output + head.n_outputs, source + n_sources
        of_copies = torch.tensor([outputs, sources], dtype=torch.long, device="cpu")
        self.initialise_at_context(*of_copies)
        columns, _, _ = self.joint.location_scale_indices()
        kept = [position[int(c)] for c in columns]
        self.joint.set_deviation(mean.joint.deviation().detach()[kept])

    @torch.no_grad()
    def calibrate(
        self,
        x: Tensor,
        masked: Tensor,
        c: Tensor,
        generator: torch.Generator,
        settings: Settings = SETTINGS,
    ) -> None:
        """Calibrate the scales of draws on out-of-fold residuals, by column.

        The mean absolute deviation of draws from the context's mean is matched with the
        mean absolute residual of the ``masked`` cells, less so where there are few:
        both latents and noise. After a short training the scales are still inaccurate.
        """
        columns, _, outputs = self.joint.location_scale_indices()
        shape = (settings.calibration_draws, len(x), self.n_prior_noise)
        noise = x.new_empty(shape).normal_(generator=generator)
        px = self.decode(self.prior(c).rsample(noise), c)
        draws = self.joint.sample(px, generator)
        index_of = {int(output): index for index, output in enumerate(outputs)}
        factors = x.new_ones(len(columns))
        most = settings.max_rescaling
        for k, output in enumerate(self.centred_outputs.tolist()):
            index = index_of[output]
            column = columns[index]
            cells = masked[:, column]
            n_cells = int(cells.sum())
            if not n_cells:
                continue
            centre = c[cells, self.centred_sources[k]]
            error = (x[cells, column] - centre).abs().mean()
            drawn = (draws[:, cells, column] - centre).abs().mean()
            if float(error) > 0 and float(drawn) > 0:
                ratio = (error / drawn).clamp(1 / most, most)
                factors[index] = ratio ** (
                    n_cells / (n_cells + settings.unscaled_cells)
                )
                self.residual_scale[k] *= factors[index]
        self.joint.scale_by(factors)


def find_centres(
    joint: Joint, mean: ConditionalMean, nonlinear: Collection[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the centred outputs of ``joint``, and their entries of ``mean``.

    Those are the locations of numbers, but for the columns in ``nonlinear``: their
    map is not linear, so a mean in original units is not a location.
    """
    if mean.ensemble is None:
        return (), ()
    columns, _, outputs = joint.location_scale_indices()
    sources = dict(zip(mean.columns.tolist(), mean.outputs.tolist(), strict=True))
    centred = {
        output: sources[column]
        for column, output in zip(columns.tolist(), outputs.tolist(), strict=True)
        if column not in nonlinear
    }
    return tuple(centred), tuple(centred.values())
