"""What the networks see of the features, and what of their weights decays."""

import torch

from skvae._conditional.features import FeatureEmbedding
from skvae._conditional.settings import SETTINGS
from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._networks.vae import VAE
from skvae._training.optimizer import decay_of_weights


def make_context(masked=True):
    heads = [("normal", 2, 0), ("categorical", 1, 3), ("bernoulli", 1, 0)]
    return FeatureEmbedding(Joint([make_head(*head) for head in heads]), masked)


def rows(n_rows=200):
    generator = torch.Generator().manual_seed(0)
    numbers = 3 * torch.randn(n_rows, 2, generator=generator) + 1
    codes = torch.randint(3, (n_rows, 1), generator=generator).float()
    flags = (torch.rand(n_rows, 1, generator=generator) < 0.02).float()
    return torch.cat([numbers, codes, flags], 1)


def test_inputs_are_standardised():
    context, x = make_context(masked=False), rows()
    context.fit(x, None)
    c = context(x, None)
    assert c.shape == (200, context.n_outputs) == (200, 6)
    torch.testing.assert_close(c.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    deviation = c.std(0, correction=0)
    torch.testing.assert_close(deviation[:5], torch.ones(5))
    # a rare flag stays quieter than a number
    expected = x[:, 3].std(correction=0) / SETTINGS.min_deviation
    torch.testing.assert_close(deviation[5], expected)


def test_missing_cells_are_zero_and_flagged():
    context, x = make_context(), rows()
    observed = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    x = x * observed
    context.fit(x, observed)
    c = context(x, observed)
    assert c.shape == (200, 10)
    of_column = [0, 1, 2, 2, 2, 3]
    assert not c[:, :6][~observed[:, of_column]].any()
    torch.testing.assert_close(c[:, 6:], (~observed).float())
    seen = observed[:, 0]
    torch.testing.assert_close(context.mean[0], x[seen, 0].mean())
    # a complete table has no flags, but keeps the width
    assert not context(x, None)[:, 6:].any()


def test_images_keep_their_scale():
    context = FeatureEmbedding(Joint([make_head("normal", 4, 0)]), False)
    x = rows()
    context.fit(x, None, scale=False)
    torch.testing.assert_close(context(x, None), x)


def test_what_bends_the_linear_model_decays():
    joint = Joint([make_head("normal", 3, 0), make_head("ordinal", 1, 4)])
    generator = torch.Generator().manual_seed(0)
    vae = VAE(joint, 2, (5,), "relu", generator, n_context=4, linear_path=True)
    decay = decay_of_weights(vae, 0.5)
    start = 0
    parts = {}
    for name, parameter in vae.named_parameters():
        parts[name] = decay[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    assert start == len(decay)
    assert (parts["decoder.hidden.0.weight"] == 0.5).all()
    assert (parts["decoder.output.weight"][:, :5] == 0.5).all()
    assert not parts["decoder.output.weight"][:, 5:].any()
    assert (parts["prior_net.output.weight"] == 0.5).all()
    kept = [name for name in parts if name.startswith("joint") or "bias" in name]
    assert len(kept) > 6 and not any(parts[name].any() for name in kept)
    linear = VAE(joint, 2, (), "relu", generator, n_context=4)
    assert not decay_of_weights(linear, 0.5).any()
