"""The VAE of the columns of a table: how it is built from them."""

from __future__ import annotations

from typing import Any

import torch

from .._distributions.joint import Joint
from .._distributions.registry import make_head
from .._networks.vae import VAE
from .._tables.columns import Column

#: Rows from which the linear start is computed.
LINEAR_START_ROWS = 5_000

#: The most latent variables that ``n_components=None`` gives.
MAX_DEFAULT_COMPONENTS = 32


def build_module(architecture: dict[str, Any], seed: int) -> VAE:
    """Build the module that ``architecture`` describes, on the CPU."""
    options = {key: architecture[key] for key in architecture if key != "heads"}
    generator = torch.Generator().manual_seed(seed)
    # float32 also where the user has set another default
    return VAE(make_joint(architecture), generator=generator, **options).float()


def make_joint(architecture: dict[str, Any]) -> Joint:
    """Return the heads that ``architecture`` lists."""
    return Joint([make_head(*head) for head in architecture["heads"]])


def head_key(column: Column) -> tuple[str, int]:
    """Return what columns under one head have in common: its name and width."""
    return column.likelihood, column.n_categories if column.has_categories else 0


def is_constant(column: Column) -> bool:
    """Whether training saw at most one value: decoding restores it without a model."""
    single = column.has_categories and column.n_categories < 2
    return column.is_empty or column.constant is not None or single
