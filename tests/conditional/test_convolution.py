"""ImageVAE and image_shape: exact start, shapes, and what convolutions add."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV

from skvae import VAERegressor
from skvae._conditional.image_vae import ImageVAE, block_size, shape_of_context
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.batch import Batch
from skvae._networks.vae import VAE


@pytest.fixture(scope="module")
def digits():
    """Digits, and their means over blocks of 2 x 2 pixels."""
    y = load_digits().data.astype(np.float32)
    X = y.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)
    return X, y


def make_image_vae(shape=(1, 8, 8), context=(1, 4, 4), head="normal", **options):
    joint = Joint([make_head(head, int(np.prod(shape)), 0)])
    n_context = options.pop("n_context", int(np.prod(context)) if context else 3)
    return ImageVAE(
        joint,
        5,
        (7,),
        "silu",
        torch.Generator().manual_seed(0),
        image_shape=shape,
        context_shape=context,
        n_context=n_context,
        linear_path=True,
        **options,
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 28, 28), 4),
        ((1, 28, 20), 4),
        ((1, 16, 16), 2),
        ((3, 8, 8), 1),
        ((1, 64, 64), 4),
        ((1, 15, 15), 1),
    ],
)
def test_blocks_make_a_coarse_grid(shape, expected):
    assert block_size(shape) == expected
    assert shape[1] % expected == shape[2] % expected == 0


@pytest.mark.parametrize(
    ("shape", "n_features", "expected"),
    [
        ((1, 28, 28), 49, (1, 7, 7)),
        ((1, 28, 28), 784, (1, 28, 28)),
        ((1, 28, 20), 140, (1, 14, 10)),
        ((3, 16, 16), 192, (3, 8, 8)),
        ((1, 28, 28), 10, None),
    ],
)
def test_features_that_are_an_image(shape, n_features, expected):
    assert shape_of_context(shape, n_features) == expected


@pytest.mark.parametrize(
    ("shape", "context", "options"),
    [
        ((1, 8, 8), (1, 4, 4), {}),
        ((1, 16, 16), (1, 4, 4), {"head": "normal_heteroscedastic"}),
        ((1, 16, 16), (1, 16, 16), {"masked": True, "n_context": 512}),
        ((3, 28, 28), (3, 7, 7), {}),
        ((1, 28, 20), (1, 14, 10), {"head": "bernoulli"}),
        ((1, 12, 12), None, {}),
    ],
)
def test_the_start_is_the_dense_model(shape, context, options):
    vae = make_image_vae(shape, context, **options)
    n, pixels = 6, int(np.prod(shape))
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, pixels, generator=generator)
    observed = torch.rand(n, pixels, generator=generator) > 0.3
    observed = observed if vae.masked else None
    c = torch.randn(n, vae.n_context, generator=generator)
    noise = torch.randn(4, n, 5, generator=generator)
    out = vae(Batch(x, observed, None, c), noise)
    assert out.px.shape == (4, n, vae.joint.n_outputs)
    dense_q = VAE.encode(vae, x, observed, c)
    torch.testing.assert_close(out.qz.loc, dense_q.loc)
    torch.testing.assert_close(out.px, VAE.decode(vae, out.z, c))
    # every parameter learns once the corrections are no longer zero
    with torch.no_grad():
        vae.summary.weight.add_(0.1)
        vae.draw.layers[-1].weight.add_(0.1)
    vae(Batch(x, observed, None, c), noise).px.square().sum().backward()
    for name, parameter in vae.named_parameters():
        if not name.startswith(("prior_net", "joint")):
            assert parameter.grad is not None and parameter.grad.any(), name


def test_one_draw_is_one_of_many():
    vae = make_image_vae()
    with torch.no_grad():
        vae.draw.layers[-1].weight.add_(0.1)
    c, z = torch.randn(4, 16), torch.randn(3, 4, 5)
    torch.testing.assert_close(vae.decode(z, c)[1], vae.decode(z[1], c))


def test_a_correction_moves_with_the_image():
    # away from the border, what convolutions add is the same one block further
    vae = make_image_vae((1, 16, 16), (1, 16, 16))
    with torch.no_grad():
        vae.draw.layers[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
    image = torch.zeros(1, 1, 16, 16)
    image[..., 6:8, 6:8] = 1
    moved = image.roll((2, 2), (-2, -1))
    rows = [
        torch.nn.functional.pixel_shuffle(
            vae.draw(vae._maps(vae._blocks(i.flatten(1)), i.flatten(1))), 2
        )
        for i in (image, moved)
    ]
    inner = slice(4, -4)
    torch.testing.assert_close(
        rows[0].roll((2, 2), (-2, -1))[..., inner, inner], rows[1][..., inner, inner]
    )


def test_super_resolution_beats_ridge(digits):
    X, y = digits
    vae = VAERegressor(
        16,
        image_shape=(8, 8),
        hidden_layer_sizes=(128,),
        activation="silu",
        max_iter=10,
        random_state=0,
    ).fit(X[:700], y[:700])
    ridge = RidgeCV(np.logspace(-3, 3, 7)).fit(X[:700], y[:700])
    X, y = X[1600:], y[1600:]
    error = np.square(vae.predict(X) - y).mean()
    assert error < 0.99 * np.square(ridge.predict(X) - y).mean()
    draw = vae.sample(X, random_state=0)[0]
    assert draw.dtype == y.dtype
    # a draw is as good as calibration allows: twice the least error
    assert np.square(draw - y).mean() == pytest.approx(2 * error, rel=0.25)
    lower, upper = vae.predict_interval(X)
    assert ((lower <= y) & (y <= upper)).mean() > 0.8


def test_in_painting(digits):
    _, y = digits
    y = (y > 7).astype(np.float32)
    hidden = np.zeros((8, 8), dtype=bool)
    hidden[:, 4:] = True
    hidden = hidden.ravel()
    X = np.where(hidden, np.nan, y)
    X[::2] = np.where(~hidden, np.nan, y)[::2]  # the other half in every second row
    Y = np.where(np.isnan(X), y, np.nan)
    vae = VAERegressor(
        8,
        image_shape=(8, 8),
        likelihood="bernoulli",
        hidden_layer_sizes=(64,),
        max_iter=8,
        random_state=0,
    ).fit(X[:600], Y[:600])
    scores = vae.score_samples(X[1700:], Y[1700:])
    rates = y[:600].mean(0).clip(0.01, 0.99)
    marginal = np.where(y == 1, np.log(rates), np.log1p(-rates))
    marginal = np.where(np.isnan(X), marginal, 0).sum(1)[1700:]
    assert scores.mean() > marginal.mean() + 1
    wrong = vae.score_samples(np.roll(X[1700:], 2, axis=0), Y[1700:])
    assert scores.mean() > wrong.mean() + 1


def test_labels_to_images(digits):
    _, y = digits
    labels = np.eye(10)[load_digits().target]
    vae = VAERegressor(
        4, image_shape=(8, 8), hidden_layer_sizes=(32,), max_iter=2, random_state=0
    ).fit(labels[:600], y[:600])
    assert vae._model.module.context_shape is None
    mean = vae.predict(np.eye(10))
    truth = np.stack([y[load_digits().target == k].mean(0) for k in range(10)])
    assert np.corrcoef(mean.ravel(), truth.ravel())[0, 1] > 0.9


def test_pixels_share_their_scale(digits):
    X, y = (part[:200] for part in digits)
    vae = VAERegressor(4, image_shape=(8, 8), max_iter=1, random_state=0).fit(X, y)
    scales = {column.map.scale for column in vae._encoder.columns_}
    assert len(scales) == 1
    assert scales.pop() == pytest.approx(y.std(), rel=1e-3)
    # pixels that are never seen do not count
    hidden = X.copy()
    hidden[:, :3] = np.nan
    columns = vae.fit(hidden, y)._feature_encoder.columns_
    assert columns[5].map.scale == pytest.approx(X[:, 3:].std(), rel=1e-3)
    assert np.isfinite(vae.predict(X)).all()
    # pixels that never change keep their place
    assert len(vae._model.groups.order) == 64


def test_images_on_another_device():
    vae = make_image_vae((1, 16, 16), (1, 8, 8)).to("meta")
    x = torch.ones(3, 256, device="meta")
    c = torch.ones(3, 64, device="meta")
    out = vae(Batch(x, None, None, c), torch.ones(2, 3, 5, device="meta"))
    assert out.px.device.type == "meta" and out.px.shape == (2, 3, 256)
