"""Sweeps: search, Tune, the record, MLflow, clusters, the command line, presets."""
