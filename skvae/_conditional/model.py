"""The model of outputs given features: how its parts are built."""

from __future__ import annotations

from typing import Any

import torch

from .._density.model import build_module, make_joint
from .._distributions.joint import Joint
from .._distributions.registry import make_head
from .._networks.vae import VAE
from .features import FeatureEmbedding
from .image_vae import ImageVAE

#: Draws of z behind predicted means and deviations, in pairs of opposite signs.
MEAN_DRAWS = 64

#: Points that stand for the noise of an output with a quantile map.
NOISE_POINTS = 50

#: Held-out rows that ``spread_`` needs, and the coverage that it restores.
SPREAD_ROWS, SPREAD_COVERAGE = 20, 0.9


def build_pair(architecture: dict[str, Any], seed: int) -> VAE:
    """Build the module of outputs given features, on the CPU."""
    if "image_shape" not in architecture:
        return build_module(architecture, seed)
    options = {key: architecture[key] for key in architecture if key != "heads"}
    generator = torch.Generator().manual_seed(seed)
    return ImageVAE(make_joint(architecture), generator=generator, **options).float()


def build_context(heads, masked) -> FeatureEmbedding:
    """Build the part that reads features, on the CPU."""
    return FeatureEmbedding(Joint([make_head(*head) for head in heads]), masked).float()
