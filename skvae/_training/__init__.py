"""A bound on log p(x), its gradient, and its maximisation."""
