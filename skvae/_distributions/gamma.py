"""Gamma, beta and Dirichlet latent variables with implicit gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .normal import SMALLEST

#: Minimum concentration of a posterior. In float32 draws of Gamma(0.01, 1) underflow
#: to zero in four of ten cases.
CONCENTRATION_FLOOR = 0.1

#: Minimum mean of a gamma posterior: its rate, concentration over mean, is finite.
MEAN_FLOOR = 1e-3

#: Proposals per gamma draw. One is accepted with probability above 0.95, so all are
#: rejected in fewer than one draw in 100,000; the last one is then taken.
N_PROPOSALS = 4

#: Width of the noise of a gamma draw: proposals, tests of all but the last, boost.
GAMMA_NOISE = 2 * N_PROPOSALS


class Gamma(NamedTuple):
    """Gamma distribution with independent components."""

    concentration: Tensor  # (..., latent)
    rate: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> Gamma:
        """Return the distribution parametrised by network outputs (..., 2 latent).

        They are concentration and mean, whose Fisher information is diagonal:
        networks learn them better than concentration and rate.
        """
        concentration, mean = F.softplus(out).chunk(2, -1)
        concentration = CONCENTRATION_FLOOR + concentration
        return cls(concentration, concentration / (MEAN_FLOOR + mean))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Gamma:
        """Return the distribution with a ``concentration`` and a ``rate``."""
        return cls(parameters["concentration"], parameters["rate"])

    def parameters(self) -> dict[str, Tensor]:
        """Return ``concentration`` and ``rate``, each (..., latent)."""
        return {"concentration": self.concentration, "rate": self.rate}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that parametrise this distribution."""
        concentration = _inverse_softplus(self.concentration - CONCENTRATION_FLOOR)
        return torch.cat([concentration, _inverse_softplus(self.mean - MEAN_FLOOR)], -1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return draws (..., latent) from ``noise`` (..., latent * GAMMA_NOISE)."""
        parts = _noise_parts(noise, self.concentration.shape[-1:])
        standard = _implicit(_GammaDraw, self.concentration, parts)
        return (standard / self.rate).clamp(min=SMALLEST)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        z = z.clamp(min=SMALLEST)
        power = (self.concentration - 1) * z.log() - self.rate * z
        return (power + self._log_normaliser()).sum(-1)

    def _log_normaliser(self) -> Tensor:
        log_rate = self.concentration * self.rate.log()
        return log_rate - torch.lgamma(self.concentration)

    def detach(self) -> Gamma:
        """Return the same distribution without gradients to its parameters."""
        return Gamma(self.concentration.detach(), self.rate.detach())

    @property
    def mean(self) -> Tensor:
        """The expectation of z, (..., latent)."""
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        """The variance of z, (..., latent)."""
        return self.concentration / self.rate.square()

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (...,)."""
        shape = self.concentration
        standard = shape + torch.lgamma(shape) + (1 - shape) * torch.digamma(shape)
        return (standard - self.rate.log()).sum(-1)

    def kl(self, prior: object) -> Tensor:
        """Return KL(self || prior) in nats, shape (...,)."""
        assert isinstance(prior, Gamma)
        shape, shape0 = self.concentration, prior.concentration
        per_component = (
            (shape - shape0) * torch.digamma(shape)
            - torch.lgamma(shape)
            + torch.lgamma(shape0)
            + shape0 * (self.rate.log() - prior.rate.log())
            + shape * (prior.rate / self.rate - 1)
        )
        return per_component.sum(-1)

    def standardise(self, z: Tensor) -> Tensor:
        """Return ε = (log z - E log z) / sd(log z)."""
        loc, scale = self._log_moments()
        return (z.clamp(min=SMALLEST).log() - loc) / scale

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return z = T(ε)."""
        loc, scale = self._log_moments()
        return torch.exp(loc + scale * residual).clamp(min=SMALLEST)

    def log_jacobian(self, z: Tensor) -> Tensor:
        """Return log |dT/dε| where T(ε) = z, shape (...,)."""
        _, scale = self._log_moments()
        return (z.clamp(min=SMALLEST).log() + scale.log()).sum(-1)

    def _log_moments(self) -> tuple[Tensor, Tensor]:
        loc = torch.digamma(self.concentration) - self.rate.log()
        return loc, torch.polygamma(1, self.concentration).sqrt()


class Beta(NamedTuple):
    """Beta distribution with independent components."""

    a: Tensor  # (..., latent)
    b: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> Beta:
        """Return the distribution parametrised by network outputs (..., 2 latent)."""
        return cls(*(CONCENTRATION_FLOOR + F.softplus(out)).chunk(2, -1))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Beta:
        """Return the distribution with parameters ``a`` and ``b``."""
        return cls(parameters["a"], parameters["b"])

    def parameters(self) -> dict[str, Tensor]:
        """Return ``a`` and ``b``, each (..., latent)."""
        return {"a": self.a, "b": self.b}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that parametrise this distribution."""
        both = torch.cat([self.a, self.b], -1)
        return _inverse_softplus(both - CONCENTRATION_FLOOR)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return draws (..., latent) from ``noise`` (..., latent * 2 GAMMA_NOISE)."""
        concentration = torch.stack([self.a, self.b], -1)
        parts = _noise_parts(noise, concentration.shape[-2:])
        pair = _implicit(_DirichletDraw, concentration, parts)
        return _inside(pair[..., 0])

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        z = _inside(z)
        power = (self.a - 1) * z.log() + (self.b - 1) * torch.log1p(-z)
        return (power - self._log_beta()).sum(-1)

    def _log_beta(self) -> Tensor:
        return torch.lgamma(self.a) + torch.lgamma(self.b) - torch.lgamma(self._total())

    def _total(self) -> Tensor:
        return self.a + self.b

    def detach(self) -> Beta:
        """Return the same distribution without gradients to its parameters."""
        return Beta(self.a.detach(), self.b.detach())

    @property
    def mean(self) -> Tensor:
        """The expectation of z, (..., latent)."""
        return self.a / self._total()

    @property
    def variance(self) -> Tensor:
        """The variance of z, (..., latent)."""
        return self.mean * (1 - self.mean) / (1 + self._total())

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (...,)."""
        a, b, total = self.a, self.b, self._total()
        expected = (a - 1) * torch.digamma(a) + (b - 1) * torch.digamma(b)
        return (self._log_beta() - expected + (total - 2) * torch.digamma(total)).sum(
            -1
        )

    def kl(self, prior: object) -> Tensor:
        """Return KL(self || prior) in nats, shape (...,)."""
        assert isinstance(prior, Beta)
        more_a, more_b = self.a - prior.a, self.b - prior.b
        per_component = (
            prior._log_beta()
            - self._log_beta()
            + more_a * torch.digamma(self.a)
            + more_b * torch.digamma(self.b)
            - (more_a + more_b) * torch.digamma(self._total())
        )
        return per_component.sum(-1)

    def standardise(self, z: Tensor) -> Tensor:
        """Return ε = (logit z - E logit z) / sd(logit z)."""
        loc, scale = self._logit_moments()
        return (torch.logit(_inside(z)) - loc) / scale

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return z = T(ε)."""
        loc, scale = self._logit_moments()
        return _inside(torch.sigmoid(loc + scale * residual))

    def log_jacobian(self, z: Tensor) -> Tensor:
        """Return log |dT/dε| where T(ε) = z, shape (...,)."""
        z = _inside(z)
        _, scale = self._logit_moments()
        return (z.log() + torch.log1p(-z) + scale.log()).sum(-1)

    def _logit_moments(self) -> tuple[Tensor, Tensor]:
        loc = torch.digamma(self.a) - torch.digamma(self.b)
        return loc, (torch.polygamma(1, self.a) + torch.polygamma(1, self.b)).sqrt()


class Dirichlet(NamedTuple):
    """Dirichlet distribution: z >= 0 sums to one over its components."""

    concentration: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> Dirichlet:
        """Return the distribution parametrised by network outputs (..., latent)."""
        return cls(CONCENTRATION_FLOOR + F.softplus(out))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Dirichlet:
        """Return the distribution with a ``concentration``."""
        return cls(parameters["concentration"])

    def parameters(self) -> dict[str, Tensor]:
        """Return the ``concentration``, (..., latent)."""
        return {"concentration": self.concentration}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that parametrise this distribution."""
        return _inverse_softplus(self.concentration - CONCENTRATION_FLOOR)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return draws (..., latent) from ``noise`` (..., latent * GAMMA_NOISE)."""
        parts = _noise_parts(noise, self.concentration.shape[-1:])
        draws = _implicit(_DirichletDraw, self.concentration, parts)
        return draws.clamp(min=SMALLEST)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        power = (self.concentration - 1) * z.clamp(min=SMALLEST).log()
        return power.sum(-1) - self._log_beta()

    def _log_beta(self) -> Tensor:
        return torch.lgamma(self.concentration).sum(-1) - torch.lgamma(self._total())

    def _total(self) -> Tensor:
        return self.concentration.sum(-1)

    def detach(self) -> Dirichlet:
        """Return the same distribution without gradients to its parameters."""
        return Dirichlet(self.concentration.detach())

    @property
    def mean(self) -> Tensor:
        """The expectation of z, (..., latent)."""
        return self.concentration / self._total().unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """The variance of every component of z, (..., latent)."""
        return self.mean * (1 - self.mean) / (1 + self._total().unsqueeze(-1))

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape (...,)."""
        shape, total = self.concentration, self._total()
        expected = ((shape - 1) * torch.digamma(shape)).sum(-1)
        rest = (total - shape.shape[-1]) * torch.digamma(total)
        return self._log_beta() + rest - expected

    def kl(self, prior: object) -> Tensor:
        """Return KL(self || prior) in nats, shape (...,)."""
        assert isinstance(prior, Dirichlet)
        more = self.concentration - prior.concentration
        expected_log = torch.digamma(self.concentration) - torch.digamma(
            self._total()
        ).unsqueeze(-1)
        return prior._log_beta() - self._log_beta() + (more * expected_log).sum(-1)

    def standardise(self, z: Tensor) -> Tensor:
        """Return ε (..., latent - 1): the standardised log(z_k / z_last).

        It has mean zero and unit covariance.
        """
        loc, factor = self._log_ratio_moments()
        log_z = z.clamp(min=SMALLEST).log()
        ratio = log_z[..., :-1] - log_z[..., -1:] - loc
        factor = factor.expand(*ratio.shape[:-1], *factor.shape[-2:])
        solved: Tensor = torch.linalg.solve_triangular(
            factor, ratio.unsqueeze(-1), upper=False
        )
        return solved.squeeze(-1)

    def from_residual(self, residual: Tensor) -> Tensor:
        """Return z = T(ε)."""
        loc, factor = self._log_ratio_moments()
        ratio = loc + (factor @ residual.unsqueeze(-1)).squeeze(-1)
        return torch.softmax(F.pad(ratio, (0, 1)), -1).clamp(min=SMALLEST)

    def log_jacobian(self, z: Tensor) -> Tensor:
        """Return log |dT/dε| where T(ε) = z, shape (...,)."""
        _, factor = self._log_ratio_moments()
        log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return z.clamp(min=SMALLEST).log().sum(-1) + log_scale

    def _log_ratio_moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and Cholesky factor of the covariance of log(z_k / z_last)."""
        expected = torch.digamma(self.concentration)
        variance = torch.polygamma(1, self.concentration)
        covariance = torch.diag_embed(variance[..., :-1]) + variance[..., -1:, None]
        loc = expected[..., :-1] - expected[..., -1:]
        return loc, torch.linalg.cholesky(covariance)


def _inverse_softplus(value: Tensor) -> Tensor:
    value = value.clamp(min=1e-3)
    return value + torch.log(-torch.expm1(-value))


def _inside(z: Tensor) -> Tensor:
    """Return values clamped into (0, 1): at the ends densities are infinite."""
    return z.clamp(SMALLEST, 1 - torch.finfo(z.dtype).eps)


def _noise_parts(noise: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Split (..., GAMMA_NOISE * components) into parts of shape (..., *shape)."""
    grouped: Tensor = noise.unflatten(-1, (GAMMA_NOISE, *shape))
    return grouped.unbind(-1 - len(shape))


def standard_log_gamma(concentration: Tensor, noise: Sequence[Tensor]) -> Tensor:
    """Return logs of Gamma(concentration, 1) draws, from standard normal noise.

    Marsaglia and Tsang's rejection sampler at ``concentration + 1``, where proposals
    are accepted almost always; the power of a uniform number takes the draw down to
    ``concentration`` (their section 6).
    """
    *proposals, last = noise[:N_PROPOSALS]
    *tests, boost = noise[N_PROPOSALS:]
    d = concentration + (1 - 1 / 3)
    scale = torch.rsqrt(9 * d)
    log_v = _log_cube(1 + scale * last)
    # from the last to the first, so that the first accepted proposal remains
    for proposal, test in zip(reversed(proposals), reversed(tests), strict=True):
        cube_root = 1 + scale * proposal
        log_cube = _log_cube(cube_root)
        log_bound = 0.5 * proposal.square() + d * (log_cube - torch.expm1(log_cube))
        accepted = torch.special.ndtr(test) < log_bound.exp()
        log_v = torch.where(accepted & (cube_root > 0), log_cube, log_v)
    log_uniform: Tensor = torch.special.log_ndtr(boost)
    return d.log() + log_v + log_uniform / concentration


def _log_cube(cube_root: Tensor) -> Tensor:
    return 3 * cube_root.clamp(min=1e-6).log()


def _implicit(
    function: type[torch.autograd.Function],
    concentration: Tensor,
    noise: Sequence[Tensor],
) -> Tensor:
    draws: Tensor = function.apply(concentration, *noise)
    return draws


class _GammaDraw(torch.autograd.Function):
    """Standard gamma draws with the implicit gradient."""

    @staticmethod
    def forward(ctx: Any, concentration: Tensor, *noise: Tensor) -> Tensor:
        draw = standard_log_gamma(concentration, noise).exp().clamp(min=SMALLEST)
        ctx.save_for_backward(concentration, draw)
        return draw

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        concentration, draw = ctx.saved_tensors
        slope = torch._standard_gamma_grad(concentration.expand_as(draw), draw)
        slope = (gradients[0] * slope).sum_to_size(concentration.shape)
        return slope, *(None for _ in range(GAMMA_NOISE))


class _DirichletDraw(torch.autograd.Function):
    """Dirichlet draws with the implicit gradient.

    Every component is a beta variable, and given it the others keep their
    proportions; that path's derivative is the implicit one of the beta variable.
    """

    @staticmethod
    def forward(ctx: Any, concentration: Tensor, *noise: Tensor) -> Tensor:
        # normalised as logarithms: small gamma draws underflow together
        draw = torch.softmax(standard_log_gamma(concentration, noise), -1)
        ctx.save_for_backward(concentration, draw)
        return draw

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        concentration, draw = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(draw)
        slope = torch._dirichlet_grad(draw, concentration.expand_as(draw), total)
        average = (draw * gradients[0]).sum(-1, keepdim=True)
        slope = (slope * (gradients[0] - average)).sum_to_size(concentration.shape)
        return slope, *(None for _ in range(GAMMA_NOISE))
