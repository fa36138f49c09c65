"""Double precision, for results that must not depend on other rows.

Rounding errors of matrix products depend on the shapes of the matrices: the same row
has other last digits among other rows. Rounded to single precision, results of double
precision are the same.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def in_double(module: Module) -> Module:
    """Return a copy of a module in double precision, see :func:`doubled`."""
    device = next(module.parameters()).device
    return copy.deepcopy(module).to(device_of_double(device), torch.float64)


def doubled(tensor: Tensor) -> Tensor:
    """Return a tensor with floats in double precision, on a device that has it."""
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device_of_double(tensor.device), dtype)


def device_of_double(device: torch.device) -> torch.device:
    """Return the device itself, or the CPU for MPS, which has no double precision."""
    return torch.device("cpu") if device.type == "mps" else device
