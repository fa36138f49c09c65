"""skvae.inference: the posteriors that are found, and what is refused."""

import math

import numpy as np
import pytest
import torch
from gamma_poisson import gamma_poisson
from scipy import stats
from torch import distributions as D

from skvae.inference import VariationalFit, fit_variational


def beta_bernoulli(z):
    """Uniform prior of the chance of five successes in seven."""
    outcomes = torch.tensor([1.0, 0, 1, 1, 0, 1, 1], dtype=torch.float64)
    return D.Bernoulli(z).log_prob(outcomes).sum(-1)


def normal_normal(z):
    """N(0, 2²) prior of the mean of five N(z, 1) numbers."""
    x = torch.tensor([2.0, 4.0, 3.0, 1.0, 5.0], dtype=torch.float64)
    return D.Normal(z, 1.0).log_prob(x).sum(-1) + D.Normal(0.0, 2.0).log_prob(z).sum(-1)


CONJUGATE = {
    "gamma": (gamma_poisson, stats.gamma(16, scale=1 / 6)),
    "beta": (beta_bernoulli, stats.beta(6, 3)),
    "normal": (normal_normal, stats.norm(15 / 5.25, 5.25**-0.5)),
}


@pytest.mark.parametrize(
    "gradient, objective, n_draws",
    [
        ("pathwise", "elbo", 10),
        ("stl", "elbo", 5),
        ("dreg", "iwae", 3),
        ("score", "elbo", 100),
        ("rloo", "elbo", 20),
        ("grep", "elbo", 10),
    ],
)
@pytest.mark.parametrize("family", CONJUGATE)
def test_conjugate_posterior_is_found(family, gradient, objective, n_draws):
    log_joint, posterior = CONJUGATE[family]
    n_steps = 800 if gradient == "dreg" else 400
    fit = fit_variational(
        log_joint,
        family,
        gradient=gradient,
        objective=objective,
        n_draws=n_draws,
        max_iter=n_steps,
        learning_rate_init=0.1,
        random_state=0,
    )
    exact = gradient in ("stl", "dreg")
    tolerance = {"stl": 0.01, "score": 0.3}.get(gradient, 0.1)
    deviation = posterior.std()
    assert abs(fit.mean[0] - posterior.mean()) < tolerance * deviation
    assert math.sqrt(fit.variance[0]) == pytest.approx(deviation, rel=tolerance)
    # the evidence is the bound at the posterior, whatever z
    z = torch.full((1, 1), 0.6, dtype=torch.float64)
    evidence = float(log_joint(z)) - posterior.logpdf(0.6)
    assert fit.elbo == pytest.approx(evidence, abs=0.1 * tolerance + 0.02)
    assert fit.elbo_curve.shape == (n_steps,)
    assert fit.elbo_curve[-100:].mean() > fit.elbo_curve[:5].mean()
    for name, value in fit.gradient_variance.items():
        assert value.shape == (1,) and name in fit.parameters
        if exact:
            assert value < 0.02


def gamma_normal_kl(shape, rate, loc, scale):
    """KL(Gamma || N) from E z, E z² and the entropy of the gamma distribution."""
    q, p = stats.gamma(shape, scale=1 / rate), stats.norm(loc, scale)
    second = q.var() + q.mean() ** 2
    distance = (second - 2 * loc * q.mean() + loc**2) / (2 * scale**2)
    return -q.entropy() - p.logpdf(loc) + distance


@pytest.mark.parametrize("loc, smallest", [(5.0, 0.0133), (1.0, 0.2250), (0.0, 0.7188)])
def test_the_best_gamma_for_a_normal(loc, smallest):
    fit = fit_variational(
        lambda z: D.Normal(loc, 1.0).log_prob(z).sum(-1),
        "gamma",
        n_draws=50,
        max_iter=500,
        random_state=0,
    )
    kl = gamma_normal_kl(*(float(v[0]) for v in fit.parameters.values()), loc, 1.0)
    assert kl == pytest.approx(smallest, abs=5e-4)
    assert kl > smallest - 1e-4
    assert fit.elbo == pytest.approx(-kl, abs=0.02)
    if loc == 5.0:
        assert fit.parameters["concentration"][0] == pytest.approx(25.7, rel=0.1)


def test_several_latent_variables():
    concentration = torch.tensor([4.0, 2.0, 7.0], dtype=torch.float64)
    fit = fit_variational(
        lambda z: ((concentration - 1) * z.log()).sum(-1),
        "dirichlet",
        n_latent=3,
        gradient="stl",
        max_iter=400,
        learning_rate_init=0.1,
        random_state=0,
    )
    np.testing.assert_allclose(fit.parameters["concentration"], concentration, 1e-2)
    np.testing.assert_allclose(fit.mean, concentration / 13, 1e-2)
    Z = fit.sample(5, random_state=0)
    np.testing.assert_allclose(Z.sum(1), 1)
    expected = D.Dirichlet(torch.tensor(fit.parameters["concentration"]))
    np.testing.assert_allclose(fit.log_prob(Z), expected.log_prob(torch.tensor(Z)))


def test_score_needs_no_derivative():
    """A log-density that comes from NumPy: a true black box."""

    def log_joint(z):
        return torch.from_numpy(stats.gamma(16, scale=1 / 6).logpdf(z.numpy()[:, 0]))

    options = {"n_draws": 30, "max_iter": 300, "random_state": 0}
    fit = fit_variational(log_joint, "gamma", gradient="rloo", **options)
    assert fit.mean[0] == pytest.approx(16 / 6, rel=0.05)
    with pytest.raises(RuntimeError, match="requires grad"):
        fit_variational(log_joint, "gamma", **options)
    with pytest.raises(ValueError, match="use torch functions of z, or gradient='rloo"):
        fit_variational(lambda z: log_joint(z.detach()), "gamma", **options)


def test_fits_are_reproducible_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    one, other, third = (
        fit_variational(gamma_poisson, "gamma", max_iter=20, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert isinstance(one, VariationalFit)
    np.testing.assert_array_equal(one.elbo_curve, other.elbo_curve)
    assert not np.array_equal(one.elbo_curve, third.elbo_curve)
    np.testing.assert_array_equal(one.sample(3, 0), other.sample(3, 0))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_start_is_used():
    start = {"concentration": 16.0, "rate": 6.0}
    options = {"max_iter": 1, "learning_rate_init": 1e-9, "random_state": 0}
    fit = fit_variational(gamma_poisson, "gamma", start=start, **options)
    for name, value in start.items():
        assert fit.parameters[name][0] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"family": "cauchy"}, "family must be one of 'normal'"),
        ({"gradient": "magic"}, "gradient must be one of 'pathwise'"),
        ({"objective": "vae"}, "objective must be one of"),
        ({"gradient": "rloo", "n_draws": 1}, "use n_draws > 1"),
        ({"gradient": "dreg"}, "belongs to the importance-weighted bound"),
        ({"gradient": "stl", "objective": "iwae"}, "biased"),
        ({"gradient": "score", "objective": "iwae"}, "evidence lower bound"),
        ({"gradient": "grep", "objective": "iwae"}, "evidence lower bound"),
        ({"n_draws": 0}, "n_draws must be an int"),
        ({"n_latent": 0}, "n_latent must be an int"),
        ({"max_iter": 0}, "max_iter must be an int"),
        ({"learning_rate_init": 0.0}, "learning_rate_init must be positive"),
        ({"start": (1.0,)}, "start of a gamma distribution takes"),
        ({"family": "dirichlet"}, "n_latent of at least 2"),
        ({"device": "tpu"}, "Unknown device"),
    ],
)
def test_impossible_options_are_refused(options, message):
    options = {"family": "gamma", "max_iter": 5, **options}
    with pytest.raises(ValueError, match=message):
        fit_variational(gamma_poisson, **options)


@pytest.mark.parametrize(
    "log_joint, message",
    [
        (lambda z: z, "one number for each row"),
        (lambda z: 1.0, "one number for each row"),
        (lambda z: torch.log(-z).sum(-1), "not finite"),
    ],
)
def test_log_joint_is_checked(log_joint, message):
    with pytest.raises(ValueError, match=message):
        fit_variational(log_joint, "gamma", max_iter=5)
