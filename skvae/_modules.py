"""Torch modules: the one conditional VAE behind every estimator.

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
    decoder outputs that :class:`skvae._distributions.Joint` reads as p(x | z, c)

Modules never draw: noise is an argument. All initial weights come from the
generator that is passed in, so the global random state stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._distributions import DiagonalNormal, Joint, Prior, StandardNormal

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # in place where autograd allows it: saves one allocation per layer
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}

#: Bounds of the posterior's log-scale: float32 stays finite, no unit dies for good.
LOG_SCALE_MIN, LOG_SCALE_MAX = -9.0, 5.0


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


class Forward(NamedTuple):
    """What one pass through the model gives."""

    qz: DiagonalNormal
    z: Tensor
    pz: Prior
    px: Tensor


def make_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with Xavier weights drawn from ``generator``."""
    # skip_init: nn.Linear() would draw from the global generator
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """A multilayer perceptron, optionally with a linear path around its layers.

    With ``linear_path`` the output layer sees the input beside the last hidden layer,
    so a linear model is a special case that training starts from.
    """

    def __init__(
        self,
        n_in: int,
        hidden_layer_sizes: Sequence[int],
        n_out: int,
        activation: str,
        generator: torch.Generator,
        *,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [make_linear(width, next_width, generator)]
            layers += [ACTIVATIONS[activation]()]
        self.hidden = nn.Sequential(*layers)
        self.linear_path = linear_path and bool(hidden_layer_sizes)
        self.output = make_linear(widths[-1], n_out, generator)
        if self.linear_path:
            direct = self.output.weight.new_zeros(n_out, n_in)
            weight = torch.cat([self.output.weight.detach(), direct], 1)
            self.output.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:  # (..., n_in) -> (..., n_out)
        hidden = self.hidden(x)
        if self.linear_path:
            hidden = torch.cat([hidden, x], -1)
        out: Tensor = self.output(hidden)
        return out

    @torch.no_grad()
    def start_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Make the network equal to ``x @ weight.T + bias``."""
        # the input comes last, and alone where there is no hidden layer
        self.output.weight.zero_()
        self.output.weight[:, -weight.shape[1] :] = weight
        self.output.bias.copy_(bias)


class VAE(nn.Module):
    """Conditional variational autoencoder with diagonal normal latents.

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
        Whether the encoder sees, beside the values, which cells are observed.
    n_context : int
        Width of the context; 0 makes the prior N(0, I), otherwise it is learned.
    linear_path : bool
        Whether encoder and decoder have a linear path beside their layers.
    learned_prior : bool
        False keeps the prior N(0, I) whatever the context.
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
        learned_prior: bool = True,
    ) -> None:
        super().__init__()
        self.joint = joint
        self.n_latent = n_latent
        self.masked = masked
        self.n_context = n_context
        reverse = list(hidden_layer_sizes)[::-1]
        self.encoder = MLP(
            self.n_encoder_inputs,
            hidden_layer_sizes,
            2 * n_latent,
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
            MLP(n_context, hidden_layer_sizes, 2 * n_latent, activation, generator)
            if n_context and learned_prior
            else None
        )

    def encode(
        self, x: Tensor, observed: Tensor | None = None, c: Tensor | None = None
    ) -> DiagonalNormal:
        """Return q(z | x, c), batched over rows."""
        inputs = self.joint.embed(x, observed)
        parts = [inputs]
        if self.masked:
            mask = torch.zeros_like(x) if observed is None else (~observed).to(x.dtype)
            parts.append(mask)
        if c is not None:
            parts.append(c)
        out = self.encoder(parts[0] if len(parts) == 1 else torch.cat(parts, -1))
        return self._as_normal(out)

    def prior(self, c: Tensor | None = None) -> Prior:
        """Return p(z | c)."""
        if self.prior_net is None:
            return StandardNormal()
        return self._as_normal(self.prior_net(c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder outputs px, (..., n_outputs)."""
        if c is not None:
            z = torch.cat([z, c.expand(*z.shape[:-1], self.n_context)], -1)
        px: Tensor = self.decoder(z)
        return px

    def forward(self, batch: Batch, noise: Tensor) -> Forward:
        """Encode, draw with ``noise`` (..., rows, n_latent), and decode."""
        qz = self.encode(batch.x, batch.observed, batch.c)
        z = qz.rsample(noise)
        return Forward(qz, z, self.prior(batch.c), self.decode(z, batch.c))

    def _as_normal(self, out: Tensor) -> DiagonalNormal:
        loc, log_scale = out.split(self.n_latent, -1)
        # contiguous copies: elementwise kernels are several times slower on slices
        log_scale = log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
        return DiagonalNormal(loc.contiguous(), log_scale)

    @torch.no_grad()
    def start_at_marginals(self, x: Tensor, weight: Tensor) -> None:
        """Start the decoder at the marginal distribution of every column."""
        self.decoder.output.bias.copy_(self.joint.start_at(x, weight))

    @torch.no_grad()
    def start_at_factor_analysis(
        self,
        loadings: Tensor,  # (n_numbers, n_latent)
        noise_variance: Tensor,  # (n_numbers,)
    ) -> None:
        """Start at a factor analysis of the columns with a location and a scale.

        The decoder becomes linear with the given loadings and the encoder equal to
        the exact posterior, so the evidence lower bound is tight from the first step
        and training departs from the linear model only where that pays. Call
        :meth:`start_at_marginals` first.

        Notes
        -----
        The loadings W are rotated to make Wᵀ Ψ⁻¹ W diagonal, which leaves the model
        as it is; the posterior precision I + Wᵀ Ψ⁻¹ W is then diagonal too, so the
        factorised posterior is exact.
        """
        _, inputs, outputs = self.joint.number_slots()
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
        self.encoder.start_linear(encoder, encoder_bias.to(bias))
        decoder = bias.new_zeros(self.joint.n_outputs, self.n_latent + self.n_context)
        decoder[outputs, : self.n_latent] = (loadings @ rotation).to(bias)
        self.decoder.start_linear(decoder, bias)

    @torch.no_grad()
    def start_at_context(self, outputs: Tensor, sources: Tensor) -> None:
        """Start decoder ``outputs`` as copies of the context's entries ``sources``.

        The other outputs start at their biases. Needs ``linear_path``.
        """
        output = self.decoder.output
        n_in = self.n_latent + self.n_context
        output.weight[:, :-n_in].mul_(0.1)  # close to the copies, but not silent
        output.weight[:, -n_in:] = 0
        output.weight[outputs, sources + (output.weight.shape[1] - self.n_context)] = 1
        output.bias[outputs] = 0

    @property
    def n_encoder_inputs(self) -> int:
        """Width of the encoder's input layer."""
        return self.joint.n_inputs + self.masked * self.joint.n_columns + self.n_context
