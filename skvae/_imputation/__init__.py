"""The model of missing cells."""
