"""A conjugate model whose posterior is known."""

import torch
from torch import distributions as D


def gamma_poisson(z, counts=(2.0, 4.0, 3.0, 1.0, 5.0)):
    """Gamma(1, 1) prior of the rate of five counts; the posterior is Gamma(16, 6)."""
    counts = torch.tensor(counts, dtype=torch.float64)
    likelihood = D.Poisson(z).log_prob(counts).sum(-1)
    return likelihood - z.sum(-1)
