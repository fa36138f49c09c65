"""Weights of a module as NumPy arrays, which load on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Module = TypeVar("Module", bound=nn.Module)

#: Bytes that a module may take beside its weights.
FREE_BYTES = 2**20

FLOAT_BYTES = 4


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Return parameters and buffers by name, as copies on the CPU."""
    return {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in module.state_dict().items()
    }


def load_module(
    build: Callable[[], Module], arrays: Mapping[str, np.ndarray], n_layers: int
) -> Module:
    """Return the module of ``build`` with what :func:`to_arrays` returned.

    ``n_layers`` is the number of its hidden layers.

    Raises
    ------
    ValueError
        If it has other weights than the arrays. Its sizes may be wrong: no more memory
        is allocated than arrays of these sizes need.
    """
    if n_layers > len(arrays):
        raise ValueError(f"{n_layers} hidden layers have {len(arrays)} arrays")
    distinct = {id(array): array for array in arrays.values()}
    if len(distinct) < len(arrays):
        raise ValueError("two weights are one array")
    with MemoryLimit(sum(array.nbytes for array in distinct.values())):
        module = build()
    expected = module.state_dict()
    if arrays.keys() != expected.keys():
        names = sorted(arrays.keys() ^ expected.keys())
        raise ValueError(f"weights that it lacks or has too many: {names[0]!r:.80}")
    for name, tensor in expected.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        check_array(arrays[name], tuple(tensor.shape), name, dtype)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))
    module.eval()
    return module


def check_array(
    array: Any, shape: tuple[int, ...], name: str, dtype: str = "float64"
) -> None:
    """Raise ValueError unless ``array`` has the given shape and dtype."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array")
    if (array.shape, array.dtype.name) != (shape, dtype):
        raise ValueError(
            f"{name} has the shape {array.shape} of {array.dtype.name}, not {shape} "
            f"of {dtype}"
        )


class MemoryLimit(TorchFunctionMode):
    """Context that refuses larger tensors than weights of ``n_bytes`` have."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        # weights are made once, and what is not saved of a module is smaller
        self.left = 2 * n_bytes + FREE_BYTES

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in SIZES and str(kwargs.get("device")) != "meta":
            self.left -= FLOAT_BYTES * SIZES[func](args)
            if self.left < 0:
                raise ValueError("its sizes are larger than its weights")
        return func(*args, **kwargs)


def _product(*sizes: Any) -> Any:
    """Return the product of sizes, given one by one or as one sequence."""
    return math.prod(sizes[0] if isinstance(sizes[0], Sequence) else sizes)


#: Functions of torch that allocate memory, with the number of values that arguments
#: ask for.
SIZES: dict[Any, Callable[[Any], Any]] = {
    **dict.fromkeys(
        (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn),
        lambda args: _product(*args),
    ),
    **dict.fromkeys(
        (torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like),
        lambda args: args[0].numel(),
    ),
    **dict.fromkeys(
        (torch.Tensor.new_empty, torch.Tensor.new_zeros, torch.Tensor.new_ones),
        lambda args: _product(*args[1:]),
    ),
    torch.full: lambda args: _product(args[0]),
    torch.Tensor.new_full: lambda args: _product(args[1]),
    torch.eye: lambda args: args[0] * args[-1],
    torch.Tensor.repeat: lambda args: args[0].numel() * _product(*args[1:]),
}
