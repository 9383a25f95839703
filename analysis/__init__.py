"""Analysis: reads MLflow only; tidy curves, statistics over seeds, figures."""
