"""Latent families: what q(z | x) and p(z) may be, as functions of network outputs.

Families are "normal", "lognormal", "gamma", "beta" and "dirichlet"; all but the last
have independent components. Every distribution draws by ``rsample(noise)`` from
*standard normal* noise of shape (..., components * width), ``width`` being
``FAMILIES[name].noise_width``: the draw is a function of noise and parameters. So the
same noise gives comparable draws at different parameters, and a row's draws depend on
no other row.

Gamma draws accept or reject proposals that the noise holds (Marsaglia, Tsang 2000);
their gradients, like those of beta and Dirichlet draws, are implicit: dz/dv is
-∂_v F(z; v) / q(z; v) with F the distribution function (Figurnov, Mohamed, Mnih 2018).

For the generalised reparameterisation gradient a family has ``standardise(z)``, the
map to a residual ε whose distribution depends weakly on the parameters,
``from_residual(ε)``, its inverse T, and ``log_jacobian(z)``, which is log |dT/dε| at ε
(Ruiz, Titsias, Blei 2016).

Shapes: ``...`` stands for any leading dimensions (draws, rows). Densities are in nats
and summed over the components of z.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

#: Bounds of a normal posterior's log-scale: float32 stays finite, no unit dies.
LOG_SCALE_MIN, LOG_SCALE_MAX = -9.0, 5.0

#: Bounds of a log-normal posterior's location and log-scale: its mean stays below 1e5.
LOG_NORMAL_LOC, LOG_NORMAL_LOG_SCALE_MAX = 10.0, 0.5

#: Smallest concentration of a posterior. In float32 draws of Gamma(0.01, 1) underflow
#: to zero in four of ten cases.
CONCENTRATION_FLOOR = 0.1

#: Smallest mean of a gamma posterior.
MEAN_FLOOR = 1e-3

#: The smallest value of a positive latent variable: its log and its inverse are finite.
SMALLEST = 1e-30

#: Proposals per gamma draw. One is accepted with probability above 0.95, so all are
#: rejected in fewer than one draw in 100,000; the last one is then taken.
N_PROPOSALS = 4

#: Normal draws that a gamma draw takes: proposals, tests of all but the last, boost.
GAMMA_NOISE = 2 * N_PROPOSALS


class DiagonalNormal(NamedTuple):
    """Normal distribution with independent components, batched over rows."""

    loc: Tensor  # (..., latent)
    log_scale: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> DiagonalNormal:
        """Return the distribution that network outputs (..., 2 latent) stand for."""
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
        """Return the network outputs that stand for this distribution."""
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

    def kl(self, prior: Prior) -> Tensor:
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
    """The prior N(0, I) of a model without context."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of ``z`` in nats, shape (...,)."""
        return -0.5 * (z.square() + LOG_2PI).sum(-1)

    def rsample(self, noise: Tensor) -> Tensor:
        """Return ``noise`` itself."""
        return noise


class LogNormal(NamedTuple):
    """The exponential of a normal distribution with independent components."""

    loc: Tensor  # (..., latent), of log z
    log_scale: Tensor  # (..., latent), of log z

    @classmethod
    def from_outputs(cls, out: Tensor) -> LogNormal:
        """Return the distribution that network outputs (..., 2 latent) stand for."""
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
        """Return the network outputs that stand for this distribution."""
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

    def kl(self, prior: Prior) -> Tensor:
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


class Gamma(NamedTuple):
    """Gamma distribution with independent components."""

    concentration: Tensor  # (..., latent)
    rate: Tensor  # (..., latent)

    @classmethod
    def from_outputs(cls, out: Tensor) -> Gamma:
        """Return the distribution that network outputs (..., 2 latent) stand for.

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
        """Return the network outputs that stand for this distribution."""
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

    def kl(self, prior: Prior) -> Tensor:
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
        """Return the distribution that network outputs (..., 2 latent) stand for."""
        return cls(*(CONCENTRATION_FLOOR + F.softplus(out)).chunk(2, -1))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Beta:
        """Return the distribution with parameters ``a`` and ``b``."""
        return cls(parameters["a"], parameters["b"])

    def parameters(self) -> dict[str, Tensor]:
        """Return ``a`` and ``b``, each (..., latent)."""
        return {"a": self.a, "b": self.b}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that stand for this distribution."""
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

    def kl(self, prior: Prior) -> Tensor:
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
        """Return the distribution that network outputs (..., latent) stand for."""
        return cls(CONCENTRATION_FLOOR + F.softplus(out))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Tensor]) -> Dirichlet:
        """Return the distribution with a ``concentration``."""
        return cls(parameters["concentration"])

    def parameters(self) -> dict[str, Tensor]:
        """Return the ``concentration``, (..., latent)."""
        return {"concentration": self.concentration}

    def to_outputs(self) -> Tensor:
        """Return the network outputs that stand for this distribution."""
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

    def kl(self, prior: Prior) -> Tensor:
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


class Mixture(NamedTuple):
    """A prior: mixture of normal distributions with independent components."""

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


Latent = DiagonalNormal | LogNormal | Gamma | Beta | Dirichlet
Prior = Latent | StandardNormal | Mixture


class Family(NamedTuple):
    """What the model needs to know of a latent family."""

    distribution: type[Latent]
    n_outputs: int  # network outputs per latent variable
    noise_width: int  # normal draws per latent variable
    default_prior: dict[str, float]
    support: str


FAMILIES = {
    "normal": Family(DiagonalNormal, 2, 1, {"loc": 0.0, "scale": 1.0}, "real"),
    "lognormal": Family(LogNormal, 2, 1, {"loc": 0.0, "scale": 1.0}, "positive"),
    "gamma": Family(
        Gamma, 2, GAMMA_NOISE, {"concentration": 1.0, "rate": 1.0}, "positive"
    ),
    "beta": Family(Beta, 2, 2 * GAMMA_NOISE, {"a": 1.0, "b": 1.0}, "unit interval"),
    "dirichlet": Family(Dirichlet, 1, GAMMA_NOISE, {"concentration": 1.0}, "simplex"),
}

#: Priors that are learned without a context, of normal latent variables.
LEARNED_PRIORS = ("mixture", "vamp")


def resolve_prior(
    latent: str, prior: Any, n_latent: int, what: str = "prior"
) -> str | dict[str, list[float]] | None:
    """Check ``prior`` and return it with one value per parameter and latent variable.

    None stands for the default. ``what`` names the argument in errors. Raises
    ValueError if the family has no such prior.
    """
    if prior is None:
        return None
    if isinstance(prior, str):
        if prior not in LEARNED_PRIORS:
            raise ValueError(
                f"{what}={prior!r} is unknown: use None, 'mixture', 'vamp' or the "
                "parameters of the prior."
            )
        if latent != "normal":
            raise ValueError(
                f"prior={prior!r} is a mixture of normal distributions: use "
                f"latent='normal', or give the parameters of a prior for {latent!r}."
            )
        return prior
    names = list(FAMILIES[latent].default_prior)
    wanted = f"{what} of a {latent} distribution takes {', '.join(names)}"
    if isinstance(prior, Mapping):
        unknown = [name for name in prior if name not in names]
        if unknown:
            raise ValueError(f"The {wanted}, but got {unknown[0]!r}.")
        given = {**FAMILIES[latent].default_prior, **prior}
    else:
        if not isinstance(prior, Sequence) or len(prior) != len(names):
            raise ValueError(f"The {wanted}, in this order, but got {prior!r}.")
        given = dict(zip(names, prior, strict=True))
    resolved = {}
    for name, value in given.items():
        try:
            values = np.broadcast_to(np.asarray(value, dtype=float), (n_latent,))
        except (TypeError, ValueError):
            raise ValueError(
                f"{what}: {name} must be a number, or one for each of the {n_latent} "
                f"latent variables, but got {value!r}."
            ) from None
        if not np.isfinite(values).all() or (name != "loc" and (values <= 0).any()):
            kind = "finite" if name == "loc" else "positive and finite"
            raise ValueError(f"{what}: {name} must be {kind}, but got {value!r}.")
        resolved[name] = values.tolist()
    return resolved


def check_support(z: np.ndarray, latent: str) -> None:
    """Raise ValueError if latent variables lie outside the family's support."""
    support = FAMILIES[latent].support
    fits = True
    if support != "real":
        fits = bool((z >= 0).all())
    if support == "unit interval":
        fits = fits and bool((z <= 1).all())
    if support == "simplex":
        fits = fits and bool((np.abs(z.sum(1) - 1) < 1e-3).all())
    if not fits:
        wanted = {
            "positive": "be positive",
            "unit interval": "lie between 0 and 1",
            "simplex": "be non-negative with rows that sum to 1",
        }[support]
        raise ValueError(f"Z must {wanted}, as latent={latent!r}.")


def _inverse_softplus(value: Tensor) -> Tensor:
    value = value.clamp(min=1e-3)
    return value + torch.log(-torch.expm1(-value))


def _inside(z: Tensor) -> Tensor:
    """Keep values of the unit interval off its ends, where densities are infinite."""
    return z.clamp(SMALLEST, 1 - torch.finfo(z.dtype).eps)


def _noise_parts(noise: Tensor, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Split (..., GAMMA_NOISE * components) into parts of shape (..., *shape)."""
    grouped: Tensor = noise.unflatten(-1, (GAMMA_NOISE, *shape))
    return grouped.unbind(-1 - len(shape))


def _standard_log_gamma(concentration: Tensor, noise: Sequence[Tensor]) -> Tensor:
    """Return logs of Gamma(concentration, 1) draws, from standard normal noise.

    Marsaglia and Tsang's rejection sampler at ``concentration + 1``, where proposals
    are accepted almost always; the power of a uniform number takes the draw down to
    ``concentration`` (their section 6).
    """
    *proposals, last = noise[:N_PROPOSALS]
    *tests, boost = noise[N_PROPOSALS:]
    d = concentration + (1 - 1 / 3)
    spread = torch.rsqrt(9 * d)
    log_v = _log_cube(1 + spread * last)
    # backwards, so that the first accepted proposal is what stays
    for proposal, test in zip(reversed(proposals), reversed(tests), strict=True):
        cube_root = 1 + spread * proposal
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
        draw = _standard_log_gamma(concentration, noise).exp().clamp(min=SMALLEST)
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
        draw = torch.softmax(_standard_log_gamma(concentration, noise), -1)
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
