"""The estimators: parameters, documentation and tables around one model each."""
