"""Conditional means, and incomplete rows for them."""

import numpy as np
import torch

from skvae._distributions.joint import Joint
from skvae._distributions.registry import make_head
from skvae._imputation.conditional_mean import ConditionalMean, Rows
from skvae._imputation.settings import SETTINGS, MeanSettings

HEADS = [("normal", 3, 0), ("bernoulli", 1, 0), ("categorical", 1, 3)]

NUMBERS = HEADS[:1]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_mean(
    heads=HEADS,
    hidden_layer_sizes=(8,),
    n_members=3,
    widest_normal=128,
    settings=SETTINGS,
):
    joint = Joint([make_head(*head) for head in heads])
    return ConditionalMean(
        joint,
        hidden_layer_sizes,
        n_members,
        "silu",
        generator(),
        widest_normal,
        settings,
    )


def make_rows(heads=HEADS, n_rows=200, rate=0.2, seed=0):
    """Correlated rows; missing cells hold 0."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(n_rows, 1))
    numbers = 0.9 * level + 0.45 * rng.normal(size=(n_rows, 3))
    columns = [numbers]
    if len(heads) > 1:
        columns += [level > 0, np.digitize(level, [-0.5, 0.5])]
    x = torch.tensor(np.hstack(columns), dtype=torch.float32)
    observed = torch.tensor(rng.random(x.shape) > rate)
    x = x * observed
    return Rows(x, x.clone(), observed, torch.ones(n_rows))


def mean_settings(n_steps=60, max_masking_rate=0.9):
    return MeanSettings(
        (8,), 3, max_masking_rate, 0.1, 64, n_steps, 1.0, 128, cross_fit=True
    )
