"""The model of outputs given features."""
