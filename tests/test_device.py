"""Device discipline: no tensor is made beside the batch's device."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from skvae import VAEImputer, VAETransformer
from skvae._density.evidence import log_weights
from skvae._distributions.joint import Joint
from skvae._distributions.location_scale import Normal
from skvae._distributions.registry import make_head
from skvae._imputation.conditional_mean import ConditionalMean, Rows
from skvae._imputation.gaussian import Gaussian
from skvae._imputation.masking import permuted_mask, random_mask, training_mask
from skvae._imputation.residual_vae import ResidualVAE
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE
from skvae._training.batches import Batches
from skvae._training.bounds import OBJECTIVES
from skvae._training.loop import train_step
from skvae._training.optimizer import Adam, flatten_parameters

HEADS = [
    ("normal", 2, 0),
    ("normal_heteroscedastic", 2, 0),
    ("normal_isotropic", 2, 0),
    ("student_t", 2, 0),
    ("student_t_heteroscedastic", 2, 0),
    ("bernoulli", 2, 0),
    ("categorical", 2, 3),
    ("ordinal", 2, 4),
    ("poisson", 2, 0),
    ("negative_binomial", 2, 0),
]
N_ROWS, N_LATENT, N_CONTEXT = 8, 3, 2
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here"
)


class OnlyDevice(TorchDispatchMode):
    """Raise as soon as an operation returns a tensor on another device.

    Some operations of the meta device accept tensors of the CPU; this does not.
    """

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor) and value.device.type != self.device:
                raise RuntimeError(f"{func} made a tensor on {value.device}")
        return out


def make_vae(heads, *, n_context=0, linear_path=True):
    joint = Joint([make_head(*head) for head in heads])
    generator = torch.Generator().manual_seed(0)
    return VAE(
        joint,
        N_LATENT,
        (7, 5),
        "relu",
        generator,
        masked=True,
        n_context=n_context,
        linear_path=linear_path,
    )


def make_batch(vae, device, *, full=True):
    """Rows with or without mask, weights and context."""
    n_columns = vae.joint.n_columns
    options = {}
    if full:
        mask = torch.ones(N_ROWS, n_columns, dtype=torch.bool, device=device)
        options = {"observed": mask, "weight": torch.ones(N_ROWS, device=device)}
    if vae.n_context:
        options["c"] = torch.ones(N_ROWS, vae.n_context, device=device)
    return Batch(torch.ones(N_ROWS, n_columns, device=device), **options)


def run_step(vae, batch, objective, gradient, n_draws):
    """One training step, with every tensor held to the batch's device."""
    with OnlyDevice(batch.x.device.type):
        flat = flatten_parameters(vae)
        optimizer = Adam(flat, 1e-3)
        noise = torch.empty(n_draws, N_ROWS, N_LATENT, device=batch.x.device)
        noise.normal_()
        return train_step(
            vae, batch, noise, optimizer, OBJECTIVES[objective], gradient, 0.5
        )


@pytest.mark.parametrize("gradient", ["pathwise", "stl", "dreg"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("full, n_context", [(False, 0), (True, N_CONTEXT)])
@pytest.mark.parametrize("n_draws", [1, 4])
def test_training_step_stays_on_its_device(
    gradient, objective, n_context, full, n_draws
):
    vae = make_vae(HEADS, n_context=n_context).to("meta")
    batch = make_batch(vae, "meta", full=full)
    terms = run_step(vae, batch, objective, gradient, n_draws)
    for term in terms:
        assert term.device.type == "meta" and term.shape == (N_ROWS,)
    for p in vae.parameters():
        assert p.device.type == "meta" and p.grad is not None


def test_centred_vae_stays_on_its_device():
    joint = Joint([make_head(*head) for head in HEADS[:2]])
    vae = ResidualVAE(
        joint,
        N_LATENT,
        (7, 5),
        "relu",
        torch.Generator().manual_seed(0),
        centres=((0, 3), (1, 0)),
        masked=True,
        n_context=N_CONTEXT,
        linear_path=True,
    ).to("meta")
    batch = make_batch(vae, "meta")
    with OnlyDevice("meta"):
        noise = torch.empty(4, N_ROWS, vae.n_noise, device="meta").normal_()
        out = vae(batch, noise)
        assert out.px.shape == (4, N_ROWS, joint.n_outputs)
        out.px.sum().backward()


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head[0])
def test_every_head_stays_on_its_device(head):
    vae = make_vae([head]).to("meta")
    run_step(vae, make_batch(vae, "meta"), "elbo", "pathwise", 1)
    with OnlyDevice("meta"), torch.no_grad():
        batch = make_batch(vae, "meta")
        qz = vae.encode(batch.x, batch.observed)
        noise = torch.empty(4, N_ROWS, N_LATENT, device="meta")
        assert log_weights(vae, batch, qz, noise).shape == (4, N_ROWS)
        vae.joint.point_estimate(vae.decode(qz.loc))
        vae.initialise_marginals(batch.x, torch.ones_like(batch.x))


def test_taking_rows_stays_on_the_device():
    vae = make_vae(HEADS, n_context=N_CONTEXT).to("meta")
    with OnlyDevice("meta"):
        index = torch.zeros(3, dtype=torch.long, device="meta")
        taken = make_batch(vae, "meta").take(index)
    given = [t for t in taken if t is not None]
    assert len(given) == 4  # what the batch has: rows, mask, weights, context
    assert all(t.device.type == "meta" and len(t) == 3 for t in given)


def step_with_added_constant(make, monkeypatch):
    """A step whose Normal head adds a tensor that ``make(x)`` places."""
    plain = Normal.log_prob
    monkeypatch.setattr(
        Normal, "log_prob", lambda self, px, x: plain(self, px, x) + make(x)
    )
    vae = make_vae(HEADS).to("meta")
    run_step(vae, make_batch(vae, "meta"), "elbo", "pathwise", 1)


def test_a_tensor_on_the_right_device_passes(monkeypatch):
    step_with_added_constant(lambda x: x.new_zeros(x.shape), monkeypatch)


@pytest.mark.parametrize("shape", [(2,), ()])
def test_a_tensor_on_the_wrong_device_is_an_error(shape, monkeypatch):
    """The tests above can fail: a head that makes a tensor on the CPU is caught."""
    with pytest.raises(RuntimeError, match="on cpu"):
        step_with_added_constant(lambda x: torch.zeros(shape), monkeypatch)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_step_changes_every_parameter(objective):
    """The same step on real numbers: the meta device computes nothing."""
    vae = make_vae(HEADS, n_context=N_CONTEXT)
    batch = make_batch(vae, "cpu")
    before = [p.detach().clone() for p in vae.parameters()]
    torch_state = torch.get_rng_state()
    flat = flatten_parameters(vae)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, N_ROWS, N_LATENT, generator=generator)
    for _ in range(3):
        terms = train_step(
            vae,
            batch,
            noise,
            Adam(flat, 1e-2),
            OBJECTIVES[objective],
            "pathwise",
            1.0,
        )
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(torch.isfinite(term).all() for term in terms)
    for (name, p), old in zip(vae.named_parameters(), before, strict=True):
        assert torch.isfinite(p).all(), name
        assert not torch.equal(p, old), name


# -- the imputer's parts -------------------------------------------------------------

POINT_HEADS = [("normal", 3, 0), ("bernoulli", 2, 0), ("categorical", 2, 3)]


def make_mean(hidden_layer_sizes=(7, 5)):
    heads = POINT_HEADS if hidden_layer_sizes else POINT_HEADS[:1]
    joint = Joint([make_head(*head) for head in heads])
    generator = torch.Generator().manual_seed(0)
    return ConditionalMean(joint, hidden_layer_sizes, 3, "silu", generator)


@pytest.mark.parametrize("hidden_layer_sizes", [(7, 5), ()])
def test_conditional_mean_stays_on_its_device(hidden_layer_sizes):
    model = make_mean(hidden_layer_sizes).to("meta")
    x = torch.ones(N_ROWS, model.joint.n_columns, device="meta")
    v = torch.ones_like(x, dtype=torch.bool)
    rows = Rows(x, x, v, torch.ones(N_ROWS, device="meta"))
    with OnlyDevice("meta"):
        assert model.expected(x, x, v).device.type == "meta"
        if hidden_layer_sizes:
            fold = torch.zeros(N_ROWS, dtype=torch.long, device="meta")
            for context in (model.context(x, x, v), model.context(x, x, v, fold)):
                assert context.shape == (N_ROWS, model.n_context)
            taken = rows.take(fold)
            loss = model.loss(taken, v, torch.ones(3, N_ROWS, device="meta"))
            loss.backward()
    for p in model.parameters() if hidden_layer_sizes else ():
        assert p.grad is not None and p.grad.device.type == "meta"


def test_normal_stays_on_its_device():
    model = Gaussian(4).to("meta")
    x = torch.ones(N_ROWS, 4, device="meta")
    with OnlyDevice("meta"):
        for rows in (model.condition(x, x), model.sample(x, x, x)):
            assert rows.shape == (N_ROWS, 4)
        assert model.log_prob(x, x).shape == (N_ROWS,)
        columns = torch.zeros(2, dtype=torch.long, device="meta")
        assert model.deviation(x, columns).shape == (N_ROWS, 2)


def test_conditional_mean_is_checked_for_its_device(monkeypatch):
    """The tests above can fail."""
    model = make_mean().to("meta")
    x = torch.ones(N_ROWS, model.joint.n_columns, device="meta")
    embed = Joint.embed
    monkeypatch.setattr(
        Joint, "embed", lambda *args: embed(*args) + torch.zeros(()).sum()
    )
    with pytest.raises(RuntimeError, match="on cpu"), OnlyDevice("meta"):
        model.expected(x, x, x.bool())


# -- CUDA -----------------------------------------------------------------------


def mixed_rows(n_rows=300):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, 6))
    X[:, 4] = rng.poisson(np.exp(0.3 * X[:, 4]))
    X[:, 5] = X[:, 5] > 0
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


LIKELIHOOD = {4: "poisson", 5: "bernoulli"}


@pytest.fixture(scope="module")
def cuda_vae():
    vae = VAETransformer(
        2, likelihood=LIKELIHOOD, max_iter=5, device="cuda", random_state=0
    )
    return vae.fit(mixed_rows())


@needs_cuda
def test_fit_on_cuda(cuda_vae):
    X = mixed_rows()
    assert cuda_vae.device_ == "cuda"
    assert all(p.device.type == "cuda" for p in cuda_vae._model.module.parameters())
    for values in (
        cuda_vae.transform(X),
        cuda_vae.inverse_transform(cuda_vae.transform(X)),
        cuda_vae.sample(5, random_state=0),
        cuda_vae.sample_posterior(X, 2, random_state=0),
        cuda_vae.score_samples(X),
    ):
        assert isinstance(values, np.ndarray) and np.isfinite(values).all()
    again = VAETransformer(**cuda_vae.get_params()).fit(X)
    np.testing.assert_allclose(again.transform(X), cuda_vae.transform(X), atol=1e-3)


@needs_cuda
@pytest.mark.parametrize("hidden_layer_sizes", [(16,), ()])
@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_imputer_on_cuda(hidden_layer_sizes, strategy, tmp_path):
    X = mixed_rows()
    likelihood = LIKELIHOOD
    if not hidden_layer_sizes:
        X, likelihood = X[:, :4], "auto"
    vae = VAEImputer(
        hidden_layer_sizes=hidden_layer_sizes,
        likelihood=likelihood,
        missingness="agnostic",
        strategy=strategy,
        max_iter=3,
        device="cuda",
        random_state=0,
    ).fit(X)
    assert all(p.device.type == "cuda" for p in vae._model.mean.buffers())
    seen = ~np.isnan(X)
    for table in (vae.transform(X), *vae.sample(X, 2), *vae.predict_interval(X)):
        assert np.isfinite(table).all()
        np.testing.assert_array_equal(table[seen], X[seen])
    assert np.isfinite(vae.score_samples(X)).all()
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_allclose(loaded.transform(X), vae.transform(X), atol=1e-3)


@needs_cuda
def test_hiding_on_cuda():
    observed = torch.ones(5, 3, dtype=torch.bool, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    mask = random_mask(observed, 0.1, 0.9, generator)
    assert mask.device.type == "cuda"
    assert permuted_mask(mask, generator).device.type == "cuda"
    assert training_mask(observed, generator, permuted=True).device.type == "cuda"


@needs_cuda
@pytest.mark.parametrize("gradient", ["pathwise", "stl", "dreg"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_step_on_cuda(objective, gradient):
    vae = make_vae(HEADS, n_context=N_CONTEXT).to("cuda")
    terms = run_step(vae, make_batch(vae, "cuda"), objective, gradient, 4)
    assert all(torch.isfinite(term).all() for term in terms)
    px = vae.decode(
        torch.zeros(N_ROWS, N_LATENT, device="cuda"),
        torch.zeros(N_ROWS, N_CONTEXT, device="cuda"),
    )
    generator = torch.Generator("cuda").manual_seed(0)
    with torch.no_grad():
        draws = vae.joint.sample(px, generator)
    assert draws.device.type == "cuda" and torch.isfinite(draws).all()


@needs_cuda
def test_batches_on_cuda():
    data = Batch(torch.arange(10.0, device="cuda").unsqueeze(1))
    generator = torch.Generator("cuda").manual_seed(0)
    rows = torch.arange(10, device="cuda")
    seen = torch.cat([batch.x for batch in Batches(data, rows, 4, generator)])
    assert sorted(seen.flatten().tolist()) == list(range(10))


@needs_cuda
def test_model_of_cuda_loads_on_the_cpu(cuda_vae, tmp_path):
    """A process that sees no CUDA device loads the pickle and agrees."""
    X = mixed_rows()
    (tmp_path / "vae.pkl").write_bytes(pickle.dumps(cuda_vae))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Z.npy", cuda_vae.transform(X))
    script = """
import pickle, sys
import numpy as np, torch
folder = sys.argv[1]
assert not torch.cuda.is_available()
with open(folder + "/vae.pkl", "rb") as file:
    vae = pickle.load(file)
assert vae.device_ == "cpu"
X, Z = np.load(folder + "/X.npy"), np.load(folder + "/Z.npy")
np.testing.assert_allclose(vae.transform(X), Z, atol=1e-3)
assert np.isfinite(vae.score_samples(X)).all()
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
