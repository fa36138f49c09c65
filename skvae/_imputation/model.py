"""The model of missing cells: how its parts are built."""

from __future__ import annotations

from typing import Any

import torch

from .._density.model import make_joint
from .._distributions.joint import Joint
from .._distributions.registry import make_head
from .conditional_mean import ConditionalMean
from .residual_vae import ResidualVAE

#: Share of the observed cells that is hidden from the VAE, by row; above 1 for some
#: rows, so that generating a whole row is learned too.
HIDE_RANGE = (0.05, 1.1)

#: Layers of the conditional VAE: to say how cells vary takes less than what they are.
VAE_LAYERS = (128, 128)

#: The normal is fitted on so many rows that rows x columns^3 stays below this.
GAUSSIAN_WORK, MAX_GAUSSIAN_ROWS, MIN_GAUSSIAN_ROWS = 1e9, 5_000, 500

#: The least scale of a column that repeats its values, per gap between them: a density
#: on ties knows no bound.
FLOOR_PER_GAP = 0.25

#: Rows that draws are calibrated on, and patterns for each.
CALIBRATION_ROWS, CALIBRATION_PATTERNS = 1_000, 4

#: Rows that the slopes of self-masking are learned from.
MISSINGNESS_ROWS = 2_000

#: What the point estimate's head of a group of columns is, by the decoder's head.
POINT_HEADS = {"bernoulli": "bernoulli", "categorical": "categorical"}

POINT_HEADS["ordinal"] = "categorical"


def build_mean(
    architecture: dict[str, Any], options: dict[str, Any], seed: int
) -> ConditionalMean:
    """Build the conditional mean that goes with ``architecture``, on the CPU."""
    joint = Joint(
        [
            make_head(POINT_HEADS.get(name, "normal"), n_columns, n_categories)
            for name, n_columns, n_categories in architecture["heads"]
        ]
    )
    return ConditionalMean(
        joint,
        activation=architecture["activation"],
        generator=torch.Generator().manual_seed(seed),
        **options,
    ).float()


def build_vae(architecture: dict[str, Any], seed: int) -> ResidualVAE:
    """Build the conditional VAE that ``architecture`` describes, on the CPU."""
    options = {key: architecture[key] for key in architecture if key != "heads"}
    generator = torch.Generator().manual_seed(seed)
    vae = ResidualVAE(make_joint(architecture), generator=generator, **options)
    return vae.float()
