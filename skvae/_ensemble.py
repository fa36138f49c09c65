"""Several networks of the same shape, trained and run as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ._modules import ACTIVATIONS


def has_matrix_units() -> bool:
    """Tell whether the processor multiplies matrices of bfloat16 in hardware."""
    # unknown to older versions of torch
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


#: Intel's AMX units multiply bfloat16 many times faster than float32. From so many
#: multiplications per layer the casts that this takes pay.
HAS_MATRIX_UNITS, LEAST_WORK = has_matrix_units(), 2**25


class Ensemble(nn.Module):
    """Several perceptrons of the same shape, side by side."""

    def __init__(
        self,
        n_members: int,
        widths: Sequence[int],
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            bound = 1 / math.sqrt(n_in)
            weight = torch.empty(n_members, n_in, n_out)
            bias = torch.empty(n_members, 1, n_out)
            self.weights.append(weight.uniform_(-bound, bound, generator=generator))
            self.biases.append(bias.uniform_(-bound, bound, generator=generator))
        with torch.no_grad():  # the start is close to what the networks correct
            self.weights[-1].mul_(0.1)
            self.biases[-1].zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Return (members, rows, n_out) from (rows, n_in) or (members, rows, n_in).

        The products of training are in half the precision where that is faster; the
        outputs are corrections, which that hardly blurs.
        """
        state = features.expand(self.biases[0].shape[0], -1, -1)
        dtype = torch.bfloat16 if self._halves(state) else state.dtype
        state = state.to(dtype)
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            product = torch.baddbmm(bias.to(dtype), state, weight.to(dtype))
            state = self.activation(product)
        weight, bias = layers[-1]
        product = torch.baddbmm(bias.to(dtype), state, weight.to(dtype))
        return product.to(features.dtype)

    def _halves(self, state: Tensor) -> bool:
        """Tell whether to multiply in bfloat16."""
        weight = self.weights[0]
        return (
            HAS_MATRIX_UNITS
            and torch.is_grad_enabled()
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and state.numel() * weight.shape[-1] >= LEAST_WORK
        )
