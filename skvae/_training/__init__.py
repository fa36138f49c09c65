"""Bounds on log p(x), their gradients, and their maximisation."""
