"""Small models of rows with labels."""

import torch
import torch.nn.functional as F

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._semi_supervised.labelled_vae import LabelledVAE

N_CLASSES, N_COLUMNS, N_LATENT = 3, 4, 2

KINDS = ["m1", "m2", "shot"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def build(kind, hidden_layer_sizes=(8,), **options):
    joint = Joint([make_head("normal", N_COLUMNS, 0)])
    vae = LabelledVAE(
        joint,
        N_LATENT,
        hidden_layer_sizes,
        "tanh",
        generator(),
        n_classes=N_CLASSES,
        kind=kind,
        **options,
    )
    with torch.no_grad():
        vae.classifier.output.weight.mul_(20)
        vae.log_prior.copy_(torch.tensor([0.2, 0.3, 0.5]).log())
    return vae


def one_hot(codes):
    """One-hot labels, -1 unknown."""
    codes = torch.as_tensor(codes)
    return F.one_hot(codes.clamp(min=0), N_CLASSES).float() * (codes >= 0).unsqueeze(1)
