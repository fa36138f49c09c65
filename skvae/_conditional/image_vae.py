"""VAE of images: dense networks, corrected by convolutions.

The dense networks of :class:`skvae._networks.vae.VAE` have a linear path and start at a
linear model. Here a convolutional network beside each of encoder and decoder adds a
correction that starts at zero: it shares its weights between all places of the image.
Convolutions run on a coarse grid whose cells hold blocks of pixels as channels, which
costs a fraction of the same convolutions pixel by pixel.
"""

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
from .._networks.mlp import ACTIVATIONS, EmptyLinear
from .._networks.vae import VAE

#: Channels between the first and the last convolution.
CHANNELS = 32
#: Layers between the first and the last convolution.
MIDDLE_LAYERS = 1

#: Output channels of the encoder's convolutions: few, or a step of Adam would be large.
SUMMARY_CHANNELS = 8

#: Maximum width and height of the coarse grid, as far as blocks allow.
COARSE_SIZE = 10


class EmptyConv2d(nn.Conv2d):
    """Convolution that draws no weights, as torch would from its global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def make_convolution(
    n_in: int, n_out: int, generator: torch.Generator, *, zero: bool = False
) -> nn.Conv2d:
    """Return a 3 x 3 convolution with Xavier weights from ``generator``, or zeros."""
    layer = EmptyConv2d(n_in, n_out, 3, padding=1, **CPU_FLOATS)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight, generator=generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def block_size(shape: Sequence[int]) -> int:
    """Return the side of the blocks that become channels: 1, 2 or 4 pixels."""
    _, height, width = shape
    for size in (1, 2, 4):
        largest = max(height, width) / size
        if height % (2 * size) or width % (2 * size) or largest <= COARSE_SIZE:
            return size
    return 4


class Convolutions(nn.Module):
    """Convolutions on a coarse grid; the last one may start at zero."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        activation: str,
        generator: torch.Generator,
        *,
        zero: bool = False,
    ) -> None:
        super().__init__()
        widths = [n_in, *[CHANNELS] * (1 + MIDDLE_LAYERS)]
        layers: list[nn.Module] = []
        for index in range(1 + MIDDLE_LAYERS):
            layers += [make_convolution(widths[index], widths[index + 1], generator)]
            layers += [ACTIVATIONS[activation]()]
        layers += [make_convolution(CHANNELS, n_out, generator, zero=zero)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers(image)
        return out


class ImageVAE(VAE):
    """Conditional VAE whose rows are images.

    Parameters
    ----------
    joint : Joint
        One head for all pixels.
    n_latent, hidden_layer_sizes, activation, generator, masked, n_context, **options
        As in :class:`skvae._networks.vae.VAE`.
    image_shape : sequence of three int
        Channels, height and width of ``x``.
    context_shape : sequence of three int or None
        Those of the context, if it is an image of which ``x`` is a multiple.
    """

    def __init__(
        self,
        joint: Joint,
        n_latent: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
        *,
        image_shape: Sequence[int],
        context_shape: Sequence[int] | None,
        masked: bool = False,
        n_context: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            joint,
            n_latent,
            hidden_layer_sizes,
            activation,
            generator,
            masked=masked,
            n_context=n_context,
            **options,
        )
        self.image_shape = tuple(image_shape)
        self.context_shape = None if context_shape is None else tuple(context_shape)
        self.block = block_size(self.image_shape)
        pixels = math.prod(self.image_shape)
        self.coarse = [side // self.block for side in self.image_shape[1:]]
        per_cell = self.block**2 * self.image_shape[0]
        self.n_maps = joint.n_outputs // pixels  # 2 where scales vary by cell
        n_extra = 0
        if self.context_shape is not None:
            factor = self.image_shape[1] // self.context_shape[1]
            self.shrink, self.enlarge = 1, 1  # of the context, to the coarse grid
            if factor < self.block:
                self.shrink = self.block // factor
            else:
                self.enlarge = factor // self.block
            n_maps = n_context // math.prod(self.context_shape[1:])
            n_extra = n_maps * self.shrink**2
        n_seen = per_cell * (joint.n_inputs // pixels + masked) + n_extra
        self.read = Convolutions(n_seen, SUMMARY_CHANNELS, activation, generator)
        self.summary = EmptyLinear(
            SUMMARY_CHANNELS * math.prod(self.coarse),
            len(self.encoder.output.bias),
            **CPU_FLOATS,
        )
        nn.init.zeros_(self.summary.weight)
        nn.init.zeros_(self.summary.bias)
        n_drawn = per_cell * self.n_maps
        self.draw = Convolutions(
            n_drawn + n_extra, n_drawn, activation, generator, zero=True
        )
        self.activation = ACTIVATIONS[activation]()

    def encode(
        self, x: Tensor, observed: Tensor | None = None, c: Tensor | None = None
    ) -> Latent:
        """Return q(z | x, c), batched over rows."""
        seen = self._encoder_inputs(x, observed, None)
        dense = seen if c is None else torch.cat([seen, c], -1)
        maps = self._maps(self._blocks(seen), c)
        found = self.activation(self.read(maps)).flatten(1)
        return self._read(self.encoder(dense) + self.summary(found))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder outputs px, (..., n_outputs)."""
        dense = super().decode(z, c)
        lead = dense.shape[:-1]
        if c is not None:
            c = c.expand(*lead, self.n_context).reshape(-1, self.n_context)
        maps = self._maps(self._blocks(dense.reshape(-1, dense.shape[-1])), c)
        correction = F.pixel_shuffle(self.draw(maps), self.block)
        return dense + correction.reshape(*lead, -1)

    def _blocks(self, rows: Tensor) -> Tensor:
        """Return rows of one or more images as maps on the coarse grid."""
        images = rows.view(len(rows), -1, *self.image_shape[1:])
        return F.pixel_unshuffle(images, self.block)

    def _maps(self, maps: Tensor, c: Tensor | None) -> Tensor:
        """Append the context, if it is an image, enlarged to the size of ``x``."""
        if self.context_shape is None or c is None:
            return maps
        images = c.view(len(c), -1, *self.context_shape[1:])
        images = F.pixel_unshuffle(images, self.shrink)
        if self.enlarge > 1:
            images = images.repeat_interleave(self.enlarge, -1)
            images = images.repeat_interleave(self.enlarge, -2)
        return torch.cat([maps, images], 1)

    @property
    def widest(self) -> int:
        """Floats per row of the widest layer, convolutions included."""
        return max(super().widest, CHANNELS * math.prod(self.coarse))


def shape_of_context(
    image_shape: Sequence[int], n_features: int
) -> tuple[int, int, int] | None:
    """Return the shape of features that are an image of at most this size, or None."""
    channels, height, width = image_shape
    block = block_size(image_shape)
    for factor in range(1, min(height, width) + 1):
        if height % factor or width % factor:
            continue
        fits = factor % block == 0 or block % factor == 0
        if fits and channels * height * width == n_features * factor**2:
            return channels, height // factor, width // factor
    return None
