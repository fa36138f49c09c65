"""Normal latent families: normal, log-normal, and mixtures as priors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

#: Bounds of a normal posterior's log-scale: its variance and the inverse of that stay
#: finite in float32, with gradients.
LOG_SCALE_MIN, LOG_SCALE_MAX = -9.0, 5.0

#: Bounds of a log-normal posterior's location and log-scale: its mean stays below 1e5.
LOG_NORMAL_LOC, LOG_NORMAL_LOG_SCALE_MAX = 10.0, 0.5

#: Minimum of a positive latent variable: its log and its inverse are finite.
SMALLEST = 1e-30


class DiagonalNormal(NamedTuple):
    """Normal distribution with independent components, batched over rows."""

    loc: Tensor  # (..., latent)
    log_scale: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> DiagonalNormal:
        """Return the distribution parametrised by network outputs (..., 2 latent)."""
        loc, log_scale = out.chunk(2, -1)
        # contiguous copies: elementwise kernels are several times slower on slices
        log_scale = log_scale.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
        return cls(loc.contiguous(), log_scale)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> DiagonalNormal:
        """Return the distribution with a ``loc`` and a ``scale``."""
        return cls(parameters["loc"], parameters["scale"].log())

    def parameters(self) -> dict[str, Tensor]:
        """Return ``loc`` and ``scale``, each (..., latent)."""
        return {"loc": self.loc, "scale": self.log_scale.exp()}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that parametrise this distribution."""
        return torch.cat([self.loc, self.log_scale], -1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return ``loc + scale * noise`` for standard normal ``noise``."""
        return torch.addcmul(self.loc, noise, self.log_scale.exp())

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        standardised = (z - self.loc) * torch.exp(-self.log_scale)
        per_component = 0.5 * standardised.square() + self.log_scale + 0.5 * LOG_2PI
        return -per_component.sum(-1)

    def detach(self) -> DiagonalNormal:
        """Return the same distribution without gradients to its parameters."""
        return DiagonalNormal(self.loc.detach(), self.log_scale.detach())

    @property
    def mean(self) -> Tensor:
        """The expectation of z, (..., latent)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The variance of z, (..., latent)."""
        return torch.exp(2 * self.log_scale)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (...,)."""
        return (self.log_scale + 0.5 * (1 + LOG_2PI)).sum(-1)

    def kl(self, prior: object) -> Tensor:
        """Return KL(self || prior) in nats, shape (...,)."""
        if isinstance(prior, StandardNormal):
            variance = torch.exp(2 * self.log_scale)
            squares = torch.addcmul(variance, self.loc, self.loc)
            total = torch.sub(squares, self.log_scale, alpha=2).sum(-1)
            return 0.5 * (total - self.loc.shape[-1])
        assert isinstance(prior, DiagonalNormal)
        log_ratio = self.log_scale - prior.log_scale
        shift = (self.loc - prior.loc) * torch.exp(-prior.log_scale)
        per_component = torch.exp(2 * log_ratio) + shift.square() - 2 * log_ratio - 1
        return 0.5 * per_component.sum(-1)

    def standardise(self, z: Tensor) -> Tensor:
        """Return ε = (z - loc) / scale."""
        return (z - self.loc) * torch.exp(-self.log_scale)

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return z = T(ε)."""
        return self.rsample(residual)

    def log_jacobian(self, z: Tensor) -> Tensor:
        """Return log |dT/dε| where T(ε) = z, shape (...,)."""
        return self.log_scale.expand_as(z).sum(-1)


class StandardNormal(NamedTuple):
    """Prior N(0, I) of a model without context."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return ``noise`` itself."""
        return noise


class LogNormal(NamedTuple):
    """Log-normal distribution with independent components."""

    loc: Tensor  # (..., latent), of log z
    log_scale: Tensor  # (..., latent), of log z

    @classmethod
    def from_outputs(cls, out: Tensor) -> LogNormal:
        """Return the distribution parametrised by network outputs (..., 2 latent)."""
        loc, log_scale = out.chunk(2, -1)
        return cls(
            loc.clamp(-LOG_NORMAL_LOC, LOG_NORMAL_LOC),
            log_scale.clamp(LOG_SCALE_MIN, LOG_NORMAL_LOG_SCALE_MAX),
        )

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> LogNormal:
        """Return the distribution with ``loc`` and ``scale`` of log z."""
        return cls(parameters["loc"], parameters["scale"].log())

    def parameters(self) -> dict[str, Tensor]:
        """Return ``loc`` and ``scale`` of log z, each (..., latent)."""
        return {"loc": self.loc, "scale": self.log_scale.exp()}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that parametrise this distribution."""
        return torch.cat([self.loc, self.log_scale], -1)

    def _log(self) -> DiagonalNormal:
        return DiagonalNormal(self.loc, self.log_scale)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return ``exp(loc + scale * noise)`` for standard normal ``noise``."""
        return self._log().rsample(noise).exp()

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        log_z = z.clamp(min=SMALLEST).log()
        return self._log().log_prob(log_z) - log_z.sum(-1)

    def detach(self) -> LogNormal:
        """Return the same distribution without gradients to its parameters."""
        return LogNormal(self.loc.detach(), self.log_scale.detach())

    @property
    def mean(self) -> Tensor:
        """The expectation of z, (..., latent)."""
        return torch.exp(self.loc + 0.5 * torch.exp(2 * self.log_scale))

    @property
    def variance(self) -> Tensor:
        """The variance of z, (..., latent)."""
        return self.mean.square() * torch.expm1(torch.exp(2 * self.log_scale))

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (...,)."""
        return self._log().entropy() + self.loc.sum(-1)

    def kl(self, prior: object) -> Tensor:
        """Return KL(self || prior) in nats, shape (...,)."""
        assert isinstance(prior, LogNormal)  # a KL is the same for z and for log z
        return self._log().kl(prior._log())

    def standardise(self, z: Tensor) -> Tensor:
        """Return ε = (log z - loc) / scale."""
        return self._log().standardise(z.clamp(min=SMALLEST).log())

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return z = T(ε)."""
        return self.rsample(residual)

    def log_jacobian(self, z: Tensor) -> Tensor:
        """Return log |dT/dε| where T(ε) = z, shape (...,)."""
        return (self.log_scale + z.clamp(min=SMALLEST).log()).sum(-1)


class Mixture(NamedTuple):
    """Prior that is a mixture of normal distributions with independent components."""

    log_weight: Tensor  # (mixture,), sums to one
    components: DiagonalNormal  # (mixture, latent)

    @property
    def mean(self) -> Tensor:
        """Return the mean, (latent,)."""
        return self.log_weight.exp() @ self.components.loc

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        by_component = self.components.log_prob(z.unsqueeze(-2))
        return torch.logsumexp(by_component + self.log_weight, -1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return draws (..., latent) from ``noise`` (..., latent + 1)."""
        level = torch.special.ndtr(noise[..., -1:])
        # the last bound is left out: rounding might put it below the level
        bounds = self.log_weight.exp().cumsum(-1)[:-1]
        index = (level > bounds).sum(-1)
        loc, log_scale = self.components
        return torch.addcmul(loc[index], noise[..., :-1], log_scale[index].exp())
