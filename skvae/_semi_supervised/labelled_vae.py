"""VAE with a classifier q(y | x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._distributions.families import Latent
from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .._networks.mlp import MLP
from .._networks.vae import VAE


class LabelledVAE(VAE):
    """VAE of partly labelled rows, with the classifier q(y | x).

    Parameters
    ----------
    joint, n_latent, hidden_layer_sizes, activation, generator, **options
        As in :class:`skvae._networks.vae.VAE`.
    n_classes : int
        Number of classes.
    kind : {"m1", "m2", "shot"}
        What depends on the label. "m1": nothing does, the classifier reads the
        latents. "m2": the decoder p(x | z, y) and the posterior q(z | x, y). "shot":
        the decoder p(x | z, y) alone.

    References
    ----------
    Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised Learning with Deep
    Generative Models, sections 2 and 3; Feng et al. (2021), SHOT-VAE.
    """

    def __init__(
        self,
        joint: Joint,
        n_latent: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
        *,
        n_classes: int,
        kind: str,
        **options: Any,
    ) -> None:
        super().__init__(
            joint,
            n_latent,
            hidden_layer_sizes,
            activation,
            generator,
            n_context=0 if kind == "m1" else n_classes,
            learned_prior=False,
            **options,
        )
        self.kind = kind
        self.n_classes = n_classes
        n_seen = n_latent if kind == "m1" else self.n_row_inputs
        self.classifier = MLP(
            n_seen, hidden_layer_sizes, n_classes, activation, generator
        )
        with torch.no_grad():  # q(y | x) is nearly uniform at first
            self.classifier.output.weight.mul_(0.1)
        self.log_prior: Tensor
        uniform = torch.full((n_classes,), -math.log(n_classes), **CPU_FLOATS)
        self.register_buffer("log_prior", uniform)
        self.input_scale: Tensor
        self.register_buffer("input_scale", torch.ones(self.n_row_inputs, **CPU_FLOATS))

    @property
    def n_row_inputs(self) -> int:
        """Number of inputs of encoder and classifier, without the label."""
        return self.joint.n_inputs + self.masked * self.joint.n_columns

    def inputs(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the inputs of encoder and classifier."""
        return self._encoder_inputs(x, observed, None)

    def _encoder_inputs(
        self, x: Tensor, observed: Tensor | None, c: Tensor | None
    ) -> Tensor:
        inputs = super()._encoder_inputs(x, observed, None) * self.input_scale
        return inputs if c is None else torch.cat([inputs, c], -1)

    @torch.no_grad()
    def scale_inputs(self, deviations: Tensor) -> None:
        """Set the standard deviations of numeric columns at the input, (columns,)."""
        columns, inputs, _ = self.joint.location_scale_indices()
        self.input_scale[inputs] = deviations[columns].to(self.input_scale)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return log q(y | x) up to a constant per row, (rows, n_classes)."""
        if self.kind == "m1":
            inputs = self.encode_inputs(inputs, None).mean
        out: Tensor = self.classifier(inputs)
        return out

    def encode(
        self, x: Tensor, observed: Tensor | None = None, c: Tensor | None = None
    ) -> Latent:
        """Return q(z | x, y), with q(y | x) in the label's place if ``c`` is None."""
        inputs = self.inputs(x, observed)
        if c is None and self.kind == "m2":
            c = F.softmax(self.logits(inputs), -1)
        return self.encode_inputs(inputs, c)

    def encode_inputs(self, inputs: Tensor, c: Tensor | None) -> Latent:
        """Return q(z | x, y) of embedded rows; only "m2" looks at ``c``."""
        if self.kind == "m1":
            return self._read(self.encoder(inputs))
        if self.kind == "shot":  # the label's inputs stay zero
            c = inputs.new_zeros(self.n_classes)
        assert c is not None
        c = c.expand(*inputs.shape[:-1], self.n_classes)
        return self._read(self.encoder(torch.cat([inputs, c], -1)))

    def encode_every_label(self, inputs: Tensor) -> Latent:
        """Return q(z | x, y) for every label, (n_classes or 1, rows, latent)."""
        if self.kind == "m2":
            rows = inputs.unsqueeze(0)
            return self._read(every_label(self.encoder, rows, self.n_classes))
        qz = self.encode_inputs(inputs, None)
        return type(qz)(*(parameter.unsqueeze(0) for parameter in qz))

    def decode_every_label(self, z: Tensor) -> Tensor:
        """Decode (..., n_classes or 1, rows, latent) under every label."""
        if self.kind == "m1":
            return self.decode(z)
        return every_label(self.decoder, self._decoder_latents(z), self.n_classes)


def every_label(network: MLP, inputs: Tensor, n_classes: int) -> Tensor:
    """Return ``network([inputs, one-hot label])`` for every label.

    (..., n_classes or 1, rows, n_inputs) -> (..., n_classes, rows, n_out). One-hot
    labels are not formed: products with them are columns of the weights, so that the
    cost is linear in the classes.
    """

    def layer(weight: Tensor, bias: Tensor) -> Tensor:
        shared = F.linear(inputs, weight[:, :-n_classes], bias)
        return shared + weight[:, -n_classes:].t().unsqueeze(1)

    output = network.output
    if not len(network.hidden):
        return layer(output.weight, output.bias)
    first = network.hidden[0]
    assert isinstance(first, nn.Linear)
    hidden = layer(first.weight, first.bias)
    for module in list(network.hidden)[1:]:
        hidden = module(hidden)
    if not network.linear_path:
        out: Tensor = output(hidden)
        return out
    width = hidden.shape[-1]
    direct = layer(output.weight[:, width:], output.bias)
    return F.linear(hidden, output.weight[:, :width]) + direct
