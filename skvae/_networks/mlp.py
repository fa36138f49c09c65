"""Perceptrons: one, or several of the same shape side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._distributions.head import CPU_FLOATS

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # in place where autograd allows it: saves one allocation per layer
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def has_matrix_units() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware."""
    # unknown to older versions of torch
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


class BatchedMLP(nn.Module):
    """Several perceptrons of the same shape, side by side.

    Parameters
    ----------
    n_members : int
        Number of perceptrons.
    widths : sequence of int
        Numbers of inputs, of units of every hidden layer, and of outputs.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights, on the CPU.

    Attributes
    ----------
    least_work : float
        Multiplications per layer from which training multiplies in bfloat16: the casts
        pay, on processors with matrix units for it.
    """

    def __init__(
        self,
        n_members: int,
        widths: Sequence[int],
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        # Intel's AMX units multiply bfloat16 many times faster than float32
        self.least_work = 2**25 if has_matrix_units() else math.inf
        self.activation = ACTIVATIONS[activation]()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            bound = 1 / math.sqrt(n_in)
            weight = torch.empty(n_members, n_in, n_out, **CPU_FLOATS)
            bias = torch.empty(n_members, 1, n_out, **CPU_FLOATS)
            self.weights.append(weight.uniform_(-bound, bound, generator=generator))
            self.biases.append(bias.uniform_(-bound, bound, generator=generator))
        with torch.no_grad():  # the corrections are small at first
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
        """Return whether to multiply in bfloat16."""
        weight = self.weights[0]
        return (
            torch.is_grad_enabled()
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and state.numel() * weight.shape[-1] >= self.least_work
        )


class EmptyLinear(nn.Linear):
    """Linear layer that draws no weights, as torch would from its global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def make_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with Xavier weights drawn from ``generator``."""
    layer = EmptyLinear(n_in, n_out, **CPU_FLOATS)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def sum_of_products(parts: Sequence[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``torch.cat(parts, -1) @ weight.T + bias`` for parts that broadcast."""
    widths = [part.shape[-1] for part in parts]
    first, *others = zip(parts, weight.split(widths, -1), strict=True)
    total = F.linear(*first)
    common = bias
    for part, columns in others:
        common = common + F.linear(part, columns)
    return total.add_(common)


class MLP(nn.Module):
    """Multilayer perceptron, optionally with a linear path around its layers.

    With ``linear_path`` the output layer sees the input beside the last hidden layer,
    so a linear model is a special case that training starts from.
    """

    def __init__(
        self,
        n_in: int,
        hidden_layer_sizes: Sequence[int],
        n_out: int,
        activation: str,
        generator: torch.Generator,
        *,
        linear_path: bool = False,
    ) -> None:
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [make_linear(width, next_width, generator)]
            layers += [ACTIVATIONS[activation]()]
        self.hidden = nn.Sequential(*layers)
        self.linear_path = linear_path and bool(hidden_layer_sizes)
        self.n_hidden = widths[-1]
        self.widest = max(*widths, n_out)  # floats per row
        self.output = make_linear(widths[-1], n_out, generator)
        if self.linear_path:
            direct = self.output.weight.new_zeros(n_out, n_in)
            weight = torch.cat([self.output.weight.detach(), direct], 1)
            self.output.weight = nn.Parameter(weight)

    @property
    def linear_inputs(self) -> slice:
        """Slice of the output layer's inputs that are inputs of the network."""
        if not len(self.hidden):
            return slice(None)
        return slice(self.n_hidden, None)  # nothing without a linear path

    def forward(self, x: Tensor) -> Tensor:  # (..., n_in) -> (..., n_out)
        if torch.is_inference_mode_enabled():
            return self.infer(x)
        hidden = self.hidden(x)
        if self.linear_path:
            hidden = torch.cat([hidden, x], -1)
        out: Tensor = self.output(hidden)
        return out

    def infer(self, *parts: Tensor) -> Tensor:
        """Return the output without gradients, (..., n_out).

        The input is given in parts, (..., width), whose leading dimensions broadcast:
        what the draws of a row have in common is multiplied once.
        """
        if not len(self.hidden):
            return sum_of_products(parts, self.output.weight, self.output.bias)
        first, *others = self.hidden
        assert isinstance(first, nn.Linear)
        hidden = sum_of_products(parts, first.weight, first.bias)
        for layer in others:
            hidden = layer(hidden)
        weight = self.output.weight
        if not self.linear_path:
            return F.linear(hidden, weight, self.output.bias)
        width = self.n_hidden
        direct = sum_of_products(parts, weight[:, width:], self.output.bias)
        return F.linear(hidden, weight[:, :width]).add_(direct)

    @torch.no_grad()
    def initialise_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Initialise the network as ``x @ weight.T + bias``."""
        # the input comes last, and alone where there is no hidden layer
        self.output.weight.zero_()
        self.output.weight[:, -weight.shape[1] :] = weight
        self.output.bias.copy_(bias)
