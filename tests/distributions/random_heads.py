"""Heads with random parameters, and cells that fit them."""

import numpy as np
import torch

from skvae._distributions.location_scale import LOG_SCALE_RANGE
from skvae._distributions.registry import LIKELIHOODS, make_head

N_COLUMNS = 3

N_CATEGORIES = 4

NUMBERS, CODES, COUNTS = (
    [name for name, spec in LIKELIHOODS.items() if spec.domain == domain]
    for domain in ("real", "codes", "counts")
)

HEADS = [*NUMBERS, "bernoulli", *CODES, *COUNTS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def fresh_head(name):
    return make_head(name, N_COLUMNS, N_CATEGORIES).double()


def random_head(name, seed=0):
    """A float64 head whose own parameters are away from their initial values."""
    head = fresh_head(name)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.5 * random(*p.shape, seed=seed))
    return head


def random_cells(name, n_rows, seed=1):
    """Valid values of N_COLUMNS columns."""
    draws = torch.rand(n_rows, N_COLUMNS, generator=generator(seed)).double()
    if name == "bernoulli":
        return (draws < 0.4).double()
    if name in CODES:
        return (draws * N_CATEGORIES).floor()
    if name in COUNTS:
        return (draws * 12).floor()
    return 4 * draws - 2


def parts(name, head, outputs):
    """Location, scale and degrees of freedom of a location-scale head, as NumPy."""
    loc = outputs[..., :N_COLUMNS].numpy()
    raw = head.raw_log_scale.detach().numpy()
    if name.endswith("heteroscedastic"):
        shift = outputs[..., N_COLUMNS:].numpy()
        raw = raw + LOG_SCALE_RANGE * np.tanh(shift / LOG_SCALE_RANGE)
    freedom = None
    if name.startswith("student_t"):
        freedom = head.degrees_of_freedom().detach().numpy()
    return loc, head.floor.numpy() + np.exp(raw), freedom


def simulated_table(name, n_rows=2000):
    """Columns whose marginal distribution belongs to the head's family."""
    rng = np.random.default_rng(0)
    shape = (n_rows, N_COLUMNS)
    if name == "bernoulli":
        x = rng.random(shape) < [0.1, 0.5, 0.8]
    elif name in CODES:
        frequency = [[0.1, 0.4, 0.2, 0.3], [0.25] * 4, [0.6, 0.1, 0.1, 0.2]]
        x = np.stack([rng.choice(N_CATEGORIES, n_rows, p=p) for p in frequency], 1)
    elif name == "poisson":
        x = rng.poisson([0.5, 3.0, 20.0], shape)
    elif name == "negative_binomial":
        x = rng.poisson(rng.gamma([0.5, 2.0, 8.0], [1.0, 2.0, 3.0], shape))
    else:
        x = rng.normal([-1, 0, 5], 2.0 if "isotropic" in name else [0.3, 1, 4], shape)
    return torch.from_numpy(x.astype(np.float64))
