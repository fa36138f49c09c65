"""The one conditional VAE behind every estimator.

Letters, used in the same sense throughout the torch layer:

``x``
    encoded rows, (..., columns); a missing cell holds 0
``observed``
    mask of the observed cells, same shape, or None when there is no missing cell
``c``
    context, (..., n_context), or None
``z``
    latent variables, (..., n_latent)
``qz``, ``pz``
    approximate posterior q(z | x, c) and prior p(z | c)
``px``
    decoder outputs that :class:`skvae._distributions.joint.Joint` reads as p(x | z, c)

Modules never draw: noise is an argument. All initial weights come from the
generator that is passed in, so the global random state stays untouched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._distributions.families import FAMILIES, Latent, Prior
from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .._distributions.normal import (
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    DiagonalNormal,
    Mixture,
    StandardNormal,
)
from .batch import Batch
from .mlp import MLP


class Forward(NamedTuple):
    """Result of one pass through the model."""

    qz: Latent
    z: Tensor
    pz: Prior
    px: Tensor


def pathwise(qz: Latent, noise: Tensor) -> Tensor:
    """Return draws that are differentiable in the parameters of ``qz``."""
    return qz.rsample(noise)


class LearnedMixture(nn.Module):
    """Learned prior "mixture", of normal distributions."""

    def __init__(self, n_components: int, n_latent: int, generator: torch.Generator):
        super().__init__()
        # the components start apart, and together close to N(0, I)
        loc = torch.empty(n_components, n_latent, **CPU_FLOATS)
        loc.normal_(0, 0.5, generator=generator)
        self.loc = nn.Parameter(loc)
        self.log_scale = nn.Parameter(torch.full_like(loc, 0.5 * math.log(0.75)))
        self.logits = nn.Parameter(torch.zeros(n_components, **CPU_FLOATS))

    def forward(self) -> Mixture:
        log_scale = self.log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
        weight = torch.log_softmax(self.logits, -1)
        return Mixture(weight, DiagonalNormal(self.loc, log_scale))


class VAE(nn.Module):
    """Conditional variational autoencoder.

    Parameters
    ----------
    joint : Joint
        The heads of the decoder.
    n_latent : int
        Number of latent variables.
    hidden_layer_sizes : sequence of int
        Widths of the encoder, in reverse those of the decoder.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights, on the CPU.
    masked : bool
        Whether the mask of the missing cells is an input of the encoder.
    n_context : int
        Width of the context. With one the default prior is a network of it.
    linear_path : bool
        Whether encoder and decoder have a linear path beside their layers.
    latent : str
        Family of the latent variables, a key of ``FAMILIES``.
    prior : mapping, default=None
        As ``resolve_prior`` of the families returns it: "mixture" or "vamp" with a
        number of components, which do not see the context; the parameters of a fixed
        prior; None for the default.
    learned_prior : bool
        Whether a context may give the prior; else it is N(0, I).
    """

    def __init__(
        self,
        joint: Joint,
        n_latent: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
        *,
        masked: bool = False,
        n_context: int = 0,
        linear_path: bool = False,
        latent: str = "normal",
        prior: Mapping[str, Any] | None = None,
        learned_prior: bool = True,
    ) -> None:
        super().__init__()
        self.joint = joint
        self.family = FAMILIES[latent]
        self.n_latent = n_latent
        self.masked = masked
        self.n_context = n_context
        reverse = list(hidden_layer_sizes)[::-1]
        self.encoder = MLP(
            self.n_encoder_inputs,
            hidden_layer_sizes,
            self.family.n_outputs * n_latent,
            activation,
            generator,
            linear_path=linear_path,
        )
        self.decoder = MLP(
            n_latent + n_context,
            reverse,
            joint.n_outputs,
            activation,
            generator,
            linear_path=linear_path,
        )
        self.prior_net = (
            MLP(
                n_context,
                hidden_layer_sizes,
                self.family.n_outputs * n_latent,
                activation,
                generator,
            )
            if n_context and learned_prior and prior is None
            else None
        )
        self.mixture = None
        self.pseudo_inputs: nn.Parameter | None = None
        given = dict(prior or {})
        if "mixture" in given:
            self.mixture = LearnedMixture(given.pop("mixture"), n_latent, generator)
        elif "vamp" in given:
            width = (given.pop("vamp"), self.n_encoder_inputs)
            inputs = torch.empty(width, **CPU_FLOATS).normal_(generator=generator)
            self.pseudo_inputs = nn.Parameter(inputs)
        self.prior_parameters: Tensor | None
        self._set_prior(given)

    def _set_prior(self, given: Mapping[str, Sequence[float]]) -> None:
        """Set the parameters of a fixed prior, and initialise q(z | x, c) at it."""
        family, n_latent = self.family, self.n_latent
        parameters = {
            name: torch.full((n_latent,), value, **CPU_FLOATS)
            for name, value in family.default_prior.items()
        }
        for name, values in given.items():
            parameters[name] = torch.tensor(values, **CPU_FLOATS)
        # N(0, I) has a class of its own, without parameters
        is_standard = family.distribution is DiagonalNormal and not given
        stacked = None if is_standard else torch.stack([*parameters.values()])
        self.register_buffer("prior_parameters", stacked)
        if stacked is None:
            return
        with torch.no_grad():
            start = family.distribution.from_parameters(parameters).to_outputs()
            for net in (self.encoder, self.prior_net):
                if net is not None:
                    net.output.bias.copy_(start)

    def encode(
        self, x: Tensor, observed: Tensor | None = None, c: Tensor | None = None
    ) -> Latent:
        """Return q(z | x, c), batched over rows."""
        return self._read(self.encoder(self._encoder_inputs(x, observed, c)))

    def _encoder_inputs(
        self, x: Tensor, observed: Tensor | None, c: Tensor | None
    ) -> Tensor:
        inputs = self.joint.embed(x, observed)
        parts = [inputs]
        if self.masked:
            mask = torch.zeros_like(x) if observed is None else (~observed).to(x.dtype)
            parts.append(mask)
        if c is not None:
            parts.append(c)
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def prior(self, c: Tensor | None = None) -> Prior:
        """Return p(z | c)."""
        if self.prior_net is not None:
            return self._read(self.prior_net(c))
        if self.mixture is not None:
            mixture: Mixture = self.mixture()
            return mixture
        if self.pseudo_inputs is not None:
            components = self._read(self.encoder(self.pseudo_inputs))
            assert isinstance(components, DiagonalNormal)
            weight = components.loc.new_zeros(len(components.loc))
            return Mixture(torch.log_softmax(weight, -1), components)
        return (
            StandardNormal() if self.prior_parameters is None else self._fixed_prior()
        )

    def _fixed_prior(self) -> Latent:
        assert self.prior_parameters is not None
        parameters = zip(self.family.default_prior, self.prior_parameters, strict=True)
        return self.family.distribution.from_parameters(dict(parameters))

    def prior_variance(self) -> Tensor | float:
        """Return the variance of the fixed prior's variables; 1 for a learned one."""
        prior = None if self.prior_parameters is None else self._fixed_prior()
        return 1.0 if prior is None else prior.variance

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder outputs px, (..., n_outputs)."""
        z = self._decoder_latents(z)
        if c is not None and torch.is_inference_mode_enabled():
            return self.decoder.infer(z, c)
        if c is not None:
            z = torch.cat([z, c.expand(*z.shape[:-1], self.n_context)], -1)
        px: Tensor = self.decoder(z)
        return px

    def _decoder_latents(self, z: Tensor) -> Tensor:
        """Return latent variables as the decoder's networks see them."""
        if self.family.support == "positive":
            # heavy tails: log-rates and logits in proportion to z would overflow
            return torch.log1p(z)
        if self.family.support != "real":
            # components of a large simplex are small: networks need order one
            prior = self._fixed_prior()
            return (z - prior.mean) * torch.rsqrt(prior.variance)
        return z

    def forward(
        self,
        batch: Batch,
        noise: Tensor,
        draw: Callable[[Latent, Tensor], Tensor] = pathwise,
    ) -> Forward:
        """Encode, draw with ``noise`` (..., rows, n_noise), and decode."""
        qz = self.encode(batch.x, batch.observed, batch.c)
        z = draw(qz, noise)
        return Forward(qz, z, self.prior(batch.c), self.decode(z, batch.c))

    def _read(self, out: Tensor) -> Latent:
        return self.family.distribution.from_outputs(out)

    @torch.no_grad()
    def initialise_marginals(self, x: Tensor, weight: Tensor) -> None:
        """Initialise the decoder at the marginal distribution of every column."""
        self.decoder.output.bias.copy_(self.joint.initialise(x, weight))

    @torch.no_grad()
    def initialise_prior(self, batch: Batch) -> None:
        """Initialise the pseudo-inputs of a "vamp" prior at rows, one for each."""
        if self.pseudo_inputs is not None:
            inputs = self._encoder_inputs(batch.x, batch.observed, batch.c)
            # a context that is not given, such as an unknown label, is zero
            missing = self.pseudo_inputs.shape[1] - inputs.shape[1]
            self.pseudo_inputs.copy_(F.pad(inputs, (0, missing)))

    @torch.no_grad()
    def forget_pseudo_inputs(self) -> None:
        """Replace a "vamp" prior, which starts at rows, by the mixture that it is."""
        if self.pseudo_inputs is None:
            return
        components = self._read(self.encoder(self.pseudo_inputs))
        assert isinstance(components, DiagonalNormal)
        size = (len(components.loc), self.n_latent, torch.Generator("cpu"))
        self.mixture = LearnedMixture(*size).to(components.loc)
        self.mixture.loc.copy_(components.loc)
        self.mixture.log_scale.copy_(components.log_scale)
        self.pseudo_inputs = None

    @torch.no_grad()
    def initialise_factor_analysis(
        self,
        loadings: Tensor,  # (n_numbers, n_latent)
        noise_variance: Tensor,  # (n_numbers,)
        coefficients: Tensor | None = None,  # (n_numbers, n_context)
    ) -> None:
        """Initialise at a factor analysis of the columns with location and scale.

        With ``coefficients`` it is one of the residuals of a regression on the context,
        and the prior starts at N(0, I).

        The decoder becomes linear with the given loadings and the encoder equal to
        the exact posterior, so the evidence lower bound is tight from the first step
        and training departs from the linear model only where that pays. Call
        :meth:`initialise_marginals` first.

        Notes
        -----
        The loadings W are rotated to make Wᵀ Ψ⁻¹ W diagonal, which leaves the model
        as it is; the posterior precision I + Wᵀ Ψ⁻¹ W is then diagonal too, so the
        factorised posterior is exact.
        """
        _, inputs, outputs = self.joint.location_scale_indices()
        loadings = loadings.double()
        deviation = self.joint.set_deviation(noise_variance.double().sqrt())
        weighted = loadings / deviation.square().unsqueeze(1)  # Ψ⁻¹ W
        signal, rotation = torch.linalg.eigh(loadings.t() @ weighted)
        precision = 1 + signal.clamp(min=0)
        posterior = (weighted @ rotation).t() / precision.unsqueeze(1)
        bias = self.decoder.output.bias.clone()
        loc = bias[outputs].double()

        encoder = bias.new_zeros(2 * self.n_latent, self.n_encoder_inputs)
        encoder[: self.n_latent, inputs] = posterior.to(bias)
        encoder_bias = torch.cat([-(posterior @ loc), -0.5 * precision.log()])
        if coefficients is not None and self.prior_net is not None:
            shift = posterior @ coefficients.double()
            encoder[: self.n_latent, -self.n_context :] = -shift.to(bias)
            self.prior_net.output.weight.zero_()
        self.encoder.initialise_linear(encoder, encoder_bias.to(bias))
        decoder = bias.new_zeros(self.joint.n_outputs, self.n_latent + self.n_context)
        decoder[outputs, : self.n_latent] = (loadings @ rotation).to(bias)
        if coefficients is not None:
            decoder[outputs, self.n_latent :] = coefficients.to(bias)
        self.decoder.initialise_linear(decoder, bias)

    @torch.no_grad()
    def initialise_at_context(self, outputs: Tensor, sources: Tensor) -> None:
        """Initialise decoder ``outputs`` as copies of context entries ``sources``.

        The other outputs start at their biases. Needs ``linear_path``.
        """
        output = self.decoder.output
        n_in = self.n_latent + self.n_context
        output.weight[:, :-n_in].mul_(0.1)  # near the copies, but with a gradient
        output.weight[:, -n_in:] = 0
        output.weight[outputs, sources + (output.weight.shape[1] - self.n_context)] = 1
        output.bias[outputs] = 0

    @property
    def n_noise(self) -> int:
        """Width of the noise for a draw of q(z | x, c)."""
        return self.family.noise_width * self.n_latent

    @property
    def n_prior_noise(self) -> int:
        """Width of the noise for a draw of p(z | c)."""
        is_mixture = self.mixture is not None or self.pseudo_inputs is not None
        return self.n_noise + is_mixture

    @property
    def widest(self) -> int:
        """Floats per row of the widest layer."""
        latents = self.n_noise
        if self.mixture is not None:
            latents = self.mixture.loc.numel()
        elif self.pseudo_inputs is not None:
            latents = len(self.pseudo_inputs) * self.n_latent
        return max(self.encoder.widest, self.decoder.widest, latents)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.decoder.output.weight.device

    @property
    def n_encoder_inputs(self) -> int:
        """Width of the encoder's input layer."""
        return self.joint.n_inputs + self.masked * self.joint.n_columns + self.n_context
