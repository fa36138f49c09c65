"""Adam on one flat parameter."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from .._networks.mlp import MLP
from .._networks.vae import VAE

#: Steps over which the learning rate rises at the start of a schedule.
LEARNING_RATE_WARMUP = 100

#: The cosine schedule ends at this fraction of the initial learning rate.
LEARNING_RATE_END = 0.01

#: What a gradient of zero counts as: averages of nothing but zeros would decay to
#: denormal numbers, which make Adam's step five times slower.
LEAST_GRADIENT = 1e-16


def flatten_parameters(module: nn.Module) -> nn.Parameter:
    """Move all parameters into one flat tensor that they become views of."""
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for p in parameters:
        part = slice(start, start + p.numel())
        p.data = flat.detach()[part].view(p.shape)
        p.grad = flat.grad[part].view(p.shape)
        start += p.numel()
    return flat


def part_of_flat(module: nn.Module, name: str | None) -> slice:
    """Return where the parameters of a submodule lie in the flat tensor."""
    if name is None:
        return slice(None)
    own = list(module.get_submodule(name).parameters())
    start = int(own[0].storage_offset())  # they are views of it, one after another
    return slice(start, start + sum(p.numel() for p in own))


def decay_of_weights(module: VAE, rate: float) -> Tensor:
    """Return the decay of every parameter: that of what bends the linear model.

    Biases, the heads and the linear paths, which start at a regression, do not decay.
    """
    decay = {
        id(p): torch.full_like(p, rate * (p.dim() > 1)) for p in module.parameters()
    }
    for p in module.joint.parameters():
        decay[id(p)].zero_()
    for part in module.modules():
        if isinstance(part, MLP):
            linear = part.linear_inputs
            decay[id(part.output.weight)][:, linear] = 0
    return torch.cat([decay[id(p)].flatten() for p in module.parameters()]).detach()


class Adam:
    """Adam on one flat parameter, in one fused kernel.

    The update is torch's functional Adam. ``torch.optim.Adam`` itself would import
    torch's compiler: some seconds and 100 MB at the first fit of a process.
    """

    def __init__(
        self, flat: nn.Parameter, learning_rate: float, decay: Tensor | None = None
    ) -> None:
        self.flat = flat
        self.learning_rate = learning_rate
        self.decay = decay
        self.state = {
            "exp_avg": torch.zeros_like(flat),
            "exp_avg_sq": torch.zeros_like(flat),
            "step": torch.zeros((), dtype=torch.float32, device=flat.device),
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameter by its gradient."""
        assert self.flat.grad is not None
        if self.decay is not None:  # decoupled (Loshchilov and Hutter 2019)
            self.flat.mul_(1 - self.learning_rate * self.decay)
        adam(
            [self.flat],
            [self.flat.grad],
            [self.state["exp_avg"]],
            [self.state["exp_avg_sq"]],
            [],
            [self.state["step"]],
            fused=True,
            foreach=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def save(self) -> dict[str, np.ndarray]:
        """Return the state as NumPy arrays."""
        return {name: value.cpu().numpy().copy() for name, value in self.state.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from a state that :meth:`save` returned."""
        for name, value in arrays.items():
            self.state[name].copy_(torch.from_numpy(np.array(value)))
