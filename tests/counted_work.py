"""Counts the work of torch in a block: multiplications, and the largest tensor."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

#: Multiplications of factorisations and solves, which torch's registry leaves out.
CUBIC = {
    torch.ops.aten.linalg_cholesky_ex: lambda a, *_: a.numel() * a.shape[-1] // 3,
    torch.ops.aten.cholesky_inverse: lambda a, *_: a.numel() * a.shape[-1],
    torch.ops.aten.cholesky_solve: lambda b, a, *_: a.numel() * b.shape[-1],
    torch.ops.aten.linalg_solve_triangular: lambda a, b: a.numel() * b.shape[-1] // 2,
}


class CountedWork(TorchDispatchMode):
    """Context manager that counts.

    Attributes
    ----------
    multiplications : int
        Of products and factorisations of matrices.
    largest : int
        Floats of the largest tensor that was made.
    """

    def __init__(self):
        super().__init__()
        self.multiplications = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        packet = function._overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=result)
            self.multiplications += flops // 2
        elif packet in CUBIC:
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            self.multiplications += CUBIC[packet](*tensors)
        for made in result if isinstance(result, tuple | list) else [result]:
            # a view that repeats its entries takes no memory
            if isinstance(made, torch.Tensor) and made.is_contiguous():
                self.largest = max(self.largest, math.prod(made.shape))
        return result


def counted(function):
    """Return the counts of a call."""
    with CountedWork() as work:
        function()
    return work
