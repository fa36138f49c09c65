"""Weights of a module as NumPy arrays, which load on any device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Return parameters and buffers by name, as copies on the CPU."""
    return {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in module.state_dict().items()
    }


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Set parameters and buffers to what :func:`to_arrays` returned."""
    module.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    )
    module.eval()
