"""Embedding of the features: the context ``c`` of the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._distributions.head import CPU_FLOATS
from .._distributions.joint import Joint
from .settings import SETTINGS


class FeatureEmbedding(nn.Module):
    """Embedding of numbers, codes of categories and masks as standardised inputs.

    A missing cell gets the mean of its inputs, 0, and, if the table that this was
    fitted to had missing cells, a flag.

    Parameters
    ----------
    joint : Joint
        Heads of the columns, which embed the cells.
    masked : bool
        Whether flags of missing cells are appended.
    """

    def __init__(self, joint: Joint, masked: bool) -> None:
        super().__init__()
        self.joint = joint.requires_grad_(False)
        self.masked = masked
        column_of_input = torch.cat(
            [
                torch.arange(
                    n_columns, dtype=torch.long, device="cpu"
                ).repeat_interleave(n_inputs // n_columns)
                + sum(joint.columns[:index])
                for index, (n_columns, n_inputs) in enumerate(
                    zip(joint.columns, joint.inputs, strict=True)
                )
            ]
        )
        self.column_of_input: Tensor
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("column_of_input", column_of_input, persistent=False)
        self.register_buffer("mean", torch.zeros(joint.n_inputs, **CPU_FLOATS))
        self.register_buffer("deviation", torch.ones(joint.n_inputs, **CPU_FLOATS))

    @property
    def n_outputs(self) -> int:
        """Width of the context."""
        return self.joint.n_inputs + self.masked * self.joint.n_columns

    @torch.no_grad()
    def fit(self, x: Tensor, observed: Tensor | None, *, scale: bool = True) -> None:
        """Fit ranges and, if ``scale``, means and standard deviations of the inputs."""
        weight = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        self.joint.initialise(x, weight)
        if not scale:
            return
        inputs = self.joint.embed(x, None)
        weight = weight[:, self.column_of_input]
        total = weight.sum(0).clamp(min=1)
        mean = (weight * inputs).sum(0) / total
        variance = (weight * (inputs - mean).square()).sum(0) / total
        self.mean.copy_(mean)
        self.deviation.copy_(variance.sqrt().clamp(min=SETTINGS.min_deviation))

    def forward(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """Return the context, (rows, n_outputs)."""
        inputs = (self.joint.embed(x, None) - self.mean) / self.deviation
        if observed is not None:
            inputs = inputs * observed[:, self.column_of_input].to(x.dtype)
        if not self.masked:
            return inputs
        missing = torch.zeros_like(x) if observed is None else (~observed).to(x.dtype)
        return torch.cat([inputs, missing], -1)
