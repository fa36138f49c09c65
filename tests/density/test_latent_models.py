"""Estimators with latent variables, priors and gradients other than the default."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoder_gradients import encoder_gradients
from linear_gaussian import normal_noise
from scipy import integrate, stats

from skvae import VAERegressor, VAETransformer
from skvae._distributions.families import FAMILIES
from skvae._distributions.joint import Joint
from skvae._distributions.normal import Mixture
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._training import plan
from skvae._training.bounds import elbo, iwae
from skvae._training.gradients import DRAWS
from skvae._training.loop import train_step
from skvae._training.optimizer import Adam, flatten_parameters
from skvae._training.plan import Plan
from skvae._training.settings import Budget

OTHERS = ["lognormal", "gamma", "beta", "dirichlet"]
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
ESTIMATORS = [
    ("pathwise", elbo, 1),
    ("pathwise", elbo, 3),
    ("stl", elbo, 3),
    ("score", elbo, 1),
    ("score", elbo, 3),
    ("rloo", elbo, 3),
    ("grep", elbo, 1),
    ("grep", elbo, 3),
    ("pathwise", iwae, 3),
    ("dreg", iwae, 3),
]


def make_vae(latent="normal", prior=None, *, n_latent=2, n_context=0, masked=False):
    joint = Joint([make_head("normal", 3, 0), make_head("poisson", 2, 0)])
    generator = torch.Generator().manual_seed(0)
    if isinstance(prior, str):
        prior = {prior: 3}
    return VAE(
        joint,
        n_latent,
        (8,),
        "tanh",
        generator,
        latent=latent,
        prior=prior,
        n_context=n_context,
        masked=masked,
    ).double()


def rows(n_rows=3):
    counts = normal_noise(n_rows, 2, seed=8).abs().round()
    return torch.cat([normal_noise(n_rows, 3, seed=7), counts], 1)


def noise_for(vae, *shape, seed=0):
    return normal_noise(*shape, vae.n_noise, seed=seed)


# -- the module ----------------------------------------------------------------------


@pytest.mark.parametrize("n_context", [0, 2])
@pytest.mark.parametrize("latent", FAMILIES)
def test_prior_and_posterior_start_alike(latent, n_context):
    vae = make_vae(latent, n_context=n_context)
    x = torch.zeros(4, 5).double()
    c = torch.zeros(4, 2).double() if n_context else None
    qz, pz = vae.encode(x, None, c), vae.prior(c)
    assert qz.mean.shape == (4, 2)
    if latent != "normal" or n_context:
        assert isinstance(pz, FAMILIES[latent].distribution)
        torch.testing.assert_close(
            qz.kl(pz), torch.zeros(4).double(), atol=1e-5, rtol=0
        )
        for name, start in FAMILIES[latent].default_prior.items():
            values = pz.parameters()[name]
            torch.testing.assert_close(values, torch.full_like(values, start))


@pytest.mark.parametrize("objective", [elbo, iwae])
@pytest.mark.parametrize("n_draws", [1, 4])
@pytest.mark.parametrize("latent", FAMILIES)
def test_learned_prior_of_every_family(latent, n_draws, objective):
    """Bounds of log p(x | c), from the densities of the draws."""
    vae = make_vae(latent, n_context=2)
    batch = Batch(rows(), c=normal_noise(3, 2, seed=2))
    noise = noise_for(vae, n_draws, 3)
    terms = objective(vae, batch, noise)
    with torch.no_grad():
        qz, z, pz, px = vae(batch, noise)
        log_likelihood = vae.joint.log_prob(px, batch.x, None)
        if objective is elbo:
            expected = log_likelihood.mean(0) - qz.kl(pz)
        else:
            log_weight = log_likelihood + pz.log_prob(z) - qz.log_prob(z)
            expected = log_weight.logsumexp(0) - math.log(n_draws)
    torch.testing.assert_close(terms.objective, expected)
    terms.objective.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters())


@pytest.mark.parametrize("prior", [None, "mixture", "vamp"])
@pytest.mark.parametrize("gradient, objective, n_draws", ESTIMATORS)
def test_estimators_change_the_gradient_and_not_the_value(
    gradient, objective, n_draws, prior
):
    vae = make_vae("normal" if prior else "gamma", prior)
    batch = Batch(rows())
    noise = noise_for(vae, n_draws, 3)
    terms = objective(vae, batch, noise, gradient=gradient, kl_weight=0.3)
    plain = objective(vae, batch, noise, kl_weight=0.3)
    torch.testing.assert_close(terms.reconstruction, plain.reconstruction)
    if gradient != "stl":
        torch.testing.assert_close(terms.objective, plain.objective)
    terms.objective.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters())
    plain_vae = make_vae("normal" if prior else "gamma", prior)
    objective(plain_vae, batch, noise, kl_weight=0.3).objective.sum().backward()
    for one, other in zip(
        vae.decoder.parameters(), plain_vae.decoder.parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "latent, prior",
    [("gamma", None), ("dirichlet", None), ("normal", "mixture"), ("normal", "vamp")],
)
@pytest.mark.parametrize("gradient, n_draws", [("stl", 2), ("rloo", 4), ("grep", 2)])
def test_estimators_have_the_same_mean(latent, prior, gradient, n_draws):
    x, n_copies = rows(2), 6_000
    gradients = []
    for name in ("pathwise", gradient):
        seen = []

        def keep(module, inputs, out, seen=seen):
            if out.shape[0] > 3:  # not the three pseudo-inputs
                out.retain_grad()
                seen.append(out)

        vae = make_vae(latent, prior)
        vae.encoder.register_forward_hook(keep)
        batch = Batch(x.repeat_interleave(n_copies, 0))
        noise = noise_for(vae, n_draws, len(batch))
        elbo(vae, batch, noise, gradient=name).objective.sum().backward()
        gradients.append(seen[0].grad.unflatten(0, (2, n_copies)))
    plain, ours = gradients
    error = (ours.var(1) + plain.var(1)).sqrt() / math.sqrt(n_copies)
    assert ((ours.mean(1) - plain.mean(1)).abs() < 4.5 * error + 1e-9).all()
    assert (plain.mean(1).abs() > 4.5 * error).double().mean() > 0.3


def test_score_credits_rows_apart():
    """What another row's likelihood is leaves a row's gradient as it is."""
    vae, x = make_vae("gamma"), rows()
    results = []
    for scale in (1.0, 5.0):
        changed = x.clone()
        changed[2] *= scale

        def keep(module, inputs, out):
            out.retain_grad()
            results.append(out)

        hook = vae.encoder.register_forward_hook(keep)
        noise = noise_for(vae, 4, 3)
        elbo(vae, Batch(changed), noise, gradient="rloo").objective.sum().backward()
        hook.remove()
    one, other = (out.grad for out in results)
    assert torch.equal(one[:2], other[:2])
    assert not torch.equal(one[2], other[2])


def test_gradients_of_normal_latents_are_as_before():
    """The helper of the other tests sees the pathwise gradient of G-REP."""
    vae, x = make_vae("normal"), rows()
    one, other = (
        encoder_gradients(vae, elbo, x, 3, 2, gradient)
        for gradient in ("grep", "pathwise")
    )
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_learned_mixtures(prior):
    vae = make_vae("normal", prior, n_context=1, masked=True)
    c = normal_noise(3, 1, seed=5)
    assert vae.prior_net is None
    pz = vae.prior(c)
    assert isinstance(pz, Mixture)
    assert pz.components.loc.shape == (3, 2)
    assert vae.n_prior_noise == vae.n_noise + 1
    observed = torch.tensor([[True, True, False, True, True]]).expand(3, -1)
    batch = Batch(rows() * observed, observed, None, c)
    vae.initialise_prior(batch)
    if prior == "vamp":  # q(z | x) of the rows
        qz = vae.encode(batch.x, batch.observed, batch.c)
        for ours, expected in zip(vae.prior(c).components, qz, strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("gradient", ["score", "rloo"])
@pytest.mark.parametrize("latent", OTHERS)
def test_training_step_stays_on_its_device(latent, gradient):
    """On the meta device, which lacks the kernels of implicit gradients."""
    vae = make_vae(latent, n_context=1).float().to("meta")
    batch = Batch(
        torch.ones(8, 5, device="meta"), None, None, torch.ones(8, 1, device="meta")
    )
    noise = torch.empty(2, 8, vae.n_noise, device="meta")
    flat = flatten_parameters(vae)
    terms = train_step(vae, batch, noise, Adam(flat, 1e-3), elbo, gradient, 0.5)
    assert all(term.device.type == "meta" for term in terms)
    qz = vae.encode(batch.x, None, batch.c)
    for tensor in (qz.rsample(noise), qz.mean, qz.entropy(), qz.kl(vae.prior(batch.c))):
        assert tensor.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("gradient", DRAWS)
@pytest.mark.parametrize("latent", FAMILIES)
def test_fit_on_cuda(latent, gradient, numbers):
    objective = "iwae" if gradient == "dreg" else "elbo"
    vae = VAETransformer(
        3, latent=latent, gradient=gradient, objective=objective, n_draws=4, **SMALL
    )
    vae.set_params(device="cuda").fit(numbers)
    values = [vae.transform(numbers), vae.sample(5), vae.score_samples(numbers)]
    values.append(vae.sample_posterior(numbers, 2))
    assert all(np.isfinite(v).all() for v in values)
    assert vae._model.module.encoder.output.weight.device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("latent", FAMILIES)
def test_draws_on_cuda_are_those_of_the_cpu(latent):
    family = FAMILIES[latent]
    out = normal_noise(5, 3 * family.n_outputs)
    noise = normal_noise(7, 5, 3 * family.noise_width)
    draws = [
        family.distribution.from_outputs(out.to(device)).rsample(noise.to(device)).cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*draws, rtol=1e-8, atol=1e-12)


# -- exact evidence ------------------------------------------------------------------

PRIORS = {
    "lognormal": (
        {"loc": [0.2], "scale": [0.5]},
        stats.lognorm(0.5, scale=np.exp(0.2)),
    ),
    "gamma": ({"concentration": [1.5], "rate": [0.8]}, stats.gamma(1.5, scale=1 / 0.8)),
    "beta": ({"a": [1.2], "b": [2.0]}, stats.beta(1.2, 2.0)),
    "normal": ({"loc": [0.5], "scale": [1.3]}, stats.norm(0.5, 1.3)),
}


@torch.no_grad()
@pytest.mark.parametrize("latent", PRIORS)
def test_importance_weights_give_the_evidence_of_quadrature(latent):
    parameters, prior = PRIORS[latent]
    vae = make_vae(latent, parameters, n_latent=1)
    x = rows(2)

    def joint_density(z, row):
        px = vae.decode(torch.tensor([[z]], dtype=torch.float64))
        log_p = vae.joint.log_prob(px, row.unsqueeze(0), None)
        return float(log_p.exp()) * prior.pdf(z)

    low, high = prior.ppf(1e-9), prior.ppf(1 - 1e-9)
    expected = [
        math.log(integrate.quad(joint_density, low, high, args=(row,), limit=200)[0])
        for row in x
    ]
    noise = noise_for(vae, 20_000, 2)
    bound = iwae(vae, Batch(x), noise).objective
    torch.testing.assert_close(
        bound, torch.tensor(expected).double(), atol=0.03, rtol=0
    )
    assert (elbo(vae, Batch(x), noise[:4000]).objective < bound + 0.03).all()


@torch.no_grad()
def test_evidence_of_a_mixture_prior():
    vae = make_vae("normal", "mixture", n_latent=1)
    x = rows(1)
    weight, (loc, log_scale) = vae.prior()
    grid = torch.linspace(-8, 8, 4001).double().unsqueeze(1)
    density = torch.distributions.Normal(loc.t(), log_scale.exp().t()).log_prob(grid)
    prior = (density + weight).logsumexp(1)
    likelihood = vae.joint.log_prob(vae.decode(grid), x.expand(4001, -1), None)
    expected = torch.logsumexp(prior + likelihood, 0) + math.log(16 / 4000)
    bound = iwae(vae, Batch(x), noise_for(vae, 20_000, 1)).objective
    assert float(bound) == pytest.approx(float(expected), abs=0.03)


# -- the estimators ------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    """Eighty rows of six counts with two topics."""
    rng = np.random.default_rng(0)
    topics = np.array([[8.0, 6, 5, 0.5, 0.5, 1], [0.5, 1, 0.5, 7, 9, 4]])
    return rng.poisson(rng.dirichlet([0.5, 0.5], size=80) @ topics).astype(float)


def in_support(Z, latent):
    if latent == "dirichlet":
        return (Z >= 0).all() and np.allclose(Z.sum(-1), 1, atol=1e-5)
    return (Z > 0).all() and (latent != "beta" or (Z < 1).all())


@pytest.mark.parametrize("latent", OTHERS)
def test_transformer(latent, counts, calls):
    state = torch.get_rng_state()
    vae = VAETransformer(3, latent=latent, likelihood="poisson", **SMALL).fit(counts)
    assert in_support(vae.transform(counts), latent)
    assert in_support(vae.sample_posterior(counts, 5, random_state=0), latent)
    loaded = pickle.loads(pickle.dumps(vae))
    for name, call in calls.items():
        value = np.asarray(call(vae, counts))
        np.testing.assert_array_equal(call(loaded, counts), value, err_msg=name)
        if name != "get_feature_names_out":
            assert np.isfinite(value).all()
    assert torch.equal(torch.get_rng_state(), state)
    # a row's values depend on no other row
    for call in (vae.transform, vae.score_samples):
        np.testing.assert_allclose(call(counts)[::7], call(counts[::7]), rtol=1e-4)
    again = VAETransformer(**vae.get_params()).fit(counts)
    np.testing.assert_array_equal(again.transform(counts), vae.transform(counts))
    assert vae.history_["active_units"].max() <= 3


@pytest.mark.parametrize("latent", OTHERS)
@pytest.mark.parametrize("gradient", DRAWS)
def test_every_gradient_trains_every_family(latent, gradient, counts, monkeypatch):
    monkeypatch.setattr(plan, "SETTINGS", replace(plan.SETTINGS, kl_warmup_steps=0))
    vae = VAETransformer(
        2,
        latent=latent,
        gradient=gradient,
        objective="iwae" if gradient == "dreg" else "elbo",
        n_draws=4,
        likelihood="poisson",
        **SMALL,
    )
    vae.set_params(max_iter=8, early_stopping=False).fit(counts)
    assert vae.loss_curve_[-1] < vae.loss_curve_[0]


def test_latents_explain_more_than_the_marginals(counts):
    options = {**SMALL, "max_iter": 150, "likelihood": "poisson"}
    independent = stats.poisson(counts.mean(0)).logpmf(counts).sum(1).mean()
    for latent in ("gamma", "dirichlet"):
        vae = VAETransformer(2, latent=latent, **options).fit(counts)
        assert vae.score(counts) > independent + 1


@pytest.mark.parametrize(
    ("prior", "n_mixed"),
    [
        ("mixture", 10),
        ("vamp", 10),
        ({"mixture": 4}, 4),
        ({"vamp": 4}, 4),
        ((0.5, [1.0, 2.0]), None),
        ({"scale": 2.0}, None),
    ],
)
def test_priors_of_normal_variables(prior, n_mixed, numbers):
    vae = VAETransformer(2, prior=prior, **SMALL).fit(numbers)
    plain = VAETransformer(2, **SMALL).fit(numbers)
    assert not np.allclose(vae.score_samples(numbers), plain.score_samples(numbers))
    assert not np.allclose(vae.sample(5, random_state=0), plain.sample(5, 0))
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(
        loaded.score_samples(numbers), vae.score_samples(numbers)
    )
    if n_mixed is not None:
        assert len(vae._model.module.prior().log_weight) == n_mixed


def test_parameters_of_the_prior_are_those_given(counts):
    prior = (0.3, [1.0, 2.0])
    vae = VAETransformer(2, latent="gamma", prior=prior, **SMALL).fit(counts)
    pz = vae._model.module.prior()
    np.testing.assert_allclose(pz.concentration, [0.3, 0.3])
    np.testing.assert_allclose(pz.rate, [1.0, 2.0])
    assert vae.get_params()["prior"] == prior


def test_a_learned_prior_is_trained(numbers):
    two_groups = np.concatenate([numbers - 4, numbers + 4])
    options = {**SMALL, "max_iter": 30, "learning_rate_init": 0.02}
    for prior in ("mixture", "vamp"):
        vae = VAETransformer(2, prior=prior, **options).fit(two_groups)
        start = copy.deepcopy(vae).set_params(max_iter=1, learning_rate_init=1e-9)
        start.fit(two_groups)
        assert vae.score(two_groups) > start.score(two_groups)


def test_training_goes_on(counts):
    vae = VAETransformer(2, latent="gamma", warm_start=True, **SMALL).fit(counts)
    assert vae.fit(counts).n_iter_ == 6
    vamp = VAETransformer(2, prior="vamp", **SMALL)
    for _ in range(3):
        vamp.partial_fit(counts)
    assert vamp.n_iter_ == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gradient": "rloo"}, "use n_draws > 1"),
        ({"gradient": "score", "objective": "iwae"}, "evidence lower bound"),
        ({"gradient": "grep", "objective": "iwae", "n_draws": 3}, "evidence lower"),
    ],
)
def test_impossible_gradients_are_refused(options, message, numbers):
    with pytest.raises(ValueError, match=message):
        VAETransformer(**options, **SMALL).fit(numbers)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"latent": "gamma", "prior": "vamp"}, "use latent='normal'"),
        ({"latent": "gamma", "prior": {"mixture": 3}}, "use latent='normal'"),
        ({"prior": {"mixture": 0}}, "number of components, at least 1"),
        ({"prior": {"mixture": 3, "vamp": 3}}, "number of components, at least 1"),
        ({"latent": "gamma", "prior": (1.0,)}, "takes concentration, rate"),
        ({"latent": "dirichlet", "n_components": 1}, "n_components must be at least 2"),
    ],
)
def test_impossible_latents_are_refused(options, message, numbers):
    for estimator in (VAETransformer, VAERegressor):
        with pytest.raises(ValueError, match=message):
            estimator(**options, **SMALL).fit(numbers, numbers)


def test_decoding_asks_for_the_support(counts):
    vae = VAETransformer(2, latent="gamma", **SMALL).fit(counts)
    with pytest.raises(ValueError, match="Z must be positive"):
        vae.inverse_transform([[-1.0, 2.0]])
    assert vae.inverse_transform([[1.0, 2.0]]).shape == (1, 6)


# -- starts --------------------------------------------------------------------------


@torch.no_grad()
def test_decoders_see_numbers_of_order_one():
    z = torch.tensor([[0.0, 3.0]]).double()
    vae = make_vae("gamma")
    assert torch.equal(vae.decode(z), vae.decoder(torch.log1p(z)))
    share = torch.tensor([[0.25, 0.75]]).double()
    # Dirichlet(1, 1) has mean 1/2 and variance 1/12
    standardised = (share - 0.5) * math.sqrt(12)
    for latent in ("beta", "dirichlet"):
        vae = make_vae(latent)
        torch.testing.assert_close(vae.decode(share), vae.decoder(standardised))
    vae = make_vae("normal")
    assert torch.equal(vae.decode(z), vae.decoder(z))


def test_a_vamp_prior_starts_at_training_rows(numbers):
    vae = VAETransformer(2, prior="vamp", learning_rate_init=1e-9, **SMALL)
    vae.set_params(max_iter=1, numeric_transform="standard").fit(numbers)
    rows = vae._model.batch(vae._encode(numbers)).x
    distance = torch.cdist(vae._model.module.pseudo_inputs.detach(), rows)
    assert (distance.min(1).values < 1e-2).all()
    assert len(distance.argmin(1).unique()) == 10  # one row each


def test_only_a_linear_start_is_preferred(numbers):
    for latent, preferred in (("normal", True), ("gamma", False)):
        vae = VAETransformer(2, latent=latent, **SMALL).fit(numbers)
        is_linear = vae._model.architecture["linear_path"]
        found = Plan.resolve(vae.get_params(), 60, Budget(), is_linear=is_linear)
        assert found.prefer_initial is preferred
        assert (found.kl_warmup_steps == 0) is preferred
