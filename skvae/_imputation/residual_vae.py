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
    copies : two sequences of int, default=((), ())
        Further decoder outputs, and the entries of the context that are added to them,
        instead of a linear path from all entries to all outputs.
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
        copies: Sequence[Sequence[int]] = ((), ()),
        **options: Any,
    ) -> None:
        super().__init__(
            joint, n_latent, hidden_layer_sizes, activation, generator, **options
        )
        half = torch.empty(n_pairs, 1, self.n_prior_noise, **CPU_FLOATS)
        half.normal_(generator=generator)
        self.nodes: Tensor
        self.register_buffer("nodes", torch.cat([half, -half]))
        self.centred_outputs: Tensor
        self.centred_sources: Tensor
        self.copied_outputs: Tensor
        self.copied_sources: Tensor
        for name, pairs in {"centred": centres, "copied": copies}.items():
            outputs, sources = (as_index(part) for part in pairs)
            self.register_buffer(f"{name}_outputs", outputs, persistent=False)
            self.register_buffer(f"{name}_sources", sources, persistent=False)
        self.residual_scale: Tensor
        n_centred = len(self.centred_outputs)
        self.register_buffer("residual_scale", torch.ones(n_centred, **CPU_FLOATS))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder outputs px, (..., n_outputs)."""
        assert c is not None
        px = super().decode(z, c)
        noise = self.nodes.expand(-1, len(c), -1)
        nodes = super().decode(self.prior(c).rsample(noise), c)
        average = nodes[..., self.centred_outputs].mean(0)
        deviation = px[..., self.centred_outputs] - average
        loc = c[..., self.centred_sources] + self.residual_scale * deviation
        px = px.index_copy(-1, self.centred_outputs, loc)
        if not len(self.copied_outputs):
            return px
        copies = c[..., self.copied_sources].expand(*px.shape[:-1], -1)
        return px.index_add(-1, self.copied_outputs, copies)

    @torch.no_grad()
    def initialise_at_mean(self, mean: ConditionalMean) -> None:
        """Initialise the decoder at the conditional mean and its residual variance."""
        outputs, sources = map(as_index, find_copies(self.joint, mean))
        if self.decoder.linear_path:
            self.initialise_at_context(outputs, sources)
        else:  # the copies are added to the outputs
            self.decoder.output.weight.mul_(0.1)
            self.decoder.output.bias[outputs] = 0
        columns, _, _ = self.joint.location_scale_indices()
        position = {int(c): i for i, c in enumerate(mean.columns)}
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
        if not len(self.centred_outputs):
            return
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


def as_index(places: Sequence[int]) -> Tensor:
    return torch.tensor(places, dtype=torch.long, device="cpu")


def describe_paths(
    joint: Joint,
    mean: ConditionalMean,
    nonlinear: Collection[int],
    settings: Settings = SETTINGS,
) -> dict[str, Any]:
    """Return the paths from context to outputs, as options of :class:`ResidualVAE`.

    A linear path from all entries to all outputs, initialised at the conditional mean,
    or in wide tables copies.
    """
    centres = find_centres(joint, mean, nonlinear)
    options: dict[str, Any] = {"centres": [list(part) for part in centres]}
    n_context = 0 if mean.ensemble is None else mean.n_context
    options["linear_path"] = joint.n_outputs * n_context <= settings.direct_weights
    if not options["linear_path"]:
        pairs = zip(*find_copies(joint, mean), strict=True)
        centred = set(centres[0])
        others = [pair for pair in pairs if pair[0] not in centred]
        options["copies"] = [[pair[k] for pair in others] for k in (0, 1)]
    return options


def find_copies(joint: Joint, mean: ConditionalMean) -> tuple[list[int], list[int]]:
    """Return the outputs of ``joint`` that ``mean`` gives, and its entries for them.

    Those are locations, probabilities and log-scales.
    """
    n_deviations = len(mean.mean_log_deviation)
    deviations = range(mean.n_context - n_deviations, mean.n_context)
    position = {int(c): i for i, c in enumerate(mean.columns)}
    outputs: list[int] = []
    sources: list[int] = []
    column = output = source = 0
    for head, n_sources in zip(joint, mean.joint.outputs, strict=True):
        copies = head.point_estimate_outputs()
        outputs += [output + k for k in copies]
        sources += range(source, source + len(copies))
        if deviations:
            for k, log_scale in enumerate(head.log_scale_outputs()):
                outputs.append(output + log_scale)
                sources.append(deviations[position[column + k]])
        column += head.n_columns
        output, source = output + head.n_outputs, source + n_sources
    return outputs, sources


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
