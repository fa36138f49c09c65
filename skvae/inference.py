"""Variational inference for any log-density, with the estimators of the VAE.

:func:`fit_variational` finds the member q(z) of a family that is closest to a density
p(z | x), of which the logarithm is known up to a constant, log p(x, z). Nothing is
amortised: z is one set of latent variables, as in a Bayesian model.
:func:`gradient_samples` returns single gradient estimates, to compare estimators by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._distributions.families import FAMILIES, Latent, resolve_parameters
from ._distributions.gamma import CONCENTRATION_FLOOR, Beta, Dirichlet, Gamma
from ._distributions.normal import DiagonalNormal, LogNormal
from ._training.ambient import isolated
from ._training.bounds import OBJECTIVES
from ._training.device import resolve_device
from ._training.gradients import (
    DRAWS,
    PATH_ONLY,
    SCORE,
    check_gradient,
    doubly_reparameterised,
    importance_weighted,
    score_correction,
)
from ._training.optimizer import Adam, cosine, minimise
from ._training.progress import Progress
from ._validation import check_count, make_random_state

__all__ = ["VariationalFit", "fit_variational", "gradient_samples"]

#: The fitted parameters are the average over the last part of the steps.
AVERAGED_SHARE = 0.25

#: Final learning rate relative to the initial one, after half a cosine wave.
LEARNING_RATE_END = 0.01

#: Draws behind the final evidence lower bound, and estimates behind the variance.
FINAL_DRAWS, FINAL_ESTIMATES = 10_000, 500

#: Bound of the coordinates that are exponentiated.
LARGEST_LOG = 20.0

#: Values that :func:`gradient_samples` asks of the log-density at a time.
DRAWS_AT_ONCE = 2**18


@dataclass(frozen=True)
class VariationalFit:
    """What :func:`fit_variational` returns: the fitted q(z) and how it was found.

    All of the parameters are attributes.

    Parameters
    ----------
    family : str
        Name of the family.

    parameters : dict of str to ndarray of shape (n_latent,)
        Parameters of q: "loc" and "scale" (of log z with "lognormal"), "concentration"
        and "rate" with "gamma", "a" and "b" with "beta", "concentration" with
        "dirichlet".

    elbo : float
        Evidence lower bound of q, in nats: a Monte Carlo average.

    elbo_curve : ndarray of shape (max_iter,)
        The objective at every step, estimated from the step's draws, in nats; shorter
        if Ctrl-C ended the fit.

    gradient_variance : dict of str to ndarray of shape (n_latent,)
        Variance of one gradient estimate at the fitted parameters, with respect to
        each of them.

    Examples
    --------
    >>> from skvae.inference import fit_variational
    >>> fit = fit_variational(lambda z: -z.square().sum(-1), max_iter=200)
    >>> fit.sample(3, random_state=0).shape
    (3, 1)
    """

    family: str
    parameters: dict[str, np.ndarray]
    elbo: float
    elbo_curve: np.ndarray
    gradient_variance: dict[str, np.ndarray]

    @property
    @isolated()
    def mean(self) -> np.ndarray:
        """Expectation of z under q, of shape (n_latent,)."""
        return self._distribution().mean.numpy()

    @property
    @isolated()
    def variance(self) -> np.ndarray:
        """Variance of z under q, of shape (n_latent,)."""
        return self._distribution().variance.numpy()

    @isolated()
    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw from q.

        Parameters
        ----------
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=None
            Determines the draws; None gives fresh ones at every call.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_latent)
            The draws.
        """
        q = self._distribution()
        generator = _generator(random_state, "cpu")
        n_samples = check_count(n_samples, "n_samples")
        noise = _noise((n_samples,), self.family, len(self.mean), generator)
        return q.rsample(noise).numpy()

    @isolated()
    def log_prob(self, Z: Any) -> np.ndarray:
        """Return log q(z) of each row.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latent)
            Values of z in the family's support.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats.
        """
        z = torch.from_numpy(np.array(Z, dtype=np.float64))
        return self._distribution().log_prob(z).numpy()

    def _distribution(self) -> Latent:
        tensors = {name: torch.from_numpy(v) for name, v in self.parameters.items()}
        return FAMILIES[self.family].distribution.from_parameters(tensors)


@isolated()
def fit_variational(
    log_joint: Callable[[Tensor], Tensor],
    family: str = "normal",
    *,
    n_latent: int = 1,
    gradient: str = "pathwise",
    objective: str = "elbo",
    n_draws: int = 10,
    max_iter: int = 1_000,
    learning_rate_init: float = 0.05,
    start: Mapping[str, Any] | Sequence[Any] | None = None,
    device: str | None = None,
    random_state: Any = None,
) -> VariationalFit:
    """Fit q(z), the member of a family closest to a density.

    Maximises the evidence lower bound E_q log p(x, z) + H(q), or its
    importance-weighted refinement, by Adam on stochastic gradients. The entropy H(q)
    is in closed form, except with ``gradient="stl"``.

    Parameters
    ----------
    log_joint : callable
        Returns log p(x, z) in nats, a tensor of shape (n,), for a float64 tensor z of
        shape (n, n_latent). A constant may be missing. With ``gradient="score"`` or
        "rloo" it need not be differentiable.

    family : {"normal", "lognormal", "gamma", "beta", "dirichlet"}, default="normal"
        Family of q. All but "dirichlet" have independent components. Concentrations
        (and ``a`` and ``b``) are at least 0.1.

    n_latent : int, default=1
        Number of latent variables; at least 2 with "dirichlet".

    gradient : {"pathwise", "stl", "dreg", "score", "rloo", "grep"}, \
            default="pathwise"
        Gradient estimator, as in :class:`skvae.VAETransformer`.

    objective : {"elbo", "iwae"}, default="elbo"
        The evidence lower bound, or the importance-weighted bound of ``n_draws``
        draws, which makes q wider.

    n_draws : int, default=10
        Draws of z per step.

    max_iter : int, default=1000
        Number of steps. The fitted parameters are an average over the last quarter.

    learning_rate_init : float, default=0.05
        Learning rate of Adam at the first step; it falls to 1% of that. Locations are
        learned as they are, everything positive by its logarithm, and a gamma
        distribution by its mean and concentration.

    start : dict or sequence, default=None
        Parameters that q starts at, as in :attr:`VariationalFit.parameters` or in that
        order; numbers or one per latent variable. None takes N(0, 1) or its
        exponential, Gamma(1, 1), Beta(1, 1) or Dirichlet(1).

    device : str, default=None
        Where z lies: "cpu", "cuda", "cuda:1", "auto"; None is the CPU. The data that
        ``log_joint`` holds must lie there too.

    random_state : int, RandomState instance or None, default=None
        Determines the draws. None takes a fresh seed; the global states of NumPy and
        torch are never touched.

    Returns
    -------
    fit : VariationalFit
        The fitted q, the bound by step, and the variance of the gradient.

    Raises
    ------
    ValueError
        If a parameter cannot be used, or if ``log_joint`` returns a tensor of another
        shape, numbers that are not finite, or one that cannot be differentiated where
        the estimator needs that.

    See Also
    --------
    gradient_samples : Single gradient estimates.

    References
    ----------
    .. [1] R. Ranganath, S. Gerrish, D. Blei (2014). Black Box Variational Inference.
    .. [2] F. J. R. Ruiz, M. K. Titsias, D. M. Blei (2016). The Generalized
       Reparameterization Gradient.
    .. [3] M. Figurnov, S. Mohamed, A. Mnih (2018). Implicit Reparameterization
       Gradients.

    Examples
    --------
    Counts with a Poisson distribution and a Gamma(1, 1) prior of its rate: the
    posterior is Gamma(1 + sum of the counts, 1 + their number).

    >>> import torch
    >>> from skvae.inference import fit_variational
    >>> counts = torch.tensor([2.0, 4.0, 3.0, 1.0, 5.0])
    >>> prior = torch.distributions.Gamma(1.0, 1.0)
    >>> def log_joint(rate):
    ...     likelihood = torch.distributions.Poisson(rate).log_prob(counts)
    ...     return likelihood.sum(-1) + prior.log_prob(rate).sum(-1)
    >>> fit = fit_variational(log_joint, "gamma", max_iter=500, random_state=0)
    >>> bool(abs(fit.mean[0] - 16 / 6) < 0.05)
    True
    """
    _check(log_joint, family, gradient, objective, n_draws)
    max_iter = check_count(max_iter, "max_iter")
    if not learning_rate_init > 0:
        raise ValueError(
            f"learning_rate_init must be positive, but got {learning_rate_init!r}."
        )
    device = resolve_device(device)
    generator = _generator(random_state, device)
    q = _distribution(family, _parameters(family, start, n_latent, "start"), device)
    bound = _Bound(log_joint, family, n_latent, generator, gradient, objective, n_draws)
    averaged, curve = _maximise(bound, q, max_iter, learning_rate_init)
    q = _from_coordinates(family, averaged)
    parameters = {name: t.cpu().numpy() for name, t in q.parameters().items()}
    # log p - log q: its variance vanishes as q approaches the posterior
    exact = replace(bound, gradient="stl", objective="elbo", n_draws=FINAL_DRAWS)
    with torch.no_grad():
        elbo = float(exact(q))
    seed = int(make_random_state(random_state).randint(2**31 - 1))
    bound = replace(bound, generator=_generator(seed, device))
    estimates = _gradient_samples(bound, q.parameters(), FINAL_ESTIMATES)
    variance = {name: values.var(0, ddof=1) for name, values in estimates.items()}
    return VariationalFit(family, parameters, elbo, curve.cpu().numpy(), variance)


@dataclass(frozen=True)
class _Bound:
    """A bound on log p(x) as a function of q, estimated from fresh draws."""

    log_joint: Callable[[Tensor], Tensor]
    family: str
    n_latent: int
    generator: torch.Generator
    gradient: str
    objective: str
    n_draws: int

    def __call__(self, q: Latent, n_rows: int = 1) -> Tensor:
        """Return one bound for each row of q, (n_rows,)."""
        shape = self.n_draws, n_rows
        noise = _noise(shape, self.family, self.n_latent, self.generator)
        return variational_bound(
            self.log_joint, q, noise, self.gradient, self.objective
        )


def _maximise(
    bound: _Bound, q: Latent, max_iter: int, learning_rate: float
) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the q that maximises the bound, and the bounds."""
    flat = torch.nn.Parameter(_coordinates(q).contiguous())
    flat.grad = torch.zeros_like(flat)
    optimizer = Adam(flat, learning_rate)
    curve = torch.zeros(max_iter, dtype=torch.float64, device=flat.device)
    average = _TailAverage(flat, max_iter)
    n_steps = 0
    with Progress().stage("step", max_iter) as steps:
        for step in steps:
            rate = cosine(step, max_iter, initial=learning_rate, end=LEARNING_RATE_END)
            with torch.enable_grad():
                value = bound(_from_coordinates(bound.family, flat)).sum()
                # no gradient for what log_joint is made of, such as a user's module
                minimise(-value, optimizer, rate, least_gradient=0.0, inputs=[flat])
            curve[step] = value.detach()
            average.add(step)
            n_steps = step + 1
    found = average.value()
    if not torch.isfinite(found).all():
        raise ValueError(
            "The parameters of q became non-finite: lower learning_rate_init (now "
            f"{learning_rate:g}), or raise n_draws (now {bound.n_draws})."
        )
    return found, curve[:n_steps]


class _TailAverage:
    """Average of a parameter over the last steps."""

    def __init__(self, flat: Tensor, n_steps: int) -> None:
        self.flat = flat
        self.n_averaged = max(1, round(AVERAGED_SHARE * n_steps))
        self.first = n_steps - self.n_averaged
        self.total = torch.zeros_like(flat)
        self.n_added = 0

    def add(self, step: int) -> None:
        """Add the parameter after a step, if that is one of the last."""
        if step >= self.first:
            self.total += self.flat.detach() / self.n_averaged
            self.n_added += 1

    def value(self) -> Tensor:
        """Return the average; after Ctrl-C that so far, or the parameter itself."""
        if self.n_added == self.n_averaged:
            return self.total
        if self.n_added:
            return self.total * (self.n_averaged / self.n_added)
        return self.flat.detach().clone()


@isolated()
def gradient_samples(
    log_joint: Callable[[Tensor], Tensor],
    family: str,
    parameters: Mapping[str, Any] | Sequence[Any],
    *,
    gradient: str = "pathwise",
    objective: str = "elbo",
    n_draws: int = 1,
    n_estimates: int = 1_000,
    device: str | None = None,
    random_state: Any = None,
) -> dict[str, np.ndarray]:
    """Return independent estimates of the gradient of a bound.

    Their mean is the gradient, whatever the estimator; their variance tells how good
    the estimator is.

    Parameters
    ----------
    log_joint : callable
        Returns log p(x, z), as for :func:`fit_variational`.

    family : {"normal", "lognormal", "gamma", "beta", "dirichlet"}
        Family of q.

    parameters : dict or sequence
        Parameters of q by name, as in :attr:`VariationalFit.parameters`, or in that
        order; numbers or one per latent variable.

    gradient : {"pathwise", "stl", "dreg", "score", "rloo", "grep"}, \
            default="pathwise"
        Gradient estimator.

    objective : {"elbo", "iwae"}, default="elbo"
        What is differentiated: E_q log p(x, z) + H(q), or the importance-weighted
        bound.

    n_draws : int, default=1
        Draws of z per estimate.

    n_estimates : int, default=1000
        Number of estimates.

    device : str, default=None
        Where z lies, as for :func:`fit_variational`.

    random_state : int, RandomState instance or None, default=None
        Determines the draws.

    Returns
    -------
    gradients : dict of str to ndarray of shape (n_estimates, n_latent)
        Derivatives with respect to each parameter, in nats per its unit.

    See Also
    --------
    fit_variational : Uses the gradients to fit q.

    Examples
    --------
    >>> from skvae.inference import gradient_samples
    >>> def log_joint(z):
    ...     return z.square().sum(-1)
    >>> q = {"concentration": 10.0, "rate": 1.0}
    >>> variance = {}
    >>> for name in ("score", "pathwise"):
    ...     draws = gradient_samples(log_joint, "gamma", q, gradient=name)
    ...     variance[name] = draws["concentration"].var()
    >>> bool(variance["pathwise"] < variance["score"])
    True
    """
    _check(log_joint, family, gradient, objective, n_draws)
    n_estimates = check_count(n_estimates, "n_estimates")
    device = resolve_device(device)
    generator = _generator(random_state, device)
    sizes = [np.size(v) for v in _values(parameters)]
    values = _parameters(family, parameters, max(sizes, default=1), "parameters")
    n_latent = len(next(iter(values.values())))
    bound = _Bound(log_joint, family, n_latent, generator, gradient, objective, n_draws)
    tensors = {
        name: torch.tensor(v, dtype=torch.float64, device=device)
        for name, v in values.items()
    }
    return _gradient_samples(bound, tensors, n_estimates)


def _gradient_samples(
    bound: _Bound, parameters: Mapping[str, Tensor], n_estimates: int
) -> dict[str, np.ndarray]:
    """Return gradient estimates by parameter, some at a time."""
    at_once = max(1, DRAWS_AT_ONCE // bound.n_draws)
    parts = [
        _gradients(bound, parameters, min(at_once, n_estimates - first))
        for first in range(0, n_estimates, at_once)
    ]
    return {
        name: torch.cat([part[name] for part in parts]).cpu().numpy()
        for name in parameters
    }


def _gradients(
    bound: _Bound, parameters: Mapping[str, Tensor], n_estimates: int
) -> dict[str, Tensor]:
    with torch.enable_grad():
        # a copy for each estimate: one backward pass gives all gradients
        copies = {
            name: p.detach().expand(n_estimates, -1).clone().requires_grad_()
            for name, p in parameters.items()
        }
        q = FAMILIES[bound.family].distribution.from_parameters(copies)
        # a parameter without influence, such as that of a constant, has zeros
        gradients = torch.autograd.grad(
            bound(q, n_estimates).sum(), list(copies.values()), allow_unused=True
        )
    return {
        name: torch.zeros_like(copy) if given is None else given
        for (name, copy), given in zip(copies.items(), gradients, strict=True)
    }


def _coordinates(q: Latent) -> Tensor:
    """Return the unconstrained numbers that Adam moves, (n_coordinates,)."""
    if isinstance(q, DiagonalNormal | LogNormal):
        return torch.cat([q.loc, q.log_scale])
    first = q.a if isinstance(q, Beta) else q.concentration
    parts = [(first - CONCENTRATION_FLOOR).clamp(min=1e-3).log()]
    if isinstance(q, Gamma):  # mean and concentration are orthogonal parameters
        parts.append(q.mean.log())
    elif isinstance(q, Beta):
        parts.append((q.b - CONCENTRATION_FLOOR).clamp(min=1e-3).log())
    return torch.cat(parts)


def _from_coordinates(family: str, coordinates: Tensor) -> Latent:
    parts = coordinates.chunk(FAMILIES[family].n_outputs)
    if family in ("normal", "lognormal"):
        distribution = DiagonalNormal if family == "normal" else LogNormal
        return distribution(parts[0], parts[1].clamp(-LARGEST_LOG, LARGEST_LOG))
    positive = [part.clamp(-LARGEST_LOG, LARGEST_LOG).exp() for part in parts]
    first = CONCENTRATION_FLOOR + positive[0]
    if family == "gamma":
        return Gamma(first, first / positive[1])
    if family == "beta":
        return Beta(first, CONCENTRATION_FLOOR + positive[1])
    return Dirichlet(first)


def variational_bound(
    log_joint: Callable[[Tensor], Tensor],
    q: Latent,
    noise: Tensor,
    gradient: str,
    objective: str,
) -> Tensor:
    """Return bounds on log p(x) whose gradients are the estimator's.

    ``noise`` has shape (K, rows, n_noise), q has rows or broadcasts to them, and the
    bounds have shape (rows,).
    """
    z = DRAWS[gradient](q, noise)
    log_p = _log_joint_of(log_joint, z, gradient)
    if objective == "iwae" or gradient in PATH_ONLY:
        density = q.detach() if gradient in PATH_ONLY else q
        log_weight = log_p - density.log_prob(z)
        if gradient == "dreg":
            return doubly_reparameterised(log_weight, z)
        if objective == "iwae":
            return importance_weighted(log_weight)
        return log_weight.mean(0)
    if gradient in SCORE:
        log_p = log_p + score_correction(log_p, q, z, gradient)
    return log_p.mean(0) + q.entropy()


def _log_joint_of(
    log_joint: Callable[[Tensor], Tensor], z: Tensor, gradient: str
) -> Tensor:
    """Call ``log_joint`` on rows and check what it returns."""
    rows = z.flatten(0, 1)
    log_p = log_joint(rows)
    if not isinstance(log_p, Tensor) or log_p.shape != rows.shape[:1]:
        got = tuple(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
        raise ValueError(
            "log_joint must return a tensor with one number for each row of z, of "
            f"shape ({len(rows)},) here, but returned {got}."
        )
    if not torch.isfinite(log_p.detach()).all():
        raise ValueError(
            "log_joint returned numbers that are not finite: it must be defined on the "
            "whole support of the family."
        )
    if z.requires_grad and not log_p.requires_grad:
        raise ValueError(
            f"gradient={gradient!r} differentiates log_joint, which returned a tensor "
            "without a gradient: use torch functions of z, or gradient='rloo'."
        )
    return log_p.unflatten(0, z.shape[:2])


def _check(
    log_joint: Any, family: str, gradient: str, objective: str, n_draws: int
) -> None:
    if not callable(log_joint):
        raise TypeError(f"log_joint must be a function, but got {log_joint!r}.")
    for name, value, allowed in (
        ("family", family, list(FAMILIES)),
        ("gradient", gradient, list(DRAWS)),
        ("objective", objective, list(OBJECTIVES)),
    ):
        if value not in allowed:
            raise ValueError(
                f"{name} must be one of {str(allowed)[1:-1]}, but got {value!r}."
            )
    check_gradient(gradient, objective, check_count(n_draws, "n_draws"))


def _values(parameters: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    if isinstance(parameters, Mapping):
        return list(parameters.values())
    return list(parameters)


def _parameters(
    family: str,
    given: Mapping[str, Any] | Sequence[Any] | None,
    n_latent: int,
    what: str,
) -> dict[str, list[float]]:
    """Return the parameters of q, one number per latent variable."""
    n_latent = check_count(n_latent, "n_latent")
    if family == "dirichlet" and n_latent < 2:
        raise ValueError("family='dirichlet' needs n_latent of at least 2.")
    return resolve_parameters(family, {} if given is None else given, n_latent, what)


def _distribution(
    family: str, parameters: Mapping[str, list[float]], device: str
) -> Latent:
    tensors = {
        name: torch.tensor(values, dtype=torch.float64, device=device)
        for name, values in parameters.items()
    }
    return FAMILIES[family].distribution.from_parameters(tensors)


def _generator(random_state: Any, device: str) -> torch.Generator:
    seed = int(make_random_state(random_state).randint(2**31 - 1))
    return torch.Generator(device).manual_seed(seed)


def _noise(
    shape: tuple[int, ...], family: str, n_latent: int, generator: torch.Generator
) -> Tensor:
    width = n_latent * FAMILIES[family].noise_width
    noise = torch.empty(*shape, width, dtype=torch.float64, device=generator.device)
    return noise.normal_(generator=generator)
