"""Adam on one flat parameter, and the schedule of its learning rate.

Every training loop of the package takes its steps by :func:`minimise` at the rates of
:func:`cosine`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from .._networks.mlp import MLP
from .._networks.vae import VAE

#: Offset of gradients: moving averages of exact zeros would decay to denormal numbers,
#: which make Adam's step five times slower.
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


def unflatten_parameters(module: nn.Module) -> None:
    """Give every parameter its own memory again, without a gradient."""
    for p in module.parameters():
        p.data, p.grad = p.detach().clone(), None


def part_of_flat(module: nn.Module, name: str | None) -> slice:
    """Return the slice of the flat tensor with the parameters of a submodule."""
    if name is None:
        return slice(None)
    own = list(module.get_submodule(name).parameters())
    start = int(own[0].storage_offset())  # they are views of it, one after another
    return slice(start, start + sum(p.numel() for p in own))


def decay_of_weights(module: VAE, rate: float) -> Tensor:
    """Return the weight decay per parameter, zero on biases, heads and linear paths."""
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


def cosine(
    step: int,
    n_steps: int,
    *,
    initial: float = 1.0,
    warmup: int = 1,
    end: float = 0.0,
    phase_from: int = 0,
) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay.

    Parameters
    ----------
    step : int
        The step, counted from 0.
    n_steps : int
        Number of steps, at which the decay ends.
    initial : float
        Rate between warm-up and decay.
    warmup : int
        Steps of the warm-up; 1 for none.
    end : float
        Final fraction of ``initial``; 1 for no decay.
    phase_from : int
        Step at which the decay begins.
    """
    rate = initial * min(1.0, (step + 1) / warmup)
    phase = math.pi * max(0, step - phase_from) / max(1, n_steps - phase_from)
    return rate * (end + (1 - end) * (0.5 * (1 + math.cos(phase))))


def minimise(
    loss: Tensor,
    optimizer: Adam,
    learning_rate: float | None = None,
    *,
    clip: float | None = None,
    least_gradient: float = LEAST_GRADIENT,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Take one step of gradient descent, without synchronising with the host.

    Parameters
    ----------
    loss : Tensor
        Scalar loss.
    optimizer : Adam
        Holds the flat parameter, whose gradient is taken.
    learning_rate : float or None
        Rate from this step on; None for no change.
    clip : float or None
        Clipping bound of the gradient norm; None for no clipping.
    least_gradient : float
        Offset that the gradient is accumulated on.
    inputs : sequence of Tensor or None
        Leaves that get a gradient; None for all.
    """
    gradient = optimizer.flat.grad
    assert gradient is not None
    gradient.fill_(least_gradient)
    loss.backward(inputs=inputs)
    if clip is not None:
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((clip / (norm + 1e-12)).clamp(max=1.0))
    if learning_rate is not None:
        optimizer.learning_rate = learning_rate
    optimizer.step()


def non_finite(what: str, learning_rate: float | None = None) -> ValueError:
    """Return the error for a non-finite loss, with its remedy.

    ``learning_rate`` is that of the estimator, where the stage depends on it.
    """
    remedy = "look for extreme values in X and set numeric_transform='quantile'."
    if learning_rate is not None:
        remedy = f"lower learning_rate_init (now {learning_rate:g}), or {remedy}"
    return ValueError(f"{what}. {remedy[0].upper()}{remedy[1:]}")


class Adam:
    """Adam on one flat parameter, in one fused kernel.

    The update is torch's functional Adam. ``torch.optim.Adam`` itself would import
    torch's compiler: some seconds and 100 MB at the first fit of a process.

    Parameters
    ----------
    flat : Parameter
        All parameters, with a gradient, see :func:`flatten_parameters`.
    learning_rate : float
        The rate of the next step.
    decay : Tensor, default=None
        Decoupled decay of every parameter, in units of ``decay_rate``.
    decay_rate : float, default=1.0
        Weight decay per step and unit of learning rate.
    """

    def __init__(
        self,
        flat: nn.Parameter,
        learning_rate: float,
        decay: Tensor | None = None,
        decay_rate: float = 1.0,
    ) -> None:
        self.flat = flat
        self.learning_rate = learning_rate
        self.decay = decay
        self.decay_rate = decay_rate
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
            self.flat.mul_(1 - self.learning_rate * self.decay_rate * self.decay)
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

    def clone(self) -> dict[str, Tensor]:
        """Return a copy of the parameter and of the state, on the device."""
        state = {name: value.clone() for name, value in self.state.items()}
        return {**state, "flat": self.flat.detach().clone()}

    @torch.no_grad()
    def restore(self, copies: dict[str, Tensor]) -> None:
        """Restore what :meth:`clone` returned."""
        self.flat.copy_(copies["flat"])
        for name, value in self.state.items():
            value.copy_(copies[name])

    def save(self) -> dict[str, np.ndarray]:
        """Return the state as NumPy arrays."""
        return {name: value.cpu().numpy().copy() for name, value in self.state.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore a state that :meth:`save` returned."""
        for name, value in arrays.items():
            self.state[name].copy_(torch.from_numpy(np.array(value)))
