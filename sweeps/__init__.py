"""Sweeps: command line, search spaces, Tune with Optuna, MLflow tracking, presets."""
