"""Likelihoods p(x | z) and latent families q(z | x), p(z)."""
