"""The model of labels."""
